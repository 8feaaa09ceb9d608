"""
What exchanges said of keys, remembered: facts, never verdicts, so a new policy asks nobody.

A private file of JSON.  An entry goes by keyed fingerprint, environment, egress and adapter with
its version; no part of a key is in it.  It is a cache: whoever loses it asks again, and a file
that somebody else could have written is not believed, for it could make a bad key look good.
"""

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from reconciler.exchanges.judge import FROM_SERVER
from reconciler.model.codec import Codec, Inline, Malformed, newer, parsed
from reconciler.model.key_facts import TRANSIENT, Answered, Environment, KeyFacts, Status
from reconciler.model.network_codec import NAMESPACE, NETWORKS
from reconciler.system.files import (
    NotPrivate,
    NotRegular,
    draft,
    make_private_directory,
    read_private,
    reason,
    set_aside,
)

FORMAT: Final = 1
GOOD: Final = timedelta(hours=24)
BAD: Final = timedelta(hours=1)
REJECTED: Final = timedelta(days=365)  # it is remembered for who must not ask again and again
EXPIRING: Final = timedelta(days=30)  # a key so near its end is asked about every time
AHEAD: Final = timedelta(minutes=5)  # an answer from later than that: a clock was wrong
_SIZE_LIMIT: Final = 16 * 1024 * 1024
_NOT_ASKED: Final = frozenset({*TRANSIENT, Status.MALFORMED, Status.UNSUPPORTED})


class Slot(Struct, frozen=True):
    """What an entry goes by; `fingerprint` is keyed, of all credentials together."""

    fingerprint: str
    environment: Environment
    egress: str
    adapter: str
    version: int


def good_until(answered: Answered) -> datetime | None:
    """Return until when an answer stands for asking again; None: it is not remembered at all."""
    if answered.status in _NOT_ASKED:
        return None
    if answered.status is not Status.VALID:
        return answered.at + BAD
    until = answered.at + GOOD
    if answered.facts is not None and answered.facts.expires_at is not None:
        # A key that has ended is asked about every time, also one that ended in the year one.
        until = min(until, max(answered.facts.expires_at, answered.at) - EXPIRING)
    return until if until > answered.at else None


def _kept(answered: Answered) -> timedelta:
    return REJECTED if answered.status is Status.REJECTED else FROM_SERVER


class AuditCache:
    """
    The remembered answers of one file.  Not for several threads at once.

    `trouble` says why the file could not be used, for people; empty when it could, or is not there.
    """

    def __init__(self, path: str) -> None:
        self._path: Final = Path(path)
        self._new: dict[Slot, tuple[Answered, bool]] = {}
        self.trouble = ""
        self._known = self._read()

    def find(self, slot: Slot, now: datetime) -> Answered | None:
        """Return an answer that still stands for asking again."""
        answered, _ = self._known.get(slot, (None, False))
        if answered is None or answered.at > now + AHEAD:
            return None
        until = good_until(answered)
        return answered if until is not None and now < until else None

    def rejected(self, slot: Slot, now: datetime) -> Answered | None:
        """Return a rejection, however old: the same values will hardly be accepted later."""
        answered, _ = self._known.get(slot, (None, False))
        if answered is None or answered.status is not Status.REJECTED:
            return None
        return answered if answered.at <= now + AHEAD else None

    def from_server(self, slot: Slot, now: datetime) -> Answered | None:
        """Return the newest facts on that key from its server's own address, if not too old."""
        found = [
            answered
            for known, (answered, at_server) in self._known.items()
            if at_server
            and answered.status is Status.VALID
            and (known.fingerprint, known.environment) == (slot.fingerprint, slot.environment)
            and (known.adapter, known.version) == (slot.adapter, slot.version)
            and now - FROM_SERVER < answered.at <= now + AHEAD
        ]
        return max(found, key=lambda answered: answered.at, default=None)

    def put(self, slot: Slot, answered: Answered, *, at_server: bool) -> None:
        """Remember an answer; one that proves nothing leaves alone what was known."""
        if answered.status in _NOT_ASKED:
            return
        self._known[slot] = self._new[slot] = answered, at_server

    def save(self, now: datetime) -> None:
        """
        Write what is new, beside what other processes wrote meanwhile; `trouble` if that fails.

        What nobody would use any more is left out.
        """
        if not self._new:
            return
        entries = {**self._read(), **self._new}
        kept = tuple(
            _CODEC.write(_Entry(slot, at_server, one.at, one.status, one.code, one.facts))
            for slot, (one, at_server) in entries.items()
            if now - _kept(one) < one.at <= now + AHEAD
        )
        document = _CODEC.write(_Entries(kept), formatVersion=FORMAT)
        try:
            self._write(json.dumps(document, indent=1))
        except OSError as error:
            self.trouble = f"{self._path} cannot be written: {reason(error)}"
        else:
            self._new.clear()

    def _write(self, text: str) -> None:
        make_private_directory(self._path.parent)
        with draft(self._path, text.encode()) as made:
            made.replace(self._path)

    def _read(self) -> dict[Slot, tuple[Answered, bool]]:
        try:
            document = parsed(read_private(self._path, _SIZE_LIMIT))
        except FileNotFoundError:
            return {}
        except (NotRegular, NotPrivate):
            self.trouble = f"{self._path} is not believed: others could have written it"
            return {}
        except OSError as error:
            self.trouble = f"{self._path} cannot be read: {reason(error)}"
            return {}
        except Malformed:
            document = None
        if (number := newer(document, "formatVersion", FORMAT)) is not None:
            kept = set_aside(self._path, number)
            self.trouble = (
                f"{self._path} was written by a newer jtr (format {number}, this one knows"
                f" {FORMAT}); it is {f'kept as {kept} and ' if kept else ''}begun anew"
            )
            return {}
        try:
            entries = _CODEC.read(_Entries, document, "it", formatVersion=FORMAT).entries
        except Malformed:
            self.trouble = f"{self._path} holds something else; it is begun anew"
            return {}
        found = {}
        for row in entries:
            # One entry that nobody understands costs one question.
            with contextlib.suppress(Malformed):
                entry = _CODEC.read(_Entry, row, "entry")
                found[entry.slot] = entry.answered(), entry.from_server
        return found


# ── entries ──────────────────────────────────────────────────────────────────────────────────


class _Entry(Struct, frozen=True):
    slot: Inline[Slot]
    from_server: bool
    at: datetime
    status: Status
    code: str
    facts: KeyFacts | None

    def answered(self) -> Answered:
        return Answered(
            self.status,
            self.at,
            self.facts,
            code=self.code,
            adapter=self.slot.adapter,
            adapter_version=self.slot.version,
            egress=self.slot.egress,
        )


class _Entries(Struct, frozen=True):
    entries: tuple[Any, ...]


_CODEC: Final = Codec(
    named=lambda name: re.sub("_(.)", lambda letter: letter[1].upper(), name),
    spelled=lambda moment: moment.astimezone(UTC).isoformat(),
    more=NETWORKS,
    namespace=NAMESPACE,
)
