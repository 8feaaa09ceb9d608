"""
What lies in the ledger: rows as JSON documents, and back.

Reading is strict.  A document that is not exactly what this version writes is a `LedgerError` that
names its key: guessing what a ledger meant could repeat a deed.  Documents hold paths, versions,
times and keyed fingerprints; there is no way in for a value or a mask.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from reconciler.errors import LedgerError
from reconciler.ledger.codec.rows import (
    Applied,
    Birth,
    ExchangeRow,
    ForgottenRow,
    Hint,
    History,
    IdentityRow,
    LeaseRow,
    ProposalsRow,
    Restored,
    VersionRow,
    brake_key,
    identity_key,
    segment,
)
from reconciler.model.codec import Codec, Malformed, parsed
from reconciler.model.recorded import Brake, Observation, Received, Requests

T = TypeVar("T")

FORMAT: Final = 1
KINDS: Final[Mapping[type, str]] = {
    Birth: "birth",
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
}
CODEC: Final = Codec()
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


def _check_place(key: str, row: object) -> None:
    match row:
        case IdentityRow(identity=identity) | ForgottenRow(identity=identity) if (
            identity_key(identity.uid) != key
        ):
            raise Malformed("it belongs to another server")
        case Hint(uids=uids) if not all(map(_UID.fullmatch, uids)):
            raise Malformed("it names no servers")
        case ExchangeRow(record=record) if segment(record.code) != key.rpartition("/")[2]:
            raise Malformed("it belongs to another exchange")
        case Brake(version=version) | VersionRow(version=version) if brake_key(version) != key:
            raise Malformed("it belongs to another version")
