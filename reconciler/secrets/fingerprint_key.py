"""
The key of the fingerprints: made once, and read from Vault or from a file of its own.

It never lies beside the ledger: whoever reads one must not have the other.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final, Protocol

from reconciler.errors import SecretMissing, SecretUnusable
from reconciler.model.fingerprints import checked_key
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.secret import Secret
from reconciler.secrets import SecretBackend
from reconciler.system.files import (
    NotPrivate,
    NotRegular,
    draft,
    make_private_directory,
    read_private,
    reason,
)

_KEY_BYTES: Final = 32
_FILE_LIMIT: Final = 4096


class KeyStore(SecretBackend, Protocol):
    """A secret backend that can also make a secret exactly once."""

    async def create_once(self, at: SecretPath, field: str, value: Secret) -> Secret:
        """Write a secret of one field if none is there; return what is there afterwards."""
        ...


async def key_from_vault(backend: KeyStore, ref: SecretRef, *, create: bool) -> Secret | None:
    """
    Return the key that lies in a field of a secret; None when there is none and *create* is False.

    Made with check-and-set, so that all processes that start at once use the same.  Raises the
    backend's SecretsError; only a secret that certainly never was counts as none.
    """
    if ref.field is None:
        raise SecretUnusable(
            f"the fingerprint key {ref} names no field", "write vault:MOUNT/PATH#FIELD"
        )
    try:
        info = await backend.describe(ref.at, ref.version)
    except SecretMissing:
        if not create:
            return None
        fresh = Secret(secrets.token_hex(_KEY_BYTES))
        return checked_key(await backend.create_once(ref.at, ref.field, fresh), str(ref))
    fields = await backend.read(ref.at, info.version, info.created)
    value = fields.get(ref.field)
    if value is None:
        raise SecretUnusable(f"{ref.at} has no field {ref.field}", "name the field with the key")
    return checked_key(value, str(ref))


def key_from_file(path: str, *, create: bool) -> Secret | None:
    """
    Return the key in a private file; None when there is no file and *create* is False.

    Raises SecretUnusable when somebody else could read or replace the file, or when it holds
    something else; such a file is never overwritten.
    """
    file = Path(path).expanduser()
    try:
        if create:
            make_private_directory(file.parent)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(file, error) from None
    try:
        _check_folder(file, folder)
        text = _read(file, folder)
        if text is None and create:
            _make(file, folder)
            text = _read(file, folder)
    except OSError as error:
        raise _unreadable(file, error) from None
    finally:
        os.close(folder)
    return None if text is None else checked_key(Secret(text), str(file))


def _check_folder(file: Path, folder: int) -> None:
    facts = os.fstat(folder)
    shared = facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX
    if facts.st_uid not in {os.geteuid(), 0} or shared:
        raise SecretUnusable(
            f"the directory {file.parent} of the fingerprint key can be changed by others",
            f"chown it to this user and: chmod go-w {file.parent}",
        )


def _read(file: Path, folder: int) -> str | None:
    try:
        content = read_private(file.name, _FILE_LIMIT, folder=folder)
    except FileNotFoundError:
        return None
    except NotRegular:
        raise SecretUnusable(
            f"the fingerprint key {file} is not a regular file", "move it away"
        ) from None
    except NotPrivate:
        raise SecretUnusable(
            f"the fingerprint key {file} can be read by others, or is not ours",
            f"chown it to this user and: chmod 600 {file}",
        ) from None
    return content.decode("ascii", "replace").rstrip("\r\n")


def _make(file: Path, folder: int) -> None:
    """Put a new key there, whole or not at all; leave alone what came first."""
    key = secrets.token_hex(_KEY_BYTES).encode() + b"\n"
    # A link, not a rename: it fails when another process was first.
    with draft(file, key, folder=folder) as made, contextlib.suppress(FileExistsError):
        os.link(made, file.name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _unreadable(file: Path, error: OSError) -> SecretUnusable:
    why = "it is a symlink" if file.is_symlink() else reason(error)
    return SecretUnusable(
        f"the fingerprint key {file} cannot be used: {why}",
        "put it into a directory of this user, as a file of its own",
    )
