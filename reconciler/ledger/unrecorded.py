"""
What became of a one-shot when the ledger could not take it: a file, picked up by the next run.

The ledger holds the intent, so nothing is sent twice in any case; without this file a person would
have to find out what this process already knew.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from reconciler.ledger import request_state
from reconciler.ledger.codec.requests import read_request, request_body
from reconciler.ledger.codec.strict import Fields, Malformed, parsed
from reconciler.ledger.ledger import Ledger
from reconciler.model.recorded import Recorded, Request

FORMAT: Final = 1
_LONGEST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Left:
    """One file: the ledger and server that it is about, and the request as it should be closed."""

    path: Path
    ledger: str
    server: str
    request: Request


@dataclass(frozen=True, slots=True)
class UnrecordedOutcomes:
    """The folder where such files lie; made when one is needed."""

    folder: Path

    def leave(self, ledger_uid: str, uid: str, request: Request) -> Path:
        """Write one, 0600, and return where.  Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        nonce = request.attempts[-1].nonce if request.attempts else "none"
        path = self.folder / f"request-{nonce}.json"
        body = {
            "format": FORMAT,
            "ledger": ledger_uid,
            "server": uid,
            "request": request_body(request),
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        handle = os.open(path, flags, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        return path

    def waiting(self, ledger_uid: str, uid: str) -> bool:
        """Whether something was left for this server."""
        return any(True for _ in self._about(ledger_uid, uid))

    def known(self, ledger_uid: str, recorded: Recorded) -> Recorded:
        """Return *remembered* as it would be, had the ledger taken what was left for it."""
        if recorded.identity is None:
            return recorded
        requests = recorded.requests
        for left in self._about(ledger_uid, recorded.identity.uid):
            if _fits(left, requests.open):
                requests = request_state.closed(requests, left.request)
        return replace(recorded, requests=requests)

    def pick_up(self, ledger: Ledger, uid: str) -> None:
        """
        Write into the ledger what was left for a server, and remove the files.

        Raises LedgerError.  Load the requests before; hold the server's lease.
        """
        for left in self._about(ledger.ledger_uid, uid):
            book = ledger.requests(uid)
            if _fits(left, book.load().open):
                book.close(left.request)
            left.path.unlink(missing_ok=True)

    def _about(self, ledger_uid: str, uid: str) -> Iterator[Left]:
        try:
            paths = sorted(self.folder.glob("request-*.json"))
        except OSError:
            return
        for path in paths:
            left = _read(path)
            if left is not None and (left.ledger, left.server) == (ledger_uid, uid):
                yield left


def _fits(left: Left, request: Request | None) -> bool:
    """Whether the file is about the attempt that is open."""
    if request is None or not request.attempts or not left.request.attempts:
        return False
    return request.attempts[-1].nonce == left.request.attempts[-1].nonce


def _read(path: Path) -> Left | None:
    """Read one file; one that is not ours, or not whole, is left alone: the intent still stands."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, encoding="ascii") as file:
            if os.fstat(handle).st_uid != os.geteuid():
                return None
            fields = Fields(parsed(file.read(_LONGEST)), "emergency")
        fields.must("format", FORMAT)
        ledger, server = fields.text("ledger"), fields.text("server")
        request = read_request(fields.take("request"), "request")
        fields.end()
    except (OSError, UnicodeError, Malformed):
        return None
    return Left(path, ledger, server, request)
