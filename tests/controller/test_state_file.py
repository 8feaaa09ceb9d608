"""The controller's state file: private, whole, and never needed."""

import os
import stat
from pathlib import Path

import pytest

from reconciler.controller.requeue import Corrections, QueueState
from reconciler.controller.state_file import State, StateFile
from reconciler.errors import JtrError
from reconciler.model.target import Target

TIMING = QueueState(12.5, 3, "abc", {"okx": Corrections(2, 5.0, 6.0)}, (1, 7))
TOLD = {"health/tokyo-1": {"state": "x"}}
TOKYO = Target("https://tokyo-1.internal:8443", "0")
OSAKA = Target("https://osaka-1.internal", "u_7-b")
STATE = State({TOKYO: TIMING, OSAKA: QueueState()}, TOLD)
NAMED = State({}, TOLD, {"tokyo-1": TIMING, "osaka-1": QueueState()})


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "new" / "controller.json")
    assert file.open() == (State(), "")

    file.save(STATE)

    assert StateFile(tmp_path / "new" / "controller.json").open() == (STATE, "")


def test_it_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "controller.json"
    mask = os.umask(0)
    try:
        StateFile(path).open()
        StateFile(path).save(STATE)
    finally:
        os.umask(mask)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["controller.json"]


def test_a_file_of_an_earlier_version_is_read_and_still_written_byte_for_byte(
    tmp_path: Path,
) -> None:
    stored = Path(__file__).with_name("stored_state_2.json").read_bytes()
    path = tmp_path / "controller.json"
    path.write_bytes(stored)

    assert StateFile(path).open() == (STATE, "")
    path.unlink()
    StateFile(path).save(STATE)
    assert path.read_bytes() == stored


def test_of_a_file_of_format_1_is_kept_what_it_says_of_names(tmp_path: Path) -> None:
    """Until documents say which servers these are, also over a save."""
    path = tmp_path / "controller.json"
    path.write_bytes(Path(__file__).with_name("stored_state.json").read_bytes())

    assert StateFile(path).open() == (NAMED, "")
    StateFile(path).save(NAMED)
    assert StateFile(path).open() == (NAMED, "")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"formatVersion": 3, "servers": {}, "told": {}}', "[" * 100_000),
        *("\0" * 50, '{"formatVersion": 1, "servers": {"a": {"due": "soon"}}, "told": {}}'),
        *('{"formatVersion": 2, "servers": {"0 a": {"due": "soon"}}, "told": {}}',),
        *('{"formatVersion": true, "servers": {}, "told": {}}',),
    ],
    ids=["empty", "cut", "list", "newer", "deep", "zeros", "wrong type", "format 2", "true"],
)
def test_a_broken_file_begins_anew_and_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "controller.json"
    path.write_text(text)

    state, trouble = StateFile(path).open()

    assert state == State()
    assert "begins anew" in trouble
    StateFile(path).save(STATE)
    assert StateFile(path).open() == (STATE, "")


def test_a_link_and_a_pipe_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("precious")
    link, pipe = tmp_path / "link.json", tmp_path / "pipe.json"
    link.symlink_to(target)
    os.mkfifo(pipe)

    for path in (link, pipe):
        state, trouble = StateFile(path).open()
        assert (state, bool(trouble)) == (State(), True)
        StateFile(path).save(STATE)
    assert target.read_text() == "precious"
    assert link.is_file()
    assert not link.is_symlink()


def test_an_unwritable_place_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(JtrError, match=r"cannot write its state file .* Not a directory"):
        StateFile(tmp_path / "file" / "deep" / "controller.json").open()
