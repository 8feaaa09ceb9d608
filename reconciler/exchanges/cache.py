"""
What exchanges said of keys, remembered: facts, never verdicts, so a new policy asks nobody.

A private file of JSON.  An entry goes by keyed fingerprint, environment, egress and adapter with
its version; no part of a key is in it.  It is a cache: whoever loses it asks again, and a file
that somebody else could have written is not believed, for it could make a bad key look good.
"""

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from reconciler.exchanges.judge import FROM_SERVER
from reconciler.model.key_facts import (
    TRANSIENT,
    Access,
    Answered,
    Cap,
    Environment,
    Evidence,
    Grant,
    IpRule,
    KeyFacts,
    Status,
)

FORMAT: Final = 1
GOOD: Final = timedelta(hours=24)
BAD: Final = timedelta(hours=1)
EXPIRING: Final = timedelta(days=30)  # a key so near its end is asked about every time
AHEAD: Final = timedelta(minutes=5)  # an answer from later than that: a clock was wrong
_SIZE_LIMIT: Final = 16 * 1024 * 1024
_NOT_ASKED: Final = frozenset({*TRANSIENT, Status.UNSUPPORTED})


@dataclass(frozen=True, slots=True)
class Slot:
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
        until = min(until, answered.facts.expires_at - EXPIRING)
    return until if until > answered.at else None


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
        kept = [
            _entry(slot, answered, at_server=at_server)
            for slot, (answered, at_server) in entries.items()
            if now - FROM_SERVER < answered.at <= now + AHEAD
        ]
        try:
            self._write(json.dumps({"formatVersion": FORMAT, "entries": kept}, indent=1))
        except OSError as error:
            self.trouble = f"{self._path} cannot be written: {_reason(error)}"
        else:
            self._new.clear()

    def _write(self, text: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_name(f".{self._path.name}.{token_hex(8)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(draft, flags, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as opened:
                opened.write(text)
            draft.replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def _read(self) -> dict[Slot, tuple[Answered, bool]]:
        try:
            text = self._text()
        except FileNotFoundError:
            return {}
        except OSError as error:
            self.trouble = f"{self._path} cannot be read: {_reason(error)}"
            return {}
        if text is None:
            return {}
        try:
            document = json.loads(text)
            whole = isinstance(document, dict) and document.get("formatVersion") == FORMAT
            entries = document["entries"] if whole else []
        except (ValueError, KeyError, RecursionError):
            whole, entries = False, []
        if not whole or not isinstance(entries, list):
            self.trouble = f"{self._path} holds something else; it is begun anew"
            return {}
        found = {}
        for entry in entries:
            # One entry that nobody understands costs one question.
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
                slot, answered, at_server = _read_entry(entry)
                found[slot] = answered, at_server
        return found

    def _text(self) -> bytes | None:
        # Non-blocking: a FIFO in its place must not hang us.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags), "rb") as opened:
            facts = os.fstat(opened.fileno())
            private = facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
            if not stat.S_ISREG(facts.st_mode) or not private:
                self.trouble = f"{self._path} is not believed: others could have written it"
                return None
            return opened.read(_SIZE_LIMIT)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__


# ── entries ──────────────────────────────────────────────────────────────────────────────────


def _entry(slot: Slot, answered: Answered, *, at_server: bool) -> dict[str, Any]:
    return {
        "fingerprint": slot.fingerprint,
        "environment": str(slot.environment),
        "egress": slot.egress,
        "adapter": slot.adapter,
        "version": slot.version,
        "fromServer": at_server,
        "at": _stamp(answered.at),
        "status": str(answered.status),
        "code": answered.code,
        "facts": None if answered.facts is None else _facts(answered.facts),
    }


def _read_entry(entry: Mapping[str, Any]) -> tuple[Slot, Answered, bool]:
    """Read one entry.  Raises KeyError, TypeError, ValueError or AttributeError."""
    slot = Slot(
        _word(entry["fingerprint"]),
        Environment(entry["environment"]),
        _word(entry["egress"]),
        _word(entry["adapter"]),
        int(entry["version"]),
    )
    facts = entry["facts"]
    answered = Answered(
        Status(entry["status"]),
        _moment(entry["at"]),
        None if facts is None else _read_facts(facts),
        code=_word(entry["code"]),
        adapter=slot.adapter,
        adapter_version=slot.version,
        egress=slot.egress,
    )
    return slot, answered, entry["fromServer"] is True


def _facts(facts: KeyFacts) -> dict[str, Any]:
    return {
        "grants": None if facts.grants is None else [_grant(grant) for grant in facts.grants],
        "bound": facts.ip.bound,
        "networks": [str(network) for network in facts.ip.networks],
        "listed": facts.ip.listed,
        "bindable": facts.ip.offered,
        "unproven": sorted(map(str, facts.unproven)),
        "readOnly": facts.read_only,
        "createdAt": None if facts.created_at is None else _stamp(facts.created_at),
        "expiresAt": None if facts.expires_at is None else _stamp(facts.expires_at),
        "neverExpires": facts.never_expires,
        "environment": None if facts.environment is None else str(facts.environment),
        "master": facts.master,
        "owner": facts.owner,
        "sameKey": facts.same_key,
        "frozen": facts.frozen,
        "traits": dict(facts.traits),
    }


def _read_facts(facts: Mapping[str, Any]) -> KeyFacts:
    grants, environment = facts["grants"], facts["environment"]
    return KeyFacts(
        grants=None if grants is None else tuple(_read_grant(grant) for grant in grants),
        ip=IpRule(
            _maybe(facts["bound"]),
            tuple(ip_network(network) for network in facts["networks"]),
            facts["listed"] is True,
            facts.get("bindable", True) is True,
        ),
        unproven=frozenset(Cap(cap) for cap in facts["unproven"]),
        read_only=_maybe(facts["readOnly"]),
        created_at=None if facts["createdAt"] is None else _moment(facts["createdAt"]),
        expires_at=None if facts["expiresAt"] is None else _moment(facts["expiresAt"]),
        never_expires=_maybe(facts["neverExpires"]),
        environment=None if environment is None else Environment(environment),
        master=_maybe(facts["master"]),
        owner=_maybe(facts["owner"]),
        same_key=_maybe(facts["sameKey"]),
        frozen=_word(facts["frozen"]),
        traits={_word(name): _word(value) for name, value in facts["traits"].items()},
    )


def _grant(grant: Grant) -> dict[str, Any]:
    return {
        "raw": grant.raw,
        "caps": sorted(map(str, grant.caps)),
        "access": str(grant.access),
        "separable": grant.separable,
        "evidence": str(grant.evidence),
    }


def _read_grant(grant: Mapping[str, Any]) -> Grant:
    return Grant(
        _word(grant["raw"]),
        frozenset(Cap(cap) for cap in grant["caps"]),
        Access(grant["access"]),
        separable=grant["separable"] is True,
        evidence=Evidence(grant["evidence"]),
    )


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _maybe(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise TypeError
