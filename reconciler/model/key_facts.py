"""
What can be known of an API key, in words that are the same for all exchanges.  Pure.

Everything is three-valued: known to be so, known not to be so, not knowable.  Not to know is never
green.
"""

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Struct, field
from msgspec.structs import force_setattr

from reconciler.model.codec import Inline, Named

if TYPE_CHECKING:  # every `jtr validate` imports this module
    from ipaddress import IPv4Network, IPv6Network


class Cap(enum.StrEnum):
    """What a key may do; the names of `security.permissions` in documents."""

    SPOT = "spot"
    PERPETUAL = "perpetual"
    DELIVERY = "delivery"
    MARGIN = "margin"
    OPTION = "option"
    WITHDRAW = "withdraw"
    TRANSFER = "transfer"  # between wallets of the same owner
    SUBACCOUNT = "subaccount"
    P2P = "p2p"
    EARN = "earn"
    CUSTODY = "custody"
    COMMISSION = "commission"
    ACCOUNT_READ = "account_read"  # met only by a grant that reads: one that writes is excess
    PILOT = "pilot"
    LOAN = "loan"
    COPY = "copy"
    CONVERT = "convert"
    TAX = "tax"
    UNIFIED = "unified"  # managing a unified or portfolio account: its mode, leverage, loans
    OTHER = "other"  # a name that we do not know: forbidden unless allowed by name


class Access(enum.StrEnum):
    READ = "read"
    WRITE = "write"


class GrantEvidence(enum.StrEnum):
    REPORTED = "reported"  # the exchange lists it
    PROBED = "probed"  # a harmless read that needs it was answered
    INFERRED = "inferred"


class Status(enum.StrEnum):
    """What became of asking; only the first one comes with facts of permissions."""

    VALID = "valid"
    REJECTED = "rejected"  # the exchange says that the key, its secret or passphrase is wrong
    IP_REFUSED = "address refused"  # it is bound, and not to the address that we asked from
    DENIED = "denied"  # it lives, and may not ask about itself
    CLOCK = "clock"
    UNREACHABLE = "unreachable"
    RATE_LIMITED = "rate limited"
    MALFORMED = "malformed"  # the values cannot be right: nobody was asked
    UNSUPPORTED = "unsupported"  # no answer would prove a key, or ccxt does not know the exchange
    INDETERMINATE = "indeterminate"  # a code that nobody knows: never "wrong key"


TRANSIENT = frozenset({Status.CLOCK, Status.UNREACHABLE, Status.RATE_LIMITED, Status.INDETERMINATE})
"""What another try may answer differently; never cached, and never a verdict on the key."""


class Environment(enum.StrEnum):
    LIVE = "live"
    TEST = "test"


_SAID: Final = (Cap.WITHDRAW, Cap.TRANSFER)
"""What a permission amounts to whose name says so, whatever else an adapter knows of it."""


class Grant(Struct, frozen=True):
    """
    One permission as the exchange has it.

    `caps` are what it amounts to; with more than one, or with *separable* False, the exchange does
    not let them be granted apart (OKX's `trade`): a coarse grant is not an excess one.  `raw` is
    the exchange's own name, never anything from the key; one that speaks of withdrawing or of
    transfers is no unknown one.
    """

    raw: str
    caps: frozenset[Cap]
    access: Access = Access.WRITE
    separable: bool = True
    evidence: GrantEvidence = GrantEvidence.REPORTED

    def __post_init__(self) -> None:
        said = {cap for cap in _SAID if cap in self.raw.casefold()}
        if said:
            force_setattr(self, "caps", (self.caps - {Cap.OTHER}) | said)


class IpRule(Struct, frozen=True):
    """
    To which addresses a key is bound.

    `bound` None: not knowable.  `listed` says whether the exchange shows the addresses; Binance
    only says that there are some.  `offered` False: no key of this exchange can be bound.
    """

    bound: bool | None = None
    networks: "tuple[IPv4Network | IPv6Network, ...]" = ()
    listed: bool = False
    offered: Annotated[bool, Named("bindable")] = True


class KeyFacts(Struct, frozen=True):
    """
    What an exchange says of one key.

    `grants` None: it does not tell.  `unproven` are capabilities about which nothing could be
    learnt although others are known (a probe cannot prove that `withdraw` is absent).  `same_key`
    False: the answer is about another key than ours.  `frozen` says why the exchange has stopped
    it; empty when it has not, or does not tell.  `read_only`, `master`, `owner` are None where they
    are not knowable; an owner key (Hyperliquid) can move funds whatever it is granted.  `traits`
    are more facts by name, for people; never a part of the key.  `lapses` among them says when a
    key ends that nobody uses, `lacks` what the exchange documents and this answer does not hold.
    """

    grants: tuple[Grant, ...] | None = None
    ip: Inline[IpRule] = IpRule()
    unproven: frozenset[Cap] = frozenset()
    read_only: bool | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    never_expires: bool | None = None
    environment: Environment | None = None
    master: bool | None = None
    owner: bool | None = None
    same_key: bool | None = None
    frozen: str = ""
    traits: Mapping[str, str] = field(default_factory=dict)


class Answered(Struct, frozen=True):
    """
    What asking about one key came to: facts only with `VALID` (and what `DENIED` still tells).

    `code` is the exchange's raw error code, as it stands in its documentation; never its text,
    which may hold more.  With `MALFORMED` it is what is wrong, in our words.  `at` is our clock;
    `egress` names the address or proxy that we asked from, as far as it is known.
    `elsewhere` is another code of JT-Trader by which the exchange knows a key that it does not know
    here; empty when nobody looked, or none does.  `facts_at` is when the facts were told, where
    that was before `at`.  `requests` are those that were made for it, without their queries; a
    remembered answer has none.
    """

    status: Status
    at: datetime
    facts: KeyFacts | None = None
    code: str = ""
    adapter: str = ""
    adapter_version: int = 0
    egress: str = ""
    elsewhere: str = ""
    facts_at: datetime | None = None
    requests: tuple[str, ...] = ()
