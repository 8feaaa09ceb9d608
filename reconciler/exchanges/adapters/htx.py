"""
HTX: `GET /v2/user/uid`, then `GET /v2/user/api-key` for that user and our key.

Documented at htx.com (newApiPages, sub-user management); words of errors as its own SDKs print
them.  The second question is one of parent users.  A sub-user's key may get no answer to it: then
the first one has proven that the key is valid, and nothing else is knowable.  No test network.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, KeyFacts, Status

_OK: Final = 200
_NEVER: Final = -1
_SOON: Final = "within a day, or never: it is said to be normal, with 0 days left"
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
    "1003": Status.INDETERMINATE,  # a wrong signature, and perhaps a wrong clock
    "2002": Status.INDETERMINATE,
}
_TROUBLE: Final = frozenset({429, 500})  # says nothing of what a key may ask

_CAPS: Final = {
    "readOnly": {Cap.ACCOUNT_READ},
    "trade": {Cap.SPOT, Cap.MARGIN, Cap.PERPETUAL, Cap.DELIVERY, Cap.TRANSFER},
    "withdraw": {Cap.WITHDRAW},
}


class Htx(Adapter):
    """Whether a key is a sub-user's is not told; one that is known is a live one."""

    def fetch(self, exchange: Any, _environment: Environment, /) -> Sequence[Any]:
        """
        Ask with two requests, the second of which needs the user's number.

        Whoever was refused the first is not asked the second: the error is that of the last one.
        Our time goes with the answers, for HTX tells how many days are left.
        """
        user = exchange.v2PrivateGetUserUid()
        if not _good(user):
            return ({"user": user},)
        key = {"uid": take.integer(user, "data"), "accessKey": exchange.apiKey}
        told = exchange.v2PrivateGetUserApiKey(key)
        return ({"user": user, "key": told, "at": exchange.milliseconds()},)

    def facts(self, answer: Any, ours: Credentials, _environment: Environment, /) -> KeyFacts:
        both = take.mapping(answer, "the answer")
        user = take.member(both, "user")
        if not _good(user):
            raise take.NotUnderstood("the user's number was not told")
        take.integer(user, "data")
        told = take.record(both, "key")
        at = take.milliseconds(both, "at")
        if take.integer(told, "code") in _TROUBLE or at is None:
            raise take.NotUnderstood("the key was not told")
        if not _good(told):
            return KeyFacts(environment=Environment.LIVE)
        return _facts(take.entries(told, "data"), ours["apiKey"], at)


def _good(answer: Any) -> bool:
    return take.integer(take.mapping(answer, "the answer"), "code") == _OK


def _facts(records: Sequence[Any], ours: str, at: datetime) -> KeyFacts:
    """Return what HTX says of our key; *at* is when it said so."""
    keys = [take.mapping(record, "a key") for record in records]
    if not keys:
        raise take.NotUnderstood("there is no key")
    found = next((key for key in keys if take.same_key(take.text(key, "accessKey"), ours)), keys[0])
    grants = take.grants(take.names(found, "permission"), _CAPS, reads=("readOnly",))
    left = take.integer(found, "validDays")
    state = take.name(take.member(found, "status"), "status")
    ended = state != _NORMAL
    if left < _NEVER:
        raise take.NotUnderstood("validDays is none that is documented")
    return KeyFacts(
        grants=grants,
        ip=take.addresses(found, "ipAddresses"),
        read_only=take.only_reads(grants),
        created_at=take.milliseconds(found, "createTime"),
        expires_at=take.later(at, days=max(left, 0)) if left > 0 or ended else None,
        never_expires=left == _NEVER and not ended,
        environment=Environment.LIVE,
        same_key=take.same_key(take.text(found, "accessKey"), ours),
        frozen=state if ended else "",
        # Of a key that is said to be normal nobody documents what no days left mean.
        traits={"lapses": _SOON} if left == 0 and not ended else {},
    )


ADAPTERS: Final = (
    Htx(
        "htx",
        names=_CAPS,
        codes=_CODES,
        version=2,
        in_words=True,
        hints={"1003": "; it says so of a wrong signature, and nobody documents of what else"},
        also_called=("huobi",),
    ),
)
