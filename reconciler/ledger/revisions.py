"""
The commit that was put into force last: of each branch that a controller follows, and of the
folders of documents that jobs apply.

In the ledger, not beside the mirror: whoever can serve an old commit must not be believed only
because a disk was lost, nor a job's old checkout because somebody had it run again.

A row for each branch, and one for each repository of which jobs apply folders: none makes room for
another, and none is ever forgotten.  Earlier versions kept all of them in one row: what that says
counts until a row of its own is written.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from reconciler.ledger import Conflict, Store
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import (
    REVISIONS,
    FollowedBranch,
    RevisionsRow,
    revisions_key,
    source_of,
)
from reconciler.ledger.compare_and_set import update

_Known = tuple[FollowedBranch, ...]


class Revisions:
    """Blocking; every method raises LedgerError."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def last(self, branch: str) -> str:
        """Return the commit of *branch* that was in force last; "" where none is known."""
        return _last(self._known(branch))

    def note(self, branch: str, commit: str, *, after: str) -> None:
        """
        Remember that *commit* is in force, where it was *after* that was in force last.

        Raises Conflict where somebody else put something else into force meanwhile: whether
        *commit* may come after that, nobody has asked git yet.
        """

        def change(known: _Known) -> _Known:
            if _last(known) != after:
                raise Conflict("somebody else put another commit into force", "look again")
            return (FollowedBranch(branch, commit),)

        self._change(branch, change)

    def applied(self, repository: str, folders: Iterable[str]) -> frozenset[str]:
        """
        Return the commits that were applied last of any of *folders*, or from above or below one.

        A repository is named by its first commit, a folder by its place in it, `.` for all of it.
        """
        return _applied(self._known(_of_jobs(repository)), tidy(folders))

    def apply(
        self, repository: str, folders: Iterable[str], commit: str, *, after: Collection[str]
    ) -> None:
        """
        Remember that *commit* is applied of *folders*, where `applied` says nothing but *after*.

        Raises Conflict where something else was applied meanwhile, as `note` does; not where that
        was *commit* itself.
        """
        named, source = tidy(folders), _of_jobs(repository)

        def change(known: _Known) -> _Known:
            if not _applied(known, named) <= {*after, commit}:
                raise Conflict("another commit was applied meanwhile", "look again")
            others = [one for one in known if not _replaced(one, named)]
            return (*others, *(FollowedBranch(source + folder, commit) for folder in named))

        self._change(source, change)

    def _known(self, branch: str) -> _Known:
        stored = self._store.get(revisions_key(branch))
        return self._read(branch, stored.text if stored else None)

    def _read(self, branch: str, text: str | None) -> _Known:
        if text is not None:
            return read(RevisionsRow, revisions_key(branch), text).branches
        former = self._store.get(REVISIONS)
        known = read(RevisionsRow, REVISIONS, former.text).branches if former is not None else ()
        return tuple(one for one in known if source_of(one.branch) == source_of(branch))

    def _change(self, branch: str, change: Callable[[_Known], _Known]) -> None:
        def changed(text: str | None) -> str:
            return write(RevisionsRow(change(self._read(branch, text))))

        update(self._store, revisions_key(branch), changed)


def tidy(folders: Iterable[str]) -> tuple[str, ...]:
    """Return *folders* however they were spelled: sorted, and none that lies in another one."""
    named = {"/".join(part for part in one.split("/") if part not in ("", ".")) for one in folders}
    outer = {one for one in named if not any(_contains(other, one) for other in named - {one})}
    return tuple(sorted(one or "." for one in outer))


def _of_jobs(repository: str) -> str:
    return f"applied {repository}:"


def _last(known: _Known) -> str:
    return known[0].commit if known else ""


def _applied(known: _Known, folders: Collection[str]) -> frozenset[str]:
    return frozenset(
        one.commit
        for one in known
        for place in (_folder(one), *_former(one))
        if any(_contains(place, folder) or _contains(folder, place) for folder in folders)
    )


def _replaced(one: FollowedBranch, folders: Collection[str]) -> bool:
    """Whether an entry says nothing more once *folders* have one."""

    def covered(place: str) -> bool:
        return any(_contains(folder, place) for folder in folders)

    return covered(_folder(one)) or all(map(covered, _former(one)))


def _folder(one: FollowedBranch) -> str:
    return one.branch.removeprefix(source_of(one.branch))


def _former(one: FollowedBranch) -> Iterator[str]:
    """Yield the folders of an entry by an earlier version, which wrote all of a job in one."""
    yield from _folder(one).split(" ")


def _contains(folder: str, place: str) -> bool:
    return folder in ("", ".", place) or place.startswith(f"{folder}/")
