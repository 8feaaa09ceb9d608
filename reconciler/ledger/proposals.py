"""
The plans that reviewers were shown: one document, bounded, changed by compare-and-set.

Whoever may only plan may write this document and no other (deploy/vault/team-plan.hcl).
"""

from collections.abc import Callable, Iterable
from typing import Final

from reconciler.ledger import Store
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import PROPOSALS, ProposalsRow
from reconciler.ledger.compare_and_set import update
from reconciler.model.proposals import Proposal, begun, noted, settled

ROOM: Final = 256 * 1024  # characters; a store's document may have some four times as many


class Proposals:
    """Blocking; every method raises LedgerError."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def all(self) -> tuple[Proposal, ...]:
        """Return what is remembered, the newest last."""
        stored = self._store.get(PROPOSALS)
        return _read(stored.text if stored else None)

    def note(self, proposal: Proposal) -> None:
        """Remember what was shown; an older word of the same pull request is forgotten."""
        self._change(lambda known: noted(known, proposal))

    def begin(self, found: Iterable[Proposal], commit: str) -> None:
        """Remember that *commit*, in which these were *found* merged, is about to be applied."""
        these = tuple(found)
        self._change(lambda known: begun(known, these, commit))

    def settle(self, done: Iterable[Proposal]) -> None:
        """Remember that these were applied."""
        found = tuple(done)
        self._change(lambda known: settled(known, found))

    def _change(self, change: Callable[[tuple[Proposal, ...]], tuple[Proposal, ...]]) -> None:
        def text(before: str | None) -> str:
            kept = change(_read(before))
            while len(fitting := write(ProposalsRow(kept))) > ROOM and len(kept) > 1:
                kept = kept[1:]
            return fitting

        update(self._store, PROPOSALS, text)


def _read(text: str | None) -> tuple[Proposal, ...]:
    return read(ProposalsRow, PROPOSALS, text).proposals if text is not None else ()
