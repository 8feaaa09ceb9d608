"""
A request for a reboot or an invalidation, written into the file of its server's document.

The ordinary loader judges the edited text before the file is touched, and the file is replaced in
one step.  Where in the text the request goes is the business of `documents.edit_position`.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from reconciler.documents.edit_position import BY_HAND, KEYS, RequestBlock, located, reader
from reconciler.documents.files import Snapshot, read_bytes, shown
from reconciler.documents.load import Loaded, load, load_snapshot
from reconciler.errors import Blocked, InvalidConfig, JtrError, UsageError
from reconciler.model.desired import DesiredServer, OneShot
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace
from reconciler.system.files import draft, reason, sync_directory


class Proposal(Struct, frozen=True):
    """
    An edited file that is valid and not written yet.

    `server` and `wish` are as the edited document has them, `replaced` is what stood there.
    """

    path: str
    before: bytes
    after: bytes
    server: DesiredServer
    wish: OneShot
    replaced: OneShot | None


def propose(top: str, name: str, wish: RequestBlock, now: datetime) -> Proposal:
    """
    Return the file of the server *name* below *top* as it would be with *wish*; writes nothing.

    Raises UsageError for an unknown server, a file that is a link, and a wish that has expired
    already; InvalidConfig when the documents are invalid, or would be; Blocked for a suspended
    server and for a wish that would be superseded; JtrError when the file cannot be edited.
    """
    return _proposed(_OnDisk(top), name, wish, now)


def propose_in(snapshot: Snapshot, name: str, wish: RequestBlock, now: datetime) -> Proposal:
    """Return the same of documents that lie in no file system; `path` is the place of the file."""
    return _proposed(_InSnapshot(snapshot), name, wish, now)


class _Documents(Protocol):
    """Where the documents are; raises as `propose`."""

    def load(self, path: str = "", edited: bytes = b"") -> Loaded:
        """Load them, with the file at *path* as it was *edited*."""
        ...

    def file(self, loaded: Loaded, server: DesiredServer) -> str:
        """Return the path of the file that holds *server*."""
        ...

    def data(self, path: str) -> bytes: ...


class _OnDisk:
    def __init__(self, top: str) -> None:
        self._top: Final = top

    def load(self, path: str = "", edited: bytes = b"") -> Loaded:
        return load((self._top,), {os.path.realpath(path): edited} if path else None)

    def file(self, loaded: Loaded, server: DesiredServer) -> str:
        return _file(loaded, server, self._top)

    def data(self, path: str) -> bytes:
        return read_bytes(path)


class _InSnapshot:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot: Final = snapshot

    def load(self, path: str = "", edited: bytes = b"") -> Loaded:
        files = {**self._snapshot.files, path: edited} if path else self._snapshot.files
        return load_snapshot(replace(self._snapshot, files=files))

    def file(self, loaded: Loaded, server: DesiredServer) -> str:  # noqa: ARG002  - as on a disk
        return _the_one(self._snapshot.files, server)

    def data(self, path: str) -> bytes:
        return self._snapshot.files[path]


def _proposed(documents: _Documents, name: str, wish: RequestBlock, now: datetime) -> Proposal:
    events = reader()
    loaded = documents.load()
    server = _server(loaded, name)
    replaced = server.asked(wish.kind)
    _allowed(server, wish, replaced, now)
    path = documents.file(loaded, server)
    data = documents.data(path)
    change = located(data, name, wish, events)
    edited = change.applied(data)
    try:
        result = documents.load(path, edited)
    except InvalidConfig as error:
        problems = [change.on_disk(one, data, shown(path)) for one in error.problems]
        raise InvalidConfig(problems, total=error.total) from None
    wanted = {one: effective.as_document() for one, effective in loaded.effective.items()}
    wanted[name]["spec"][KEYS[wish.kind][0]] = wish.values()
    found = {one: effective.as_document() for one, effective in result.effective.items()}
    changed = _server(result, name)
    asked = changed.asked(wish.kind)
    if asked is None or wanted != found:
        raise JtrError(f"{server.source}: this document cannot be edited safely", BY_HAND)
    if asked.instant + asked.expires_after <= now:
        raise UsageError(
            f"a request of {spelled(asked.instant)} is expired already "
            f"(since {spelled(asked.instant + asked.expires_after)})",
            "give a later --at, or a longer --expires-after",
        )
    return Proposal(path, data, edited, changed, asked, replaced)


def _server(loaded: Loaded, name: str) -> DesiredServer:
    for server in loaded.state.servers:
        if server.name == name:
            return server
    known = [server.name for server in loaded.state.servers]
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""  # noqa: PLR2004
    raise UsageError(
        f"no server is called {shown(name)}", f"known: {', '.join(known[:10]) or 'none'}{more}"
    )


def _allowed(
    server: DesiredServer, wish: RequestBlock, present: OneShot | None, now: datetime
) -> None:
    suspension = server.suspend
    if suspension is not None and (suspension.until is None or now < suspension.until):
        raise Blocked(
            f"{server.name} is suspended by {suspension.by}: {suspension.reason}",
            "end the suspension first (spec.suspend)",
        )
    if present is not None and wish.instant <= present.instant:
        raise Blocked(
            f"{server.name} carries a request of {spelled(present.instant)} already "
            f"({present.source}); one of {spelled(wish.instant)} is not later, so it would be "
            "superseded by that one and never be done",
            "let that one be done, give a later --at, or remove it if it was never applied",
        )


def _the_one(paths: Iterable[str], server: DesiredServer) -> str:
    found = [path for path in paths if shown(path) == server.source.file]
    if len(found) != 1:
        raise UsageError(
            f"the file of {server.name} has a name that cannot be told from another one",
            "rename it: letters, digits, - and . are enough",
        )
    return found[0]


def _file(loaded: Loaded, server: DesiredServer, top: str) -> str:
    """Return the file that holds *server*.  Raises UsageError where a link stands in the way."""
    path = _the_one(loaded.files, server)
    root = top if Path(top).is_dir() else os.path.dirname(top) or "."  # noqa: PTH120  - as typed
    straight = os.path.join(os.path.realpath(root), os.path.relpath(path, root))  # noqa: PTH118
    if os.path.realpath(path) != straight:
        raise UsageError(
            f"{shown(path)} is a link, or lies behind one", "name the file itself with --from"
        )
    return path


def write(proposal: Proposal) -> None:
    """
    Replace the file in one step: it is the old one or the new one, whatever happens.

    Raises JtrError, with the file as it was, when that fails or when the file changed meanwhile.
    """
    path = proposal.path
    try:
        with draft(Path(path), proposal.after, Path(path).lstat()) as made:
            _unchanged(proposal)
            made.replace(path)
        with suppress(OSError):  # some file systems cannot, and the file is whole either way
            sync_directory(Path(path).parent)
    except OSError as error:
        raise JtrError(
            f"{shown(path)} could not be written ({reason(error)}); it is as it was",
            "check the file system and the permissions of the directory",
        ) from error


def _unchanged(proposal: Proposal) -> None:
    path = proposal.path
    if Path(path).is_symlink() or read_bytes(path) != proposal.before:
        raise JtrError(
            f"{shown(path)} changed while it was edited; nothing was written",
            "run the command again",
        )


def difference(proposal: Proposal, name: str) -> str:
    """Return what changes as a unified diff that `git apply` takes; *name* is the file's."""
    import difflib  # noqa: PLC0415  - costs more than reading a document

    before, after = (
        re.findall(r"[^\n]*\n|[^\n]+", data.decode()) for data in (proposal.before, proposal.after)
    )
    lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
