"""What a document may ask for only where the operator's policy says so, and what it must not."""

import enum
from collections.abc import Iterable

from msgspec import Struct


class PolicyAction(enum.StrEnum):
    """What rules allow or deny; see `policy.schema.json`."""

    WRITE = "write"
    DELETE = "delete"
    TAKE_OVER = "take-over"
    RESTART = "restart"
    REBOOT = "reboot"
    INVALIDATE = "invalidate"
    SELF_HEAL = "self-heal"
    SUSPEND = "suspend"


class Violation(Struct, frozen=True):
    """
    One thing that a document asks for and that the policy does not allow.

    Without an action it is that the server is contacted at all, or what it gets as its login.
    `rule` is what denies it, by number and name; empty when no rule allows it.
    """

    action: PolicyAction | None
    exchange: str
    what: str
    rule: str
    remedy: str


def against(
    violations: Iterable[Violation], action: PolicyAction | None, exchange: str = ""
) -> Violation | None:
    """Return the violation by *action*, None where there is none."""
    wanted = (action, exchange)
    return next((one for one in violations if (one.action, one.exchange) == wanted), None)
