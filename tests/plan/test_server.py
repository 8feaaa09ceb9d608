"""A server's plan as a whole: what is held back, what is owed, what the plan's id covers."""

from datetime import UTC, datetime
from itertools import product

import pytest

from reconciler.errors import Exit
from reconciler.model.actions import Need, WriteExchange, told
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import DesiredExchange, Mode, Suspension
from reconciler.model.plan import Plan, ServerPlan, Status
from reconciler.model.recorded import Debt, ExchangeRecord, Observation, Owed, Purpose, Recorded
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.plan.consequences import new_debts, remaining
from reconciler.plan.fleet import limit_unverified
from reconciler.plan.inputs import Consents, Facts
from reconciler.plan.server import aged, plan_server, unseen_writes
from reconciler.render.plan_text import plan_text
from reconciler.render.verdicts import not_compared
from tests.support import factories as f

NEW = f.masks(1)
OTHER = {name: f"somebody-{name}" for name in f.FIELDS}
WRITTEN = ExchangeRecord("bybit", written=f.write(1), ever=True)
OKX = ExchangeRecord("okx", written=f.write(1, code="okx"), ever=True)
NOTHING_KNOWN = Recorded()


def plan(
    *,
    observation: Observation | None = None,
    known: Recorded = NOTHING_KNOWN,
    consents: Consents | None = None,
    suspended: bool = False,
    **changes: object,
) -> ServerPlan:
    """Plan a server with bybit."""
    facts = Facts(
        sources={"bybit": f.sources()},
        evidence={"bybit": f.evidence()},
        suspended=suspended,
    )
    desired = replace(f.server(f.exchange()), **changes)  # type: ignore[arg-type]
    return plan_server(desired, observation or f.observed(), known, facts, consents or Consents())


# ── held back ────────────────────────────────────────────────────────────────────────────────


def test_observe_mode_reports_and_does_nothing() -> None:
    held = plan(mode=Mode.OBSERVE)

    assert held.lines[0].status is Status.WRITE
    assert (held.actions, held.exit_code) == ((), Exit.DONE)


def test_a_suspension_in_force_holds_and_one_that_ended_does_not() -> None:
    suspension = Suspension("exchange maintenance", "desk", datetime(2026, 11, 23, tzinfo=UTC))

    assert "desk" in plan(suspend=suspension, suspended=True).held
    assert plan(suspend=suspension, suspended=False).actions


def test_everything_changed_at_once_looks_like_another_server() -> None:
    known = f.recorded(WRITTEN, OKX)
    swapped = plan(observation=f.observed({"bybit": OTHER, "okx": {}}), known=known)
    one_changed = plan(observation=f.observed({"bybit": OTHER, "okx": NEW}), known=known)

    assert "another server" in swapped.held
    assert (swapped.exit_code, swapped.actions) == (Exit.BLOCKED, ())
    assert not one_changed.held


def test_no_known_robot_left_looks_like_another_server() -> None:
    known = f.recorded(observation=f.observed(robots=(f.GRID, f.ARB)))

    assert "robots" in plan(observation=f.observed(robots=()), known=known).held
    assert not plan(observation=f.observed(robots=(f.ARB,)), known=known).held


def test_the_suspicion_ends_with_approval() -> None:
    consents = Consents(targets=frozenset({"tokyo-1"}))
    known = f.recorded(observation=f.observed(robots=(f.GRID,)))

    assert not plan(known=known, consents=consents).held


def test_a_lost_fingerprint_key_is_no_ground_for_suspicion() -> None:
    lost = ExchangeRecord("bybit", written=f.write(1, key_id="lost"), ever=True)

    assert not plan(observation=f.observed({"bybit": OTHER}), known=f.recorded(lost)).held


def test_exchanges_that_left_the_file_are_listed_and_untouched() -> None:
    found = plan(
        observation=f.observed({"bybit": NEW, "okx": NEW, "kucoin": OTHER}),
        known=f.recorded(WRITTEN, OKX),
    )
    statuses = {line.exchange: line.status for line in found.lines}

    assert statuses["okx"] is Status.LEFT_ON_SERVER
    assert statuses["kucoin"] is Status.NOT_MANAGED
    assert found.actions == ()


def test_writes_of_unknown_verdicts_are_limited_per_pass() -> None:
    lost = ExchangeRecord("bybit", written=f.write(1, key_id="lost"), ever=True)
    both = tuple(f.FIELDS)

    def one(name: str) -> ServerPlan:
        return plan_server(
            replace(f.server(f.exchange()), name=name),
            f.observed({"bybit": NEW}),
            f.recorded(lost),
            Facts(sources={"bybit": f.sources()}, evidence={"bybit": f.evidence(*both)}),
            Consents(),
        )

    limited = limit_unverified([one(f"server-{n}") for n in range(5)], 3)

    assert [len(found.actions) for found in limited] == [1, 1, 1, 0, 0]
    assert limited[4].exit_code is Exit.BLOCKED


# ── debts ────────────────────────────────────────────────────────────────────────────────────


def debt(owed: Owed, **changes: object) -> Debt:
    """A debt of bybit since boot 1000."""
    base = Debt(owed, "bybit", "2026-11-22T09:00:00Z", 1_000, 1, "grid-btc")
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_change_leaves_a_restart_per_running_robot_and_a_reboot_where_needed() -> None:
    found = plan(observation=f.observed(robots=(f.GRID,)))
    line = found.lines[0]
    assert line.consequence is not None
    rebooting = replace(line.consequence, need=Need.REBOOT)
    (action,) = found.actions
    arguments = {"since": "now", "boot": 1_000, "running": (f.GRID,)}

    restart_only = new_debts(action, line.consequence, **arguments)  # type: ignore[arg-type]
    both = new_debts(action, rebooting, **arguments)  # type: ignore[arg-type]

    assert [d.owed for d in restart_only] == [Owed.RESTART]
    assert [d.owed for d in both] == [Owed.RESTART, Owed.REBOOT]


def test_a_correction_leaves_nothing_that_acts() -> None:
    found = plan(observation=f.observed(robots=(f.GRID,)))
    (action,) = found.actions
    assert isinstance(action, WriteExchange)
    correction = replace(action, purpose=Purpose.CORRECTION)

    debts = new_debts(
        correction,
        found.lines[0].consequence,
        since="now",
        boot=1,
        running=(f.GRID,),
    )

    assert debts == ()


def test_a_restart_ends_when_the_robot_was_seen_stopped() -> None:
    stopped = f.observed(robots=(replace(f.GRID, running=False),))

    assert remaining([debt(Owed.RESTART)], f.observed(robots=(f.GRID,))) == (debt(Owed.RESTART),)
    assert remaining([debt(Owed.RESTART)], stopped) == ()
    assert remaining([debt(Owed.RESTART)], f.observed()) == ()


def test_a_reboot_ends_only_with_a_newer_boot_line() -> None:
    owed = debt(Owed.REBOOT, robot_id=None)

    assert remaining([owed], f.observed(boot=1_000)) == (owed,)
    assert remaining([owed], f.observed(boot=None)) == (owed,)
    assert remaining([owed], f.observed(boot=999)) == (owed,)
    assert remaining([owed], f.observed(boot=1_001)) == ()


def test_without_a_boot_line_the_first_one_seen_becomes_the_baseline() -> None:
    owed = debt(Owed.REBOOT, boot=None)
    (kept,) = remaining([owed], f.observed(boot=5_000))

    assert kept.boot == 5_000
    assert remaining([kept], f.observed(boot=6_000)) == ()


def test_open_debts_are_in_every_plan_and_are_no_changes() -> None:
    record = replace(WRITTEN, debts=(debt(Owed.REBOOT, robot_id=None),))
    found = plan(observation=f.observed({"bybit": NEW}), known=f.recorded(record))

    assert (len(found.debts), found.actions, found.differs) == (1, (), False)


# ── the plan's id ────────────────────────────────────────────────────────────────────────────


def test_the_id_does_not_depend_on_order_robots_reasons_or_times() -> None:
    one = plan()
    two = plan(observation=f.observed(robots=(f.GRID,), at="2027-01-01T00:00:00Z"), owner="desk")
    other = replace(one, target=Target("https://osaka-1", "0"), server="osaka-1")

    assert Plan((one,)).id == Plan((two,)).id
    assert Plan((one, other)).id == Plan((other, one)).id


def test_the_id_depends_on_what_is_done() -> None:
    ids = {
        Plan((plan(),)).id,
        Plan((plan(mode=Mode.OBSERVE),)).id,
        Plan((replace(plan(), target=Target("https://osaka-1", "0")),)).id,
        Plan((replace(plan(), target=Target(f.URL, "7")),)).id,
        Plan(
            (
                plan_server(
                    f.server(f.exchange()),
                    f.observed(),
                    NOTHING_KNOWN,
                    Facts(sources={"bybit": f.sources(2)}, evidence={"bybit": f.evidence()}),
                    Consents(),
                ),
            )
        ).id,
    }

    assert len(ids) == 5


def test_writes_come_before_deletes() -> None:
    desired = f.server(f.absent("bybit"), f.exchange("okx"))
    found = plan_server(
        desired,
        f.observed({"bybit": NEW}),
        f.recorded(WRITTEN),
        Facts(sources={"okx": f.sources(name="okx")}, evidence={"okx": f.evidence()}),
        Consents(targets=frozenset({"tokyo-1"})),
    )

    assert [told(action) for action in found.actions] == ["write okx", "delete bybit"]


# ── the id of what nobody has seen ───────────────────────────────────────────────────────────

EXCHANGES: tuple[DesiredExchange | None, ...] = (f.exchange("bybit"), f.absent("bybit"), None)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("suspended", [True, False])
def test_a_server_that_nobody_has_seen_has_the_id_that_it_has_once_it_is_found_empty(
    mode: Mode, *, suspended: bool
) -> None:
    suspension = Suspension("rest", "ann", None) if suspended else None
    for bybit, okx in product(EXCHANGES, [f.exchange("okx"), None]):
        desired = f.server(*filter(None, (bybit, okx)), mode=mode, suspend=suspension)
        codes = [one.code for one in desired.exchanges]
        facts = Facts(
            sources={code: f.sources(name=code) for code in codes},
            evidence={code: f.evidence() for code in codes},
            suspended=suspended,
        )
        live = plan_server(desired, f.observed(), NOTHING_KNOWN, facts, Consents())
        hold = Condition(Code.NEVER_SEEN, "not compared: the ledger holds no observation of it")
        recorded = ServerPlan(
            desired.name, desired.target, hold=hold, unseen=unseen_writes(desired, facts)
        )
        foreign = plan_server(desired, f.observed({"okx": OTHER}), NOTHING_KNOWN, facts, Consents())

        assert Plan((recorded,)).id == Plan((live,)).id
        assert recorded.actions == ()
        if okx is not None and live.actions:
            assert Plan((recorded,)).id != Plan((foreign,)).id


@pytest.mark.parametrize(("age", "stale"), [(86_400.0, False), (86_401.0, True)])
def test_what_was_seen_too_long_ago_is_not_in_sync(age: float, *, stale: bool) -> None:
    desired = f.server(f.exchange(), f.exchange("okx"), f.absent("mexc"))
    known = f.recorded(
        ExchangeRecord("bybit", written=f.write(2), ever=True),
        ExchangeRecord("okx", written=f.write(1, code="okx"), ever=True),
    )
    seen = f.observed({"bybit": f.masks(2), "okx": f.masks(1), "mexc": {}})
    facts = Facts(sources={"bybit": f.sources(2), "okx": f.sources(2, "okx")}, live=False)
    plan = plan_server(desired, seen, known, facts, Consents())
    old = aged(plan, age, 86_400.0)

    said = {line.exchange: line.status for line in old.lines}
    assert said["okx"] is Status.WRITE  # Vault moved: known without looking
    assert {said["bybit"], said["mexc"]} == {Status.STALE if stale else Status.IN_SYNC}
    assert Plan((old,)).id == Plan((plan,)).id
    assert not_compared(old) == (2 if stale else 0)
    assert ("in sync" in plan_text(Plan((old,)))) is not stale
