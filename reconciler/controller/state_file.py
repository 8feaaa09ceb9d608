"""
The controller's own state file: due times, backoff, corrections, and what people were told.

Not the ledger: nothing here decides whether something was done.  Lost or broken, the controller
begins anew: it looks at every server and may tell people once more what they know.
"""

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from reconciler.controller.requeue import Corrections, QueueState
from reconciler.errors import JtrError

FORMAT: Final = 1
LIMIT: Final = 32 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class State:
    """What the file holds: timings by server, and what the notifier told."""

    servers: Mapping[str, QueueState] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)


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
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            trial = self._path.with_name(f".{self._path.name}.{os.getpid()}.trial")
            _write(trial, b"")
            trial.unlink()
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            return _read(self._path), ""
        except FileNotFoundError:
            return State(), ""
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return State(), (
                f"the state file {self._path} cannot be read and begins anew; nothing is lost but "
                "due times and what people were told"
            )

    def save(self, state: State) -> None:
        """Write it all.  Raises JtrError."""
        document = {
            "formatVersion": FORMAT,
            "servers": {name: _document(timing) for name, timing in sorted(state.servers.items())},
            "told": dict(state.told),
        }
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            _write(temporary, json.dumps(document, separators=(",", ":")).encode())
            temporary.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> JtrError:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        return JtrError(
            f"the controller cannot write its state file {self._path}: {why}",
            "make its directory writable for this user, or name another file in controller.state",
        )


def _write(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    try:
        os.fchmod(handle, 0o600)
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> State:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise ValueError
    document = json.loads(data)
    if document["formatVersion"] != FORMAT or not isinstance(document["told"], dict):
        raise ValueError
    servers = {str(name): _timing(row) for name, row in document["servers"].items()}
    return State(servers, document["told"])


def _document(timing: QueueState) -> dict[str, Any]:
    return asdict(timing) | {"healing": {code: asdict(one) for code, one in timing.healing}}


def _timing(row: Mapping[str, Any]) -> QueueState:
    healing = {
        str(code): Corrections(int(one["count"]), float(one["corrected"]), float(one["drifted"]))
        for code, one in row["healing"].items()
    }
    return QueueState(
        float(row["due"]),
        int(row["failures"]),
        str(row["revision"]),
        tuple(sorted(healing.items())),
        tuple(int(number) for number in row["stopped"]),
    )
