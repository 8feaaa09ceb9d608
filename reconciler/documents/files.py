"""
Which files are read, and which of their documents are ours.

Files are named on the command line or found in directories.
"""

import errno
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct, field

from reconciler.documents.ignore import NAME as IGNORE_FILE
from reconciler.documents.tree import Map, Node, Scalar, text
from reconciler.documents.walk import Entry, Kind, below, lies_in
from reconciler.documents.yaml_reader import BYTES_LIMIT, Document, scan
from reconciler.errors import InvalidConfig, UsageError
from reconciler.model.source import Problem, SourceLine
from reconciler.model.values import replace
from reconciler.model.wording import counted
from reconciler.system.files import NotRegular, WritableByOthers, read_operators, read_regular

API_VERSION: Final = "jtr/v1"
_ROOT: Final = "/"  # of a snapshot, which has no other
_BEGIN: Final = f"begin: apiVersion: {API_VERSION}"
_VERSION: Final = f"write apiVersion: {API_VERSION}"
_NOT_OURS: Final = f"if the file is another program's, name it in {IGNORE_FILE}"
_VERSION_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9./-]{0,59}")
_MOST_VERSIONS: Final = 5
FILES_LIMIT: Final = 100_000
TOTAL_BYTES_LIMIT: Final = 128 * 1024 * 1024
TOTAL_VALUES_LIMIT: Final = 2_000_000  # some ten microseconds each


def shown(path: str) -> str:
    """Return a file's name as it may be printed: no escape codes, no line breaks."""
    if path.isprintable():
        return path
    return "".join(c if c.isprintable() else "\ufffd" for c in path)


def read_bytes(path: str, *, operators: bool = False, follow: bool = True) -> bytes:
    """
    Return a regular file's content, at most one byte more than the limit.

    Raises UsageError when it is none or cannot be read, for a link unless *follow*, and for a file
    of the *operators* when others may write it; a FIFO does not make this wait.
    """
    try:
        if operators:
            return read_operators(path, BYTES_LIMIT)
        return read_regular(path, BYTES_LIMIT, follow=follow)
    except WritableByOthers:
        raise UsageError(
            f"others may write {shown(path)}: they could send the Vault token elsewhere",
            f"chmod go-w {shown(path)}",
        ) from None
    except NotRegular:
        raise UsageError(
            f"{shown(path)} is no regular file", "name a file or a directory"
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def work_tree(path: Path) -> Path | None:
    """Return the root of the Git work tree in which *path*, a real one, lies."""
    for directory in (path, *path.parents):
        if os.path.lexists(directory / ".git"):
            return directory
    return None


def _unreadable(path: str, error: OSError | ValueError) -> UsageError:
    number = error.errno if isinstance(error, OSError) else None
    why = os.strerror(number) if number else "its name cannot be a file's"
    remedy = {
        errno.EACCES: "check its permissions, and those of the directories above it",
        errno.ENOENT: "it is a link to nothing: remove it, or restore what it names",
        errno.ELOOP: "it is a link that leads back to itself: remove it",
    }
    return UsageError(
        f"{shown(path)} cannot be read ({why})", remedy.get(number or 0, "check the file system")
    )


def read_documents(
    paths: Sequence[str],
    instead: Mapping[str, bytes] | None = None,
    tree: str | None = None,
    known: "Mapping[FileKey, FoundFile] | None" = None,
) -> "FoundDocuments":
    """
    Read files and directories (`*.yaml`, `*.yml`, recursive; hidden ones are skipped, and what a
    `.jtrignore` leaves out).

    *instead* gives contents to judge before they are written, by the real path of their file, which
    need not exist.  *tree* is the root from which places count, instead of a Git work tree's.  What
    is *known* is not parsed again: its documents are not in the result.

    Raises UsageError for a missing path, an unreadable file and a directory that holds no document
    of ours.  Everything else is a problem in the result.
    """
    missing = [path for path in paths if not _exists(path, instead or {})]
    if missing:
        raise UsageError(
            f"no such file or directory: {', '.join(map(shown, missing))}", "check the path"
        )
    found = FoundDocuments(instead or {}, tree, known)
    for path in paths:
        if Path(path).is_dir():
            found.directory(path)
        else:
            found.file(path)
    return found


class Snapshot(Struct, frozen=True):
    """
    Documents of one moment that lie in no file system.

    `files` goes by place, from the root of their tree; `refused` are places that hold something
    else than a file, with what is wrong and what to do.  `name` is what all of it is called.
    """

    name: str
    files: Mapping[str, bytes]
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    ignored: int = 0  # files that a `.jtrignore` leaves out


def read_snapshot(
    snapshot: Snapshot, known: "Mapping[FileKey, FoundFile] | None" = None
) -> "FoundDocuments":
    """
    Read a snapshot as `read_documents` reads a directory.

    Raises UsageError when it holds no document of ours.
    """
    contents = {f"{_ROOT}{place}": content for place, content in snapshot.files.items()}
    found = FoundDocuments(contents, _ROOT, known)
    found.snapshot(snapshot)
    return found


def _exists(path: str, instead: Mapping[str, bytes]) -> bool:
    try:
        return Path(path).exists() or os.path.realpath(path) in instead
    except (OSError, ValueError):  # a NUL byte, a name of a million characters, no permission
        return False


class Placed(Struct, frozen=True):
    """
    A document, and the directory in which its file really lies: no link makes it another.

    `place` is the file from the root of the tree that was named; a policy goes by that.
    """

    root: Map
    folder: str
    place: str


class FileKey(NamedTuple):
    """Everything that decides what a file gives: two with the same key give the same."""

    content: bytes  # its SHA-256
    path: str
    real: str
    tree: str
    named: bool


class FoundFile(Struct, frozen=True):
    """
    What one file gave.

    `whole` is False when the rest could not be read for a syntax error.  `skipped` are the versions
    of documents of another apiVersion, `ours` counts the others: those are here unless the file was
    known.
    """

    documents: tuple[Placed, ...]
    problems: tuple[Problem, ...]
    whole: bool
    size: int
    values: int
    skipped: tuple[str, ...]
    ours: int


class FoundDocuments:
    """
    What all paths gave, file by file; one counts once, whatever names lead to it.

    The keys of `found` are None where nothing can be known.  `problems` may be there beside
    documents.  `complete` is False when the rest of some file could not be read for a syntax error:
    documents may be missing, so nothing should be concluded from what is absent.
    """

    def __init__(
        self,
        instead: Mapping[str, bytes],
        tree: str | None,
        known: Mapping[FileKey, FoundFile] | None,
    ) -> None:
        self._instead = instead
        self._known = known
        self._given_tree = None if tree is None else os.path.realpath(tree)
        self.found: list[tuple[FileKey | None, FoundFile]] = []
        self.problems: list[Problem] = []
        self.files: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.ignored = 0  # files and directories that a `.jtrignore` leaves out
        self.complete = True
        self._seen: set[str] = set()
        self._roots: dict[str, str] = {}
        self._tree = ""  # the root of what is being read
        self._bytes = 0
        self._values = 0

    def _new(self, real: str) -> bool:
        fresh = real not in self._seen
        self._seen.add(real)
        return fresh

    def _read(self, path: str, real: str, *, follow: bool, named: bool) -> FoundFile:
        data = self._instead.get(real)
        if data is None:
            data = read_bytes(path, follow=follow)
        key: FileKey | None = None
        found: FoundFile | None = None
        if self._known is not None:
            key = FileKey(hashlib.sha256(data).digest(), path, real, self._tree, named)
            found = self._known.get(key)
        if found is None:
            found = _found(data, path, real, self._tree, named=named)
        self.files.append(path)
        self._bytes += found.size
        self._values += found.values
        self._check_totals(path)
        self.found.append((key, found))
        self.problems += found.problems
        if found.skipped:
            self.skipped.update(found.skipped)
        self.complete &= found.whole
        return found

    def _check_totals(self, path: str) -> None:
        """Stop where a tree costs more than any fleet: each file alone may be in order."""
        if len(self.files) > FILES_LIMIT:
            most = f"{FILES_LIMIT:,} files"
        elif self._bytes > TOTAL_BYTES_LIMIT:
            most = f"{TOTAL_BYTES_LIMIT:,} bytes"
        elif self._values > TOTAL_VALUES_LIMIT:
            most = f"{TOTAL_VALUES_LIMIT:,} values"
        else:
            return
        place = SourceLine(shown(path), 1)
        remedy = "name fewer files, or the directories one after the other"
        raise InvalidConfig([Problem(place, f"more than {most} in all", remedy)])

    def _complain(self, source: SourceLine, what: str, remedy: str) -> None:
        self.problems.append(Problem(source, what, remedy))

    def file(self, path: str) -> None:
        real = os.path.realpath(path)
        if self._new(real):
            self._tree = self._given_tree or self._root(os.path.dirname(real))  # noqa: PTH120
            self._read(path, real, follow=True, named=True)

    def snapshot(self, taken: Snapshot) -> None:
        self._tree = _ROOT
        for place, (what, remedy) in taken.refused.items():
            self._complain(SourceLine(shown(place), 1), what, remedy)
        before, nothing = len(self.problems), True
        self.ignored += taken.ignored
        for place in sorted(taken.files):
            found = self._read(place, f"{_ROOT}{place}", follow=False, named=False)
            nothing &= not found.ours
        if nothing and len(self.problems) == before and not taken.refused:
            raise self._nothing(taken.name, self.skipped, self.ignored)

    def directory(self, top: str) -> None:
        outside, skipped, nothing = len(self.problems), self.skipped.copy(), True
        ignored = self.ignored
        self._tree = self._given_tree or self._root(os.path.realpath(top))
        for entry in below(top):
            if not self._readable(entry):
                continue
            if not self._new(entry.real):
                nothing = False
                continue
            found = self._read(entry.path, entry.real, follow=entry.linked, named=False)
            nothing &= not found.ours
        if nothing and len(self.problems) == outside:
            raise self._nothing(top, self.skipped - skipped, self.ignored - ignored)

    def _nothing(self, top: str, skipped: "Counter[str]", ignored: int) -> UsageError:
        told = ", ".join(left_out(skipped, ignored))
        note = f": {told}" if told else ""
        return UsageError(
            f"{shown(top)} holds no document of {API_VERSION}{note}",
            f"name a directory with *.yaml files that begin with `apiVersion: {API_VERSION}`",
        )

    def _readable(self, entry: Entry) -> bool:
        if entry.kind is Kind.UNLISTED:
            # A directory that cannot be listed must never look like one without servers.
            raise UsageError(f"{shown(entry.path)} cannot be listed", "check its permissions")
        if entry.kind is Kind.OUTSIDE:
            self._complain(
                SourceLine(shown(entry.path), 1),
                "this link leads out of the directory",
                "copy the file here, or name its place on the command line",
            )
        if entry.kind is Kind.UNIGNORING:
            line, what = entry.trouble
            source = SourceLine(shown(entry.path), line or 1)
            self._complain(source, what, "write lines as in a .gitignore, or remove the file")
        self.ignored += entry.kind is Kind.IGNORED
        return entry.kind is Kind.FILE

    def _root(self, folder: str) -> str:
        """Return from where the places of files count: a Git work tree, else the directory."""
        if folder not in self._roots:
            self._roots[folder] = str(work_tree(Path(folder)) or folder)
        return self._roots[folder]


def _found(data: bytes, path: str, real: str, tree: str, *, named: bool) -> FoundFile:
    """Read one file; another program's documents are an error only in one that was *named*."""
    builder, whole = scan(data, shown(path))
    folder = os.path.dirname(real)  # noqa: PTH120  - a string is enough, for each file
    ours: list[Placed] = []
    foreign: list[Document] = []
    skipped: list[str] = []
    problems: list[Problem] = []
    empty = True
    for document in builder.documents:
        root = document.root
        if isinstance(root, Scalar) and root.value is None:
            continue
        empty = False
        if not isinstance(root, Map):
            problems.append(Problem(root.source, "a document is not a mapping", _BEGIN))
        elif "apiVersion" not in root.entries:
            problems.append(Problem(root.source, "a document without apiVersion", _VERSION))
        elif not named and (version := _foreign(root)):
            foreign.append(document)
            skipped.append(version)
        else:
            ours.append(Placed(root, folder, _place(real, tree)))
    # Other programs' documents may use what we refuse.
    problems += (
        problem
        for problem in builder.problems
        if not any(d.first <= problem.source.line <= d.last for d in foreign)
    )
    if not whole and not problems:
        # Servers may stand where it could not be read: nothing would look like no servers.
        problems += builder.problems
    if named and empty and not builder.problems:
        problems.append(
            Problem(SourceLine(shown(path), 1), "the file is empty", "write a document")
        )
    if not (named or ours):
        problems = [replace(one, remedy=f"{one.remedy}; {_NOT_OURS}") for one in problems]
    return FoundFile(
        tuple(ours), tuple(problems), whole, len(data), builder.count, tuple(skipped), len(ours)
    )


def _foreign(root: Node) -> str:
    """Return the version of another program's document, as it may be printed; else nothing."""
    version = text(root, "apiVersion")
    # Another version of ours, or a slip of the finger, is never skipped in silence.
    if not version or version.lower().startswith("jtr"):
        return ""
    return version if _VERSION_WORD.fullmatch(version) else "another one"


def left_out(skipped: Counter[str], ignored: int) -> Iterator[str]:
    """Say what was not read as documents of ours, and why."""
    if skipped:
        named = sorted(skipped)[:_MOST_VERSIONS]
        more = ", ..." if len(skipped) > len(named) else ""
        number = counted(skipped.total(), "document")
        yield f"{number} of another apiVersion skipped ({', '.join(named)}{more})"
    if ignored:
        number = f"{ignored} {'file or directory' if ignored == 1 else 'files and directories'}"
        yield f"{number} left out by {IGNORE_FILE}"


def _place(real: str, tree: str) -> str:
    """Return the file from the root of its tree; the whole path where it lies elsewhere."""
    if not lies_in(real, tree):
        return real
    place = real[len(tree.rstrip("/")) + 1 :]
    # Kubernetes mounts a ConfigMap as links into a directory like ..2026_11_22_09_00_00.123.
    return place.partition("/")[2] if place.startswith("..") else place
