"""The status of the fleet: by a ledger, and by a controller."""

from collections.abc import Mapping
from typing import Any

from reconciler.controller.api.responses import status_document
from reconciler.controller.status import Health, ServerStatus, Sync
from reconciler.model.desired import RequestKind
from reconciler.model.observed import BootLine, Robot
from reconciler.model.recorded import (
    Attempt,
    Debt,
    Identity,
    Owed,
    PendingStarts,
    Recorded,
    Request,
    Requests,
    Stage,
)
from reconciler.model.target import Target
from reconciler.model.values import replace
from tests.controller.sample_statuses import CLOCK, NOON, calm, status_store
from tests.golden.cases import ONES, OTHER
from tests.golden.fleet_cases import GONE, NAMES, url
from tests.support import factories as f

SEEN = "2026-11-22T11:58:00.000+00:00"
DOUBT, OWED_A_START, UNFINISHED = "tokyo-50", "frankfurt-50", "london-9"
DRIFTED = [f"osaka-{n}" for n in (2, 3, 4, 9)]
OWING = [f"tokyo-{n}" for n in range(1, 17)]
OLD = ["singapore-7", "singapore-8", "singapore-9"]
ROBOT = Robot(1, "grid-btc", "bybit", running=True)


def target(name: str) -> Target:
    """Where a server is."""
    return Target(url(name), "0")


def _request() -> Request:
    asked = Attempt("n", "2026-11-22T09:01:00.000+00:00", "apply 812@ci-7", (), None)
    return Request(RequestKind.REBOOT, NOON, "quarterly", Stage.OPEN, (asked,))


def _halt() -> PendingStarts:
    at = "2026-11-22T09:02:00.000+00:00"
    return PendingStarts(
        "reboot 2026-11-22T09:00:00Z", (ROBOT,), at, "apply 9@ci", 600.0, boot=BootLine(1, 1)
    )


def recorded(name: str) -> Recorded:
    """What the ledger knows of one server."""
    at = SEEN if name not in OLD else "2026-11-19T11:58:00.000+00:00"
    shown = OTHER if name in DRIFTED else f.masks(1)
    seen = f.observed({"bybit": shown}, (ROBOT,), at=at)
    record = ONES
    if name in OWING:
        since = f"2026-11-22T09:{name.rpartition('-')[2].zfill(2)}:00.000+00:00"
        record = replace(record, debts=(Debt(Owed.RESTART, "bybit", since, 1_000, 1, "grid-btc"),))
    if name == UNFINISHED:
        record = replace(record, intent=f.write(2))
    requests = {DOUBT: Requests(open=_request()), OWED_A_START: Requests(halt=_halt())}
    return Recorded(
        Identity(f"uid-{name}", target(name), name),
        {"bybit": record},
        seen,
        requests=requests.get(name, Requests()),
    )


def ledger() -> list[tuple[Identity, Recorded]]:
    """Five hundred servers, and three that no document declares any more."""
    found = [recorded(name) for name in (*NAMES, *GONE)]
    return [(one.identity, one) for one in found if one.identity is not None]


def _served(name: str) -> ServerStatus:
    status = calm(name, url(name))
    if name == DOUBT:
        return replace(status, health=Health.DEGRADED, in_doubt=1, reason="a request is in doubt")
    if name == OWED_A_START:
        return replace(status, health=Health.DEGRADED, owed_robots=(ROBOT,))
    if name == UNFINISHED:
        return replace(
            status,
            sync=Sync.UNKNOWN,
            health=Health.UNREACHABLE,
            reason="nobody answers",
            failures=9,
        )
    if name in DRIFTED:
        return replace(status, sync=Sync.OUT_OF_SYNC, drifting=("okx",))
    if name in OWING:
        return replace(status, sync=Sync.OUT_OF_SYNC, changes=1, health=Health.PROGRESSING)
    return status


def served() -> Mapping[str, Any]:
    """What a controller serves."""
    return status_document(status_store(*map(_served, NAMES)), NOON, CLOCK)
