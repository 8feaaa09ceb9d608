"""T13: games with links, pipes and rights in the place of files that decide something."""

import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from reconciler.controller.state_file import State, StateFile
from reconciler.errors import JtrError
from reconciler.exchanges.cache import AuditCache
from reconciler.ledger.rollback_guard import Place, RollbackGuard
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.secrets.fingerprint_key import key_from_file
from reconciler.system.files import read_private

UID: Final = "0123456789abcdef" * 2
PRECIOUS: Final = b"precious"
OTHER_USER: Final = 54_321


# ── what somebody puts there ─────────────────────────────────────────────────────────────────


def _elsewhere(path: Path) -> Path:
    other = path.parent.parent / "elsewhere"
    other.touch(0o600)
    other.write_bytes(PRECIOUS)
    return other


def _aside(path: Path) -> Path:
    kept = path.with_name("kept-aside")
    path.rename(kept)
    return kept


def link_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(_elsewhere(path))


def link_to_itself_elsewhere(path: Path) -> None:
    path.symlink_to(_aside(path))


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent.parent / "nothing")


def link_in_a_circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def second_name(path: Path) -> None:
    path.parent.parent.joinpath("second").hardlink_to(path)


def name_of_another(path: Path) -> None:
    path.unlink()
    path.hardlink_to(_elsewhere(path))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def listener(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # such a name may have no more than 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def open_to_others(path: Path) -> None:
    path.chmod(0o666)


def folder_open_to_others(path: Path) -> None:
    path.parent.chmod(0o777)


def of_another_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, OTHER_USER, OTHER_USER)


LAYOUTS: Final = (
    *(link_elsewhere, link_to_itself_elsewhere, link_to_nothing, link_in_a_circle),
    *(second_name, name_of_another, pipe, directory, listener),
    *(open_to_others, folder_open_to_others, of_another_user),
)
HARMLESS: Final = {
    # Where due times and what people were told is worth more than who could have changed it; what
    # is in the way is replaced.  A second name, or a folder that others write, changes no content.
    ("state", second_name),
    ("state", open_to_others),
    ("state", folder_open_to_others),
    ("state", of_another_user),
    ("cache", second_name),
    ("fingerprint key", second_name),
    ("cache", folder_open_to_others),
}


# ── who reads it ─────────────────────────────────────────────────────────────────────────────


def ledger(path: Path) -> bool:
    SqliteStore.open(path).close()
    return True


def fingerprint_key(path: Path) -> bool:
    return key_from_file(str(path), create=False) is not None


def mark(path: Path) -> bool:
    guard = RollbackGuard(path.parent)
    return guard.check(UID, lambda: 5, Place("/l.db", 7), born_now=False) == ""


def state(path: Path) -> bool:
    return StateFile(path).open()[0] != State()


def cache(path: Path) -> bool:
    return AuditCache(str(path)).trouble == "" and path.exists()


def make_ledger(path: Path) -> None:
    store = SqliteStore.create(path)
    store.put("a", "{}", expect=0)
    store.close()


def make_mark(path: Path) -> None:
    guard = RollbackGuard(path.parent)
    guard.check(UID, lambda: 1, Place("/l.db", 7), born_now=True)


FILES: Final[dict[str, tuple[str, Callable[[Path], object], Callable[[Path], bool]]]] = {
    "ledger": ("ledger.db", make_ledger, ledger),
    "fingerprint key": (
        "fingerprint-key",
        lambda path: key_from_file(str(path), create=True),
        fingerprint_key,
    ),
    "mark": (f"{UID}.json", make_mark, mark),
    "state": (
        "controller.json",
        lambda path: StateFile(path).save(State(told={"a": 1})),
        state,
    ),
    "cache": (
        "audit.json",
        lambda path: path.write_text('{"formatVersion": 1, "entries": []}'),
        cache,
    ),
}


@pytest.mark.timeout(30)  # a pipe makes nobody wait
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("name", FILES)
def test_t13_what_lies_in_the_place_of_a_file_is_not_believed(
    tmp_path: Path, name: str, layout: Callable[[Path], None]
) -> None:
    called, make, believed = FILES[name]
    path = tmp_path / "folder" / called
    path.parent.mkdir(0o700)
    make(path)
    path.chmod(0o600)
    assert believed(path), "control"
    layout(path)

    try:
        found = believed(path)
    except JtrError:
        found = False

    assert found == ((name, layout) in HARMLESS)
    other = tmp_path / "elsewhere"
    assert not other.exists() or other.read_bytes() == PRECIOUS


def test_t13_a_file_that_is_swapped_while_it_is_opened_gives_nothing_away(tmp_path: Path) -> None:
    """Another process puts a link there and takes it away, as fast as it can."""
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    path, good, bad = folder / "file", folder / "good", folder / "bad"
    _elsewhere(path)
    good.touch(0o600)
    good.write_bytes(b"own")
    over = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not over.is_set():
            bad.symlink_to(tmp_path / "elsewhere")
            bad.replace(path)
            fresh = folder / "fresh"
            os.link(good, fresh)
            fresh.replace(path)
            swaps += 1

    os.link(good, path)
    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    refused = 0
    try:
        for _ in range(10_000):
            try:
                seen.add(read_private(path, 100))
            except OSError:
                refused += 1
    finally:
        over.set()
        thread.join(30)

    assert seen <= {b"own"}
    assert swaps
    assert stat.S_ISREG((tmp_path / "elsewhere").lstat().st_mode)
