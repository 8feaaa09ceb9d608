"""
Every other exchange: one signed call that only reads says whether a key is valid, no more.

For some of them ccxt's method and the shape of its answer are known; any other is asked for its
balance, for which ccxt loads the markets first: several requests, of which only a signed one
proves anything.  What a key may do is not knowable.

An exchange that knows its users by a wallet tells anybody's balance: there an answer proves
nothing, and it is not asked.  Nor is one that first opens a session, which the trader may hold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.model.key_facts import Environment, KeyFacts, Status

_SIGNS_WITH: Final = frozenset({"apiKey", "secret"})
_SESSIONS: Final = frozenset({"bullish", "coinbaseinternational", "ndax"})
_WALLETS: Final = frozenset({"privateKey", "walletAddress"})

_CODES: Final[Mapping[str, Mapping[str, Status]]] = {
    "mexc": {
        "602": Status.REJECTED,
        "700001": Status.REJECTED,
        "700002": Status.REJECTED,
        "10072": Status.REJECTED,
        "700006": Status.IP_REFUSED,
        "700007": Status.DENIED,
        "701": Status.DENIED,
        "702": Status.DENIED,
        "703": Status.DENIED,
        "704": Status.DENIED,
        "700003": Status.CLOCK,
        "10073": Status.CLOCK,
        "429": Status.RATE_LIMITED,
        "510": Status.RATE_LIMITED,
    },
    "bingx": {
        "100001": Status.REJECTED,
        "100413": Status.REJECTED,
        "100419": Status.IP_REFUSED,
        "100004": Status.DENIED,
        "100421": Status.CLOCK,
        "429": Status.RATE_LIMITED,
    },
    "cryptocom": {
        "40101": Status.REJECTED,
        "40103": Status.IP_REFUSED,
        "10002": Status.DENIED,
        "10003": Status.DENIED,
        "10005": Status.DENIED,
        "40102": Status.CLOCK,
        "10007": Status.CLOCK,
        "42901": Status.RATE_LIMITED,
    },
    "phemex": {
        # Words: the code is the same for all of them, and says nothing alone.
        "Api key not found": Status.REJECTED,
        "signature verification failed": Status.REJECTED,
        "Request IP mismatch": Status.IP_REFUSED,
        "Insufficient privilege": Status.DENIED,
        "401": Status.INDETERMINATE,
        "39995": Status.RATE_LIMITED,
    },
    "krakenfutures": {
        "authenticationError": Status.REJECTED,
        "nonceBelowThreshold": Status.CLOCK,
        "nonceDuplicate": Status.CLOCK,
        "apiLimitExceeded": Status.RATE_LIMITED,
        "Unavailable": Status.UNREACHABLE,
        "unavailable": Status.UNREACHABLE,
    },
}


@dataclass(frozen=True, slots=True)
class _Known:
    """How an exchange is asked with one request, and what a good answer has and holds."""

    method: str
    holds: str
    says: tuple[str, str] | None


# Sources: mexcdevelop.github.io (spot account information), bingx-api.github.io (query assets),
# exchange-docs.crypto.com (private/user-balance), phemex-docs.github.io (spot wallets),
# docs.kraken.com (futures, get wallets); none of them takes a nonce that must grow.
_KNOWN: Final[Mapping[str, _Known]] = {
    "mexc": _Known("spotPrivateGetAccount", "balances", None),
    "bingx": _Known("spotV1PrivateGetAccountBalance", "data", ("code", "0")),
    "cryptocom": _Known("v1PrivatePostPrivateUserBalance", "result", ("code", "0")),
    "phemex": _Known("privateGetSpotWallets", "data", ("code", "0")),
    "krakenfutures": _Known("privateGetAccounts", "accounts", ("result", "success")),
}
_GOOD: Final = frozenset({"200", "200000"})


@dataclass(frozen=True, slots=True)
class SignedRead:
    """
    Asks one exchange of ccxt whether a key is valid.

    A full adapter that takes its place begins with a greater version, so that what this one learnt
    is forgotten.
    """

    ccxt_id: str
    version: int = 1

    @property
    def disturbs_trading(self) -> bool:
        """Unless it is known better: most exchanges do not say what they want of a nonce."""
        return self.ccxt_id not in _KNOWN

    @property
    def codes(self) -> Mapping[str, Status]:
        """Codes that ccxt's classes get wrong, where they are known."""
        return _CODES.get(self.ccxt_id, {})

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """
        Ask, and return what the last signed request was answered.

        Only what the exchange says to a signed request is about the key.  What ccxt makes of a
        balance does not matter: it may stumble over one that it does not understand.
        """
        del environment
        known = _KNOWN.get(self.ccxt_id)
        if known is not None:
            return (getattr(exchange, known.method)(),)
        watch = _Watch(exchange)
        try:
            exchange.fetch_balance()
        except Exception:
            if not watch.signed:
                if watch.told:
                    return (watch.told[-1],)
                exchange.last_http_response = None  # of a question that anybody may ask
            raise
        return tuple(watch.told[-1:])

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return facts of which none is known, for an answer that only a good signature gets."""
        del credentials, environment
        if len(answers) != 1:
            raise NotUnderstood("nothing that was answered had been signed")
        known = _KNOWN.get(self.ccxt_id)
        if known is not None:
            _documented(take.mapping(answers[0], "the answer"), known)
        else:
            _plausible(answers[0])
        return KeyFacts()


@dataclass(slots=True)
class _Watch:
    """Tells which requests of an exchange are signed, and keeps what those were answered."""

    exchange: Any
    signed: bool = False  # the request that is on its way
    told: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        exchange = self.exchange
        exchange.sign = self._sign(exchange.sign)
        exchange.check_required_credentials = self._checked(exchange.check_required_credentials)
        exchange.fetch = self._fetch(exchange.fetch)

    def _sign(self, sign: Callable[..., Any]) -> Callable[..., Any]:
        def signing(*args: Any, **kwargs: Any) -> Any:
            self.signed = False
            self.exchange.last_http_response = None  # it may end here, without a request
            request = sign(*args, **kwargs)
            # Two of them do not check what they sign with.
            self.signed = self.signed or self._carries_key(request)
            return request

        return signing

    def _checked(self, check: Callable[..., Any]) -> Callable[..., Any]:
        """ccxt checks the credentials where it is about to sign."""

        def checking(*args: Any, **kwargs: Any) -> Any:
            self.signed = True
            return check(*args, **kwargs)

        return checking

    def _fetch(self, fetch: Callable[..., Any]) -> Callable[..., Any]:
        def fetching(*args: Any, **kwargs: Any) -> Any:
            answer = fetch(*args, **kwargs)
            if self.signed:
                self.told.append(answer)
            self.signed = False
            return answer

        return fetching

    def _carries_key(self, request: Mapping[str, Any]) -> bool:
        key = self.exchange.apiKey
        return bool(key) and key in (request.get("headers") or {}).values()


def _documented(answer: Mapping[str, Any], known: _Known) -> None:
    if not isinstance(take.member(answer, known.holds), list | dict):
        raise NotUnderstood(f"{known.holds} holds nothing")
    if known.says is not None:
        field_, good = known.says
        if str(take.member(answer, field_)) != good:
            raise NotUnderstood(f"{field_} is not {good}")


def _plausible(answer: Any) -> None:
    """Refuse what is no answer, and errors of which ccxt has never heard."""
    if not isinstance(answer, list | dict) or not answer:
        raise NotUnderstood("the answer holds nothing")
    if isinstance(answer, dict):
        code = str(answer.get("code") or "0")
        failed = str(answer.get("success", True)).casefold() in {"false", "0"}
        wrong = answer.get("error") or answer.get("errors") or answer.get("status") == "error"
        if failed or wrong or (code.strip("0") and code not in _GOOD):
            raise NotUnderstood("the answer says that something is wrong")


def reader(ccxt_id: str, required: Sequence[str]) -> SignedRead | None:
    """
    Return who asks this exchange; None where an answer would prove nothing.

    *required* are the credentials that ccxt wants for it.
    """
    names = frozenset(required)
    if not names >= _SIGNS_WITH or names & _WALLETS or ccxt_id in _SESSIONS:
        return None
    return SignedRead(ccxt_id)
