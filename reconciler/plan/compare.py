"""
Compare one exchange: what the server shows, what we remember, what is desired -> a verdict.

This is the table of docs/concepts/verdicts.md, and nothing else: no actions, no consents.  Pure.
"""

import enum
from collections.abc import Mapping

from msgspec import Struct

from reconciler.model.actions import Reason
from reconciler.model.evidence import Evidence
from reconciler.model.plan import Verdict
from reconciler.model.recorded import ExchangeRecord, Observation, Write
from reconciler.model.references import FrozenRef, SecretPath


class ComparisonKind(enum.StrEnum):
    """What is to be thought of an exchange whose credentials shall be present."""

    SAME = "same"  # the mask that we last wrote, of exactly the desired version
    WRITE = "write"  # ours to write: empty, moved on, unfinished
    FOUND = "found"  # another hand's value that looks like the desired one
    DRIFT = "drift"  # ours, but another hand changed it
    FOREIGN = "foreign"  # another hand's, not ours to overwrite
    UNREAD = "unread"  # only the value itself could tell


class Comparison(Struct, frozen=True):
    """A verdict with its reason and, in words, what a person should know."""

    kind: ComparisonKind
    verdict: Verdict
    reason: Reason = Reason.NONE
    why: str = ""
    unverified: bool = False  # to be written without consequences


class Shown(Struct, frozen=True):
    """Keyed fingerprints of the masks of one exchange; empty text where nothing is shown."""

    masks: Mapping[str, str]
    key_id: str

    @classmethod
    def of(cls, observation: Observation, code: str) -> "Shown":
        return cls(observation.masks.get(code, {}), observation.key_id)

    @property
    def present(self) -> frozenset[str]:
        """Names of the fields that are not empty."""
        return frozenset(name for name, mask in self.masks.items() if mask)

    def like(self, write: Write | None) -> frozenset[str]:
        """Names of the non-empty fields that show exactly the masks of *write*."""
        if write is None or write.key_id != self.key_id:
            return frozenset()
        return frozenset(name for name in self.present if write.masks.get(name) == self.masks[name])

    def is_all(self, write: Write | None) -> bool:
        """Whether every field shows the mask of *write*."""
        return bool(self.masks) and self.like(write) == frozenset(self.masks)


def is_ours(record: ExchangeRecord) -> bool:
    """Whether the ledger holds a committed write intent since its birth or our last delete."""
    return record.written is not None or record.intent is not None


def explained(shown: Shown, record: ExchangeRecord) -> frozenset[str]:
    """
    Names of the non-empty fields that show what we wrote or may have written.

    Whatever writes of unknown outcome can leave together: values of the newest one, of those
    before it, and of the last one that is known to have taken place.
    """
    found = shown.like(record.written) | shown.like(record.intent)
    return found.union(*(shown.like(write) for write in record.earlier))


def compare(
    shown: Shown,
    record: ExchangeRecord,
    sources: Mapping[str, FrozenRef],
    evidence: Evidence | None,
) -> Comparison:
    """
    Judge an exchange whose credentials shall be *sources*.

    Without *evidence* (the values were not read) the answer may be `ComparisonKind.UNREAD`; every
    other answer is the same with evidence and without.
    """
    if record.intent is not None:
        return _unfinished(shown, record.intent, record, sources, evidence)
    if record.written is None:
        return _foreign(shown, record, sources, evidence)
    return _ours(shown, record.written, record, sources, evidence)


def needs_values(shown: Shown, record: ExchangeRecord, sources: Mapping[str, FrozenRef]) -> bool:
    """Whether the values must be read: to be written, or because only they can tell."""
    kind = compare(shown, record, sources, None).kind
    return kind in (ComparisonKind.UNREAD, ComparisonKind.WRITE, ComparisonKind.DRIFT)


def _foreign(
    shown: Shown,
    record: ExchangeRecord,
    sources: Mapping[str, FrozenRef],
    evidence: Evidence | None,
) -> Comparison:
    if not shown.present:
        return Comparison(ComparisonKind.WRITE, Verdict.DIFFERENT, Reason.ABSENT)
    if _found_before(shown, record, sources):
        return Comparison(ComparisonKind.FOUND, Verdict.UNKNOWN, why=_FOUND)
    if evidence is None:
        return Comparison(ComparisonKind.UNREAD, Verdict.UNKNOWN)
    if evidence.weak:
        return Comparison(
            ComparisonKind.FOREIGN,
            Verdict.UNKNOWN,
            Reason.NOT_VERIFIABLE,
            "somebody else connected it, and what the server shows of it proves too little",
            unverified=True,
        )
    if _looks_desired(shown, evidence):
        return Comparison(ComparisonKind.FOUND, Verdict.UNKNOWN, why=_FOUND)
    if evidence.matches >= shown.present:
        return Comparison(
            ComparisonKind.FOREIGN,
            Verdict.DIFFERENT,
            Reason.DIFFERS,
            "somebody else stored a part of it",
        )
    return Comparison(
        ComparisonKind.FOREIGN,
        Verdict.DIFFERENT,
        Reason.DIFFERS,
        "somebody else connected it with another key",
    )


_FOUND = "somebody else connected it; it looks like the desired one"


def _found_before(shown: Shown, record: ExchangeRecord, sources: Mapping[str, FrozenRef]) -> bool:
    return (
        record.found is not None and shown.is_all(record.found) and record.found.came_from(sources)
    )


def _unfinished(
    shown: Shown,
    intent: Write,
    record: ExchangeRecord,
    sources: Mapping[str, FrozenRef],
    evidence: Evidence | None,
) -> Comparison:
    if intent.key_id != shown.key_id:
        return _unknown_key(shown, evidence, moved=not intent.came_from(sources))
    # Whatever half-done saves can leave: new values, the ones before, or nothing where there was
    # nothing or where we were deleting.  Anything else is another hand's.
    empty = frozenset(shown.masks) - shown.present
    may_be_empty = record.written is None or record.deleting
    if explained(shown, record) == shown.present and (not empty or may_be_empty):
        return Comparison(ComparisonKind.WRITE, Verdict.DIFFERENT, Reason.UNFINISHED)
    return Comparison(
        ComparisonKind.DRIFT,
        Verdict.DIFFERENT,
        Reason.DIFFERS,
        "an earlier write did not finish, and somebody else changed it since",
    )


def _ours(
    shown: Shown,
    written: Write,
    record: ExchangeRecord,
    sources: Mapping[str, FrozenRef],
    evidence: Evidence | None,
) -> Comparison:
    moved = not written.came_from(sources)
    if written.key_id != shown.key_id:
        return _unknown_key(shown, evidence, moved=moved)
    if shown.is_all(written):
        if not moved:
            return Comparison(ComparisonKind.SAME, Verdict.SAME)
        return Comparison(ComparisonKind.WRITE, Verdict.DIFFERENT, movement(written, sources))
    if shown.present and shown.like(written) == shown.present == frozenset(written.masks):
        why = "the server asks for a field that it did not have before"
        return Comparison(ComparisonKind.WRITE, Verdict.DIFFERENT, Reason.ABSENT, why)
    if record.deleting and shown.like(written) == shown.present:
        why = "an earlier delete of ours did not finish"
        return Comparison(ComparisonKind.WRITE, Verdict.DIFFERENT, Reason.ABSENT, why)
    if _found_before(shown, record, sources) or _looks_desired(shown, evidence):
        return Comparison(ComparisonKind.FOUND, Verdict.UNKNOWN, why=_FOUND)
    what = _what_changed(shown)
    if moved:
        what += f"; Vault moved too: {movement(written, sources)}"
    return Comparison(ComparisonKind.DRIFT, Verdict.DIFFERENT, Reason.DIFFERS, what)


def _looks_desired(shown: Shown, evidence: Evidence | None) -> bool:
    if evidence is None or evidence.weak:
        return False
    return evidence.matches >= frozenset(shown.masks)


def _what_changed(shown: Shown) -> str:
    gone = len(shown.masks) - len(shown.present)
    if gone == len(shown.masks):
        return "somebody removed it from the server"
    if gone:
        return "somebody removed a part of it from the server"
    return "somebody changed it on the server"


def _unknown_key(shown: Shown, evidence: Evidence | None, *, moved: bool) -> Comparison:
    if evidence is None and shown.present == frozenset(shown.masks):
        return Comparison(ComparisonKind.UNREAD, Verdict.UNKNOWN)
    if evidence is not None and evidence.matches >= frozenset(shown.masks):
        return Comparison(
            ComparisonKind.WRITE,
            Verdict.UNKNOWN,
            Reason.NOT_VERIFIABLE,
            "remembered under another fingerprint key",
            unverified=True,
        )
    what = "the server shows something else than desired, and what we wrote is remembered under"
    what += " another fingerprint key"
    if moved:
        what += "; Vault moved too"
    return Comparison(ComparisonKind.DRIFT, Verdict.DIFFERENT, Reason.DIFFERS, what)


def movement(write: Write, sources: Mapping[str, FrozenRef]) -> Reason:
    """Say in which way the desired sources moved since *write*."""

    def places(refs: Mapping[str, FrozenRef]) -> set[tuple[str, SecretPath, str | None]]:
        return {(name, ref.at, ref.field) for name, ref in refs.items()}

    if places(write.sources) != places(sources):
        return Reason.PATH_MOVED
    return Reason.NEW_VERSION
