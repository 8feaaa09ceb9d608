"""Files of our own: what lies in their place is not followed, waited for or believed."""

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.errors import JtrError, LoginFailed, UsageError
from reconciler.system.files import (
    SECRET_LIMIT,
    NotPrivate,
    NotRegular,
    draft,
    make_private_directory,
    read_private,
    read_regular,
    read_secret_file,
    sync_directory,
    write_atomically,
)

LIMIT = 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch(0o600)
    path.write_bytes(b"content")
    return path


def linked(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


def piped(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir(0o700)


def vanished(file: Path) -> None:
    file.unlink()


def doubled(file: Path) -> None:
    file.with_name("second").hardlink_to(file)


def readable(file: Path) -> None:
    file.chmod(0o604)


def of_the_group(file: Path) -> None:
    file.chmod(0o620)


def given_away(file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(file, 65534, 65534)


def test_what_is_there_is_read(file: Path) -> None:
    assert read_regular(file, LIMIT) == read_private(file, LIMIT) == b"content"
    assert read_private(str(file), LIMIT, one_name=True) == b"content"


def test_a_file_that_is_too_large_is_seen_to_be(file: Path) -> None:
    file.write_bytes(b"x" * 1000)

    for read in (read_regular, read_private):
        assert len(read(file, LIMIT)) == LIMIT + 1
    assert len(read_regular(file, 1000)) == 1000


@pytest.mark.parametrize("read", [read_regular, read_private])
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (linked, OSError),
        (piped, NotRegular),
        (a_directory, NotRegular),
        (vanished, FileNotFoundError),
    ],
)
def test_what_is_no_file_is_not_read(
    file: Path,
    read: Callable[[Path, int], bytes],
    spoil: Callable[[Path], None],
    error: type[OSError],
) -> None:
    spoil(file)

    with pytest.raises(error):
        read(file, LIMIT)


@pytest.mark.parametrize("spoil", [readable, of_the_group, given_away])
def test_what_others_could_have_written_is_not_private(
    file: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(file)

    assert read_regular(file, LIMIT) == b"content"  # it is there
    with pytest.raises(NotPrivate):
        read_private(file, LIMIT)


def test_a_second_name_counts_where_it_is_asked_about(file: Path) -> None:
    doubled(file)

    assert read_private(file, LIMIT) == b"content"
    with pytest.raises(NotRegular):
        read_private(file, LIMIT, one_name=True)


def test_an_open_folder_is_the_one_that_is_read_and_written(tmp_path: Path, file: Path) -> None:
    """Whoever exchanges the folder after it was checked, exchanges nothing."""
    other = tmp_path / "other"
    other.mkdir()
    handle = os.open(other, os.O_RDONLY)
    try:
        with pytest.raises(FileNotFoundError):
            read_private(file.name, LIMIT, folder=handle)
        with draft(file, b"new", folder=handle) as made:
            assert [entry.name for entry in other.iterdir()] == [made.name]
            os.link(made, file.name, src_dir_fd=handle, dst_dir_fd=handle)
        assert read_private(file.name, LIMIT, folder=handle) == b"new"
    finally:
        os.close(handle)
    assert [entry.name for entry in other.iterdir()] == [file.name]
    assert file.read_bytes() == b"content"


# ── files that the operator names ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [UsageError, LoginFailed])
def test_a_secret_behind_a_link_is_read(file: Path, error: type[JtrError]) -> None:
    linked(file)

    assert read_secret_file(str(file), "the file", error) == b"content"


@pytest.mark.parametrize(
    ("spoil", "what", "remedy"),
    [
        (piped, "the file is not a regular file", "check {}"),
        (a_directory, "the file is not a regular file", "check {}"),
        (
            vanished,
            "the file cannot be read: No such file or directory",
            "check {} and its rights",
        ),
    ],
)
@pytest.mark.parametrize("error", [UsageError, LoginFailed])
def test_a_secret_that_cannot_be_read_is_said_in_the_callers_words(
    file: Path, spoil: Callable[[Path], None], what: str, remedy: str, error: type[JtrError]
) -> None:
    spoil(file)

    with pytest.raises(error) as caught:
        read_secret_file(str(file), "the file", error)
    assert (caught.value.what, caught.value.remedy) == (what, remedy.format(file))


def test_a_secret_that_is_too_large_is_seen_to_be(file: Path) -> None:
    file.write_bytes(b"x" * (SECRET_LIMIT + 5))

    assert len(read_secret_file(str(file), "the file", UsageError)) == SECRET_LIMIT + 1


# ── writing ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[0, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_what_is_written_is_private_and_alone(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new", b"data")

    assert read_private(tmp_path / "new", LIMIT, one_name=True) == b"data"
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("spoil", [linked, piped, doubled, readable])
def test_what_is_in_the_way_is_replaced_not_followed(
    file: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(file)

    write_atomically(file, b"new")

    assert read_private(file, LIMIT, one_name=True) == b"new"
    others = [entry for entry in file.parent.iterdir() if entry != file]
    assert all(entry.read_bytes() == b"content" for entry in others)


def test_whoever_reads_meanwhile_sees_the_old_or_the_new(file: Path) -> None:
    seen: set[bytes] = set()
    began, done = threading.Event(), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(file.read_bytes())
            began.set()

    versions = [bytes([65 + number]) * 4000 for number in range(26)]
    file.write_bytes(versions[0])
    reader = threading.Thread(target=look)
    reader.start()
    assert began.wait(30)
    for version in versions:
        write_atomically(file, version)
    done.set()
    reader.join(30)

    assert seen <= set(versions)


def test_it_is_on_the_disk_before_it_has_its_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, bytes]] = []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), file.read_bytes())),
    )
    write_atomically(file, b"new")

    assert synced == [(False, b"content"), (True, b"new")]


def test_a_draft_that_is_not_wanted_leaves_nothing(file: Path) -> None:
    with pytest.raises(OSError, match="not empty"), draft(file, b"new") as made:
        made.replace(file.parent)
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == b"content"


def test_a_draft_like_another_file_has_its_rights(file: Path) -> None:
    file.chmod(0o640)
    with draft(file, b"new", file.stat()) as made:
        facts = made.stat()

    assert stat.S_IMODE(facts.st_mode) == 0o640
    assert (facts.st_uid, facts.st_gid) == (file.stat().st_uid, file.stat().st_gid)


def test_where_nothing_can_be_written_nothing_changes(tmp_path: Path, file: Path) -> None:
    with pytest.raises(NotADirectoryError):
        write_atomically(file / "deep", b"new")
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "file", b"new")
    assert file.read_bytes() == b"content"


# ── directories ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("umask")
def test_new_directories_are_private_with_their_parents(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path / "one" / "two" / "three")

    for path in ("one", "one/two", "one/two/three"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_directory_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    make_private_directory(tmp_path / "open")
    make_private_directory(tmp_path / "link")

    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o755


def test_a_file_in_the_place_of_a_directory(file: Path) -> None:
    with pytest.raises(FileExistsError):
        make_private_directory(file)
    for deep in (file / "one", file / "one" / "two"):
        with pytest.raises(NotADirectoryError):
            make_private_directory(deep)


def test_only_directories_are_made_durable_as_such(tmp_path: Path, file: Path) -> None:
    sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        sync_directory(file)
