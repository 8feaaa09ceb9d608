"""Nobody's servers are changed without somebody having agreed to exactly that."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked, document, line, results, statuses, stored
from tests.e2e.terminal import Command
from tests.support.rig import Ran, Rig


def plan_id(rig: Rig, *args: str) -> str:
    """Return the id of what would be done."""
    return str(document(rig.plan(*args, "-o", "json"))["planId"])


def expect(rig: Rig, expected: str, *args: str) -> Ran:
    """Apply only what was expected."""
    return rig.jtr("apply", str(rig.docs), "--expect", expected, *args)


def begun(rig: Rig, *exchanges: str) -> StandInThread:
    """Return a server with a document and a ledger, nothing applied yet."""
    server = rig.server()
    rig.document("tokyo-1", *exchanges)
    rig.begin()
    return server


# ── without a terminal ───────────────────────────────────────────────────────────────────────


def test_without_terminal_and_approval_nothing_is_even_contacted(rig: Rig, bao: OpenBao) -> None:
    server = begun(rig)

    with asked(bao, rig) as paths:
        ran = rig.process("apply", str(rig.docs))

    assert ran.code == 64
    assert "--expect PLANID or --auto-approve" in ran.err
    assert server.record.handshakes == []
    assert paths == []


def test_without_terminal_a_missing_ledger_is_not_made(rig: Rig) -> None:
    server = rig.server()
    rig.document()

    ran = rig.apply()

    assert ran.code == 4
    assert "jtr ledger init" in ran.err
    assert server.record.handshakes == []
    assert not (rig.home / "state").exists()


def test_the_expected_plan_is_applied(rig: Rig) -> None:
    server = begun(rig, "bybit", "okx")

    ran = expect(rig, plan_id(rig))

    assert ran.code == 0
    assert server.record.saves == 2


def test_what_was_applied_already_is_no_failure(rig: Rig) -> None:
    server = begun(rig)
    expected = plan_id(rig)
    expect(rig, expected)

    text, data = expect(rig, expected), expect(rig, expected, "-o", "json")

    assert (text.code, data.code) == (0, 0)
    assert "already applied" in text.out
    assert document(data)["summary"]["writes"] == 0
    assert server.record.saves == 1


def test_already_applied_is_not_said_of_a_server_that_cannot_be_reached(rig: Rig) -> None:
    server = begun(rig)
    expected = plan_id(rig)
    server.stop()

    ran = expect(rig, expected)

    assert ran.code == 6
    assert "already applied" not in ran.text


def test_another_plan_is_refused_and_what_is_new_is_told(rig: Rig) -> None:
    server = begun(rig)
    expected = plan_id(rig)
    rig.rotate(exchange="bybit")

    ran = expect(rig, expected)

    assert ran.code == 4
    assert "the plan is not the expected one" in ran.err
    assert f"write bybit from {rig.reference('tokyo-1/bybit')}@2" in ran.err
    assert server.record.saves == 0


def test_a_plan_file_is_compared_line_by_line(rig: Rig, tmp_path: Path) -> None:
    server = begun(rig, "bybit", "okx")
    file = tmp_path / "plan.json"
    file.write_text(rig.plan("-o", "json").out)
    rig.rotate(exchange="okx")

    ran = expect(rig, str(file))
    path = rig.reference("tokyo-1/okx")

    assert ran.code == 4
    assert f"- tokyo-1: write okx from {path}@1" in ran.err
    assert f"+ tokyo-1: write okx from {path}@2" in ran.err
    assert "bybit" not in ran.err
    assert server.record.saves == 0


def test_lines_of_a_server_that_nobody_has_seen_are_compared_as_well(
    rig: Rig, tmp_path: Path
) -> None:
    server = begun(rig, "bybit", "okx")
    file = tmp_path / "plan.json"
    file.write_text(rig.plan("--recorded", "-o", "json").out)
    seen = len(server.record.handshakes)
    rig.rotate(exchange="okx")

    ran = expect(rig, str(file))
    path = rig.reference("tokyo-1/okx")

    assert seen == 0
    assert ran.code == 4
    assert f"- tokyo-1: write okx from {path}@1" in ran.err
    assert f"+ tokyo-1: write okx from {path}@2" in ran.err
    assert "bybit" not in ran.err
    assert server.record.saves == 0


def test_a_plan_file_that_still_fits_is_applied(rig: Rig, tmp_path: Path) -> None:
    server = begun(rig)
    file = tmp_path / "plan.json"
    file.write_text(rig.plan("-o", "json").out)

    assert expect(rig, str(file)).code == 0
    assert server.record.saves == 1


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"planId": 7, "servers": [1]}'])
def test_what_is_neither_an_id_nor_a_plan_file_is_a_usage_error(
    rig: Rig, tmp_path: Path, content: str | None
) -> None:
    server = begun(rig)
    file = tmp_path / "plan.json"
    if content is not None:
        file.write_text(content)

    assert expect(rig, str(file)).code == 64
    assert server.record.saves == 0


def test_expecting_a_plan_does_not_correct_drift(rig: Rig) -> None:
    server = begun(rig, "bybit", "okx")
    rig.apply()
    server.set_value("okx_api_key", rig.watch.secret("hex"))
    rig.rotate(exchange="bybit")

    expected = plan_id(rig)
    with_drift = plan_id(rig, "--correct-drift")
    ran = expect(rig, expected, "-o", "json")

    assert expected != with_drift
    assert (ran.code, results(ran)) == (0, {"bybit": "done"})
    assert expect(rig, with_drift, "--correct-drift").code == 4  # bybit is done already
    assert expect(rig, plan_id(rig, "--correct-drift"), "--correct-drift").code == 0
    assert rig.plan("--detailed-exitcode").code == 0


def test_the_id_is_the_same_from_plan_apply_and_the_ledgers_observations(rig: Rig) -> None:
    server = begun(rig, "bybit", "okx", "kucoin")
    rig.apply()
    rig.rotate(exchange="okx")
    server.set_running(2, running=False)  # kucoin has no robot; nothing that a robot does counts
    rig.document("tokyo-1", "bybit", "okx", rotate=False, exchanges={"kucoin": {"state": "absent"}})

    live, recorded = plan_id(rig), plan_id(rig, "--recorded")
    moment_later = plan_id(rig)
    applied = rig.apply("-o", "json")

    assert live == recorded == moment_later == document(applied)["planId"]
    assert results(applied) == {"okx": "done", "kucoin": "done"}


def test_the_id_does_not_depend_on_the_order_of_the_files(rig: Rig) -> None:
    for name in ("tokyo-1", "tokyo-2"):
        rig.server(name)
        rig.document(name)
    files = [str(rig.docs / f"tokyo-{number}.yaml") for number in (1, 2)]

    ids = {
        json.loads(rig.jtr("plan", *order, "-o", "json").out)["planId"]
        for order in (files, files[::-1])
    }

    assert len(ids) == 1


# ── at a terminal ────────────────────────────────────────────────────────────────────────────


def test_a_terminal_is_asked_and_a_new_ledger_is_begun_and_said(rig: Rig) -> None:
    server = rig.server()
    rig.document(rotate=False)
    new = stored("bybit", rig.rotate())

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.answer("Apply 1 change?", "y")
        code = command.ended()
        text = command.text

    assert code == 0, text
    assert "began a new ledger: sqlite:" in text
    assert "made a new fingerprint key" in text
    assert server.values() == new


def test_a_no_leaves_everything_as_it_is(rig: Rig) -> None:
    server = begun(rig)

    with Command(rig, "apply", str(rig.docs), "--detailed-exitcode", terminal=True) as command:
        command.answer("Apply 1 change?", "n")
        code = command.ended()

    assert code == 4
    assert "Cancelled: nothing was written." in command.text
    assert "Nothing to do" not in command.text
    assert server.record.saves == 0


@pytest.mark.parametrize("wrong", ["sha256:", "sha256:12", f"sha256:{'a' * 64}", "sha256:x/y"])
def test_an_expected_id_that_is_none_is_a_usage_error(rig: Rig, wrong: str) -> None:
    begun(rig)

    assert expect(rig, wrong).code == 64


def test_nothing_is_already_applied_while_drift_is_open(rig: Rig) -> None:
    server = begun(rig)
    rig.apply()
    server.set_value("bybit_api_key", rig.watch.secret("hex"))

    recipients, _, actions = plan_id(rig).partition("-")

    ran = expect(rig, f"{recipients}-{actions[::-1]}")

    assert ran.code == 4
    assert "already applied" not in ran.text


def test_drift_that_came_after_a_plan_was_applied_does_not_undo_that(rig: Rig) -> None:
    server = begun(rig)
    expected = plan_id(rig)
    expect(rig, expected)
    theirs = rig.watch.secret("hex")
    server.set_value("bybit_api_key", theirs)

    plain, detailed = expect(rig, expected), expect(rig, expected, "--detailed-exitcode")

    assert (plain.code, detailed.code) == (0, 2)
    assert "already applied" in plain.out
    assert server.values()["bybit_api_key"] == theirs


# ── who would get what ───────────────────────────────────────────────────────────────────────


def news(ran: Ran) -> list[str]:
    """Return in which way the only server of a plan is a new recipient."""
    (found,) = document(ran)["servers"]
    return [one["kind"] for one in found["newRecipient"]]


def test_what_goes_where_for_the_first_time_is_said_first(rig: Rig) -> None:
    begun(rig)
    first, text = rig.plan("-o", "json"), rig.plan().out
    rig.apply()
    known = rig.plan("-o", "json")
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    rig.rotate(exchange="okx")
    more, recorded = rig.plan("-o", "json"), rig.plan("--recorded").out

    assert news(first) == ["first contact", "login", "values"]
    assert text.splitlines()[1].strip() == "NEW RECIPIENT"
    assert f"gets values of: {rig.reference('tokyo-1/bybit')}" in text
    assert news(known) == []
    assert news(more) == ["values"]
    assert f"gets values of: {rig.reference('tokyo-1/okx')}" in recorded


def test_a_path_that_was_written_once_is_no_news_when_it_comes_back(rig: Rig) -> None:
    begun(rig, "kucoin")
    rig.apply()
    rig.document("tokyo-1", "kucoin", rotate=False, exchanges={"kucoin": {"state": "absent"}})
    assert rig.apply().code == 0
    rig.document("tokyo-1", "kucoin", rotate=False)

    assert news(rig.plan("-o", "json")) == []


def test_a_changed_login_is_in_the_plan_and_in_its_id_and_is_not_sent_unseen(
    rig: Rig, bao: OpenBao
) -> None:
    server = begun(rig)
    rig.apply()
    expected, greeted = plan_id(rig), len(server.record.handshakes)
    other = f"{rig.reference('another')}#access_secret"
    rig.document("tokyo-1", rotate=False, accessSecret=other)

    recorded = rig.plan("--recorded", "-o", "json")
    with asked(bao, rig) as paths:
        ran = expect(rig, expected)

    assert news(recorded) == ["login"]
    assert document(recorded)["planId"] != expected
    assert ran.code == 4
    assert "who would get what is not as in the expected plan" in ran.err
    assert f"login {other}" in ran.err
    assert paths == []
    assert len(server.record.handshakes) == greeted


def test_a_plan_file_tells_which_recipients_differ(rig: Rig, tmp_path: Path) -> None:
    server = begun(rig)
    file = tmp_path / "plan.json"
    file.write_text(rig.plan("-o", "json").out)
    rig.document("tokyo-1", rotate=False, accessSecret=f"{rig.reference('another')}#secret")

    ran = expect(rig, str(file))

    assert ran.code == 4
    rows = [row.strip()[0] for row in ran.err.splitlines() if "tokyo-1: http" in row]
    assert rows == ["-", "+"]
    assert server.record.saves == 0


def drifted(rig: Rig) -> StandInThread:
    """Return a server with a change and a drift."""
    server = begun(rig, "bybit", "okx")
    rig.apply()
    server.set_value("okx_api_key", rig.watch.secret("hex"))
    return server


@pytest.mark.parametrize(
    ("change", "drift", "written", "code"),
    [
        ("y", "n", {"bybit"}, 2),
        ("n", "y", {"okx"}, 2),
        ("y", "y", {"bybit", "okx"}, 0),
    ],
)
def test_changes_and_drift_are_asked_apart(
    rig: Rig, change: str, drift: str, written: set[str], code: int
) -> None:
    server = drifted(rig)
    rig.rotate(exchange="bybit")
    since = len(server.record.history)

    args = ("apply", str(rig.docs), "--detailed-exitcode")
    with Command(rig, *args, terminal=True) as command:
        command.answer("Apply 1 change?", change)
        command.answer("Correct 1 drifted exchange as well?", drift)
        ended = command.ended()

    saved = {names[0].partition("_")[0] for _, _, *names in server.record.history[since:]}
    assert (saved, ended) == (written, code)


def test_drift_agreed_to_at_a_terminal_does_not_get_past_the_brake(rig: Rig) -> None:
    server = drifted(rig)
    saves = server.record.saves
    rig.settings(acceptVersions=["0.26.0"])
    server.behaviour.version = "0.27.0"  # nobody accepted this one

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.answer("Correct 1 drifted exchange as well?", "y")
        code = command.ended()
        text = command.text

    assert code == 4, text
    assert "outside the tested range" in text
    assert server.record.saves == saves


def test_what_a_person_types_while_the_prompt_waits_is_not_overwritten(rig: Rig) -> None:
    server = begun(rig)
    rig.apply()
    rig.rotate()
    theirs = rig.watch.secret("hex")

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.expect("Apply 1 change?")
        server.set_value("bybit_api_secret", theirs)
        command.answer("Apply 1 change?", "y")
        code = command.ended()
        text = command.text

    assert code == 4, text
    assert "changed on the server since it was planned" in text
    assert server.values()["bybit_api_secret"] == theirs


def test_a_server_that_hung_up_while_the_prompt_waited_is_called_again(rig: Rig) -> None:
    server = begun(rig)

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.expect("Apply 1 change?")
        server.drop_connections()
        command.answer("Apply 1 change?", "y")
        code = command.ended()

    assert code == 0
    assert server.record.saves == 1


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_at_the_prompt_ends_it_at_once(
    rig: Rig, number: signal.Signals, code: int
) -> None:
    server = begun(rig)

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.expect("Apply 1 change?")
        command.signal(number)
        ended = command.ended(patience=5)

    assert ended == code
    assert server.record.saves == 0


def test_the_end_of_input_at_the_prompt_is_no_yes(rig: Rig) -> None:
    server = begun(rig)

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.answer("Apply 1 change?", "\x04")
        code = command.ended()

    assert code == 130
    assert server.record.saves == 0


def test_foreign_exchanges_are_never_offered_at_the_prompt(rig: Rig) -> None:
    server = begun(rig)
    server.set_value("bybit_api_key", rig.watch.secret())

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        code = command.ended()
        text = command.text

    assert code == 4
    assert "[y/N]" not in text
    assert server.record.saves == 0


def test_auto_approve_asks_nothing_at_a_terminal_and_leaves_drift(rig: Rig) -> None:
    server = drifted(rig)
    saves = server.record.saves

    with Command(rig, "apply", str(rig.docs), "--auto-approve", terminal=True) as command:
        code = command.ended()

    assert code == 0
    assert server.record.saves == saves


# ── what may be named ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "args",
    [
        ("--server", "nowhere"),
        ("--selector", "env=nowhere"),
        ("--selector", "nonsense"),
        ("--take-over", "nowhere"),
        ("--take-over", "tokyo-1/okx"),
        ("--rewrite", "nowhere/bybit"),
        ("--rewrite", "tokyo-1/okx"),
        ("--approve-target-change", "nowhere"),
        ("--parallelism", "0"),
        ("--on-unreachable", "ignore"),
    ],
    ids=" ".join,
)
def test_a_name_that_does_not_exist_is_a_usage_error_before_any_connection(
    rig: Rig, args: tuple[str, ...]
) -> None:
    server = begun(rig)

    assert (rig.plan(*args).code, rig.apply(*args).code) == (64, 64)
    assert server.record.handshakes == []


def labelled(rig: Rig, name: str, **labels: str) -> StandInThread:
    """Return a server whose document carries labels."""
    server = rig.server(name)
    file = rig.document(name)
    text = file.read_text().replace("metadata:\n", f"metadata:\n  labels: {json.dumps(labels)}\n")
    file.write_text(text)
    return server


@pytest.mark.parametrize(
    ("args", "chosen"),
    [
        (("--server", "tokyo-1"), {"tokyo-1"}),
        (("--server", "tokyo-1", "--server", "paris-1"), {"tokyo-1", "paris-1"}),
        (("--selector", "env=prod"), {"tokyo-1", "paris-1"}),
        (("--selector", "env=prod,region=eu"), {"paris-1"}),
        (("--selector", "env=prod", "--server", "tokyo-1"), {"tokyo-1"}),
    ],
    ids=lambda value: " ".join(sorted(value)),  # a set has no order, and all workers need one
)
def test_only_the_chosen_servers_are_visited(
    rig: Rig, args: tuple[str, ...], chosen: set[str]
) -> None:
    labelled(rig, "tokyo-1", env="prod", region="asia")
    labelled(rig, "tokyo-2", env="test", region="asia")
    labelled(rig, "paris-1", env="prod", region="eu")
    rig.begin()

    ran = rig.apply(*args, "-o", "json")

    done: dict[str, Any] = {name: server.record for name, server in rig.servers.items()}
    assert ran.code == 0
    assert {name for name, record in done.items() if record.handshakes} == chosen
    assert {name for name, record in done.items() if record.saves} == chosen


def test_a_foreign_exchange_is_named_with_the_option_that_takes_it_over(rig: Rig) -> None:
    server = begun(rig)
    server.set_value("bybit_api_key", rig.watch.secret())

    ran = rig.plan("-o", "json")

    assert statuses(ran) == {"bybit": "blocked"}
    assert "jtr apply --take-over tokyo-1/bybit" in line(ran, "bybit")["remedy"]
