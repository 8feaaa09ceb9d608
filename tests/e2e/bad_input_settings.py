"""Bad settings, a bad ledger, a bad fingerprint key, and limits that the operator has set."""

import sqlite3
from contextlib import closing
from pathlib import Path

from reconciler.bootstrap import load_settings, open_ledger
from reconciler.errors import Exit
from tests.e2e.bad_input_row import APPLY, Row, Scope, visiting
from tests.e2e.bad_input_setup import Setup, ledger_file

_SETTINGS = "{home}/settings/settings.yaml"


def _everything(name: str, spoil: object, code: Exit, what: str, remedy: str) -> Row:
    """Return a row for what stops plan and apply before they contact anybody."""
    assert callable(spoil)
    return Row(name, spoil, visiting(code), what, remedy, Scope.ALL)


def _set(name: str, code: Exit, what: str, remedy: str, **changes: object) -> Row:
    """Return a row for other settings."""
    return _everything(name, lambda s: s.use(**changes), code, what, remedy)


def _environment(name: str, code: Exit, what: str, remedy: str, **values: str) -> Row:
    """Return a row for other environment variables."""
    return _everything(name, lambda s: s.environment.update(values), code, what, remedy)


def _applying(name: str, spoil: object, code: Exit, what: str, remedy: str) -> Row:
    """Return a row for what stops apply alone."""
    assert callable(spoil)
    return Row(name, spoil, {APPLY: code}, what, remedy, Scope.ALL)


def _in_the_repository(setup: Setup) -> None:
    (setup.home / ".git").mkdir()
    setup.later((setup.home / ".git").rmdir)


def _broken_settings(text: str) -> object:
    return lambda s: s.rig.settings_file.write_text(text, "ascii")


def _pasted_token(setup: Setup) -> None:
    token = setup.rig.watch.secret("base62")
    setup.use(vault={"auth": {"method": "token", "token": token}})


def _token_with_a_break(setup: Setup) -> None:
    setup.environment["VAULT_TOKEN"] = setup.rig.watch.secret("base62") + "\n"


def _two_tokens(setup: Setup) -> None:
    setup.environment["BAO_TOKEN"] = setup.rig.watch.secret("base62")


def _empty_token_file(setup: Setup) -> None:
    (setup.home / "token").write_bytes(b"\n")
    setup.environment |= {"VAULT_TOKEN": "", "VAULT_TOKEN_FILE": str(setup.home / "token")}


# ── the ledger and its key ───────────────────────────────────────────────────────────────────


def _aside(setup: Setup, file: Path) -> None:
    """Move a file away until everything is in order again."""
    kept = setup.home / f"{file.name}.kept"
    file.rename(kept)
    setup.later(kept.replace, file)


def _no_ledger(setup: Setup) -> None:
    _aside(setup, ledger_file(setup))


def _no_database(setup: Setup) -> None:
    _aside(setup, ledger_file(setup))
    ledger_file(setup).write_bytes(b"these are my notes\n" * 100)
    ledger_file(setup).chmod(0o600)


def _empty_ledger(setup: Setup) -> None:
    _aside(setup, ledger_file(setup))
    ledger_file(setup).touch(0o600)


def _other_database(setup: Setup) -> None:
    _aside(setup, ledger_file(setup))
    with closing(sqlite3.connect(ledger_file(setup))) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    ledger_file(setup).chmod(0o600)


def _newer_ledger(setup: Setup) -> None:
    with closing(sqlite3.connect(ledger_file(setup), isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 9")

    def back() -> None:
        with closing(sqlite3.connect(ledger_file(setup), isolation_level=None)) as connection:
            connection.execute("PRAGMA user_version = 1")

    setup.later(back)


def _open_ledger_file(setup: Setup) -> None:
    ledger_file(setup).chmod(0o644)
    setup.later(ledger_file(setup).chmod, 0o600)


def _linked_ledger(setup: Setup) -> None:
    file = ledger_file(setup)
    _aside(setup, file)
    file.symlink_to(setup.home / f"{file.name}.kept")


def _ledger_is_a_directory(setup: Setup) -> None:
    file = ledger_file(setup)
    _aside(setup, file)
    file.mkdir()
    setup.later(file.rmdir)


def _locked_ledger(setup: Setup) -> None:
    setup.use(durations={"ledgerBusy": "50ms"})
    connection = sqlite3.connect(ledger_file(setup), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    setup.later(connection.close)


def _lease(setup: Setup) -> None:
    settings = load_settings(None, setup.rig.environment, ())
    ledger = open_ledger(settings, "another apply")
    setup.later(ledger.close)
    uid = next(one.uid for one in ledger.servers() if one.name == "tokyo-1")
    lease = ledger.lease(uid)
    lease.__enter__()
    setup.later(lease.__exit__, None, None, None)


def _key_file(setup: Setup) -> Path:
    return setup.home / "config" / "jtr" / "fingerprint.key"


def _no_key(setup: Setup) -> None:
    _aside(setup, _key_file(setup))


def _wrong_key(setup: Setup) -> None:
    _aside(setup, _key_file(setup))
    _key_file(setup).write_text("correct horse battery staple\n", "ascii")
    _key_file(setup).chmod(0o600)


def _open_key(setup: Setup) -> None:
    _key_file(setup).chmod(0o644)
    setup.later(_key_file(setup).chmod, 0o600)


SETTINGS = (
    _everything(
        "settings inside the repository",
        _in_the_repository,
        Exit.USAGE,
        f"the settings {_SETTINGS} lie with the desired state",
        "keep them elsewhere … a pull request could send the Vault token anywhere",
    ),
    _environment(
        "settings file missing",
        Exit.USAGE,
        "there is no settings file /nowhere/settings.yaml",
        "check the path",
        JTR_SETTINGS="/nowhere/settings.yaml",
    ),
    _environment(
        "settings file is a directory",
        Exit.USAGE,
        "/proc is no regular file",
        "name a file",
        JTR_SETTINGS="/proc",
    ),
    _everything(
        "settings file invalid",
        _broken_settings("vualt: {address: https://vault.example}\n"),
        Exit.INVALID,
        f"{_SETTINGS}:1:1: vualt is not known",
        "did you mean vault?",
    ),
    _everything(
        "settings file is a list",
        _broken_settings("- vault\n"),
        Exit.INVALID,
        f"{_SETTINGS}:1:1: settings are one mapping",
        "write for example vault:",
    ),
    _set(
        "duration out of range",
        Exit.INVALID,
        f"{_SETTINGS}: … this duration is out of range",
        "at most 1h",
        durations={"request": "9h"},
    ),
    _everything(
        "pasted token in the settings",
        _pasted_token,
        Exit.INVALID,
        f"{_SETTINGS}: … a secret never stands in the settings",
        "use the environment (VAULT_TOKEN), tokenFile or secretIdFile",
    ),
    _environment(
        "no Vault address",
        Exit.USAGE,
        "no Vault is named",
        "set VAULT_ADDR, or vault.address in the settings",
        VAULT_ADDR="",
    ),
    _environment(
        "http:// Vault on another host",
        Exit.USAGE,
        "VAULT_ADDR: http:// would carry the Vault token in clear",
        "use https://",
        VAULT_ADDR="http://vault.example:8200",
    ),
    _environment(
        "Vault address that is none",
        Exit.USAGE,
        "VAULT_ADDR: this is not a URL",
        "write https://HOST:PORT",
        VAULT_ADDR="vault.example",
    ),
    _environment(
        "no token",
        Exit.USAGE,
        "there is no Vault token",
        "set VAULT_TOKEN, or vault.auth in the settings",
        VAULT_TOKEN="",
    ),
    _everything(
        "token with a line break",
        _token_with_a_break,
        Exit.USAGE,
        "VAULT_TOKEN holds something that no token holds",
        "look for a line break",
    ),
    _everything(
        "two tokens that disagree",
        _two_tokens,
        Exit.USAGE,
        "BAO_TOKEN and VAULT_TOKEN disagree",
        "unset one of them",
    ),
    _environment(
        "token file missing",
        Exit.SECRETS,
        "the token file /nowhere/token cannot be read: No such file or directory",
        "check /nowhere/token",
        VAULT_TOKEN="",
        VAULT_TOKEN_FILE="/nowhere/token",
    ),
    _everything(
        "token file empty",
        _empty_token_file,
        Exit.SECRETS,
        "the token file {home}/token is empty",
        "write only the token there",
    ),
    _everything(
        "login by a service account outside of a cluster",
        lambda s: (
            s.environment.update(VAULT_TOKEN=""),
            s.use(
                vault={
                    "auth": {"method": "kubernetes", "role": "jtr", "tokenFile": "/nowhere/token"}
                }
            ),
        ),
        Exit.SECRETS,
        "the file /nowhere/token with the JWT cannot be read: No such file or directory",
        "check /nowhere/token and its rights",
    ),
    _set(
        "ledger in Vault without a key there",
        Exit.USAGE,
        "the ledger is in Vault, but the fingerprint key is not: no other host would recognise "
        "what this one wrote",
        "write fingerprintKey: vault:MOUNT/PATH#FIELD",
        ledger="vault:secret/jt/ledger",
    ),
    _set(
        "fingerprint key below the ledger",
        Exit.USAGE,
        "the fingerprint key lies below the ledger: whoever reads one would have the other",
        "name another path in fingerprintKey",
        ledger="vault:secret/jt/ledger",
        fingerprintKey="vault:secret/jt/ledger/key#key",
    ),
)

LEDGERS = (
    _applying(
        "missing ledger",
        _no_ledger,
        Exit.BLOCKED,
        "there is no ledger at {home}/state/jtr/ledger.db",
        "jtr ledger init",
    ),
    _everything(
        "ledger is not a database",
        _no_database,
        Exit.ERROR,
        "{home}/state/jtr/ledger.db is damaged or no ledger at all; nothing in it was changed",
        "restore it from a backup",
    ),
    _everything(
        "ledger is empty",
        _empty_ledger,
        Exit.ERROR,
        "the ledger {home}/state/jtr/ledger.db is empty or cut off",
        "restore it from a backup … jtr ledger init",
    ),
    _everything(
        "ledger is somebody else's database",
        _other_database,
        Exit.ERROR,
        "{home}/state/jtr/ledger.db is a SQLite file, but not a ledger of jtr",
        "name another file",
    ),
    _everything(
        "ledger of a newer release",
        _newer_ledger,
        Exit.ERROR,
        "the ledger {home}/state/jtr/ledger.db has version 9, this jtr knows 1",
        "use the newest jtr",
    ),
    _everything(
        "ledger that others can open",
        _open_ledger_file,
        Exit.ERROR,
        "others can open {home}/state/jtr/ledger.db",
        "chmod 600",
    ),
    _everything(
        "ledger is a link",
        _linked_ledger,
        Exit.ERROR,
        "{home}/state/jtr/ledger.db is a symbolic link",
        "name the file itself",
    ),
    _everything(
        "ledger is a directory",
        _ledger_is_a_directory,
        Exit.ERROR,
        "{home}/state/jtr/ledger.db is not a file",
        "choose another place for the ledger",
    ),
    Row(
        "ledger path unwritable",
        lambda s: s.use(ledger="sqlite:/proc/jtr/ledger.db"),
        {"ledger init": Exit.ERROR},
        "the directory /proc/jtr cannot be made",
        "make it by hand",
        Scope.ALL,
    ),
    Row(
        "ledger locked by another program",
        _locked_ledger,
        {APPLY: Exit.ERROR},
        "the ledger {home}/state/jtr/ledger.db is locked by another process",
        "wait until that one has finished",
        Scope.NOTHING,
    ),
    Row(
        "another apply at the same server",
        _lease,
        {APPLY: Exit.BLOCKED},
        "another apply",
        "wait",
    ),
    _applying(
        "fingerprint key missing",
        _no_key,
        Exit.BLOCKED,
        "there is no fingerprint key at {home}/config/jtr/fingerprint.key",
        "restore it if there was one … `jtr ledger init` makes one",
    ),
    _everything(
        "fingerprint key that is none",
        _wrong_key,
        Exit.SECRETS,
        "{home}/config/jtr/fingerprint.key does not hold a fingerprint key",
        "restore it from a backup; if there is none, move it away, and `jtr ledger init`",
    ),
    _everything(
        "fingerprint key that others can read",
        _open_key,
        Exit.SECRETS,
        "the fingerprint key {home}/config/jtr/fingerprint.key can be read by others",
        "chmod 600",
    ),
)

LIMITS = (
    Row(
        "address that the operator does not allow",
        lambda s: s.use(allow={"urls": [s.good.url]}),
        visiting(Exit.BLOCKED),
        "{bad} is not among the addresses that the settings allow",
        "the operator adds it to allow.urls",
        connections=0,
    ),
    Row(
        "secret that the operator does not allow",
        lambda s: s.use(allow={"paths": [f"secret/jt/{s.rig.team}/osaka-1**"]}),
        visiting(Exit.BLOCKED),
        "{path}/tokyo-1 is not among the secrets that the settings allow",
        "the operator adds it to allow.paths",
        connections=0,
    ),
)
