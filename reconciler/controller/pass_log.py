"""
What a pass did, in the log and in the counters of the metrics.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from reconciler.controller import pass_result
from reconciler.controller.status import Health, ServerStatus
from reconciler.controller.status_store import StatusStore
from reconciler.model.actions import told
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Report, Result

LOG: Final = logging.getLogger("reconciler.controller")


def robots_stopped(status_store: StatusStore, name: str, robots: Iterable[Robot]) -> None:
    """Say which robots of the server *name* stopped without our asking."""
    for robot in robots:
        status_store.stops[name] += 1
        LOG.warning(
            "a robot stopped without our asking",
            extra={"fields": {"server": name, "robot": robot.id, "exchange": robot.exchange}},
        )


def drifted(name: str, before: Iterable[str], now: Iterable[str]) -> None:
    """Say which exchanges of the server *name* another hand changed, once until that changes."""
    if found := sorted({*now} - {*before}):
        fields = {"server": name, "exchanges": found}
        LOG.warning("drift: changed on the server by another hand", extra={"fields": fields})


def glanced(status_store: StatusStore, name: str, took: float) -> None:
    """Count a pass that saw that nothing moved; a fleet at rest writes no line a minute each."""
    _ended(status_store, "done", took)
    LOG.debug("pass unchanged", extra={"fields": {"server": name}})


def _ended(status_store: StatusStore, result: str, took: float) -> None:
    """Count a pass that came to an end after *took* seconds."""
    status_store.passes[result] += 1
    status_store.pass_seconds.add(took)
    status_store.last_pass = asyncio.get_running_loop().time()


def passed(
    status_store: StatusStore, report: Report, status: ServerStatus, result: str, took: float
) -> None:
    """Say and count what was done, and that the pass came to an end after *took* seconds."""
    name = status.server
    for outcome in report.outcomes:
        if outcome.result is Result.NOT_ATTEMPTED:
            continue
        status_store.applies[str(outcome.result)] += 1
        if kind := pass_result.stops(outcome):
            status_store.restarts[name, kind] += 1
        level = logging.WARNING if outcome.code else logging.INFO
        LOG.log(level, told(outcome.action), extra={"fields": pass_result.fields(name, outcome)})
    _ended(status_store, "failed" if result == "failed" else "done", took)
    fields = {
        "server": name,
        "sync": str(status.sync),
        "health": str(status.health),
        "reason": status.reason,
        "seconds": round(took, 3),
        "actions": sum(o.result is not Result.NOT_ATTEMPTED for o in report.outcomes),
    }
    bad = result == "failed" or status.health in (Health.DEGRADED, Health.UNREACHABLE)
    LOG.log(logging.WARNING if bad else logging.INFO, "pass %s", result, extra={"fields": fields})
