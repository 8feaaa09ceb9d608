"""
The documents of one commit, as the loader reads them: from the object store, never from a checkout.
"""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Final

from reconciler.documents.files import FILES_LIMIT, TOTAL_BYTES_LIMIT, Snapshot, shown
from reconciler.documents.ignore import NAME as IGNORE_FILE
from reconciler.documents.ignore import SIZE_LIMIT
from reconciler.documents.ignore_tree import IgnoreFiles
from reconciler.documents.walk import SUFFIXES
from reconciler.documents.yaml_reader import BYTES_LIMIT
from reconciler.errors import Blocked, UsageError
from reconciler.system.git_mirror import Mirror, TreeEntry

LONGEST_LINK: Final = 4096  # bytes
_LINK: Final = (
    "this is a link, which is not followed in a repository",
    f"commit what it leads to, or leave it out: {IGNORE_FILE}",
)
_SUBMODULE: Final = (
    "this is a submodule, which is not fetched",
    f"commit its documents, or leave it out: {IGNORE_FILE}",
)
_UNIGNORING: Final = (
    "nobody can tell what this leaves out",
    "commit a short text file with lines as in a .gitignore",
)
_LARGE: Final = (f"the file is larger than {BYTES_LIMIT // 2**20} MiB", "split it")


def snapshot_of(mirror: Mirror, commit: str, path: str) -> Snapshot:
    """Return the documents of *commit* at *path*, "" for everywhere.  Raises JtrError."""
    where = path or "it"
    entries = mirror.entries(commit, path)
    if path and not entries:
        raise UsageError(f"it has no {shown(where)}", "check git.path")
    refused: dict[str, tuple[str, str]] = {}
    ignoring = _ignoring(mirror, entries, refused, path)
    wanted: dict[str, TreeEntry] = {}
    ignored = 0
    harmless = _links_to_files(mirror, entries)
    for entry in entries:
        # Whatever its name is, a whole directory of documents may lie behind it.
        elsewhere = entry.submodule or (entry.link and entry.name not in harmless)
        if _is_hidden(entry.name, path) or not (elsewhere or entry.name.endswith(SUFFIXES)):
            continue
        if ignoring.leave_out(_below(entry.name, path), directory=elsewhere):
            ignored += 1
        elif entry.submodule:
            refused[entry.name] = _SUBMODULE
        elif entry.link:
            refused[entry.name] = _LINK
        elif entry.size is not None and entry.size > BYTES_LIMIT:
            refused[entry.name] = _LARGE
        elif entry.size is not None:
            wanted[entry.name] = entry
    files = _contents(mirror, wanted)
    return Snapshot(where, files, refused, ignored)


def _links_to_files(mirror: Mirror, entries: Sequence[TreeEntry]) -> frozenset[str]:
    """Return the links without a document's name that lead to files here: nobody reads those."""
    links = {
        entry.name: entry
        for entry in entries
        if entry.link and not entry.name.endswith(SUFFIXES) and (entry.size or 0) < LONGEST_LINK
    }
    files = {entry.name for entry in entries if not (entry.link or entry.submodule)}
    return frozenset(
        name
        for name, leads in _contents(mirror, links).items()
        if posixpath.normpath(
            posixpath.join(posixpath.dirname(name), leads.decode("utf-8", "replace"))
        )
        in files
    )


def _ignoring(
    mirror: Mirror,
    entries: Sequence[TreeEntry],
    refused: dict[str, tuple[str, str]],
    path: str,
) -> IgnoreFiles:
    """Read what is left out; what nobody can tell goes to *refused*."""
    found: dict[str, TreeEntry] = {}
    for entry in entries:
        if posixpath.basename(entry.name) != IGNORE_FILE or entry.submodule:
            continue
        if entry.link or (entry.size or 0) > SIZE_LIMIT:
            refused[entry.name] = _UNIGNORING
        else:
            found[entry.name] = entry
    texts: dict[str, str] = {}
    for name, data in _contents(mirror, found).items():
        try:
            texts[posixpath.dirname(_below(name, path))] = data.decode("utf-8")
        except UnicodeDecodeError:
            refused[name] = _UNIGNORING
    ignoring = IgnoreFiles(texts)
    for folder in ignoring.problems:
        refused[posixpath.join(path, folder, IGNORE_FILE)] = _UNIGNORING
    return ignoring


def _contents(mirror: Mirror, wanted: Mapping[str, TreeEntry]) -> dict[str, bytes]:
    size = sum(entry.size or 0 for entry in wanted.values())
    if len(wanted) > FILES_LIMIT or size > TOTAL_BYTES_LIMIT:
        raise Blocked(
            f"more than {FILES_LIMIT:,} files or {TOTAL_BYTES_LIMIT // 2**20} MiB of documents",
            "name a directory of it: git.path",
        )
    found = mirror.contents([one.object for one in wanted.values()], size)
    return {name: found[entry.object] for name, entry in wanted.items()}


def _below(name: str, top: str) -> str:
    return name.removeprefix(f"{top}/") if top else name


def _is_hidden(name: str, top: str) -> bool:
    """Whether the loader would not look at a place of this name; the *top* itself may be hidden."""
    return name != top and any(part.startswith(".") for part in _below(name, top).split("/"))
