"""
What the documents say now, and the last good desired state.

`take` reads everything that the loader would read, and names it; `Source` keeps in force what was
last read without a mistake.  Nothing here waits for files to change:
`controller.file_watcher` does.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.controller.status import Refusal
from reconciler.documents.files import read_bytes
from reconciler.documents.load import Loader
from reconciler.documents.walk import Entry, Kind, below
from reconciler.errors import InvalidConfig, JtrError, UsageError
from reconciler.model.desired import DesiredState
from reconciler.model.origin import NO_ORIGIN, Origin
from reconciler.model.proposals import say_the_same
from reconciler.model.values import replace
from reconciler.system.descriptors import make_room_for

TRIES: Final = 3
LINES_LIMIT: Final = 5


class Reading(Struct, frozen=True):
    """
    The desired state in force, and why the newest documents are not.

    `state` is None as long as no good documents were ever read.  `revision` names exactly the
    content that `state` came from: its content hash, or its commit; `meaning` names the first
    content in a row that said the same.  `attempted` names the newest content that was there to be
    read.  `trouble` is empty when that is in force; else it says what is wrong with it, at most 5
    lines and then `... and N more`, and `refusal` what kind of trouble that is.  `origin` is who
    asks for it.  Of two with different `look`s the higher one is newer.
    """

    state: DesiredState | None = None
    revision: str = ""
    meaning: str = ""
    trouble: str = ""
    refusal: Refusal = Refusal.INVALID
    attempted: str = ""
    origin: Origin = NO_ORIGIN
    look: int = 0

    def followed(self, state: DesiredState, revision: str, origin: Origin = NO_ORIGIN) -> "Reading":
        """Return what is in force once *revision* is, which means *state*."""
        same = self.state is not None and say_the_same(self.state, state)
        meaning = self.meaning if same else revision
        return Reading(state, revision, meaning, attempted=revision, origin=origin)


# ── content ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Content:
    """
    What all files held at one moment that the loader would read.

    `revision` is the SHA-256 of their names and contents, in hex; `files` go by real path; `whole`
    is False where the loader will fail.
    """

    revision: str
    files: Mapping[str, bytes] = field(repr=False)
    whole: bool


def take(paths: Sequence[str]) -> Content:
    """
    Read all files that the loader would read.

    What is missing, unreadable, no regular file, or a link out of its directory counts as just
    that.  Never raises for what it finds, never blocks on a FIFO, never follows a loop.
    """
    digest = hashlib.sha256()
    files: dict[str, bytes] = {}
    whole = True
    for entry in _entries(paths):
        kind, content = entry.kind, b""
        if kind is Kind.FILE:
            if entry.real in files:  # the loader, too, reads a file once, whatever leads to it
                continue
            try:
                data = read_bytes(entry.path, follow=entry.linked)
            except UsageError:
                kind = Kind.UNREADABLE
            else:
                content = hashlib.sha256(data).digest()
                files[entry.real] = data
        elif kind is Kind.UNIGNORING:
            content = repr(entry.trouble).encode()
        whole &= kind in {Kind.FILE, Kind.OUTSIDE, Kind.UNIGNORING}
        digest.update(os.fsencode(entry.name) + b"\0" + kind.value + content)
    return Content(digest.hexdigest(), files, whole)


def stat_signature(paths: Sequence[str]) -> str:
    """
    Return a hash like that of `take`, but of names, sizes, inodes and times: no file is opened.

    Cheaper, but a file that is written twice within one tick of the clock to the same size looks
    the same: only for times between two readings.
    """
    digest = hashlib.sha256()
    for entry in _entries(paths):
        digest.update(os.fsencode(entry.name) + b"\0" + entry.kind.value)
        try:
            found = os.stat(entry.path)  # noqa: PTH116  - Path costs as much again as the call
        except (OSError, ValueError):
            digest.update(b"-\0")
            continue
        marks = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)
        digest.update(f"{found.st_mode} {marks}\0".encode())
    return digest.hexdigest()


def _entries(paths: Sequence[str]) -> Iterator[Entry]:
    """
    Yield what `documents.files.read_documents` would look at; a test compares the two.

    Names begin with the number of their PATH, so that the same content in another directory has
    the same hash.
    """
    for number, path in enumerate(paths):
        name = str(number)
        try:
            real, is_directory = os.path.realpath(path), Path(path).is_dir()
            exists = Path(path).exists()
        except (OSError, ValueError):  # a NUL byte, a directory without permission
            yield Entry(name, path, path, Kind.MISSING)
            continue
        if is_directory:
            # What is left out wakes nobody; what that leaves is in the hash, by its names.
            yield from (entry for entry in below(path, name) if entry.kind is not Kind.IGNORED)
        else:
            yield Entry(name, path, real, Kind.FILE if exists else Kind.MISSING)


# ── the last good state ──────────────────────────────────────────────────────────────────────


class _Held(Mapping[str, bytes]):
    """Contents of one moment for the loader; `asked` tells which files it read, ours or not."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents
        self.asked: set[str] = set()

    def __getitem__(self, real: str) -> bytes:
        self.asked.add(real)
        return self._contents[real]

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)


class Source:
    """
    Keeps the last good desired state in force, whatever becomes of the files.

    A tree that vanished, is empty, unreadable, half-written or invalid changes nothing; `trouble`
    says why.  A valid tree that merely lost documents, even most of them, is a legal change and is
    taken as it is: silence deletes nothing on any server, those servers are just left alone.  Files
    whose content did not change are not parsed again.

    Not for two threads at once.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._loader = Loader()
        self._judged: str | None = None  # the content that `_reading` is the judgement of
        self._reading = Reading()

    def read(self, content: Content) -> Reading:
        """
        Return what is in force after *content* was found; it is taken anew if it was half-written.

        Content that was judged before costs nothing, so this may be called before every pass; do
        so at least while `trouble` is there.  Blocking; never raises for what stands in the files.
        """
        if content.revision == self._judged:
            return self._reading
        for _ in range(TRIES - 1):
            if self._judge(content):
                return self._reading
            content = take(self._paths)
        self._judge(content)
        return self._reading

    def _judge(self, content: Content) -> bool:
        """Judge it; False when the files moved meanwhile, so that this is no judgement of them."""
        # The loader gets the very bytes that were hashed: a hash before and one after would not
        # see a `git stash; git stash pop` in between.
        held = _Held(content.files)
        state: DesiredState | None = None
        trouble, refused = "", False
        try:
            state = self._loader.load(self._paths, held)
            make_room_for(len(state.servers))
        except InvalidConfig as error:
            trouble = first_of(error)
        except JtrError as error:
            state, trouble, refused = None, str(error), True
        except Exception as error:  # noqa: BLE001  - no document may end the controller
            trouble = f"the documents cannot be read ({type(error).__name__}); please report this"
        certain = held.asked == set(content.files) if content.whole else refused
        if state is not None and certain:
            self._reading = self._reading.followed(state, content.revision)
        else:
            trouble = trouble or "the documents change while they are read; they are read again"
            self._reading = replace(self._reading, trouble=trouble, attempted=content.revision)
        self._judged = content.revision if certain else None
        return certain


def first_of(error: InvalidConfig) -> str:
    """Return what is wrong with documents, as far as a status has room for it."""
    lines = [str(problem) for problem in error.problems[:LINES_LIMIT]]
    if error.total > LINES_LIMIT:
        lines.append(f"... and {error.total - LINES_LIMIT} more")
    return "\n".join(lines)
