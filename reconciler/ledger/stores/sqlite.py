"""
The ledger's store in one SQLite file, for a single machine with a disk of its own.

A write is on the disk when `put` returns: write-ahead log with `synchronous=FULL`, which is set and
read back.  SQLite creates files that others may read, follows links and happily works on network
file systems, so all of that is checked beforehand (`reconciler.ledger.stores.file_checks`).
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from reconciler.errors import LedgerError, LedgerMissing
from reconciler.ledger import Conflict, Put, Stored, checked
from reconciler.ledger.stores.file_checks import (
    check_directory,
    check_file,
    prepare_directory,
)
from reconciler.system.files import sync_directory
from reconciler.system.timeouts import Timeouts

SCHEME: Final = "sqlite"
APPLICATION_ID: Final = 0x6A747231  # "jtr1" in the file's header
USER_VERSION: Final = 1
_FULL: Final = 2
_SMALLEST: Final = 512  # SQLite takes a file below its header's size for a new database
_SCHEMA: Final = (
    "CREATE TABLE documents ("
    " key TEXT PRIMARY KEY,"
    " revision INTEGER NOT NULL CHECK (typeof(revision) = 'integer' AND revision > 0),"
    " text TEXT NOT NULL CHECK (typeof(text) = 'text')"
    ") WITHOUT ROWID"
)
_KEYS: Final = "SELECT key FROM documents WHERE key >= ? AND key < ? ORDER BY key"
_ROWS: Final = "SELECT key, revision, text FROM documents WHERE key >= ? AND key < ? ORDER BY key"
_BUSY: Final = Timeouts().ledger_busy


class SqliteStore:
    """
    Keeps documents in a SQLite file; see `Store` for the contract.

    One connection, guarded by a lock, serves all threads of the process.  A child of `fork` must
    open its own.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, created: bool) -> None:
        """Use `open` or `create`."""
        self._path: Final = path
        self._inode: Final = _inode(path)
        self._connection: sqlite3.Connection | None = connection
        self._created: Final = created
        self._lock: Final = threading.Lock()
        self._pid: Final = os.getpid()
        self._broken = False

    @classmethod
    def open(cls, path: Path, *, busy: float = _BUSY) -> Self:
        """
        Open an existing ledger; *busy* is how many seconds to wait for another process.

        Raises LedgerMissing when there is none, and LedgerError when the file is not a sound
        ledger that is ours alone; it is then left as it is.
        """
        real = _resolved(path)
        if real is None or not _present(real):
            raise LedgerMissing(f"there is no ledger at {path}", "make one with: jtr ledger init")
        return cls(real, _connected(real, busy), created=False)

    @classmethod
    def create(cls, path: Path, *, busy: float = _BUSY) -> Self:
        """
        Make a ledger and open it.

        The file appears whole or not at all.  One that holds no document yet, left by a process
        that died in between, is used; any other file is a LedgerError and left as it is.
        """
        directory = prepare_directory(path.parent)
        real = directory / path.name
        with _only_maker(directory):
            if not _present(real):
                _refuse_leftovers(real)
                _make(real, busy)
        store = cls(real, _connected(real, busy), created=True)
        if store.sequence():
            store.close()
            raise LedgerError(f"there already is a ledger at {path}", "use it, or name another")
        return store

    @property
    def created(self) -> bool:
        return self._created

    @property
    def at_hand(self) -> bool:
        return not self._lock.locked()

    def get(self, key: str) -> Stored | None:
        checked(key)
        with self._using() as connection:
            row = _selected(connection, key)
        return Stored(*row) if row else None

    def put(self, key: str, text: str, *, expect: int) -> int:
        self.put_all((Put(key, text, expect),))
        return expect + 1

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:
            checked(one.key)
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._check_place()
            for one in puts:
                row = _selected(connection, one.key)
                if (row[0] if row else 0) != one.expect:
                    raise Conflict(f"{one.key} changed in the ledger meanwhile", "try again")
                connection.execute(
                    "INSERT INTO documents (key, revision, text) VALUES (?, ?, ?)"
                    " ON CONFLICT (key) DO UPDATE"
                    " SET revision = excluded.revision, text = excluded.text",
                    (one.key, one.expect + 1, one.text),
                )
            connection.execute("COMMIT")

    def _check_place(self) -> None:
        """Raise LedgerError when another file, or none, took the place of the one that is open."""
        with suppress(OSError):
            if _inode(self._path) == self._inode:
                return
        self._broken = True
        raise LedgerError(
            f"the ledger {self._path} was moved away or replaced while it was in use",
            "what was to be noted is not; find out who did it, then start the command again",
        )

    def keys(self, prefix: str) -> list[str]:
        with self._using() as connection:
            found = connection.execute(_KEYS, _below(prefix)).fetchall()
        return [key for (key,) in found]

    def rows(self, prefix: str) -> dict[str, Stored]:
        with self._using() as connection:
            found = connection.execute(_ROWS, _below(prefix)).fetchall()
        return {key: Stored(revision, text) for key, revision, text in found}

    def sequence(self) -> int:
        with self._using() as connection:
            (total,) = connection.execute(
                "SELECT coalesce(sum(revision), 0) FROM documents"
            ).fetchone()
        return int(total)

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None and os.getpid() == self._pid:
                with _explained(self._path):
                    connection.close()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._connection
            if connection is None or self._broken:
                raise LedgerError(
                    f"the ledger {self._path} is closed after an error"
                    if self._broken
                    else f"the ledger {self._path} is closed",
                    "start the command again",
                )
            if os.getpid() != self._pid:
                raise LedgerError("the ledger was opened by a parent process", "open it again")
            try:
                yield connection
            except _TROUBLE as error:
                # After a failed fsync the kernel may have dropped what it could not write and
                # report success the next time (PostgreSQL's lesson): this handle is done.
                self._broken = _code(error) in _HOPELESS
                raise _explanation(self._path, error) from error
            finally:
                self._roll_back(connection)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                self._broken = True


def open_at(path: str, *, create: bool, timeouts: Timeouts, **_: object) -> SqliteStore:
    opener = SqliteStore.create if create else SqliteStore.open
    return opener(Path(path).expanduser(), busy=timeouts.ledger_busy)


def _inode(path: Path) -> tuple[int, int]:
    facts = path.lstat()
    return facts.st_dev, facts.st_ino


def _resolved(path: Path) -> Path | None:
    """Return *path* with its directory's links followed, but not its own; None without one."""
    try:
        directory = path.parent.resolve(strict=True)
    except FileNotFoundError:
        return None
    except OSError:
        raise LedgerError(
            f"the ledger's directory {path.parent} cannot be entered",
            "check its rights and those above it",
        ) from None
    check_directory(directory)
    return directory / path.name


def _present(real: Path) -> bool:
    """Whether there is a file, after checking it and the files that SQLite puts beside it."""
    for beside in _beside(real):
        check_file(beside)
    return check_file(real)


def _beside(real: Path) -> list[Path]:
    return [real.with_name(real.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _refuse_leftovers(real: Path) -> None:
    """Refuse to make a file beside the log of another one, which SQLite would take for its own."""
    if left := [beside.name for beside in _beside(real) if beside.exists()]:
        raise LedgerError(
            f"in {real.parent} lies what belongs to a ledger that is not there: {', '.join(left)}",
            "move it to where that ledger is now: neither is whole without the other",
        )


@contextmanager
def _only_maker(directory: Path) -> Iterator[None]:
    """Let one process at a time make a ledger in *directory*."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise LedgerError(
            f"the ledger's directory {directory} cannot be entered", "check its rights"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(real: Path, busy: float) -> None:
    """
    Build the file under another name and rename it when it is whole and on the disk.

    Only called by the one maker, so the rename cannot cover another one's ledger.
    """
    draft = real.with_name(f".{real.name}.new")
    try:
        for suffix in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR, 0o600)
        try:
            os.fchmod(handle, 0o600)  # an umask can take away too much as well
        finally:
            os.close(handle)
        with _explained(real), closing(_raw(draft, "rw", busy)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {USER_VERSION}")
            connection.execute("COMMIT")
        draft.rename(real)
        sync_directory(real.parent)
    except OSError as error:
        raise LedgerError(
            f"no ledger can be made at {real} ({os.strerror(error.errno or 0)})",
            "check the rights of its directory and the space on its disk",
        ) from None


def _raw(path: Path, mode: str, busy: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=busy,
        isolation_level=None,  # we say BEGIN ourselves
        check_same_thread=False,  # the store's lock guards it
    )


def _connected(real: Path, busy: float) -> sqlite3.Connection:
    """Open a ledger after making sure, without changing it, that it is one."""
    with _explained(real):
        if real.stat().st_size < _SMALLEST:
            raise LedgerError(
                f"the ledger {real} is empty or cut off",
                "restore it from a backup; if it never was one, remove it and: jtr ledger init",
            )
        # Through SQLite, not by reading the file: closing a handle of our own would drop the
        # locks that another connection of this process holds on it (POSIX).  `immutable` leaves
        # nothing beside a file that is not ours; `ro` writes nothing back into a damaged one.
        with closing(_raw(real, "ro&immutable=1", 0)) as connection:
            _check_versions_apart(real, connection)
        with closing(_raw(real, "ro", busy)) as connection:
            _check_versions(real, connection)
            if _pragma(connection, "quick_check") != "ok":
                raise _damaged(real)
            connection.execute("SELECT key, revision, text FROM documents LIMIT 1").fetchone()
        connection = _raw(real, "rw", busy)
        try:
            _check_promises(real, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _check_versions_apart(real: Path, connection: sqlite3.Connection) -> None:
    """Look at the file without its log."""
    try:
        _check_versions(real, connection)
    except _TROUBLE as error:
        # A crash or a full disk while the log was copied back leaves a file that is whole only
        # together with its log; the next look takes both.
        if isinstance(error, sqlite3.Error) and _code(error) != sqlite3.SQLITE_CORRUPT:
            raise


def _check_versions(real: Path, connection: sqlite3.Connection) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise LedgerError(f"{real} is a SQLite file, but not a ledger of jtr", "name another file")
    version = _pragma(connection, "user_version")
    if version != USER_VERSION:
        raise LedgerError(
            f"the ledger {real} has version {version}, this jtr knows {USER_VERSION}",
            "use the newest jtr that wrote there",
        )


def _check_promises(real: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    facts = (_pragma(connection, "journal_mode"), _pragma(connection, "synchronous"))
    if facts != ("wal", _FULL):
        raise LedgerError(
            f"SQLite does not promise to keep what is written to {real}",
            f"if somebody changed its mode: sqlite3 {real} 'PRAGMA journal_mode=WAL'",
        )


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _selected(connection: sqlite3.Connection, key: str) -> tuple[int, str] | None:
    row = connection.execute(
        "SELECT revision, text FROM documents WHERE key = ?", (key,)
    ).fetchone()
    return (row[0], row[1]) if row else None


def _below(prefix: str) -> tuple[str, str]:
    # "0" follows "/" in ASCII, so this is the range of all keys below the prefix.
    return prefix, prefix[:-1] + "0" if prefix else "\x7f"


# Of a damaged schema SQLite's message holds pieces, which Python's module cannot decode.
_TROUBLE: Final = (sqlite3.Error, UnicodeDecodeError)


def _code(error: Exception) -> int:
    """Return SQLite's primary result code; 0 when the error came from Python's module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


_HOPELESS: Final = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM}
)
_MEANINGS: Final = {
    sqlite3.SQLITE_BUSY: ("is locked by another process", "wait until that one has finished"),
    sqlite3.SQLITE_LOCKED: ("is locked by another process", "wait until that one has finished"),
    sqlite3.SQLITE_FULL: ("cannot grow: its disk is full", "make room on that disk"),
    sqlite3.SQLITE_READONLY: (
        "is read-only",
        "make the file, its directory and its disk writable for this user",
    ),
    sqlite3.SQLITE_IOERR: (
        "could not be read or written: its disk reports an error",
        "check the disk, its space and this process's file size limit, then start again",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "check the rights of the file and its directory, and the limit of open files",
    ),
    sqlite3.SQLITE_NOMEM: ("needs more memory than there is", "start again with more memory"),
}


def _explanation(real: Path, error: Exception) -> LedgerError:
    """Say in our words what SQLite reported; its own text is not shown."""
    code = _code(error)
    # No code at all: a text that is none, the one thing that is decoded outside of SQLite.
    if code in (0, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(real)
    what, remedy = _MEANINGS.get(
        code, (f"cannot be used (SQLite's code {code})", "is it a ledger of jtr at all?")
    )
    return LedgerError(f"the ledger {real} {what}", remedy)


def _damaged(real: Path) -> LedgerError:
    return LedgerError(
        f"{real} is damaged or no ledger at all; nothing in it was changed",
        "restore it from a backup; do not delete it as long as servers depend on it",
    )


@contextmanager
def _explained(real: Path) -> Iterator[None]:
    try:
        yield
    except _TROUBLE as error:
        raise _explanation(real, error) from error
