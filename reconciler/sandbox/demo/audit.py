"""
The part of `jtr demo` about the audit: the exchange is asked what a key may do before it is used.

The exchanges count their requests, too: a pass in which nothing changed asks none of them.
"""

from collections.abc import Callable
from typing import Final

from reconciler.sandbox.demo.steps import APPLY, PLAN, Hands, Step
from reconciler.sandbox.exchanges.server import EXPIRED, GOOD, UNBOUND, WITHDRAWS, Traits
from reconciler.sandbox.playground import DECLARED, DOCUMENTS

_AUDIT: Final = ("audit", DOCUMENTS)
_SECURITY: Final = "security: {ipWhitelist: [127.0.0.1], permissions: {require: [spot, perpetual]}}"
_CHANGED: Final = frozenset({("~", "bybit")})
_GOOD: Final = (
    r"^✓ tokyo-1/bybit +ok +delivery, perpetual, spot +127\.0\.0\.1 +never ",
    r"^~ tokyo-1/gateio +attention (.|\n)*MASTER_KEY(.|\n)*^✓ tokyo-1/okx +ok ",
    "^3 keys: 2 ok, 1 attention, 0 blocked$",
)


def audit_steps(hands: Hands) -> tuple[Step, ...]:
    """Return the steps from a first audit to a key that may be used."""
    return (*_audited(hands), *_stopped(hands), *_mended(hands))


def _audited(hands: Hands) -> tuple[Step, ...]:
    return (
        Step(
            "`security` declared; audit",
            _AUDIT,
            "no key is blocked, one belongs to a main account",
            prepare=lambda: hands.ground.declare(*DECLARED, more=(_SECURITY,)),
            says=_GOOD,
            connections=0,
            calls=len(DECLARED),
        ),
        Step("apply", APPLY, "no action, so no exchange is asked", says=("^Nothing to do",)),
    )


def _stopped(hands: Hands) -> tuple[Step, ...]:
    return (
        Step(
            "bybit rotated, and the new key may withdraw; apply",
            APPLY,
            "stopped before it reaches the server",
            prepare=_rotated(hands, WITHDRAWS),
            code=4,
            planned=_CHANGED,
            says=("the audit stops it: PERM_WITHDRAW: it may withdraw funds",),
            calls=1,
        ),
        Step(
            "rotated to one that has expired; plan --audit",
            (*PLAN, "--audit"),
            "shown beforehand",
            prepare=_rotated(hands, EXPIRED),
            code=4,
            planned=_CHANGED,
            says=("^! tokyo-1/bybit +blocked +rejected ", "critical KEY_REJECTED: .* has expired"),
            calls=1,  # of the two others it is remembered
        ),
        Step(
            "rotated to one that is bound to no address; apply",
            APPLY,
            "stopped",
            prepare=_rotated(hands, UNBOUND),
            code=4,
            planned=_CHANGED,
            says=("the audit stops it: IP_UNBOUND: ",),
            calls=1,
        ),
    )


def _mended(hands: Hands) -> tuple[Step, ...]:
    return (
        Step(
            "bound to the server's address at the exchange; audit --fresh",
            (*_AUDIT, "--fresh"),
            "asked anew: good",
            prepare=lambda: hands.ground.change("bybit", GOOD),
            says=_GOOD,
            connections=0,
            calls=len(DECLARED),
        ),
        Step(
            "apply",
            APPLY,
            "1 done; that answer is young enough",
            planned=_CHANGED,
            stores=("bybit",),
        ),
    )


def _rotated(hands: Hands, traits: Traits) -> Callable[[], None]:
    def rotate() -> None:
        hands.ground.rotate("bybit", traits)

    return rotate
