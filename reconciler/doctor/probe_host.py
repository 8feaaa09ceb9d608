"""What `jtr doctor` finds out about this host: files, fingerprint key, ledger."""

import os
import stat
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler import bootstrap
from reconciler.doctor import findings as checkup
from reconciler.doctor import ledger as checkup_ledger
from reconciler.doctor.findings import FileFacts, Finding
from reconciler.doctor.ledger import DiskFacts, LedgerFacts
from reconciler.errors import Exit, JtrError, LedgerMissing
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import known_servers
from reconciler.model.desired import DesiredState
from reconciler.model.fingerprints import Fingerprints
from reconciler.render.requests import open_code
from reconciler.secrets.fingerprint_key import key_from_file, key_from_vault
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.settings.model import AuthMethod, Settings
from reconciler.settings.paths import key_file

# ── files ────────────────────────────────────────────────────────────────────────────────────


def files(settings: Settings) -> Iterator[FileFacts]:
    """Look at every file that the settings name."""
    auth = settings.vault.auth
    # The kubelet and CI systems write tokens of theirs as they like; nobody else may replace them.
    private = auth.method is AuthMethod.TOKEN_FILE
    secrets = (
        ("vault-token", "the Vault token file", auth.token_file if private else None),
        ("secret-id", "the secret id file", auth.secret_id_file),
        ("controller-token", "the controller's token file", settings.controller.token_file),
        *(("client-key", "the client key", rule.client_key) for rule in settings.tls),
    )
    others = (
        ("file", "the settings file", settings.source),
        ("vault-token", "the token file of the login", None if private else auth.token_file),
        ("role-id", "the role id file", auth.role_id_file),
        ("vault-ca", "Vault's CA file", settings.vault.ca_file),
        ("controller-ca", "the controller's CA file", settings.controller.ca_file),
        *(("server-ca", "a CA file of servers", rule.ca_file) for rule in settings.tls),
        *(("client-cert", "the client certificate", rule.client_cert) for rule in settings.tls),
    )
    for secret, rows in ((True, secrets), (False, others)):
        for name, what, path in rows:
            if path is not None:
                code = "settings.rights" if name == "file" else f"settings.{name}"
                yield _file(code, what, path, secret=secret)


def _file(code: str, what: str, path: str, *, secret: bool) -> FileFacts:
    login = code in {"settings.vault-token", "settings.secret-id", "settings.role-id"}
    exit_code = Exit.SECRETS if login or code == "settings.vault-ca" else Exit.ERROR
    trouble, mode, ours = "", 0, True
    try:
        facts = Path(path).stat()  # through links: Kubernetes puts its secrets behind one
        mode, ours = stat.S_IMODE(facts.st_mode), facts.st_uid in {0, os.geteuid()}
        if not stat.S_ISREG(facts.st_mode):
            trouble = "it is not a regular file"
        elif not os.access(path, os.R_OK):
            trouble = "this user may not read it"
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        trouble = os.strerror(number) if number else "the path is not usable"
    return FileFacts(code, what, path, mode, trouble, ours, secret, exit_code)


def unknown_zones(state: DesiredState) -> list[str]:
    """Return the time zones of windows that this machine does not know."""
    zones = {window.zone for server in state.servers for window in server.windows}
    found = []
    for zone in sorted(zones):
        try:
            zoneinfo.ZoneInfo(zone)
        except (LookupError, ValueError, OSError):  # as reconciler.plan.windows judges it
            found.append(zone)
    return found


# ── fingerprint key and ledger ───────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LedgerLook:
    """
    What was found; `ledger` is open where there is one that can be read.

    `why` says why nobody can tell whether an address is the one that the ledger knows.
    """

    findings: tuple[Finding, ...]
    ledger: Ledger | None = None
    why: str = ""


def look_at_ledger(
    settings: Settings,
    vault: VaultBackend | None,
    rights: list[Finding],
    state: DesiredState | None,
) -> LedgerLook:
    """Open the ledger to read, and look at it; *rights* are those to one in Vault."""
    place = str(settings.ledger)
    if settings.ledger.at and vault is None:
        why = f"{place} cannot be asked while Vault cannot"
        return LedgerLook((checkup.skipped("ledger.present", why),), why=why)
    ledger = None
    try:
        ledger = bootstrap.open_ledger(settings, "doctor", vault=vault)
        facts = LedgerFacts(
            place=place,
            born=ledger.birth(),
            suspect=bootstrap.suspicion(settings, ledger, keep=False),
            brakes={v: (brake.server, brake.why) for v, brake in ledger.brakes().items()},
            open=tuple(_open(ledger)),
            only=settings.only_ledger,
        )
    except JtrError as error:
        if ledger is not None:
            ledger.close()
        missing = isinstance(error, LedgerMissing)
        found = (checkup.of_error("ledger.present", error), *rights)
        why = "" if missing else "the ledger cannot be read: is its address the one that it knows?"
        return LedgerLook(found, why=why)
    found = (*checkup_ledger.ledger_findings(facts, state), *_writable(settings), *rights)
    return LedgerLook(found, ledger)


def _open(ledger: Ledger) -> Iterator[tuple[str, Exit]]:
    for identity, recorded in known_servers(ledger, bootstrap.unrecorded()):
        code = open_code(recorded.requests)
        if code is not Exit.DONE:
            yield identity.name, code


def _writable(settings: Settings) -> Iterator[Finding]:
    path = settings.ledger.file
    if path is None:
        return
    try:
        disk = os.statvfs(path)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "no reason given"
        yield checkup.warning("ledger.writable", f"its disk does not tell: {why}", "look at it")
        return
    yield checkup_ledger.disk_finding(
        DiskFacts(
            file=os.access(path, os.W_OK),
            directory=os.access(path.parent, os.W_OK),
            disk=not disk.f_flag & os.ST_RDONLY,
            free=disk.f_bavail * disk.f_frsize,
        )
    )


def look_at_key(settings: Settings, vault: VaultBackend | None, *, ledger: bool) -> Finding:
    """Say which fingerprint key is in use; *ledger* says that something was written with one."""
    ref = settings.fingerprint_key
    place = key_file() if ref is None else str(ref)
    try:
        if ref is None:
            key = key_from_file(place, create=False)
        elif vault is None:
            return checkup.skipped("key.usable", f"{place} cannot be read while Vault cannot")
        else:
            key = key_from_vault(vault, ref, create=False)
        key_id = "" if key is None else Fingerprints(key).key_id
    except JtrError as error:
        return checkup.of_error("key.usable", error)
    return checkup_ledger.key_finding(place, key_id, ledger=ledger)
