"""What Prometheus reads: names, labels, values, and that promtool accepts them."""

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from reconciler.controller.api.responses import status_document
from reconciler.controller.metrics import HELP, exposition
from reconciler.controller.status import Health, Sync
from reconciler.controller.status_store import BUCKETS, StatusStore
from reconciler.model.key_policy import Severity
from reconciler.model.outcomes import Result
from tests.controller.sample_statuses import CLOCK, NOON, braked, busy, calm, status_store
from tests.deploy.tools import tool

ROOT = Path(__file__).parent.parent.parent
NAMES = {
    *("jtr_build_info", "jtr_controller_start_timestamp_seconds", "jtr_acting", "jtr_ready"),
    *("jtr_stuck", "jtr_documents_valid", "jtr_documents_info", "jtr_vault_up"),
    *("jtr_documents_attempted_info", "jtr_documents_trouble_since_timestamp_seconds"),
    *("jtr_vault_token_ttl_seconds", "jtr_ledger_up", "jtr_state_file_up", "jtr_brake_engaged"),
    "jtr_clock_steady",
    *("jtr_pass_age_seconds", "jtr_pass_duration_seconds", "jtr_passes", "jtr_applies"),
    *("jtr_restarts", "jtr_robot_stops", "jtr_notifications", "jtr_server_sync"),
    *("jtr_server_health", "jtr_server_changes", "jtr_server_drift", "jtr_server_contested"),
    *("jtr_server_blocked", "jtr_server_debts", "jtr_server_requests_in_doubt"),
    *("jtr_server_robots_owed", "jtr_server_robots_running", "jtr_server_robots_stopped_unasked"),
    *("jtr_server_suspended", "jtr_server_window_open", "jtr_server_connected"),
    *("jtr_server_failures", "jtr_server_last_success_timestamp_seconds"),
    *("jtr_server_last_seen_timestamp_seconds", "jtr_server_next_pass_timestamp_seconds"),
    *("jtr_key_findings", "jtr_key_asked_timestamp_seconds", "jtr_key_expires_timestamp_seconds"),
    *("jtr_secret_age_seconds", "jtr_tasks"),
}
Series = dict[tuple[str, ...], float]


def text_of(made: StatusStore, clock: float = CLOCK) -> str:
    return exposition(made, NOON.timestamp(), clock).decode()


def families(made: StatusStore, clock: float = CLOCK) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text_of(made, clock))}


def series(made: StatusStore, name: str, clock: float = CLOCK) -> Series:
    """The values of one metric by the values of its labels; whose it is comes first."""
    found: Series = {}
    for family in text_string_to_metric_families(text_of(made, clock)):
        for sample in family.samples:
            if sample.name == name:
                names = sorted(sample.labels, key=lambda n: (n not in ("server", "target"), n))
                found[tuple(sample.labels[name] for name in names)] = sample.value
    return found


def full() -> StatusStore:
    made = status_store(
        calm(),
        busy(),
        token_seconds=1800.0,
        brakes=(braked("0.6.1"), braked("0.5.0", "silence"), braked("0.6.1", server="tokyo-1")),
    )
    made.passes.update(done=5, failed=2)
    made.applies.update({"done": 3, "harm": 1})
    made.restarts["tokyo-1", "reboot"] = 1
    made.stops["osaka-2"] = 2
    made.notifications["chat", "arrived"] = 4
    for seconds in (0.01, 0.05, 0.2, 400.0):
        made.pass_seconds.add(seconds)
    return made


@pytest.mark.parametrize(
    ("name", "made"), [("full", full()), ("empty", StatusStore(status_store().controller))]
)
def test_the_page_is_as_the_file_says(
    name: str, made: StatusStore, request: pytest.FixtureRequest
) -> None:
    path = Path(__file__).parent / "metrics" / f"{name}.prom"
    if request.config.getoption("--rewrite-golden"):
        path.write_text(text_of(made), "utf-8")

    assert text_of(made) == path.read_text("utf-8")


def test_every_metric_has_its_name_its_help_and_no_other_is_there() -> None:
    found = families(full())

    assert set(found) == set(HELP) == NAMES
    assert all(family.documentation.endswith((".", "?")) for family in found.values())
    counters = {name for name, family in found.items() if family.type == "counter"}
    assert counters == {
        "jtr_passes",
        "jtr_applies",
        "jtr_restarts",
        "jtr_robot_stops",
        "jtr_notifications",
    }
    assert found["jtr_pass_duration_seconds"].type == "histogram"
    others = NAMES - counters - {"jtr_pass_duration_seconds"}
    assert {found[name].type for name in others} == {"gauge"}


def test_an_empty_board_has_every_family_too() -> None:
    assert set(families(StatusStore(status_store().controller))) == NAMES


def test_the_controller_itself() -> None:
    made = full()

    assert series(made, "jtr_build_info") == {("1.2.3",): 1}
    assert series(made, "jtr_controller_start_timestamp_seconds") == {
        (): NOON.timestamp() - 2 * 3600
    }
    assert series(made, "jtr_documents_info") == {("0123456789abcdef",): 1}
    assert series(made, "jtr_vault_token_ttl_seconds") == {(): 1800}
    assert series(made, "jtr_brake_engaged") == {
        ("", "0.5.0"): 1,
        ("", "0.6.1"): 1,
        ("tokyo-1", "0.6.1"): 1,
    }
    for name in ("acting", "ready", "documents_valid", "vault_up", "ledger_up", "state_file_up"):
        assert series(made, f"jtr_{name}") == {(): 1}, name
    assert series(made, "jtr_stuck") == {(): 0}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"acting": False}, "jtr_acting"),
        ({"stopping": True}, "jtr_ready"),
        ({"waiting": "Vault"}, "jtr_ready"),
        ({"documents": "a.yaml:1: no"}, "jtr_documents_valid"),
        ({"revision": ""}, "jtr_documents_valid"),
        ({"secrets": "sealed"}, "jtr_vault_up"),
        ({"ledger": "locked"}, "jtr_ledger_up"),
        ({"state": "full"}, "jtr_state_file_up"),
        ({"clock": "our own clock jumped by 7200 s"}, "jtr_clock_steady"),
    ],
)
def test_what_is_wrong_is_a_zero(change: dict[str, object], name: str) -> None:
    assert series(status_store(calm(), **change), name) == {(): 0}


def test_unknown_things_have_no_series() -> None:
    made = status_store(calm(), revision="")

    assert series(made, "jtr_documents_info") == {}
    assert series(made, "jtr_vault_token_ttl_seconds") == {}
    assert series(made, "jtr_brake_engaged") == {}
    assert series(made, "jtr_server_window_open") == {}
    assert series(status_store(busy()), "jtr_server_last_success_timestamp_seconds") == {}


def test_the_age_of_the_last_pass_grows_between_scrapes() -> None:
    made = status_store()

    assert series(made, "jtr_pass_age_seconds") == {(): 30}
    assert series(made, "jtr_pass_age_seconds", CLOCK + 170) == {(): 200}


def test_before_the_first_pass_its_age_counts_from_the_start() -> None:
    made = status_store()
    made.last_pass = None

    assert series(made, "jtr_pass_age_seconds") == {(): 2 * 3600}


def test_a_pass_that_ended_at_the_zero_of_the_clock_counts() -> None:
    made = status_store()
    made.last_pass = 0.0

    assert series(made, "jtr_pass_age_seconds", 7.0) == {(): 7}


def test_passes_are_a_histogram_with_all_of_them_below_infinity() -> None:
    made = full()
    buckets = series(made, "jtr_pass_duration_seconds_bucket")

    assert len(buckets) == len(BUCKETS) + 1
    assert buckets["0.05",] == 2
    assert buckets["0.25",] == 3
    assert buckets["300.0",] == 3
    assert buckets["+Inf",] == 4
    assert series(made, "jtr_pass_duration_seconds_count") == {(): 4}
    assert series(made, "jtr_pass_duration_seconds_sum")[()] == pytest.approx(400.26)


def test_counters_begin_with_zero_so_that_the_first_one_is_seen() -> None:
    made = full()

    assert series(made, "jtr_passes_total") == {("done",): 5, ("failed",): 2}
    applies = series(made, "jtr_applies_total")
    assert set(applies) == {(str(r),) for r in Result} - {("not attempted",)}
    assert (applies["done",], applies["harm",], applies["failed",]) == (3, 1, 0)
    assert series(made, "jtr_restarts_total") == {
        ("osaka-2", "reboot"): 0,
        ("osaka-2", "robots"): 0,
        ("tokyo-1", "reboot"): 1,
        ("tokyo-1", "robots"): 0,
    }
    assert series(made, "jtr_robot_stops_total") == {("osaka-2",): 2, ("tokyo-1",): 0}
    assert series(made, "jtr_notifications_total") == {("chat", "arrived"): 4}


def test_a_server_that_is_gone_keeps_its_counts() -> None:
    made = status_store()
    made.restarts["gone", "robots"] = 2

    assert series(made, "jtr_restarts_total") == {("gone", "robots"): 2}


def test_of_each_axis_exactly_one_state_holds() -> None:
    made = full()

    for name, states, holds in (
        ("jtr_server_sync", Sync, {"tokyo-1": "synced", "osaka-2": "out of sync"}),
        ("jtr_server_health", Health, {"tokyo-1": "healthy", "osaka-2": "degraded"}),
    ):
        found = series(made, name)
        assert set(found) == {(server, str(state)) for server in holds for state in states}
        assert {key for key, value in found.items() if value == 1} == set(holds.items())
        assert sum(found.values()) == len(holds)


def test_the_numbers_of_servers() -> None:
    made = full()

    for name, calm_one, busy_one in (
        ("changes", 0, 2),
        ("drift", 0, 1),
        ("contested", 0, 1),
        ("blocked", 0, 3),
        ("requests_in_doubt", 0, 1),
        ("robots_owed", 0, 1),
        ("robots_running", 1, 0),
        ("robots_stopped_unasked", 0, 1),
        ("suspended", 0, 1),
        ("connected", 1, 0),
        ("failures", 0, 4),
    ):
        found = series(made, f"jtr_server_{name}")
        assert found == {("tokyo-1",): calm_one, ("osaka-2",): busy_one}, name
    assert series(made, "jtr_server_debts") == {
        ("tokyo-1", "restart"): 0,
        ("tokyo-1", "reboot"): 0,
        ("osaka-2", "restart"): 2,
        ("osaka-2", "reboot"): 1,
    }
    assert series(made, "jtr_server_window_open") == {("osaka-2",): 0}
    assert series(made, "jtr_secret_age_seconds") == {("tokyo-1", "bybit"): 86400}
    noon = NOON.timestamp()
    assert series(made, "jtr_key_findings") == {
        **{("tokyo-1", "bybit", str(weight.name.lower())): 0 for weight in Severity},
        ("osaka-2", "okx", "critical"): 1,
        ("osaka-2", "okx", "error"): 0,
        ("osaka-2", "okx", "warning"): 0,  # somebody accepted it
        ("osaka-2", "okx", "info"): 1,
    }
    assert series(made, "jtr_key_asked_timestamp_seconds") == {
        ("tokyo-1", "bybit"): noon - 3 * 3600,
        ("osaka-2", "okx"): noon - 3 * 3600,
    }
    assert series(made, "jtr_key_expires_timestamp_seconds") == {
        ("osaka-2", "okx"): noon + 8.5 * 86400
    }
    assert series(made, "jtr_server_last_success_timestamp_seconds") == {("tokyo-1",): noon - 30}
    assert series(made, "jtr_server_last_seen_timestamp_seconds")["osaka-2",] == noon - 3600
    assert series(made, "jtr_server_next_pass_timestamp_seconds") == {("tokyo-1",): noon + 30}


def test_no_text_of_a_server_breaks_the_format() -> None:
    version = '0.6"}\n\\ jtr_forged 1\n\ud83d\u202e'
    made = status_store(calm(), brakes=(braked(version),))

    (found,) = series(made, "jtr_brake_engaged")
    assert series(made, "jtr_forged") == {}
    assert families(made)["jtr_brake_engaged"].samples[0].value == 1
    assert "\\u000a" in found[1]
    assert "\\ud83d" in found[1]
    assert set(families(made)) == NAMES


def test_a_copy_to_read_in_a_thread_stays_as_it_was() -> None:
    made = full()
    copy, before = made.still(), text_of(made)
    made.passes["done"] += 1
    made.applies["done"] += 1
    made.restarts["tokyo-1", "robots"] += 1
    made.stops["tokyo-1"] += 1
    made.notifications["chat", "arrived"] += 1
    made.pass_seconds.add(1.0)
    made.servers.pop("osaka-2")
    made.note(acting=False)
    made.last_pass = CLOCK

    assert text_of(copy) == before
    assert text_of(made) != before


def test_alerts_and_dashboard_name_only_metrics_that_there_are() -> None:
    known = set()
    for family in text_string_to_metric_families(text_of(full())):
        known |= {sample.name for sample in family.samples} | {family.name}
    for place in ("prometheus", "grafana"):
        for path in sorted((ROOT / "deploy" / place).glob("*")):
            named = set(re.findall(r"\bjtr_[a-z_]+\b", path.read_text("utf-8")))
            assert named, path
            assert named - known == set(), path


@pytest.mark.parametrize("made", [full(), status_store(), StatusStore(status_store().controller)])
def test_promtool_accepts_them(made: StatusStore) -> None:
    promtool = tool("promtool")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=text_of(made),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(("believed", "state"), [(31.0, "synced"), (29.0, "stale")])
def test_what_was_seen_too_long_ago_is_stale_for_metrics_and_status(
    believed: float, state: str
) -> None:
    made = status_store(calm())
    made.believed = believed  # it was seen half a minute before noon

    (server,) = status_document(made, NOON, CLOCK)["servers"]
    assert [key[1] for key, value in series(made, "jtr_server_sync").items() if value] == [state]
    assert server["sync"] == state
