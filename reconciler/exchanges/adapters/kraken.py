"""
Kraken (spot): `POST /0/private/GetApiKeyInfo`, for which a key needs no permission.

Documented at docs.kraken.com/api-reference/account-data/get-api-key-info.  Only the spot exchange:
futures are another one of ccxt, with other keys.  It has no test network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.model.key_facts import Access, Cap, Environment, Grant, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    "EAPI:Invalid key": Status.REJECTED,
    "EAPI:Invalid signature": Status.REJECTED,  # ccxt has no class for it
    "EAPI:Invalid nonce": Status.CLOCK,  # or the trader has just used a greater one
    "EAPI:Rate limit exceeded": Status.RATE_LIMITED,
    "EDatabase:Internal error": Status.UNREACHABLE,
    "EGeneral:Internal error": Status.UNREACHABLE,
    "EGeneral:Invalid arguments": Status.INDETERMINATE,
    # As this question needs no permission: a foreign address, or a second factor for the key.
    "EGeneral:Permission denied": Status.DENIED,
    "EGeneral:Temporary lockout": Status.RATE_LIMITED,
    "EGeneral:Too many requests": Status.RATE_LIMITED,
    "EService:Busy": Status.UNREACHABLE,
    "EService:Unavailable": Status.UNREACHABLE,
    "ESession:Invalid session": Status.INDETERMINATE,  # ccxt takes it for a wrong key
}

_ACCOUNT: Final = frozenset({Cap.ACCOUNT_READ})
_TRADE: Final = frozenset({Cap.SPOT, Cap.MARGIN})
_OTHER: Final = frozenset({Cap.OTHER})
_READS: Final[Mapping[str, frozenset[Cap]]] = {
    "query-funds": _ACCOUNT,
    "query-open-trades": _ACCOUNT,
    "query-closed-trades": _ACCOUNT,
    "query-ledger": _ACCOUNT,
    "create-ws-token": _ACCOUNT,  # streams show and do what the other permissions allow
    "export-data": _OTHER,
}
# Deposits and the addresses of withdrawals are under none of our names, so they are forbidden.
_WRITES: Final[Mapping[str, frozenset[Cap]]] = {
    "modify-trades": _TRADE,  # makes, changes and cancels orders
    "close-trades": _TRADE,
    "withdraw-funds": frozenset({Cap.WITHDRAW}),
    "earn-funds": frozenset({Cap.EARN}),
}
_CANCELS: Final = "close-trades"
_MAKES: Final = "modify-trades"


@dataclass(frozen=True, slots=True)
class Kraken:
    """Asks Kraken about a key; whether its account is a sub-account is not told."""

    ccxt_id: str = "kraken"
    version: int = 1
    disturbs_trading: bool = True

    @property
    def codes(self) -> Mapping[str, Status]:
        """The first text of `error`."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request, whose nonce is the time in milliseconds, as ccxt's always is."""
        del environment
        return (exchange.privatePostGetApiKeyInfo(),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; a key that Kraken knows is a live one, wherever it should belong."""
        del environment
        answer = take.only(answers)
        if take.listing(take.member(answer, "error"), "error"):
            raise NotUnderstood("there is an error")
        result = take.mapping(take.member(answer, "result"), "result")
        grants = _grants(take.listing(take.member(result, "permissions"), "permissions"))
        allowed = take.listing(take.member(result, "ipAllowlist"), "ipAllowlist")
        expires_at = _ends(result)
        return KeyFacts(
            grants=grants,
            ip=take.ip_rule(allowed),
            read_only=all(grant.access is Access.READ for grant in grants),
            created_at=take.seconds(result, "createdTime"),
            expires_at=expires_at,
            never_expires=expires_at is None,
            environment=Environment.LIVE,
            same_key=take.same_key(take.text(result, "apiKey"), credentials["apiKey"]),
        )


def _grants(listed: Sequence[Any]) -> tuple[Grant, ...]:
    raws = tuple(take.name(raw, "a permission") for raw in listed)
    return tuple(_grant(raw, makes=_MAKES in raws) for raw in raws)


def _grant(raw: str, *, makes: bool) -> Grant:
    if raw in _READS:
        return Grant(raw, _READS[raw], access=Access.READ)
    # Alone it only cancels: that is not the right to trade.
    caps = _OTHER if raw == _CANCELS and not makes else _WRITES.get(raw, _OTHER)
    return Grant(raw, caps, separable=len(caps) == 1)


def _ends(result: Mapping[str, Any]) -> datetime | None:
    """Return the end of a key's life; Kraken says 0 for none."""
    return take.seconds(result, "validUntil") if take.integer(result, "validUntil") else None


ADAPTER: Final = Kraken()
