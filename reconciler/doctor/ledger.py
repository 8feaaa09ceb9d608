"""What `jtr doctor` makes of the ledger and the fingerprint key.  Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from reconciler.doctor.findings import Finding, failed, listed, ok, warning
from reconciler.errors import Exit
from reconciler.model.desired import DesiredState
from reconciler.model.timestamps import spelled

ROOM: Final = 64 * 2**20  # bytes; below them the disk of a ledger is about to be full


def key_finding(place: str, key_id: str, *, ledger: bool) -> Finding:
    """Say which key is in use; *key_id* is empty where there is none, *ledger* that one exists."""
    if key_id:
        return ok("key.usable", f"{place}, id {key_id}")
    if ledger:
        return failed(
            "key.usable",
            f"there is a ledger, but no fingerprint key at {place}: nothing that was written is "
            "recognised",
            "restore the key from a backup; else `jtr ledger init` makes a new one",
            Exit.BLOCKED,
        )
    return warning("key.usable", f"there is none at {place} yet", "jtr ledger init")


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """Whether this user may write to the file of a ledger, its directory and its disk."""

    file: bool
    directory: bool
    disk: bool
    free: int


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """
    An open ledger.

    `suspect` says why it may have forgotten something.  `brakes` goes from a version to server and
    reason.  `open` is, by server, what waits for a person, with its exit code.  `only` says that no
    other ledger can know the same servers.
    """

    place: str
    born: datetime
    suspect: str
    brakes: Mapping[str, tuple[str, str]]
    open: tuple[tuple[str, Exit], ...]
    only: bool


def disk_finding(facts: DiskFacts) -> Finding:
    """Say whether a ledger in a file can be written, without trying."""
    for fine, what in (
        (facts.disk, "its disk is mounted read-only"),
        (facts.directory, "its directory is read-only for this user"),
        (facts.file, "its file is read-only for this user"),
    ):
        if not fine:
            return failed(
                "ledger.writable", what, "make it writable, or run as its owner", Exit.ERROR
            )
    if facts.free < ROOM:
        return warning(
            "ledger.writable",
            f"only {facts.free // 2**20} MiB are free on its disk; what cannot be recorded is not "
            "sent",
            "make room",
        )
    return ok("ledger.writable", "file, directory and disk can be written")


def ledger_findings(facts: LedgerFacts, state: DesiredState | None) -> Iterator[Finding]:
    """Judge an open ledger, and whether it is enough for the requests of *state*."""
    yield ok("ledger.present", f"{facts.place}, begun {spelled(facts.born.replace(microsecond=0))}")
    if facts.suspect:
        yield failed(
            "ledger.fits",
            f"no reboot and no invalidation will be done: {facts.suspect}",
            "find out what was done meanwhile, then: jtr ledger accept-restore --because TEXT",
            Exit.BLOCKED,
        )
    else:
        yield ok("ledger.fits", "it is the one that this host saw last")
    for version, (server, why) in facts.brakes.items():
        yield failed(
            "ledger.brake",
            f"the brake is on for JT-Trader {version}: {why}",
            f"look at {server}, then: jtr ledger release-brake {version} --because TEXT",
            Exit.BLOCKED,
        )
    if not facts.brakes:
        yield ok("ledger.brake", "none is on")
    for server, code in facts.open:
        doubt = code is Exit.IN_DOUBT
        what = "a request is in doubt" if doubt else "robots are owed a start"
        yield failed("ledger.open", f"{server}: {what}", "see: jtr request list PATH", code)
    if not facts.open:
        yield ok("ledger.open", "no request is in doubt, no robot is owed a start")
    yield from _sole(facts, state)


def _sole(facts: LedgerFacts, state: DesiredState | None) -> Iterator[Finding]:
    asking = [server.name for server in state.servers if server.one_shots] if state else []
    if asking and not facts.only:
        yield warning(
            "ledger.only",
            f"{listed(asking)}: requests are declared, but another ledger might know of them, so "
            "none is done",
            "write soleWriter: true into the settings if that is true; else use a ledger in Vault",
        )
    elif facts.only:
        yield ok("ledger.only", "no other ledger knows these servers")
    else:
        yield ok("ledger.only", "soleWriter is not set; no request is declared")
