"""What `jtr doctor` finds out about the ledger and the fingerprint key."""

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from reconciler import bootstrap
from reconciler.doctor.findings import (
    Finding,
    all_or,
    failed,
    first,
    listed,
    of_error,
    ok,
    skipped,
    warning,
)
from reconciler.errors import Exit, JtrError, LedgerMissing
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import known_servers
from reconciler.model.desired import DesiredState
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.timestamps import spelled
from reconciler.render.requests import open_code
from reconciler.secrets.fingerprint_key import key_from_file, key_from_vault
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.settings.model import Settings
from reconciler.settings.paths import key_file

ROOM: Final = 64 * 2**20  # bytes; below them the disk of a ledger is about to be full


class LedgerLook(NamedTuple):
    """
    What was found; `ledger` is open where there is one that can be read.

    `why` says why nobody can tell whether an address is the one that the ledger knows.
    """

    findings: list[Finding]
    ledger: Ledger | None = None
    why: str = ""


def look_at_ledger(
    settings: Settings,
    vault: VaultBackend | None,
    rights: list[Finding],
    state: DesiredState | None,
) -> LedgerLook:
    place = str(settings.ledger)
    if settings.ledger.at and vault is None:
        why = f"{place} cannot be asked while Vault cannot"
        return LedgerLook([skipped("ledger.present", why)], why=why)
    ledger = None
    try:
        ledger = bootstrap.open_ledger(settings, "doctor", vault=vault)
        found = list(_judged(ledger, place, settings, state))
    except JtrError as error:
        if ledger is not None:
            ledger.close()
        missing = isinstance(error, LedgerMissing)
        why = "" if missing else "the ledger cannot be read: is its address the one that it knows?"
        return LedgerLook([of_error("ledger.present", error), *rights], why=why)
    return LedgerLook([*found, *_writable(settings), *rights], ledger)


def _judged(
    ledger: Ledger, place: str, settings: Settings, state: DesiredState | None
) -> Iterator[Finding]:
    """Judge an open ledger, and whether it is enough for the requests of *state*."""
    yield ok("ledger.present", f"{place}, begun {spelled(ledger.birth().replace(microsecond=0))}")
    suspect = bootstrap.suspicion(settings, ledger, keep=False)
    forgetful = failed(
        "ledger.fits",
        f"no reboot and no invalidation will be done: {suspect}",
        "find out what was done meanwhile, then: jtr ledger accept-restore --because TEXT",
        Exit.BLOCKED,
    )
    yield forgetful if suspect else ok("ledger.fits", "it is the one that this host saw last")
    brakes = (
        failed(
            "ledger.brake",
            f"the brake is on for {held.subject}: {held.brake.why}",
            f"look at {held.brake.server}, then: jtr ledger release-brake {held.over} "
            "--because TEXT",
            Exit.BLOCKED,
        )
        for held in ledger.brakes()
    )
    yield from all_or(brakes, "ledger.brake", "none is on")
    nothing = "no request is in doubt, no robot is owed a start"
    yield from all_or(_open(ledger), "ledger.open", nothing)
    asking = [server.name for server in state.servers if server.one_shots] if state else []
    if settings.only_ledger:
        word = settings.ledger.at is None
        mine = " (soleWriter: nobody checks that, it is only your word)" if word else ""
        yield ok("ledger.only", f"no other ledger knows these servers{mine}")
    elif asking:
        yield warning(
            "ledger.only",
            f"{listed(asking)}: requests are declared, but another ledger might know of them, so "
            "none is done",
            "write soleWriter: true into the settings if that is true; else use a ledger in Vault",
        )
    else:
        yield ok("ledger.only", "soleWriter is not set; no request is declared")


def _open(ledger: Ledger) -> Iterator[Finding]:
    for identity, recorded in known_servers(ledger, bootstrap.unrecorded()):
        code = open_code(recorded.requests)
        doubt = code is Exit.IN_DOUBT
        what = "a request is in doubt" if doubt else "robots are owed a start"
        if code is not Exit.DONE:
            see = "see: jtr request list PATH"
            yield failed("ledger.open", f"{identity.name}: {what}", see, code)


def _writable(settings: Settings) -> Iterator[Finding]:
    path = settings.ledger.file
    if path is None:
        return
    try:
        disk = os.statvfs(path)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "no reason given"
        yield warning("ledger.writable", f"its disk does not tell: {why}", "look at it")
        return
    yield disk_finding(
        file=os.access(path, os.W_OK),
        directory=os.access(path.parent, os.W_OK),
        disk=not disk.f_flag & os.ST_RDONLY,
        free=disk.f_bavail * disk.f_frsize,
    )


def disk_finding(*, file: bool, directory: bool, disk: bool, free: int) -> Finding:
    """Say whether this user can write a ledger in a file, without trying; *free* are bytes."""
    for fine, what in (
        (disk, "its disk is mounted read-only"),
        (directory, "its directory is read-only for this user"),
        (file, "its file is read-only for this user"),
    ):
        if not fine:
            remedy = "make it writable, or run as its owner"
            return failed("ledger.writable", what, remedy, Exit.ERROR)
    return first(
        "ledger.writable",
        "file, directory and disk can be written",
        (
            free < ROOM,
            f"only {free // 2**20} MiB are free on its disk; what cannot be recorded is not sent",
            "make room",
        ),
    )


def look_at_key(settings: Settings, vault: VaultBackend | None, *, ledger: bool) -> Finding:
    """Say which fingerprint key is in use; *ledger* says that something was written with one."""
    ref = settings.fingerprint_key
    place = key_file() if ref is None else str(ref)
    try:
        if ref is None:
            key = key_from_file(place, create=False)
        elif vault is None:
            return skipped("key.usable", f"{place} cannot be read while Vault cannot")
        else:
            key = vault.wait(key_from_vault(vault, ref, create=False))
        if key is not None:
            return ok("key.usable", f"{place}, id {Fingerprints(key).key_id}")
    except JtrError as error:
        return of_error("key.usable", error)
    if ledger:
        return failed(
            "key.usable",
            f"there is a ledger, but no fingerprint key at {place}: nothing that was written is "
            "recognised",
            "restore the key from a backup; else `jtr ledger init` makes a new one",
            Exit.BLOCKED,
        )
    return warning("key.usable", f"there is none at {place} yet", "jtr ledger init")
