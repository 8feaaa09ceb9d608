"""
One commit on a new branch of the repository that is mirrored.  Blocking.

Nothing that is there is ever moved: the branch is made only where there is none of that name, and
the one that is followed is refused whatever it is called.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from reconciler.system.git import COMMIT, Answer, Git, GitError
from reconciler.system.git_mirror import FETCH_DEADLINE, Mirror

AUTHOR: Final = ("jt-reconciler", "jt-reconciler@localhost")
_ROW: Final = re.compile(rb"([0-7]{6}) blob [0-9a-f]{40,64}\t.*", re.DOTALL)
_THERE: Final = ("stale info", "already exists", "reference already")


class Pusher(Mirror):
    """The mirror, for who may push as well.  Raises GitError."""

    def commit(self, parent: str, place: str, data: bytes, message: str, at: datetime) -> str:
        """
        Return a commit on top of *parent* in which the file at *place* holds *data*.

        The same at the same time on the same commit is the same commit.
        """
        if not self.has(parent):
            raise GitError(f"commit {parent[:12]} is not in the mirror", "wait for the next look")
        row = self._git.ask("ls-tree", "-z", "--full-tree", parent, "--", place).out.rstrip(b"\0")
        found = _ROW.fullmatch(row)
        if found is None:
            raise GitError("the document is no file of that commit", "prepare it anew")
        blob = self._said(self._git.ask("hash-object", "-w", "--stdin", given=data))
        entry = b"%s %s\t%s\0" % (found[1], blob.encode(), os.fsencode(place))
        with self._index() as git:
            self._done(git.ask("read-tree", parent))
            self._done(git.ask("update-index", "-z", "--index-info", given=entry))
            tree = self._said(git.ask("write-tree"))
        name, address = AUTHOR
        moment = f"{int(at.timestamp())} +0000"
        who = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", name), ("EMAIL", address), ("DATE", moment))
        }
        git = self._with(who)
        return self._said(git.ask("commit-tree", tree, "-p", parent, given=message.encode()))

    def push(self, commit: str, branch: str) -> bool:
        """Make *branch* at *commit*; False where there is one of that name, which stays."""
        remote = self._remote
        if branch == remote.branch or not COMMIT.fullmatch(commit):
            raise GitError("nothing is ever pushed to the branch that is followed", "")
        answer = self._git.ask(
            *("push", "--quiet", "--porcelain", "--no-verify", "--no-follow-tags"),
            *("--recurse-submodules=no", f"--force-with-lease=refs/heads/{branch}:"),
            *("--end-of-options", remote.url, f"{commit}:refs/heads/{branch}"),
            deadline=FETCH_DEADLINE,
        )
        if answer.code == 0:
            return True
        said = answer.complaint + answer.text
        if any(sign in said for sign in _THERE):
            return False
        raise _why_not(answer, said)

    def _with(self, environment: dict[str, str]) -> Git:
        return Git(self._folder, self._remote.config(), environment)

    @contextmanager
    def _index(self) -> Iterator[Git]:
        """Yield git with an index that nobody else uses: a bare mirror has none."""
        with tempfile.TemporaryDirectory(dir=self._folder.parent, prefix="index-") as folder:
            yield self._with({"GIT_INDEX_FILE": str(Path(folder) / "index")})

    def _done(self, answer: Answer) -> None:
        if answer.code:
            raise GitError("no commit can be made in the mirror", "see the disk")

    def _said(self, answer: Answer) -> str:
        self._done(answer)
        found = answer.text.strip()
        if not COMMIT.fullmatch(found):
            raise GitError("git answers in another form than this version knows", "")
        return found


_LOGIN: Final = ("it does not accept our login", "check git.propose, whose token or key may push")
_REASONS: Final[tuple[tuple[str, tuple[str, str]], ...]] = (
    ("Authentication failed", _LOGIN),
    ("HTTP Basic: Access denied", _LOGIN),
    ("could not read Username", _LOGIN),
    ("Permission denied", _LOGIN),
    ("error: 401", _LOGIN),
    ("error: 403", _LOGIN),
    ("error: 404", _LOGIN),
    (
        "rejected]",
        ("its rules refuse this branch", "let that account make branches that begin so"),
    ),
    ("Could not resolve host", ("its name is not known", "check git.url and the name service")),
    ("Connection refused", ("nothing listens there", "check git.url")),
    ("Failed to connect", ("nothing listens there", "check git.url")),
    ("certificate", ("its certificate is not accepted", "check git.caFile")),
    ("Host key verification failed", ("its key is not known", "check git.knownHostsFile")),
)


def _why_not(answer: Answer, said: str) -> GitError:
    """Return what it means; the words of git and its helpers may hold an address."""
    for sign, (what, remedy) in _REASONS:
        if sign in said:
            return GitError(f"the repository takes no branch: {what}", remedy)
    return GitError(f"the repository takes no branch: git push fails ({answer.code})", "try again")
