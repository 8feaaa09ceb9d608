"""
T9: documents that were written to harm: each gives a line and a reason, soon, in little memory.

The small ones are files of `evil/`; those that live from their size are made here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from reconciler.bootstrap import load_settings
from reconciler.documents.load import load
from reconciler.documents.yaml_reader import BYTES_LIMIT
from reconciler.errors import InvalidConfig, JtrError
from tests.fuzz.bounds import PATIENT, outcome

EVIL: Final = sorted((Path(__file__).parent / "evil").glob("*.yaml"))
HEAD: Final = (
    "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {name: a}\nspec:\n  url: https://a.test\n"
)


def full(unit: str, head: str = "", tail: str = "") -> str:
    """Repeat *unit* until the file is as long as one may be."""
    room = BYTES_LIMIT - len(head) - len(tail) - 10
    return head + unit * (room // len(unit.encode())) + tail


def numbered(row: str, count: int, head: str = HEAD, tail: str = "") -> str:
    return head + "".join(row.format(n=n) for n in range(count)) + tail


MADE: Final[Mapping[str, Callable[[], str]]] = {
    "brackets": lambda: full("["),
    "braces": lambda: full("{a: "),
    "dashes": lambda: full("- "),
    "question marks": lambda: full("? "),
    "question marks alone": lambda: full("?\n"),
    "a list without end": lambda: full("a,", HEAD + "  x: ["),
    "a list": lambda: full("[],", HEAD + "  x: [", "]"),
    "deep lists": lambda: HEAD + "  x: [" + ("[" * 30 + "]" * 30 + ",") * 17_000 + "]",
    "many documents": lambda: full("---\na\n"),
    "empty documents": lambda: full("--- {}\n"),
    "documents of ours": lambda: full("--- {apiVersion: jtr/v1, kind: TradingServer}\n"),
    "anchors": lambda: full("- &a b\n"),
    "aliases": lambda: full("- *a\n"),
    "tags": lambda: full("- !a b\n"),
    "the same key": lambda: full("a: 1\n"),
    "merge keys": lambda: full("<<: {a: 1}\n"),
    "lists as keys": lambda: full("[a]: 1\n"),
    "control characters": lambda: full("\x01"),
    "direction overrides": lambda: full("\u202e"),
    "carriage returns": lambda: full("\r"),
    "tabs": lambda: full("\t- a\n"),
    "byte order marks": lambda: full("\ufeff"),
    "a long text": lambda: full("a", HEAD + "  x: "),
    "a long key": lambda: full("a", HEAD + "  ", ": 1"),
    "a long number": lambda: full("9", HEAD + "  x: "),
    "escapes": lambda: full("\\u0041", HEAD + '  x: "', '"'),
    "escaped surrogates": lambda: full("\\ud800", HEAD + '  x: "', '"'),
    "a text of many lines": lambda: full("a\n   ", HEAD + "  x: "),
    "blanks": lambda: full(" ", HEAD + "  x:"),
    "line breaks": lambda: full("\n"),
    "comments": lambda: full("#\n"),
    "colons": lambda: full(":"),
    "commas": lambda: full(",", "["),
    "quotes": lambda: full("'"),
    "directives": lambda: full("%a\n"),
    "exchanges": lambda: numbered(
        "    x{n}: {{credentials: vault:s/a{n}}}\n", 18_000, HEAD + "  exchanges:\n"
    ),
    "unknown keys": lambda: numbered("  k{n}: 1\n", 80_000),
    "labels": lambda: numbered(
        "k{n}: v, ", 60_000, HEAD.replace("{name: a}", "{name: a, labels: {"), "}}"
    ),
    "credentials": lambda: numbered(
        "k{n}: vault:a/b#c, ", 30_000, HEAD + "  exchanges: {bybit: {credentials: {", "}}}"
    ),
    "windows": lambda: numbered(
        "    - {{cron: '0 0 * * *', duration: 1h, zone: UTC}}\n", 19_000, HEAD + "  windows:\n"
    ),
    "too long": lambda: "a" * (BYTES_LIMIT + 1),
}


def read(path: Path, data: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(data)
    for reader in (
        lambda: load([str(path)]),
        lambda: load_settings(str(path), {"HOME": "/nowhere"}, []),
    ):
        found = outcome(reader)
        assert isinstance(found, JtrError)
        if isinstance(found, InvalidConfig):
            assert str(found).startswith(f"{path}:"), found
            assert len(found.problems) <= 51


@PATIENT
@pytest.mark.parametrize("name", MADE)
def test_t9_a_huge_evil_document_costs_little(name: str, tmp_path: Path) -> None:
    read(tmp_path / "a.yaml", MADE[name]().encode())


@pytest.mark.parametrize("file", EVIL, ids=lambda file: file.stem)
def test_t9_an_evil_document_gets_a_line_and_a_reason(file: Path, tmp_path: Path) -> None:
    read(tmp_path / "a.yaml", file.read_bytes())


def test_t9_there_are_about_eighty() -> None:
    assert len(EVIL) + len(MADE) >= 80
