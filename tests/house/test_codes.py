"""Every code that is said anywhere has a text, and `jtr explain` finds it."""

import ast
import re
from pathlib import Path

from reconciler.errors import Exit, JtrError
from reconciler.exchanges.judge.findings import FINDINGS
from reconciler.model.conditions import Code, code_of
from reconciler.render import codes
from reconciler.render.codes import Kind

PACKAGE = Path(__file__).parent.parent.parent / "reconciler"
CHECKS = re.compile(r'"((?:settings|documents|vault|key|ledger|controller|server)\.[a-z-]+)"')


def of(kind: Kind) -> set[str]:
    return {one.code for one in codes.every() if one.kind is kind}


def errors(*sources: str) -> set[str]:
    """Names of the classes that stand below JtrError, by their text: none need be imported."""
    classes = [
        (node.name, {ast.unparse(base).rpartition(".")[2] for base in node.bases})
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
    ]
    found: set[str] = set()
    while more := {name for name, bases in classes if bases & {"JtrError", *found}} - found:
        found |= more
    return found


def test_every_condition_of_a_plan_has_a_text() -> None:
    assert of(Kind.CONDITION) == {str(code) for code in Code}


def test_every_error_has_a_text() -> None:
    names = errors(*(path.read_text("utf-8") for path in PACKAGE.rglob("*.py")))
    known = of(Kind.ERROR) | of(Kind.CONDITION)

    assert {"SecretMissing", "Conflict", "ForgeAway"} <= names
    assert {name for name in names if code_of(type(name, (JtrError,), {})) not in known} == set()
    assert of(Kind.ERROR) <= {code_of(type(name, (JtrError,), {})) for name in names}
    assert errors("class A(JtrError): ...\nclass B(m.A): ...\nclass C: ...") == {"A", "B"}


def test_every_exit_code_every_finding_and_every_check_has_a_text() -> None:
    checks = {
        code
        for path in (PACKAGE / "doctor").glob("*.py")
        for code in CHECKS.findall(path.read_text("utf-8"))
    }

    assert of(Kind.EXIT) == {str(int(code)) for code in Exit}
    assert of(Kind.FINDING) == set(FINDINGS)
    assert of(Kind.CHECK) == checks


PROSE = re.compile(
    r"\.(?:why|what|remedy|held|detail)\.(?:startswith|endswith|find|count|partition|split)\b"
    r"| in \w+(?:\.\w+)*\.(?:why|what|remedy|held|detail)\b(?!\.)"
    r"|\.(?:why|what|remedy|held|detail) (?:==|!=|in) "
)


def test_no_decision_reads_prose() -> None:
    rooms = ("model", "plan", "observe", "apply", "reconcile", "controller")
    sources = [path for room in rooms for path in (PACKAGE / room).rglob("*.py")]
    found = [
        f"{path.name}: {line.strip()}"
        for path in sources
        for line in path.read_text("utf-8").splitlines()
        if PROSE.search(line)
    ]

    assert len(sources) > 80
    assert found == []
    assert PROSE.search("if line.why.endswith(UNSEEN):")
    assert PROSE.search('if "brake" in line.remedy:')
    assert PROSE.search('return line.what == "declined"')
    assert not PROSE.search("if line.code == Code.OTHERS_UNSEEN:")


def test_texts_are_sentences_and_codes_are_unmistakable() -> None:
    found = list(codes.every())

    assert len({one.code.casefold() for one in found}) == len(found) > 150
    for one in found:
        assert one.means.endswith((".", "?")), one.code
        assert one.todo.endswith((".", "?")), one.code
        assert codes.find(one.code.upper()) == one
    assert codes.find("nothing") is None
    assert codes.near("brakke") == ["brake"]
