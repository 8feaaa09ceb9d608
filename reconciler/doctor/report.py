"""
A checkup as text for people, a line for each check, and as JSON.

Signs as in plans: `✓` in order, `~` a warning, `!` failed, `=` not done.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from reconciler.doctor.findings import Finding, Grade, Group
from reconciler.errors import Exit
from reconciler.render.escape import plain

_SIGNS: Final = {Grade.OK: "✓", Grade.WARNING: "~", Grade.FAILED: "!", Grade.SKIPPED: "="}
_TITLES: Final = {
    Group.SETTINGS: "Settings",
    Group.VAULT: "Vault",
    Group.KEY: "Fingerprint key",
    Group.LEDGER: "Ledger",
    Group.CONTROLLER: "Controller",
    Group.DOCUMENTS: "Documents",
}
_WIDTH: Final = max(len(grade) for grade in Grade)


def checkup_text(findings: Sequence[Finding]) -> str:
    """Return all findings, group by group, and how many there are of each grade."""
    parts = [_part(title, rows) for title, rows in groupby(findings, key=_title)]
    return "\n".join([*parts, f"Checkup: {_summary(findings)}.\n"])


def _title(finding: Finding) -> str:
    return f"Server {finding.server}" if finding.server else _TITLES[finding.group]


def _part(title: str, findings: Iterable[Finding]) -> str:
    rows = [title]
    for _, alike in groupby(findings, key=_sameness):
        first, *others = alike
        rows.append(_row(first, [finding.code for finding in others]))
    return "\n".join(rows) + "\n"


def _sameness(finding: Finding) -> object:
    """What could not be done for one reason is one line; everything else has a line of its own."""
    return finding.what if finding.grade is Grade.SKIPPED else id(finding)


def _row(finding: Finding, others: Sequence[str]) -> str:
    said = f"{plain(finding.what, 600)}"
    if finding.remedy:
        said += f"; {plain(finding.remedy, 400)}"
    sign, grade = _SIGNS[finding.grade], f"{finding.grade}:"
    codes = ", ".join([finding.code, *(code.partition(".")[2] for code in others)])
    return f"  {sign} {grade:<{_WIDTH + 1}} {codes}  {said}"


def _summary(findings: Sequence[Finding]) -> str:
    return ", ".join(_counts(findings))


def _counts(findings: Sequence[Finding]) -> Iterator[str]:
    found = Counter(finding.grade for finding in findings)
    yield f"{found[Grade.OK]} ok"
    yield f"{found[Grade.WARNING]} warning{'' if found[Grade.WARNING] == 1 else 's'}"
    yield f"{found[Grade.FAILED]} failed"
    if found[Grade.SKIPPED]:
        yield f"{found[Grade.SKIPPED]} skipped"


def checkup_document(findings: Sequence[Finding], code: Exit) -> dict[str, Any]:
    """Return the same for programs."""
    found = Counter(finding.grade for finding in findings)
    return {
        "formatVersion": 1,
        "exitCode": int(code),
        "summary": {str(grade): found[grade] for grade in Grade},
        "findings": [_document(finding) for finding in findings],
    }


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "group": str(finding.group),
        "server": finding.server or None,
        "grade": str(finding.grade),
        "what": finding.what,
        "remedy": finding.remedy,
        "exitCode": int(finding.exit_code),
    }
