"""
A booted systemd without a machine: namespaces of its own, this machine's programs read-only, and
everything that it writes in memory.

Its network is ours, so that services reach the OpenBao and the stand-ins of a test on loopback.
Needs root, systemd 247 or newer with D-Bus, and a cgroup tree of version 2 (also a hybrid one).
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.deploy.tools import ROOT, missing
from tests.support.processes import until

# $1 is the tree, $2 Python, $3 its packages, $4 this checkout.  What systemd needs of a container
# stands in https://systemd.io/CONTAINER_INTERFACE: a tree of shared mounts, cgroups, a /run.
_BOOT = r"""
set -e; PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$1"; cd "$1"
mkdir -p usr proc sys dev run tmp mnt root home srv var/lib var/log var/tmp
mkdir -p etc/systemd/system etc/jtr opt/jtr/bin opt/jtr/source opt/jtr/packages
for name in bin sbin lib lib64; do [ ! -L /$name ] || ln -s usr/$name $name; done
inside() { mount --bind "$1" "$2"; mount -o remount,bind,ro "$2"; }
inside /usr usr; inside "$2" usr/local; inside "$3" opt/jtr/packages; inside "$4" opt/jtr/source
cat > opt/jtr/bin/jtr <<'END'
#!/bin/sh
export PYTHONPATH=/opt/jtr/source:/opt/jtr/packages LD_LIBRARY_PATH=/usr/local/lib
exec /usr/local/bin/python3 -m reconciler "$@"
END
chmod 755 opt/jtr/bin/jtr
cp /etc/ld.so.cache etc/
users='root:x:0:0::/root:/bin/sh nobody:x:65534:65534::/:/bin/false'
printf '%s\n' $users "$(grep '^messagebus:' /etc/passwd)" > etc/passwd
printf '%s\n' root:x:0: nogroup:x:65534: "$(grep '^messagebus:' /etc/group)" > etc/group
printf 'passwd: files systemd\ngroup: files systemd\nhosts: files dns\n' > etc/nsswitch.conf
echo 127.0.0.1 localhost > etc/hosts
echo 6a74722d7465737473000000000000aa > etc/machine-id
mount -t proc proc proc; mount -t sysfs -o ro sysfs sys; mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev; mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp; mkdir dev/pts dev/shm; mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts; ln -s pts/ptmx dev/ptmx
for name in null zero full random urandom tty; do
  touch dev/$name; mount --bind /dev/$name dev/$name
done
ln -s /proc/self/fd dev/fd
printf "[Unit]\nRequires=basic.target dbus.socket\n" > etc/systemd/system/test.target
pivot_root . mnt; umount -l /mnt; mount --make-rshared /
exec env -i container=jtr PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --system \
  --unit=test.target --show-status=no --log-level=notice
"""
_TREES = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))


class Booted:
    """The machine: its process 1, its files, and what is run in it."""

    def __init__(self, init: int) -> None:
        self._init = init

    def path(self, inside: str) -> Path:
        """Where a path of that machine is seen from this one."""
        return Path(f"/proc/{self._init}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file there."""
        place = self.path(inside)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
        place.chmod(mode)

    def command(self, *words: str) -> list[str]:
        """What runs *words* there, as root."""
        return ["nsenter", f"--target={self._init}", "--all", "--", "env", "-i", *_PATH, *words]

    def run(self, *words: str, code: int | None = 0, stdin: str = "") -> str:
        """Run *words* there to their end, and expect *code*; returns what they printed."""
        done = subprocess.run(
            self.command(*words),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert code in (None, done.returncode), f"{words}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str) -> str:
        """What a unit logged so far."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")


_PATH = ("PATH=/opt/jtr/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")


@contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """Boot one on a tree in *folder*; it is gone at the end, with all that ran in it."""
    _needs()
    tree = next(one for one in _TREES if (one / "cgroup.procs").exists())
    group = tree / f"jtr-test-{os.getpid()}"
    (folder / "tree").mkdir()
    group.mkdir()
    enter = f'echo $$ > {group}/cgroup.procs; exec unshare "$@"'
    spaces = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")
    packages = sysconfig.get_paths()["purelib"]
    with (folder / "console").open("w") as console:
        process = subprocess.Popen(
            [
                *("sh", "-c", enter, "sh", *spaces, "sh", "-c", _BOOT, "sh"),
                *(str(folder / "tree"), sys.base_prefix, packages, str(ROOT)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: process.poll() is not None or _children(process.pid))
        init = next(iter(_children(process.pid)), 0)
        assert init, (folder / "console").read_text("utf-8")
        machine = Booted(init)
        until(lambda: _answers(machine) or process.poll() is not None)
        machine.run("systemctl", "is-system-running", "--wait", code=None)
        yield machine
    finally:
        for pid in _children(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # the first of its namespace: all others go with it
        process.kill()
        process.wait(60)
        until(lambda: _removed(group))


def _answers(machine: Booted) -> bool:
    return machine.path("/run/systemd/private").exists() and (
        "=" in machine.run("systemctl", "show", "--property=Version", code=None)
    )


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _removed(group: Path) -> bool:
    """Remove a cgroup with those below it, as soon as nobody is in them any more."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()


def _needs() -> None:
    lacking = [name for name in ("busctl", "systemd-run", "dbus-daemon") if not shutil.which(name)]
    if lacking or not Path("/usr/lib/systemd/systemd").exists():
        missing(f"{(lacking or ['systemd'])[0]} is not installed: run make tools")
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--cgroup", "--fork", "true"],
        capture_output=True,
        check=False,
    )
    if os.geteuid() or tried.returncode or sys.base_prefix == "/usr":
        missing("no booted systemd here: needs root, namespaces, and a Python outside /usr")
    if not any((one / "cgroup.procs").exists() and os.access(one, os.W_OK) for one in _TREES):
        missing("no booted systemd here: needs a cgroup tree of version 2")
