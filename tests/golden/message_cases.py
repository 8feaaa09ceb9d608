"""Every kind of news as its own code makes it, and what is sent of it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from reconciler.controller.events import applied_news, controller_news, server_news
from reconciler.controller.status import ControllerStatus, Health, Refusal, ServerStatus, Sync
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Report
from reconciler.model.recorded import Debt, Owed
from reconciler.model.values import replace
from reconciler.notifications.deduplicate import Deduplicator, Message
from reconciler.notifications.events import News
from reconciler.notifications.queue import Delivery
from tests.controller.sample_statuses import braked, busy, calm
from tests.golden import cases as reports
from tests.support import factories as f

NIGHT = datetime(2026, 11, 22, 3, tzinfo=UTC)
BEGAN = NIGHT.timestamp()
GRID = Robot(1, "grid-btc", "bybit", running=False)
CONTROLLER = ControllerStatus("1.2.3", "controller 1@host", "then", acting=True)


def server(**changes: object) -> ServerStatus:
    return replace(calm(), owner="ann", **changes)  # type: ignore[arg-type]


SERVERS: dict[str, ServerStatus] = {
    "unreachable": server(
        health=Health.UNREACHABLE, sync=Sync.UNKNOWN, reason="it does not accept connections"
    ),
    "degraded": server(
        health=Health.DEGRADED,
        reason="okx: somebody else connected it with another key; apply --take-over tokyo-1/okx",
    ),
    "drift": server(drifting=("bybit", "okx"), sync=Sync.OUT_OF_SYNC),
    "contested": server(contested=("okx",)),
    "reboot-owed": server(debts=(Debt(Owed.REBOOT, "okx", "then", 5),)),
    "in-doubt": server(in_doubt=1),
    "robots": server(stopped_robots=(GRID,)),
    "suspended": server(suspended="exchange maintenance", suspended_by="ann"),
    "audit": server(keys=busy().keys),
}
CONTROLLERS = {
    "documents": {"documents": "tokyo-1.yaml:7:3: `spec.url` is missing; add it"},
    "documents-away": {
        "documents": "the repository cannot be fetched: nothing listens there; check git.url;"
        " 5c0f1d600000 stays in force",
        "refusal": Refusal.AWAY,
    },
    "documents-unsigned": {
        "documents": "commit 42f123200000: it is not signed; let a signer of git.verify sign the"
        " newest commit of the branch",
        "refusal": Refusal.UNSIGNED,
    },
    "documents-went-back": {
        "documents": "the branch went back or was rewritten: commit 42f123200000 does not come"
        " after 5c0f1d600000, which was in force; push a commit on top of that, or start the"
        " controller once with --allow-rollback",
        "refusal": Refusal.WENT_BACK,
    },
    "vault": {"secrets": "Vault is sealed; unseal it"},
    "brake": {"brakes": (braked("0.24.19", server="tokyo-1"), braked("0.24.19"))},
    "ledger": {"ledger": "the ledger cannot be written: the disk is full"},
    "clock": {"clock": "our own clock jumped by -7200 s"},
    "rival": {"rival": "controller 7@standby is the controller of this ledger since 01:00"},
}


def _done(reports: list[Report]) -> list[News]:
    desired = f.server(owner="ann")
    return list(applied_news(desired, reports[0], "2026-11-22T03:00:00+00:00"))


def _told(news: Iterable[News], then: Iterable[News] = ()) -> list[Message]:
    """What is sent while it lasts, and when it is over."""
    told = Deduplicator("desk-asia")
    for one in news:
        told.hear(one, BEGAN)
    messages = told.due(BEGAN + 60)
    for one in then:
        told.hear(one, BEGAN + 720)
    return [*messages, *told.due(BEGAN + 780)]


def _stories() -> dict[str, list[Message]]:
    well = list(server_news(server(), vault_away=False))
    found = {
        name: _told(server_news(status, vault_away=False), well) for name, status in SERVERS.items()
    }
    for name, changes in CONTROLLERS.items():
        news = controller_news(replace(CONTROLLER, **changes))  # type: ignore[arg-type]
        found[name] = _told(news, controller_news(CONTROLLER))
    found["harm"] = _told(_done(reports.harm()))
    found["done"] = _told(_done(reports.done()))
    found["failed"] = _told(_done(reports.a_failure()))
    told = Deduplicator("desk-asia")
    for one in server_news(SERVERS["robots"], vault_away=False):
        told.hear(one, BEGAN)
    told.due(BEGAN)
    told.keep({"osaka-1"}, BEGAN + timedelta(hours=1).total_seconds())
    found["gone"] = told.due(BEGAN + 3600)
    return found


STORIES = _stories()
FLEET = tuple(
    message
    for number in range(1, 13)
    for message in _told(
        server_news(replace(SERVERS["unreachable"], server=f"tokyo-{number}"), vault_away=False)
    )
)


def deliveries() -> dict[str, list[Delivery]]:
    found = {name: [Delivery((one,)) for one in messages] for name, messages in STORIES.items()}
    found["many"] = [Delivery(FLEET, runbooks="https://git.internal/ops/runbooks")]
    mixed = (*STORIES["drift"][:1], *STORIES["robots"], *STORIES["vault"][:1])
    found["digest"] = [Delivery(mixed, lost=3)]
    (debt, _) = STORIES["reboot-owed"]
    again = replace(debt, text=f"still: {debt.text}", reminder=True, at=BEGAN + 86_400)
    found["reminder"] = [Delivery((again,))]
    return found
