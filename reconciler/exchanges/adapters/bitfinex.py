"""
Bitfinex: `POST /v2/auth/r/permissions`.

Documented at docs.bitfinex.com/reference/key-permissions: for each scope whether a key reads and
whether it writes, and nothing else.  The key itself, its addresses, age and end are not told.  It
has no test network; its paper trading is an account of the live one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.model.key_facts import Access, Cap, Environment, Grant, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    "10000": Status.INDETERMINATE,
    "10001": Status.DENIED,
    "10020": Status.INDETERMINATE,
    "10100": Status.REJECTED,  # key or signature; what it says of a foreign address is not told
    "10114": Status.CLOCK,  # a nonce that is not greater: or the trader has just used the key
    "11010": Status.RATE_LIMITED,
    "20060": Status.UNREACHABLE,  # maintenance
}

_ACCOUNT: Final = frozenset({Cap.ACCOUNT_READ})
_TRADE: Final = frozenset({Cap.SPOT, Cap.MARGIN, Cap.PERPETUAL})
_WITHDRAW: Final = frozenset({Cap.WITHDRAW})
_OTHER: Final = frozenset({Cap.OTHER})
# What reading and what writing in a scope amounts to.
_SCOPES: Final[Mapping[str, tuple[frozenset[Cap], frozenset[Cap]]]] = {
    "account": (_ACCOUNT, _OTHER),
    "history": (_ACCOUNT, _OTHER),
    "orders": (_TRADE, _TRADE),
    "positions": (_ACCOUNT, _OTHER),  # claims them; orders are another scope
    "funding": (_ACCOUNT, frozenset({Cap.EARN})),
    "settings": (_ACCOUNT, _OTHER),
    "wallets": (_ACCOUNT, frozenset({Cap.TRANSFER})),
    "withdraw": (_WITHDRAW, _WITHDRAW),
    "ui_withdraw": (_WITHDRAW, _WITHDRAW),
}


@dataclass(frozen=True, slots=True)
class Bitfinex:
    """Asks Bitfinex about a key: its permissions are told, and nothing else."""

    ccxt_id: str = "bitfinex"
    version: int = 1
    disturbs_trading: bool = True

    @property
    def codes(self) -> Mapping[str, Status]:
        """The second entry of `["error", code, words]`."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request, whose nonce is the time in milliseconds, as ccxt's always is."""
        del environment
        return (exchange.privatePostAuthRPermissions(),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; a key that Bitfinex knows is a live one, wherever it should belong."""
        del credentials, environment
        if len(answers) != 1:
            raise NotUnderstood(f"expected one answer, got {len(answers)}")
        scopes = take.listing(answers[0], "the answer")
        if not scopes:  # those not granted are listed, too
            raise NotUnderstood("there is no scope")
        grants = tuple(grant for scope in scopes for grant in _grants(scope))
        return KeyFacts(
            grants=grants,
            read_only=all(grant.access is Access.READ for grant in grants),
            environment=Environment.LIVE,
        )


def _grants(scope: Any) -> Iterator[Grant]:
    """Yield what a key may do in one scope: reading apart where it amounts to something else."""
    row = take.listing(scope, "a scope")
    if len(row) < 3:  # noqa: PLR2004  - name, read, write
        raise NotUnderstood("a scope is not complete")
    raw = take.name(row[0], "a scope")
    reads, writes = _flag(row[1]), _flag(row[2])
    reading, writing = _SCOPES.get(raw, (_OTHER, _OTHER))
    if writes:
        yield Grant(raw, writing, separable=len(writing) == 1)
    if reads and not (writes and reading == writing):
        yield Grant(raw, reading, access=Access.READ, separable=len(reading) == 1)


def _flag(value: Any) -> bool:
    number = take.integer({"a right": value}, "a right")
    if number not in {0, 1}:
        raise NotUnderstood("a right is neither 0 nor 1")
    return number == 1


ADAPTER: Final = Bitfinex()
