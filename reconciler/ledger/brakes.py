"""
Which servers are not written to any more, and which JT-Trader versions have proven themselves.

One row for each version holds both, because both decide together how far harm reaches: always over
the server that was harmed, and over its whole version while that one has not proven itself, or when
a second server of it is harmed within a day.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from reconciler.ledger import Store
from reconciler.ledger.codec.records import read_version, write
from reconciler.ledger.codec.rows import BRAKES, HarmedServer, VersionRow, brake_key
from reconciler.ledger.compare_and_set import update
from reconciler.model.recorded import Brake, HeldBrake, Identity
from reconciler.model.timestamps import stamp
from reconciler.model.values import replace

OTHERS: Final = 2  # servers besides the harmed one that a write did no harm to
TOGETHER: Final = timedelta(days=1)  # between the harm of two servers that have one cause


class Brakes:
    """The brakes in one ledger.  Blocking; every method raises LedgerError."""

    def __init__(self, store: Store, now: Callable[[], datetime], writer: str) -> None:
        self._store: Final = store
        self._now: Final = now
        self._writer: Final = writer

    def held(self) -> list[HeldBrake]:
        """Return the brakes that hold, those over whole versions first."""
        found = [brake for row in self._rows() for brake in _held(row)]
        return sorted(found, key=lambda one: one.harmed is not None)

    def engage(self, version: str, harmed: Identity, why: str) -> bool:
        """
        Stop all writes to a server, and to all of *version* where that one is to blame.

        Returns whether it is.  What holds already keeps its first reason.
        """
        brake = Brake(version, harmed.name, why, stamp(self._now()), self._writer)
        row = self._change(version, lambda row: _engaged(row, harmed, brake))
        return row.whole is not None and row.whole.released is None

    def prove(self, version: str, server: Identity) -> None:
        """Note that a write to a server of *version* did no harm; nothing once that is known."""
        self._change(version, lambda row: _proven(row, server))

    def release(self, chosen: list[HeldBrake], because: str) -> None:
        released = (because, stamp(self._now()), self._writer)
        for version in {one.brake.version for one in chosen}:
            self._change(version, lambda row: _released(row, chosen, released))

    def _rows(self) -> Iterator[VersionRow]:
        for key, stored in self._store.rows(BRAKES).items():
            yield read_version(key, stored.text)

    def _change(self, version: str, change: Callable[[VersionRow], VersionRow]) -> VersionRow:
        key, row = brake_key(version), VersionRow(version)

        def changed(text: str | None) -> str:
            nonlocal row
            known = VersionRow(version) if text is None else read_version(key, text)
            row = change(known)
            return text if text is not None and row == known else write(row)

        update(self._store, key, changed)
        return row


def _held(row: VersionRow) -> Iterator[HeldBrake]:
    if row.whole is not None and row.whole.released is None:
        yield HeldBrake(row.whole)
    for one in row.harmed:
        if one.brake.released is None:
            yield HeldBrake(one.brake, one.identity)


def _engaged(row: VersionRow, harmed: Identity, brake: Brake) -> VersionRow:
    others = [one for one in row.harmed if not _same(one.identity, harmed)]
    known = next((one for one in row.harmed if _same(one.identity, harmed)), None)
    if known is None or known.brake.released is not None:
        known = HarmedServer(harmed, brake)
    lately = [one for one in others if _together(one.brake, brake)]
    well = tuple(one for one in row.well if not _same(one, harmed))
    whole = row.whole
    if (whole is None or whole.released is not None) and (lately or len(well) < OTHERS):
        whole = brake
    kept = [one for one in others if one in lately or one.brake.released is None]
    return replace(row, well=well, harmed=(*kept, known), whole=whole)


def _proven(row: VersionRow, server: Identity) -> VersionRow:
    # One more than are needed: of three, two are others whichever is harmed.
    if len(row.well) > OTHERS or any(_same(one, server) for one in row.well):
        return row
    return replace(row, well=(*row.well, server))


def _released(
    row: VersionRow, chosen: list[HeldBrake], released: tuple[str, str, str]
) -> VersionRow:
    def let_go(brake: Brake) -> Brake:
        engaged = any(one.brake == brake for one in chosen)
        return replace(brake, released=released) if engaged else brake

    harmed = tuple(replace(one, brake=let_go(one.brake)) for one in row.harmed)
    # Over the whole version only where that was chosen: it may be equal to that of a server.
    whole = row.whole
    if whole is not None and any(one.harmed is None for one in chosen):
        whole = let_go(whole)
    return replace(row, harmed=harmed, whole=whole)


def _same(one: Identity, other: Identity) -> bool:
    """Whether two are one process: several accounts at one address are stopped together."""
    return one.uid == other.uid or one.target.url == other.target.url


def _together(one: Brake, other: Brake) -> bool:
    # Two machines' clocks wrote them: either may be the earlier one.
    try:
        apart = datetime.fromisoformat(one.at) - datetime.fromisoformat(other.at)
    except (ValueError, TypeError):  # no moment, or one without a zone: nobody can tell
        return True
    return abs(apart) < TOGETHER
