"""
What `jtr doctor` makes of the facts that it gathered: findings, each with what to do.  Pure.

Every check has a code that stays the same from release to release, so that scripts can name it.
The facts of a trading server are judged in `reconciler.doctor.server`.
"""

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from reconciler.errors import Exit, InvalidConfig, JtrError, UsageError, worst
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.timestamps import spelled

MOST_PROBLEMS: Final = 10  # of invalid documents; `jtr validate` shows all
MOST_NAMES: Final = 3


class Grade(enum.StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Group(enum.StrEnum):
    """What a check is about; a code begins with it."""

    SETTINGS = "settings"
    VAULT = "vault"
    KEY = "key"
    LEDGER = "ledger"
    CONTROLLER = "controller"
    DOCUMENTS = "documents"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Finding:
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
    def group(self) -> Group:
        """What it is about."""
        return Group(self.code.partition(".")[0])


def ok(code: str, what: str) -> Finding:
    """Return a finding that is in order."""
    return Finding(code, Grade.OK, what)


def warning(code: str, what: str, remedy: str) -> Finding:
    """Return a finding that stops nothing, but should be mended."""
    return Finding(code, Grade.WARNING, what, remedy)


def failed(code: str, what: str, remedy: str, exit_code: Exit) -> Finding:
    """Return a finding because of which other commands fail with *exit_code*."""
    return Finding(code, Grade.FAILED, what, remedy, exit_code=exit_code)


def skipped(code: str, why: str) -> Finding:
    """Return a check that could not be done, or was not wanted."""
    return Finding(code, Grade.SKIPPED, why)


def of_error(code: str, error: JtrError) -> Finding:
    """Return what other commands would fail with."""
    return failed(code, error.what, error.remedy, error.exit_code)


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


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Return some names, and how many more there are."""
    found = list(names)
    more = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


# ── settings ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class FileFacts:
    """
    A file that the settings name; `mode` are its rights, `trouble` why it cannot be read.

    `ours` says that it belongs to this user or to root.  Of a *secret* one nobody else may read;
    of any other nobody else may write.
    """

    code: str
    what: str
    path: str
    mode: int = 0
    trouble: str = ""
    ours: bool = True
    secret: bool = True
    exit_code: Exit = Exit.ERROR


def settings_findings(
    source: str | None, files: Iterable[FileFacts], *, beside: str
) -> Iterator[Finding]:
    """Judge the settings and the files that they name; *beside* says that they lie in the tree."""
    if source is None:
        yield warning(
            "settings.file",
            "there is no settings file: built-in values and the environment alone hold",
            "write one: examples/settings.yaml shows every key",
        )
    else:
        yield ok("settings.file", source)
    if beside:
        yield warning(
            "settings.place",
            f"{beside}: whoever may change the documents may send the Vault token elsewhere",
            "keep the settings outside of the documents' work tree",
        )
    elif source is not None:
        yield ok("settings.place", "outside of the documents")
    for facts in files:
        yield _file(facts)


def _file(facts: FileFacts) -> Finding:
    name = f"{facts.what} {facts.path}"
    if facts.trouble:
        return failed(
            facts.code,
            f"{name} cannot be read: {facts.trouble}",
            "check the path and its rights",
            facts.exit_code,
        )
    if facts.secret and facts.mode & 0o077:
        who = "everybody" if facts.mode & 0o007 else "its group"
        return warning(
            facts.code,
            f"{who} can open {name} (mode {facts.mode:04o})",
            f"chmod 600 {facts.path}",
        )
    if facts.mode & 0o022 or not facts.ours:
        return warning(
            facts.code,
            f"others can change {name} (mode {facts.mode:04o})",
            f"chown it to this user or to root, and: chmod go-w {facts.path}",
        )
    kind = "nobody else can open it" if facts.secret else "nobody else can change it"
    return ok(facts.code, f"{facts.what}: {kind}")


# ── controller ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ControllerFacts:
    """
    What the controller at `url` answered.

    `trouble` says why it did not; `status` is what is wrong with its status page, `remedy` what to
    do about that.  `waits` says what it waits for, or complains of.
    """

    url: str
    trouble: str = ""
    status: str = ""
    remedy: str = ""
    acting: bool = False
    waits: str = ""


def controller_findings(facts: ControllerFacts | None, role: str) -> Iterator[Finding]:
    """Judge the controller of the settings; None where they name none."""
    if facts is None:
        yield skipped("controller.reachable", "the settings name none (controller.url)")
    elif facts.trouble:
        yield failed(
            "controller.reachable",
            facts.trouble,
            "check controller.url, and that it runs",
            Exit.ERROR,
        )
    else:
        yield ok("controller.reachable", f"{facts.url} is alive")
    if facts is not None and not facts.trouble:
        yield _status(facts)
    yield ok("controller.role", f"this host's role is {role}" if role else "no role is set here")


def _status(facts: ControllerFacts) -> Finding:
    if facts.status:
        return failed("controller.status", facts.status, facts.remedy, Exit.ERROR)
    acts = "it acts" if facts.acting else "it does not act"
    if facts.waits or not facts.acting:
        why = f": {facts.waits}" if facts.waits else ""
        return warning("controller.status", f"{acts}{why}", "see: jtr status")
    return ok("controller.status", acts)


# ── documents ────────────────────────────────────────────────────────────────────────────────


def document_findings(
    state: DesiredState | None, trouble: JtrError | None, unknown: Sequence[str], now: datetime
) -> Iterator[Finding]:
    """
    Judge the documents; *trouble* says why there are none.

    *unknown* are the time zones of windows that this machine does not know.
    """
    if trouble is not None:
        yield from _invalid(trouble)
    if state is None:
        return
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


def _invalid(trouble: JtrError) -> Iterator[Finding]:
    if not isinstance(trouble, InvalidConfig):
        if isinstance(trouble, UsageError):
            yield warning("documents.valid", trouble.what, trouble.remedy)
        else:
            yield of_error("documents.valid", trouble)
        return
    shown = trouble.problems[:MOST_PROBLEMS]
    for problem in shown:
        yield failed("documents.valid", str(problem), "", Exit.INVALID)
    if trouble.total > len(shown):
        yield failed(
            "documents.valid",
            f"{trouble.total - len(shown)} more problems",
            "jtr validate shows all",
            Exit.INVALID,
        )


def _suspended(server: DesiredServer, now: datetime) -> str:
    suspension = server.suspend
    if suspension is None or (suspension.until is not None and suspension.until <= now):
        return ""
    until = "" if suspension.until is None else f" until {spelled(suspension.until)}"
    by = f" ({suspension.by})" if suspension.by else ""
    return f"{suspension.reason}{by}{until}"
