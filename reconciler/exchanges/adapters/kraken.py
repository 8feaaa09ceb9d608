"""
Kraken (spot): `POST /0/private/GetApiKeyInfo`, for which a key needs no permission.

Documented at docs.kraken.com/api-reference/account-data/get-api-key-info.  Only the spot exchange:
futures are another one of ccxt, with other keys.  It has no test network.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges import shapes
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, Grant, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    "EAPI:Rate limit exceeded": Status.RATE_LIMITED,
    "EGeneral:Temporary lockout": Status.RATE_LIMITED,
    "EGeneral:Too many requests": Status.RATE_LIMITED,
    **dict.fromkeys(("EDatabase:Internal error", "EGeneral:Internal error"), Status.UNREACHABLE),
    **dict.fromkeys(("EService:Busy", "EService:Unavailable"), Status.UNREACHABLE),
    "EAPI:Invalid key": Status.REJECTED,
    "EAPI:Invalid signature": Status.REJECTED,  # ccxt has no class for it
    "EAPI:Invalid nonce": Status.CLOCK,  # or the trader has just used a greater one
    "EGeneral:Invalid arguments": Status.INDETERMINATE,
    # As this question needs no permission: a foreign address, or a second factor for the key.
    "EGeneral:Permission denied": Status.DENIED,
    "ESession:Invalid session": Status.INDETERMINATE,  # ccxt takes it for a wrong key
}

_CODE: Final = re.compile(r"E[A-Z][A-Za-z]{1,12}:[A-Z][a-z]{1,16}(?: [a-z]{1,16}){0,4}")

_TRADE: Final = frozenset({Cap.SPOT, Cap.MARGIN})
_READS: Final = {
    "query-funds": {Cap.ACCOUNT_READ},
    "query-open-trades": {Cap.ACCOUNT_READ},
    "query-closed-trades": {Cap.ACCOUNT_READ},
    "query-ledger": {Cap.ACCOUNT_READ},
    # Streams show and do what the other permissions allow.
    "create-ws-token": {Cap.ACCOUNT_READ},
    "export-data": take.UNKNOWN,
}
_CANCELS: Final = "close-trades"
_MAKES: Final = "modify-trades"
_CAPS: Final = {
    **_READS,
    _MAKES: _TRADE,  # makes, changes and cancels orders
    "add-funds": take.UNKNOWN,  # deposits
    "withdraw-funds": {Cap.WITHDRAW},
    # Whoever makes an address for withdrawals is half way there.
    "add-withdraw-address": {Cap.WITHDRAW},
    "update-withdraw-address": {Cap.WITHDRAW},
    "future-transfer-funds": {Cap.TRANSFER},
    "earn-funds": {Cap.EARN},
}


class Kraken(Adapter):
    """
    Whether a key's account is a sub-account is not told; a key that is known is a live one.

    The nonce of a request is the time in milliseconds, as ccxt's always is.
    """

    def facts(self, answer: Any, ours: Credentials, _environment: Environment, /) -> KeyFacts:
        told = take.mapping(answer, "the answer")
        if take.entries(told, "error"):
            raise take.NotUnderstood("there is an error")
        result = take.record(told, "result")
        grants = _grants(take.entries(result, "permissions"))
        expires_at = _ends(result)
        return KeyFacts(
            grants=grants,
            ip=take.ip_rule(take.entries(result, "ipAllowlist")),
            read_only=take.only_reads(grants),
            created_at=take.seconds(result, "createdTime"),
            expires_at=expires_at,
            never_expires=expires_at is None,
            environment=Environment.LIVE,
            same_key=take.same_key(take.text(result, "apiKey"), ours["apiKey"]),
        )

    def malformed(self, ours: Credentials, /) -> str:
        return super().malformed(ours) or shapes.not_base64(ours, "secret")

    def raw_code(self, answer: Any) -> str:
        errors = answer.get("error") if isinstance(answer, dict) else None
        first = errors[0] if isinstance(errors, list) and errors else None
        return first if isinstance(first, str) and _CODE.fullmatch(first) else ""


def _grants(listed: Sequence[Any]) -> tuple[Grant, ...]:
    raws = [take.name(raw, "a permission") for raw in listed]
    # Alone it only cancels: that is not the right to trade.
    cancels = _TRADE if _MAKES in raws else take.UNKNOWN
    return take.grants(raws, {**_CAPS, _CANCELS: cancels}, reads=_READS)


def _ends(result: Mapping[str, Any]) -> datetime | None:
    """Return the end of a key's life; Kraken says 0 for none."""
    return take.seconds(result, "validUntil") if take.integer(result, "validUntil") else None


_NONCE: Final = "; or somebody who uses the same key has just sent a greater number"
ADAPTERS: Final = (
    Kraken(
        "kraken",
        method="privatePostGetApiKeyInfo",
        names={**_CAPS, _CANCELS: _TRADE},
        codes=_CODES,
        version=2,
        hints={"EAPI:Invalid nonce": _NONCE},
        disturbs_trading=True,
    ),
)
