"""
Put together what a pass works with: driver, Vault, ledger, fingerprint key, from the settings.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from reconciler import documents, logs
from reconciler.cli.output import say
from reconciler.drivers import Trust
from reconciler.drivers.jt_trader import JtTraderDriver
from reconciler.errors import Blocked, LedgerMissing, UsageError
from reconciler.ledger import open_store
from reconciler.ledger.book import Ledger
from reconciler.reconcile import Allowed, Means
from reconciler.resolve import Resolver
from reconciler.secrets import Secret
from reconciler.secrets.fingerprints import Fingerprints, key_from_file, key_from_vault
from reconciler.secrets.vault import VaultBackend
from reconciler.secrets.vault_auth import AppRoleAuth, TokenAuth, TokenFileAuth
from reconciler.settings import AuthMethod, Settings, SqliteLedger, VaultAuth, load_settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """The documents and the operator's settings of one command."""

    documents: documents.Loaded
    settings: Settings


def load(paths: Sequence[str], settings_file: str | None, *, in_repo: bool) -> Loaded:
    """Read documents and settings; an invalid document stops a command before any network."""
    found = documents.load(paths)
    return Loaded(found, load_settings(settings_file, os.environ, paths, in_repo_allowed=in_repo))


def now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


def key_file() -> str:
    """Return where the fingerprint key lies when the settings name none in Vault."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return str(Path(base) / "jtr" / "fingerprint.key")


def ledger_place(settings: Settings) -> str:
    """Return where the ledger lies, as the settings write it."""
    if isinstance(settings.ledger, SqliteLedger):
        return f"sqlite:{settings.ledger.path}"
    raise Blocked("a ledger in Vault is not in this release yet", "write ledger: sqlite:PATH")


def open_ledger(settings: Settings, command: str, *, create: bool = False) -> Ledger:
    """Open the ledger of the settings, or begin it.  Raises LedgerMissing, LedgerError."""
    store = open_store(ledger_place(settings), settings.durations, create=create)
    label = f"{command} {os.getpid()}@{socket.gethostname()}"
    return Ledger(store, now=now, durations=settings.durations, writer=label)


def backend(settings: Settings) -> VaultBackend:
    """Return the secret backend of the settings; contacts nothing yet."""
    vault = settings.vault
    if vault.address is None:
        raise UsageError("no Vault is named", "set VAULT_ADDR, or vault.address in the settings")
    return VaultBackend(
        address=vault.address,
        auth=_login(vault.auth),
        namespace=vault.namespace or "",
        ca_file=vault.ca_file,
        durations=settings.durations,
    )


def _login(auth: VaultAuth) -> TokenAuth | TokenFileAuth | AppRoleAuth:
    match auth.method:
        case AuthMethod.TOKEN:
            if auth.token is None:
                raise UsageError(
                    "there is no Vault token", "set VAULT_TOKEN, or vault.auth in the settings"
                )
            return TokenAuth(auth.token)
        case AuthMethod.TOKEN_FILE:
            return TokenFileAuth(auth.token_file or "")
        case AuthMethod.APPROLE:
            return AppRoleAuth(
                auth.role_id, auth.role_id_file, auth.secret_id_file, auth.mount or "approle"
            )
        case AuthMethod.JWT | AuthMethod.KUBERNETES:
            raise Blocked(
                f"logging in to Vault by {auth.method} is not in this release yet",
                "use token, token-file or approle",
            )


def fingerprint_key(settings: Settings, vault: VaultBackend, *, create: bool) -> Secret | None:
    """Return the fingerprint key; None when there is none and none shall be made."""
    if settings.fingerprint_key is not None:
        return key_from_vault(vault, settings.fingerprint_key, create=create)
    return key_from_file(key_file(), create=create)


def make_fingerprint_key(settings: Settings) -> bool:
    """Make the fingerprint key if there is none; Vault is asked only where the key lies there."""
    if settings.fingerprint_key is None:
        if key_from_file(key_file(), create=False) is not None:
            return False
        return key_from_file(key_file(), create=True) is not None
    vault = backend(settings)
    try:
        if key_from_vault(vault, settings.fingerprint_key, create=False) is not None:
            return False
        return key_from_vault(vault, settings.fingerprint_key, create=True) is not None
    finally:
        vault.close()


def trust(settings: Settings, url: str) -> Trust:
    """Return which certificates the settings trust for the server at *url*."""
    rule = settings.tls_for(url)
    return Trust() if rule is None else Trust(rule.ca_file, rule.client_cert, rule.client_key)


@contextmanager
def prepared(
    settings: Settings, command: str, *, parallelism: int, writes: bool, begin: bool = False
) -> Iterator[Means]:
    """
    Yield the means of a pass and give everything back afterwards.

    A command that *writes* needs a ledger and its key; with *begin* they are made when they are
    missing, and that is said.
    """
    logs.ensure()
    with ExitStack() as stack:
        vault = backend(settings)
        stack.callback(vault.close)
        ledger = _ledger(settings, command, needed=writes, begin=begin)
        if ledger is not None:
            stack.callback(ledger.close)
        key = fingerprint_key(settings, vault, create=False)
        if key is None and begin:
            key = fingerprint_key(settings, vault, create=True)
            say("made a new fingerprint key")
        if key is None and writes:
            raise Blocked(
                f"there is no fingerprint key at {settings.fingerprint_key or key_file()}",
                "restore it if there was one, for nothing written with it is recognised without "
                "it; else `jtr ledger init` makes one",
            )
        if key is None and ledger is not None:
            say(
                f"there is no fingerprint key at {settings.fingerprint_key or key_file()}: "
                "what was written is not recognised"
            )
        driver = JtTraderDriver(
            command=command, durations=settings.durations, accept_versions=settings.accept_versions
        )
        yield Means(
            driver=driver,
            resolver=Resolver(vault, driver, settings.durations, say),
            # Without a key nothing was ever remembered: any key will do to look once.
            fingerprints=Fingerprints(key if key is not None else Secret(token_hex(32))),
            durations=settings.durations,
            ledger=ledger,
            label=f"{command} {os.getpid()}@{socket.gethostname()}",
            allowed=Allowed(settings.allows_url, settings.allows_path),
            trust=lambda url: trust(settings, url),
            max_unknown_writes=settings.max_unknown_writes,
            parallelism=parallelism,
            now=now,
        )


def _ledger(settings: Settings, command: str, *, needed: bool, begin: bool) -> Ledger | None:
    try:
        return open_ledger(settings, command)
    except LedgerMissing:
        if begin:
            ledger = open_ledger(settings, command, create=True)
            say(f"began a new ledger: {ledger_place(settings)}")
            return ledger
        if needed:
            raise
        return None
