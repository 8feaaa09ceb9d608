"""
What waits to be sent to one target: newest states only, so many in so long a time.  Pure.

Each message costs a token; what matters most has tokens of its own, too.  Once none is left,
messages gather until the next one is there and then go as one.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from reconciler.notifications.deduplicate import Message, rank
from reconciler.notifications.events import AlertSeverity

MOST: Final = 200  # messages that wait for one target; a fleet in trouble is one digest
NAMED: Final = 10  # messages that a digest quotes; the others are listed
LISTED: Final = 30


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Most messages to one target in `period` seconds, and critical ones besides."""

    usual: int = 20
    urgent: int = 60
    period: float = 600.0


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


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    What goes in one request: one message, or several as a digest.

    `lost` counts earlier messages that could not be delivered or kept.
    """

    messages: tuple[Message, ...]
    lost: int = 0

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
        lines = [message.text for message in self.messages[:NAMED]]
        if rest := self.messages[NAMED:]:
            names = [f"{message.subject or 'controller'} ({message.topic})" for message in rest]
            more = ", ..." if len(names) > LISTED else ""
            lines.append(f"and {len(rest)} more: {', '.join(names[:LISTED])}{more}")
        if self.lost:
            noun = "notification" if self.lost == 1 else "notifications"
            lines.append(f"{self.lost} earlier {noun} could not be delivered: see `jtr status`")
        return "\n".join(lines)


class SendQueue:
    """The messages for one target, oldest first; `flying` is what is being sent now."""

    def __init__(self, rate_limit: RateLimit, now: float, waiting: Iterable[Message] = ()) -> None:
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
        self.flying = Delivery(tuple(picked), self._lost)
        return self.flying

    def _picked(self, now: float, *, last: bool) -> list[Message]:
        waiting = list(self._waiting.values())
        urgent = [message for message in waiting if message.severity is AlertSeverity.CRITICAL]
        if not waiting:
            return []
        if last:
            return waiting
        if urgent and self._urgent.take(now):
            return urgent[:1]
        if not self._usual.take(now):
            self._gathering = True
            return []
        if self._gathering:
            self._gathering = False
            return waiting
        return urgent[:1] or waiting[:1]

    def next(self) -> float | None:
        """Return when there will be a token for what waits; None when nothing does."""
        if not self._waiting:
            return None
        urgent = any(one.severity is AlertSeverity.CRITICAL for one in self._waiting.values())
        return min(self._usual.next(), self._urgent.next() if urgent else self._usual.next())

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
