"""
Deribit: `GET /public/auth`, which tells the scopes of a key when it logs in.

Documented at docs.deribit.com (authentication, access scope).  The list of API keys would tell
more, but needs a second factor and shows secrets: it is never asked for.  So addresses, age and end
of a key are not told.  The request carries the secret in its query, and the answer two tokens:
neither leaves `fetch`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials
from reconciler.model.key_facts import Access, Cap, Environment, Grant, KeyFacts, Status

# ccxt takes several codes for a wrong key that are about people, second factors or tokens.
_CODES: Final[Mapping[str, Status]] = {
    "9999": Status.DENIED,
    "10000": Status.INDETERMINATE,  # the signature got lost
    "10028": Status.RATE_LIMITED,
    "10040": Status.UNREACHABLE,
    "10041": Status.UNREACHABLE,  # settlement
    "10047": Status.RATE_LIMITED,
    "11042": Status.DENIED,
    "11051": Status.UNREACHABLE,  # maintenance
    "11094": Status.UNREACHABLE,
    "12000": Status.INDETERMINATE,
    "12003": Status.RATE_LIMITED,  # failed logins
    "12004": Status.INDETERMINATE,
    "12005": Status.INDETERMINATE,  # country, possibly by the address
    "12998": Status.RATE_LIMITED,
    "12999": Status.INDETERMINATE,
    "13000": Status.INDETERMINATE,
    "13001": Status.INDETERMINATE,
    "13002": Status.INDETERMINATE,  # the account is blocked
    "13003": Status.INDETERMINATE,
    "13004": Status.REJECTED,
    "13005": Status.INDETERMINATE,
    "13006": Status.INDETERMINATE,
    "13007": Status.INDETERMINATE,
    "13009": Status.INDETERMINATE,  # of a token
    "13021": Status.DENIED,
    "13025": Status.UNREACHABLE,  # switched off for a time
}

_ACCOUNT: Final = frozenset({Cap.ACCOUNT_READ})
_TRADE: Final = frozenset({Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.OPTION})
_CUSTODY: Final = frozenset({Cap.CUSTODY})
_OTHER: Final = frozenset({Cap.OTHER})
# What reading and what writing in a scope amounts to.
_SCOPES: Final[Mapping[str, tuple[frozenset[Cap], frozenset[Cap]]]] = {
    "account": (_ACCOUNT, frozenset({Cap.SUBACCOUNT})),  # and API keys, with a second factor
    "trade": (_TRADE, _TRADE),
    "wallet": (_ACCOUNT, frozenset({Cap.WITHDRAW, Cap.TRANSFER})),
    "custody": (_CUSTODY, _CUSTODY),
}
_MAIN: Final = "mainaccount"
_OF_THE_TOKEN: Final = frozenset({"connection", "session", "expires", "ip", _MAIN})


@dataclass(frozen=True, slots=True)
class Deribit:
    """Asks Deribit about a key, on the live or the test network: each knows its own keys only."""

    ccxt_id: str = "deribit"
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """`error.code` of the answer."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request, and keep of its answer what is no token."""
        del environment
        answer = exchange.publicGetAuth(
            {
                "grant_type": "client_credentials",
                "client_id": exchange.apiKey,
                "client_secret": exchange.secret,
            }
        )
        return (_without_tokens(answer),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; the answer does not repeat the key."""
        del credentials
        answer = take.only(answers)
        result = take.mapping(take.member(answer, "result"), "result")
        words = take.text(result, "scope").split()
        grants = tuple(grant for word in words for grant in _grants(word))
        if "testnet" in answer:
            environment = Environment.TEST if take.flag(answer, "testnet") else Environment.LIVE
        return KeyFacts(
            grants=grants,
            read_only=all(grant.access is Access.READ for grant in grants),
            environment=environment,
            master=_MAIN in words,
        )


def _without_tokens(answer: Any) -> Any:
    """Return what `parse` reads of an answer; one of another shape as none at all."""
    if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
        return None
    kept = {key: answer[key] for key in ("testnet",) if key in answer}
    scope = {key: value for key, value in answer["result"].items() if key == "scope"}
    return {**kept, "result": scope}


def _grants(word: str) -> Iterator[Grant]:
    """Yield what a key may do by one word: reading apart where it amounts to something else."""
    scope, _, access = word.partition(":")
    if scope in _OF_THE_TOKEN or access == "none":
        return
    reading, writing = _SCOPES.get(take.name(scope, "a scope"), (_OTHER, _OTHER))
    raw = f"{scope}:{take.name(access, 'an access')}" if access else scope
    writes = access != "read"  # a word that nobody knows may mean anything
    if writes:
        writing = writing if access == "read_write" else _OTHER
        yield Grant(raw, writing, separable=len(writing) == 1)
    if access == "read" or (access == "read_write" and reading != writing):
        yield Grant(raw, reading, access=Access.READ, separable=len(reading) == 1)


ADAPTER: Final = Deribit()
