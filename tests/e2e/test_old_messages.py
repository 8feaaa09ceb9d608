"""
What people were told before and are not any more, each beside what they are told now.

Every row names a message that somebody met with a new user's habits, and what took its place.
"""

import pytest

from tests.e2e.terminal import Command
from tests.e2e.test_adopt import adopt, connect
from tests.support.rig import Rig

CREDENTIALS = (
    "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {{name: a}}\n"
    "spec: {{url: https://a.test, exchanges: {{bybit: {{credentials: {0}}}}}}}\n"
)


@pytest.fixture
def here(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A server, its document in the current directory, and a ledger."""
    rig.server(robots=[])
    rig.document()
    rig.begin()
    monkeypatch.chdir(rig.docs)
    return rig


@pytest.mark.parametrize(
    ("words", "old", "new", "code"),
    [
        (("plan",), "Missing argument", "+ bybit", 0),
        (("help", "plan"), "No such command", "Show what apply would do", 0),
        (("plan", "--take-over", "*"), "no server is called *", "--take-over * means tokyo-1", 0),
        (("plan", "--server", "tokyo*"), "no server is called", "tokyo-1", 0),
        (("schema", "nonsense"), "Invalid value for", "nonsense is no schema", 64),
    ],
)
def test_commands_as_people_type_them(
    here: Rig, words: tuple[str, ...], old: str, new: str, code: int
) -> None:
    ran = here.jtr(*words)

    assert ran.code == code, ran.text
    assert (old in ran.text, new in ran.text) == (False, True), ran.text


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (
            CREDENTIALS.format("secret/jt/a/bybit"),
            "this looks like a secret itself",
            "the reference does not begin with vault:",
        ),
        ("services: {}\n", "or move the file elsewhere", "name it in .jtrignore"),
        (
            CREDENTIALS.format("vault:secret/jt/a/bybit").replace("jtr/v1", "jtr/vl") + "mode: x\n",
            "1 problem;",
            "2 problems;",  # a wrong version hides no other mistake
        ),
    ],
)
def test_documents_with_a_slip(here: Rig, file: str, old: str, new: str) -> None:
    here.write("slip.yaml", file)

    ran = here.jtr("validate")

    assert ran.code == 3
    assert (old in ran.text, new in ran.text) == (False, True), ran.text


def test_what_was_adopted_is_not_blocked_at_its_first_rotation(rig: Rig) -> None:
    rig.server()
    connect(rig, "bybit")
    rig.begin()
    assert adopt(rig, "--record").code == 0
    rig.rotate()

    ran = rig.plan()

    assert ("blocked" in ran.out, "~ bybit" in ran.out) == (False, True)


def test_a_server_that_is_gone_with_debts_is_not_there_for_ever(here: Rig) -> None:
    here.server("osaka-1")
    here.document("osaka-1")
    assert here.apply().code == 0
    here.rotate("osaka-1")
    assert here.apply().code == 0
    (here.docs / "osaka-1.yaml").unlink()

    ran = here.jtr("forget", "osaka-1", "--because", "given back", "--auto-approve")

    assert "owes its robots a restart, or the server a reboot" not in ran.err
    assert "if the machine is gone for good: --write-off" in ran.err


def test_doctor_gives_no_advice_about_an_agent_that_nobody_has(here: Rig) -> None:
    ran = here.jtr("doctor")

    assert ("Vault Agent" in ran.text, "let a login renew it" in ran.text) == (False, True)


def test_a_controller_at_a_terminal_writes_no_json(here: Rig) -> None:
    with Command(here, "controller", str(here.docs), terminal=True) as command:
        command.expect("documents in force")
        command.process.terminate()
        assert command.ended() == 0, command.text

    assert '"message":' not in command.text
    assert "info    documents in force  revision=" in command.text
