"""The table of verdicts in docs/concepts/verdicts.md, and what consent makes of each row."""

from typing import Any

import pytest

from reconciler.errors import Exit, SecretsUnreachable
from reconciler.model.actions import DeleteExchange, Need, Reason, WriteExchange
from reconciler.model.conditions import Code, blocked
from reconciler.model.desired import DesiredServer
from reconciler.model.evidence import Evidence
from reconciler.model.plan import Category, Line, ServerPlan, Status, Verdict
from reconciler.model.recorded import ExchangeRecord, Purpose, Recorded
from reconciler.model.references import FrozenRef, SecretRef
from reconciler.plan.inputs import Consents, Facts
from reconciler.plan.server import plan_server, wanted_values
from tests.support import factories as f

NEW = f.masks(1)
OTHER = {name: f"somebody-{name}" for name in f.FIELDS}
BOTH = tuple(f.FIELDS)
HALF = {"bybit_api_key": "mask-1-bybit_api_key", "bybit_api_secret": ""}


def planned(
    shown: dict[str, str] | None,
    record: ExchangeRecord | None,
    evidence: Evidence | None = None,
    *,
    version: int = 1,
    consents: Consents | None = None,
    desired: DesiredServer | None = None,
    key_id: str = f.KEY,
) -> ServerPlan:
    """Plan one server with one exchange."""
    observation = f.observed({"bybit": shown} if shown else None, key_id=key_id)
    return plan_server(
        desired or f.server(f.exchange()),
        observation,
        f.recorded(*([record] if record else [])),
        Facts(
            sources={"bybit": f.sources(version)},
            evidence={"bybit": evidence} if evidence else {},
        ),
        # One exchange that changed as a whole looks like another server; see its own tests.
        consents or Consents(targets=frozenset({"tokyo-1"})),
    )


def line(plan: ServerPlan) -> Line:
    """The line of bybit."""
    return next(found for found in plan.lines if found.exchange == "bybit")


def consent(**changes: Any) -> Consents:
    """Consents for the one server, with its address approved."""
    return Consents(targets=frozenset({"tokyo-1"}), **changes)


WRITTEN = ExchangeRecord("bybit", written=f.write(1), ever=True)
UNFINISHED = ExchangeRecord("bybit", written=f.write(1), intent=f.write(2), ever=True)
UNREADABLE = ExchangeRecord("bybit", written=f.write(1, key_id="lost"), ever=True)


@pytest.mark.parametrize(
    ("shown", "record", "evidence", "version", "verdict", "status", "reason"),
    [
        pytest.param(
            None, None, None, 1, Verdict.DIFFERENT, Status.WRITE, Reason.ABSENT, id="empty-never"
        ),
        pytest.param(
            None,
            WRITTEN,
            f.evidence(),
            1,
            Verdict.DIFFERENT,
            Status.LEFT_ALONE,
            Reason.DIFFERS,
            id="empty-wrote-it",
        ),
        pytest.param(
            NEW, WRITTEN, None, 1, Verdict.SAME, Status.IN_SYNC, Reason.NONE, id="ours-as-desired"
        ),
        pytest.param(
            NEW,
            WRITTEN,
            None,
            2,
            Verdict.DIFFERENT,
            Status.WRITE,
            Reason.NEW_VERSION,
            id="ours-of-another-version",
        ),
        pytest.param(
            NEW,
            UNREADABLE,
            f.evidence(*BOTH),
            1,
            Verdict.UNKNOWN,
            Status.WRITE,
            Reason.NOT_VERIFIABLE,
            id="desired-under-an-unknown-key",
        ),
        pytest.param(
            NEW,
            None,
            f.evidence(*BOTH),
            1,
            Verdict.UNKNOWN,
            Status.FOUND,
            Reason.NONE,
            id="desired-strong-foreign",
        ),
        pytest.param(
            OTHER,
            None,
            f.evidence(weak=True),
            1,
            Verdict.UNKNOWN,
            Status.BLOCKED,
            Reason.NOT_VERIFIABLE,
            id="weak-foreign",
        ),
        pytest.param(
            OTHER,
            None,
            f.evidence(),
            1,
            Verdict.DIFFERENT,
            Status.BLOCKED,
            Reason.DIFFERS,
            id="other-foreign",
        ),
        pytest.param(
            OTHER,
            WRITTEN,
            f.evidence(),
            1,
            Verdict.DIFFERENT,
            Status.LEFT_ALONE,
            Reason.DIFFERS,
            id="other-than-we-wrote",
        ),
        pytest.param(
            OTHER,
            WRITTEN,
            f.evidence(*BOTH),
            2,
            Verdict.UNKNOWN,
            Status.FOUND,
            Reason.NONE,
            id="other-than-we-wrote-but-desired",
        ),
        pytest.param(
            OTHER,
            WRITTEN,
            f.evidence(*BOTH, weak=True),
            2,
            Verdict.DIFFERENT,
            Status.LEFT_ALONE,
            Reason.DIFFERS,
            id="other-than-we-wrote-weakly-desired",
        ),
        pytest.param(
            OTHER,
            UNREADABLE,
            f.evidence(),
            1,
            Verdict.DIFFERENT,
            Status.LEFT_ALONE,
            Reason.DIFFERS,
            id="other-under-an-unknown-key",
        ),
        pytest.param(
            HALF,
            None,
            f.evidence("bybit_api_key"),
            1,
            Verdict.DIFFERENT,
            Status.BLOCKED,
            Reason.DIFFERS,
            id="partly-stored-by-another",
        ),
        pytest.param(
            HALF,
            ExchangeRecord("bybit", intent=f.write(1), ever=True),
            f.evidence("bybit_api_key"),
            1,
            Verdict.DIFFERENT,
            Status.WRITE,
            Reason.UNFINISHED,
            id="our-own-torn-write",
        ),
        pytest.param(
            {
                "bybit_api_key": "mask-2-bybit_api_key",
                "bybit_api_secret": "mask-1-bybit_api_secret",
            },
            ExchangeRecord("bybit", written=f.write(1), intent=f.write(2), ever=True),
            f.evidence(),
            2,
            Verdict.DIFFERENT,
            Status.WRITE,
            Reason.UNFINISHED,
            id="our-own-torn-rotation",
        ),
        pytest.param(
            HALF,
            ExchangeRecord("bybit", written=f.write(1), intent=f.write(2), ever=True),
            f.evidence(),
            2,
            Verdict.DIFFERENT,
            Status.LEFT_ALONE,
            Reason.DIFFERS,
            id="unfinished-and-then-another-hand",
        ),
    ],
)
def test_verdict_table(
    shown: dict[str, str] | None,
    record: ExchangeRecord | None,
    evidence: Evidence | None,
    version: int,
    verdict: Verdict,
    status: Status,
    reason: Reason,
) -> None:
    found = line(planned(shown, record, evidence, version=version))

    assert (verdict, status, reason) == (found.verdict, found.status, found.reason)


@pytest.mark.parametrize("status", [Status.FOUND, Status.LEFT_ALONE, Status.BLOCKED])
def test_nothing_is_ready_without_consent(status: Status) -> None:
    plans = {
        Status.FOUND: planned(NEW, None, f.evidence(*BOTH)),
        Status.LEFT_ALONE: planned(OTHER, WRITTEN, f.evidence()),
        Status.BLOCKED: planned(OTHER, None, f.evidence()),
    }

    assert plans[status].actions == ()
    assert line(plans[status]).status is status


def test_drift_is_corrected_with_consent_and_leaves_no_debt_that_acts() -> None:
    plan = planned(OTHER, WRITTEN, f.evidence(), consents=consent(drift=True))
    (action,) = plan.actions

    assert isinstance(action, WriteExchange)
    assert action.purpose is Purpose.CORRECTION
    assert line(plan).category is Category.DRIFT


def test_self_healing_is_consent_to_correct_drift() -> None:
    desired = f.server(f.exchange(), self_heal=True)

    assert planned(OTHER, WRITTEN, f.evidence(), desired=desired).actions


def test_drift_line_says_both_when_vault_moved_too() -> None:
    assert "Vault moved too" in line(planned(OTHER, WRITTEN, f.evidence(), version=2)).why


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("record", [WRITTEN, UNFINISHED], ids=["written", "not finished"])
def test_drift_that_meets_a_rotation_is_a_rotation_for_the_robots(
    record: ExchangeRecord, version: int
) -> None:
    """Else they would trade on with the old key, and nothing would say so."""
    plan = planned(OTHER, record, f.evidence(), version=version, consents=consent(drift=True))
    (action,) = plan.actions

    assert isinstance(action, WriteExchange)
    assert line(plan).category is Category.DRIFT
    assert action.purpose is (Purpose.CORRECTION if version == 1 else Purpose.CHANGE)


@pytest.mark.parametrize("entry", ["tokyo-1", "tokyo-1/bybit"])
def test_taking_over_by_flag(entry: str) -> None:
    plan = planned(OTHER, None, f.evidence(), consents=consent(take_over=frozenset({entry})))
    (action,) = plan.actions

    assert isinstance(action, WriteExchange)
    assert action.purpose is Purpose.CHANGE


def test_a_weak_mask_taken_over_leaves_no_debt_that_acts() -> None:
    plan = planned(
        OTHER, None, f.evidence(weak=True), consents=consent(take_over=frozenset({"tokyo-1"}))
    )
    (action,) = plan.actions

    assert isinstance(action, WriteExchange)
    assert (action.purpose, action.unverified) == (Purpose.CORRECTION, True)


def test_taking_over_in_git_counts_until_something_was_written() -> None:
    desired = f.server(f.exchange(take_over=True))
    again = ExchangeRecord("bybit", ever=True)  # written once, deleted since

    assert planned(OTHER, None, f.evidence(), desired=desired).actions
    assert not planned(OTHER, again, f.evidence(), desired=desired).actions


def test_taking_over_does_not_reach_other_exchanges() -> None:
    consents = consent(take_over=frozenset({"tokyo-1/okx", "osaka-1"}))

    assert not planned(OTHER, None, f.evidence(), consents=consents).actions


def test_rewrite_writes_what_is_in_sync_and_what_was_found_but_takes_nothing_over() -> None:
    consents = consent(rewrite=frozenset({"tokyo-1/bybit"}))

    assert planned(NEW, WRITTEN, f.evidence(*BOTH), consents=consents).actions
    assert planned(NEW, None, f.evidence(*BOTH), consents=consents).actions
    assert planned(OTHER, WRITTEN, f.evidence(), consents=consents).actions
    assert not planned(OTHER, None, f.evidence(), consents=consents).actions


def test_a_pin_that_moved_is_called_so() -> None:
    pinned = f.exchange(secret=SecretRef(f.path(), version=2))
    plan = planned(NEW, WRITTEN, f.evidence(), version=2, desired=f.server(pinned))

    assert line(plan).reason is Reason.PIN_MOVED


def test_another_path_is_called_so() -> None:
    record = ExchangeRecord("bybit", written=f.write(1, code="elsewhere"), ever=True)

    assert line(planned(NEW, record, f.evidence())).reason is Reason.PATH_MOVED


def test_a_recreated_secret_is_another_version_even_under_the_same_number() -> None:
    recreated = {"": FrozenRef(f.path(), 1, "2027-01-01T00:00:00Z")}
    record = ExchangeRecord("bybit", written=f.write(1, sources=recreated), ever=True)

    assert line(planned(NEW, record, f.evidence())).status is Status.WRITE


def test_found_once_is_found_again_without_reading_the_value() -> None:
    record = ExchangeRecord("bybit", found=f.write(1))
    desired, facts = f.server(f.exchange()), Facts(sources={"bybit": f.sources(1)})
    observation = f.observed({"bybit": NEW})
    known = f.recorded(record)

    assert not wanted_values(desired, observation, known, facts, Consents())
    assert line(plan_server(desired, observation, known, facts, Consents())).status is Status.FOUND


def test_a_converged_exchange_needs_no_values() -> None:
    facts = Facts(sources={"bybit": f.sources(1)})
    desired, observation = f.server(f.exchange()), f.observed({"bybit": NEW})

    assert not wanted_values(desired, observation, f.recorded(WRITTEN), facts, Consents())
    assert wanted_values(
        desired, observation, f.recorded(WRITTEN), facts, consent(rewrite=frozenset({"tokyo-1"}))
    ) == ("bybit",)


def test_recorded_plan_does_not_guess_about_somebody_elses_value() -> None:
    assert line(planned(OTHER, None)).status is Status.NOT_COMPARED


# ── absent ───────────────────────────────────────────────────────────────────────────────────


def gone(
    shown: dict[str, str] | None,
    record: ExchangeRecord | None,
    consents: Consents | None = None,
    **changes: Any,
) -> ServerPlan:
    """Plan an exchange that shall be absent."""
    desired = f.server(f.absent(**changes))
    return planned(shown, record, consents=consents, desired=desired)


def test_absent_and_empty_is_in_sync() -> None:
    assert line(gone(None, WRITTEN)).status is Status.IN_SYNC


def test_absent_deletes_what_we_wrote() -> None:
    (action,) = gone(NEW, WRITTEN).actions

    assert action == DeleteExchange("bybit", tuple(sorted(f.FIELDS)))


def test_absent_deletes_only_fields_that_are_there() -> None:
    (action,) = gone(HALF, WRITTEN).actions

    assert action == DeleteExchange("bybit", ("bybit_api_key",))


def test_absent_does_not_delete_what_another_hand_wrote() -> None:
    assert line(gone(OTHER, None)).status is Status.BLOCKED
    assert line(gone(OTHER, WRITTEN)).status is Status.LEFT_ALONE
    assert gone(OTHER, None, consent(take_over=frozenset({"tokyo-1"}))).actions
    assert gone(OTHER, None, take_over=True).actions
    assert gone(OTHER, WRITTEN, consent(drift=True)).actions


def test_absent_is_blocked_while_a_robot_runs_on_it() -> None:
    plan = plan_server(
        f.server(f.absent()),
        f.observed({"bybit": NEW}, robots=(f.GRID,)),
        f.recorded(WRITTEN),
        Facts(),
        Consents(),
    )

    assert line(plan).status is Status.BLOCKED
    assert "grid-btc" in line(plan).why
    assert plan.exit_code is Exit.BLOCKED


# ── what cannot be compared or written ───────────────────────────────────────────────────────


def test_a_failed_read_is_never_an_absence() -> None:
    facts = Facts(sources={"bybit": SecretsUnreachable("Vault is down", "look at it")})
    plan = plan_server(f.server(f.exchange()), f.observed(), f.recorded(WRITTEN), facts, Consents())

    assert (line(plan).status, plan.actions) == (Status.FAILED, ())
    assert plan.exit_code is Exit.SECRETS


def test_an_exchange_that_the_server_does_not_list() -> None:
    desired = f.server(f.exchange("kraken"))
    plan = plan_server(
        desired, f.observed(), f.recorded(), Facts(sources={"kraken": f.sources()}), Consents()
    )

    assert plan.lines[0].status is Status.BLOCKED
    assert "exchanges.conf" in plan.lines[0].remedy
    assert plan.exit_code is Exit.BLOCKED


@pytest.mark.parametrize(
    ("fields", "said"),
    [(("apiKey",), "also asks for secret"), (("apiKey", "secret", "uid"), "not ask for uid")],
)
def test_missing_and_surplus_fields_in_the_file(fields: tuple[str, ...], said: str) -> None:
    desired = f.server(
        f.exchange(secret=None, fields={name: SecretRef(f.path(), name) for name in fields})
    )
    plan = planned(None, None, desired=desired)

    assert line(plan).status is Status.BLOCKED
    assert said in line(plan).why


def test_an_untested_version_is_read_but_not_written() -> None:
    facts = Facts(
        sources={"bybit": f.sources()}, refuses=blocked(Code.UNTESTED_VERSION, "outside", "ask")
    )
    fresh = plan_server(f.server(f.exchange()), f.observed(), Recorded(), facts, Consents())
    converged = plan_server(
        f.server(f.exchange()), f.observed({"bybit": NEW}), f.recorded(WRITTEN), facts, Consents()
    )

    assert (line(fresh).status, fresh.actions) == (Status.BLOCKED, ())
    assert line(converged).status is Status.IN_SYNC


# ── consequences ─────────────────────────────────────────────────────────────────────────────


def need(record: ExchangeRecord, shown: dict[str, str] | None, evidence: Evidence) -> Need | None:
    """What robots need after the planned write."""
    found = line(planned(shown, record, evidence, version=2)).consequence
    return found.need if found else None


def test_a_new_api_key_needs_a_restart_only() -> None:
    assert need(WRITTEN, NEW, f.evidence()) is Need.RESTART


def test_the_same_api_key_with_another_secret_needs_a_reboot() -> None:
    assert need(WRITTEN, NEW, f.evidence(api_key="api-1")) is Need.REBOOT


def test_a_key_written_before_since_the_last_boot_needs_a_reboot() -> None:
    torn = ExchangeRecord("bybit", written=f.write(1), past_keys=(("api-2", "x"),), past_boot=1_000)
    before_boot = ExchangeRecord(
        "bybit", written=f.write(1), past_keys=(("api-2", "x"),), past_boot=999
    )

    assert need(torn, NEW, f.evidence()) is Need.REBOOT
    assert need(before_boot, NEW, f.evidence()) is Need.RESTART


def test_a_moved_path_with_the_same_values_means_nothing_to_robots() -> None:
    assert need(WRITTEN, NEW, f.evidence(unchanged=True)) is None


def test_another_hands_key_that_may_be_the_same_needs_a_reboot() -> None:
    plan = planned(
        OTHER,
        None,
        f.evidence(same_api_key=True),
        consents=consent(take_over=frozenset({"tokyo-1"})),
    )
    consequence = line(plan).consequence

    assert consequence is not None
    assert consequence.need is Need.REBOOT


@pytest.mark.parametrize(("same", "what"), [(True, Need.REBOOT), (False, Need.RESTART)])
@pytest.mark.parametrize("version", [1, 2], ids=["corrected", "and Vault moved too"])
def test_drift_under_the_api_key_that_is_wanted_needs_a_reboot(
    version: int, *, same: bool, what: Need
) -> None:
    """A robot may have started with the other hand's secret, and the server caches by API key."""
    evidence = f.evidence(same_api_key=same, unchanged=version == 1)
    plan = planned(OTHER, WRITTEN, evidence, version=version, consents=consent(drift=True))
    consequence = line(plan).consequence

    assert consequence is not None
    assert consequence.need is what


def test_a_pair_that_two_writes_of_ours_tore_needs_a_reboot() -> None:
    """The API key of the write that did not finish stands beside the secret of the one before."""
    torn = ExchangeRecord("bybit", written=f.write(1), intent=f.write(2), ever=True)
    whole = f.evidence(api_key="api-2", same_api_key=True)
    mixed = {**f.masks(1), "bybit_api_key": f.masks(2)["bybit_api_key"]}

    assert need(torn, mixed, whole) is Need.REBOOT
    assert need(torn, f.masks(1), f.evidence(api_key="api-2")) is Need.RESTART
    assert need(torn, f.masks(2), whole) is Need.RESTART


def test_what_somebody_removed_leaves_no_other_key_in_the_cache() -> None:
    gone = dict.fromkeys(f.FIELDS, "")
    plan = planned(gone, WRITTEN, f.evidence(unchanged=True), consents=consent(drift=True))

    assert line(plan).consequence is None


def test_the_plan_names_the_robots_that_keep_the_old_key() -> None:
    plan = plan_server(
        f.server(f.exchange()),
        f.observed(robots=(f.GRID, f.ARB)),
        Recorded(),
        Facts(sources={"bybit": f.sources()}, evidence={"bybit": f.evidence()}),
        Consents(),
    )
    consequence = line(plan).consequence

    assert consequence is not None
    assert consequence.robots == (f.GRID,)
