"""
What a checkup finds: findings, each with what to do; those about documents, too.  Pure.

Every check has a code that stays the same from release to release, so that scripts can name it.
"""

import enum
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.errors import Exit, InvalidConfig, JtrError, worst
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.timestamps import spelled
from reconciler.model.wording import counted

MOST_PROBLEMS: Final = 10  # of invalid documents; `jtr validate` shows all
MOST_NAMES: Final = 3


class Grade(enum.StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(Struct, frozen=True):
    """
    One check: `code` is its stable name, such as `vault.reachable`.

    `server` is empty for what is not about one of them; `exit_code` is that of a failure.
    """

    code: str
    grade: Grade
    what: str
    remedy: str = ""
    server: str = ""
    exit_code: Exit = Exit.DONE

    @property
    def group(self) -> str:
        return self.code.partition(".")[0]


def ok(code: str, what: str) -> Finding:
    return Finding(code, Grade.OK, what)


def warning(code: str, what: str, remedy: str) -> Finding:
    """Return a finding that stops nothing, but should be mended."""
    return Finding(code, Grade.WARNING, what, remedy)


def failed(code: str, what: str, remedy: str, exit_code: Exit) -> Finding:
    return Finding(code, Grade.FAILED, what, remedy, exit_code=exit_code)


def skipped(code: str, why: str) -> Finding:
    """Return a check that could not be done, or was not wanted."""
    return Finding(code, Grade.SKIPPED, why)


def of_error(code: str, error: JtrError) -> Finding:
    """Return what other commands would fail with."""
    return failed(code, error.what, error.remedy, error.exit_code)


def of_problems(code: str, error: InvalidConfig, most: int | None = None) -> Iterator[Finding]:
    """Yield each problem of invalid files, at *most* so many."""
    shown = error.problems[:most]
    for problem in shown:
        yield failed(code, str(problem), "", error.exit_code)
    if most is not None and error.total > len(shown):
        more = f"{error.total - len(shown)} more problems"
        yield failed(code, more, "jtr validate shows all", error.exit_code)


def first(code: str, fine: str, *cases: tuple[object, str, str]) -> Finding:
    """Return the first case (condition, what, remedy) that holds as a warning, else *fine*."""
    found = next((warning(code, what, remedy) for holds, what, remedy in cases if holds), None)
    return found or ok(code, fine)


def all_or(findings: Iterable[Finding], code: str, fine: str) -> list[Finding]:
    return list(findings) or [ok(code, fine)]


def conclusion(findings: Iterable[Finding]) -> Exit:
    """Return what the command ends with: only failures count, and what is wrong with its words."""
    codes = [finding.exit_code for finding in findings if finding.grade is Grade.FAILED]
    return Exit.USAGE if Exit.USAGE in codes else worst(codes)


def length(seconds: float) -> str:
    """Return a length of time for people, in its largest unit that fits twice."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def listed(names: Iterable[str]) -> str:
    found = list(names)
    more = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def apart(ahead: float) -> str:
    return f"its clock is {length(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} ours"


# ── documents ────────────────────────────────────────────────────────────────────────────────


def document_findings(
    state: DesiredState, unknown: Sequence[str], now: datetime
) -> Iterator[Finding]:
    """Judge valid documents; this machine does not know the time zones *unknown* of windows."""
    exchanges = sum(len(server.exchanges) for server in state.servers)
    servers = counted(len(state.servers), "server")
    yield ok("documents.valid", f"{servers}, {counted(exchanges, 'exchange')}")
    for server in state.servers:
        if server.insecure_transport:
            yield warning(
                "documents.transport",
                f"{server.name}: every key travels in clear ({server.insecure_transport})",
                "put TLS in front of it, or a tunnel, and remove insecureTransport",
            )
        if said := _suspended(server, now):
            yield warning(
                "documents.suspended",
                f"{server.name}: nothing is applied to it: {said}",
                "remove suspend from its document when that is over",
            )
    for zone in unknown:
        yield failed(
            "documents.windows",
            f"this machine does not know the time zone {zone}, so its windows stay closed",
            "install tzdata",
            Exit.BLOCKED,
        )
    if not unknown and any(server.windows for server in state.servers):
        yield ok("documents.windows", "this machine knows all their time zones")


def _suspended(server: DesiredServer, now: datetime) -> str:
    suspension = server.suspend
    if suspension is None or (suspension.until is not None and suspension.until <= now):
        return ""
    until = "" if suspension.until is None else f" until {spelled(suspension.until)}"
    by = f" ({suspension.by})" if suspension.by else ""
    return f"{suspension.reason}{by}{until}"
