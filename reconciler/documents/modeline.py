"""
The line by which an editor knows what a document may hold, in every document of a file.

A language server looks for it in each document by itself.  The path in it is relative, so that it
holds in every checkout; what is read by jtr stays the same, byte for byte but for these lines.
"""

import os
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.documents import schema
from reconciler.documents.files import FoundFile, read_bytes, read_documents, shown
from reconciler.documents.tree import plain
from reconciler.documents.tree import text as text_at
from reconciler.documents.yaml_reader import scan
from reconciler.errors import InvalidConfig, JtrError
from reconciler.model.source import Problem
from reconciler.system.files import draft, reason, sync_directory

FILE: Final = "config.schema.json"
FOLDER: Final = ".jtr"
"""Where the schema lies, in the directory that was named: hidden, so it is no document."""

_LINE: Final = re.compile(r"#\s*yaml-language-server:\s*\$schema=(\S+)\s*")
_BEGIN: Final = re.compile(r"---(\s*#.*|\s*)")
_RIGHTS: Final = 0o644


class Marked(Struct, frozen=True):
    """A file as it is and as it would be; its documents that name another schema are left alone."""

    path: str
    before: bytes
    after: bytes
    others: int


def marked(path: str) -> list[Marked]:
    """
    Return every file of documents below *path* with a modeline in each; writes nothing.

    Raises UsageError and InvalidConfig as the loader does, for what cannot be read as documents of
    ours; what is wrong in them otherwise is what the editor will show.  JtrError for a document
    that has no line of its own for it.
    """
    reading = read_documents([path])
    # A file that was named is ours or nobody's; its other mistakes are what the editor will show.
    foreign = [
        Problem(one.root.source, "a document of another program", "name files of documents alone")
        for _, found in reading.found
        for one in found.documents
        if not text_at(one.root, "apiVersion").lower().startswith("jtr")
    ]
    if reading.problems or foreign:
        raise InvalidConfig([*reading.problems, *foreign])
    schema_file = schema_of(path)
    return [
        _marked(file, found, schema_file)
        for file, (_, found) in zip(reading.files, reading.found, strict=True)
        if found.documents
    ]


def schema_of(path: str) -> str:
    """Return where the schema for documents below *path* is written."""
    folder = path if Path(path).is_dir() else os.path.dirname(path) or "."  # noqa: PTH120
    return os.path.join(folder, FOLDER, FILE)  # noqa: PTH118  - as it was typed


def _marked(path: str, found: FoundFile, schema_file: str) -> Marked:
    real = os.path.realpath(path)
    data = read_bytes(real)
    text = data.decode("utf-8")
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.split("\n")
    where = os.path.relpath(os.path.realpath(schema_file), os.path.dirname(real))  # noqa: PTH120
    line, others = f"# yaml-language-server: $schema={Path(where).as_posix()}", 0
    first = 0
    placed: list[tuple[int, bool]] = []  # before which line, and whether it takes that one's place
    for document in found.documents:
        root = document.root.source.line - 1
        begin = _begin(path, lines, first, root)
        known = [n for n in range(begin, root) if _LINE.fullmatch(lines[n].strip())]
        theirs = [n for n in known if not _ours(lines[n])]
        others += bool(theirs)
        if not theirs:
            placed.append((known[0] if known else begin, bool(known)))
        first = root
    for number, replaces in reversed(placed):
        lines[number : number + replaces] = [line + end.removesuffix("\n")]
    after = "\n".join(lines).encode("utf-8")
    if _trees(after, path) != _trees(data, path):
        raise JtrError(f"{shown(path)} cannot be edited safely", "write the line by hand")
    return Marked(real, data, after, others)


def _begin(path: str, lines: list[str], first: int, root: int) -> int:
    """Return the first line that is the document's of *root*, after its `---` if it has one."""
    begins = [n for n in range(first, root + 1) if lines[n].startswith("---")]
    if not begins:
        return 0
    if begins[-1] == root or not _BEGIN.fullmatch(lines[begins[-1]].rstrip("\r")):
        raise JtrError(
            f"{shown(path)}:{begins[-1] + 1}: there is no room for a comment in this document",
            "write `---` on a line of its own",
        )
    return begins[-1] + 1


def _ours(line: str) -> bool:
    found = _LINE.fullmatch(line.strip())
    return found is not None and found[1].rpartition("/")[2] == FILE


def _trees(data: bytes, path: str) -> list[object]:
    builder, _ = scan(data, shown(path))
    return [plain(document.root) for document in builder.documents]


def write_schema(path: str) -> bool:
    """Write the schema where `schema_of` says; False where it lies there as it is already."""
    file, text = Path(schema_of(path)), schema.text(schema.CONFIG).encode()
    try:
        if file.is_file() and file.read_bytes() == text:
            return False
        file.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritten(str(file), error) from error
    _put(str(file), text, None)
    return True


def write(change: Marked) -> None:
    """Put a file's new text in its place, in one step.  Raises JtrError."""
    if read_bytes(change.path) != change.before:
        raise JtrError(f"{shown(change.path)} changed meanwhile", "run the command again")
    _put(change.path, change.after, Path(change.path).lstat())


def _put(path: str, text: bytes, like: os.stat_result | None) -> None:
    try:
        with draft(Path(path), text, like) as made:
            if like is None:
                made.chmod(_RIGHTS)
            made.replace(path)
        sync_directory(Path(path).parent)
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: str, error: OSError) -> JtrError:
    return JtrError(
        f"{shown(path)} could not be written ({reason(error)})",
        "check the file system and the permissions of the directory",
    )
