"""docs/architecture.md is held to the code: its rooms, what they say of themselves, every hop."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.test_architecture import PACKAGE, ROOMS, ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
HOP = re.compile(r"`([a-z_/]+\.py):([A-Za-z_.]+)`")
ALL_ROOMS = [room for rooms in ROOMS for room in rooms]


def defined(node: ast.AST, *outer: str) -> Iterator[str]:
    """The functions, classes and methods in *node*, by their dotted names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield ".".join((*outer, child.name))
            yield from defined(child, *outer, child.name)


def lost(text: str) -> list[str]:
    """The hops in *text* that lead to nothing in the package."""
    found = []
    for file, name in HOP.findall(text):
        path = PACKAGE / file
        there = defined(ast.parse(path.read_text("utf-8"))) if path.is_file() else ()
        if name not in set(there):
            found.append(f"{file}:{name}")
    return found


def told(docstring: str) -> list[str]:
    """What a room says it is for, and every sentence of it that says never."""
    first, _, rest = docstring.partition("\n\n")
    sentences = re.split(r"(?<=[.?])\s+", " ".join(rest.split()))
    return [" ".join(first.split()), *(s for s in sentences if re.search(r"\b[Nn]ever\b", s))]


def words(room: str) -> list[str]:
    path = PACKAGE / room / "__init__.py"
    source = path if path.is_file() else PACKAGE / f"{room}.py"
    return told(ast.get_docstring(ast.parse(source.read_text("utf-8"))) or "")


def rows(text: str) -> dict[str, str]:
    """The rooms of the page, in its order, with what it says of each."""
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))


def test_the_page_lists_the_rooms_from_the_ground_up() -> None:
    assert list(rows(PAGE)) == ALL_ROOMS


@pytest.mark.parametrize("room", ALL_ROOMS)
def test_the_page_says_of_a_room_what_the_room_says(room: str) -> None:
    assert [said for said in words(room) if said not in rows(PAGE)[room]] == []


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_every_room_says_what_it_never_does(room: str) -> None:
    assert len(words(room)) > 1, "its __init__ has no sentence with `never`"


def test_every_hop_exists() -> None:
    assert len(HOP.findall(PAGE)) > 50
    assert lost(PAGE) == []


def test_positive_control_a_lost_hop_and_a_changed_word_are_noticed() -> None:
    hops = "`plan/server.py:plan_server` `plan/server.py:gone` `plan/gone.py:plan_server`"

    assert lost(hops) == ["plan/server.py:gone", "plan/gone.py:plan_server"]
    assert lost("`ledger/ledger.py:Ledger.gone`") == ["ledger/ledger.py:Ledger.gone"]
    assert told("Keeps\nit.\n\nFast.  Never drops\nany.  Small.") == [
        "Keeps it.",
        "Never drops any.",
    ]
    assert rows("| `plan` | Decides. | Never acts. |\n| a | b | c |") == {
        "plan": "Decides. | Never acts."
    }
