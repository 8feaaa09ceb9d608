"""
Bitfinex: `POST /v2/auth/r/permissions`.

Documented at docs.bitfinex.com/reference/key-permissions: for each scope whether a key reads and
whether it writes, and nothing else.  The key itself, its addresses, age and end are not told.  It
has no test network; its paper trading is an account of the live one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, Grant, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    "10000": Status.INDETERMINATE,
    "10001": Status.DENIED,
    "10020": Status.INDETERMINATE,
    "10100": Status.INDETERMINATE,  # key or signature, and perhaps a foreign address
    "10114": Status.CLOCK,  # a nonce that is not greater: or the trader has just used the key
    "11010": Status.RATE_LIMITED,
    "20060": Status.UNREACHABLE,  # maintenance
}

_ACCOUNT: Final = frozenset({Cap.ACCOUNT_READ})
_TRADE: Final = frozenset({Cap.SPOT, Cap.MARGIN, Cap.PERPETUAL})
_WITHDRAW: Final = frozenset({Cap.WITHDRAW})
# What reading and what writing in a scope amounts to.
_SCOPES: Final = {
    "account": (_ACCOUNT, take.UNKNOWN),
    "history": (_ACCOUNT, take.UNKNOWN),
    "orders": (_TRADE, _TRADE),
    "positions": (_ACCOUNT, take.UNKNOWN),  # claims them; orders are another scope
    "funding": (_ACCOUNT, frozenset({Cap.EARN})),
    "settings": (_ACCOUNT, take.UNKNOWN),
    "wallets": (_ACCOUNT, frozenset({Cap.TRANSFER})),
    "withdraw": (_WITHDRAW, _WITHDRAW),
    "ui_withdraw": (_WITHDRAW, _WITHDRAW),
    "bfxpay": (take.UNKNOWN, take.UNKNOWN),
}


class Bitfinex(Adapter):
    """
    Permissions are told, and nothing else; a key that is known is a live one.

    The nonce of a request is the time in milliseconds, as ccxt's always is.
    """

    def facts(self, answer: Any, _ours: Credentials, _environment: Environment, /) -> KeyFacts:
        scopes = take.listing(answer, "the answer")
        if not scopes:  # those not granted are listed, too
            raise take.NotUnderstood("there is no scope")
        grants = tuple(grant for scope in scopes for grant in _grants(scope))
        return KeyFacts(
            grants=grants,
            read_only=take.only_reads(grants),
            environment=Environment.LIVE,
            traits=take.lacking({scope[0]: scope for scope in scopes}, _SCOPES),
        )

    def raw_code(self, answer: Any) -> str:
        """Return the second entry of `["error", code, words]`."""
        refused = isinstance(answer, list) and len(answer) > 1 and answer[0] == "error"
        return take.code(answer[1]) if refused else ""


def _grants(scope: Any) -> Iterator[Grant]:
    row = take.listing(scope, "a scope")
    if len(row) < 3:  # noqa: PLR2004  - name, read, write
        raise take.NotUnderstood("a scope is not complete")
    raw = take.name(row[0], "a scope")
    rights = {"reading": row[1], "writing": row[2]}
    return take.scope(
        raw,
        _SCOPES.get(raw, (take.UNKNOWN, take.UNKNOWN)),
        reads=take.bit(rights, "reading"),
        writes=take.bit(rights, "writing"),
    )


ADAPTERS: Final = (
    Bitfinex(
        "bitfinex",
        method="privatePostAuthRPermissions",
        names={name: writing for name, (_, writing) in _SCOPES.items()},
        codes=_CODES,
        version=2,
        hints={
            "10100": "; it says so of a wrong key, and nobody documents of what else",
            "10114": "; or somebody who uses the same key has just sent a greater number",
        },
        disturbs_trading=True,
    ),
)
