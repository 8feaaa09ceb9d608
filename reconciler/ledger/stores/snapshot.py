"""A ledger's store that holds what another process read, and takes nothing."""

from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from reconciler.errors import LedgerError
from reconciler.ledger import Put, Stored, checked


class SnapshotStore:
    """
    Shows documents that were read elsewhere, such as by a running controller.

    Revisions are not known there, so every document has its first one, and nobody may remember
    `sequence` as that of the real ledger.
    """

    created = False
    at_hand = True

    def __init__(self, documents: Mapping[str, str]) -> None:
        """Take *documents* by their keys.  Raises LedgerError for a key that no ledger uses."""
        try:
            self._documents: Final = {checked(key): text for key, text in documents.items()}
        except ValueError:
            raise LedgerError(
                "this is not what a ledger holds", "use the same version of jtr on both ends"
            ) from None

    def get(self, key: str) -> Stored | None:
        text = self._documents.get(checked(key))
        return None if text is None else Stored(1, text)

    def put(self, key: str, text: str, *, expect: int) -> NoReturn:
        """Refuse: what is sent here would be lost."""
        del text, expect
        raise LedgerError(
            f"{checked(key)} cannot be written: this is a copy of the ledger, to be read only",
            "write where the ledger is",
        )

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:
            self.put(one.key, one.text, expect=one.expect)

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self._documents if key.startswith(prefix))

    def rows(self, prefix: str) -> dict[str, Stored]:
        return {key: Stored(1, self._documents[key]) for key in self.keys(prefix)}

    def sequence(self) -> int:
        """Return the sum of all revisions, as far as they are known."""
        return len(self._documents)

    def close(self) -> None:
        """Keep everything: there is nothing to give back."""
