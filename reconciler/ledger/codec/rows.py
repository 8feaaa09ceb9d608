"""
The ledger's rows and the keys under which they lie.

A row is a noun of the model with what only the ledger needs to know about it.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.model.codec import Inline, Later, Seconds
from reconciler.model.proposals import Proposal
from reconciler.model.recorded import (
    Brake,
    ExchangeRecord,
    HistoryEntry,
    Identity,
    Pause,
    RecordedAudit,
)
from reconciler.model.target import Target

_SEGMENT_LIMIT: Final = 100


class Birth(Struct, frozen=True):
    """
    When a ledger began, and the name that it has for ever.

    `earlier` is how many writes it had seen where it lay before it was moved.
    """

    uid: str
    at: datetime
    by: str
    earlier: Later[int] = 0


class Moved(Struct, frozen=True):
    """What takes the place of a birth whose ledger goes on elsewhere, once it is *there*."""

    birth: Inline[Birth]
    to: str
    moved_at: datetime
    moved_by: str
    there: bool = False


class IdentityRow(Struct, frozen=True):
    """
    An identity with what only the ledger needs.

    The highest `label_order` among servers of one name is the one that got the name last; times of
    two machines could not say that.
    """

    identity: Inline[Identity]
    label_order: int
    retired: tuple[Target, ...] = ()


class ForgottenRow(Struct, frozen=True):
    """
    What takes the place of an identity whose server is gone: when, why and by whom that was said.

    No request up to `at` may be done at its addresses, or by a server of its name.
    """

    identity: Inline[Identity]
    at: datetime
    because: str
    by: str
    retired: tuple[Target, ...] = ()


class Hint(Struct, frozen=True):
    """The servers that have, or are about to get, some name or address; perhaps others as well."""

    uids: tuple[str, ...]


class ExchangeRow(Struct, frozen=True):
    """
    A record with what only the ledger needs.

    `nonce` names the newest intent and `by` who had it; `before` is the record as it was without
    that intent, for the case that nothing was sent.
    """

    record: Inline[ExchangeRecord]
    nonce: str = ""
    by: str = ""
    before: ExchangeRecord | None = None


class HarmedServer(Struct, frozen=True):
    """A server that a write harmed, or that did not answer one, and its brake."""

    identity: Identity
    brake: Brake


class VersionRow(Struct, frozen=True):
    """
    What writing to the servers of one JT-Trader version has shown.

    `well` are servers on which a write did no harm, as many as prove a version; `harmed` those that
    have a brake of their own, or had one lately.  `whole` is the brake over all of them.
    """

    version: str
    well: tuple[Identity, ...] = ()
    harmed: tuple[HarmedServer, ...] = ()
    whole: Brake | None = None


class Holder(Struct, frozen=True):
    """
    A process that holds a lease.

    `boot`, `namespace`, `pid` and `started` identify it on its own host, so that a neighbour can
    prove that it is gone; empty or 0 where the system does not tell.
    """

    nonce: str
    by: str
    boot: str = ""
    namespace: str = ""
    pid: int = 0
    started: int = 0


class LeaseRow(Struct, frozen=True):
    """A lease: who, since when and until when on the holder's clock, for how many seconds."""

    holder: Inline[Holder]
    since: str
    until: str
    seconds: Seconds
    released: bool = False


class History(Struct, frozen=True):
    """What was done on a server, oldest first."""

    deeds: tuple[HistoryEntry, ...] = ()


class Applied(Struct, frozen=True):
    """The ids of plans that were applied to their end, newest last."""

    plans: tuple[str, ...] = ()


class ProposalsRow(Struct, frozen=True):
    """The plans that reviewers were shown, newest last."""

    proposals: tuple[Proposal, ...] = ()


class FollowedBranch(Struct, frozen=True):
    """
    What is followed, and the commit of it that was in force last.

    `branch` is an address and a branch's name, or `applied REPOSITORY:FOLDER` of what jobs apply.
    """

    branch: str
    commit: str


class RevisionsRow(Struct, frozen=True):
    """
    What a controller follows, or what jobs apply of a repository.

    Earlier versions had one row of all that anybody followed or applied.
    """

    branches: tuple[FollowedBranch, ...] = ()


class PausesRow(Struct, frozen=True):
    """The servers that operators paused, and that may be over meanwhile."""

    pauses: tuple[Pause, ...] = ()


class AuditsRow(Struct, frozen=True):
    """What exchanges said of a server's keys last, by the server's code of the exchange."""

    keys: Mapping[str, RecordedAudit]


class Restored(Struct, frozen=True):
    """When, why and by whom a restored ledger was accepted last."""

    at: datetime
    because: str
    by: str


# ── keys ─────────────────────────────────────────────────────────────────────────────────────

BIRTH: Final = "ledger/birth"
RESTORED: Final = "ledger/restored"
APPLIED: Final = "ledger/applied"
PROPOSALS: Final = "ledger/proposals"
REVISIONS: Final = "ledger/revisions"
PAUSES: Final = "ledger/pauses"
SERVERS: Final = "server/"
BRAKES: Final = "brake/"


def segment(text: str) -> str:
    """
    Return *text* as one segment of a key; different texts give different segments.

    A server's names come from outside.  What a key cannot hold is written as `_` and two hex
    digits for each byte, and what would be too long as a digest.
    """
    spelled = re.sub(
        "[^a-z0-9-]",
        lambda match: "".join(f"_{byte:02x}" for byte in match[0].encode("utf-8", "surrogatepass")),
        text,
    )
    if spelled and len(spelled) <= _SEGMENT_LIMIT:
        return spelled
    # No spelled text holds a dot, so a digest is nobody's name.
    return "_." + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def identity_key(uid: str) -> str:
    return f"{SERVERS}{uid}/identity"


def name_hint_key(name: str) -> str:
    return "name/" + segment(name)


def address_hint_key(target: Target) -> str:
    text = f"{target.url}\0{target.account}"
    return "address/" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def exchanges_prefix(uid: str) -> str:
    """Return what the keys of a server's exchanges begin with."""
    return f"{SERVERS}{uid}/exchange/"


def exchange_key(uid: str, code: str) -> str:
    return exchanges_prefix(uid) + segment(code)


def revisions_key(branch: str) -> str:
    """Return the key of what is in force of *branch*, see `FollowedBranch`."""
    return "revisions/" + segment(source_of(branch))


def source_of(branch: str) -> str:
    """Return what shares a row with *branch*: itself, or all that jobs apply of a repository."""
    repository, colon, _ = branch.partition(":")
    return repository + colon if branch.startswith("applied ") else branch


def observation_key(uid: str) -> str:
    return f"{SERVERS}{uid}/observation"


def is_observation(key: str) -> bool:
    return key.startswith(SERVERS) and key.endswith("/observation")


def received_key(uid: str) -> str:
    return f"{SERVERS}{uid}/received"


def audits_key(uid: str) -> str:
    return f"{SERVERS}{uid}/audits"


def lease_key(uid: str) -> str:
    return f"{SERVERS}{uid}/lease"


def is_lease(key: str) -> bool:
    return key.endswith("/lease")


CONTROLLER: Final = "controller/lease"
"""The lease of the one controller that acts on this ledger."""


def requests_key(uid: str) -> str:
    return f"{SERVERS}{uid}/requests"


def history_key(uid: str) -> str:
    return f"{SERVERS}{uid}/history"


def brake_key(version: str) -> str:
    return BRAKES + segment(version)
