"""
What Vault says of itself to anybody: whether it is there, sealed, how old, what time it has.

Asked without a token, so that a wrong login does not hide it.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.errors import SecretsUnreachable
from reconciler.model.values import replace
from reconciler.secrets.vault.client import VaultSession
from reconciler.system.timeouts import Timeouts

_PATH: Final = "/v1/sys/health"
# Every state is an answer to us, and not a reason to try again.
_PARAMS: Final = {
    "standbyok": "true",
    "perfstandbyok": "true",
    "sealedcode": "200",
    "uninitcode": "200",
    "drsecondarycode": "200",
}
_CUT: Final = 0.5  # seconds; `Date` has whole ones and is cut, half a second on average
_ATTEMPTS: Final = 2


class Health(Struct, frozen=True):
    """
    The state of a Vault; `ahead` are the seconds by which its clock is ahead of ours.

    None where it tells no time; `uncertainty` is how far off that may be.
    """

    version: str
    sealed: bool
    initialised: bool
    ahead: float | None
    uncertainty: float


async def health(
    address: str, *, ca_file: str | None, timeouts: Timeouts, now: Callable[[], datetime]
) -> Health:
    """
    Ask the Vault at *address*.

    Raises Blocked for an address over which a token must not travel, and SecretsError.
    """
    # The namespace is left out: the path exists only outside of all of them.
    session = VaultSession(
        address=address,
        namespace="",
        ca_file=ca_file,
        timeouts=replace(timeouts, secrets_total=timeouts.secrets_request),
    )
    try:
        asked = now()
        answer = await session.exchange(
            "GET", _PATH, token=None, params=_PARAMS, attempts=_ATTEMPTS
        )
        trip = (now() - asked).total_seconds()
    finally:
        await session.leave()
    sealed, version = answer.body.get("sealed"), answer.body.get("version")
    if not isinstance(sealed, bool):
        raise SecretsUnreachable(
            f"what answers at {session.address} does not tell its health (status {answer.status})",
            "check the address and what stands in front of it",
        )
    ahead = None
    if answer.clock is not None:
        ahead = (answer.clock - asked).total_seconds() + _CUT - trip / 2
    return Health(
        version=version[:50] if isinstance(version, str) else "",
        sealed=sealed,
        initialised=answer.body.get("initialized") is not False,
        ahead=ahead,
        uncertainty=_CUT + trip / 2,
    )
