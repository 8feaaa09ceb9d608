"""
The part of `jtr demo` about robots, reboots and invalidations: each once, whatever crashes.

A process is killed at the worst moment, and a request is lost on its way; the stand-in's own
count says that nothing was done twice.
"""

import signal
import time
from datetime import UTC, datetime
from typing import Final

from reconciler.sandbox.demo.steps import (
    APPLY,
    CACHE,
    CREDENTIALS,
    REBOOT,
    RESTART,
    RESTARTS,
    STARTS,
    THAT_INSTANT,
    Hands,
    Step,
)
from reconciler.sandbox.playground import DECLARED, DOCUMENTS, SERVER

_STOPPED_AND_STARTED: Final = (("stop", 1), ("start", 1), ("stop", 2), ("start", 2))
_STARTED: Final = (("start", 1), ("start", 2))
_INVALIDATE: Final = ("request", "invalidate-cache", SERVER, "--from", DOCUMENTS, "--reason")
_REBOOT: Final = (
    "request",
    "reboot",
    SERVER,
    "--from",
    DOCUMENTS,
    "--robots",
    "resume",
    "--reason",
)
_HELD: Final = "a restart does not suffice for arb: the server caches its client by API key"
_DOUBT: Final = r"\? invalidate-cache \S+Z  in doubt$"
_RESOLVE: Final = ("request", "resolve", SERVER, "invalidate-cache")


def request_steps(hands: Hands) -> tuple[Step, ...]:
    """Return the steps from a robot's restart to a request in doubt."""
    return (*_restarted(hands), *_asked(), *_killed(hands), *_lost(hands))


def _restarted(hands: Hands) -> tuple[Step, ...]:
    ground = hands.ground

    def allow() -> None:
        ground.declare(*DECLARED, more=(RESTART,))
        ground.rotate("bybit")

    def change() -> None:
        ground.rotate_secret("okx")

    return (
        Step(
            "bybit rotated, and robots may be restarted; apply",
            APPLY,
            "each robot restarted; both trade with their new keys",
            prepare=allow,
            planned=frozenset({("~", "bybit")}),
            says=(r"↻ restart robots on bybit  due$", r"↻ restart robots on okx  due$"),
            connections=1 + 2,  # a new one before every start
            sends=CREDENTIALS | RESTARTS,
            stores=("bybit",),
            did=_STOPPED_AND_STARTED,
            trades=frozenset({"bybit", "okx"}),
        ),
        Step(
            "okx: a new secret under the same API key; apply",
            APPLY,
            "written; arb is not restarted, it would not help",
            prepare=change,
            planned=frozenset({("~", "okx")}),
            says=(_HELD, f"jtr request reboot {SERVER} "),
            stores=("okx",),
            trades=frozenset({"bybit"}),
        ),
    )


def _asked() -> tuple[Step, ...]:
    return (
        Step(
            "ask for a reboot",
            (*_REBOOT, "new okx secret under the same API key"),
            "stands in the document",
            says=(r"^\+ +bootedAfter: ", "nothing is sent by this"),
            connections=0,
        ),
        Step(
            "and for an invalidation",
            (*_INVALIDATE, "stale strategy cache"),
            "likewise",
            says=(r"^\+ +invalidatedAfter: ",),
            connections=0,
        ),
        Step(
            "apply",
            APPLY,
            "in this order; arb trades with the new secret",
            says=(r"∅ invalidate-cache \S+Z  due$", r"⏻ reboot \S+Z  due$"),
            connections=1 + 1 + 2,
            sends=CACHE | REBOOT | STARTS,
            asked=2,
            did=(("invalidate",), ("reboot",), *_STARTED),
            trades=frozenset({"bybit", "okx"}),
        ),
        Step("apply again", APPLY, "no action", says=("^Nothing to do",)),
    )


def _killed(hands: Hands) -> tuple[Step, ...]:
    server = hands.ground.server
    before = 0

    def ask_later() -> None:
        nonlocal before
        _next_second()
        before = server.record.reboots

    def come_back() -> None:
        server.behaviour.reboot = "normal"
        server.come_back()

    def stay_away() -> None:
        # Or the command might be through before it can be killed.
        server.behaviour.reboot = "never comes back"

    return (
        Step(
            "ask for another reboot",
            (*_REBOOT, "kill -9 in the middle"),
            "stands in the document",
            prepare=ask_later,
            connections=0,
        ),
        Step(
            "apply, killed (-9) once the server went down",
            APPLY,
            "nobody noted what became of it",
            prepare=stay_away,
            kills=lambda: server.record.reboots > before,
            afterwards=come_back,
            code=-signal.SIGKILL,
            sends=REBOOT,
            asked=1,
            did=(("reboot",),),
            running=frozenset(),
            trades=frozenset(),
        ),
        Step(
            "apply again",
            APPLY,
            "its log proves the reboot: not repeated, robots started",
            says=("the server booted since: done", r"reboot \S+Z: done"),
            connections=1 + 2,
            sends=STARTS,
            did=_STARTED,
            trades=frozenset({"bybit", "okx"}),
        ),
    )


def _lost(hands: Hands) -> tuple[Step, ...]:
    ground = hands.ground
    behaviour = ground.server.behaviour

    def lose() -> None:
        behaviour.invalidate = "lost before effect"

    def work() -> None:
        behaviour.invalidate = "answer"

    return (
        Step(
            "ask for another invalidation",
            (*_INVALIDATE, "lost on its way"),
            "stands in the document",
            prepare=_next_second,
            connections=0,
        ),
        Step(
            "its request gets lost; apply",
            APPLY,
            "in doubt: nobody can know whether it was done",
            prepare=lose,
            afterwards=work,
            code=7,
            says=(r"invalidate-cache \S+Z: in doubt",),
            connections=1 + 1,
            sends=CACHE,
            asked=1,
        ),
        Step(
            "apply again",
            APPLY,
            "in doubt, not repeated",
            code=7,
            says=(_DOUBT, f"jtr request resolve {SERVER} invalidate-cache "),
        ),
        Step(
            "somebody looked; resolve it by hand",
            (
                *_RESOLVE,
                THAT_INSTANT,
                "--not-done",
                "--because",
                "what the robots stored is there",
            ),
            "noted; only a new request is done",
            says=("^noted: .* is NOT done$",),
            connections=0,
        ),
        Step(
            "what was done",
            ("history", SERVER),
            "2 reboots, 1 invalidation, 1 that was not done",
            says=(r"reboot \S+Z  done", r"invalidate-cache \S+Z  NOT done"),
            connections=0,
        ),
    )


def _next_second() -> None:
    """Wait for another second: an instant has nothing finer, and must be a later one."""
    time.sleep(1 - datetime.now(UTC).microsecond / 1e6)
