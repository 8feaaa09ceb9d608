"""
From paths to `DesiredState`: read, judge, merge, check, build.

`load` is the entry, and `Loader` for who reads the same files again and again.  Every problem is
found before any is raised, so that a file is corrected once and not once for each mistake.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct

from reconciler.documents.effective import Effective
from reconciler.documents.files import (
    FoundDocuments,
    Snapshot,
    left_out,
    read_documents,
    read_snapshot,
)
from reconciler.documents.judge import Judged, KnownFiles, Read, judge
from reconciler.documents.tree import text
from reconciler.errors import InvalidConfig
from reconciler.model.desired import DesiredServer, DesiredState, Suspension
from reconciler.model.values import replace
from reconciler.model.wording import counted


class Loaded(Struct, frozen=True):
    """
    Valid desired state; `effective` goes by server name, `files` are those that were read.

    `left_out` says, in lines, what was found and not read as documents of ours.

    Who goes on for long keeps `state` alone: the rest holds the trees of all documents.
    """

    state: DesiredState
    effective: Mapping[str, Effective]
    files: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def summary(self) -> str:
        exchanges = sum(len(server.exchanges) for server in self.state.servers)
        parts = (
            counted(len(self.state.servers), "server"),
            counted(exchanges, "exchange"),
            counted(len(self.files), "file"),
        )
        return "".join(f"{line}\n" for line in (f"valid: {', '.join(parts)}", *self.left_out))


def load(
    paths: Sequence[str], instead: Mapping[str, bytes] | None = None, tree: str | None = None
) -> Loaded:
    """
    Read all documents below *paths*; *instead* and *tree* as `documents.files.read_documents`.

    Raises UsageError when there is nothing to read, InvalidConfig with all problems, sorted by
    place, at most 50 and then `... and N more`.
    """
    return _loaded(lambda: read_documents(paths, instead, tree))


def load_snapshot(snapshot: Snapshot) -> Loaded:
    """Return what a directory with these files would mean.  Raises as `load`."""
    return _loaded(lambda: read_snapshot(snapshot))


def _loaded(read: Callable[[], FoundDocuments]) -> Loaded:
    with _no_collections():
        reading = read()
        judged = judge(reading, {})
        state = _state(reading, judged)
        effective = {text(one.root, "metadata", "name"): Effective(one) for one in judged.merged}
        told = tuple(left_out(reading.skipped, reading.ignored))
        return Loaded(state, effective, tuple(reading.files), told)


class Loader:
    """Loads the same place again and again; what has not changed is not parsed and judged anew."""

    def __init__(self) -> None:
        self._known = KnownFiles()

    def load(self, paths: Sequence[str], instead: Mapping[str, bytes]) -> DesiredState:
        """Return the state that `load` would return, or raise what it would raise."""
        return self._load(lambda known: read_documents(paths, instead, known=known))

    def load_snapshot(self, snapshot: Snapshot) -> DesiredState:
        """Return what a directory with these files would mean.  Raises as `load`."""
        return self._load(lambda known: read_snapshot(snapshot, known))

    def _load(self, read: Read) -> DesiredState:
        with _no_collections():
            return _state(*self._known.judged(read))


def _state(reading: FoundDocuments, judged: Judged) -> DesiredState:
    if judged.problems or not judged.certain:
        raise InvalidConfig(judged.problems)
    servers = sorted(_neighbours(judged.servers), key=lambda server: server.name)
    return DesiredState(tuple(servers), reading.skipped.total())


def _neighbours(servers: Sequence[DesiredServer]) -> Sequence[DesiredServer]:
    """Tell each server of the accounts of its process that other documents suspend."""
    suspended: dict[str, dict[str, Suspension]] = {}
    for server in servers:
        if server.suspend is not None:
            suspended.setdefault(server.target.url, {})[server.account] = server.suspend
    return [_beside(server, suspended) for server in servers] if suspended else servers


def _beside(
    server: DesiredServer, suspended: Mapping[str, Mapping[str, Suspension]]
) -> DesiredServer:
    here = suspended.get(server.target.url, {})
    others = tuple((account, here[account]) for account in sorted(here.keys() - {server.account}))
    return replace(server, suspended_accounts=others) if others else server


@contextmanager
def _no_collections() -> Iterator[None]:
    """
    Let the garbage collector rest: trees hold no cycles, and there are many of them.

    It looked through those of ten thousand files again and again, and found nothing.
    """
    resting = not gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not resting:
            gc.enable()
