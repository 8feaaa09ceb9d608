"""
HTX: `GET /v2/user/uid`, then `GET /v2/user/api-key` for that user and our key.

Documented at htx.com (newApiPages, sub-user management); words of errors as its own SDKs print
them.  The second question is one of parent users.  A sub-user's key may get no answer to it: then
the first one has proven that the key is valid, and nothing else is knowable.  No test network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.model.key_facts import Access, Cap, Environment, Grant, KeyFacts, Status

_OK: Final = 200
_NEVER: Final = -1
_NORMAL: Final = "normal"
_CODES: Final[Mapping[str, Status]] = {
    # Words before the code that they explain, which is the same for all of them.
    "Incorrect IP address": Status.IP_REFUSED,
    "API key has no permission": Status.DENIED,
    "Invalid submission time": Status.CLOCK,
    "Incorrect Access key": Status.REJECTED,
    "Verification failure": Status.REJECTED,
    "api-signature-not-valid": Status.REJECTED,
    "api-signature-check-failed": Status.REJECTED,
    "base-request-exceed-frequency-limit": Status.RATE_LIMITED,
    "rate-too-many-requests": Status.RATE_LIMITED,
    "gateway-internal-error": Status.UNREACHABLE,
    "system-maintenance": Status.UNREACHABLE,
    # ccxt raises nothing for any of these but 1003.
    "429": Status.RATE_LIMITED,
    "500": Status.UNREACHABLE,
    "1002": Status.INDETERMINATE,  # said of permissions and of addresses alike
    "1003": Status.REJECTED,
    "2002": Status.INDETERMINATE,
}
_TROUBLE: Final = frozenset({429, 500})  # says nothing of what a key may ask

_CAPS: Final[Mapping[str, frozenset[Cap]]] = {
    "readOnly": frozenset({Cap.ACCOUNT_READ}),
    "trade": frozenset({Cap.SPOT, Cap.MARGIN, Cap.PERPETUAL, Cap.DELIVERY, Cap.TRANSFER}),
    "withdraw": frozenset({Cap.WITHDRAW}),
}
_UNKNOWN: Final = frozenset({Cap.OTHER})


@dataclass(frozen=True, slots=True)
class Htx:
    """Asks HTX about a key; whether it is a sub-user's is not told."""

    ccxt_id: str = "htx"
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """Words of `err-msg`, then `err-code`; `code` of the second version."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """
        Ask with two requests, the second of which needs the user's number.

        Whoever was refused the first is not asked the second: the error is that of the last one.
        Our time goes with the answers, for HTX tells how many days are left.
        """
        del environment
        user = exchange.v2PrivateGetUserUid()
        if not _good(user):
            return ({"user": user},)
        key = {"uid": take.integer(user, "data"), "accessKey": exchange.apiKey}
        told = exchange.v2PrivateGetUserApiKey(key)
        return ({"user": user, "key": told, "at": exchange.milliseconds()},)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; a key that HTX knows is a live one, wherever it should belong."""
        del environment
        both = take.only(answers)
        user = take.member(both, "user")
        if not _good(user):
            raise NotUnderstood("the user's number was not told")
        take.integer(user, "data")
        told = take.mapping(take.member(both, "key"), "the answer")
        at = take.milliseconds(both, "at")
        if take.integer(told, "code") in _TROUBLE or at is None:
            raise NotUnderstood("the key was not told")
        if not _good(told):
            return KeyFacts(environment=Environment.LIVE)
        return _facts(take.listing(take.member(told, "data"), "data"), credentials["apiKey"], at)


def _good(answer: Any) -> bool:
    return take.integer(take.mapping(answer, "the answer"), "code") == _OK


def _facts(records: Sequence[Any], ours: str, at: datetime) -> KeyFacts:
    """Return what HTX says of our key; *at* is when it said so."""
    keys = [take.mapping(record, "a key") for record in records]
    if not keys:
        raise NotUnderstood("there is no key")
    found = next((key for key in keys if take.same_key(take.text(key, "accessKey"), ours)), keys[0])
    grants = tuple(_grant(raw) for raw in take.names(found, "permission"))
    left = take.integer(found, "validDays")
    state = take.name(take.member(found, "status"), "status")
    return KeyFacts(
        grants=grants,
        ip=take.addresses(found, "ipAddresses"),
        read_only=all(grant.access is Access.READ for grant in grants),
        created_at=take.milliseconds(found, "createTime"),
        expires_at=None if left == _NEVER else take.later(at, days=left),
        never_expires=left == _NEVER,
        environment=Environment.LIVE,
        same_key=take.same_key(take.text(found, "accessKey"), ours),
        frozen="" if state == _NORMAL else state,
    )


def _grant(raw: str) -> Grant:
    caps = _CAPS.get(raw, _UNKNOWN)
    access = Access.READ if raw == "readOnly" else Access.WRITE
    return Grant(raw, caps, access=access, separable=len(caps) == 1)


ADAPTER: Final = Htx()
