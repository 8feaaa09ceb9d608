"""
Situations whose plans and reports are kept as files, so that a change of wording is seen.

The name of a case is the name of its folder.  Plans come from the real planner; nothing is mocked.
The fields of every exchange have bybit's names, which is how `tests.support.factories` makes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reconciler.errors import (
    Exit,
    JtrError,
    LeaseHeld,
    SecretDeleted,
    ServerUnreachable,
    TlsRefused,
)
from reconciler.model.actions import DeleteExchange, WriteExchange
from reconciler.model.conditions import Code, blocked
from reconciler.model.desired import (
    Afterwards,
    DesiredServer,
    Mode,
    OnCredentialChange,
    OneShot,
    RequestKind,
    Suspension,
)
from reconciler.model.observed import BootLine, Logbook, Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Plan, ServerPlan
from reconciler.model.policy import PolicyAction, Violation
from reconciler.model.recorded import Debt, ExchangeRecord, Observation, Owed, Purpose, Recorded
from reconciler.model.references import SecretRef
from reconciler.model.source import SourceLine
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.plan.inputs import Consents, Facts, Terms
from reconciler.plan.server import plan_server
from tests.support import factories as f

NEW = f.masks(1)
OTHER = {name: f"somebody-{name}" for name in f.FIELDS}
ONES = ExchangeRecord("bybit", written=f.write(1), ever=True, past_keys=(("api-1", "rest-1"),))
OKX = ExchangeRecord("okx", written=f.write(1, code="okx"), ever=True)
BOTH = frozenset(f.FIELDS)
NOTHING_KNOWN = Recorded()
NO_CONSENTS = Consents()
SINCE = "2026-11-22T09:01:00.000+00:00"


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan, and whether it is shown as `--recorded` shows it."""

    plan: Plan
    recorded: bool = False


def one(
    desired: DesiredServer,
    observation: Observation,
    known: Recorded = NOTHING_KNOWN,
    consents: Consents = NO_CONSENTS,
    **facts: Any,
) -> ServerPlan:
    """Plan a server as `jtr plan` does after its values were read."""
    given: dict[str, Any] = {
        "sources": {e.code: f.sources(2, e.code) for e in desired.exchanges},
        "evidence": {e.code: f.evidence() for e in desired.exchanges},
    }
    return plan_server(desired, observation, known, Facts(**(given | facts)), consents)


def alone(server: ServerPlan, **more: Any) -> Shown:
    """Show a plan of one server."""
    recorded = more.pop("recorded", False)
    return Shown(Plan((server,), **more), recorded)


def named(name: str, *exchanges: Any, **changes: Any) -> DesiredServer:
    """A server of another name and address."""
    url = f"https://{name}.internal:8443"
    return f.server(*exchanges, name=name, url=url, **changes)


def failed(name: str, error: JtrError) -> ServerPlan:
    """Return the plan of a server that could not be compared."""
    desired = named(name)
    return ServerPlan(name, desired.target, failure=error)


# ── plans ────────────────────────────────────────────────────────────────────────────────────


def first_write() -> Shown:
    desired = f.server(f.exchange(), f.exchange("okx"), owner="desk-asia")
    return alone(one(desired, f.observed(robots=(f.GRID, f.ARB, Robot(7, "mm", "okx", True)))))


def new_api_key() -> Shown:
    seen = f.observed({"bybit": NEW}, (f.GRID,))
    return alone(one(f.server(f.exchange()), seen, f.recorded(ONES)))


def same_api_key() -> Shown:
    kept = replace(f.evidence(), api_key="api-1", companions="rest-2")
    facts: dict[str, Any] = {"evidence": {"bybit": kept, "okx": kept}}
    seen = f.observed({"bybit": NEW, "okx": NEW}, (f.GRID, Robot(3, "arb-sol", "bybit", True)))
    desired = f.server(f.exchange(), f.exchange("okx"))
    return alone(one(desired, seen, f.recorded(ONES, OKX), **facts))


def recorded() -> Shown:
    seen = f.observed({"bybit": NEW, "okx": NEW}, (f.GRID,))
    desired = f.server(f.exchange(), f.exchange("okx"))
    known = f.recorded(ONES, observation=seen)
    plan = one(desired, seen, known, live=False, evidence={})
    return alone(replace(plan, age=5400.0), recorded=True)


def drift_left_alone() -> Shown:
    desired = f.server(f.exchange(), f.exchange("okx"))
    same: dict[str, Any] = {"sources": {"bybit": f.sources(1), "okx": f.sources(2, "okx")}}
    since = {"bybit": "2026-11-22T07:04:12.000+00:00", "okx": "2026-11-22T10:00:00.000+00:00"}
    seen = f.observed({"bybit": OTHER, "okx": NEW}, (f.GRID,), since=since)
    return alone(one(desired, seen, f.recorded(ONES, OKX), **same))


def drift_and_vault_moved() -> Shown:
    desired = f.server(f.exchange(), f.exchange("okx"))
    seen = f.observed({"bybit": OTHER, "okx": {}}, (f.GRID,))
    known = f.recorded(ONES, OKX)
    consents = Consents(drift=True, targets=frozenset({"tokyo-1"}))
    return alone(one(desired, seen, known, consents))


def foreign() -> Shown:
    desired = f.server(f.exchange(), f.exchange("okx"), f.exchange("kucoin"))
    seen = f.observed({"bybit": OTHER, "okx": OTHER}, (f.GRID, f.ARB))
    seen = replace(seen, troubles={"kucoin": "it lists two fields for the same credential"})
    seen = replace(seen, masks={**seen.masks, "kucoin": {"kucoin_api_key": ""}})
    evidence = {"bybit": f.evidence(), "okx": replace(f.evidence(), weak=True)}
    return alone(one(desired, seen, evidence=evidence))


def unknown_exchange() -> Shown:
    desired = f.server(
        f.exchange("kraken"),
        f.exchange("okx", secret=None, fields={"apiKey": SecretRef(f.path("okx"), "k", 7)}),
    )
    return alone(one(desired, f.observed()))


def absent() -> Shown:
    desired = f.server(f.absent("bybit"), f.absent("okx"), f.absent("kucoin"), f.absent("mexc"))
    seen = f.observed({"bybit": NEW, "okx": NEW, "kucoin": OTHER, "mexc": {}}, (f.ARB,))
    return alone(one(desired, seen, f.recorded(ONES, OKX)))


def secret_failed() -> Shown:
    gone = SecretDeleted(
        "version 2 of vault:secret/jt/tokyo-1/bybit is deleted", "undelete it, or write a new one"
    )
    desired = f.server(f.exchange(), f.exchange("okx"))
    sources = {"bybit": gone, "okx": f.sources(1, "okx")}
    return alone(one(desired, f.observed(), sources=sources))


def suspended() -> Shown:
    until = datetime(2026, 11, 23, tzinfo=UTC)
    desired = f.server(f.exchange(), suspend=Suspension("exchange maintenance", "alice", until))
    return alone(one(desired, f.observed(robots=(f.GRID,)), suspended=True))


def observe() -> Shown:
    desired = f.server(f.exchange(), mode=Mode.OBSERVE, insecure_transport="isolated lab network")
    return alone(one(desired, f.observed({"bybit": NEW}), f.recorded(ONES)))


def changed_address() -> Shown:
    blank = ServerPlan("tokyo-1", Target("https://tokyo-1b.internal:8443", "0"), "desk-asia")
    held = replace(
        blank,
        hold=blocked(
            Code.ADDRESS_CHANGED,
            f"its address changed: it was {f.TARGET}",
            "make sure that the old server is off (it still holds keys and robots), then "
            "--approve-target-change tokyo-1",
        ),
    )
    return alone(held)


def another_server() -> Shown:
    seen = f.observed({"bybit": OTHER, "okx": OTHER}, (Robot(9, "foreign", "okx", True),))
    known = f.recorded(ONES, OKX, observation=f.observed(robots=(f.GRID,)))
    return alone(one(f.server(f.exchange(), f.exchange("okx")), seen, known))


NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
BOOT = BootLine(1_763_800_000_000, 4121)
LOG = Logbook(readable=True, boot=BOOT.time, boots=(BOOT,), newest=BOOT.time + 5_000)
TERMS = Terms(NOW, log=LOG, baseline=datetime(2026, 11, 1, tzinfo=UTC))


def wish(kind: RequestKind, hour: int, **changes: Any) -> OneShot:
    """A request of that day."""
    line = 30 if kind is RequestKind.CACHE else 31
    instant = datetime(2026, 11, 22, hour, tzinfo=UTC)
    shot = OneShot(kind, instant, "okx moved", SourceLine("desired.yaml", line, 3))
    return replace(shot, **changes)


def requests_due() -> Shown:
    desired = f.server(
        f.exchange(),
        reboot=wish(RequestKind.REBOOT, 9, robots=Afterwards.RESUME),
        cache=wish(RequestKind.CACHE, 9),
        on_credential_change=OnCredentialChange.RESTART,
        has_security=True,
    )
    asleep = Robot(3, "night-owl", "okx", running=False)
    return alone(one(desired, f.observed(robots=(f.GRID, asleep)), terms=TERMS))


def unreachable() -> Shown:
    down = ServerUnreachable("no connection: nothing listens there", "check that the server runs")
    tls = TlsRefused("its certificate is for another name", "check spec.url, or tls in settings")
    osaka = one(named("osaka-1", f.exchange()), f.observed(robots=(f.GRID,)))
    return Shown(
        Plan((failed("kyoto-1", tls), osaka), skipped=1, not_visited=(f"tokyo-1: {down}",))
    )


def debts() -> Shown:
    owed = (
        Debt(Owed.RESTART, "bybit", SINCE, 1_000, 1, "grid-btc"),
        Debt(Owed.REBOOT, "bybit", SINCE, 1_000),
    )
    known = f.recorded(replace(ONES, debts=owed), OKX)
    seen = f.observed({"bybit": NEW, "okx": NEW}, (f.GRID,))
    desired = f.server(f.exchange(), f.exchange("okx"))
    same: dict[str, Any] = {"sources": {"bybit": f.sources(1), "okx": f.sources(1, "okx")}}
    return alone(one(desired, seen, known, **same))


def quiet() -> Shown:
    seen = f.observed(
        {"bybit": OTHER, "okx": NEW, "kucoin": OTHER, "mexc": OTHER, "gateio": NEW}, (f.GRID,)
    )
    gateio = ExchangeRecord("gateio", written=f.write(1, code="gateio"), ever=True)
    desired = f.server(f.exchange(), f.exchange("gateio"))
    facts: dict[str, Any] = {
        "sources": {"bybit": f.sources(1), "gateio": f.sources(1, "gateio")},
        "evidence": {"bybit": replace(f.evidence(), matches=BOTH)},
    }
    return alone(one(desired, seen, f.recorded(OKX, gateio), **facts))


HOSTILE = "\x1b[2J\x1b]0;owned\x07grid\n    + okx  write\u202etxet\u200b\x85"


def hostile() -> Shown:
    robot = Robot(1, HOSTILE, "bybit", running=True)
    owed = Debt(Owed.RESTART, "bybit", SINCE, 1_000, 1, HOSTILE)
    known = f.recorded(replace(ONES, debts=(owed,)))
    seen = f.observed({"bybit": NEW, "evil\r\n\x1b[31m": OTHER}, (robot,), version="0.24\x1b[7m")
    desired = f.server(f.exchange(), owner="desk\u2066asia\u2069", account="0\n= in sync")
    held = f.server(f.absent(), name="osaka-1", owner="x" * 300)
    return Shown(Plan((one(desired, seen, known), one(held, seen, known))))


def against_the_policy() -> Shown:
    """One exchange and the reboot are denied, the other exchange goes on."""
    remedy = "`jtr policy explain tokyo-1` shows which rules there are"
    rules = (
        Violation(
            PolicyAction.WRITE,
            "bybit",
            "policy: https://tokyo-1.test may not get vault:team-b/x for bybit: no rule allows it",
            "",
            remedy,
        ),
        Violation(
            PolicyAction.SELF_HEAL,
            "",
            f"policy: {HOSTILE}.yaml may not ask for self-heal: rule 2 (calm) denies it",
            "2 calm",
            remedy,
        ),
    )
    desired = f.server(f.exchange(), f.exchange("okx"))
    seen = f.observed({"bybit": NEW}, (f.GRID,))
    plan = one(desired, seen, violations=rules)
    return Shown(Plan((replace(plan, violations=rules),)))


def nobody_agreed() -> Shown:
    """A known server would get values of a path that it never had values of."""
    desired = f.server(f.exchange(), f.exchange("okx"))
    withheld = frozenset({f.sources(1, "okx")[""].at})
    return alone(one(desired, f.observed({}, (f.GRID,)), withheld=withheld))


def nothing_to_do() -> Shown:
    desired = f.server(f.exchange(), f.exchange("okx"))
    same: dict[str, Any] = {"sources": {"bybit": f.sources(1), "okx": f.sources(1, "okx")}}
    seen = f.observed({"bybit": NEW, "okx": NEW}, (f.GRID, f.ARB))
    return alone(one(desired, seen, f.recorded(ONES, OKX), **same))


def fleet() -> Shown:
    new = [
        one(named(name, f.exchange(), f.exchange("okx")), f.observed(robots=(f.GRID,)))
        for name in ("kyoto-1", "osaka-1")
    ]
    rotated = one(
        named("tokyo-1", f.exchange(), labels={"env": "prod"}),
        f.observed({"bybit": NEW}, (f.GRID,)),
        f.recorded(ONES),
    )
    return Shown(Plan((*new, rotated), skipped=3))


PLANS: dict[str, Callable[[], Shown]] = {
    "001-first-write-with-running-robots": first_write,
    "002-new-api-key-restart-suffices": new_api_key,
    "003-same-api-key-needs-a-reboot": same_api_key,
    "004-recorded-with-age": recorded,
    "005-drift-left-alone": drift_left_alone,
    "006-drift-corrected-and-vault-moved": drift_and_vault_moved,
    "007-foreign-is-blocked": foreign,
    "008-exchange-that-the-server-cannot-take": unknown_exchange,
    "009-absent": absent,
    "010-secret-failed": secret_failed,
    "011-suspended": suspended,
    "012-observe": observe,
    "013-changed-address": changed_address,
    "014-another-server": another_server,
    "015-requests-due": requests_due,
    "016-unreachable-and-not-visited": unreachable,
    "017-debts": debts,
    "018-found-not-managed-left-on-server": quiet,
    "019-hostile-names": hostile,
    "020-nothing-to-do": nothing_to_do,
    "021-fleet": fleet,
    "034-against-the-policy": against_the_policy,
    "035-nobody-agreed": nobody_agreed,
}


# ── reports ──────────────────────────────────────────────────────────────────────────────────


def write_of(code: str) -> WriteExchange:
    """A write of an exchange."""
    return WriteExchange(
        code,
        tuple(sorted(f.FIELDS.items())),
        tuple(f.sources(2, code).items()),
        Purpose.CHANGE,
    )


def two(name: str = "tokyo-1") -> ServerPlan:
    """A server's plan with two writes."""
    seen = f.observed(robots=(f.GRID, f.ARB))
    return one(named(name, f.exchange(), f.exchange("okx")), seen)


def done() -> list[Report]:
    lost = Outcome(write_of("okx"), Result.DONE, "the answer was lost, read back")
    deleted = Outcome(DeleteExchange("kucoin", tuple(f.FIELDS)), Result.DONE)
    return [Report(two(), (Outcome(write_of("bybit"), Result.DONE), lost, deleted))]


def not_verifiable() -> list[Report]:
    weak = Outcome(write_of("bybit"), Result.NOT_VERIFIABLE)
    return [Report(two(), (weak, Outcome(write_of("okx"), Result.DONE, stopped=(f.ARB,))))]


def a_failure() -> list[Report]:
    failed_write = Outcome(
        write_of("bybit"),
        Result.FAILED,
        "the server shows something else than was written: bybit_api_key",
        "its robots still run; look at its Config page and log; `jtr apply` writes again",
        Exit.SERVER,
    )
    rest = Outcome(write_of("okx"), Result.NOT_ATTEMPTED)
    return [
        Report(two(), (failed_write, rest)),
        Report(two("osaka-1"), (Outcome(write_of("bybit"), Result.DONE),)),
    ]


def harm() -> list[Report]:
    stopped = Outcome(
        write_of("bybit"),
        Result.HARM,
        "robots stopped on tokyo-1: grid-btc, arb-eth",
        "start them on the server's page; the brake stays on for JT-Trader 0.24.19",
        Exit.HARM,
        (f.GRID, f.ARB),
    )
    rest = Outcome(write_of("okx"), Result.NOT_ATTEMPTED)
    why = "stopped: robots stopped around a write on tokyo-1 (JT-Trader 0.24.19)"
    braked = Outcome(write_of("bybit"), Result.NOT_ATTEMPTED, why, code=Exit.BLOCKED)
    return [Report(two(), (stopped, rest)), Report(two("osaka-1"), (braked, rest))]


def unknown() -> list[Report]:
    silent = Outcome(
        write_of("bybit"),
        Result.UNKNOWN,
        "the server did not answer and it is not known whether its robots still run",
        "look at tokyo-1; then `jtr ledger release-brake 0.24.19 --because TEXT`",
        Exit.SERVER,
    )
    return [Report(two(), (silent, Outcome(write_of("okx"), Result.NOT_ATTEMPTED)))]


def lease() -> list[Report]:
    held = LeaseHeld("apply 812@ci-7 is applying to this server", "wait until it is done")
    return [
        Report(two(), tuple(Outcome(a, Result.NOT_ATTEMPTED) for a in two().actions), held),
        Report(two("osaka-1"), (), held),
    ]


def partly_planned() -> list[Report]:
    blocked = one(named("osaka-1", f.exchange("kraken"), f.exchange("okx")), f.observed())
    down = ServerUnreachable("no connection: nothing listens there", "check that the server runs")
    return [
        Report(failed("kyoto-1", down)),
        Report(blocked, (Outcome(write_of("okx"), Result.DONE),)),
    ]


def hostile_report() -> list[Report]:
    robot = Robot(1, HOSTILE, "bybit", running=True)
    action = replace(write_of("bybit"), exchange="by\x1b[31mbit")
    return [Report(two(), (Outcome(action, Result.DONE, HOSTILE, HOSTILE, stopped=(robot,)),))]


REPORTS: dict[str, Callable[[], list[Report]]] = {
    "001-done": done,
    "002-not-verifiable-and-a-robot-stopped": not_verifiable,
    "003-failed": a_failure,
    "004-harm": harm,
    "005-outcome-unknown": unknown,
    "006-lease-held": lease,
    "007-hostile-names": hostile_report,
    "008-blocked-and-failed-in-the-plan": partly_planned,
}
