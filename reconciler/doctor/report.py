"""
A checkup as text for people, a line for each check, and as JSON.

Signs as in plans: `✓` in order, `~` a warning, `!` failed, `=` not done.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from reconciler.doctor.findings import Finding, Grade
from reconciler.errors import Exit
from reconciler.model.wording import counted
from reconciler.render.escape import plain

_SIGNS: Final = {Grade.OK: "✓", Grade.WARNING: "~", Grade.FAILED: "!", Grade.SKIPPED: "="}
_TITLES: Final = {"key": "Fingerprint key"}  # of other groups it is their name
_WIDTH: Final = max(len(grade) for grade in Grade)


def checkup_text(findings: Sequence[Finding]) -> str:
    """Return all findings, group by group, and how many there are of each grade."""
    rows = []
    for title, part in groupby(findings, key=_title):
        rows.append(title)
        for _, alike in groupby(part, key=_sameness):
            one, *others = alike
            rows.append(_row(one, [other.code for other in others]))
        rows.append("")
    found = Counter(finding.grade for finding in findings)
    counts = f"{found[Grade.OK]} ok, {counted(found[Grade.WARNING], 'warning')}"
    counts += f", {found[Grade.FAILED]} failed"
    if found[Grade.SKIPPED]:
        counts += f", {found[Grade.SKIPPED]} skipped"
    return "\n".join([*rows, f"Checkup: {counts}.\n"])


def _title(finding: Finding) -> str:
    if finding.server:
        return f"Server {finding.server}"
    return _TITLES.get(finding.group, finding.group.capitalize())


def _sameness(finding: Finding) -> object:
    """What could not be done for one reason is one line; everything else has a line of its own."""
    return finding.what if finding.grade is Grade.SKIPPED else id(finding)


def _row(finding: Finding, others: Sequence[str]) -> str:
    said = plain(finding.what, 600)
    if finding.remedy:
        said += f"; {plain(finding.remedy, 400)}"
    codes = ", ".join([finding.code, *(code.partition(".")[2] for code in others)])
    return f"  {_SIGNS[finding.grade]} {f'{finding.grade}:':<{_WIDTH + 1}} {codes}  {said}"


def checkup_document(findings: Sequence[Finding], code: Exit) -> dict[str, Any]:
    found = Counter(finding.grade for finding in findings)
    return {
        "formatVersion": 1,
        "exitCode": int(code),
        "summary": {str(grade): found[grade] for grade in Grade},
        "findings": [
            {
                "code": finding.code,
                "group": finding.group,
                "server": finding.server or None,
                "grade": str(finding.grade),
                "what": finding.what,
                "remedy": finding.remedy,
                "exitCode": int(finding.exit_code),
            }
            for finding in findings
        ],
    }
