"""
Deribit: `GET /public/auth`, which tells the scopes of a key when it logs in.

Documented at docs.deribit.com (authentication, access scope).  The list of API keys would tell
more, but needs a second factor and shows secrets: it is never asked for.  So addresses, age and end
of a key are not told.  The request is signed, so that the secret stands in no address
(`client_signature`); the answer holds two tokens all the same, which never leave `fetch`.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, Grant, KeyFacts, Status

# ccxt takes several codes for a wrong key that are about people, second factors or tokens.
_CODES: Final[Mapping[str, Status]] = {
    **dict.fromkeys(("9999", "11042", "13021"), Status.DENIED),
    **dict.fromkeys(("10028", "10047", "12998"), Status.RATE_LIMITED),
    **dict.fromkeys(("10040", "10041", "11051", "11094", "13025"), Status.UNREACHABLE),
    "10000": Status.INDETERMINATE,  # the signature got lost
    "12003": Status.RATE_LIMITED,  # failed logins
    "12005": Status.INDETERMINATE,  # country, possibly by the address
    "13002": Status.INDETERMINATE,  # the account is blocked
    "13004": Status.REJECTED,
    "13009": Status.INDETERMINATE,  # of a token
    **dict.fromkeys(("12000", "12004", "12999", "13000", "13001"), Status.INDETERMINATE),
    **dict.fromkeys(("13003", "13005", "13006", "13007"), Status.INDETERMINATE),
}

_ACCOUNT: Final = frozenset({Cap.ACCOUNT_READ})
_TRADE: Final = frozenset({Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.OPTION})
_CUSTODY: Final = frozenset({Cap.CUSTODY})
# What reading and what writing in a scope amounts to.
_SCOPES: Final = {
    "account": (_ACCOUNT, frozenset({Cap.SUBACCOUNT})),  # and API keys, with a second factor
    "trade": (_TRADE, _TRADE),
    "wallet": (_ACCOUNT, frozenset({Cap.WITHDRAW, Cap.TRANSFER})),
    "custody": (_CUSTODY, _CUSTODY),
}
_MAIN: Final = "mainaccount"
_OF_THE_TOKEN: Final = frozenset({"connection", "session", "expires", "ip", _MAIN})


class Deribit(Adapter):
    """The live and the test network know their own keys only; the answer does not repeat a key."""

    def fetch(self, exchange: Any, _environment: Environment, /) -> Sequence[Any]:
        """Ask with one request, and keep of its answer what is no token."""
        at, once = exchange.nonce(), secrets.token_hex(8)
        signed = hmac.new(exchange.secret.encode(), f"{at}\n{once}\n".encode(), hashlib.sha256)
        answer = exchange.publicGetAuth(
            {
                "grant_type": "client_signature",
                "client_id": exchange.apiKey,
                "timestamp": at,
                "nonce": once,
                "data": "",
                "signature": signed.hexdigest(),
            }
        )
        return (_without_tokens(answer),)

    def facts(self, answer: Any, _ours: Credentials, environment: Environment, /) -> KeyFacts:
        told = take.mapping(answer, "the answer")
        words = take.text(take.record(told, "result"), "scope").split()
        grants = tuple(grant for word in words for grant in _grants(word))
        if "testnet" in told:
            environment = Environment.TEST if take.flag(told, "testnet") else Environment.LIVE
        return KeyFacts(
            grants=grants,
            read_only=take.only_reads(grants),
            environment=environment,
            master=_MAIN in words,
            traits=take.lacking(told, ("testnet",)),
        )


def _without_tokens(answer: Any) -> Any:
    """Return what `facts` reads of an answer; one of another shape as none at all."""
    if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
        return None
    kept = {key: answer[key] for key in ("testnet",) if key in answer}
    scope = {key: value for key, value in answer["result"].items() if key == "scope"}
    return {**kept, "result": scope}


def _grants(word: str) -> Iterator[Grant]:
    name, _, access = word.partition(":")
    if name in _OF_THE_TOKEN or access == "none":
        return
    caps = _SCOPES.get(take.name(name, "a scope"), (take.UNKNOWN, take.UNKNOWN))
    raw = f"{name}:{take.name(access, 'an access')}" if access else name
    if access in {"read", "read_write"}:
        yield from take.scope(raw, caps, reads=True, writes=access == "read_write")
    else:  # a word that nobody knows may mean anything
        yield take.grant(raw, take.UNKNOWN)


_NAMES: Final = {
    **{f"{name}:read_write": writing for name, (_, writing) in _SCOPES.items()},
    "block_trade:read_write": take.UNKNOWN,
    "block_rfq:read_write": take.UNKNOWN,
}
ADAPTERS: Final = (Deribit("deribit", names=_NAMES, codes=_CODES, version=2),)
