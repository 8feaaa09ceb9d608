"""Situations that are explained: plans of the real planner, and all that they followed from."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from reconciler.errors import NotSettled, ServerUnreachable
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.desired import (
    Afterwards,
    DesiredServer,
    OnCredentialChange,
    RequestKind,
    Suspension,
)
from reconciler.model.explanation import Explanation
from reconciler.model.observed import BootLine, Robot
from reconciler.model.plan import ServerPlan
from reconciler.model.policy import PolicyAction, Violation
from reconciler.model.recipients import NewRecipient, Novelty
from reconciler.model.recorded import Observation, Recorded, Requests
from reconciler.model.values import replace
from reconciler.plan.explain.exchange import explain_exchange
from reconciler.plan.explain.inputs import Known
from reconciler.plan.explain.request import explain_request
from reconciler.plan.inputs import Consents, Facts, Terms
from reconciler.plan.server import aged, plan_server
from tests.golden.cases import BOOT, LOG, NEW, OKX, ONES, OTHER, wish
from tests.golden.request_cases import sent
from tests.support import factories as f

SEEN = datetime.fromisoformat(f.observed().at)
NOW = Terms(SEEN + timedelta(minutes=3), log=LOG, baseline=SEEN - timedelta(days=20))
BOTH = f.server(f.exchange(), f.exchange("okx"), owner="desk-asia")
NO_CONSENTS = Consents()
REBOOT = RequestKind.REBOOT


def known(
    desired: DesiredServer,
    seen: Observation,
    recorded: Recorded,
    consents: Consents = NO_CONSENTS,
    age: float = 180.0,
    **facts: Any,
) -> Known:
    """Plan a server from what was seen three minutes ago, and return all that it followed from."""
    given: dict[str, Any] = {
        "sources": {e.code: f.sources(1, e.code) for e in desired.exchanges},
        "evidence": {},
        "terms": NOW,
        "live": False,
    }
    made = Facts(**(given | facts))
    plan = aged(plan_server(desired, seen, recorded, made, consents), age, 86_400.0)
    now = datetime.fromisoformat(seen.at) + timedelta(seconds=age)
    return Known(desired, seen, recorded, made, consents, plan, now)


def shown(bybit: Any = NEW, **changes: Any) -> Observation:
    since = {"bybit": "2026-11-22T07:04:12.000+00:00", "okx": "2026-11-20T09:00:00.000+00:00"}
    return f.observed({"bybit": bybit, "okx": NEW}, (f.GRID,), **({"since": since} | changes))


def ours(observation: Observation | None = None) -> Recorded:
    return f.recorded(ONES, OKX, observation=observation)


def in_sync() -> Explanation:
    return explain_exchange(known(BOTH, shown(), ours()), "bybit")


def will_write() -> Explanation:
    sources = {"bybit": f.sources(2), "okx": f.sources(1, "okx")}
    return explain_exchange(known(BOTH, shown(), ours(), sources=sources), "bybit")


def drift() -> Explanation:
    return explain_exchange(known(BOTH, shown(OTHER), ours()), "bybit")


def foreign() -> Explanation:
    evidence = {"bybit": f.evidence()}
    recorded = f.recorded(OKX)
    return explain_exchange(known(BOTH, shown(OTHER), recorded, evidence=evidence), "bybit")


def settle_wait() -> Explanation:
    young = NotSettled("version 2 of vault:secret/jt/tokyo-1/bybit is 4 s old", "wait", after=6.0)
    sources = {"bybit": young, "okx": f.sources(1, "okx")}
    return explain_exchange(known(BOTH, shown(), ours(), sources=sources), "bybit")


def asked(hour: int, **changes: Any) -> DesiredServer:
    shot = wish(REBOOT, hour, robots=Afterwards.RESUME)
    return replace(BOTH, supervised=True, **({"reboot": shot} | changes))


def requested(desired: DesiredServer, requests: Requests = Requests()) -> Explanation:  # noqa: B008
    return explain_request(known(desired, shown(), replace(ours(), requests=requests)), REBOOT)


def due() -> Explanation:
    return requested(asked(9))


def window_closed() -> Explanation:
    return requested(asked(9, windows=(f.window("allow", "0 2 * * *"),)))


def expired() -> Explanation:
    shot = wish(REBOOT, 9, expires_after=timedelta(minutes=30))
    return requested(asked(9, reboot=shot))


def superseded() -> Explanation:
    later = wish(REBOOT, 9).instant + timedelta(minutes=20)
    return requested(asked(9), Requests(handled={REBOOT: later}))


def in_doubt() -> Explanation:
    open_ = sent(REBOOT)
    nobody_looked = replace(NOW, log=None)
    recorded = replace(ours(), requests=Requests(open=open_))
    return explain_request(known(asked(9), shown(), recorded, terms=nobody_looked), REBOOT)


def another_in_doubt() -> Explanation:
    return requested(asked(23), Requests(open=sent(RequestKind.CACHE)))


def after_a_reboot_that_was_done() -> Explanation:
    newer = BootLine(BOOT.time + 60_000, BOOT.pid)
    log = replace(LOG, boot=newer.time, boots=(BOOT, newer), newest=newer.time)
    recorded = replace(ours(), requests=Requests(open=sent(REBOOT, ran=())))
    at = known(asked(23), shown(), recorded, terms=replace(NOW, log=log))
    return explain_request(at, REBOOT)


def suspended() -> Explanation:
    quiet = Suspension("exchange maintenance", "alice", SEEN + timedelta(hours=14))
    sources = {"bybit": f.sources(2), "okx": f.sources(1, "okx")}
    desired = replace(BOTH, suspend=quiet)
    return explain_exchange(
        known(desired, shown(), ours(), sources=sources, suspended=True), "bybit"
    )


def denied() -> Explanation:
    violation = Violation(
        PolicyAction.WRITE,
        "bybit",
        "no rule lets tokyo-1 have vault:secret/jt/osaka-1/bybit",
        "2",
        "ask who owns the policy",
    )
    return explain_exchange(known(BOTH, shown(), ours(), violations=(violation,)), "bybit")


def new_recipient() -> Explanation:
    hold = blocked(
        Code.NEW_RECIPIENT,
        "nobody agreed yet that it gets this: it was not contacted",
        "see whether each line is right; then --approve-recipient tokyo-1",
    )
    plan = ServerPlan(
        BOTH.name,
        BOTH.target,
        new_recipient=(NewRecipient(Novelty.CONTACT, f"no server is known yet at {BOTH.target}"),),
        hold=hold,
    )
    at = Known(BOTH, None, Recorded(), None, NO_CONSENTS, plan, SEEN)
    return explain_exchange(at, "bybit")


def brake() -> Explanation:
    why = blocked(
        Code.BRAKE,
        "the brake is on for tokyo-1: all robots stopped after a write",
        "look at tokyo-1, then `jtr ledger release-brake tokyo-1 --because TEXT`",
    )
    sources = {"bybit": f.sources(2), "okx": f.sources(1, "okx")}
    return explain_exchange(known(BOTH, shown(), ours(), refuses=why, sources=sources), "bybit")


def stale() -> Explanation:
    return explain_exchange(known(BOTH, shown(), ours(), age=3 * 86_400.0), "bybit")


def unreachable() -> Explanation:
    down = ServerUnreachable("no connection: nothing listens there", "check that the server runs")
    plan = ServerPlan(BOTH.name, BOTH.target, failure=down)
    at = Known(BOTH, shown(), ours(shown()), None, NO_CONSENTS, plan, SEEN)
    return explain_exchange(at, "bybit")


def not_there() -> Explanation:
    desired = f.server(f.exchange("bybti"), f.exchange("okx"))
    return explain_exchange(known(desired, shown(), ours()), "bybti")


def not_managed() -> Explanation:
    desired = f.server(f.exchange("okx"))
    return explain_exchange(known(desired, shown(), f.recorded(OKX)), "bybit")


def not_asked() -> Explanation:
    return requested(BOTH)


def hostile() -> Explanation:
    bad = "evil\x1b[2J\u202e\r\nname"
    robot = Robot(1, bad, "bybit", running=True)
    desired = f.server(f.absent("bybit"), on_credential_change=OnCredentialChange.RESTART)
    seen = replace(shown(), by=bad, version=bad, robots=(robot,))
    at = known(desired, seen, ours())
    return explain_exchange(
        replace(at, plan=replace(at.plan, hold=Condition("x", bad, bad))), "bybit"
    )


CASES: dict[str, Callable[[], Explanation]] = {
    "in-sync": in_sync,
    "will-write": will_write,
    "drift-left-alone": drift,
    "blocked-foreign": foreign,
    "settle-wait": settle_wait,
    "reboot-due": due,
    "window-closed": window_closed,
    "reboot-expired": expired,
    "superseded": superseded,
    "in-doubt": in_doubt,
    "another-in-doubt": another_in_doubt,
    "after-a-reboot-that-was-done": after_a_reboot_that_was_done,
    "suspended": suspended,
    "policy-denied": denied,
    "new-recipient": new_recipient,
    "brake": brake,
    "stale-observation": stale,
    "server-unreachable": unreachable,
    "exchange-not-on-the-server": not_there,
    "not-managed": not_managed,
    "not-asked": not_asked,
    "hostile-names": hostile,
}
