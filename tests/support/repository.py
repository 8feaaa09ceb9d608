"""A bare Git repository on this machine, and a checkout of it in which people make branches."""

import os
import subprocess
from pathlib import Path


class Repository:
    """The remote is `hub`, the checkout `work`; every commit has a date of its own."""

    def __init__(self, home: Path) -> None:
        self.hub = home / "hub.git"
        self.work = home / "work"
        self.signing: tuple[str, ...] = ()  # configuration with which commits are signed
        self._ticks = 0
        home.mkdir(exist_ok=True)
        self._git(home, "init", "--quiet", "--bare", "--initial-branch=main", str(self.hub))
        self._git(home, "clone", "--quiet", str(self.hub), str(self.work))

    def git(self, *words: str) -> str:
        """Run git in the checkout; returns what it printed."""
        return self._git(self.work, *words)

    def commit(self, message: str) -> str:
        """Commit everything and push the branch; returns the commit."""
        self.git("add", "--all")
        signed = [word for one in self.signing for word in ("-c", one)]
        how = "-S" if self.signing else "--no-gpg-sign"
        self.git(*signed, "commit", "--quiet", "--allow-empty", how, "-m", message)
        self.git("push", "--quiet", "--force", "--set-upstream", "origin", "HEAD")
        return self.head()

    def branch(self, name: str) -> None:
        """Begin a branch at the newest main."""
        self.git("checkout", "--quiet", "-B", name, "main")

    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def merge(self, name: str) -> str:
        """Merge a branch into main with a commit of its own, as forges do."""
        self.git("checkout", "--quiet", "main")
        self.git("merge", "--quiet", "--no-ff", "-m", f"Merge {name}", name)
        self.git("push", "--quiet", "origin", "main")
        return self.head()

    def squash(self, name: str) -> str:
        """Merge a branch as one new commit: its own is nobody's ancestor."""
        self.git("checkout", "--quiet", "main")
        self.git("merge", "--quiet", "--squash", name)
        return self.commit(f"Squash {name}")

    def revert(self) -> str:
        """Undo the newest merge, as a new commit on main."""
        self.git("revert", "--no-edit", "-m", "1", "HEAD")
        self.git("push", "--quiet", "origin", "main")
        return self.head()

    def _git(self, where: Path, *words: str) -> str:
        self._ticks += 1
        date = f"{1_790_000_000 + self._ticks} +0000"
        done = subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", "-C", str(where), *words],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": "/nonexistent",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                **{
                    f"GIT_{who}_{what}": value
                    for who in ("AUTHOR", "COMMITTER")
                    for what, value in (("NAME", "Ann"), ("EMAIL", "ann@a.test"), ("DATE", date))
                },
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"git {words}: {done.stderr}"
        return done.stdout
