"""The page of the audit explains every finding, as bad as it is, and none that is gone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from reconciler.exchanges import judge
from reconciler.exchanges.judge.findings import FINDINGS
from tests.house.pages import ROOT

SOURCES = sorted(Path(judge.__file__).parent.glob("*.py"))
CODE = re.compile(r"[A-Z]{2,}(?:_[A-Z]+)*")


def told() -> dict[str, str]:
    """Codes of the page's table, with its words on how bad they are."""
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    table = page[page.index("## Findings") :]
    rows = re.findall(r"^\| (`[A-Z].*?) \| (.*) \|$", table, re.MULTILINE)
    return {code: words for codes, words in rows for code in re.findall(r"`([A-Z_]+)`", codes)}


def said() -> Iterator[tuple[str, str]]:
    """Codes that the judge says, with a severity where it is not the usual one."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="say"), args=[first, *_], keywords=named):
                    codes = [one.value for one in ast.walk(first) if isinstance(one, ast.Constant)]
                    others = [ast.unparse(one.value) for one in named if one.arg == "severity"]
                    # Of two codes in one place the severities cannot be told apart here.
                    severity = "".join(others) if len(codes) == 1 else ""
                    yield from ((str(code), severity) for code in codes)
                case ast.Tuple(elts=[ast.Constant(value=str(code)), _]) if CODE.fullmatch(code):
                    yield code, ""


def test_every_finding_is_said_and_explained_and_none_that_is_gone() -> None:
    assert set(told()) == set(FINDINGS) == {code for code, _ in said()}
    assert len(told()) > 30


def test_the_page_says_how_bad_each_is() -> None:
    page = told()
    words = {"CRITICAL": "critical", "ERROR": "error", "WARNING": "warning", "INFO": "information"}
    for code, (usual, _) in FINDINGS.items():
        assert words[usual.name] in page[code] or "unverifiable" in page[code], code
    for code, severity in said():
        for name in re.findall(r"Severity\.([A-Z]+)", severity):
            assert words[name] in page[code], code
        if severity == "security.unverified":
            assert "unverifiable" in page[code], code
