"""
What a Git work tree says of commits, asked of the `git` command.

A repository is foreign data: no hook, no monitor, no pager, no remote and no configuration but its
own is used, and what names a commit is a full hash, never a word that could be an option.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from reconciler.errors import JtrError, UsageError

COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_DEADLINE: Final = 60.0  # seconds; each question takes some milliseconds
_GIT: Final = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.pager=cat"),
    *("-c", "protocol.allow=never", "-c", "gc.auto=0", "-c", "maintenance.auto=false"),
    # A container often runs as another user than the one who made the checkout.  That is refused
    # because of what a repository's configuration may start, and all of that is switched off.
    *("-c", "safe.directory=*"),
)
_ENVIRONMENT: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": os.devnull,
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}


class GitError(JtrError):
    """Git is not there, or does not answer."""


class WorkTree:
    """The checkout in which documents lie; nothing here changes it.  Raises GitError."""

    def __init__(self, root: Path) -> None:
        self._root: Final = root

    def head(self) -> str:
        """Return the commit that is checked out.  Raises UsageError where there is none yet."""
        code, out = self._ask(
            "rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}"
        )
        found = out.strip()
        if code or not COMMIT.fullmatch(found):
            raise UsageError("nothing was committed here yet", "commit the documents first")
        return found

    def merged(self, commits: Iterable[str]) -> set[str]:
        """Return those of *commits* that HEAD is or descends from; of unknown ones it has none."""
        head = self.head()
        return {commit for commit in set(commits) if self._descends(head, commit)}

    def shallow(self) -> bool:
        """Whether the history was cut when it was fetched, so that ancestors are missing."""
        return self._ask("rev-parse", "--is-shallow-repository")[1].strip() == "true"

    def _descends(self, head: str, commit: str) -> bool:
        if not COMMIT.fullmatch(commit):
            return False
        return self._ask("merge-base", "--is-ancestor", commit, head)[0] == 0

    def _ask(self, *words: str) -> tuple[int, str]:
        try:
            done = subprocess.run(  # noqa: S603  - words of our own and checked hashes
                ["git", *_GIT, "-C", str(self._root), *words],  # noqa: S607  - the one on PATH
                env={"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_DEADLINE,
                check=False,
            )
        except FileNotFoundError:
            raise GitError("git is not installed", "install it where jtr runs") from None
        except (OSError, subprocess.TimeoutExpired):
            raise GitError("git does not answer", "try: git status, in the checkout") from None
        return done.returncode, done.stdout.decode("ascii", "replace")
