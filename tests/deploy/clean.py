"""
A clean machine without a container engine: a directory tree in which a process finds a system, a
Python, and nothing of this checkout.

Mount namespaces and chroot, so the paths are those of the image.  What is mounted vanishes with the
process.  Needs root, or user namespaces.
"""

import ensurepip
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.tools import missing

# In the new mount namespace: $1 is the tree, $2 Python, $3 where its packages are, $4 "ro" or "rw";
# then SOURCE TARGET MODE triples up to "--", then the command.  Python is in its old place as well:
# its shared library may be looked for there.
_ENTER = r"""
set -e; PATH=/usr/sbin:/usr/bin:/sbin:/bin
tree=$1 python=$2 packages=$3 mode=$4; shift 4
mount --bind "$tree" "$tree"
inside() { mount --bind "$1" "$tree$2"; [ "$3" = rw ] || mount -o remount,bind,ro "$tree$2"; }
inside /usr /usr ro
inside "$python" /usr/local ro
inside "$tree/packages" "/usr/local/$packages" ro
inside "$python" "$python" ro
mount -t proc proc "$tree/proc"
inside /dev /dev rw
mount -t tmpfs tmpfs "$tree/tmp"
while [ "$1" != -- ]; do inside "$1" "$2" "$3"; shift 3; done
shift
[ "$mode" = rw ] || mount -o remount,bind,ro "$tree"
exec chroot "$tree" "$@"
"""


_PACKAGES = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of this machine that is seen in the clean one."""

    source: Path
    target: str
    writable: bool = False


@dataclass(slots=True)
class CleanRoot:
    """A tree below *folder*; it lasts, what is mounted in it does not."""

    folder: Path
    mounts: list[Mount] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("usr", "proc", "dev", "tmp", "etc", "var/lib"):
            (self.folder / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            if (Path("/") / name).is_symlink():
                (self.folder / name).symlink_to(f"usr/{name}")
        (self.folder / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n", "utf-8")
        (self.folder / "etc" / "group").write_text("root:x:0:\n", "utf-8")
        shutil.copy("/etc/ld.so.cache", self.folder / "etc" / "ld.so.cache")
        self.path(sys.base_prefix).mkdir(parents=True)
        # What an image of Python has besides the standard library: pip and setuptools.
        for wheel in (Path(ensurepip.__file__).parent / "_bundled").glob("*.whl"):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(self.folder / "packages")

    def path(self, inside: str) -> Path:
        """Where a path of the clean machine is on this one."""
        return self.folder / inside.lstrip("/")

    def arguments(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        cwd: str = "/",
        user: int | None = None,
        first: bool = False,
    ) -> list[str]:
        """
        What to start for *command*.

        With *user* it is nobody special on a read-only system; with *first* it is process 1.
        """
        mounts: list[str] = []
        for mount in self.mounts:
            place = self.path(mount.target)
            if mount.source.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            elif not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            mounts += [str(mount.source), mount.target, "rw" if mount.writable else "ro"]
        powerless = (
            ()
            if user is None
            else (
                *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
                *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
            )
        )
        return [
            *("unshare", "--mount", "--fork", "--pid", "--kill-child"),
            *(() if os.geteuid() == 0 else ("--map-root-user",)),
            *("sh", "-c", _ENTER, "sh", str(self.folder), sys.base_prefix, _PACKAGES),
            *("rw" if user is None else "ro", *mounts, "--"),
            *powerless,
            *("env", "-i", f"--chdir={cwd}"),
            *(f"{name}={value}" for name, value in environment.items()),
            *(command if first else ("sh", "-c", '"$@"; exit $?', "sh", *command)),
        ]

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        cwd: str = "/",
        user: int | None = None,
    ) -> str:
        """Run *command* to its end; returns what it printed."""
        done = subprocess.run(
            self.arguments(command, environment, cwd=cwd, user=user),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout


def needs_namespaces() -> None:
    """Skip, or fail in CI, where a process may not make a clean machine for itself."""
    own = () if os.geteuid() == 0 else ("--map-root-user",)
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", *own, "mount", "-t", "proc", "proc", "/proc"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    if tried.returncode or not Path("/bin").is_symlink() or sys.base_prefix == "/usr":
        missing("no clean machine here: needs namespaces, a merged /usr and a Python outside /usr")
