"""The table of threats in docs/security.md: all are there, and what is said to hold them exists."""

import re
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "security.md"
_TEST: Final = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


class Threat(NamedTuple):
    """One row of the table."""

    number: str
    attack: str
    stopped_by: str
    held_by: str
    undefended: str


def threats(page: str) -> list[Threat]:
    rows = [line for line in page.splitlines() if re.match(r"\| T\d+ ", line)]
    return [Threat(*(cell.strip() for cell in row.strip("| ").split(" | "))) for row in rows]


def missing(threat: Threat) -> list[str]:
    """Return which of the tests that hold *threat* are not there."""
    found = _TEST.findall(threat.held_by)
    gone = [] if found else ["a test"]
    for name, test in found:
        file = ROOT / name
        there = file.is_file() and f"def {test}(" in file.read_text("utf-8")
        gone += [] if there else [f"{name}::{test}"]
    return gone


THREATS: Final = threats(PAGE.read_text("utf-8"))


def test_all_threats_are_told_in_order() -> None:
    assert [one.number for one in THREATS] == [f"T{number}" for number in range(1, 21)]


@pytest.mark.parametrize("threat", THREATS, ids=lambda one: one.number)
def test_each_says_what_stops_it_and_what_does_not(threat: Threat) -> None:
    assert all(len(cell) > 3 for cell in threat[1:]), threat.number


@pytest.mark.parametrize("threat", THREATS, ids=lambda one: one.number)
def test_each_is_held_by_tests_that_exist(threat: Threat) -> None:
    assert missing(threat) == []


def test_control_a_test_that_is_not_there_is_missed() -> None:
    row = THREATS[3]._replace(held_by="`tests/threats/test_t09_yaml.py::test_t9_nothing`")

    assert missing(row) == ["tests/threats/test_t09_yaml.py::test_t9_nothing"]
    assert missing(row._replace(held_by="somebody looks at it")) == ["a test"]
