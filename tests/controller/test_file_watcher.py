"""Every way in which documents change is reported, each change once."""

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watchdog.events import FileModifiedEvent
from watchdog.observers.api import EventEmitter, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter

from reconciler.controller import file_watcher
from reconciler.controller.document_source import Content, take
from reconciler.controller.file_watcher import Watcher
from reconciler.system.timeouts import Timeouts
from tests.sandbox.visits import really_looped

PATIENCE = 30.0
# A rescan that never comes: what is found, an event announced.
EVENTS = Timeouts(quiet=0.05, rescan=600.0)
RESCAN = Timeouts(quiet=0.01, rescan=0.3)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what threads bring about."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110  - nothing in there sets an event
            await asyncio.sleep(0.001)


class Looks:
    """Counts looks that read all contents, and can keep them from ending."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        monkeypatch.setattr(file_watcher, "take", self)

    def __call__(self, paths: Sequence[str]) -> Content:
        assert self.gate.wait(PATIENCE)
        found = take(paths)
        self.count += 1
        return found


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


class Clock:
    """The watcher's, which can stand still: what a busy machine does takes no time then."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._still: float | None = None

    def __call__(self) -> float:
        return time.monotonic() + self._ahead if self._still is None else self._still

    def stop(self) -> None:
        self._still = self()

    def go_on(self, ahead: float = 0.0) -> None:
        """Go on from where it stood, or from so many seconds later."""
        self._ahead = self() + ahead - time.monotonic()
        self._still = None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(file_watcher, "time", SimpleNamespace(monotonic=clock))
    return clock


def make(tree: Path, text: str) -> None:
    tree.mkdir()
    (tree / "one.yaml").write_text(text, "utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make(tmp_path / "tree", "a: 1\n")
    return tmp_path / "tree"


class Watched:
    """A watcher that has told its first hash."""

    def __init__(self, watcher: Watcher, path: Path | str, looks: Looks) -> None:
        self.watcher = watcher
        self._path = str(path)
        self._looks = looks

    async def changed(self) -> Content:
        async with asyncio.timeout(PATIENCE):
            return await self.watcher.changed()

    async def is_silent(self) -> None:
        """A full look, now, reports nothing: whatever came was reported once."""
        before = self._looks.count
        waiting = asyncio.create_task(self.watcher.changed())
        self.watcher.poke()
        await until(lambda: self._looks.count > before and self.watcher._look is None)
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])

    async def reports_once(self) -> None:
        """One report, of what is there now."""
        assert await self.changed() == take([self._path])
        await self.is_silent()


@pytest.fixture
def watched(looks: Looks) -> Callable[..., contextlib.AbstractAsyncContextManager[Watched]]:
    @contextlib.asynccontextmanager
    async def watching(
        path: Path | str, timeouts: Timeouts = EVENTS, *, polling: bool = False
    ) -> AsyncIterator[Watched]:
        async with Watcher([str(path)], timeouts, polling=polling) as watcher:
            found = Watched(watcher, path, looks)
            assert await found.changed() == take([str(path)])
            yield found

    return watching


Watching = Callable[..., contextlib.AbstractAsyncContextManager[Watched]]


# ── the watch matrix ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("named", ["directory", "file"])
@really_looped
async def test_a_plain_save(tree: Path, watched: Watching, named: str) -> None:
    async with watched(tree if named == "directory" else tree / "one.yaml") as it:
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")

        await it.reports_once()
        assert it.watcher.trouble == ""


@really_looped
async def test_the_first_look_is_a_whole_one_on_a_machine_that_has_just_been_started(
    tree: Path, watched: Watching, clock: Clock
) -> None:
    clock.go_on(ahead=2.0 - time.monotonic())
    async with watched(tree) as it:  # sees the documents, not nothing
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")

        await it.reports_once()


@pytest.mark.parametrize("path", [".", "deep/..", "./deep/../one.yaml", "up", "../tree/up/"])
@really_looped
async def test_a_path_with_dots(
    tree: Path, watched: Watching, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tree / "deep").mkdir()
    (tree / "up").symlink_to("deep/..")
    monkeypatch.chdir(tree)
    async with watched(path) as it:
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")

        await it.reports_once()


@pytest.mark.parametrize("named", ["directory", "file"])
@really_looped
async def test_an_atomic_rename(tree: Path, watched: Watching, named: str) -> None:
    async with watched(tree if named == "directory" else tree / "one.yaml") as it:
        for number in range(3):
            (tree / ".one.tmp").write_text(f"a: 2{number}\n", "utf-8")
            (tree / ".one.tmp").rename(tree / "one.yaml")

            await it.reports_once()


@really_looped
async def test_files_that_come_move_and_go_at_any_depth(tree: Path, watched: Watching) -> None:
    async with watched(tree) as it:
        (tree / "deep" / "er").mkdir(parents=True)
        (tree / "deep" / "er" / "two.yaml").write_text("b: 1\n", "utf-8")
        await it.reports_once()
        (tree / "deep" / "er" / "two.yaml").write_text("b: 2\n", "utf-8")
        await it.reports_once()
        (tree / "deep").rename(tree / "steep")
        await it.reports_once()
        (tree / "steep" / "er" / "two.yaml").unlink()
        await it.reports_once()


@really_looped
async def test_a_git_checkout_of_many_files(tree: Path, watched: Watching, clock: Clock) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=desk", "-c", "user.email=desk@example.test")
        environment = {"PATH": os.environ["PATH"], "HOME": str(tree.parent)}
        subprocess.run(
            ["git", *identity, *arguments],
            cwd=tree,
            env=environment | {"GIT_CONFIG_NOSYSTEM": "1"},
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    git("init", "--quiet")
    for version in ("old", "new"):
        for number in range(200):
            (tree / f"server-{number}.yaml").write_text(f"{version}: {number}\n", "utf-8")
        git("add", ".")
        git("commit", "--quiet", "--message", version)
        git("tag", version)
    async with watched(tree, Timeouts(quiet=0.4, rescan=600.0)) as it:
        clock.stop()
        waiting = asyncio.create_task(it.changed())
        await asyncio.to_thread(git, "checkout", "--quiet", "old")
        clock.go_on()

        assert await waiting == take([str(tree)])
        await it.is_silent()


def config_map(volume: Path, generation: int, text: str) -> None:
    """Swap the content of a volume as the kubelet does."""
    fresh = volume / f"..2026_{generation}"
    fresh.mkdir()
    (fresh / "servers.yaml").write_text(text, "utf-8")
    (volume / "..data_tmp").symlink_to(fresh.name)
    (volume / "..data_tmp").rename(volume / "..data")
    old = volume / f"..2026_{generation - 1}"
    if old.exists():
        shutil.rmtree(old)


@pytest.mark.parametrize("named", ["directory", "file", "linked"])
@really_looped
async def test_a_config_map_swap(tmp_path: Path, watched: Watching, named: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    config_map(volume, 1, "a: 1\n")
    (volume / "servers.yaml").symlink_to("..data/servers.yaml")
    (tmp_path / "link.yaml").symlink_to("volume/servers.yaml")
    path = {
        "directory": volume,
        "file": volume / "servers.yaml",
        "linked": tmp_path / "link.yaml",
    }[named]
    async with watched(path) as it:
        for generation in range(2, 5):
            config_map(volume, generation, f"a: {generation}\n")

            await it.reports_once()
        config_map(volume, 5, "a: 4\n")
        await it.is_silent()


@really_looped
async def test_a_link_that_leads_to_another_directory(tmp_path: Path, watched: Watching) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "tree").mkdir(parents=True)
        (tmp_path / name / "tree" / "one.yaml").write_text(f"a: {name}\n", "utf-8")
    current = tmp_path / "current"
    current.symlink_to("old")
    async with watched(current / "tree") as it:
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").rename(current)
        await it.reports_once()
        (tmp_path / "new" / "tree" / "one.yaml").write_text("a: newer\n", "utf-8")
        await it.reports_once()


@really_looped
async def test_a_bind_mount_without_events(
    tree: Path, watched: Watching, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tree, RESCAN) as it:
        with monkeypatch.context() as deaf:
            deaf.setattr(EventEmitter, "queue_event", lambda *_: None)
            for number in range(3):
                (tree / "one.yaml").write_text(f"a: 2{number}\n", "utf-8")

                await it.reports_once()
            assert "file events do not arrive" in it.watcher.trouble
        async with asyncio.timeout(PATIENCE):
            while it.watcher.trouble:  # until an event was heard
                number += 1
                (tree / "one.yaml").write_text(f"a: 2{number}\n", "utf-8")
                await it.reports_once()
    warnings = [
        r for r in caplog.records if r.name == file_watcher.__name__ and r.levelname == "WARNING"
    ]

    assert len(warnings) == 1


@pytest.mark.parametrize("named", ["directory", "file"])
@really_looped
async def test_a_directory_that_is_deleted_and_made_again(
    tree: Path, watched: Watching, named: str
) -> None:
    async with watched(tree if named == "directory" else tree / "one.yaml") as it:
        for number in range(3):
            shutil.rmtree(tree)
            await it.reports_once()
            make(tree, f"a: 2{number}\n")
            await it.reports_once()
            (tree / "one.yaml").write_text(f"a: 3{number}\n", "utf-8")
            await it.reports_once()


@really_looped
async def test_a_directory_that_is_replaced_by_another(tree: Path, watched: Watching) -> None:
    async with watched(tree) as it:
        shutil.move(tree, tree.with_name("gone"))
        make(tree, "a: 2\n")
        await it.reports_once()
        (tree / "one.yaml").write_text("a: 3\n", "utf-8")
        await it.reports_once()


@really_looped
async def test_40_000_events_at_once(
    tree: Path, watched: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "watchdog")  # it has a line for every event
    async with watched(tree, Timeouts(quiet=0.1, rescan=1.0)) as it:
        make = (
            "seq -f f%g 20000 | xargs touch; echo 'a: 2' > one.yaml; seq -f g%g 20000 | xargs touch"
        )
        process = await asyncio.create_subprocess_shell(make, cwd=tree)
        waiting = asyncio.create_task(it.changed())
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0

        assert await waiting == take([str(tree)])
        await it.is_silent()
    shutil.rmtree(tree)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to("nothing.yaml")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("place", [fifo, dangling, loop, directory])
@pytest.mark.parametrize("named", ["directory", "file"])
@really_looped
async def test_an_unreadable_file(
    tree: Path, watched: Watching, named: str, place: Callable[[Path], None]
) -> None:
    file = tree / "one.yaml"
    async with watched(tree if named == "directory" else file) as it:
        file.unlink()
        await it.reports_once()
        place(file)
        same = (named == "file" and place in {dangling, loop}) or (
            named == "directory" and place is directory
        )
        if same:  # nothing to read before, nothing to read after
            await it.is_silent()
        else:
            await it.reports_once()
        if place is directory:
            file.rmdir()
        else:
            file.unlink()
        file.write_text("a: 1\n", "utf-8")
        while await it.changed() != take([str(tree if named == "directory" else file)]):
            pass
        await it.is_silent()


@really_looped
async def test_a_half_written_file_is_not_looked_at(
    tree: Path, watched: Watching, looks: Looks, clock: Clock
) -> None:
    async with watched(tree, Timeouts(quiet=0.1, rescan=600.0)) as it:
        waiting = asyncio.create_task(it.changed())
        before, seen = looks.count, [0.0]
        clock.stop()
        with (tree / "one.yaml").open("w", encoding="utf-8") as file:
            for number in range(4):
                clock.go_on(ahead=0.05)  # half of what is quiet
                clock.stop()
                seen.append(it.watcher._hints.latest)
                file.write(f"a{number}: 1\n")
                file.flush()
                await until(lambda: it.watcher._hints.latest != seen[-1])
        assert looks.count == before
        clock.go_on()

        assert await waiting == take([str(tree)])
        await it.is_silent()


# ── what must not matter ─────────────────────────────────────────────────────────────────────


@really_looped
async def test_a_touch_is_no_change(tree: Path, watched: Watching) -> None:
    async with watched(tree) as it:
        (tree / "one.yaml").write_text("a: 1\n", "utf-8")
        (tree / "notes.txt").write_text("hello", "utf-8")
        (tree / ".hidden.yaml").write_text("a: 1\n", "utf-8")

        await it.is_silent()


@really_looped
async def test_looking_wakes_nobody(
    tree: Path, watched: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    dispatch = file_watcher._Handler.dispatch

    def noting(handler: file_watcher._Handler, event: Any) -> None:
        seen.append(event.event_type)
        dispatch(handler, event)

    monkeypatch.setattr(file_watcher._Handler, "dispatch", noting)
    async with watched(tree) as it:
        for _ in range(5):
            await it.is_silent()
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")
        await it.reports_once()

    # Events come in order: those of reading would stand before those of writing.
    assert set(seen) == {"modified", "closed"}


@really_looped
async def test_a_stream_of_events_does_not_postpone_the_look_for_ever(
    tree: Path, watched: Watching
) -> None:
    async with watched(tree, Timeouts(quiet=0.05, rescan=600.0)) as it:
        waiting = asyncio.create_task(it.changed())
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")
        began = asyncio.get_running_loop().time()
        while not waiting.done():
            (tree / "noise").write_text("", "utf-8")
            await asyncio.sleep(0.005)
            assert asyncio.get_running_loop().time() - began < PATIENCE

        assert waiting.result() == take([str(tree)])


@really_looped
async def test_events_at_once_call_the_loop_once(
    tree: Path, watched: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    async with watched(tree) as it:
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counting(callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:
            if callback == it.watcher._woken.set:
                calls.append(callback)
            return call(callback, *arguments)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        handler = file_watcher._Handler(it.watcher._hints, None)
        event = FileModifiedEvent(str(tree / "one.yaml"))

        def storm() -> None:
            for _ in range(40_000):
                handler.dispatch(event)

        await asyncio.to_thread(storm)
        assert len(calls) == 1
        await it.is_silent()  # that look lets the next one call

        await asyncio.to_thread(storm)
        assert len(calls) == 2
        monkeypatch.undo()


# ── what goes wrong with watching ────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("timeouts", [EVENTS, RESCAN], ids=["a look", "a rescan"])
@really_looped
async def test_an_observer_that_died_is_replaced(
    tree: Path, watched: Watching, timeouts: Timeouts
) -> None:
    async with watched(tree, timeouts) as it:
        dead = it.watcher._observer
        assert dead is not None
        dead.event_queue.put("no event")  # its thread ends with an exception
        await asyncio.to_thread(dead.join, PATIENCE)
        assert not dead.is_alive()
        if timeouts is EVENTS:
            await it.is_silent()
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")

        await it.reports_once()
        assert it.watcher._observer is not dead


@really_looped
async def test_an_observer_that_is_put_away_is_no_error(
    tree: Path, watched: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    """watchdog says so where an event comes at that moment; seen in a soak of half an hour."""
    async with watched(tree, EVENTS) as it:
        assert it.watcher._observer is not None
        emitter = InotifyEmitter(
            it.watcher._observer.event_queue, ObservedWatch(str(tree), recursive=True)
        )
        emitter.queue_events(0)

    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


@really_looped
async def test_a_watch_that_went_deaf_is_made_anew(
    tree: Path, watched: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tree, RESCAN) as it:
        deaf = it.watcher._observer
        assert deaf is not None
        for emitter in deaf.emitters:
            monkeypatch.setattr(emitter, "queue_event", lambda _: None)
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")

        await it.reports_once()
        assert it.watcher._observer is not deaf
        assert it.watcher.trouble == ""  # one may be a coincidence


@really_looped
async def test_without_inotify_it_polls_and_says_so_once(
    tree: Path, watched: Watching, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(24, "inotify instance limit reached")

    with monkeypatch.context() as limited:
        limited.setattr(file_watcher, "Observer", exhausted)
        async with watched(tree, Timeouts(quiet=0.01, rescan=0.5)) as it:
            for number in range(3):
                (tree / "one.yaml").write_text(f"a: 2{number}\n", "utf-8")
                await it.reports_once()
            assert "max_user_instances" in it.watcher.trouble
            assert "every 0.1 s" in it.watcher.trouble

            limited.undo()
            (tree / "one.yaml").write_text("a: 3\n", "utf-8")
            await it.reports_once()
            assert it.watcher.trouble == ""
    said = [record.levelname for record in caplog.records if record.name == file_watcher.__name__]

    assert said == ["WARNING", "INFO"]


@really_looped
async def test_polling_compares_sizes_and_times_and_reads_at_a_rescan(
    tree: Path, watched: Watching, looks: Looks, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def unmoved(_: Sequence[str]) -> str:
        compared.append("written twice within a tick of the clock")
        return compared[-1]

    async with watched(tree, Timeouts(quiet=0.005, rescan=1.0), polling=True) as it:
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")
        await it.reports_once()
        monkeypatch.setattr(file_watcher, "stat_signature", unmoved)
        await it.is_silent()
        clock.stop()
        before = looks.count
        waiting = asyncio.create_task(it.changed())
        (tree / "one.yaml").write_text("a: 3\n", "utf-8")
        await until(lambda: len(compared) > 3)
        assert looks.count == before
        clock.go_on(ahead=1.0)

        assert await waiting == take([str(tree)])
        assert looks.count == before + 1
        assert it.watcher.trouble == ""
        assert it.watcher._observer is None


@really_looped
async def test_a_look_that_hangs_is_said_and_waited_for(
    tree: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_watcher, "STOP", 0.05)
    async with Watcher([str(tree)], Timeouts(quiet=0.01, rescan=0.1)) as watcher:
        looks.gate.clear()
        waiting = asyncio.create_task(watcher.changed())
        await until(lambda: bool(watcher.trouble))
        assert "takes longer than 0.1 s" in watcher.trouble
        waiting.cancel()
        await asyncio.wait([waiting])
        looks.gate.set()

        async with asyncio.timeout(PATIENCE):
            assert await watcher.changed() == take([str(tree)])
        assert watcher.trouble == ""
        looks.gate.clear()
        watcher.poke()
        waiting = asyncio.create_task(watcher.changed())
        await until(lambda: watcher._look is not None)
        waiting.cancel()
        await asyncio.wait([waiting])
    looks.gate.set()  # leaving did not wait for it


@really_looped
async def test_a_look_that_fails_is_said_and_tried_again(
    tree: Path, watched: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Sequence[str]) -> Content:
        raise MemoryError

    async with watched(tree, RESCAN) as it:
        with monkeypatch.context() as broken:
            broken.setattr(file_watcher, "take", failing)
            (tree / "one.yaml").write_text("a: 2\n", "utf-8")
            waiting = asyncio.create_task(it.changed())
            await until(lambda: bool(it.watcher.trouble))
            assert "MemoryError" in it.watcher.trouble

        assert await waiting == take([str(tree)])
        await it.is_silent()
        assert it.watcher.trouble == ""


@really_looped
async def test_cancelling_loses_nothing(tree: Path, watched: Watching, looks: Looks) -> None:
    async with watched(tree) as it:
        looks.gate.clear()
        waiting = asyncio.create_task(it.changed())
        (tree / "one.yaml").write_text("a: 2\n", "utf-8")
        await until(lambda: it.watcher._look is not None)
        waiting.cancel()
        await asyncio.wait([waiting])
        looks.gate.set()

        await it.reports_once()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@really_looped
async def test_leaving_gives_back_threads_and_descriptors(tree: Path, watched: Watching) -> None:
    threads = threading.active_count()
    async with watched(tree):
        pass
    handles = descriptors()
    for _ in range(5):
        async with watched(tree) as it:
            shutil.rmtree(tree)
            await it.changed()
            make(tree, "a: 1\n")
            await it.changed()

    await until(lambda: threading.active_count() <= threads)
    assert descriptors() == handles
