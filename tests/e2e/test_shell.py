"""The shell of the scripted person: it is a terminal's, and notices what is not as it should be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.terminal import COLUMNS, Hidden, Shell
from tests.support.leaks import PRIVATE, Watch

ASKS = 'read -rp "Is it gone for good? [y/N]: " said'


@pytest.fixture
def shell(tmp_path: Path, watch: Watch) -> Iterator[Shell]:
    with Shell(watch, tmp_path, {"HOME": str(tmp_path)}) as shell:
        yield shell


def test_a_terminal_and_one_shell_from_first_to_last(shell: Shell) -> None:
    shell.types("answer=42; cd /")

    assert shell.types("tput cols; test -t 0 && test -t 1 && test -t 2").words.endswith(
        str(COLUMNS)
    )
    assert shell.types('echo "$PWD $answer"').text.endswith("\n/ 42\n")
    assert "no job control" not in shell.text
    assert shell.types("false", code=1).code == 1
    shell.leaves()
    assert shell.process.returncode == 1, "as what was typed last"


def test_questions_are_answered_in_their_order(shell: Shell) -> None:
    shell.types(f'{ASKS}; read -rp "Why? " why', ("good?", "y"), ("Why? ", "a test"))

    assert shell.types('echo "$said: $why"').text.endswith("\ny: a test\n")


def test_what_is_hidden_is_not_to_be_seen(shell: Shell, watch: Watch, tmp_path: Path) -> None:
    secret = watch.secret()
    (tmp_path / PRIVATE).mkdir()
    shell.types('read -rsp "Token: " TOKEN; echo', ("Token: ", Hidden(secret)))
    shell.types(f'echo "$TOKEN" > {PRIVATE}/token')
    shell.leaves()

    assert (tmp_path / PRIVATE / "token").read_text() == f"{secret}\n"
    assert "read -rsp" in (tmp_path / ".bash_history").read_text(), "the watch reads it as well"
    assert watch.found == []


def test_who_is_interrupted_types_on(shell: Shell) -> None:
    shell.types("echo begun > log")
    shell.starts("tail -f log && echo over", until="begun")

    assert shell.interrupts().code == 130
    assert "over\n" not in shell.types("echo and on").text


@pytest.mark.parametrize(
    ("line", "answers", "says"),
    [
        ("(exit 3)", (), "exit code 3"),
        (ASKS, (), "a question that nobody answers"),
        (ASKS, (("Is it here?", "y"),), "another question than"),
        ("echo nothing", (("gone", "y"),), "never asked"),
    ],
)
def test_positive_control_what_is_not_foreseen_is_noticed(
    shell: Shell, line: str, answers: tuple[tuple[str, str], ...], says: str
) -> None:
    with pytest.raises(AssertionError, match=says):
        shell.types(line, *answers)


def test_positive_control_a_secret_at_the_terminal_is_noticed(tmp_path: Path, watch: Watch) -> None:
    other = Watch(watch.name)
    secret = other.secret()
    with Shell(other, tmp_path, {"HOME": str(tmp_path / PRIVATE)}) as shell:
        shell.types(f"printf '%s' {secret[:10]}; printf '%s\\n' {secret[10:]}")

    assert any("a shell: " in found for found in other.found)
