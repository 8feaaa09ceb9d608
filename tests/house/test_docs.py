"""Prose is checked against the code: commands, links, exit codes."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import click
import pytest

from reconciler.cli.app import ALIASES, COMMANDS, cli
from reconciler.cli.commands import Commands
from reconciler.errors import PRECEDENCE, Exit

ROOT = Path(__file__).parent.parent.parent
PROSE = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "[bd]e*/*.md", "tests/*.md")
    for path in ROOT.glob(pattern)
    if path.is_file()
)
ALL = "\n".join(path.read_text("utf-8") for path in PROSE)


def anchors(path: Path) -> set[str]:
    """The places in a page that a link may name."""
    titles = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented_and_explains_itself(name: str) -> None:
    assert re.search(rf"\bjtr {name}\b", ALL), f"`jtr {name}` stands in no page"

    group = cli
    assert isinstance(group, Commands)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_commands_in_prose_exist() -> None:
    known = {*COMMANDS, *ALIASES}
    named = set(re.findall(r"(?:^|`)jtr ([a-z]+(?:-[a-z]+)*)", ALL, re.MULTILINE))

    assert named - known == set()


def test_exit_codes_of_the_reference_are_those_of_the_code() -> None:
    section = (ROOT / "docs" / "reference" / "exit-codes.md").read_text("utf-8")
    codes = {
        int(code)
        for row in re.findall(r"^\| ([0-9, ]+) \|", section, re.MULTILINE)
        for code in row.split(",")
    }
    order = re.search(r"first of ([0-9, ]+) counts", section)

    assert codes == {int(code) for code in Exit}
    assert order is not None
    assert [int(code) for code in order[1].split(",")] == [
        int(code) for code in PRECEDENCE if code is not Exit.DONE
    ]


def unlisted(page: str, names: Iterable[str]) -> list[str]:
    """The names for which *page*, a text with tables, has no row."""
    rows = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
    return [name for name in names if not any(name in row for row in rows)]


def test_every_decision_stands_in_the_index() -> None:
    pages = {path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md")}
    index = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")

    assert len(pages) >= 8
    assert unlisted(index, (f"]({name})" for name in sorted(pages))) == []
    assert unlisted("| [1](0001-a.md) | A |", ["](0001-a.md)", "](0002-b.md)"]) == ["](0002-b.md)"]


def test_every_folder_of_tests_and_every_helper_is_explained() -> None:
    folders = {path.parent for path in (ROOT / "tests").glob("*/*.py")} | {
        path.parent.parent for path in (ROOT / "tests").glob("*/*/*.py")
    }
    helpers = {path.name for path in (ROOT / "tests" / "support").glob("*.py")}
    page = (ROOT / "tests" / "README.md").read_text("utf-8")

    assert unlisted(page, (f"`{folder.name}/`" for folder in sorted(folders))) == []
    assert unlisted(page, (f"`{name}`" for name in sorted(helpers))) == []
    assert unlisted(page, ["`nowhere/`", "`golden/`"]) == ["`nowhere/`"]


def test_nothing_speaks_of_the_machine_that_it_was_written_on() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    # Put together here, or this file would name them.
    forbidden = re.compile(
        "|".join(re.escape(f"/{word}/") for word in ("work", "root", "farm")) + "|/tmp/[a-z]"
    )
    for name in tracked.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix not in (".jsonl", ".db", ".png"):
            text = path.read_text("utf-8", errors="replace")
            assert not forbidden.search(text), name
