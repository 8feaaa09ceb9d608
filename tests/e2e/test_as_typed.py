"""Commands as people type them: without a path, in colour, asking for help."""

import pytest

from reconciler.cli.help import TOPICS
from tests.e2e.terminal import Command
from tests.support.rig import Rig

CODE = "\x1b["


@pytest.fixture
def declared(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """One server and its document, which lies in the current directory."""
    rig.server()
    rig.document()
    rig.begin()
    monkeypatch.chdir(rig.docs)
    return rig


def test_without_a_path_the_current_directory_is_meant(declared: Rig) -> None:
    assert "1 server" in declared.jtr("validate").out
    assert "tokyo-1" in declared.jtr("plan").out
    assert declared.jtr("apply", "--auto-approve").code == 0
    assert declared.servers["tokyo-1"].record.saves == 1


@pytest.mark.parametrize("command", [("validate",), ("plan",), ("apply", "--auto-approve")])
def test_a_current_directory_without_documents_is_said(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(rig.docs)
    ran = rig.jtr(*command)

    assert ran.code == 64
    assert ". holds no document of jtr/v1" in ran.err


@pytest.mark.parametrize(
    ("environment", "codes"),
    [
        ({}, 0),
        ({"FORCE_COLOR": "1"}, 1),
        ({"FORCE_COLOR": "0"}, 0),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, 1),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, 0),
    ],
)
def test_colour_is_forced_and_refused(
    declared: Rig, environment: dict[str, str], codes: int
) -> None:
    ran = declared.jtr("plan", environment=environment)

    assert (CODE in ran.out) == bool(codes)


def test_a_dumb_terminal_gets_no_colour(declared: Rig) -> None:
    docs = str(declared.docs)
    for term, codes in (("dumb", False), ("xterm", True)):
        with Command(
            declared, "plan", docs, terminal=True, environment={"TERM": term, "NO_COLOR": ""}
        ) as command:
            assert command.ended() == 0, command.text
            assert (f"{CODE}32m" in command.text) is codes


def test_help_is_what_the_command_says_itself(rig: Rig) -> None:
    for words in ((), ("plan",), ("request", "reboot"), ("diff",)):
        ran = rig.jtr("help", *words)
        asked = rig.jtr(*words, "--help")
        assert ran.code == 0
        assert ran.out.partition("\n")[2] == asked.out.partition("\n")[2]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_a_page(rig: Rig, topic: str) -> None:
    ran = rig.jtr("help", topic)

    assert (ran.code, ran.out) == (0, TOPICS[topic])
    assert topic in rig.jtr("help", "help").out
    assert max(map(len, ran.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("paln",), "did you mean plan?"),
        (("exit-code",), "did you mean exit-codes?"),
        (("request", "rebot"), "did you mean reboot?"),
        (("plan", "more"), "see: jtr help"),
    ],
)
def test_help_for_what_is_not_there(rig: Rig, words: tuple[str, ...], hint: str) -> None:
    ran = rig.jtr("help", *words)

    assert ran.code == 64
    assert f"there is no command and no topic {' '.join(words)}" in ran.err
    assert hint in ran.err


def test_an_exchange_that_no_server_lists_is_guessed_at_by_what_they_showed(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    assert rig.process("validate", str(rig.docs)).err == ""  # nothing was seen yet
    rig.apply()

    rig.document("tokyo-1", "bybit", "gaetio", rotate=False)
    hint = "no server of this ledger lists an exchange gaetio; did you mean gateio?"
    for ran in (rig.process("validate", str(rig.docs)), rig.jtr("validate", str(rig.docs))):
        assert ran.code == 0  # only a hint: another server may list it
        assert ran.err.count("\n") == 1
        assert hint in ran.err
        assert "tokyo-1.yaml:" in ran.err
        assert "1 server" in ran.out
    rig.put("tokyo-1/gaetio", apiKey=rig.watch.secret(), secret=rig.watch.secret())
    planned = rig.plan()
    assert planned.code == 4
    assert "did you mean gateio? Else add it" in " ".join(planned.out.split())

    (rig.home / "settings.yaml").write_text("ledger: 5\n", "utf-8")
    damaged = rig.process(
        "validate", str(rig.docs), environment={"JTR_SETTINGS": str(rig.home / "settings.yaml")}
    )
    assert (damaged.code, damaged.err) == (0, "")
