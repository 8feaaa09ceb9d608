"""
Coinbase: `GET /api/v3/brokerage/key_permissions`, for keys of its developer platform.

Documented at docs.cdp.coinbase.com (get-api-key-permissions).  Such a key has a name and, as its
secret, a private key (EC in PEM, or Ed25519), with which every request is signed.  It has no test
network with keys of its own.
"""

from collections.abc import Mapping
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges import shapes
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, KeyFacts, Status

# The first is the whole answer: one word, no JSON.
_AMBIGUOUS: Final = ("Unauthorized", "unauthorized", "authentication_error")
_CODES: Final[Mapping[str, Status]] = {
    **dict.fromkeys(("invalid_token", "revoked_token", "expired_token"), Status.REJECTED),
    # Of a foreign address and of a wrong clock as well: Coinbase does not tell them apart.
    **dict.fromkeys(_AMBIGUOUS, Status.INDETERMINATE),
    **dict.fromkeys(("identity_verification_required", "unverified_email"), Status.INDETERMINATE),
    **dict.fromkeys(("rate_limit_exceeded", "resource_exhausted"), Status.RATE_LIMITED),
    "request timestamp expired": Status.CLOCK,  # words, and the code is an ambiguous one
    "PERMISSION_DENIED": Status.DENIED,
    "invalid_scope": Status.DENIED,  # ccxt takes it for a wrong key
    "personal_details_required": Status.INDETERMINATE,  # so does it these, which the owner owes
    "internal_server_error": Status.UNREACHABLE,
}

_CAPS: Final = {
    "can_view": {Cap.ACCOUNT_READ},
    "can_trade": {Cap.SPOT, Cap.PERPETUAL},
    "can_transfer": {Cap.TRANSFER, Cap.WITHDRAW},
}


class Coinbase(Adapter):
    """Neither a key's addresses nor its age nor its end are told; what is known is a live one."""

    def malformed(self, ours: Credentials, /) -> str:
        """Say so also of what is neither a key in PEM nor an Ed25519 one, with or without seed."""
        wrong = super().malformed(ours)
        if wrong or ours["secret"].startswith("-----BEGIN "):
            return wrong
        return shapes.not_base64(ours, "secret", sizes=(32, 64))

    def facts(self, answer: Any, _ours: Credentials, _environment: Environment, /) -> KeyFacts:
        told = take.mapping(answer, "the answer")
        on = take.switched_on(told, _CAPS, like=("can_",))
        grants = take.grants(on, _CAPS, reads=("can_view",))
        return KeyFacts(
            grants=grants, read_only=take.only_reads(grants), environment=Environment.LIVE
        )


ADAPTERS: Final = (
    Coinbase(
        "coinbase",
        method="v3PrivateGetBrokerageKeyPermissions",
        names=_CAPS,
        codes=_CODES,
        version=2,
        in_words=True,
        hints=dict.fromkeys(
            _AMBIGUOUS, "; it says so of a wrong key, a foreign address and a wrong clock alike"
        ),
        also_called=("coinbaseadvanced",),
    ),
)
