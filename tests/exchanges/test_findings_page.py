"""The page of the audit explains every finding, as bad as it is, and none that is gone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from reconciler import exchanges
from tests.house.pages import ROOT

CODE = re.compile(r"[A-Z]{2,}(?:_[A-Z]+)*")
SOURCES = sorted(Path(exchanges.__file__).parent.glob("judge*.py"))


def told() -> dict[str, str]:
    """Codes of the page's table, with its words on how bad they are."""
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    table = page[page.index("## Findings") :]
    rows = re.findall(r"^\| (`[A-Z].*?) \| (.*) \|$", table, re.MULTILINE)
    return {code: words for codes, words in rows for code in re.findall(r"`([A-Z_]+)`", codes)}


def written() -> Iterator[tuple[str, str]]:
    """Codes in the sources, with what stands beside them: a severity, or how it is found."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="KeyFinding"), args=[first, second, *_]):
                    codes = [one.value for one in ast.walk(first) if isinstance(one, ast.Constant)]
                    # Of two codes in one place the severities cannot be told apart here.
                    severity = ast.unparse(second) if len(codes) == 1 else ""
                    yield from ((str(code), severity) for code in codes)
                case ast.Tuple(elts=[ast.Constant(value=str(code)), _, _]) if CODE.fullmatch(code):
                    yield code, "trouble"


def test_every_finding_is_explained_and_none_that_is_gone() -> None:
    assert set(told()) == {code for code, _ in written()}
    assert len(told()) > 30


def test_the_page_says_how_bad_each_is() -> None:
    page = told()
    words = {"CRITICAL": "critical", "ERROR": "error", "WARNING": "warning", "INFO": "information"}
    for code, severity in written():
        for name in re.findall(r"Severity\.([A-Z]+)", severity):
            assert words[name] in page[code], code
        if "unverified" in severity:
            assert "unverifiable" in page[code], code
