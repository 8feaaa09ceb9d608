"""
Files of our own: read without being led astray, and written whole or not at all.

A FIFO makes nobody wait, and links are followed only where the operator names the file.  What is
read is at most one byte longer than the limit, so that a file which is too large is seen to be.
Everything raises OSError.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from reconciler.errors import JtrError

SECRET_LIMIT: Final = 65536
LINE_LIMIT: Final = 16 * 1024
_BLOCK: Final = 64 * 1024


class NotRegular(OSError):
    """It is a directory, a FIFO, a device."""


class WritableByOthers(OSError):
    """Its group or everybody may write it, so it need not say what its owner meant."""


class NotPrivate(OSError):
    """It belongs to another user, or others may open it, so they could have written it."""


def read_regular(
    path: Path | str, limit: int, *, follow: bool = False, folder: int | None = None
) -> bytes:
    """
    Return the content of a regular file; *path* is relative to an open *folder*, if there is one.

    Raises NotRegular, and OSError for a link unless *follow*.
    """
    return _read(path, limit, follow=follow, folder=folder)[0]


def read_operators(path: Path | str, limit: int) -> bytes:
    """
    Return the content of a regular file that the operator named, through links.

    Raises NotRegular and WritableByOthers.
    """
    content, facts = _read(path, limit, follow=True, folder=None)
    if facts.st_mode & 0o022:
        raise WritableByOthers
    return content


def read_private(
    path: Path | str, limit: int, *, folder: int | None = None, one_name: bool = False
) -> bytes:
    """
    Return the content of a regular file that only this user can open, and no link to one.

    Raises NotRegular, with *one_name* also for a hard link, and NotPrivate.
    """
    content, facts = _read(path, limit, follow=False, folder=folder)
    if one_name and facts.st_nlink != 1:
        raise NotRegular
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise NotPrivate
    return content


def read_secret_file(path: str, what: str, error: type[JtrError]) -> bytes:
    """
    Return the content of a small file that the operator named, through links.

    Kubernetes puts its secrets behind one.  Raises *error*, which calls the file *what* and never
    quotes it.
    """
    try:
        return read_operators(path, SECRET_LIMIT)
    except NotRegular:
        raise error(f"{what} is not a regular file", f"check {path}") from None
    except WritableByOthers:
        raise error(f"others may write {what}", f"chmod go-w {path}") from None
    except OSError as trouble:
        raise error(
            f"{what} cannot be read: {reason(trouble)}", f"check {path} and its rights"
        ) from None


def secret_line(path: str, what: str, error: type[JtrError]) -> str | None:
    """Return the one line of such a file; None when it holds anything but one line of ASCII."""
    content = read_secret_file(path, what, error)
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    one = len(content) <= LINE_LIMIT and line.isascii() and b"\n" not in line
    return line.decode("ascii") if one else None


def _read(
    path: Path | str, limit: int, *, follow: bool, folder: int | None
) -> tuple[bytes, os.stat_result]:
    # Non-blocking: a FIFO in its place must not hang us.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    handle = os.open(path, flags, dir_fd=folder)
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise NotRegular
        return _content(handle, facts.st_size, limit + 1), facts
    finally:
        os.close(handle)


def _content(handle: int, size: int, most: int) -> bytes:
    """
    Read to the end, which is asked for again unless it is where *size* says.

    A buffer for the *most* that may be there costs more than a small file.
    """
    content = part = os.read(handle, min(size + 1, most))
    if len(content) == size:
        return content
    parts = [content]
    while part and (most := most - len(part)):
        part = os.read(handle, min(_BLOCK, most))
        parts.append(part)
    return b"".join(parts)


def write_atomically(path: Path, data: bytes) -> None:
    """Put a private file in the place of *path*, whole or not at all; on the disk on return."""
    with draft(path, data) as made:
        made.replace(path)
    sync_directory(path.parent)


@contextmanager
def draft(
    path: Path, data: bytes, like: os.stat_result | None = None, *, folder: int | None = None
) -> Iterator[Path]:
    """
    Make a private file beside *path* that holds *data*, on the disk; it is gone afterwards.

    Yields its path, to be renamed or linked; relative to an open *folder*, if there is one.  With
    *like* it gets those rights, and that owner where we may give it.
    """
    made = Path(f".jtr-{os.urandom(8).hex()}.tmp")
    if folder is None:
        made = path.parent / made
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(made, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if like is not None:
                with suppress(PermissionError):
                    os.fchown(handle, like.st_uid, like.st_gid)
            # An umask such as 0777 takes away our own rights.
            os.fchmod(handle, 0o600 if like is None else stat.S_IMODE(like.st_mode))
            os.fsync(handle)
        yield made
    finally:
        with suppress(OSError):
            os.unlink(made, dir_fd=folder)


def set_aside(path: Path, number: int) -> Path | None:
    """
    Keep a file that a newer jtr wrote beside its place, so that this one may begin anew there.

    Returns where it is now; None where it cannot be moved.
    """
    kept = path.with_name(f"{path.name}.format-{number}")
    try:
        path.replace(kept)
    except OSError:
        return None
    return kept


def make_private_directory(directory: Path) -> None:
    """Make *directory* with its parents, 0700 under any umask; leave alone what is there."""
    if directory.is_dir():
        return
    if not directory.parent.exists():
        make_private_directory(directory.parent)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not directory.is_dir():  # somebody else made a directory meanwhile: fine
            raise
        return
    directory.chmod(0o700)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in *directory* durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: OSError) -> str:
    """Say in the system's words why a file could not be used, without its name."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
