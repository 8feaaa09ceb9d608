"""
A newcomer walks the pages of how-to in a clean home; what he saw is kept, and read by people.

`pytest tests/newcomer --rewrite-golden` writes the transcripts.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from reconciler.render.layout import folded
from reconciler.sandbox.openbao import OpenBao
from tests.crash.forkserver import Forks
from tests.golden.test_golden import check, rewrite
from tests.house.pages import ROOT, SITUATION
from tests.newcomer import situations
from tests.newcomer.walk import SEATS, Seat, Walk
from tests.support.leaks import Watch

__all__ = ["rewrite"]
EXEMPT = re.compile(r"^20\d\d-|\[y/N\]: y$")  # log lines, and questions with their answers
COLOUR = "\x1b[3"  # how each of ours begins
HERE = Path(__file__).parent / "transcripts"
PAGES = {
    path.stem: path
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
    if SITUATION.search(path.read_text("utf-8"))
}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """One process of which every `jtr` is a copy."""
    with Forks() as forks:
        yield forks


@pytest.fixture
def home(
    bao: OpenBao, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> Iterator[situations.Situation]:
    """A clean home."""
    with situations.entered(bao, watch, monkeypatch) as situation:
        yield situation


def walked(name: str, home: situations.Situation, forks: Forks, seat: Seat) -> tuple[str, Walk]:
    """Walk a page in its situation; the other side must have seen what the page promises."""
    text = PAGES[name].read_text("utf-8")
    (situation,) = SITUATION.findall(text)
    judged = situations.SITUATIONS[situation](home)
    walk = Walk(home, forks, seat)
    told = walk.page(text)
    judged()
    return told, walk


def everywhere() -> list[ParameterSet]:
    """Every page at every seat; one quick sample of them in `make test`."""
    sample = ("rotate-a-key", "40")
    return [
        pytest.param(
            name,
            seat,
            id=f"{name}-{seat.name}",
            marks=() if (name, seat.name) == sample else pytest.mark.volume,
        )
        for name in PAGES
        for seat in SEATS
    ]


@pytest.mark.parametrize(("name", "seat"), everywhere())
def test_a_page(
    name: str, seat: Seat, home: situations.Situation, forks: Forks, *, rewrite: bool
) -> None:
    told, walk = walked(name, home, forks, seat)

    assert (COLOUR in walk.raw) is (seat.columns is not None)
    assert rows_too_wide(walk, seat.columns) == []
    path = HERE / name / f"{seat.name}.txt"
    if rewrite:
        check(path, told, rewrite=True)
    assert flat(told) == flat(path.read_text("utf-8"))


@pytest.mark.volume
@pytest.mark.parametrize("name", ["README", "robots-stopped"])
def test_without_colour_the_words_are_the_same(
    name: str, home: situations.Situation, forks: Forks
) -> None:
    told, walk = walked(name, home, forks, Seat("120", 120, colour=False))

    assert COLOUR not in walk.raw
    assert flat(told) == flat((HERE / name / "120.txt").read_text("utf-8"))


def test_every_transcript_is_of_a_page() -> None:
    assert {path.name for path in HERE.iterdir()} == PAGES.keys()


def flat(text: str) -> list[str]:
    """The words: where a line breaks depends on how long the number of a process is."""
    return text.split()


def rows_too_wide(walk: Walk, columns: int | None) -> list[str]:
    """The rows that the terminal breaks where it likes; log lines are the server's, and its own."""
    return [row for row in walk.rows if not EXEMPT.search(row) and folded(row, columns) != row]
