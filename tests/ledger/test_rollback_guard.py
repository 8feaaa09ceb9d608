"""What a host remembers of its ledgers: restored, copied and replaced ones are noticed."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import LedgerError
from reconciler.ledger import Conflict
from reconciler.ledger.codec.rows import requests_key
from reconciler.ledger.rollback_guard import GuardedStore, Place, RollbackGuard
from reconciler.ledger.stores.memory import MemoryStore

UID = "0123456789abcdef" * 2
HERE = Place("/var/lib/jtr/ledger.db", 41)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config" / "jtr" / "seen"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def mark(folder: Path) -> RollbackGuard:
    """A host that began a ledger on SQLite and saw it at sequence 10."""
    made = RollbackGuard(folder)
    assert made.check(UID, lambda: 1, HERE, born_now=True) == ""
    made.note(UID, 10, HERE)
    return made


def test_a_ledger_that_grows_is_the_same_one(mark: RollbackGuard) -> None:
    assert mark.check(UID, lambda: 10, HERE, born_now=False) == ""
    assert mark.check(UID, lambda: 500, HERE, born_now=False) == ""


def test_a_ledger_that_went_back_was_restored(mark: RollbackGuard) -> None:
    mark.note(UID, 41, HERE)

    assert mark.check(UID, lambda: 12, HERE, born_now=False) == (
        "this ledger is older than the one this host saw last (sequence 41, now 12): it was "
        "restored"
    )


def test_a_suspicion_stays_until_it_is_accepted(mark: RollbackGuard) -> None:
    first = mark.check(UID, lambda: 9, HERE, born_now=False)
    mark.note(UID, 9, HERE)
    later = mark.check(UID, lambda: 900, HERE, born_now=False)
    mark.note(UID, 900, HERE)

    assert "was restored" in first
    assert later == first
    mark.accept(UID, 901, HERE)
    assert mark.check(UID, lambda: 901, HERE, born_now=False) == ""
    assert "was restored" in mark.check(UID, lambda: 900, HERE, born_now=False)


def test_what_is_looked_at_by_the_way_is_not_remembered(mark: RollbackGuard, folder: Path) -> None:
    before = (folder / f"{UID}.json").read_bytes()

    assert mark.check(UID, lambda: 9, HERE, born_now=False, keep=False)
    assert mark.check("f" * 32, lambda: 9, HERE, born_now=False, keep=False)

    assert (folder / f"{UID}.json").read_bytes() == before
    assert names(folder) == [f"{UID}.json"]
    assert mark.check(UID, lambda: 10, HERE, born_now=False) == ""


def test_looking_by_the_way_makes_no_folder(folder: Path) -> None:
    assert RollbackGuard(folder).check(UID, lambda: 9, None, born_now=False, keep=False) == ""
    assert not folder.parent.exists()


def test_a_ledger_is_remembered_as_soon_as_it_is_opened(mark: RollbackGuard) -> None:
    """A process that dies has noted nothing at its end."""
    mark.check(UID, lambda: 30, HERE, born_now=False)

    assert "was restored" in mark.check(UID, lambda: 29, HERE, born_now=False)


def test_the_mark_never_goes_back(mark: RollbackGuard) -> None:
    mark.note(UID, 5, HERE)

    assert "sequence 10, now 9" in mark.check(UID, lambda: 9, HERE, born_now=False)


def test_a_file_that_this_host_never_saw_may_be_a_copy(folder: Path) -> None:
    mark = RollbackGuard(folder)
    suspect = mark.check(UID, lambda: 10, HERE, born_now=False)

    assert suspect == "this host never saw this ledger: it may be a copy"
    assert mark.check(UID, lambda: 11, HERE, born_now=False) == suspect


def test_a_ledger_in_vault_is_welcome_on_a_new_host(folder: Path) -> None:
    mark = RollbackGuard(folder)

    assert mark.check(UID, lambda: 10, None, born_now=False) == ""
    assert "was restored" in mark.check(UID, lambda: 9, None, born_now=False)


@pytest.mark.parametrize(
    "place", [Place(HERE.path, 42), Place("/srv/ledger.db", 41), None], ids=["inode", "path", "kv"]
)
def test_another_file_with_the_same_ledger_is_suspect(
    mark: RollbackGuard, place: Place | None
) -> None:
    assert "replaced or moved" in mark.check(UID, lambda: 10, place, born_now=False)
    assert "replaced or moved" in mark.check(UID, lambda: 10, HERE, born_now=False)


def test_a_real_copy_is_another_file_and_a_link_is_not(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    ledger.write_text("a")
    shutil.copy(ledger, tmp_path / "copy.db")
    (tmp_path / "link").symlink_to(tmp_path)

    assert Place.of(ledger) == Place.of(tmp_path / "link" / "ledger.db")
    assert Place.of(ledger) != Place.of(tmp_path / "copy.db")
    shutil.copy(ledger, tmp_path / "new.db")
    before = Place.of(ledger)
    (tmp_path / "new.db").rename(ledger)
    assert Place.of(ledger) != before


def test_a_ledger_file_that_vanished_is_said(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="vanished"):
        Place.of(tmp_path / "ledger.db")


def test_ledgers_do_not_know_one_another(mark: RollbackGuard) -> None:
    assert mark.check("f" * 32, lambda: 1, HERE, born_now=True) == ""
    assert mark.check(UID, lambda: 10, HERE, born_now=False) == ""


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_files_are_private_under_any_umask(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        RollbackGuard(folder).check(UID, lambda: 1, HERE, born_now=True)
    finally:
        os.umask(before)

    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert (folder / f"{UID}.json").stat().st_mode & 0o777 == 0o600
    assert names(folder) == [f"{UID}.json"]


def document(**changes: object) -> bytes:
    place = {"path": HERE.path, "inode": HERE.inode}
    whole = {"format": 1, "ledger": UID, "sequence": 10, "place": place, "suspect": ""}
    return json.dumps(whole | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"{",
        b"\xff",
        b"[" * 100_000,
        document(format=2),
        document(format=True),
        document(ledger="f" * 32),
        document(sequence="10"),
        document(sequence=None),
        document(place=[]),
        document(place={"path": "/a"}),
        document(suspect=None),
        document(more=1),
        document()[:-1] + b', "sequence": 11}',
    ],
)
def test_a_damaged_mark_is_a_suspicion(mark: RollbackGuard, folder: Path, content: bytes) -> None:
    file = folder / f"{UID}.json"
    file.write_bytes(content)

    for _ in range(2):
        assert "is damaged" in mark.check(UID, lambda: 10, HERE, born_now=False)
    with pytest.raises(LedgerError, match="is damaged"):
        mark.note(UID, 10, HERE)
    assert file.read_bytes() == content
    mark.accept(UID, 10, HERE)
    assert mark.check(UID, lambda: 10, HERE, born_now=False) == ""


def test_the_whole_document_of_these_tests_is_one(mark: RollbackGuard, folder: Path) -> None:
    (folder / f"{UID}.json").write_bytes(document())

    assert mark.check(UID, lambda: 10, HERE, born_now=False) == ""


STORED = Path(__file__).parent / "stored"


def test_a_mark_of_an_earlier_version_is_read_and_still_written_byte_for_byte(
    folder: Path,
) -> None:
    mark, place = RollbackGuard(folder), Place("/var/lib/jtr/lédger.db", 17)
    mark.accept(UID, 41, place)
    assert (folder / f"{UID}.json").read_bytes() == (STORED / "mark.json").read_bytes()
    assert mark.check(UID, lambda: 41, place, born_now=False) == ""

    (folder / f"{UID}.json").write_bytes((STORED / "mark-suspect.json").read_bytes())
    assert "sequence 41, now 3" in mark.check(UID, lambda: 99, None, born_now=False, keep=False)
    mark.accept(UID, 41, None)
    mark.check(UID, lambda: 3, None, born_now=False)
    stored = (STORED / "mark-suspect.json").read_bytes()
    assert (folder / f"{UID}.json").read_bytes() == stored


def linked(file: Path) -> None:
    target = file.with_name("elsewhere")
    file.rename(target)
    file.symlink_to(target)


def doubled(file: Path) -> None:
    file.with_name("second").hardlink_to(file)


def readable(file: Path) -> None:
    file.chmod(0o644)


def piped(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir(0o700)


def in_an_open_folder(file: Path) -> None:
    file.parent.chmod(0o777)


def in_a_linked_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("real"))
    file.parent.symlink_to(file.parent.with_name("real"))


def in_no_folder(file: Path) -> None:
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("")


@pytest.mark.parametrize(
    "spoil",
    [
        *(linked, doubled, readable, piped, a_directory),
        *(in_an_open_folder, in_a_linked_folder, in_no_folder),
    ],
)
@pytest.mark.parametrize("keep", [True, False])
def test_a_mark_that_others_could_have_written_is_a_suspicion(
    mark: RollbackGuard, folder: Path, spoil: Callable[[Path], None], *, keep: bool
) -> None:
    spoil(folder / f"{UID}.json")

    suspect = mark.check(UID, lambda: 10, HERE, born_now=False, keep=keep)

    assert "what this host knows of the ledger cannot be used" in suspect


@pytest.mark.parametrize(
    "uid", ["", "../../etc/passwd", "A" * 32, "0" * 31, "0" * 33, "0" * 31 + "\n"]
)
def test_a_forged_name_reaches_no_file(mark: RollbackGuard, folder: Path, uid: str) -> None:
    assert "not one that jtr gives" in mark.check(uid, lambda: 10, HERE, born_now=True)
    assert names(folder) == [f"{UID}.json"]


def test_where_nothing_can_be_remembered_a_ledger_in_vault_is_no_suspect(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    mark = RollbackGuard(tmp_path / "file" / "seen")

    assert mark.check(UID, lambda: 10, None, born_now=False) == ""
    assert mark.check(UID, lambda: 10, HERE, born_now=False)
    with pytest.raises(LedgerError, match="cannot be used"):
        mark.note(UID, 10, None)
    with pytest.raises(LedgerError, match="cannot be used"):
        mark.accept(UID, 10, None)


def test_eight_at_once_leave_the_highest(mark: RollbackGuard, folder: Path) -> None:
    threads = [
        threading.Thread(target=RollbackGuard(folder).note, args=(UID, 100 + number, HERE))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert mark.check(UID, lambda: 107, HERE, born_now=False) == ""
    assert "sequence 107, now 106" in mark.check(UID, lambda: 106, HERE, born_now=False)
    assert names(folder) == [f"{UID}.json"]


# ── a store that tells how far it has come ───────────────────────────────────────────────────


def test_the_mark_is_raised_before_anything_that_was_asked_for_is_sent(tmp_path: Path) -> None:
    """A backup from just before a deed is not taken for the ledger, even if we die in the deed."""
    before, store = MemoryStore(), GuardedStore(MemoryStore())
    for each in (before, store):
        each.put("ledger/birth", "{}", expect=0)
    mark = RollbackGuard(tmp_path / "seen")
    mark.check(UID, store.sequence, HERE, born_now=True)
    store.tell(store.sequence(), lambda sequence: mark.note(UID, sequence, HERE))

    store.put(requests_key("a"), "{}", expect=0)

    assert store.sequence() == store.least == 2
    assert "sequence 2, now 1" in mark.check(UID, before.sequence, HERE, born_now=False)


def test_only_requests_raise_the_mark_at_once() -> None:
    told: list[int] = []
    store = GuardedStore(MemoryStore())
    store.put(requests_key("a"), "{}", expect=0)
    store.tell(41, told.append)

    store.put("server/a/observation", "{}", expect=0)
    store.put(requests_key("a"), "{}", expect=1)
    with pytest.raises(Conflict):
        store.put(requests_key("a"), "{}", expect=0)
    store.put("brake/1", "{}", expect=0)

    assert told == [43]
    assert store.least == 44


def test_what_cannot_be_marked_is_not_sent() -> None:
    """The write took place, but whoever made it hears of the failure and sends nothing."""

    def fails(_: int) -> None:
        raise LedgerError("this host cannot remember", "see its disk")

    store = GuardedStore(MemoryStore())
    store.tell(0, fails)

    with pytest.raises(LedgerError, match="cannot remember"):
        store.put(requests_key("a"), "{}", expect=0)


def test_otherwise_it_is_the_store_itself() -> None:
    inner = MemoryStore()
    store = GuardedStore(inner)
    store.put("a/b", "1", expect=0)

    assert store.created is inner.created
    assert store.get("a/b") == inner.get("a/b")
    assert store.keys("a/") == ["a/b"]
    store.close()


def test_another_process_may_raise_the_mark_while_the_ledger_is_counted(tmp_path: Path) -> None:
    """The count was older than the mark then, and a sound ledger stayed suspect for ever."""
    guard = RollbackGuard(tmp_path)
    assert guard.check(UID, lambda: 10, None, born_now=False) == ""
    sequence = 10

    def count() -> int:
        before = sequence
        RollbackGuard(tmp_path).note(UID, sequence + 5, None)  # what the other one just wrote
        return before

    assert guard.check(UID, count, None, born_now=False) == ""
    assert "sequence 15" in guard.check(UID, lambda: 14, None, born_now=False)
