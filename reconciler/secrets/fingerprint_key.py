"""
Keyed fingerprints: what a ledger may remember of a value or a mask without holding any of it.

Each is an HMAC-SHA256 over a label, its context and the value, so that the same value on two
servers does not look the same and nobody can test guesses without the key.  The key lies in Vault
or in a file of its own, never beside the ledger.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn, Protocol

from reconciler.errors import SecretMissing, SecretUnusable
from reconciler.model.desired import SecretPath, SecretRef
from reconciler.model.observed import Mask
from reconciler.secrets import Secret, SecretBackend

_KEY: Final = re.compile(r"[0-9a-f]{64}")
_KEY_BYTES: Final = 32
_FILE_LIMIT: Final = 4096
_DOMAIN: Final = "jtr/v1"


class KeyStore(SecretBackend, Protocol):
    """A secret backend that can also make a secret exactly once."""

    def create_once(self, at: SecretPath, field: str, value: Secret) -> Secret:
        """Write a secret of one field if none is there; return what is there afterwards."""
        ...


class Fingerprints:
    """
    Computes fingerprints under one key; `key_id` names the key and tells nothing about it.

    With *lasting* False the key was made for one look: what it computes is not worth remembering.
    All results are lower-case hex.  Raises SecretUnusable for a key that is not 64 hex digits.
    """

    __slots__ = ("_key", "key_id", "lasting")

    def __init__(self, key: Secret, *, lasting: bool = True) -> None:
        self.lasting: Final = lasting
        self._key: Final = bytes.fromhex(_checked(key, "the fingerprint key").reveal())
        self.key_id: Final = self._hmac("key-id")[:12]

    def slot(self, server_uid: str, exchange: str, field: str, value: Secret) -> str:
        """Return the fingerprint of a value in its place; equal values elsewhere differ."""
        return self._hmac("slot", server_uid, exchange, field, _bytes(value))

    def mask(self, server_uid: str, exchange: str, field: str, mask: Mask) -> str:
        """Return the fingerprint of what a server shows in a place; empty for an empty mask."""
        return self._hmac("mask", server_uid, exchange, field, mask.encoded()) if mask else ""

    def key(self, value: Secret) -> str:
        """Return the fingerprint of a value wherever it is: finds the same key used twice."""
        return self._hmac("key", _bytes(value))

    def credentials(self, values: Mapping[str, Secret]) -> str:
        """Return one fingerprint of all credentials of a key by name, wherever they are used."""
        parts = (part for name in sorted(values) for part in (name, _bytes(values[name])))
        return self._hmac("credentials", *parts)

    def joined(self, server_uid: str, exchange: str, values: Mapping[str, Secret]) -> str:
        """Return one fingerprint of several named values; their order does not matter."""
        parts = (part for name in sorted(values) for part in (name, _bytes(values[name])))
        return self._hmac("companions", server_uid, exchange, *parts)

    def _hmac(self, label: str, *parts: str | bytes) -> str:
        mac = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in (_DOMAIN, label, *parts):
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            # The length first: ("ab", "c") and ("a", "bc") must not look the same.
            mac.update(len(data).to_bytes(8, "big") + data)
        return mac.hexdigest()

    def __repr__(self) -> str:
        return f"Fingerprints({self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a fingerprint key is never written down")


def key_from_vault(backend: KeyStore, ref: SecretRef, *, create: bool) -> Secret | None:
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
        info = backend.describe(ref.at, ref.version)
    except SecretMissing:
        if not create:
            return None
        fresh = Secret(secrets.token_hex(_KEY_BYTES))
        return _checked(backend.create_once(ref.at, ref.field, fresh), str(ref))
    value = backend.read(ref.at, info.version, info.created).get(ref.field)
    if value is None:
        raise SecretUnusable(f"{ref.at} has no field {ref.field}", "name the field with the key")
    return _checked(value, str(ref))


def key_from_file(path: str, *, create: bool) -> Secret | None:
    """
    Return the key in a private file; None when there is no file and *create* is False.

    Raises SecretUnusable when somebody else could read or replace the file, or when it holds
    something else; such a file is never overwritten.
    """
    file = Path(path).expanduser()
    try:
        if create:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    return None if text is None else _checked(Secret(text), str(file))


def _check_folder(file: Path, folder: int) -> None:
    facts = os.fstat(folder)
    shared = facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX
    if facts.st_uid not in {os.geteuid(), 0} or shared:
        raise SecretUnusable(
            f"the directory {file.parent} of the fingerprint key can be changed by others",
            f"chown it to this user and: chmod go-w {file.parent}",
        )


def _read(file: Path, folder: int) -> str | None:
    # Non-blocking: a FIFO in its place must not hang us.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(file.name, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        os.close(handle)
        raise SecretUnusable(f"the fingerprint key {file} is not a regular file", "move it away")
    with os.fdopen(handle, "rb") as opened:
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            raise SecretUnusable(
                f"the fingerprint key {file} can be read by others, or is not ours",
                f"chown it to this user and: chmod 600 {file}",
            )
        return opened.read(_FILE_LIMIT).decode("ascii", "replace").rstrip("\r\n")


def _make(file: Path, folder: int) -> None:
    """Put a new key there, whole or not at all; leave alone what came first."""
    draft = f".{file.name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(draft, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as opened:
            os.fchmod(opened.fileno(), 0o600)  # an umask such as 0777 takes away our own rights
            opened.write(secrets.token_hex(_KEY_BYTES).encode() + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        # A link, not a rename: it fails when another process was first.
        with contextlib.suppress(FileExistsError):
            os.link(draft, file.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.unlink(draft, dir_fd=folder)
    os.fsync(folder)


def _unreadable(file: Path, error: OSError) -> SecretUnusable:
    if Path(file).is_symlink():
        why = "it is a symlink"
    else:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
    return SecretUnusable(
        f"the fingerprint key {file} cannot be used: {why}",
        "put it into a directory of this user, as a file of its own",
    )


def _checked(key: Secret, what: str) -> Secret:
    if not _KEY.fullmatch(key.reveal()):
        raise SecretUnusable(
            f"{what} does not hold a fingerprint key",
            "it must be 64 hex digits: restore it from a backup; if there is none, move it away, "
            "and `jtr ledger init` makes a new one",
        )
    return key


def _bytes(value: Secret) -> bytes:
    return value.reveal().encode("utf-8", "surrogatepass")
