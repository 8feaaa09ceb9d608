"""
What people are told, and when: from present states to messages.  Pure.

Times are seconds since the epoch, because what was told must be known after a restart.  A clock
that was set back makes nothing wait longer than it would have from then on.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct, to_builtins

from reconciler.model.values import replace
from reconciler.notifications.events import (
    NO_GUIDE,
    UNKNOWN,
    AlertSeverity,
    Guide,
    News,
    Topic,
)

STABLE: Final = 60.0  # seconds that a state which may pass by itself lasts before it is told
REPEAT: Final = 3600.0  # seconds in which the same failed attempt is not told again
MOST: Final = 20_000  # states that were told and are remembered
EVENTS: Final = frozenset({Topic.APPLIED, Topic.HARM})
"""Their state is the moment when it happened: told once, never resolved."""
_FICKLE: Final = frozenset({Topic.HEALTH, Topic.SECRETS, Topic.CONTROLLER})
"""Critical or not, it may be a blip."""
_PROMISED: Final = frozenset({Topic.REBOOT_OWED})  # told at once although it is a warning
_RANKS: Final = {severity: rank for rank, severity in enumerate(AlertSeverity)}
_GONE: Final = Guide(
    "no document names it any more",
    "its robots run on, and nobody looks after them",
    "nothing, if it was taken out of the documents on purpose; else bring its document back",
    "documents-broken",
)
Key = tuple[Topic, str]


def rank(severity: AlertSeverity) -> int:
    """Return a number that is greater for what matters more."""
    return _RANKS[severity]


class LastSent(Struct, frozen=True):
    """
    What people heard last of one topic and subject, and since when that is so.

    `said` recognises the text, `runbook` is the page that it led to.
    """

    state: str
    severity: AlertSeverity
    at: float
    said: str = ""
    since: float = 0.0
    runbook: str = ""


class Message(Struct, frozen=True):
    """
    One thing to tell.

    `before` is the state that people know; a `reminder` repeats it.  Filters go by `weight`: that
    something is well again matters as much as what was wrong.  `at` is when it was decided, `since`
    when it began to be so.
    """

    id: str
    topic: Topic
    subject: str
    before: str
    state: str
    severity: AlertSeverity
    weight: AlertSeverity
    text: str
    owner: str
    at: float
    reminder: bool = False
    since: float = 0.0
    guide: Guide = NO_GUIDE

    @property
    def alike(self) -> tuple[str, ...]:
        """What news of several servers have in common that are told as one."""
        return (self.topic, self.severity, self.guide.title)

    @property
    def remedy(self) -> str:
        return self.guide.remedy.replace("SERVER", self.subject or "SERVER")

    @property
    def key(self) -> tuple[str, ...]:
        """What a newer message about the same replaces; nothing replaces what happened."""
        return (self.topic, self.subject, *((self.id,) if self.topic in EVENTS else ()))

    def document(self) -> dict[str, Any]:
        return dict(to_builtins(self))

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> "Message":
        """Read what `document` returned.  Raises KeyError, TypeError, ValueError."""
        texts = {name: str(row[name]) for name in ("id", "subject", "before", "state", "text")}
        guide = row.get("guide")  # earlier versions wrote none
        return cls(
            **texts,
            topic=Topic(row["topic"]),
            severity=AlertSeverity(row["severity"]),
            weight=AlertSeverity(row["weight"]),
            owner=str(row["owner"]),
            at=seconds(row["at"]),
            reminder=row["reminder"] is True,
            since=seconds(row.get("since", row["at"])),
            guide=Guide(*(str(guide.get(name, "")) for name in Guide.__struct_fields__))
            if isinstance(guide, dict)
            else NO_GUIDE,
        )


class _Present(Struct, frozen=True):
    """What is so now: `since` when in this state, `left` since when other than what was told."""

    news: News
    since: float
    left: float


class Deduplicator:
    """
    Decides what is worth telling.

    `hear` takes present states, `due` gives the messages whose time has come, `wake` says when to
    ask again.  What nobody speaks of stays as it was.
    """

    def __init__(
        self, label: str, told: Mapping[Key, LastSent] | None = None, *, stable: float = STABLE
    ) -> None:
        self._label = label
        self._stable = stable
        self._told: dict[Key, LastSent] = dict(told or {})
        self._present: dict[Key, _Present] = {}
        self._ready: list[Message] = []

    @property
    def told(self) -> Mapping[Key, LastSent]:
        return self._told

    def hear(self, news: News, now: float) -> None:
        key = (news.topic, news.subject)
        told = self._told.get(key)
        known = "" if told is None else told.state
        if news.state == UNKNOWN:
            if told is None:
                self._present.pop(key, None)
            return
        if news.topic in EVENTS:
            if news.state and news.state != known and not _again(told, news, now):
                self._tell(news, now)
            return
        if not news.state and not known:
            self._present.pop(key, None)
            return
        old = self._present.get(key)
        in_state = old is not None and old.news.state == news.state
        away = old is not None and old.news.state != known
        began = told.since if old is None and told is not None and news.state == known else now
        self._present[key] = _Present(
            news,
            since=old.since if old is not None and in_state else began,
            left=old.left if old is not None and away else now,
        )

    def keep(self, subjects: Collection[str], now: float) -> None:
        """Forget servers other than *subjects*; what was wrong there is not left open."""
        for key in [key for key in self._present if key[1] and key[1] not in subjects]:
            del self._present[key]
        for key in [key for key in self._told if key[1] and key[1] not in subjects]:
            topic, subject = key
            if topic in EVENTS:
                del self._told[key]
                continue
            text = f"{subject}: no document names it any more; nothing more is told of it ({topic})"
            self._tell(News(topic, subject, "", AlertSeverity.INFO, text, guide=_GONE), now)

    def due(self, now: float) -> list[Message]:
        for key in list(self._present):
            self._set_back(key, now)
            present = self._present[key]
            moment = self._moment(key, present)
            if moment is None or now < moment:
                continue
            told = self._told.get(key)
            again = told is not None and told.state == present.news.state
            self._tell(present.news, now, reminder=again, since=present.since)
        found, self._ready = self._ready, []
        return found

    def wake(self) -> float | None:
        """Return when something will be due; None while nothing can be."""
        moments = (self._moment(key, present) for key, present in self._present.items())
        return min((moment for moment in moments if moment is not None), default=None)

    def _set_back(self, key: Key, now: float) -> None:
        """Let nothing have begun later than now, in case that the clock was set back."""
        present = self._present[key]
        if present.since > now or present.left > now:
            begun, left = min(present.since, now), min(present.left, now)
            self._present[key] = replace(present, since=begun, left=left)
        if (told := self._told.get(key)) is not None and told.at > now:
            self._told[key] = replace(told, at=now)

    def _moment(self, key: Key, present: _Present) -> float | None:
        news, told = present.news, self._told.get(key)
        if told is not None and told.state == news.state:
            return told.at + news.remind if news.remind else None
        if not news.state:
            return present.since + self._stable
        at_once = news.severity is AlertSeverity.CRITICAL and news.topic not in _FICKLE
        return present.left + (0 if at_once or news.topic in _PROMISED else self._stable)

    def _tell(
        self, news: News, now: float, *, reminder: bool = False, since: float | None = None
    ) -> None:
        key = (news.topic, news.subject)
        told = self._told.pop(key, None)
        event = news.topic in EVENTS
        began = now if since is None else since
        guide = news.guide
        if told is not None and told.runbook and not news.state and guide is not _GONE:
            guide = replace(guide, runbook=told.runbook)  # where one reads how to tell
        before = "" if told is None or event else told.state
        severity = news.severity if news.state else AlertSeverity.INFO
        weight = severity
        if told is not None and not event:
            weight = max(severity, told.severity, key=rank)
        self._ready.append(
            Message(
                _id(self._label, news, now, reminder=reminder),
                *(news.topic, news.subject, before, news.state, severity, weight),
                text=f"still: {news.text}" if reminder else news.text,
                owner=news.owner,
                at=now,
                reminder=reminder,
                since=began,
                guide=guide,
            )
        )
        if news.state:
            said = _said(news.text)
            self._told[key] = LastSent(
                news.state, news.severity, now, said, began, news.guide.runbook
            )
            while len(self._told) > MOST:  # the oldest stands first
                del self._told[next(iter(self._told))]
        else:
            self._present.pop(key, None)


def _again(told: LastSent | None, news: News, now: float) -> bool:
    """Whether this is the same failed attempt once more; harm is told every time."""
    return (
        told is not None
        and news.severity is AlertSeverity.WARNING
        and told.said == _said(news.text)
        and 0 <= now - told.at < REPEAT
    )


def _said(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _id(label: str, news: News, now: float, *, reminder: bool) -> str:
    parts = [label, news.topic, news.subject, news.state, repr(now), reminder]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def seconds(value: Any) -> float:
    """Read a moment.  Raises ValueError or TypeError: not-a-number would be due at all times."""
    try:
        moment = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        raise ValueError from None
    if not 0 <= moment < math.inf:
        raise ValueError
    return moment


# ── what survives a restart ──────────────────────────────────────────────────────────────────


def told_rows(told: Mapping[Key, LastSent]) -> list[list[Any]]:
    return [
        [topic, subject, one.state, one.severity, one.at, one.said, one.since, one.runbook]
        for (topic, subject), one in told.items()
    ]


def read_told(rows: Any, now: float) -> dict[Key, LastSent]:
    """Return what `told_rows` wrote, without what cannot be read; nothing was told after *now*."""
    return dict(_told(rows, now)) if isinstance(rows, list) else {}


def _told(rows: list[Any], now: float) -> Iterator[tuple[Key, LastSent]]:
    for row in rows[-MOST:]:
        try:
            topic, subject, state, severity, at, said, *more = row
            since, runbook = more or (at, "")  # earlier versions wrote neither
            moment, began = min(seconds(at), now), min(seconds(since), now)
            sent = LastSent(
                str(state), AlertSeverity(severity), moment, str(said), began, str(runbook)
            )
            yield (Topic(topic), str(subject)), sent
        except (ValueError, TypeError):
            continue
