"""
The `git` command, as repositories of others may be given to it.

A repository is foreign data: no hook, no monitor, no pager, no helper, no question and no remote is
used, and no configuration but what stands here; what names a commit is a full hash, never a word
that could be an option.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.errors import JtrError, UsageError

COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_DEADLINE: Final = 60.0  # seconds; each question takes some milliseconds
_MOST: Final = 64 * 1024 * 1024  # bytes of an answer
_COMPLAINT: Final = 16 * 1024  # bytes of what git complains that are looked at; none are shown
_BLOCK: Final = 512  # bytes; the unit of `ulimit -f`
_GIT: Final = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.pager=cat"),
    *("-c", "core.askPass=", "-c", "credential.helper="),
    *("-c", "protocol.allow=never", "-c", "gc.auto=0", "-c", "maintenance.auto=false"),
    # A container often runs as another user than the one who made the checkout.  That is refused
    # because of what a repository's configuration may start, and all of that is switched off.
    *("-c", "safe.directory=*"),
)
_ENVIRONMENT: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
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
    """Git is not there, or does not answer, or a repository cannot be had."""


class Answer(Struct, frozen=True):
    """What git said; `complaint` may quote anything, so it is looked at and never shown."""

    code: int
    out: bytes
    complaint: str

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace")


class Git:
    """
    Git in one directory, with more *config* and *environment* than it has by itself.

    Blocking, one question at a time; `stop` is for any thread.
    """

    def __init__(
        self,
        root: Path,
        config: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._root: Final = root
        self._config: Final = [word for one in config for word in ("-c", one)]
        self._environment: Final = environment or {}
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def ask(
        self,
        *words: str,
        given: bytes = b"",
        deadline: float = _DEADLINE,
        most: int = _MOST,
        file_limit: int | None = None,
    ) -> Answer:
        """
        Ask, with *given* on standard input; at most *most* bytes are answered within *deadline*.

        With *file_limit* no file that git writes grows beyond so many bytes.  Raises GitError.
        """
        path = os.environ.get("PATH", os.defpath)
        git = shutil.which("git", path=path)
        if git is None:
            raise GitError("git is not installed", "install it where jtr runs")
        command = [git, *_GIT, *self._config, "-C", str(self._root), *words]
        if file_limit is not None:
            # In the child alone, before git begins: `preexec_fn` may hang a process of threads.
            limited = 'ulimit -f "$1" && shift && exec "$@"'
            command = ["/bin/sh", "-c", limited, "sh", str(file_limit // _BLOCK), *command]
        with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as complaint:
            question.write(given)
            question.seek(0)
            try:
                process = subprocess.Popen(  # noqa: S603  - words of our own and checked ones
                    command,
                    env={"PATH": path, **_ENVIRONMENT, **self._environment},
                    stdin=question,
                    stdout=subprocess.PIPE,
                    stderr=complaint,
                    start_new_session=True,
                )
            except OSError:
                raise GitError("git cannot be started", "try: git --version") from None
            out, late = self._answer(process, deadline, most)
            complaint.seek(0)
            said = complaint.read(_COMPLAINT).decode("utf-8", "replace")
        if late:
            raise GitError("git does not answer", "try it by hand; see whether the disk is full")
        if len(out) > most:
            raise GitError(f"git answers with more than {most:,} bytes", "is this the right place?")
        return Answer(process.returncode, out, said)

    def _answer(
        self, process: subprocess.Popen[bytes], deadline: float, most: int
    ) -> tuple[bytes, bool]:
        """Return what it printed, and whether it had to be ended because it took too long."""
        late = threading.Event()

        def end() -> None:
            late.set()
            _end(process)

        timer = threading.Timer(deadline, end)
        timer.daemon = True
        self._running = process
        try:
            if self._stopped:
                end()
            timer.start()
            if process.stdout is None:
                raise AssertionError
            with process.stdout as pipe:
                out = pipe.read(most + 1)
            if len(out) > most:
                _end(process)
            process.wait()
        finally:
            timer.cancel()
            self._running = None
        return out, late.is_set()

    def stop(self) -> None:
        """End what runs, and what begins later."""
        self._stopped = True
        if (running := self._running) is not None:
            _end(running)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and all that it started: it is the first of a session of its own."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class WorkTree:
    """The checkout in which documents lie; nothing here changes it.  Raises GitError."""

    def __init__(self, root: Path) -> None:
        self._root: Final = root
        self._git: Final = Git(root)

    def head(self) -> str:
        """Return the commit that is checked out.  Raises UsageError where there is none yet."""
        answer = self._git.ask(
            "rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}"
        )
        found = answer.text.strip()
        if answer.code or not COMMIT.fullmatch(found):
            raise UsageError("nothing was committed here yet", "commit the documents first")
        return found

    def merged(self, commits: Iterable[str]) -> set[str]:
        """Return those of *commits* that HEAD is or descends from; of unknown ones it has none."""
        head = self.head()
        return {commit for commit in set(commits) if descends(self._git, head, commit)}

    def first(self) -> str:
        """Return the commit with which the history of HEAD began, which names the repository."""
        answer = self._git.ask("rev-list", "--first-parent", "--max-parents=0", "HEAD")
        return answer.text.strip()

    def below(self, path: Path) -> str:
        """Return where *path* lies in it; `.` for the whole tree."""
        return Path(os.path.relpath(path.resolve(), self._root.resolve())).as_posix()

    def older(self, commit: str) -> bool:
        """Whether HEAD is an ancestor of *commit*, and not that commit itself."""
        head = self.head()
        return head != commit and descends(self._git, commit, head)

    def about(self, commit: str) -> tuple[str, str]:
        """Return who committed a commit, and its message."""
        return about(self._git, commit)

    def shallow(self) -> bool:
        """Whether the history was cut when it was fetched, so that ancestors are missing."""
        return self._git.ask("rev-parse", "--is-shallow-repository").text.strip() == "true"


def descends(git: Git, commit: str, ancestor: str) -> bool:
    """Whether *commit* is *ancestor* or comes after it; False for what is no known commit."""
    if not (COMMIT.fullmatch(commit) and COMMIT.fullmatch(ancestor)):
        return False
    return git.ask("merge-base", "--is-ancestor", ancestor, commit).code == 0


def about(git: Git, commit: str) -> tuple[str, str]:
    """Return who committed *commit*, and its message; nothing of what is no known commit."""
    if not COMMIT.fullmatch(commit):
        return "", ""
    answer = git.ask("show", "--no-patch", "--no-notes", "--format=%cn <%ce>%x00%B", commit)
    who, _, message = answer.text.partition("\0")
    return (who, message) if answer.code == 0 else ("", "")
