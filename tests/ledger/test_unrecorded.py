"""What the ledger could not take lies in a file of ours, and only such a file is believed."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.recorded import Identity, Recorded, Request, Requests, Stage
from reconciler.model.target import Target
from tests.ledger.codec.test_stored import OPEN

LEDGER = "0123456789abcdef" * 2
STORED = Path(__file__).parent / "stored" / "unrecorded.json"
IDENTITY = Identity("u1", Target("https://a.test", "0"), "tokyo-1")
RECORDED = Recorded(identity=IDENTITY, requests=Requests(open=OPEN))


@pytest.fixture
def outcomes(tmp_path: Path) -> UnrecordedOutcomes:
    return UnrecordedOutcomes(tmp_path / "state" / "emergency")


def closed(outcomes: UnrecordedOutcomes) -> Request | None:
    """The request as it stands once the files are counted; None while it is open."""
    requests = outcomes.known(LEDGER, RECORDED).requests
    return None if requests.open else requests.past[-1]


def test_a_file_of_an_earlier_version_is_read_and_still_written_byte_for_byte(
    outcomes: UnrecordedOutcomes,
) -> None:
    path = outcomes.leave(LEDGER, "u1", OPEN)

    assert path.read_bytes() == STORED.read_bytes()
    assert path == outcomes.folder / "request-n2.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(outcomes.folder.stat().st_mode) == 0o700
    found = closed(outcomes)
    assert found is not None
    assert (found.stage, found.instant, found.ran) == (Stage.OPEN, OPEN.instant, OPEN.ran)


def test_it_is_about_one_server_of_one_ledger(outcomes: UnrecordedOutcomes) -> None:
    outcomes.leave(LEDGER, "u1", OPEN)

    assert outcomes.waiting(LEDGER, "u1")
    assert not outcomes.waiting(LEDGER, "u2")
    assert not outcomes.waiting("f" * 32, "u1")


def readable(path: Path) -> None:
    path.chmod(0o644)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))


@pytest.mark.parametrize("spoil", [readable, linked, cut, newer])
def test_a_file_that_is_not_ours_or_not_whole_counts_for_nothing(
    outcomes: UnrecordedOutcomes, spoil: Callable[[Path], None]
) -> None:
    path = outcomes.leave(LEDGER, "u1", OPEN)
    assert closed(outcomes) is not None
    spoil(path)

    assert closed(outcomes) is None
    assert path.exists()
