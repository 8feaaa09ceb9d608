"""Where each wish for a reboot or an invalidation stands: every rule, on values alone."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.documents.formats import instant
from reconciler.errors import Exit
from reconciler.ledger import request_state
from reconciler.model.actions import InvalidateCache, RebootServer, ResumeRobots
from reconciler.model.conditions import Code, blocked
from reconciler.model.desired import Afterwards, Mode, OneShot, RequestKind, Suspension
from reconciler.model.observed import BootLine, ClockReading, Logbook, Robot
from reconciler.model.plan import Disruption, Plan, ServerPlan, Standing
from reconciler.model.recorded import (
    NO_REQUESTS,
    Attempt,
    PendingStarts,
    Recorded,
    Request,
    Requests,
    Stage,
)
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.plan.boot_proof import MARGIN, Proof, plausible, proof, satisfies
from reconciler.plan.fleet import hold_twins, twins
from reconciler.plan.inputs import NO_DISRUPTIVE, Consents, Facts, Terms
from reconciler.plan.server import plan_server
from tests.support import factories as f

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
BORN = datetime(2026, 11, 1, tzinfo=UTC)
BOOT = BootLine(1_700_000_000_000, 4121)
NEWER = BootLine(BOOT.time + 60_000, 4121)
LOG = Logbook(readable=True, boot=BOOT.time, boots=(BOOT,), newest=BOOT.time + 5_000)
REBOOTED = replace(LOG, boot=NEWER.time, boots=(BOOT, NEWER), newest=NEWER.time)
TERMS = Terms(NOW, log=LOG, baseline=BORN)
HOUR = timedelta(hours=1)
BOTH = tuple(RequestKind)


def wish(kind: RequestKind = RequestKind.REBOOT, at: datetime = NOW, **changes: Any) -> OneShot:
    """A wish for *kind* at an instant."""
    return replace(OneShot(kind, at, "okx moved", f.SOURCE), **changes)


def attempt(**changes: Any) -> Attempt:
    """A try that was made an hour ago."""
    base = Attempt("nonce", "2026-11-22T09:00:00+00:00", "apply 1@ci", (BOOT,), LOG.newest)
    return replace(base, **changes)


def sent(
    kind: RequestKind = RequestKind.REBOOT, at: datetime = NOW - HOUR, tries: int = 1
) -> Requests:
    """A request that was sent, and nobody noted what became of it."""
    attempts = (attempt(),) * tries
    request = Request(kind, at, "okx moved", Stage.OPEN, attempts, ran=(f.GRID,))
    return Requests(open=request)


def handled(kind: RequestKind, at: datetime, stage: Stage = Stage.DONE) -> Requests:
    """A request that was handled, and nothing else."""
    return request_state.noted(NO_REQUESTS, Request(kind, at, "", stage, evidence="as it was"))


def plan(
    *wishes: OneShot,
    known: Requests = NO_REQUESTS,
    terms: Terms = TERMS,
    robots: Iterable[Robot] = (),
    disruptive: bool = True,
    facts: dict[str, Any] | None = None,
    **changes: Any,
) -> ServerPlan:
    """Plan a server with these wishes and nothing else to do."""
    by_kind = {shot.kind: shot for shot in wishes}
    desired = f.server(
        supervised=True,
        cache=by_kind.get(RequestKind.CACHE),
        reboot=by_kind.get(RequestKind.REBOOT),
        **changes,
    )
    recorded = replace(Recorded(), requests=known)
    given = Facts({}, {}, terms=terms, **(facts or {}))
    seen = f.observed(robots=tuple(robots))
    return plan_server(
        desired, seen, recorded, given, Consents(quiet=None if disruptive else NO_DISRUPTIVE)
    )


def line(*wishes: OneShot, **options: Any) -> Disruption:
    """Return the only line of a plan."""
    (found,) = plan(*wishes, **options).disruptions
    return found


def stands(*wishes: OneShot, **options: Any) -> tuple[Standing, Exit, int]:
    """Return the standing of the only line, what it exits with, and how much would be done."""
    found = plan(*wishes, **options)
    (only,) = found.disruptions
    return only.standing, only.error, len(found.actions)


def plan_id(server: ServerPlan) -> str:
    """Return the id of a plan of one server."""
    return Plan((server,)).id


# ── once for its instant ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", BOTH)
def test_the_first_time_it_is_due(kind: RequestKind) -> None:
    found = plan(wish(kind))

    (action,) = found.actions
    assert isinstance(action, InvalidateCache if kind is RequestKind.CACHE else RebootServer)
    assert action.instant == NOW
    assert stands(wish(kind)) == (Standing.DUE, Exit.DONE, 1)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("stage", "standing", "code"),
    [
        (Stage.DONE, Standing.DONE, Exit.DONE),
        (Stage.SATISFIED, Standing.SATISFIED, Exit.DONE),
        (Stage.BASELINED, Standing.BASELINED, Exit.DONE),
        (Stage.NOT_DONE, Standing.NOT_DONE, Exit.BLOCKED),
    ],
)
def test_once_handled_it_is_over(
    kind: RequestKind, stage: Stage, standing: Standing, code: Exit
) -> None:
    known = handled(kind, NOW, stage)

    assert stands(wish(kind), known=known) == (standing, code, 0)


@pytest.mark.parametrize("kind", BOTH)
def test_once_handled_it_is_over_also_when_its_record_was_dropped(kind: RequestKind) -> None:
    forgotten = replace(handled(kind, NOW), past=())

    assert stands(wish(kind), known=forgotten) == (Standing.SUPERSEDED, Exit.DONE, 0)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.OPEN])
def test_a_revert_to_an_earlier_instant_repeats_nothing(kind: RequestKind, stage: Stage) -> None:
    first = Request(kind, NOW - HOUR, "", Stage.DONE)
    later = Request(kind, NOW, "", stage)
    both = request_state.noted(request_state.noted(NO_REQUESTS, first), later)

    assert stands(wish(kind, NOW - HOUR), known=both) == (Standing.DONE, Exit.DONE, 0)
    unhandled = wish(kind, NOW - HOUR / 2)
    assert stands(unhandled, known=both) == (Standing.SUPERSEDED, Exit.DONE, 0)


@pytest.mark.parametrize("kind", BOTH)
def test_removed_and_added_again(kind: RequestKind) -> None:
    known = handled(kind, NOW)

    assert plan(known=known).disruptions == ()
    assert stands(wish(kind), known=known)[2] == 0  # a handled one
    assert stands(wish(kind, NOW - HOUR))[2] == 1  # one that never was


def test_the_kinds_do_not_supersede_each_other() -> None:
    known = handled(RequestKind.REBOOT, NOW)

    assert stands(wish(RequestKind.CACHE, NOW - HOUR), known=known)[0] is Standing.DUE


def test_both_are_done_invalidation_first() -> None:
    found = plan(wish(RequestKind.REBOOT, NOW - HOUR), wish(RequestKind.CACHE))

    assert [type(action) for action in found.actions] == [InvalidateCache, RebootServer]


# ── time ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", BOTH)
def test_a_future_instant_is_a_schedule_in_the_plans_id_and_not_in_its_actions(
    kind: RequestKind,
) -> None:
    later = wish(kind, NOW + timedelta(microseconds=1))
    scheduled = plan(later)
    come = plan(later, terms=replace(TERMS, now=later.instant))

    assert stands(later) == (Standing.SCHEDULED, Exit.DONE, 0)
    assert len(come.actions) == 1
    assert plan_id(scheduled) == plan_id(come) != plan_id(plan())


@pytest.mark.parametrize("kind", BOTH)
def test_what_is_older_than_the_ledger_is_never_run(kind: RequestKind) -> None:
    old = wish(kind, BORN - timedelta(microseconds=1), expires_after=timedelta(days=30))

    assert stands(old) == (Standing.BASELINED, Exit.DONE, 0)
    assert stands(replace(old, instant=BORN))[0] is Standing.DUE


@pytest.mark.parametrize("kind", BOTH)
def test_after_its_time_it_is_expired_and_says_so_until_it_is_removed(kind: RequestKind) -> None:
    just = wish(kind, NOW - timedelta(hours=24))
    over = wish(kind, NOW - timedelta(hours=24, microseconds=1))

    assert stands(just)[0] is Standing.DUE
    assert stands(over) == (Standing.EXPIRED, Exit.BLOCKED, 0)
    assert plan(over).exit_code is Exit.BLOCKED
    assert stands(replace(over, expires_after=timedelta(days=30)))[0] is Standing.DUE


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("hours", [-30, -1, 1])
def test_with_an_unsteady_clock_nothing_begins_and_nothing_expires(
    kind: RequestKind, hours: int
) -> None:
    unsteady = replace(TERMS, unsteady="our own clock jumped by 7200 s")

    standing, code, actions = stands(wish(kind, NOW + hours * HOUR), terms=unsteady)

    held = Exit.DONE if hours > 0 else Exit.BLOCKED  # it is asked for, and not done
    assert (standing, code, actions) == (Standing.HELD, held, 0)
    assert stands(wish(kind), known=handled(kind, NOW), terms=unsteady)[0] is Standing.DONE


@pytest.mark.parametrize(("hours", "standing"), [(1, Standing.DUE), (-1, Standing.SATISFIED)])
def test_a_boot_that_was_seen_before_a_request_never_meets_it(
    hours: int, standing: Standing
) -> None:
    """The server's clock is 12 minutes fast: for ever, and with exit code 0, it was satisfied."""
    instant = NOW - 2 * HOUR
    booted = BootLine(round((instant + timedelta(minutes=12)).timestamp() * 1000), 7)
    log = Logbook(readable=True, boot=booted.time, boots=(booted,), newest=booted.time)
    terms = replace(
        TERMS,
        log=log,
        clock=ClockReading(0.0, 0.5),
        seen_boot=booted.time,
        seen_at=instant - hours * HOUR,
    )

    assert stands(wish(RequestKind.REBOOT, instant), terms=terms)[0] is standing


def read(text: str) -> datetime:
    """Read an instant as documents are read."""
    found = instant(text)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", BOTH)
def test_the_hour_that_comes_twice_holds_two_instants_in_their_order(kind: RequestKind) -> None:
    summer, winter = read("2026-10-25T02:30:00+02:00"), read("2026-10-25T02:30:00+01:00")
    terms = replace(TERMS, now=read("2026-10-25T03:00:00+01:00"), baseline=None)

    assert winter - summer == HOUR
    assert stands(wish(kind, winter), known=handled(kind, summer), terms=terms)[0] is Standing.DUE
    second = stands(wish(kind, summer), known=handled(kind, winter), terms=terms)
    assert second[0] is Standing.SUPERSEDED
    between = replace(terms, now=read("2026-10-25T01:00:00Z"))
    assert stands(wish(kind, winter), terms=between)[0] is Standing.SCHEDULED
    assert stands(wish(kind, summer), terms=between)[0] is Standing.DUE


@pytest.mark.parametrize("kind", BOTH)
def test_equal_instants_in_different_zones_are_one_request(kind: RequestKind) -> None:
    here, there = read("2026-11-22T09:00:00Z"), read("2026-11-22T18:00:00+09:00")

    assert stands(wish(kind, there), known=handled(kind, here))[0] is Standing.DONE
    assert plan_id(plan(wish(kind, here))) == plan_id(plan(wish(kind, there)))


# ── satisfied by somebody else's boot ────────────────────────────────────────────────────────


def booted(at: datetime, ahead: float) -> Logbook:
    """The log of a server that booted at our time *at*, with a clock that is *ahead*."""
    time = round((at.timestamp() + ahead) * 1000)
    return Logbook(readable=True, boot=time, boots=(BOOT, BootLine(time, 7)), newest=time)


@pytest.mark.parametrize("hours", [-11, -1, 0, 3, 14])
def test_a_foreign_boot_counts_by_the_measured_offset_to_the_second(hours: int) -> None:
    ahead = hours * 3600.0
    clock = ClockReading(ahead, 1.5)
    at = NOW - HOUR
    limit = at + timedelta(seconds=1.5) + MARGIN

    for seconds, expected in ((-1, False), (0, False), (1, True)):
        log = booted(limit + timedelta(seconds=seconds), ahead)
        terms = replace(TERMS, log=log, clock=clock)
        standing, code, actions = stands(wish(at=at), terms=terms)

        assert satisfies(log, clock, at) is expected
        assert (standing is Standing.SATISFIED, code, actions) == (
            expected,
            Exit.DONE,
            0 if expected else 1,
        )


def test_a_foreign_boot_satisfies_no_invalidation_and_no_schedule() -> None:
    terms = replace(TERMS, log=booted(NOW + HOUR, 0), clock=ClockReading(0, 1))

    assert stands(wish(RequestKind.CACHE), terms=terms)[0] is Standing.DUE
    assert stands(wish(at=NOW + HOUR / 2), terms=terms)[0] is Standing.SCHEDULED


def test_a_foreign_boot_counts_also_for_what_would_have_expired() -> None:
    terms = replace(TERMS, log=booted(NOW - HOUR, 0), clock=ClockReading(0, 1))

    assert stands(wish(at=NOW - 48 * HOUR), terms=terms)[0] is Standing.SATISFIED


@pytest.mark.parametrize(
    "terms",
    [
        replace(TERMS, log=booted(NOW, 0), clock=None),
        replace(TERMS, log=None, clock=ClockReading(0, 1)),
        replace(TERMS, log=replace(LOG, boots=(), boot=None), clock=ClockReading(0, 1)),
    ],
    ids=["no clock", "not visited", "no boot line"],
)
def test_without_evidence_nothing_is_satisfied(terms: Terms) -> None:
    assert stands(wish(at=NOW - HOUR), terms=terms)[0] is Standing.DUE


def test_a_clock_is_not_believed_when_the_log_lies_in_its_future() -> None:
    log = booted(NOW, 3600)

    assert plausible(ClockReading(3600, 1), log, NOW)
    assert not plausible(ClockReading(0, 1), log, NOW)  # a proxy answered with its own
    assert not plausible(ClockReading(3598.9, 1), log, NOW)
    assert plausible(ClockReading(-9e9, 1), Logbook(readable=True), NOW)


# ── in doubt ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (LOG, Proof.ALIVE),
        (REBOOTED, Proof.BOOTED),
        (replace(REBOOTED, boots=(NEWER,)), Proof.BOOTED),  # the log was cut since
        (replace(LOG, strangers=True), Proof.NOTHING),
        (replace(LOG, boots=(), boot=None), Proof.NOTHING),
        (replace(LOG, boots=(BootLine(BOOT.time - 1, 9),)), Proof.NOTHING),  # a clock set back
        (Logbook(readable=False), Proof.NOTHING),
        (None, Proof.NOTHING),
    ],
)
def test_what_a_log_proves(log: Logbook | None, told: Proof) -> None:
    assert proof(attempt(), log) is told


def test_a_boot_of_the_same_process_id_at_the_same_time_is_the_same_boot() -> None:
    assert proof(attempt(boots=(BOOT, NEWER)), REBOOTED) is Proof.ALIVE
    assert proof(attempt(boots=()), LOG) is Proof.BOOTED  # there was none, now there is


@pytest.mark.parametrize("log", [None, LOG, REBOOTED, Logbook()])
def test_an_invalidation_in_doubt_stays_so_whatever_the_server_shows(log: Logbook | None) -> None:
    terms = replace(TERMS, log=log, clock=ClockReading(0, 1))

    found = line(wish(RequestKind.CACHE, NOW - HOUR), known=sent(RequestKind.CACHE), terms=terms)

    assert (found.standing, found.error, found.action) == (Standing.IN_DOUBT, Exit.IN_DOUBT, None)
    assert "resolve SERVER invalidate-cache 2026-11-22T09:00:00Z" in found.remedy
    assert "apply 1@ci" in found.why


def test_a_reboot_in_doubt_is_found_out_by_the_log() -> None:
    asked = wish(at=NOW - HOUR)

    rebooted = line(asked, known=sent(), terms=replace(TERMS, log=REBOOTED))
    silent = line(asked, known=sent(), terms=replace(TERMS, log=Logbook()))
    unseen = line(asked, known=sent(), terms=replace(TERMS, log=None))

    assert (rebooted.standing, rebooted.error, rebooted.action) == (
        Standing.FOUND_OUT,
        Exit.DONE,
        None,
    )
    for found in (silent, unseen):
        assert (found.standing, found.error) == (Standing.IN_DOUBT, Exit.IN_DOUBT)
        assert found.robots == (f.GRID,)


def test_a_boot_while_our_own_is_open_is_ours_not_a_foreign_one() -> None:
    log = booted(NOW, 0)
    terms = replace(TERMS, log=log, clock=ClockReading(0, 1))
    found = line(wish(at=NOW - HOUR), known=sent(), terms=terms)

    assert satisfies(log, terms.clock, NOW - HOUR)
    assert found.standing is Standing.FOUND_OUT


def test_no_second_try_where_robots_stopped_since_the_first() -> None:
    """Nobody can tell who stopped them: an apply would send nothing, and the plan says the same."""
    stopped = replace(f.GRID, running=False)

    found = line(wish(at=NOW - HOUR), known=sent(), robots=(stopped,))

    assert (found.standing, found.action) == (Standing.FOUND_OUT, None)
    assert "provably not done" in found.why
    assert "do not run any more" in found.why
    assert found.robots == (f.GRID,)


def test_a_reboot_that_provably_did_not_happen_gets_one_second_try() -> None:
    asked = wish(at=NOW - HOUR)
    again = line(asked, known=sent(), robots=(f.GRID,))

    assert again.standing is Standing.DUE
    assert isinstance(again.action, RebootServer)
    assert again.action.again
    assert line(asked, known=sent(tries=2)).standing is Standing.FOUND_OUT
    assert line(known=sent()).standing is Standing.FOUND_OUT  # removed from the document
    late = sent(at=NOW - 25 * HOUR)
    assert line(wish(at=NOW - 25 * HOUR), known=late).standing is Standing.FOUND_OUT


@pytest.mark.parametrize("log", [LOG, REBOOTED, None])
def test_an_open_request_is_told_also_when_no_document_asks_any_more(log: Logbook | None) -> None:
    terms = replace(TERMS, log=log)

    for kind in BOTH:
        found = plan(known=sent(kind), terms=terms)
        assert [entry.kind for entry in found.disruptions] == [kind]
        assert found.actions == ()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("other", BOTH)
def test_while_one_is_in_doubt_another_is_held(kind: RequestKind, other: RequestKind) -> None:
    terms = replace(TERMS, log=replace(LOG, strangers=True))
    found = plan(wish(other), known=sent(kind), terms=terms)
    lines = {entry.standing: entry for entry in found.disruptions}

    assert lines.keys() == {Standing.IN_DOUBT, Standing.HELD}
    assert lines[Standing.HELD].instant == NOW
    assert (found.actions, found.exit_code) == ((), Exit.IN_DOUBT)


@pytest.mark.parametrize("kind", BOTH)
def test_while_robots_are_owed_a_start_a_request_is_held(kind: RequestKind) -> None:
    halt = PendingStarts(
        "reboot", (f.GRID,), "2026-11-22T09:00:00+00:00", "apply", 600, finding="hangs"
    )
    asleep = replace(f.GRID, running=False)
    found = plan(wish(kind), known=Requests(halt=halt), robots=(asleep,))

    assert [entry.standing for entry in found.disruptions] == [Standing.BLOCKED, Standing.HELD]
    assert found.actions == ()


@pytest.mark.parametrize("kind", BOTH)
def test_behind_a_start_of_this_pass_it_is_done_in_the_same(kind: RequestKind) -> None:
    asleep = replace(f.GRID, running=False)
    halt = PendingStarts("reboot", (f.GRID,), NOW.isoformat(), "ci", 600, boot=LOG.boots[-1])
    given: dict[str, Any] = {
        "known": Requests(halt=halt),
        "robots": (asleep,),
        "terms": replace(TERMS, since_halt=1.0),
    }
    start, asked = plan(wish(kind), **given).disruptions
    held = plan(wish(kind), disruptive=False, **given).disruptions
    refused = plan(
        wish(kind), facts={"refuses": blocked(Code.BRAKE, "a brake", "")}, **given
    ).disruptions

    assert (start.standing, asked.standing) == (Standing.DUE, Standing.DUE)
    assert [one.id for one in asked.robots] == ([f.GRID.id] if kind is RequestKind.REBOOT else [])
    assert "stopped robots saved" not in asked.why
    assert [entry.standing for entry in held] == [Standing.HELD, Standing.HELD]
    assert [entry.standing for entry in refused] == [Standing.BLOCKED, Standing.HELD]


@pytest.mark.parametrize("kind", BOTH)
def test_behind_a_reboot_that_is_found_out_it_is_done_in_the_same(kind: RequestKind) -> None:
    terms = replace(TERMS, log=REBOOTED, since_halt=30.0)
    for robots, named in ((Afterwards.RESUME, [f.GRID.id]), (Afterwards.LEAVE, [])):
        open_ = sent(at=NOW - HOUR).open
        assert open_ is not None
        known = Requests(open=replace(open_, robots=robots))
        asleep = replace(f.GRID, running=False)
        *_, found, asked = plan(wish(kind), known=known, terms=terms, robots=(asleep,)).disruptions

        assert (found.standing, asked.standing) == (Standing.FOUND_OUT, Standing.DUE)
        if kind is RequestKind.REBOOT:
            assert [one.id for one in asked.robots] == named


@pytest.mark.parametrize("kind", BOTH)
def test_behind_a_reboot_that_was_not_done_it_waits_for_the_next_apply(kind: RequestKind) -> None:
    """What the failed try stopped would not be among the robots of the next one."""
    found, asked = plan(wish(kind), known=sent(at=NOW - HOUR, tries=2)).disruptions

    assert (found.standing, asked.standing) == (Standing.FOUND_OUT, Standing.HELD)
    assert "was not done" in asked.why


# ── what stands against it ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", BOTH)
def test_a_ledger_that_may_have_forgotten_allows_none(kind: RequestKind) -> None:
    terms = replace(
        TERMS, refused=blocked(Code.LEDGER_CANNOT_TELL, "this ledger began just now", "ask anew")
    )
    found = line(wish(kind), terms=terms)

    assert (found.standing, found.error) == (Standing.BLOCKED, Exit.BLOCKED)
    assert (found.why, found.remedy) == ("this ledger began just now", "ask anew")
    assert plan(wish(kind), terms=terms).actions == ()
    assert stands(wish(kind, NOW + HOUR), terms=terms)[0] is Standing.SCHEDULED


@pytest.mark.parametrize("kind", BOTH)
def test_an_untested_version_or_a_brake_allows_none(kind: RequestKind) -> None:
    refusing = {
        "refuses": blocked(Code.UNTESTED_VERSION, "JT-Trader 9 is outside the tested range", "")
    }

    assert stands(wish(kind), facts=refusing) == (Standing.BLOCKED, Exit.BLOCKED, 0)


@pytest.mark.parametrize("kind", BOTH)
def test_without_consent_to_disrupt_it_is_held(kind: RequestKind) -> None:
    assert stands(wish(kind), disruptive=False) == (Standing.HELD, Exit.DONE, 0)
    assert "--no-disruptive" in line(wish(kind), disruptive=False).why


def test_the_second_try_needs_the_same_as_the_first() -> None:
    asked = wish(at=NOW - HOUR)

    assert len(plan(asked, robots=(f.GRID,), known=sent()).actions) == 1
    assert plan(asked, robots=(f.GRID,), known=sent(), disruptive=False).actions == ()
    assert (
        plan(
            asked, robots=(f.GRID,), known=sent(), windows=(f.window("deny", "* * * * *"),)
        ).actions
        == ()
    )
    refusing = {"refuses": blocked(Code.BRAKE, "the brake is on", "")}
    assert plan(asked, robots=(f.GRID,), known=sent(), facts=refusing).actions == ()
    jumped = replace(TERMS, unsteady="our clock jumped")
    assert plan(asked, robots=(f.GRID,), known=sent(), terms=jumped).actions == ()
    refused = replace(
        TERMS, refused=blocked(Code.LEDGER_CANNOT_TELL, "another ledger might know of it", "")
    )
    assert plan(asked, robots=(f.GRID,), known=sent(), terms=refused).actions == ()


@pytest.mark.parametrize(
    "log", [Logbook(readable=False), replace(LOG, strangers=True)], ids=["unreadable", "strangers"]
)
def test_a_reboot_that_nobody_could_prove_is_blocked_an_invalidation_is_not(log: Logbook) -> None:
    terms = replace(TERMS, log=log)

    assert stands(wish(), terms=terms) == (Standing.BLOCKED, Exit.BLOCKED, 0)
    assert stands(wish(RequestKind.CACHE), terms=terms) == (Standing.DUE, Exit.DONE, 1)


@pytest.mark.parametrize("kind", BOTH)
def test_a_server_on_which_nothing_is_applied_gets_none(kind: RequestKind) -> None:
    suspended = Suspension("maintenance", "desk", None)

    assert plan(wish(kind), mode=Mode.OBSERVE).actions == ()
    assert plan(wish(kind), suspend=suspended, facts={"suspended": True}).actions == ()


def test_two_names_of_one_server_get_none() -> None:
    targets = [Target(f"https://{name}.internal", "0") for name in ("a", "b", "c")]
    made = [plan(wish(), wish(RequestKind.CACHE)), plan(wish()), plan(wish())]
    plans = [replace(one, target=target) for one, target in zip(made, targets, strict=True)]

    held = hold_twins(plans, zip(targets, [(BOOT,), (NEWER,), (BOOT,)], strict=True))
    apart = hold_twins(plans, zip(targets, [(BOOT,), (NEWER,), ()], strict=True))

    assert [len(one.actions) for one in held] == [0, 1, 0]
    assert [one.exit_code for one in held] == [Exit.BLOCKED, Exit.DONE, Exit.BLOCKED]
    assert list(apart) == plans


def test_two_accounts_of_one_server_are_not_two_names_of_it() -> None:
    first, second = (Target("https://a.internal", account) for account in ("0", "42"))
    plans = [replace(plan(wish()), target=first), replace(plan(), target=second)]

    assert list(hold_twins(plans, [(first, (BOOT,)), (second, (BOOT,))])) == plans


@pytest.mark.parametrize(
    ("older", "newer", "one"),
    [
        ("ab", "abc", True),  # looked at before the last boot
        ("ab", "abcde", True),
        ("b", "abc", True),  # its log was cut
        ("abc", "bcd", True),
        ("ab", "xbc", False),  # two servers that booted within one millisecond
        ("ab", "xb", False),
        ("ab", "xy", False),
        ("ab", "", False),
    ],
)
def test_twins_are_known_by_the_boots_of_their_log(older: str, newer: str, *, one: bool) -> None:
    """Right after a boot the newest lines differ, until both documents were looked at again."""
    targets = [Target(f"https://{name}.internal", "0") for name in ("a", "b")]
    lines = [tuple(BootLine(ord(c), 12) for c in text) for text in (older, newer)]

    for order in (1, -1):
        found = twins(zip(targets, lines[::order], strict=True))
        assert found == (frozenset(targets) if one else frozenset())


# ── what it says ─────────────────────────────────────────────────────────────────────────────


def test_a_reboot_names_the_robots_that_stop_and_whether_they_come_back() -> None:
    asleep = Robot(3, "night-owl", "okx", running=False)
    robots = (f.GRID, f.ARB, asleep)
    resumed = line(wish(robots=Afterwards.RESUME), robots=robots)
    left = line(wish(robots=Afterwards.LEAVE), robots=robots, sole_account=True)

    assert resumed.robots == left.robots == (f.GRID, f.ARB)
    assert "stop and are started again: grid-btc, arb-eth" in resumed.why
    assert "robots of other accounts" in resumed.why
    assert "stop and stay stopped: grid-btc, arb-eth" in left.why
    assert "other accounts" not in left.why


def test_an_invalidation_names_the_robots_whose_saved_state_is_lost() -> None:
    asleep = Robot(3, "night-owl", "okx", running=False)

    found = line(wish(RequestKind.CACHE), robots=(f.GRID, asleep))

    assert "what stopped robots saved is lost: night-owl" in found.why
    assert found.robots == ()


def test_what_is_wished_of_a_reboots_robots_is_in_the_plans_id() -> None:
    wishes = [
        *(wish(robots=Afterwards.RESUME), wish(robots=Afterwards.LEAVE)),
        wish(robots=Afterwards.RESUME, resume_within=timedelta(minutes=11)),
    ]
    meant_nothing = wish(robots=Afterwards.LEAVE, resume_within=timedelta(minutes=11))

    assert len({plan_id(plan(one)) for one in wishes}) == 3
    assert plan_id(plan(meant_nothing)) == plan_id(plan(wishes[1]))


def test_robots_reasons_and_sources_do_not_change_the_plans_id() -> None:
    one = plan(wish(robots=Afterwards.RESUME, reason="one"), robots=(f.GRID,))
    two = plan(wish(robots=Afterwards.RESUME, reason="two"), robots=())
    second_try = plan(wish(at=NOW - HOUR), known=sent(), robots=(f.GRID,))

    assert plan_id(one) == plan_id(two)
    assert plan_id(second_try) == plan_id(plan(wish(at=NOW - HOUR)))
    assert plan_id(one) != plan_id(plan(wish(at=NOW - HOUR)))


# ── the robots of a reboot that is found out ─────────────────────────────────────────────────


def found_out(log: Logbook = REBOOTED, robots: Iterable[Robot] = ()) -> ServerPlan:
    """The plan of a server whose reboot was sent by a process that is gone."""
    request = replace(sent().open, robots=Afterwards.RESUME)  # type: ignore[type-var]
    terms = replace(TERMS, log=log, since_halt=30.0)
    return plan(known=Requests(open=request), terms=terms, robots=tuple(robots))


def test_a_found_out_reboot_starts_no_robot_that_the_plan_does_not_name() -> None:
    stopped = replace(f.GRID, running=False)
    found = found_out(robots=[stopped])

    assert found.actions == (ResumeRobots((f.GRID,), attempt().at),)
    assert [line.robots for line in found.disruptions if line.ready] == [(f.GRID,)]
    assert found_out(robots=[f.GRID]).actions == ()


def test_robots_of_a_found_out_reboot_are_left_to_people_after_two_boots() -> None:
    twice = replace(NEWER, time=NEWER.time + 60_000)
    log = replace(REBOOTED, boot=twice.time, boots=(*REBOOTED.boots, twice), newest=twice.time)
    found = found_out(log, [replace(f.GRID, running=False)])

    assert found.actions == ()
    assert "the server booted more than once" in [line.why for line in found.disruptions]
    assert found.exit_code is Exit.BLOCKED


# ── accounts of the same process that are suspended ──────────────────────────────────────────


def beside(until: datetime, account: str = "42") -> tuple[str, Suspension]:
    """Another account of the process, paused until then."""
    return account, Suspension("maintenance", "ann (page)", until, operator=True)


@pytest.mark.parametrize("kind", BOTH)
def test_a_request_waits_for_every_paused_account_of_its_process(kind: RequestKind) -> None:
    others = (beside(NOW, "7"), beside(NOW + HOUR), beside(NOW + 2 * HOUR, "43"))
    found = line(wish(kind), suspended_accounts=others)

    assert (found.standing, found.code, found.error) == (
        Standing.HELD,
        Code.ACCOUNT_SUSPENDED,
        Exit.DONE,
    )
    assert "account 42 of the same server is paused by ann (page) until 2026-11-22T11:00:00Z: " in (
        found.why
    )
    assert "account 43" in found.why
    assert "account 7" not in found.why
    assert found.ready is None


def test_a_request_waits_for_an_account_that_its_document_suspends() -> None:
    until_removed = "42", Suspension("audit", "bob", None)
    found = line(wish(), suspended_accounts=(until_removed,))

    assert (found.standing, found.code) == (Standing.HELD, Code.ACCOUNT_SUSPENDED)
    assert "account 42 of the same server is suspended by bob: audit" in found.why
    assert found.remedy.endswith("or take that suspend out of its document")


def test_a_pause_of_another_account_that_is_over_holds_nothing() -> None:
    assert line(wish(), suspended_accounts=(beside(NOW),)).standing is Standing.DUE


def test_a_second_try_waits_for_a_paused_account_as_well() -> None:
    found = line(
        wish(at=NOW - HOUR),
        robots=(f.GRID,),
        known=sent(),
        suspended_accounts=(beside(NOW + HOUR),),
    )
    assert (found.standing, found.code) == (Standing.HELD, Code.ACCOUNT_SUSPENDED)


def test_what_waits_for_a_pause_alone_is_the_same_wish() -> None:
    waits = plan(wish(), suspended_accounts=(beside(NOW + HOUR),))

    assert plan_id(waits) == plan_id(plan(wish()))
    assert (waits.actions, waits.later) == ((), plan(wish()).actions)


def test_what_this_run_may_not_do_at_all_is_said_before_a_pause() -> None:
    held = line(wish(), suspended_accounts=(beside(NOW + HOUR),), disruptive=False)
    assert held.code == Code.NO_DISRUPTIVE
