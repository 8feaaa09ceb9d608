"""
What lies in the ledger: rows as JSON documents, and back.

Reading is strict.  A document that is not exactly what this version writes is a `LedgerError` that
names its key: guessing what a ledger meant could repeat a deed.  Documents hold paths, versions,
times, keyed fingerprints and what exchanges say of keys; there is no way in for a value or a mask.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from reconciler.errors import LedgerError
from reconciler.ledger.codec.rows import (
    APPLIED,
    BIRTH,
    CONTROLLER,
    PAUSES,
    PROPOSALS,
    RESTORED,
    REVISIONS,
    Applied,
    AuditsRow,
    Birth,
    ExchangeRow,
    ForgottenRow,
    Hint,
    History,
    IdentityRow,
    LeaseRow,
    Moved,
    PausesRow,
    ProposalsRow,
    Restored,
    RevisionsRow,
    VersionRow,
    brake_key,
    identity_key,
    is_observation,
    revisions_key,
    segment,
)
from reconciler.model.codec import Codec, Malformed, parsed
from reconciler.model.network_codec import NAMESPACE, NETWORKS
from reconciler.model.recorded import Brake, Observation, Received, Requests
from reconciler.model.timestamps import stamp

T = TypeVar("T")

FORMAT: Final = 1
KINDS: Final[Mapping[type, str]] = {
    Birth: "birth",
    Moved: "moved",
    IdentityRow: "identity",
    ForgottenRow: "forgotten",
    Hint: "hint",
    ExchangeRow: "exchange",
    Observation: "observation",
    Brake: "brake",
    VersionRow: "version",
    LeaseRow: "lease",
    Requests: "requests",
    History: "history",
    Restored: "restored",
    Received: "received",
    Applied: "applied",
    ProposalsRow: "proposals",
    RevisionsRow: "revisions",
    PausesRow: "pauses",
    AuditsRow: "audits",
}
PLACES: Final[Mapping[type, tuple[str, ...]]] = {
    Birth: (BIRTH,),
    Moved: (BIRTH,),
    IdentityRow: ("server/*/identity",),
    ForgottenRow: ("server/*/identity",),
    Hint: ("name/*", "address/*"),
    ExchangeRow: ("server/*/exchange/*",),
    Observation: ("server/*/observation",),
    Brake: ("brake/*",),
    VersionRow: ("brake/*",),
    LeaseRow: ("server/*/lease", CONTROLLER),
    Requests: ("server/*/requests",),
    History: ("server/*/history",),
    Restored: (RESTORED,),
    Received: ("server/*/received",),
    Applied: (APPLIED,),
    ProposalsRow: (PROPOSALS,),
    RevisionsRow: (REVISIONS, "revisions/*"),
    PausesRow: (PAUSES,),
    AuditsRow: ("server/*/audits",),
}
"""Under which keys rows of a kind lie; `*` is one segment."""
CODEC: Final = Codec(more=NETWORKS, namespace=NAMESPACE)
_UID: Final = re.compile(r"[a-z0-9]{1,64}")


def write(row: object) -> str:
    body = CODEC.write(row, format=FORMAT, kind=KINDS[type(row)])
    # ASCII only: robots' names may hold lone surrogates, which no UTF-8 file could keep.
    return json.dumps(body, separators=(",", ":"))


def read(kind: type[T], key: str, text: str) -> T:
    """Read the row under *key*; LedgerError when it is not exactly what we would write there."""
    try:
        row: T = _row(kind, key, text)  # type: ignore[arg-type]  # every type has its hash
    except Malformed as problem:
        raise LedgerError(
            f"the ledger's row {key} is not understood: {problem}",
            "use the newest jtr that wrote here, or restore the ledger from a backup",
        ) from None
    return row


@functools.lru_cache(maxsize=256)  # rows never change, and most are read again as they were
def _row(kind: type[Any], key: str, text: str) -> Any:
    name = KINDS[kind]
    row = CODEC.read(kind, parsed(text), name, format=FORMAT, kind=name)
    _check_place(key, row)
    return row


def read_any(key: str, text: str) -> object:
    """Read whatever row lies under *key*, if its kind may lie there.  Raises LedgerError."""
    try:
        found = parsed(text)
    except Malformed:
        found = None  # said below
    named = found.get("kind") if isinstance(found, dict) else None
    kinds = [kind for kind, places in PLACES.items() if any(_lies(key, one) for one in places)]
    if not kinds:
        raise LedgerError(
            f"the ledger's row {key} is none that this jtr knows",
            "use the newest jtr that wrote here",
        )
    return read(next((one for one in kinds if KINDS[one] == named), kinds[0]), key, text)


def _lies(key: str, place: str) -> bool:
    segments, pattern = key.split("/"), place.split("/")
    return len(segments) == len(pattern) and all(map(fnmatchcase, segments, pattern))


def read_birth(text: str) -> Birth:
    """Read a ledger's birth; one that was moved is a LedgerError that says where to."""
    row = read_any(BIRTH, text)
    if isinstance(row, Moved) and not row.there:
        raise LedgerError(
            f"this ledger is being moved to {row.to} since {stamp(row.moved_at)}, "
            f"by {row.moved_by}",
            f"run `jtr ledger move {row.to}` again until it says that it is done",
        )
    if isinstance(row, Moved):
        raise LedgerError(
            f"this ledger was moved to {row.to} on {stamp(row.moved_at)}, by {row.moved_by}",
            f"name that one in the settings, as: ledger: {row.to}",
        )
    return read(Birth, BIRTH, text)


def read_identity(key: str, text: str) -> IdentityRow | ForgottenRow:
    """Read what lies under the key of an identity: one, or what is left of one that is gone."""
    try:
        found = parsed(text)
    except Malformed:
        found = None  # said below
    if isinstance(found, dict) and found.get("kind") == KINDS[ForgottenRow]:
        return read(ForgottenRow, key, text)
    return read(IdentityRow, key, text)


def read_version(key: str, text: str) -> VersionRow:
    """Read the row of a JT-Trader version; one of an older ledger is a brake, and proves none."""
    try:
        old = parsed(text)
    except Malformed:
        old = None  # said below
    if isinstance(old, dict) and old.get("kind") == KINDS[Brake]:
        brake = read(Brake, key, text)
        return VersionRow(brake.version, whole=brake)
    return read(VersionRow, key, text)


def observations(documents: Mapping[str, str]) -> Iterator[tuple[str, datetime]]:
    """Yield the keys of all observations among *documents* that can be read, and their times."""
    for key, text in documents.items():
        if is_observation(key):
            with suppress(LedgerError):  # whoever needs that one is told so
                yield key, datetime.fromisoformat(read(Observation, key, text).at)


def _check_place(key: str, row: object) -> None:
    match row:
        case IdentityRow(identity=identity) | ForgottenRow(identity=identity) if (
            identity_key(identity.uid) != key
        ):
            raise Malformed("it belongs to another server")
        case Hint(uids=uids) if not all(map(_UID.fullmatch, uids)):
            raise Malformed("it names no servers")
        case PausesRow(pauses=pauses) if not all(_UID.fullmatch(one.uid or "0") for one in pauses):
            raise Malformed("it names no servers")
        case ExchangeRow(record=record) if segment(record.code) != key.rpartition("/")[2]:
            raise Malformed("it belongs to another exchange")
        case RevisionsRow(branches=branches) if key != REVISIONS and any(
            revisions_key(one.branch) != key for one in branches
        ):
            raise Malformed("it belongs to another branch")
        case Brake(version=version) | VersionRow(version=version) if brake_key(version) != key:
            raise Malformed("it belongs to another version")
