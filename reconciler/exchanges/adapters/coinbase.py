"""
Coinbase: `GET /api/v3/brokerage/key_permissions`, for keys of its developer platform.

Documented at docs.cdp.coinbase.com (get-api-key-permissions).  Such a key has a name and, as its
secret, a private key (EC in PEM, or Ed25519), with which every request is signed.  It has no test
network with keys of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials
from reconciler.model.key_facts import Access, Cap, Environment, Grant, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    "request timestamp expired": Status.CLOCK,  # words, and the code is that of a wrong key
    "Unauthorized": Status.REJECTED,  # the whole answer: one word, no JSON
    "unauthorized": Status.REJECTED,
    "authentication_error": Status.REJECTED,
    "invalid_token": Status.REJECTED,
    "revoked_token": Status.REJECTED,
    "expired_token": Status.REJECTED,
    "PERMISSION_DENIED": Status.DENIED,
    "invalid_scope": Status.DENIED,  # ccxt takes it for a wrong key
    "personal_details_required": Status.INDETERMINATE,  # so does it these, which the owner owes
    "identity_verification_required": Status.INDETERMINATE,
    "unverified_email": Status.INDETERMINATE,
    "rate_limit_exceeded": Status.RATE_LIMITED,
    "resource_exhausted": Status.RATE_LIMITED,
    "internal_server_error": Status.UNREACHABLE,
}

_GRANTS: Final = (
    Grant("can_view", frozenset({Cap.ACCOUNT_READ}), access=Access.READ),
    Grant("can_trade", frozenset({Cap.SPOT, Cap.PERPETUAL}), separable=False),
    Grant("can_transfer", frozenset({Cap.TRANSFER, Cap.WITHDRAW}), separable=False),
)


@dataclass(frozen=True, slots=True)
class Coinbase:
    """Asks Coinbase about a key; neither its addresses nor its age nor its end are told."""

    ccxt_id: str = "coinbase"
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """`error`, or the `id` of the first of `errors`, or words of its message."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request."""
        del environment
        return (exchange.v3PrivateGetBrokerageKeyPermissions(),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; a key that Coinbase knows is a live one, wherever it should belong."""
        del credentials, environment
        answer = take.only(answers)
        grants = tuple(grant for grant in _GRANTS if take.flag(answer, grant.raw))
        return KeyFacts(
            grants=grants,
            read_only=all(grant.access is Access.READ for grant in grants),
            environment=Environment.LIVE,
        )


ADAPTER: Final = Coinbase()
