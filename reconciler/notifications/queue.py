"""
What waits to be sent to one target: newest states only, so many in so long a time.  Pure.

The first of its kind goes at once; what other servers have to say of the same a little later goes
as one.  Each request costs a token; what matters most has tokens of its own, too.  Once none
is left, messages gather until the next one is there and then go as one.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from msgspec import Struct

from reconciler.model.values import replace
from reconciler.model.wording import RUNBOOKS
from reconciler.notifications.deduplicate import EVENTS, Message, rank
from reconciler.notifications.events import AlertSeverity

MOST: Final = 200  # messages that wait for one target; a fleet in trouble is one digest
NAMED: Final = 10  # messages that are quoted of those that are alike; the others are listed
LISTED: Final = 30
LINE: Final = 160  # characters that are quoted of each of several
DROPPED: Final = "notifications-dropped"


class RateLimit(Struct, frozen=True):
    """
    Most messages to one target in `period` seconds, and critical ones besides.

    Alike news of other servers gather for `together` seconds after the first.
    """

    usual: int = 20
    urgent: int = 60
    period: float = 600.0
    together: float = 30.0


@dataclass(slots=True)
class _Tokens:
    most: int
    period: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        passed = max(
            0.0, now - self.at
        )  # a clock that was set back gives nothing and takes nothing
        self.left = min(float(self.most), self.left + passed * self.most / self.period)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def next(self) -> float:
        # A little later than exact: just short of one whole token would be none.
        return self.at + max(0.0, 1 - self.left) * self.period / self.most + 0.001


class Delivery(Struct, frozen=True):
    """
    What goes in one request: one message, or several as a digest.

    `lost` counts earlier messages that could not be delivered or kept.  The pages that say what to
    do lie below `runbooks`.
    """

    messages: tuple[Message, ...]
    lost: int = 0
    runbooks: str = RUNBOOKS

    @property
    def id(self) -> str:
        """Return what is the same at every try, and after a restart."""
        if len(self.messages) == 1:
            return self.messages[0].id
        together = "".join(message.id for message in self.messages)
        return hashlib.sha256(together.encode()).hexdigest()[:32]

    @property
    def severity(self) -> AlertSeverity:
        return max((message.severity for message in self.messages), key=rank)

    @property
    def at(self) -> float:
        return max(message.at for message in self.messages)

    @property
    def owner(self) -> str:
        """Return the owner of all of it; empty when there are several."""
        owners = {message.owner for message in self.messages}
        return owners.pop() if len(owners) == 1 else ""

    @property
    def text(self) -> str:
        """Return what a person reads: what, where, since when, its meaning, what to do, a link."""
        worst_first = sorted(self.messages, key=lambda one: (-rank(one.severity), one.alike))
        groups = [list(group) for _, group in groupby(worst_first, key=lambda one: one.alike)]
        blocks = []
        if len(groups) > 1:
            blocks.append(f"{len(self.messages)} messages")
        for group in groups:
            severity = f"{group[0].severity}: " if len(groups) > 1 else ""
            blocks.append(severity + "\n".join(self._lines(group)))
        if self.lost:
            noun = "notification" if self.lost == 1 else "notifications"
            blocks.append(
                f"{self.lost} earlier {noun} could not be delivered: see `jtr status`, and "
                f"{self._link(DROPPED)}"
            )
        return "\n\n".join(blocks)

    def _lines(self, alike: list[Message]) -> Iterator[str]:
        """Yield what is to be said of one message, or of several that are alike, before details."""
        first = alike[0]
        many = len(alike) > 1
        title = first.guide.title or str(first.topic)
        servers = {message.subject for message in alike}
        if len(servers) > 1:
            yield f"{len(servers)} servers: {title}"
        else:
            yield f"{first.subject}: {title}, {len(alike)} times" if many else first.text
        began = min(message.since for message in alike)
        yield f"Since: {spoken(began)}" if first.topic not in EVENTS else f"At: {spoken(began)}"
        if first.guide.meaning:
            yield f"For trading: {first.guide.meaning}"
        if first.guide.remedy:
            yield f"To do: {first.guide.remedy if many else first.remedy}"
        if link := self.link(first):
            yield f"See: {link}"
        if many:
            yield from (f"- {shortened(message.text)}" for message in alike[:NAMED])
        if rest := alike[NAMED:]:
            names = [message.subject or "controller" for message in rest]
            more = ", ..." if len(names) > LISTED else ""
            yield f"- and {len(rest)} more: {', '.join(names[:LISTED])}{more}"

    def link(self, message: Message) -> str:
        """Return where the runbook of a message lies; empty when it has none."""
        return self._link(message.guide.runbook) if message.guide.runbook else ""

    def _link(self, name: str) -> str:
        return f"{self.runbooks.rstrip('/')}/{name}.md"


def spoken(moment: float) -> str:
    """Return a moment as people read it at night, wherever they are."""
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


def shortened(text: str) -> str:
    return text if len(text) <= LINE else f"{text[: LINE - 1]}…"


class SendQueue:
    """The messages for one target, oldest first; `flying` is what is being sent now."""

    def __init__(
        self,
        rate_limit: RateLimit,
        now: float,
        waiting: Iterable[Message] = (),
        *,
        runbooks: str = RUNBOOKS,
    ) -> None:
        self._runbooks: Final = runbooks
        self._together: Final = rate_limit.together
        # When news of a kind went last, and of which servers.
        self._begun: dict[tuple[str, ...], tuple[float, set[str]]] = {}
        self._usual = _Tokens(rate_limit.usual, rate_limit.period, rate_limit.usual, now)
        self._urgent = _Tokens(rate_limit.urgent, rate_limit.period, rate_limit.urgent, now)
        self._waiting: dict[tuple[str, ...], Message] = {}
        self._gathering = False
        self._lost = 0
        self.flying: Delivery | None = None
        for message in waiting:
            self.add(message)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Message) -> Message | None:
        """
        Put a message at the end; return one that there was no place for.

        It replaces an older one about the same, and both are gone where nothing changed between
        what people know and what is so now.
        """
        older = self._waiting.pop(message.key, None)
        if older is not None:
            message = replace(message, before=older.before)
            if message.before == message.state and not message.reminder:
                return None
        self._waiting[message.key] = message
        if len(self._waiting) <= MOST:
            return None
        usual = (
            key for key, one in self._waiting.items() if one.weight is not AlertSeverity.CRITICAL
        )
        self._lost += 1
        return self._waiting.pop(next(usual, next(iter(self._waiting))))

    def take(self, now: float, *, last: bool = False) -> Delivery | None:
        """
        Return what to send now, which is `flying` until `done` or `fail`; None when nothing may be.

        With *last* everything goes at once: there will be no other time.
        """
        picked = self._picked(now, last=last)
        if not picked:
            return None
        for message in picked:
            del self._waiting[message.key]
        self.flying = Delivery(tuple(picked), self._lost, self._runbooks)
        for message in picked:
            at, subjects = self._begun.get(message.alike, (now, set()))
            known = subjects if at == now else set()
            self._begun[message.alike] = now, {*known, message.subject}
        return self.flying

    def _picked(self, now: float, *, last: bool) -> list[Message]:
        if last:
            return list(self._waiting.values())
        ripe = [message for message in self._waiting.values() if now >= self._ripe(message, now)]
        urgent = [message for message in ripe if message.severity is AlertSeverity.CRITICAL]
        if not ripe:
            return []
        if urgent and self._urgent.take(now):
            return self._alike(urgent[0])
        if not self._usual.take(now):
            self._gathering = True
            return []
        if self._gathering:
            self._gathering = False
            return list(self._waiting.values())
        return self._alike((urgent or ripe)[0])

    def _alike(self, first: Message) -> list[Message]:
        return [message for message in self._waiting.values() if message.alike == first.alike]

    def _ripe(self, message: Message, now: float) -> float:
        """Return when a message may go: where others told the same just now, more may follow."""
        begun, subjects = self._begun.get(message.alike, (math.inf, set()))
        # A clock that was set back makes nothing wait longer.
        return now if begun > now or message.subject in subjects else begun + self._together

    def next(self, now: float) -> float | None:
        """Return when something that waits may go and has a token; None when nothing waits."""
        moments = [
            max(
                self._ripe(message, now),
                min(self._usual.next(), self._urgent.next())
                if message.severity is AlertSeverity.CRITICAL
                else self._usual.next(),
            )
            for message in self._waiting.values()
        ]
        return min(moments, default=None)

    def done(self) -> None:
        if self.flying is not None:
            self._lost -= self.flying.lost
        self.flying = None

    def fail(self) -> None:
        if self.flying is not None:
            self._lost += len(self.flying.messages)
        self.flying = None

    def rows(self) -> list[dict[str, Any]]:
        flying = () if self.flying is None else self.flying.messages
        return [message.document() for message in (*flying, *self._waiting.values())]


def read_messages(rows: Any) -> list[Message]:
    """Return the messages of `SendQueue.rows`, without what cannot be read."""
    found = []
    for row in rows[-MOST:] if isinstance(rows, list) else ():
        try:
            found.append(Message.parse(row))
        except (KeyError, TypeError, ValueError):
            continue
    return found
