"""What a look costs and what it shows, of one server and of many; it changes nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import READS, asked, codes, document, line, results, server, statuses
from tests.support.durations import DURATIONS
from tests.support.rig import Rig


def converged(rig: Rig, *exchanges: str, **spec: Any) -> StandInThread:
    """Bring one server to its document and return it."""
    stand_in = rig.server()
    rig.document("tokyo-1", *exchanges, **spec)
    rig.begin()
    assert rig.apply().code == 0
    return stand_in


def values_read(rig: Rig, paths: list[str]) -> list[str]:
    """Return for which exchanges values were read."""
    prefix = f"secret/data/{rig.path('tokyo-1/')}"
    return sorted(path.removeprefix(prefix) for path in paths if path.startswith(prefix))


# ── what is read ─────────────────────────────────────────────────────────────────────────────


def test_a_converged_pass_reads_metadata_only(rig: Rig, bao: OpenBao) -> None:
    stand_in = converged(rig, "bybit", "okx", "kucoin")
    since = len(stand_in.record.received)

    with asked(bao, rig) as paths:
        planned, applied = rig.plan(), rig.apply()

    assert (planned.code, applied.code) == (0, 0)
    assert values_read(rig, paths) == []
    assert f"secret/metadata/{rig.path('tokyo-1/okx')}" in paths
    assert {received.event for received in stand_in.record.received[since:]} <= READS


def test_a_rotation_reads_the_values_of_that_exchange_only(rig: Rig, bao: OpenBao) -> None:
    converged(rig, "bybit", "okx")
    rig.rotate(exchange="okx")

    with asked(bao, rig) as paths:
        rig.apply()

    assert values_read(rig, paths) == ["okx"]


def test_all_fields_of_an_exchange_are_read_in_one_request(rig: Rig, bao: OpenBao) -> None:
    rig.server()
    rig.rotate(exchange="okx")
    path = rig.reference("tokyo-1/okx")
    mapping = {name: f"{path}#{name}@1" for name in ("apiKey", "secret", "password")}
    rig.document("tokyo-1", "bybit", exchanges={"okx": {"credentials": mapping}})

    with asked(bao, rig) as paths:
        assert rig.plan().code == 0

    assert values_read(rig, paths) == ["bybit", "okx"]


def test_a_plan_sends_reads_only(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", "bybit", "okx")

    assert rig.plan().code == 0
    assert {received.event for received in stand_in.record.received} == READS
    assert {received.command for received in stand_in.record.received} == {"plan"}


def test_a_recorded_plan_contacts_no_server_and_reads_no_value(rig: Rig, bao: OpenBao) -> None:
    stand_in = converged(rig, "bybit", "okx")
    rig.rotate(exchange="okx")
    seen = len(stand_in.record.handshakes)
    stand_in.stop()

    with asked(bao, rig) as paths:
        ran = rig.plan("--recorded", "-o", "json")

    assert ran.code == 0
    assert statuses(ran) == {"bybit": "in sync", "okx": "write"}
    assert server(ran)["ageSeconds"] >= 0
    assert len(stand_in.record.handshakes) == seen
    assert not any(path.startswith("secret/data/") for path in paths)


def test_a_recorded_plan_of_a_server_never_seen_says_so(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.begin()

    ran = rig.plan("--recorded", "-o", "json")

    assert ran.code == 0
    assert "no observation" in server(ran)["held"]


def test_a_recorded_plan_shows_a_changed_address_blocked(rig: Rig) -> None:
    converged(rig)
    secret = f"{rig.reference('tokyo-1')}#access_secret"
    rig.document(rotate=False, url="https://elsewhere.internal", accessSecret=secret)

    assert rig.plan("--recorded").code == 4


# ── what is said ─────────────────────────────────────────────────────────────────────────────


def test_each_line_says_what_why_from_where_and_what_it_means(rig: Rig) -> None:
    converged(rig, "bybit", "okx")
    rig.rotate(exchange="okx")

    text = rig.plan().out

    path = rig.reference("tokyo-1/okx")
    assert "~ okx  write okx_api_key, okx_api_secret, okx_password" in text
    assert f"from {path}@2  (new version in Vault)" in text
    assert "robot arb (2) keeps the old key until" in text
    assert "= in sync: bybit" in text
    assert text.rstrip().endswith("Blast radius: 1 server, 1 exchange, 1 robot.")


def test_a_plan_with_changes_ends_with_2_when_asked_for_details(rig: Rig) -> None:
    rig.server()
    rig.document()

    assert rig.plan().code == 0
    assert rig.plan("--detailed-exitcode", "-o", "json").code == 2


def test_diff_is_another_name_of_plan(rig: Rig) -> None:
    rig.server()
    rig.document()

    assert "1 to write" in rig.jtr("diff", str(rig.docs)).out


def test_documents_of_other_kinds_of_tools_are_counted_as_skipped(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.write("other.yaml", "apiVersion: apps/v1\nkind: Deployment\n")

    ran = rig.plan("-o", "json")

    assert document(ran)["summary"]["skippedDocuments"] == 1


# ── held back ────────────────────────────────────────────────────────────────────────────────


def test_observe_mode_reports_and_writes_nothing(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document(mode="observe")
    rig.begin()

    planned, applied = rig.plan("-o", "json"), rig.apply("-o", "json")

    assert (planned.code, applied.code) == (0, 0)
    assert statuses(planned) == {"bybit": "write"}
    assert server(planned)["actions"] == []
    assert "mode: observe" in server(planned)["held"]
    assert rig.apply("--detailed-exitcode", "-o", "json").code == 2
    assert stand_in.record.saves == 0


def suspension(**spec: str) -> dict[str, Any]:
    """Return a suspension for a document."""
    return {"suspend": {"reason": "exchange maintenance", "by": "desk-asia", **spec}}


def test_a_suspension_holds_everything_back(rig: Rig) -> None:
    stand_in = rig.server()
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    rig.begin()
    for spec in (suspension(), suspension(until=until)):
        rig.document(**spec)
        ran = rig.apply("-o", "json")

        assert ran.code == 0
        assert "suspended by desk-asia" in server(ran)["held"]
    assert stand_in.record.saves == 0


def test_a_suspension_that_ended_does_not_hold(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document(**suspension(until="2026-01-01T00:00:00Z"))
    rig.begin()

    assert rig.apply().code == 0
    assert stand_in.record.saves == 1


def test_declared_security_is_noted_as_not_verified(rig: Rig) -> None:
    rig.server()
    rig.document(security={"permissions": {"allow": ["spot"]}})
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 0
    assert any("security" in note for note in server(ran)["notes"])


# ── many servers ─────────────────────────────────────────────────────────────────────────────


def dead(rig: Rig, name: str = "dead-1") -> None:
    """Add the document of a server that does not answer."""
    rig.server(name).stop()
    rig.document(name)


def test_plan_sets_a_server_that_cannot_be_reached_aside_when_told_so(rig: Rig) -> None:
    rig.server()
    rig.document()
    dead(rig)

    skip = ("--on-unreachable", "skip")
    text, data = rig.plan(*skip), rig.plan(*skip, "-o", "json")

    assert (text.code, data.code) == (0, 0)
    assert text.out.startswith("! not visited: dead-1")
    assert [row["server"] for row in document(data)["servers"]] == ["tokyo-1"]
    assert document(data)["notVisited"][0].startswith("dead-1")


def test_plan_fails_for_it_by_itself(rig: Rig) -> None:
    rig.server()
    rig.document()
    dead(rig)

    ran = rig.plan("-o", "json")

    assert ran.code == 6
    assert codes(ran) == {"dead-1": 6, "tokyo-1": 0}
    assert server(ran, "dead-1")["failure"]["transient"] is True


def test_apply_fails_for_it_and_goes_on_with_the_others(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    dead(rig)
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 6
    assert codes(ran) == {"dead-1": 6, "tokyo-1": 0}
    assert stand_in.record.saves == 1


def test_apply_skips_it_when_told_so(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    dead(rig)
    rig.begin()

    ran = rig.apply("--on-unreachable", "skip", "-o", "json")

    assert ran.code == 0
    assert document(ran)["notVisited"][0].startswith("dead-1")
    assert stand_in.record.saves == 1


def test_a_refused_login_is_not_unreachable(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.put("tokyo-1", access_secret=rig.watch.secret())

    assert rig.plan().code == 6


def test_a_silent_server_delays_nobody_else(rig: Rig) -> None:
    rig.settings(durations=DURATIONS | {"authenticate": "6s"})
    mute = rig.server("mute-1", behaviour=Behaviour(login="silent"))
    rig.document("mute-1")
    quick = [rig.server(f"tokyo-{number}") for number in range(5)]
    for number in range(5):
        rig.document(f"tokyo-{number}")
    rig.begin()

    ran = rig.apply("--parallelism", "2", "-o", "json")

    assert ran.code == 6
    assert [one.record.saves for one in quick] == [1] * 5
    # One wait for the login, not one per server: all were asked while the mute one was waited for.
    assert len(mute.record.handshakes) == 1
    first = [one.record.handshakes[0].at for one in quick]
    assert max(first) - mute.record.handshakes[0].at < 6


@pytest.mark.parametrize(("parallelism", "most"), [("1", 1), ("3", 3)])
def test_no_more_servers_than_allowed_are_visited_at_once(
    rig: Rig, parallelism: str, most: int
) -> None:
    for number in range(6):
        rig.server(f"tokyo-{number}", behaviour=Behaviour(login_delay=0.05))
        rig.document(f"tokyo-{number}")

    assert rig.plan("--parallelism", parallelism).code == 0

    spans = [
        (one.record.handshakes[0].at, one.record.received[-1].at) for one in rig.servers.values()
    ]
    at_once = max(sum(a <= begun <= b for a, b in spans) for begun, _ in spans)
    assert 1 <= at_once <= most


def test_every_server_has_its_own_code_and_the_worst_counts(rig: Rig) -> None:
    rig.server("fine-1")
    rig.server("foreign-1").set_value("bybit_api_key", rig.watch.secret())
    rig.server("empty-1")
    for name in ("fine-1", "foreign-1", "empty-1"):
        rig.document(name)
    rig.put("empty-1/bybit", apiKey=rig.watch.secret())
    dead(rig)
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 5
    assert codes(ran) == {"dead-1": 6, "empty-1": 5, "fine-1": 0, "foreign-1": 4}


def test_an_invalid_document_stops_the_whole_command_before_any_network(
    rig: Rig, bao: OpenBao
) -> None:
    stand_in = rig.server()
    rig.document()
    rig.write("bad.yaml", "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {}\n")
    rig.begin()

    with asked(bao, rig) as paths:
        ran = rig.apply()

    assert ran.code == 3
    assert stand_in.record.handshakes == []
    assert paths == []


def test_settings_beside_the_documents_are_refused(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    file = rig.docs / "settings.txt"
    file.write_text(rig.settings_file.read_text())

    assert rig.plan("--settings", str(file)).code == 64
    assert stand_in.record.handshakes == []


# ── secrets that are not ready ───────────────────────────────────────────────────────────────


def test_a_fresh_version_is_waited_for_until_it_rests(rig: Rig) -> None:
    rig.settings(durations=DURATIONS | {"settle": "1200ms", "settleTotal": "4s"})
    stand_in = rig.server()
    rig.document()
    rig.begin()

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert "has settled" in ran.err
    assert stand_in.record.saves == 1


def test_a_secret_that_is_gone_is_not_an_absence(rig: Rig, bao: OpenBao) -> None:
    stand_in = converged(rig, "bybit", "okx")
    before = stand_in.values()
    bao.delete(rig.path("tokyo-1/okx"), 1)

    ran = rig.apply("-o", "json")

    assert ran.code == 5
    assert statuses(ran) == {"bybit": "in sync", "okx": "failed"}
    assert "deleted" in line(ran, "okx")["why"]
    assert stand_in.values() == before


def test_a_recreated_secret_is_another_version_though_its_number_is_the_same(
    rig: Rig, bao: OpenBao
) -> None:
    stand_in = converged(rig, "bybit")
    bao.remove(rig.path("tokyo-1/bybit"))
    new = rig.rotate(exchange="bybit")

    ran = rig.apply("-o", "json")

    assert results(ran) == {"bybit": "done"}
    assert set(stand_in.values().values()) == set(new.values())
