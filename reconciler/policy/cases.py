"""
A team's own cases for its policy: documents, and what must become of what they ask for.

Each directory with an `expected.yaml` is a case; its documents lie in `documents/` beside that
file, which stands for the root of the tree.  Contacts nothing.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.documents.files import read_bytes, shown
from reconciler.documents.load import load
from reconciler.documents.tree import List, Map, Node, text
from reconciler.documents.yaml_reader import parse
from reconciler.errors import InvalidConfig, UsageError
from reconciler.model.desired import DesiredServer
from reconciler.model.policy import PolicyAction
from reconciler.model.source import Problem, SourceLine
from reconciler.policy.model import Ask, Decision, Policy

EXPECTED: Final = "expected.yaml"
DOCUMENTS: Final = "documents"
CONTACT: Final = "contact"
LOGIN: Final = "login"
NO_RULE: Final = "none"
_VERDICTS: Final = ("allowed", "denied")
_ACTIONS: Final = (CONTACT, LOGIN, *map(str, PolicyAction))
_KEYS: Final = ("server", "action", "exchange", "verdict", "rule")


def called(ask: Ask) -> str:
    """Return what a case calls the action of a ask."""
    if ask.action is not None:
        return str(ask.action)
    return CONTACT if ask.path is None else LOGIN


class Expectation(Struct, frozen=True):
    """One row of a case; `rule` is empty where it does not say which one decides."""

    server: str
    action: str
    exchange: str
    allowed: bool
    rule: str
    source: SourceLine


class CaseResult(Struct, frozen=True):
    """How a case went; `failures` is empty when all was as expected."""

    name: str
    checked: int
    failures: tuple[str, ...]


def run_cases(folder: str, policy: Policy) -> tuple[CaseResult, ...]:
    """
    Judge every case below *folder*.

    Raises UsageError where there is none, and InvalidConfig for what cannot be read.
    """
    found = sorted(Path(folder).rglob(EXPECTED))
    if not found:
        raise UsageError(
            f"{shown(folder)} holds no case",
            f"a case is a directory with {EXPECTED} and {DOCUMENTS}/",
        )
    return tuple(_case(file, Path(folder), policy) for file in found)


def _case(file: Path, top: Path, policy: Policy) -> CaseResult:
    documents = str(file.parent / DOCUMENTS)
    rows = _expectations(file)
    servers = {s.name: s for s in load([documents], tree=documents).state.servers}
    failures = [*_differences(rows, servers, policy), *_unexpected(rows, servers, policy)]
    name = str(file.parent.relative_to(top)) if file.parent != top else top.name
    return CaseResult(name, len(rows), tuple(failures))


def _differences(
    rows: tuple[Expectation, ...], servers: Mapping[str, DesiredServer], policy: Policy
) -> Iterator[str]:
    for row in rows:
        where = f"{row.source}: {row.server} {row.action} {row.exchange}".rstrip()
        server = servers.get(row.server)
        decisions = _asked(row, server, policy) if server is not None else []
        if not decisions:
            yield f"{where}: no document asks for it"
            continue
        denied = [one for one in decisions if not one.allowed]
        decisive = (denied or decisions)[0]
        rule = NO_RULE if decisive.rule is None else decisive.rule.name
        if bool(denied) is row.allowed:
            yield f"{where}: expected {_VERDICTS[not row.allowed]}, {_told(decisive)}"
        elif row.rule and row.rule != rule:
            yield f"{where}: expected rule {row.rule}, {_told(decisive)}"


def _asked(row: Expectation, server: DesiredServer, policy: Policy) -> list[Decision]:
    return [
        one
        for one in policy.decisions(server)
        if called(one.ask) == row.action and (not row.exchange or one.ask.exchange == row.exchange)
    ]


def _unexpected(
    rows: tuple[Expectation, ...], servers: Mapping[str, DesiredServer], policy: Policy
) -> Iterator[str]:
    """Yield what is denied and no row is about: a case says all that goes wrong."""
    for name, server in sorted(servers.items()):
        for one in policy.decisions(server):
            known = any(
                (row.server, row.action) == (name, called(one.ask))
                and row.exchange in ("", one.ask.exchange)
                for row in rows
            )
            if not one.allowed and not known:
                what = f"{name} {called(one.ask)} {one.ask.exchange}".rstrip()
                yield f"{server.source}: {what}: {_told(one)}, and no row expects that"


def _told(decision: Decision) -> str:
    if decision.allowed:
        return f"allowed by {decision.rule}"
    if decision.rule is None:
        return "denied: no rule allows it"
    return f"denied by {decision.rule}" + (f": no {decision.lacks}" if decision.lacks else "")


def _expectations(file: Path) -> tuple[Expectation, ...]:
    roots = parse(read_bytes(str(file)), shown(str(file)))
    rows = roots[0] if len(roots) == 1 else None
    if not isinstance(rows, List) or not rows.items:
        raise InvalidConfig(
            [
                Problem(
                    SourceLine(shown(str(file)), 1),
                    "a case is a list of what is expected",
                    "write - {server: NAME, action: write, verdict: allowed}",
                )
            ]
        )
    found = [problem for row in rows.items for problem in _row_problems(row)]
    if found:
        raise InvalidConfig(found)
    return tuple(
        Expectation(
            text(row, "server"),
            text(row, "action"),
            text(row, "exchange"),
            text(row, "verdict") == "allowed",
            text(row, "rule"),
            row.source,
        )
        for row in rows.items
    )


def _row_problems(row: Node) -> Iterator[Problem]:
    if not isinstance(row, Map):
        yield Problem(row.source, "a row is a mapping", "write {server: NAME, ...}")
        return
    for key, source in row.keys.items():
        if key not in _KEYS:
            yield Problem(source, "this key is not known in a case", f"known: {', '.join(_KEYS)}")
        elif not text(row, key):
            yield Problem(source, f"{key} is not text", "write it so")
    for key, choice in (("action", _ACTIONS), ("verdict", _VERDICTS)):
        if text(row, key) not in choice:
            yield Problem(row.source, f"{key} must be one of {', '.join(choice)}", f"write {key}")
    if not text(row, "server"):
        yield Problem(row.source, "a row names no server", "write server: NAME")
