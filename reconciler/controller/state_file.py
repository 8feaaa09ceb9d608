"""
The controller's own state file: due times, backoff, corrections, and what people were told.

Not the ledger: nothing here decides whether something was done.  Lost or broken, the controller
begins anew: it looks at every server and may tell people once more what they know.

Servers go by their targets.  In format 1 they went by name, and names move: what such a file says
is of the servers that the first documents after it call so.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from reconciler.controller.requeue import QueueState
from reconciler.errors import JtrError
from reconciler.model.codec import Codec, Later, Malformed, newer, parsed
from reconciler.model.target import Target
from reconciler.system.files import (
    draft,
    make_private_directory,
    read_regular,
    reason,
    set_aside,
)

FORMAT: Final = 2
LIMIT: Final = 32 * 2**20  # bytes


def _target(text: str) -> Target:
    account, _, url = text.partition(" ")
    return Target(url, account)


CODEC: Final = Codec(more={Target: (lambda one: f"{one.account} {one.url}", _target)})


class State(Struct, frozen=True):
    """
    What the file holds: timings by server, and what the notifier told.

    `named` are timings of a file of format 1, as long as no documents say whose they are.
    """

    servers: Mapping[Target, QueueState] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    named: Later[Mapping[str, QueueState]] = field(default_factory=dict)


class _ByName(Struct, frozen=True):
    """What a file of format 1 holds."""

    servers: Mapping[str, QueueState]
    told: Mapping[str, Any]


class StateFile:
    """One file, written whole and atomically, readable by its owner alone.  Blocking."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path

    def open(self) -> tuple[State, str]:
        """
        Return what is remembered, and what was wrong with it.

        Raises JtrError when the file could not be written later: better to know now.
        """
        try:
            make_private_directory(self._path.parent)
            with draft(self._path, b""):
                pass
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            document = parsed(read_regular(self._path, LIMIT))
            if (number := newer(document, "formatVersion", FORMAT)) is not None:
                return State(), self._of_newer(number)
            return _read(document), ""
        except FileNotFoundError:
            return State(), ""
        except (OSError, Malformed):
            return State(), (
                f"the state file {self._path} cannot be read and begins anew; nothing is lost but "
                "due times and what people were told"
            )

    def save(self, state: State) -> None:
        text = json.dumps(CODEC.write(state, formatVersion=FORMAT), separators=(",", ":"))
        try:
            with draft(self._path, text.encode()) as made:
                made.replace(self._path)
        except OSError as error:
            raise self._unwritable(error) from None

    def _of_newer(self, number: int) -> str:
        """Keep a newer jtr's file for when that comes back; say what is not known until then."""
        kept = set_aside(self._path, number)
        where = f"is kept as {kept}" if kept else "will be written over"
        return (
            f"the state file {self._path} was written by a newer jtr (format {number}, this one"
            f" knows {FORMAT}): it {where}, and begins anew; nothing is lost but due times and what"
            " people were told"
        )

    def _unwritable(self, error: OSError) -> JtrError:
        return JtrError(
            f"the controller cannot write its state file {self._path}: {reason(error)}",
            "make its directory writable for this user, or name another file in controller.state",
        )


def _read(document: object) -> State:
    """Return what a document says.  Raises Malformed."""
    if isinstance(document, dict) and document.get("formatVersion") == 1:
        old = CODEC.read(_ByName, document, "it", formatVersion=1)
        return State({}, old.told, old.servers)
    return CODEC.read(State, document, "it", formatVersion=FORMAT)
