"""
What became of a one-shot when the ledger could not take it: a file, picked up by the next run.

The ledger holds the intent, so nothing is sent twice in any case; without this file a person would
have to find out what this process already knew.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.ledger import request_state
from reconciler.ledger.codec.records import CODEC
from reconciler.ledger.ledger import Ledger
from reconciler.model.codec import Malformed, parsed
from reconciler.model.recorded import Recorded, Request
from reconciler.model.values import replace
from reconciler.system.files import make_private_directory, read_private, write_atomically

FORMAT: Final = 1
_LONGEST: Final = 1_000_000


class Left(Struct, frozen=True):
    """One file: the ledger and server that it is about, and the request as it should be closed."""

    ledger: str
    server: str
    request: Request


class UnrecordedOutcomes(Struct, frozen=True):
    """The folder where such files lie; made when one is needed."""

    folder: Path

    def leave(self, ledger_uid: str, uid: str, request: Request) -> Path:
        make_private_directory(self.folder)
        nonce = request.attempts[-1].nonce if request.attempts else "none"
        path = self.folder / f"request-{nonce}.json"
        body = CODEC.write(Left(ledger_uid, uid, request), format=FORMAT)
        write_atomically(path, json.dumps(body).encode())
        return path

    def waiting(self, ledger_uid: str, uid: str) -> bool:
        return any(True for _ in self._about(ledger_uid, uid))

    def known(self, ledger_uid: str, recorded: Recorded) -> Recorded:
        """Return *recorded* as it would be, had the ledger taken what was left for it."""
        if recorded.identity is None:
            return recorded
        requests = recorded.requests
        for _, left in self._about(ledger_uid, recorded.identity.uid):
            if _fits(left, requests.open):
                requests = request_state.closed(requests, left.request)
        return replace(recorded, requests=requests)

    def pick_up(self, ledger: Ledger, uid: str) -> None:
        """
        Write into the ledger what was left for a server, and remove the files.

        Raises LedgerError.  Load the requests before; hold the server's lease.
        """
        for path, left in self._about(ledger.ledger_uid, uid):
            book = ledger.requests(uid)
            if _fits(left, book.load().open):
                book.close(left.request)
            path.unlink(missing_ok=True)

    def _about(self, ledger_uid: str, uid: str) -> Iterator[tuple[Path, Left]]:
        try:
            paths = sorted(self.folder.glob("request-*.json"))
        except OSError:
            return
        for path in paths:
            left = _read(path)
            if left is not None and (left.ledger, left.server) == (ledger_uid, uid):
                yield path, left


def _fits(left: Left, request: Request | None) -> bool:
    """Whether the file is about the attempt that is open."""
    if request is None or not request.attempts or not left.request.attempts:
        return False
    return request.attempts[-1].nonce == left.request.attempts[-1].nonce


def _read(path: Path) -> Left | None:
    """Read one file; one that is not ours, or not whole, is left alone: the intent still stands."""
    try:
        return CODEC.read(Left, parsed(read_private(path, _LONGEST)), "it", format=FORMAT)
    except (OSError, Malformed):
        return None
