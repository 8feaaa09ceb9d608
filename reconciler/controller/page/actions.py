"""
What an operator may ask for on the page: to look now, to pause, to go on; and what is prepared.

Nothing here sends anything to a server.  A reboot or an invalidation is a change of a document,
which goes the way of every other change; where that is set up, by a pull request from here.
"""

import asyncio
import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct, field

from reconciler.controller.page.access import Visitor
from reconciler.controller.page.sources import Source
from reconciler.controller.pauses import Noted, PauseChange
from reconciler.controller.pull_requests import Ask, Opened, check_target, named
from reconciler.controller.status import ServerStatus
from reconciler.documents import edit
from reconciler.documents.edit_position import RequestBlock
from reconciler.documents.formats import looks_secret
from reconciler.errors import UsageError
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.recorded import Pause
from reconciler.model.target import Target, normalised
from reconciler.model.timestamps import spelled, stamp
from reconciler.plan.requests import how_to_ask
from reconciler.render.escape import plain

LONGEST: Final = 300  # characters of a reason; the limit of the schema as well
ENDS: Final = {"30m": 0.5, "2h": 2.0, "8h": 8.0, "24h": 24.0, "72h": 72.0}
"""For how many hours a server may be paused: there is always an end."""
HOLDS: Final = timedelta(hours=1)  # for so long what was prepared can be sent for review


class Field(Struct, frozen=True):
    name: str
    label: str
    value: str = ""
    most: int = LONGEST
    options: tuple[tuple[str, str], ...] = ()
    hidden: bool = False


class Form(Struct, frozen=True):
    """What is asked before anything is done: *words* say what will happen."""

    heading: str
    button: str
    words: tuple[str, ...]
    fields: tuple[Field, ...] = ()


class Prepared(Struct, frozen=True):
    """
    The change of a document that asks for something, and what to type for it.

    `diff` is empty where the documents are not to be had here.  `send` is what has to be given back
    for a pull request of it: the instant of the request, and which change was shown; empty where
    none can be opened.
    """

    diff: str
    lines: tuple[str, ...]
    send: Mapping[str, str] = field(default_factory=dict)


_REASON: Final = Field("reason", "Why (one line; everybody reads it)")
_WHO: Final = Field("who", "Your name", most=100)
_END: Final = Field("end", "For", "2h", options=tuple((key, key) for key in ENDS))
_TARGET: Final = Field("target", "Address", hidden=True)
"""Which server the form was shown for: names move."""
_ROBOTS: Final = Field(
    "robots",
    "Robots that run",
    "resume",
    options=(("resume", "start them again afterwards"), ("leave", "leave them stopped")),
)
FORMS: Final[Mapping[str, Form]] = {
    "look": Form(
        "Look now",
        "Look now",
        ("The next pass over this server begins at once. It does what every pass does.",),
    ),
    "pause": Form(
        "Pause",
        "Pause",
        (
            "Until the end nothing is changed on this server: no key, no robot, no request.",
            "It is still looked at. What is being sent at this moment is not called back.",
            "It is written to the ledger with your name, and holds over a restart.",
        ),
        (_WHO, _REASON, _END, _TARGET),
    ),
    "resume": Form(
        "Go on",
        "Go on",
        (
            "The pause ends now, and the next pass does what waited.",
            "A suspension that the document itself holds stays.",
        ),
        (_WHO, _TARGET),
    ),
    "reboot": Form(
        "Prepare a reboot",
        "Show the change",
        (
            "Nothing is sent: you get the change of the document to commit, or what makes it.",
            "Once it is merged, the JT-Trader process restarts: all robots of all accounts stop.",
        ),
        (_REASON, _ROBOTS, _TARGET),
    ),
    "invalidate-cache": Form(
        "Prepare an invalidation of the cache",
        "Show the change",
        (
            "Nothing is sent: you get the change of the document to commit, or what makes it.",
            "Robots store data in the cache; what stopped robots saved there is lost.",
        ),
        (_REASON, _TARGET),
    ),
}
PREPARED: Final = ("reboot", "invalidate-cache")
SENT: Final = ("at", "shown", "who")
"""What the button under a prepared change gives back, besides the fields of its form."""


def offered(*, paused: bool) -> tuple[tuple[str, str], ...]:
    """Return which actions the page of a server offers, and their words."""
    names = ("look", "resume" if paused else "pause", *PREPARED)
    return tuple((name, FORMS[name].heading) for name in names)


async def perform(
    source: Source, what: str, status: ServerStatus, given: Mapping[str, str], visitor: Visitor
) -> str:
    """Do what was confirmed, and say so.  Raises JtrError."""
    running = source.running
    if running is None:
        raise UsageError("no controller runs here", "actions are the controller's")
    if what == "look":
        running.look(status.server)
        return "The next pass begins now."
    now = datetime.now(UTC)
    target = _meant(status, given)
    by = _actor(visitor, given.get("who", ""))
    if what == "resume":
        noted = await running.pause(PauseChange(target, status.server, by, None))
        return _said("The pause is over." if noted.changed else "No pause of it holds.", noted)
    end = ENDS.get(given.get("end", ""))
    if end is None:
        raise UsageError("a pause needs an end", "choose one")
    until = (now + timedelta(hours=end)).replace(microsecond=0)
    reason = worded(given.get("reason", ""))
    pause = Pause(target, reason, by, stamp(now), until, name=status.server)
    noted = await running.pause(PauseChange(target, status.server, by, pause))
    return _said(f"Paused until {spelled(until)}.", noted)


def target_of(status: ServerStatus) -> Target:
    return Target(normalised(status.url), status.account)


def _meant(status: ServerStatus, given: Mapping[str, str]) -> Target:
    """Return the server that a form was shown for.  Raises Blocked where its name is another's."""
    target = target_of(status)
    check_target(status.server, target, given.get("target", ""))
    return target


def _said(what: str, noted: Noted) -> str:
    return f"{what} But {noted.trouble}." if noted.trouble else what


def _actor(visitor: Visitor, given: str) -> str:
    """Return who does it, for the ledger: proven, or as they said at a form."""
    if visitor.proven:
        return f"{visitor.name} (page)"
    name = plain(given.strip() or visitor.name, 100)
    if not name:
        raise UsageError("nobody is named", "write your name: it stands in the history")
    return f"{name} (page, by the operator's token)"


def worded(text: str) -> str:
    """Return a reason that may be kept.  Raises UsageError, which does not repeat it."""
    words = text.strip()
    if not words or plain(words, LONGEST) != words:
        raise UsageError(
            "the reason is empty, longer than one line, or holds characters that nobody can see",
            f"say why in one line of at most {LONGEST} characters",
        )
    if looks_secret(words):
        raise UsageError("the reason looks like a secret", "say why in words; nothing was kept")
    return words


async def prepare(
    source: Source, what: str, status: ServerStatus, given: Mapping[str, str], place: str
) -> Prepared:
    """
    Return the change of the document at *place* that asks for something; writes nothing.

    Raises JtrError.
    """
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    wish, name = _wish(what, given, now), status.server
    ask = Ask(name, _meant(status, given), wish)
    kind, reason, robots = wish.kind, wish.reason, str(wish.robots)
    typed = how_to_ask(kind, name, robots=robots, reason=shlex.quote(reason))
    if source.pulls is not None:
        proposal = await source.pulls.prepared(ask, now)
        send = {"at": spelled(now), "shown": named(proposal)}
        return Prepared(edit.difference(proposal, proposal.path), (typed,), send)
    found = _top(source.paths, place)
    if found is None:
        return Prepared("", (typed,))
    top, file = found
    proposal = ask.heeded(await asyncio.to_thread(edit.propose, top, name, wish, now))
    branch = f"jtr/{kind}-{name}-{now:%Y%m%d-%H%M%S}"
    title = f"Ask for {kind} of {name}"
    add = f"git add -u && git commit -m {shlex.quote(title)} && git push -u origin {branch}"
    return Prepared(
        edit.difference(proposal, file), (f"git switch -c {branch} && {typed} && {add}", typed)
    )


async def open_pull(
    source: Source, what: str, status: ServerStatus, given: Mapping[str, str], visitor: Visitor
) -> Opened:
    """Open the pull request of what was prepared, by what was given back.  Raises JtrError."""
    if source.pulls is None:
        raise UsageError("no pull requests are opened from here", "write git.propose")
    now = datetime.now(UTC)
    at = _instant(given.get("at", ""))
    if at is None or not timedelta(0) <= now - at <= HOLDS:
        raise UsageError("this was prepared too long ago", "prepare it anew")
    by = _actor(visitor, given.get("who", ""))
    target, shown = _meant(status, given), given.get("shown", "")
    if not shown:
        raise UsageError("nothing was shown", "prepare it anew")
    ask = Ask(status.server, target, _wish(what, given, at), shown)
    return await source.pulls.open(ask, by, now)


def _instant(text: str) -> datetime | None:
    """Read an instant as we wrote it; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None and spelled(found) == text else None


def _wish(what: str, given: Mapping[str, str], at: datetime) -> RequestBlock:
    kind = RequestKind(what)
    robots = None
    if kind is RequestKind.REBOOT:
        robots = Afterwards.LEAVE if given.get("robots") == "leave" else Afterwards.RESUME
    return RequestBlock(kind, at, worded(given.get("reason", "")), robots, "", "")


def _top(paths: Sequence[str], place: str) -> tuple[str, str] | None:
    """Return which PATH holds the document, and what its file is called from there."""
    if not place:
        return None
    inside = os.path.realpath(place)
    for path in paths:
        root = os.path.realpath(path)
        if inside == root:
            return path, os.path.basename(place)  # noqa: PTH119  - text of a diff
        if inside.startswith(root.rstrip("/") + "/"):
            return path, os.path.relpath(inside, root)
    return None
