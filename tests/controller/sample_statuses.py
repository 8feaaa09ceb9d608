"""A status store with something in it, for tests of what is shown of it."""

from datetime import UTC, datetime

from reconciler.controller.status import ControllerStatus, Health, KeyStatus, ServerStatus, Sync
from reconciler.controller.status_store import Servers, StatusStore
from reconciler.model.key_audits import Light
from reconciler.model.key_policy import KeyFinding, Severity
from reconciler.model.observed import Robot
from reconciler.model.recorded import Brake, Debt, HeldBrake, Identity, Owed
from reconciler.model.target import Target

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLOCK = 5000.0  # the event loop's, at NOON


def braked(version: str, why: str = "harm", server: str = "") -> HeldBrake:
    """A brake over a whole version, or over one server that was harmed."""
    brake = Brake(version, server or "tokyo-1", why, "2026-11-22T11:00:00Z", "controller 1@test")
    target = Target(f"https://{server}.internal", "0")
    return HeldBrake(brake, Identity("u1", target, server) if server else None)


def calm(name: str = "tokyo-1", url: str = "https://tokyo-1.internal:8443") -> ServerStatus:
    """A server of which nobody has to think."""
    return ServerStatus(
        name,
        url,
        "0",
        sync=Sync.SYNCED,
        health=Health.HEALTHY,
        version="0.6.1",
        robots=(Robot(1, "grid-btc", "bybit", running=True),),
        connected=True,
        seen_at="2026-11-22T11:59:30+00:00",
        last_pass="2026-11-22T11:59:30+00:00",
        last_success="2026-11-22T11:59:30+00:00",
        next_pass="2026-11-22T12:00:30+00:00",
        secret_ages={"bybit": 86400.0},
        keys={"bybit": KeyStatus(Light.OK, (), "2026-11-22T09:00:00+00:00")},
        outgoing=("203.0.113.10",),
    )


def busy(name: str = "osaka-2") -> ServerStatus:
    """A server with all that can be wrong."""
    robot = Robot(7, "arb", "okx", running=False)
    return ServerStatus(
        name,
        f"https://{name}.internal:8443",
        "0",
        owner="desk-asia",
        labels={"env": "prod"},
        sync=Sync.OUT_OF_SYNC,
        health=Health.DEGRADED,
        reason="somebody keeps changing okx back",
        changes=2,
        drifting=("okx",),
        contested=("okx",),
        blocked=3,
        debts=(
            Debt(Owed.REBOOT, "okx", "2026-11-22T09:00:00+00:00", 5),
            Debt(Owed.RESTART, "okx", "2026-11-22T09:00:00+00:00", 5, 7, "arb"),
            Debt(Owed.RESTART, "okx", "2026-11-22T09:00:00+00:00", 5, 8, "grid"),
        ),
        in_doubt=1,
        owed_robots=(robot,),
        deferred=("reboot: scheduled, at 12:30",),
        stopped_robots=(robot,),
        robots=(robot,),
        suspended="exchange maintenance",
        suspended_by="ann",
        suspended_until="2026-11-22T15:00:00Z",
        window_open=False,
        window="opens at 18:00",
        seen_at="2026-11-22T11:00:00+00:00",
        last_pass="2026-11-22T11:59:00+00:00",
        failures=4,
        keys={
            "okx": KeyStatus(
                Light.BLOCKED,
                (
                    KeyFinding(
                        "PERM_WITHDRAW", Severity.CRITICAL, "it may withdraw funds", "take it"
                    ),
                    KeyFinding(
                        "KEY_OLD", Severity.WARNING, "it is 100 days old", accepted="tomorrow"
                    ),
                    KeyFinding("PERM_COARSE", Severity.INFO, "trade is one right"),
                ),
                "2026-11-22T09:00:00+00:00",
                "2026-12-01T00:00:00+00:00",
            )
        },
    )


def status_store(*servers: ServerStatus, **controller: object) -> StatusStore:
    """The statuses of a controller that acts and is ready, with these servers."""
    made = StatusStore(
        ControllerStatus(
            "1.2.3",
            "controller 1@host",
            "2026-11-22T10:00:00+00:00",
            acting=True,
            revision="0123456789abcdef",
        ),
        Servers({server.server: server for server in servers}),
        tick=CLOCK,
        last_pass=CLOCK - 30,
        ready=True,
    )
    made.note(**controller)
    return made
