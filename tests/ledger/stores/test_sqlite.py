"""The SQLite file itself: who may open it, what it refuses, what it says when the disk fails."""

import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.errors import Exit, LedgerError, LedgerMissing, UsageError
from reconciler.ledger import Stored
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores import open_store
from reconciler.ledger.stores.file_checks import file_system
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.system.timeouts import Timeouts

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound ledger with one document, closed."""
    path = tmp_path / "state" / "ledger.db"
    store = SqliteStore.create(path)
    store.put("a", "kept", expect=0)
    store.close()
    return path


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(path, busy=0.1)
    yield store
    store.close()


def in_child(work: Callable[[], None]) -> int:
    """Run *work* in a forked child and return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test process may have threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(60)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def refused(path: Path, opener: Callable[..., SqliteStore] = SqliteStore.open) -> str:
    """Return what opening says; it must leave every file beside *path* as it was."""
    before = contents(path.parent)
    with pytest.raises(LedgerError) as caught:
        opener(path, busy=0.1)
    assert contents(path.parent) == before
    assert caught.value.remedy
    return str(caught.value)


def contents(directory: Path) -> dict[str, bytes]:
    """Return what lies there, without the index and the empty log that looking at it makes."""
    found = {
        entry.name: entry.read_bytes()
        for entry in sorted(directory.iterdir())
        if stat.S_ISREG(entry.lstat().st_mode) and not entry.name.endswith("-shm")
    }
    return {name: data for name, data in found.items() if data or not name.endswith("-wal")}


# ── birth ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_files_are_private_under_any_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "new" / "state" / "ledger.db"
    old = os.umask(umask)
    try:
        store = SqliteStore.create(path)
        store.put("a", "{}", expect=0)
    finally:
        os.umask(old)

    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    store.close()
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    SqliteStore.open(path).close()


def test_writes_are_durable_and_the_mode_is_the_one_asked_for(store: SqliteStore) -> None:
    connection = store._connection
    assert connection is not None
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (100,)


def test_opening_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    for path in (tmp_path / "ledger.db", tmp_path / "no" / "where" / "ledger.db"):
        with pytest.raises(LedgerMissing, match="jtr ledger init") as caught:
            SqliteStore.open(path)
        assert caught.value.exit_code is Exit.BLOCKED
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_is_never_made_over_another(path: Path) -> None:
    assert "already is a ledger" in refused(path, SqliteStore.create)
    again = SqliteStore.open(path)
    assert again.get("a") == Stored(1, "kept")
    again.close()


def test_a_birth_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    (tmp_path / ".ledger.db.new").write_bytes(b"half a file of a dead process")
    SqliteStore.create(path).close()  # dies before the ledger writes its birth
    with pytest.raises(LedgerMissing, match="jtr ledger init"):
        begin(SqliteStore.open(path))

    ledger = begin(SqliteStore.create(path))
    assert ledger.born_now
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def begin(store: SqliteStore) -> Ledger:
    try:
        return Ledger(store, now=lambda: datetime.now(UTC), timeouts=Timeouts(), writer="t")
    finally:
        store.close()


def test_eight_makers_at_once_make_one_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.db"
    stores: list[SqliteStore] = []
    gate = threading.Barrier(8)

    def make() -> None:
        gate.wait(10)
        stores.append(SqliteStore.create(path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(stores) == 8
    for number, store in enumerate(stores):
        store.put(f"k/{number}", "{}", expect=0)
    assert [len(store.keys("k/")) for store in stores] == [8] * 8
    for store in stores:
        store.close()


def test_a_setting_names_the_place(tmp_path: Path) -> None:
    place = f"sqlite:{tmp_path}/x/ledger.db"
    with pytest.raises(LedgerMissing):
        open_store(place, Timeouts())
    open_store(place, Timeouts(), create=True).close()
    open_store(place, Timeouts()).close()
    for wrong in ("", "sqlite:", "redis:x", str(tmp_path)):
        with pytest.raises(UsageError, match="sqlite:PATH"):
            open_store(wrong, Timeouts())


# ── files that are not a ledger, or not ours ─────────────────────────────────────────────────


def link(path: Path) -> None:
    path.rename(path.with_name("real.db"))
    path.symlink_to("real.db")


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")


def link_beside(path: Path) -> None:
    path.with_name("ledger.db-wal").symlink_to("/dev/null")


def foreign_database(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE documents (key, revision, text)")
    connection.commit()
    connection.close()
    path.chmod(0o600)


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()


def without_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE documents")
    connection.close()


def in_the_way(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def a_socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's name may have 107 bytes only
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def truncate(size: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        os.truncate(path, size)

    return change


def overwrite(offset: int, data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return change


def spoil_schema(path: Path) -> None:
    """Leave a schema that is none, with a name that is no UTF-8: SQLite's message holds it."""
    data = path.read_bytes()
    assert data.count(b"tabledocuments") == data.count(b"CREATE TABLE") == 1
    data = data.replace(b"tabledocuments", b"table\xf2ocuments")
    path.write_bytes(data.replace(b"CREATE TABLE", b"CREATE TUBLE"))


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "symlink": (link, "is a symbolic link"),
    "dangling symlink": (dangle, "is a symbolic link"),
    "symlink as log": (link_beside, "ledger.db-wal is a symbolic link"),
    "hard link": (lambda p: os.link(p, p.with_name("second")), "second name"),
    "readable by others": (lambda p: p.chmod(0o644), "chmod 600"),
    "writable by the group": (lambda p: p.chmod(0o660), "chmod 600"),
    "directory": (in_the_way, "is not a file"),
    "pipe": (a_pipe, "is not a file"),
    "parent open to all": (lambda p: p.parent.chmod(0o777), "chmod go-w"),
    "parent open to all, sticky": (lambda p: p.parent.chmod(0o1777), "chmod go-w"),
    "parent open to the group": (lambda p: p.parent.chmod(0o770), "chmod go-w"),
    "grandparent open to all": (lambda p: p.parent.parent.chmod(0o777), "chmod o-w"),
    "empty": (truncate(0), "is empty or cut off"),
    "a few bytes": (truncate(50), "is empty or cut off"),
    "header only": (truncate(100), "is empty or cut off"),
    "half": (truncate(4096), "damaged or no ledger"),
    "text": (lambda p: p.write_text("apiVersion: jtr/v1\n" * 99), "damaged or no ledger"),
    "damaged schema": (spoil_schema, "damaged or no ledger"),
    "damaged page": (overwrite(4096, b"\xff" * 512), "damaged or no ledger"),
    "foreign database": (foreign_database, "not a ledger of jtr"),
    "newer version": (newer, "version 2, this jtr knows 1"),
    "table gone": (without_table, "cannot be used"),
}


@pytest.mark.parametrize("case", REFUSALS, ids=str)
def test_what_is_unsound_is_refused_and_left_alone(path: Path, case: str) -> None:
    change, message = REFUSALS[case]
    change(path)
    assert message in refused(path)
    if case != "symlink as log":
        assert message in refused(path, SqliteStore.create)


def test_a_socket_is_no_ledger(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        a_socket(path)
    assert "is not a file" in refused(path)


def test_an_unfinished_log_of_a_damaged_file_is_not_worked_off(path: Path) -> None:
    """Closing the last connection would copy the log into the file, damaging the evidence."""
    code = in_child(lambda: leave_a_log(path))
    assert code == 0
    assert path.with_name("ledger.db-wal").stat().st_size > 0
    os.truncate(path, 4096)
    overwrite(1000, b"\xff" * 3000)(path)
    refused(path)


def leave_a_log(path: Path) -> None:
    store = SqliteStore.open(path)
    store.put("b", "{}", expect=0)
    os._exit(0)


@as_root
def test_another_users_file_or_directory_is_refused(path: Path) -> None:
    os.chown(path, 12345, 12345)
    assert "belongs to another user" in refused(path)
    os.chown(path, 0, 0)
    os.chown(path.parent, 12345, 12345)
    assert "belongs to another user" in refused(path)


def test_links_to_the_directory_are_followed(path: Path) -> None:
    path.parent.parent.joinpath("link").symlink_to(path.parent)
    store = SqliteStore.open(path.parent.parent / "link" / "ledger.db")
    assert store.get("a") == Stored(1, "kept")
    store.close()


MOUNTS = r"""
22 1 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /home rw shared:1 - nfs4 server:/home rw
31 30 0:41 / /home/me/local\040disk rw - xfs /dev/vdb rw
32 27 0:42 / /mnt/s rw shared:7 master:2 - fuse.sshfs you@there:/ rw
33 27 0:43 / /mnt/twice rw - ext4 /dev/vdc rw
34 27 0:44 / /mnt/twice rw - cifs //there/share rw
""".lstrip()


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var/lib/jtr", "ext4"),
        ("/home/me", "nfs4"),
        ("/homes", "ext4"),
        ("/home/me/local disk/x", "xfs"),
        ("/mnt/s/a/b", "fuse.sshfs"),
        ("/mnt/twice", "cifs"),
        ("/", "ext4"),
    ],
)
def test_the_file_system_of_a_place_is_known(tmp_path: Path, place: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system(Path(place), mounts) == kind


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        *[(kind, False) for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs")],
        *[(kind, True) for kind in ("ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "")],
    ],
)
def test_file_systems_of_several_machines_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, allowed: bool
) -> None:
    monkeypatch.setattr("reconciler.ledger.stores.file_checks.file_system", lambda _: kind)
    if allowed:
        SqliteStore.open(path).close()
    else:
        assert f"lies on {kind}," in refused(path)


def test_where_the_system_tells_no_file_system_nothing_is_refused(tmp_path: Path) -> None:
    assert file_system(Path("/"), tmp_path / "absent") == ""


# ── a disk that fails ────────────────────────────────────────────────────────────────────────

LONG = "x" * 200_000


def test_a_full_disk_is_said_and_survived(store: SqliteStore) -> None:
    connection = store._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match=r"disk is full.*make room"):
        store.put("b", LONG, expect=0)
    assert store.get("b") is None

    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.put("b", LONG, expect=0) == 1


def test_a_file_system_without_space_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    options = "size=256k,mode=700"
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small disk")
    command = [mount, "-t", "tmpfs", "-o", options, "small", str(place)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this system mounts nothing")
    try:
        store = SqliteStore.create(place / "ledger.db")
        kept = 0
        problem = None
        while problem is None and kept < 100:
            try:
                store.put(f"k/{kept}", "x" * 10_000, expect=0)
                kept += 1
            except LedgerError as error:
                problem = error
        assert "disk" in str(problem)
        assert 0 < kept < 30
        assert len(store.keys("k/")) == kept
        store.close()
        again = SqliteStore.open(place / "ledger.db")
        assert len(again.keys("k/")) == kept
        again.close()
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_file_that_may_not_grow_loses_nothing(path: Path) -> None:
    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = SqliteStore.open(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(LedgerError, match="disk"):
            store.put("b", LONG, expect=0)

    assert in_child(work) == 0
    store = SqliteStore.open(path)
    assert (store.get("a"), store.get("b")) == (Stored(1, "kept"), None)
    store.close()


def test_after_an_error_of_the_disk_the_handle_is_not_used_again(path: Path) -> None:
    """A second fsync may report success for what the first one lost."""

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = SqliteStore.open(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (32, resource.RLIM_INFINITY))
        with pytest.raises(LedgerError, match="reports an error"):
            store.put("b", LONG, expect=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        with pytest.raises(LedgerError, match="closed after an error"):
            store.get("a")
        store.close()
        SqliteStore.open(path).put("b", LONG, expect=0)

    assert in_child(work) == 0


@as_root
def test_a_file_that_may_not_be_written_says_so() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ledger.db"
        SqliteStore.create(path).close()
        for place in (path.parent, path):
            os.chown(place, 65534, 65534)

        def work() -> None:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            path.chmod(0o400)
            store = SqliteStore.open(path)
            with pytest.raises(LedgerError, match="is read-only; make"):
                store.put("b", "{}", expect=0)
            store.close()

        assert in_child(work) == 0


def test_a_database_that_refuses_writes_says_so(store: SqliteStore) -> None:
    connection = store._connection
    assert connection is not None
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(LedgerError, match="is read-only; make"):
        store.put("b", "{}", expect=0)
    connection.execute("PRAGMA query_only = OFF")
    assert store.put("b", "{}", expect=0) == 1


def test_a_lock_that_is_held_too_long_says_so(path: Path, store: SqliteStore) -> None:
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LedgerError, match="locked by another process; wait"):
            store.put("b", "{}", expect=0)
        assert store.get("a") == Stored(1, "kept")  # reading goes on
    finally:
        holder.communicate(timeout=30)
    assert store.put("b", "{}", expect=0) == 1


# ── use and misuse ───────────────────────────────────────────────────────────────────────────


def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore.open(path)
    store.close()
    store.close()
    with pytest.raises(LedgerError, match="is closed"):
        store.get("a")


def test_a_child_process_must_open_its_own(store: SqliteStore) -> None:
    def work() -> None:
        with pytest.raises(LedgerError, match="parent process"):
            store.get("a")
        store.close()

    assert in_child(work) == 0
    assert store.put("a", "2", expect=1) == 2


def test_opening_twice_in_one_process_drops_no_lock(path: Path, store: SqliteStore) -> None:
    """Were the file read by hand, POSIX would drop the first connection's locks on it."""
    connection = store._connection
    assert connection is not None
    connection.execute("BEGIN IMMEDIATE")
    SqliteStore.open(path, busy=0.1).close()

    def work() -> None:
        other = SqliteStore.open(path, busy=0.05)
        with pytest.raises(LedgerError, match="locked"):
            other.put("b", "{}", expect=0)
        other.close()

    assert in_child(work) == 0
    assert path.with_name("ledger.db-wal").exists()
    connection.execute("ROLLBACK")


def test_a_copy_made_as_the_documentation_says_is_a_ledger(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    store.put("a/b", '{"x": 1}', expect=0)
    copy = tmp_path / "copy.db"

    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    source.backup(target)  # what `.backup` in SQLite's own shell does
    source.close()
    target.close()
    copy.chmod(0o600)
    copied = SqliteStore.open(copy)

    assert copied.get("a/b") == Stored(1, '{"x": 1}')
    copied.close()


def test_a_text_that_is_none_is_damage(tmp_path: Path) -> None:
    store = SqliteStore.create(tmp_path / "ledger" / "ledger.db")
    store.put("a", "x", expect=0)
    store.close()
    with closing(sqlite3.connect(tmp_path / "ledger" / "ledger.db")) as database, database:
        database.execute("UPDATE documents SET text = CAST(x'fffe7b' AS TEXT)")

    with pytest.raises(LedgerError, match="is damaged"):
        SqliteStore.open(tmp_path / "ledger" / "ledger.db").get("a")


# ── its place ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("anew", [False, True])
def test_a_file_that_was_moved_away_takes_nothing_more(
    path: Path, store: SqliteStore, *, anew: bool
) -> None:
    """Or two ledgers would go on, each with what the other one did."""
    aside = path.with_name("aside.db")
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    if anew:
        SqliteStore.create(path).close()

    for _ in range(2):
        with pytest.raises(LedgerError):
            store.put("a", "lost", expect=1)

    store.close()
    with closing(SqliteStore.open(aside)) as kept:
        assert kept.get("a") == Stored(1, "kept")


def test_what_was_moved_away_is_named(path: Path, store: SqliteStore) -> None:
    path.rename(path.with_name("aside.db"))

    with pytest.raises(LedgerError, match="moved away or replaced while it was in use"):
        store.put("a", "lost", expect=1)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_no_ledger_is_made_beside_the_log_of_another_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "state" / "ledger.db"
    path.parent.mkdir(mode=0o700)
    beside = path.with_name(path.name + suffix)
    beside.write_bytes(b"of another one")
    beside.chmod(0o600)

    with pytest.raises(LedgerError, match=f"ledger.db{suffix}"):
        SqliteStore.create(path)

    assert not path.exists()
    assert beside.read_bytes() == b"of another one"
