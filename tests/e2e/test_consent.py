"""Nothing goes to a server that never got it before somebody agreed to that."""

import json

import pytest

from reconciler.sandbox.jt_trader.server import StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked, document, line, results, server, statuses, stored
from tests.e2e.terminal import Command
from tests.support.rig import Rig

YES = ("--approve-recipient", "tokyo-1")


@pytest.fixture(autouse=True)
def nobody_speaks(rig: Rig) -> None:
    """No policy says who may have what."""
    rig.settings(policy=None)


def begun(rig: Rig, *exchanges: str) -> StandInThread:
    stand_in = rig.server()
    rig.document("tokyo-1", *exchanges)
    rig.begin()
    return stand_in


@pytest.mark.parametrize("command", ["plan", "apply", "status", "logs", "doctor", "audit"])
def test_a_new_server_is_not_contacted_and_no_value_is_read(
    rig: Rig, bao: OpenBao, command: str
) -> None:
    stand_in = begun(rig)
    docs = str(rig.docs)
    words = {
        "plan": ("plan", docs),
        "apply": ("apply", docs, "--auto-approve"),
        "status": ("status", "--live", "--from", docs),
        "logs": ("logs", "tokyo-1", "--from", docs),
        "doctor": ("doctor", docs),
        "audit": ("audit", docs, "--visit"),
    }[command]

    with asked(bao, rig) as paths:
        ran = rig.jtr(*words)

    assert stand_in.record.handshakes == []
    login = f"secret/data/{rig.path('tokyo-1')}"
    assert login not in paths
    if command not in ("doctor", "audit"):  # these go on with what needs no visit
        assert ran.code == 4, ran
    held = "nobody agreed yet" if command == "audit" else "--approve-recipient tokyo-1"
    assert held in ran.text


def test_who_agreed_is_not_asked_again(rig: Rig) -> None:
    stand_in = begun(rig)
    looked = rig.plan(*YES)
    first = rig.apply(*YES)
    rig.rotate()
    again = rig.apply()

    assert "+ bybit  write" in looked.out
    assert (looked.code, first.code, again.code) == (0, 0, 0)
    assert stand_in.record.saves == 2


def test_what_is_held_says_what_would_go_where_and_what_to_do(rig: Rig) -> None:
    begun(rig)
    ran = rig.plan()

    assert ran.code == 4
    assert f"» gets as its login: {rig.reference('tokyo-1')}#access_secret" in ran.out
    assert f"» gets values of: {rig.reference('tokyo-1/bybit')}" in ran.out
    assert "nothing is applied: nobody agreed yet that it gets this" in ran.out


def test_a_new_secret_of_a_known_server_waits_and_the_others_go_on(rig: Rig) -> None:
    stand_in = begun(rig)
    rig.apply(*YES)
    rig.rotate()
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    rig.rotate(exchange="okx")

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert results(ran) == {"bybit": "done"}
    okx = line(ran, "okx")
    assert (okx["status"], okx["asks"]) == ("blocked", "--approve-recipient")
    assert rig.reference("tokyo-1/okx") in okx["why"]
    assert "okx_api_key" not in stand_in.values()
    assert rig.apply(*YES).code == 0
    assert "okx_api_key" in stand_in.values()


def found_by_hand(rig: Rig) -> StandInThread:
    """A known server; a document names one more secret, whose value somebody connected by hand."""
    stand_in = begun(rig)
    rig.apply(*YES)
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    for name, value in stored("okx", rig.rotate(exchange="okx")).items():
        stand_in.set_value(name, value)
    return stand_in


def emptied(rig: Rig, stand_in: StandInThread) -> None:
    """Somebody takes it out again, and the secret has a newer version."""
    for name in stored("okx", rig.rotate(exchange="okx")):
        stand_in.remove_value(name)


def test_what_was_found_there_is_no_yes_to_send_the_next(rig: Rig) -> None:
    stand_in = found_by_hand(rig)
    found = rig.apply("-o", "json")
    emptied(rig, stand_in)

    ran = rig.apply("-o", "json")

    assert (found.code, statuses(found)["okx"]) == (0, "found")
    assert ran.code == 4
    assert (line(ran, "okx")["status"], line(ran, "okx")["asks"]) == (
        "blocked",
        "--approve-recipient",
    )
    assert "okx_api_key" not in stand_in.values()
    assert rig.apply(*YES).code == 0
    assert "okx_api_key" in stand_in.values()


def test_who_agreed_to_what_was_found_is_not_asked_again(rig: Rig) -> None:
    stand_in = found_by_hand(rig)
    before, found = rig.plan(), rig.apply(*YES, "-o", "json")
    after = rig.plan()
    emptied(rig, stand_in)

    ran = rig.apply()

    assert statuses(found)["okx"] == "found"
    new = f"gets values of: {rig.reference('tokyo-1/okx')}"
    assert (new in before.out, new in after.out) == (True, False)
    assert ran.code == 0, ran.text
    assert "okx_api_key" in stand_in.values()


def test_who_expects_a_plan_agreed_to_its_recipients(rig: Rig) -> None:
    stand_in = begun(rig)
    rig.apply(*YES)
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    rig.rotate(exchange="okx")
    waiting = document(rig.plan("-o", "json"))["planId"]
    agreed = document(rig.plan(*YES, "-o", "json"))["planId"]
    recorded = document(rig.plan("--recorded", "-o", "json"))["planId"]

    ran = rig.jtr("apply", str(rig.docs), "--expect", waiting)

    assert waiting == agreed == recorded
    assert ran.code == 0
    assert "okx_api_key" in stand_in.values()


def test_the_first_apply_by_an_expected_plan(rig: Rig) -> None:
    stand_in = begun(rig)
    expected = document(rig.plan(*YES, "-o", "json"))["planId"]

    ran = rig.jtr("apply", str(rig.docs), "--expect", expected)

    assert ran.code == 0
    assert stand_in.record.saves == 1


def test_a_changed_login_waits_although_the_server_is_known(rig: Rig) -> None:
    stand_in = begun(rig)
    rig.apply(*YES)
    greeted = len(stand_in.record.handshakes)
    rig.put("other", access_secret="x" * 24)
    rig.document("tokyo-1", rotate=False, accessSecret=f"{rig.reference('other')}#access_secret")

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert server(ran)["held"].startswith("nobody agreed yet")
    assert len(stand_in.record.handshakes) == greeted


def test_who_moves_a_server_agrees_to_what_it_gets_there(rig: Rig) -> None:
    begun(rig)
    rig.apply(*YES)
    moved = rig.server("new")
    login = f"{rig.reference('new')}#access_secret"
    rig.document("tokyo-1", rotate=False, url=moved.url, accessSecret=login)

    held = rig.apply()
    ran = rig.apply("--approve-target-change", "tokyo-1", "--correct-drift")

    assert held.code == 4
    assert "its address changed" in held.out
    assert ran.code == 0, ran
    assert moved.record.saves == 1


def test_that_it_is_the_right_server_says_nothing_of_what_it_gets(rig: Rig) -> None:
    """The same flag also accepts another server behind an address that did not change."""
    stand_in = begun(rig)
    rig.apply(*YES)
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    rig.rotate(exchange="okx")

    ran = rig.apply("--approve-target-change", "tokyo-1", "-o", "json")

    assert ran.code == 4
    assert line(ran, "okx")["asks"] == "--approve-recipient"
    assert "okx_api_key" not in stand_in.values()


def test_the_owners_word_is_enough(rig: Rig) -> None:
    stand_in = begun(rig, "bybit", "okx")
    rig.bao.bind(rig.path("tokyo-1"), stand_in.url)
    rig.bao.bind(rig.path("tokyo-1/bybit"), stand_in.url)

    ran = rig.apply("-o", "json")

    assert ran.code == 4  # nobody has a word for okx
    assert statuses(ran) == {"bybit": "write", "okx": "blocked"}
    assert "bybit_api_key" in stand_in.values()
    assert "okx_api_key" not in stand_in.values()


def test_a_secret_that_is_not_there_is_bound_to_nobody(rig: Rig) -> None:
    """That a server is new is said, whatever else is wrong with its secrets."""
    stand_in = begun(rig)
    credentials = rig.reference("nothing/there")
    rig.document("tokyo-1", rotate=False, exchanges={"bybit": {"credentials": credentials}})

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert server(ran)["held"].startswith("nobody agreed yet")
    assert stand_in.record.handshakes == []


def test_a_bound_key_does_not_open_the_way_for_an_unbound_login(rig: Rig) -> None:
    stand_in = begun(rig)
    rig.bao.bind(rig.path("tokyo-1/bybit"), stand_in.url)

    assert rig.apply().code == 4
    assert stand_in.record.handshakes == []


def test_a_policy_is_enough(rig: Rig) -> None:
    stand_in = begun(rig)
    rig.settings()

    assert rig.apply().code == 0
    assert stand_in.record.saves == 1


def test_an_unknown_server_is_a_mistake_of_the_command_line(rig: Rig) -> None:
    begun(rig)
    ran = rig.apply("--approve-recipient", "tokio-1")

    assert ran.code == 64
    assert "--approve-recipient tokio-1: no server is called tokio-1" in ran.err


# ── at a terminal ────────────────────────────────────────────────────────────────────────────


def test_a_newcomer_is_asked_once_before_anything_is_contacted(rig: Rig) -> None:
    stand_in = begun(rig)
    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.expect("Is it right that tokyo-1 gets this?")
        before = len(stand_in.record.handshakes)
        asked_for = command.text
        command.answer("Is it right that tokyo-1 gets this?", "y")
        command.answer("Apply 1 change?", "y")
        code = command.ended()

    assert before == 0
    assert f"gets as its login: {rig.reference('tokyo-1')}#access_secret" in asked_for
    assert f"gets values of: {rig.reference('tokyo-1/bybit')}" in asked_for
    assert code == 0
    assert stand_in.record.saves == 1

    rig.rotate()
    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.answer("Apply 1 change?", "y")
        code = command.ended()
        assert "Is it right" not in command.text
    assert code == 0


def test_who_says_no_has_contacted_nothing(rig: Rig) -> None:
    stand_in = begun(rig)
    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.answer("Is it right that tokyo-1 gets this?", "n")
        code = command.ended()

    assert code == 4
    assert stand_in.record.handshakes == []


def test_auto_approve_at_a_terminal_is_not_asked_and_does_nothing(rig: Rig) -> None:
    stand_in = begun(rig)
    with Command(rig, "apply", str(rig.docs), "--auto-approve", terminal=True) as command:
        code = command.ended()
        assert "Is it right" not in command.text

    assert code == 4
    assert stand_in.record.handshakes == []


def test_what_programs_read(rig: Rig) -> None:
    begun(rig)
    held = json.loads(rig.plan("-o", "json").out)["servers"][0]

    assert [one["kind"] for one in held["newRecipient"]] == ["first contact", "login", "values"]
    assert held["exitCode"] == 4


# ── addresses that read one way and lead another ─────────────────────────────────────────────

SPELLINGS = (
    "http://127.0.0.1:{good}@127.0.0.1:{evil}",
    "http://127.0.0.1:{good}%40127.0.0.1:{evil}",
    "http://127.0.0.1:{good}#@127.0.0.1:{evil}",
    "http://127.0.0.1:{evil}#127.0.0.1:{good}",
    "http://127.0.0.1:{evil}?127.0.0.1:{good}",
    "http://127.0.0.1:{evil}/127.0.0.1:{good}",
    "http://127.0.0.1:{evil}/..//127.0.0.1:{good}",
    "http://127.0.0.1:{good}:{evil}",
    "http://127.0.0.1:{good}\\@127.0.0.1:{evil}",
    "http://127.0.0.1:{good}\t@127.0.0.1:{evil}",
    "http://127.0.0.1[::1]:{evil}",
    "http://127.1:{evil}",
    "http://2130706433:{evil}",
    "http://0x7f000001:{evil}",
    "http://127.0.0.1.:{evil}",
    "http:127.0.0.1:{evil}",
    "http:///127.0.0.1:{evil}",
    "http://localhost:{evil}",
    "HTTP://127.0.0.1:{evil}",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_only_the_address_that_is_allowed_is_contacted(rig: Rig, spelling: str) -> None:
    """Somebody even agreed: nothing but the reading of the address is left."""
    good, evil = rig.server(), rig.server("evil")
    ports = {name: one.url.rpartition(":")[2] for name, one in (("good", good), ("evil", evil))}
    rig.document("tokyo-1", url=spelling.format(**ports))
    rig.settings(allow={"urls": [good.url]})
    rig.begin()

    ran = rig.apply(*YES)

    assert ran.code in (3, 4), ran
    assert evil.record.handshakes == []


def test_positive_control_the_allowed_address_is_contacted(rig: Rig) -> None:
    good = begun(rig)
    rig.settings(allow={"urls": [good.url]})

    assert rig.apply(*YES).code == 0
    assert good.record.saves == 1
