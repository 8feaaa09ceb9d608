"""
Every other exchange: one signed call that only reads says whether a key is valid, no more.

Of some of them a file says ccxt's method and the shape of its answer; any other is asked for its
balance, for which ccxt loads the markets first: several requests, of which only a signed one
proves anything.  What a key may do is not knowable.

An exchange that knows its users by a wallet tells anybody's balance: there an answer proves
nothing, and it is not asked.  Nor is one that first opens a session, which the trader may hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Environment, KeyFacts

ADAPTERS: Final = ()
"""It speaks to exchanges that have no file of their own, or one that says how they are asked."""

_SIGNS_WITH: Final = frozenset({"apiKey", "secret"})
_SESSIONS: Final = frozenset({"bullish", "coinbaseinternational", "ndax"})
_WALLETS: Final = frozenset({"privateKey", "walletAddress"})

_GOOD: Final = frozenset({"200", "200000"})


@dataclass(frozen=True, kw_only=True)
class SignedRead(Adapter):
    """
    Asks one exchange of ccxt whether a key is valid.

    With a `method` a good answer `holds` that field, and `says` what it should in another one.
    Without, nobody knows what the exchange wants of a nonce: so asking may disturb the trader.
    A full adapter that takes its place begins with a greater version, so that what this one learnt
    is forgotten.
    """

    holds: str = ""
    says: tuple[str, str] | None = None
    disturbs_trading: bool = True

    def fetch(self, exchange: Any, environment: Environment, /) -> Sequence[Any]:
        """
        Ask, and return what the last signed request was answered.

        Only what the exchange says to a signed request is about the key.  What ccxt makes of a
        balance does not matter: it may stumble over one that it does not understand.
        """
        if self.method:
            return super().fetch(exchange, environment)
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

    def facts(self, answer: Any, _ours: Credentials, _environment: Environment, /) -> KeyFacts:
        """Return facts of which none is known, for an answer that only a good signature gets."""
        if not self.method:
            _plausible(answer)
            return KeyFacts()
        told = take.mapping(answer, "the answer")
        if not isinstance(take.member(told, self.holds), list | dict):
            raise take.NotUnderstood(f"{self.holds} holds nothing")
        if self.says is not None:
            key, good = self.says
            if str(take.member(told, key)) != good:
                raise take.NotUnderstood(f"{key} is not {good}")
        return KeyFacts()


class _Watch:
    """Tells which requests of an exchange are signed, and keeps what those were answered."""

    def __init__(self, exchange: Any) -> None:
        self.signed = False  # the request that is on its way
        self.told: list[Any] = []
        sign, check, fetch = exchange.sign, exchange.check_required_credentials, exchange.fetch

        def signing(*args: Any, **kwargs: Any) -> Any:
            self.signed = False
            exchange.last_http_response = None  # it may end here, without a request
            request = sign(*args, **kwargs)
            # Two of them do not check what they sign with.
            headers = request.get("headers") or {}
            self.signed |= bool(exchange.apiKey) and exchange.apiKey in headers.values()
            return request

        def checking(*args: Any, **kwargs: Any) -> Any:
            self.signed = True  # ccxt checks the credentials where it is about to sign
            return check(*args, **kwargs)

        def fetching(*args: Any, **kwargs: Any) -> Any:
            answer = fetch(*args, **kwargs)
            if self.signed:
                self.told.append(answer)
            self.signed = False
            return answer

        exchange.sign, exchange.check_required_credentials = signing, checking
        exchange.fetch = fetching


def _plausible(answer: Any) -> None:
    """Refuse what is no answer, and errors of which ccxt has never heard."""
    if not isinstance(answer, list | dict) or not answer:
        raise take.NotUnderstood("the answer holds nothing")
    if isinstance(answer, dict):
        code = str(answer.get("code") or "0")
        failed = str(answer.get("success", True)).casefold() in {"false", "0"}
        wrong = answer.get("error") or answer.get("errors") or answer.get("status") == "error"
        if failed or wrong or (code.strip("0") and code not in _GOOD):
            raise take.NotUnderstood("the answer says that something is wrong")


def reader(ccxt_id: str, required: Sequence[str]) -> SignedRead | None:
    """
    Return who asks this exchange; None where an answer would prove nothing.

    *required* are the credentials that ccxt wants for it.
    """
    names = frozenset(required)
    if not names >= _SIGNS_WITH or names & _WALLETS or ccxt_id in _SESSIONS:
        return None
    return SignedRead(ccxt_id)
