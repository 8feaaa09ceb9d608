"""What a server shows.  `Mask` holds six characters of a secret and refuses to be shown."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from reconciler.model.secret import Shy


class Mask(Shy):
    """
    What a server shows of a stored value: its first and last three UTF-16 units.

    Six characters of a secret are a secret, so a mask compares and hashes but never shows itself.
    Lone surrogates occur (docs/protocol.md, 3.2), hence `surrogatepass`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return super().__repr__() if self._text else "Mask(empty)"

    def encoded(self) -> bytes:
        """Return the bytes to compute a keyed fingerprint from; nothing else may call this."""
        return self._text.encode("utf-8", "surrogatepass")


class ObservedField(Struct, frozen=True):
    """One field of an exchange; `credential` is ccxt's name for it."""

    name: str
    credential: str
    type: str
    mask: Mask


class ObservedExchange(Struct, frozen=True):
    """One exchange as the server lists it; `trouble` says why it cannot be written safely."""

    code: str
    fields: tuple[ObservedField, ...]
    trouble: str = ""

    @property
    def empty(self) -> bool:
        return not any(f.mask for f in self.fields)


class Robot(Struct, frozen=True, order=True):
    """A background job of the server; `running` is its `isEnabled`."""

    id: int
    name: str
    exchange: str
    running: bool


class BootLine(Struct, frozen=True, order=True):
    """One start of the server's process, as its system log has it: its clock (ms) and its pid."""

    time: int
    pid: int


class Logbook(Struct, frozen=True):
    """
    What the system log tells, on the server's own clock (milliseconds since the epoch).

    `boot` is the newest boot line, `alarm` the newest entry of the fatal path's handler; None means
    that the log holds none.  `readable` is False when the log could not be read at all.  `boots`
    are all boot lines in the order of the file, and `newest` the newest entry of any kind.
    `strangers` says that a process other than that of the last boot line wrote after it, so the
    lines cannot tell which one runs.  `outgoing` are the addresses that the server leaves from, as
    its newest status entry has them; empty when it could not find out.
    """

    readable: bool = False
    boot: int | None = None
    alarm: int | None = None
    boots: tuple[BootLine, ...] = ()
    newest: int | None = None
    strangers: bool = False
    outgoing: tuple[str, ...] = ()


class ClockReading(Struct, frozen=True):
    """
    How far a server's clock is ahead of ours, in seconds, and how far off that may be.

    From the `Date` of its web page (docs/protocol.md, 5), which has whole seconds.
    """

    ahead: float
    uncertainty: float


class LogEntry(Struct, frozen=True):
    """
    One entry of the system log, for people: server's clock in ms, level, class, message, the rest.

    Text of a server: escape it before it reaches a terminal.
    """

    time: int | None
    level: str
    origin: str
    message: str
    rest: Mapping[str, object]


class ObservedServer(Struct, frozen=True):
    account: str
    version: str
    exchanges: tuple[ObservedExchange, ...]
    robots: tuple[Robot, ...]
    log: Logbook

    def exchange(self, code: str) -> ObservedExchange | None:
        return next((e for e in self.exchanges if e.code == code), None)

    def running(self, exchange: str | None = None) -> tuple[Robot, ...]:
        return tuple(r for r in self.robots if r.running and exchange in (None, r.exchange))
