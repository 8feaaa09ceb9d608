"""
Whether a file may hold the ledger: its kind, owner, rights, directory and file system.

Symlinks, second names and directories that others can write to would let somebody else put another
ledger in our place.  SQLite's write-ahead log needs one kernel, so file systems that several
machines share are refused (Sonarr#1886 and others: WAL on NFS corrupts).
"""

import os
import re
import stat
from pathlib import Path
from typing import Final

from reconciler.errors import LedgerError
from reconciler.system.files import make_private_directory, reason

_MOUNTS: Final = Path("/proc/self/mountinfo")
_SHARED: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"),
        *("gpfs", "beegfs", "ocfs2", "gfs2", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "drvfs"),
        *("fuse", "fuseblk"),  # whatever a FUSE program serves, locks and mmap are its own affair
    }
)


def prepare_directory(directory: Path) -> Path:
    """Make *directory* with its parents, 0700 under any umask; return it without symlinks."""
    try:
        make_private_directory(directory)
        real = directory.resolve(strict=True)
    except OSError as error:
        raise LedgerError(
            f"the directory {directory} cannot be made or entered ({reason(error)})",
            "make it by hand, owned by this user, with mode 0700",
        ) from None
    check_directory(real)
    return real


def check_directory(real: Path) -> None:
    """Raise LedgerError unless only we (and root) can exchange files in *real*."""
    try:
        facts = real.stat()
    except OSError as error:
        raise LedgerError(
            f"the ledger's directory {real} cannot be entered ({reason(error)})",
            "check its rights and those above it",
        ) from None
    if facts.st_uid not in (0, os.geteuid()):
        raise LedgerError(
            f"the ledger's directory {real} belongs to another user",
            "run as that user (on the host of a controller: jtr as-service COMMAND), or give the "
            "ledger a directory of its own",
        )
    if facts.st_mode & 0o022:
        raise LedgerError(
            f"others can write to the ledger's directory {real}",
            f"give the ledger a directory of its own, such as {real}/ledger, or: chmod go-w {real}",
        )
    for above in real.parents:
        mode = above.stat().st_mode
        if mode & 0o002 and not mode & stat.S_ISVTX:
            raise LedgerError(
                f"everybody can write to {above}, which holds the ledger's directory",
                f"choose another place, or: chmod o-w {above}",
            )
    kind = file_system(real)
    if kind in _SHARED or kind.startswith("fuse."):
        raise LedgerError(
            f"{real} lies on {kind}, where SQLite cannot keep a ledger safe",
            "use a disk of this machine, or a ledger that several machines can share",
        )


def check_file(path: Path) -> bool:
    """Raise LedgerError unless *path* is a private file of ours; False when there is none."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be looked at ({reason(error)})", "check its rights and those above it"
        ) from None
    if stat.S_ISLNK(facts.st_mode):
        raise LedgerError(f"{path} is a symbolic link", "name the file itself, or remove the link")
    if not stat.S_ISREG(facts.st_mode):
        raise LedgerError(f"{path} is not a file", "choose another place for the ledger")
    if facts.st_uid != os.geteuid():
        raise LedgerError(
            f"{path} belongs to another user",
            "run as that user (on the host of a controller: jtr as-service COMMAND), or use "
            "another ledger",
        )
    if facts.st_nlink != 1:
        raise LedgerError(f"{path} has a second name (hard link)", "remove the other name")
    if facts.st_mode & 0o077:
        raise LedgerError(f"others can open {path}", f"chmod 600 {path}")
    return True


def file_system(real: Path, mounts: Path = _MOUNTS) -> str:
    """
    Return the type of the file system that holds *real*; empty where the system does not say.

    Of several mounts on one place the last one counts, because it covers the others.
    """
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, types = left.split(" "), right.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4]))
        depth = len(point.parts)
        if real.is_relative_to(point) and depth >= best:
            best, kind = depth, types[0]
    return kind
