"""
What this host remembers of its ledgers, apart from them: whether one was restored or copied.

A ledger that was restored from yesterday has forgotten what was done today; of two copies each
would do what the other one did.  So beside the fingerprint key, never beside the ledger, lies one
small file for each ledger: the highest sequence that was seen and, for SQLite, which file it was.
A ledger that does not fit is *suspect*, and stays so until a person accepts it, because it soon
grows past what it forgot.

The number of the device is left out on purpose: many systems count devices anew at every start.
"""

import contextlib
import fcntl
import json
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from reconciler.documents.files import shown
from reconciler.errors import LedgerError
from reconciler.ledger import Put, Store, Stored
from reconciler.ledger.codec.records import CODEC
from reconciler.model.codec import Malformed, parsed
from reconciler.system.files import (
    NotPrivate,
    NotRegular,
    make_private_directory,
    read_private,
    reason,
    write_atomically,
)

_FORMAT: Final = 1
_UID: Final = re.compile(r"[0-9a-f]{32}")
_FILE_LIMIT: Final = 65536
_REQUESTS: Final = "/requests"  # how `reconciler.ledger.codec.rows.requests_key` ends


class Place(Struct, frozen=True):
    """The file of a SQLite ledger: its path without symlinks, and the number of its inode."""

    path: str
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look at the file of an open ledger.  Raises LedgerError when it is gone."""
        try:
            real = path.expanduser().resolve(strict=True)
            return cls(str(real), real.stat().st_ino)
        except OSError as error:
            raise LedgerError(
                f"the ledger {path} vanished while it was in use ({reason(error)})",
                "find out who removed it before anything else is done",
            ) from None


class _Mark(Struct, frozen=True):
    sequence: int
    place: Place | None
    suspect: str = ""


class RollbackGuard:
    """
    The marks of this host in *folder*, which is made when it is needed.

    Several processes may use it at once.  `place` is None for a ledger that is not a file here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def check(
        self,
        ledger_uid: str,
        count: Callable[[], int],
        place: Place | None,
        *,
        born_now: bool,
        keep: bool = True,
    ) -> str:
        """
        Return why this ledger may not know all that was done; empty when it fits what was seen.

        *count* returns the ledger's sequence, and what it raises is raised.  It is called after the
        mark was read: while we count another process may raise the mark, and a sound ledger would
        look older than that.

        With *keep* that is remembered, and so is a ledger that was begun just now (*born_now*).
        What cannot be read or remembered here is a reason, too, and no failure.
        """
        mark: _Mark | None = None
        unread: LedgerError | None = None
        suspect = ""
        try:
            mark = self._read(ledger_uid)
        except LedgerError as error:
            unread = error
        sequence = count()
        try:
            if unread is not None:
                raise unread
            suspect = "" if born_now and mark is None else _suspicion(mark, sequence, place)
            if keep:
                self._raise(ledger_uid, _Mark(sequence, place, suspect))
        except LedgerError as error:
            if mark is None and place is None and not self._present(ledger_uid):
                return ""  # a read-only container: it never saw this ledger, and forgets it again
            return suspect or f"what this host knows of the ledger cannot be used: {error.what}"
        return suspect

    def note(self, ledger_uid: str, sequence: int, place: Place | None) -> None:
        """
        Remember that the ledger has come as far as *sequence*; what is suspect stays suspect.

        Raises LedgerError when it cannot be remembered.
        """
        self._raise(ledger_uid, _Mark(sequence, place))

    def accept(self, ledger_uid: str, sequence: int, place: Place | None) -> None:
        """
        Take the ledger as it is from now on.

        Raises LedgerError when that cannot be remembered.
        """
        with self._alone():
            self._write(ledger_uid, _Mark(sequence, place))

    # ── the file ─────────────────────────────────────────────────────────────────────────────

    def _raise(self, uid: str, new: _Mark) -> None:
        with self._alone():
            old = self._read(uid)
            if old is None:
                self._write(uid, new)
                return
            mark = _Mark(
                max(old.sequence, new.sequence), old.place or new.place, old.suspect or new.suspect
            )
            if mark != old:
                self._write(uid, mark)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            make_private_directory(self._folder)
            handle = os.open(
                self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except OSError as error:
            raise _unusable(self._folder, error) from None
        try:
            self._private()
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _private(self) -> bool:
        """Whether there is a folder; LedgerError unless only we (and root) can write to it."""
        try:
            facts = self._folder.lstat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unusable(self._folder, error) from None
        ours = facts.st_uid in {0, os.geteuid()} and not facts.st_mode & 0o022
        if not (stat.S_ISDIR(facts.st_mode) and ours):
            raise LedgerError(
                f"{self._folder} can be changed by others, or is no directory of its own",
                f"chown it to this user and: chmod go-w {self._folder}",
            )
        return True

    def _present(self, uid: str) -> bool:
        """Whether something lies where the mark would, whatever it is."""
        try:
            self._file(uid).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, LedgerError):
            return True
        return True

    def _file(self, uid: str) -> Path:
        # The uid comes out of the ledger and becomes a part of a file's name.
        if not _UID.fullmatch(uid):
            raise LedgerError("the ledger's own name is not one that jtr gives", "is it a forgery?")
        return self._folder / f"{uid}.json"

    def _read(self, uid: str) -> _Mark | None:
        file = self._file(uid)
        if not self._private():
            return None
        try:
            document = parsed(read_private(file, _FILE_LIMIT, one_name=True))
            return CODEC.read(_Mark, document, "it", format=_FORMAT, ledger=uid)
        except FileNotFoundError:
            return None
        except NotRegular:
            raise LedgerError(f"{file} is not a file of its own", "move it away") from None
        except NotPrivate:
            raise LedgerError(
                f"{file} can be opened by others, or is not ours", f"chmod 600 {file}"
            ) from None
        except OSError as error:
            raise _unusable(file, error) from None
        except Malformed:
            raise LedgerError(
                f"{file} is damaged", "jtr ledger accept-restore makes it anew"
            ) from None

    def _write(self, uid: str, mark: _Mark) -> None:
        """Put the file there whole; only called by one process at a time."""
        file = self._file(uid)
        body = CODEC.write(mark, format=_FORMAT, ledger=uid)
        try:
            write_atomically(file, json.dumps(body).encode() + b"\n")
        except OSError as error:
            raise _unusable(file, error) from None


class GuardedStore:
    """
    A store that tells how far it has come whenever requests changed, before anything is sent.

    Without this a process that dies after a reboot leaves a mark from before it, and a backup from
    just before would pass for the ledger itself.
    """

    def __init__(self, store: Store) -> None:
        self._store: Final = store
        self._lock: Final = threading.Lock()
        self._writes = 0
        self._reached: Callable[[int], None] | None = None

    def tell(self, sequence: int, reached: Callable[[int], None]) -> None:
        """
        Call *reached* with the sequence after every change of requests; it is *sequence* now.

        What *reached* raises leaves the writing `put`.
        """
        with self._lock:
            self._writes = sequence
        self._reached = reached

    @property
    def least(self) -> int:
        """How far the store has come at least: writes of other processes are not counted."""
        with self._lock:
            return self._writes

    @property
    def created(self) -> bool:
        return self._store.created

    @property
    def at_hand(self) -> bool:
        return self._store.at_hand

    def get(self, key: str) -> Stored | None:
        return self._store.get(key)

    def put(self, key: str, text: str, *, expect: int) -> int:
        revision = self._store.put(key, text, expect=expect)
        self._wrote(key)
        return revision

    def put_all(self, puts: Sequence[Put]) -> None:
        self._store.put_all(puts)
        self._wrote(*(one.key for one in puts))

    def _wrote(self, *keys: str) -> None:
        with self._lock:
            self._writes += len(keys)
        if self._reached is not None and any(key.endswith(_REQUESTS) for key in keys):
            self._reached(self.least)

    def keys(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def rows(self, prefix: str) -> dict[str, Stored]:
        return self._store.rows(prefix)

    def sequence(self) -> int:
        return self._store.sequence()

    def close(self) -> None:
        self._store.close()


def _suspicion(mark: _Mark | None, sequence: int, place: Place | None) -> str:
    if mark is None:
        # A runner of CI is a new host every time; the ledger in Vault is the same one.
        return "this host never saw this ledger: it may be a copy" if place is not None else ""
    if mark.suspect:
        return shown(mark.suspect)
    if sequence < mark.sequence:
        return (
            "this ledger is older than the one this host saw last "
            f"(sequence {mark.sequence}, now {sequence}): it was restored"
        )
    if place != mark.place:
        return "the ledger's file was replaced or moved: there may be another copy of it"
    return ""


def _unusable(path: Path, error: OSError) -> LedgerError:
    return LedgerError(
        f"{path} cannot be used ({reason(error)})", "make its directory by hand, with mode 0700"
    )
