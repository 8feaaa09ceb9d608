"""What people are told to type exists: every command and option in messages and golden files."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from reconciler.cli.app import cli

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
PACKAGE = ROOT / "reconciler"
# A command begins with the word and ends where its sentence or its quotes do.
TOLD = re.compile(r"(?<![\w/.'-])jtr ([a-z][^`;,()\n\"]*)")
OPTION = re.compile(r"--[a-z][a-z-]+")
WORD = re.compile(r"[a-z][a-z-]*")
ANY = "…"  # what only the running program knows
VALUE = re.compile(rf"[A-Z]+|{ANY}|{{[a-z]+}}")


@functools.cache
def command(*words: str) -> click.Command | None:
    """The command of these words, or None."""
    found: click.Command = cli
    ctx = click.Context(cli)
    for word in words:
        if not isinstance(found, click.Group):
            return None
        inner = found.get_command(ctx, word)
        if inner is None:
            return None
        found = inner
    return found


def wrong(text: str) -> Iterator[str]:
    """Yield what *text* tells people to type and nothing understands."""
    for match in TOLD.finditer(text):
        words = match[1].split()
        quoted = text[: match.start()].endswith("`")
        name: list[str] = []
        for word in words:
            if not WORD.fullmatch(word) or command(*name, word) is None:
                break
            name.append(word)
        found = command(*name)
        if not name or (isinstance(found, click.Group) and len(words) > len(name)):
            if name and words[len(name)] == ANY:
                yield f"nobody can see which one: jtr {match[1]}"
            elif quoted:  # else the program is spoken of: `jtr only reads`
                yield f"no such command: jtr {match[1]}"
            continue
        assert found is not None
        said = {*OPTION.findall(match[1])}
        known = {
            option for param in found.params for option in (*param.opts, *param.secondary_opts)
        }
        yield from (
            f"jtr {' '.join(name)} has no {option}"
            for option in said - {*known, "--help", "--debug"}
        )
        if said or any(VALUE.fullmatch(word) for word in words):  # as a whole, not its name only
            yield from (
                f"jtr {' '.join(name)} wants {param.opts[0]}"
                for param in found.params
                if isinstance(param, click.Option) and param.required
                if not said.intersection(param.opts)
            )


def texts() -> Iterator[tuple[str, str]]:
    for path in sorted(GOLDEN.rglob("*")):
        if path.suffix in (".txt", ".json", ".md"):
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in spoken(ast.parse(path.read_text("utf-8"))):
            yield f"{path.relative_to(ROOT)}:{line}", text


def spoken(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the texts of a program with their lines; a text with values in it is one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    elif isinstance(node, ast.JoinedStr):
        parts = (one.value if isinstance(one, ast.Constant) else ANY for one in node.values)
        yield node.lineno, "".join(map(str, parts))
        for one in node.values:
            if isinstance(one, ast.FormattedValue):
                yield from spoken(one.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from spoken(child)


def test_every_command_that_is_told_exists_with_its_options() -> None:
    found = {f"{where}: {what}" for where, text in texts() for what in wrong(text)}

    assert found == set()


@pytest.mark.parametrize(
    "text",
    [
        "then `jtr aply docs`",
        "do: jtr apply --take-ower tokyo-1",
        "`jtr request rebot tokyo-1`",
        "`jtr ledger --because x`",
        "jtr request reboot SERVER --reason TEXT",
        "`jtr ledger restore FILE`",
        *(text for _, text in spoken(ast.parse('f"jtr request {kind} SERVER --reason TEXT"'))),
    ],
)
def test_positive_control_what_nobody_understands_is_seen(text: str) -> None:
    assert list(wrong(text)) != []


def test_most_hints_are_seen() -> None:
    counted = sum(len(TOLD.findall(text)) for _, text in texts())

    assert counted > 150
