"""The last good desired state, whatever becomes of the files."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reconciler.controller import document_source
from reconciler.controller.document_source import Reading, Source, stat_signature, take
from reconciler.documents.files import read_documents
from reconciler.documents.load import Loader
from reconciler.model.desired import DesiredState

SERVER = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: {name}}}
spec:
  url: https://{name}.internal:8443
  exchanges: {{bybit: {{credentials: "vault:secret/jt/{name}/{secret}"}}}}
"""


def save(path: Path, *names: str, secret: str = "bybit") -> None:
    path.write_text(
        "---\n".join(SERVER.format(name=name, secret=secret) for name in names), "utf-8"
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with two servers in two files."""
    tree = tmp_path / "tree"
    tree.mkdir()
    save(tree / "one.yaml", "tokyo-1")
    save(tree / "two.yaml", "tokyo-2")
    return tree


def names(reading: Reading) -> list[str] | None:
    return None if reading.state is None else [server.name for server in reading.state.servers]


def now(reader: Source, *paths: Path) -> Reading:
    return reader.read(take([str(path) for path in paths]))


def revision(paths: Sequence[str]) -> str:
    return take(paths).revision


def test_good_documents_are_in_force_under_their_content_hash(tree: Path) -> None:
    reading = now(Source([str(tree)]), tree)

    assert (names(reading), reading.trouble) == (["tokyo-1", "tokyo-2"], "")
    assert reading.revision == revision([str(tree)])


def vanish(tree: Path) -> None:
    shutil.rmtree(tree)


def empty(tree: Path) -> None:
    for file in tree.iterdir():
        file.unlink()


def half(tree: Path) -> None:
    text = (tree / "two.yaml").read_text("utf-8")
    (tree / "two.yaml").write_text(text[: text.index("{bybit") + 3], "utf-8")


def truncate(tree: Path) -> None:
    (tree / "one.yaml").write_text("", "utf-8")
    (tree / "two.yaml").write_text("", "utf-8")


def invalid(tree: Path) -> None:
    (tree / "two.yaml").write_text(SERVER.format(name="NOT A NAME", secret="x"), "utf-8")


def dangle(tree: Path) -> None:
    (tree / "two.yaml").unlink()
    (tree / "two.yaml").symlink_to("nothing.yaml")


def loop(tree: Path) -> None:
    (tree / "two.yaml").unlink()
    (tree / "two.yaml").symlink_to("two.yaml")


def fifo(tree: Path) -> None:
    (tree / "two.yaml").unlink()
    os.mkfifo(tree / "two.yaml")


def directory(tree: Path) -> None:
    for name in ("one.yaml", "two.yaml"):
        (tree / name).unlink()
        (tree / name).mkdir()


def binary(tree: Path) -> None:
    (tree / "two.yaml").write_bytes(os.urandom(1000))


HARMS = [
    (vanish, "no such file or directory"),
    (empty, "holds no document"),
    (half, "two.yaml:"),
    (truncate, "holds no document"),
    (invalid, "two.yaml:3:"),
    (dangle, "a link to nothing"),
    (loop, "leads back to itself"),
    (fifo, "no regular file"),
    (directory, "holds no document"),
    (binary, "two.yaml"),
]


@pytest.mark.parametrize(("harm", "word"), HARMS, ids=[harm.__name__ for harm, _ in HARMS])
def test_a_broken_tree_changes_nothing_and_says_why(
    tree: Path, tmp_path: Path, harm: Callable[[Path], None], word: str
) -> None:
    reader = Source([str(tree)])
    good = now(reader, tree)
    shutil.copytree(tree, tmp_path / "kept")
    harm(tree)
    bad = now(reader, tree)

    assert (bad.state, bad.revision) == (good.state, good.revision)
    assert word in bad.trouble

    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(tmp_path / "kept", tree)

    assert now(reader, tree) == good


@pytest.mark.parametrize(("harm", "word"), HARMS, ids=[harm.__name__ for harm, _ in HARMS])
def test_without_good_documents_nothing_is_in_force(
    tree: Path, harm: Callable[[Path], None], word: str
) -> None:
    harm(tree)
    reading = now(Source([str(tree)]), tree)

    assert (reading.state, reading.revision) == (None, "")
    assert word in reading.trouble


def test_a_valid_tree_that_lost_documents_is_taken_as_it_is(tree: Path) -> None:
    reader = Source([str(tree)])
    now(reader, tree)
    (tree / "two.yaml").unlink()
    reading = now(reader, tree)

    assert (names(reading), reading.trouble) == (["tokyo-1"], "")


def test_of_many_problems_the_first_five_are_told(tree: Path) -> None:
    wrong = [f"apiVersion: jtr/v1\nkind: Wrong{number}\n" for number in range(70)]
    (tree / "three.yaml").write_text("---\n".join(wrong), "utf-8")
    lines = now(Source([str(tree)]), tree).trouble.splitlines()

    assert len(lines) == 6
    assert all("three.yaml:" in line and "; " in line for line in lines[:5])
    assert lines[5].startswith("... and ")
    assert int(lines[5].split()[2]) >= 65


# ── reading exactly what was hashed ──────────────────────────────────────────────────────────


class Meddler:
    """Reads documents as ever, and has the files changed just before and just after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.loads = 0
        load = Loader.load

        def meddled(
            loader: Loader, paths: Sequence[str], instead: document_source._Held
        ) -> DesiredState:
            self.loads += 1
            self.before()
            try:
                return load(loader, paths, instead)
            finally:
                self.after()

        monkeypatch.setattr(Loader, "load", meddled)


@pytest.fixture
def meddler(monkeypatch: pytest.MonkeyPatch) -> Meddler:
    return Meddler(monkeypatch)


def secrets(reading: Reading) -> set[str]:
    assert reading.state is not None
    return {
        str(exchange.secret) for server in reading.state.servers for exchange in server.exchanges
    }


def test_what_was_found_is_judged_and_not_read_again(tree: Path) -> None:
    found = take([str(tree)])
    save(tree / "one.yaml", "tokyo-1", secret="other")

    reading = Source([str(tree)]).read(found)

    assert "vault:secret/jt/tokyo-1/bybit" in secrets(reading)
    assert (reading.revision, reading.trouble) == (found.revision, "")


def test_a_change_there_and_back_during_reading_is_not_read(tree: Path, meddler: Meddler) -> None:
    meddler.before = lambda: save(tree / "one.yaml", "tokyo-1", secret="other")
    meddler.after = lambda: save(tree / "one.yaml", "tokyo-1")
    reading = now(Source([str(tree)]), tree)

    assert secrets(reading) == {"vault:secret/jt/tokyo-1/bybit", "vault:secret/jt/tokyo-2/bybit"}
    assert (reading.revision, reading.trouble) == (revision([str(tree)]), "")


def test_a_link_that_leads_elsewhere_during_reading_is_read_again(
    tree: Path, meddler: Meddler
) -> None:
    (tree / ".old").mkdir()
    (tree / ".new").mkdir()
    save(tree / ".old" / "file", "tokyo-3", secret="old")
    save(tree / ".new" / "file", "tokyo-3", secret="new")
    link = tree / "three.yaml"
    link.symlink_to(".old/file")

    def swap() -> None:
        link.unlink()
        link.symlink_to(".new/file")

    meddler.before = swap
    reading = now(Source([str(tree)]), tree)

    assert meddler.loads == 2
    assert "vault:secret/jt/tokyo-3/new" in secrets(reading)
    assert (reading.revision, reading.trouble) == (revision([str(tree)]), "")


@pytest.mark.parametrize("vanishes", [True, False])
def test_a_file_that_comes_or_goes_during_reading_is_read_again(
    tree: Path, meddler: Meddler, *, vanishes: bool
) -> None:
    def change() -> None:
        if vanishes:
            (tree / "two.yaml").unlink(missing_ok=True)
        else:
            save(tree / "three.yaml", "tokyo-3")

    meddler.before = change
    reading = now(Source([str(tree)]), tree)

    assert meddler.loads == 2
    assert names(reading) == (["tokyo-1"] if vanishes else ["tokyo-1", "tokyo-2", "tokyo-3"])
    assert reading.revision == revision([str(tree)])


def test_a_tree_that_never_rests_changes_nothing_and_is_read_when_it_does(
    tree: Path, meddler: Meddler
) -> None:
    reader = Source([str(tree)])
    good = now(reader, tree)
    meddler.loads = 0
    meddler.before = lambda: save(tree / f"more-{meddler.loads}.yaml", f"tokyo-1{meddler.loads}")
    (tree / "two.yaml").unlink()
    reading = now(reader, tree)

    assert meddler.loads == document_source.TRIES
    assert (reading.state, reading.revision) == (good.state, good.revision)
    assert "change while they are read" in reading.trouble

    meddler.before = lambda: None
    settled = now(reader, tree)

    assert settled.trouble == ""
    assert names(settled) == ["tokyo-1", "tokyo-11", "tokyo-12", "tokyo-13"]


def test_what_vanishes_only_while_it_is_read_leaves_no_trouble(
    tree: Path, meddler: Meddler
) -> None:
    away = tree.with_name("away")

    def move(here: Path, there: Path) -> None:
        if meddler.loads == 1:
            here.rename(there)

    meddler.before = lambda: move(tree, away)
    meddler.after = lambda: move(away, tree)
    reading = now(Source([str(tree)]), tree)

    assert (names(reading), reading.trouble) == (["tokyo-1", "tokyo-2"], "")


def test_content_that_was_judged_is_not_read_again(tree: Path, meddler: Meddler) -> None:
    reader = Source([str(tree)])
    first = now(reader, tree)
    invalid(tree)
    second = now(reader, tree)

    assert now(reader, tree) is second
    assert meddler.loads == 2
    assert first.state is second.state


def test_an_error_of_ours_is_a_trouble(tree: Path, meddler: Meddler) -> None:
    def fail() -> None:
        raise RecursionError(str(tree))

    reader = Source([str(tree)])
    good = now(reader, tree)
    save(tree / "two.yaml", "tokyo-4")
    meddler.before = fail
    bad = now(reader, tree)

    assert bad.state is good.state
    assert "RecursionError" in bad.trouble
    assert str(tree) not in bad.trouble


# ── the content hash ─────────────────────────────────────────────────────────────────────────


def test_the_hash_covers_exactly_what_the_loader_reads(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    save(outside / "alien.yaml", "alien")
    for name in ("a/deep", "z", ".hidden"):
        (tree / name).mkdir(parents=True)
    save(tree / "a" / "deep" / "three.yml", "tokyo-3")
    save(tree / "z" / "five.yaml", "tokyo-5")
    save(tree / ".hidden" / "four.yaml", "tokyo-4")
    save(tree / ".six.yaml", "tokyo-6")
    save(tree / "notes.txt", "tokyo-7")
    (tree / "a" / "up").symlink_to("..")
    (tree / "b").symlink_to("z")
    (tree / "again.yaml").symlink_to("one.yaml")
    (tree / "shown.yaml").symlink_to(".hidden/four.yaml")
    (tree / "alien.yaml").symlink_to(outside / "alien.yaml")
    (tree / "aliens").symlink_to(outside)
    paths = [str(tree), str(tree / "z" / "five.yaml"), str(outside / "alien.yaml"), f"{tree}/./a"]
    held = take(paths).files

    assert list(held) == [os.path.realpath(file) for file in read_documents(paths).files]
    assert len(held) == 6


@pytest.mark.parametrize("measure", [revision, stat_signature])
def test_every_kind_of_place_has_a_hash_of_its_own(
    tmp_path: Path, measure: Callable[[Sequence[str]], str]
) -> None:
    place = tmp_path / "place.yaml"
    found = [measure([str(place)])]
    os.mkfifo(place)
    found.append(measure([str(place)]))
    place.unlink()
    place.write_text("", "utf-8")
    found.append(measure([str(place)]))
    place.write_text("a: 1\n", "utf-8")
    found.append(measure([str(place)]))
    place.unlink()
    place.mkdir()
    found.append(measure([str(place)]))
    save(place / "one.yaml", "tokyo-1")
    found.append(measure([str(place)]))
    (place / "one.yaml").rename(place / "two.yaml")
    found.append(measure([str(place)]))
    (place / "out.yaml").symlink_to("/etc/hostname")
    found.append(measure([str(place)]))

    assert len(set(found)) == len(found)


def test_the_hash_is_of_contents_not_of_places_and_times(tree: Path, tmp_path: Path) -> None:
    first = revision([str(tree)])
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    os.utime(copy / "one.yaml", (1, 1))

    assert revision([str(copy)]) == first


def test_the_hash_does_not_leave_the_tree(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tree / "link").symlink_to("../outside")
    before = revision([str(tree)])
    save(tmp_path / "outside" / "three.yaml", "tokyo-3")
    (tmp_path / "outside" / "deeper").mkdir()

    assert revision([str(tree)]) == before


def test_the_hash_follows_no_loop(tree: Path) -> None:
    for name in ("a", "b", "c"):
        (tree / name).mkdir()
        for target in ("a", "b", "c"):
            (tree / name / f"to-{target}").symlink_to(f"../{target}")
        save(tree / name / "file.yaml", f"in-{name}")

    assert len(take([str(tree)]).files) == 5


@pytest.mark.parametrize("path", ["a\0b", "x" * 10_000])
def test_a_name_that_cannot_be_a_file_is_just_missing(path: str) -> None:
    reading = Source([path]).read(take([path]))

    assert reading.state is None
    assert "no such file" in reading.trouble


def test_what_is_left_out_is_no_change_and_no_trouble(tree: Path) -> None:
    (tree / ".jtrignore").write_text("compose.yaml\n", "utf-8")
    before = revision([str(tree)])
    reader = Source([str(tree)])

    (tree / "compose.yaml").write_text("services: {}\n", "utf-8")

    assert revision([str(tree)]) == before
    known = reader.read(take([str(tree)]))
    assert now(reader, tree) == Reading(known.state, before, known.meaning, attempted=before)
    assert names(now(reader, tree)) == ["tokyo-1", "tokyo-2"]


def test_a_server_that_is_left_out_from_now_on_is_left_alone(tree: Path) -> None:
    reader = Source([str(tree)])
    now(reader, tree)

    (tree / ".jtrignore").write_text("two.yaml\n", "utf-8")

    assert names(now(reader, tree)) == ["tokyo-1"]


def test_a_broken_ignore_file_changes_nothing_until_it_is_mended(tree: Path) -> None:
    reader = Source([str(tree)])
    good = now(reader, tree)

    for text, line in (("!\n", 1), ("two.yaml\n!\n", 2)):
        (tree / ".jtrignore").write_text(text, "utf-8")
        reading = now(reader, tree)
        assert (names(reading), reading.revision) == (names(good), good.revision)
        assert f".jtrignore:{line}:" in reading.trouble

    (tree / ".jtrignore").write_text("two.yaml\n", "utf-8")
    assert (names(now(reader, tree)), now(reader, tree).trouble) == (["tokyo-1"], "")
