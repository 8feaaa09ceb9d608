"""
When the documents have changed: file events as a hint, their content as the truth.

Events get lost: a queue overflows, a bind or network mount sends none, a directory that is deleted
and made again stays silent while its watch says that it lives.  So an event only says when to look,
and the documents are looked at every `rescan` without any.  What counts as a change is decided by
`reconciler.controller.document_source.take` alone.
"""

import asyncio
import contextlib
import enum
import errno
import functools
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Self, TypeVar, cast

from msgspec import Struct
from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from reconciler.controller.document_source import Content, stat_signature, take
from reconciler.system.timeouts import Timeouts

LINKS_LIMIT: Final = 40  # as the kernel's own
MOST_QUIETS: Final = 10  # a stream of events postpones a look by this many quiet times at most
TRIES: Final = 3
STOP: Final = 2.0  # seconds that threads of an observer get to end; they are daemons

# Not opened and closed without writing: looking would wake itself up.
_TELLING: Final[list[type[events.FileSystemEvent]]] = [
    events.FileCreatedEvent,
    events.FileModifiedEvent,
    events.FileClosedEvent,
    events.FileMovedEvent,
    events.FileDeletedEvent,
    events.DirCreatedEvent,
    events.DirMovedEvent,
    events.DirDeletedEvent,
]
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


# ── where to watch ───────────────────────────────────────────────────────────────────────────


class _Place(Struct, frozen=True):
    """
    A directory to watch; `names` are the entries that matter, None is every one, at any depth.

    The inode belongs to it: a directory that was replaced is another place.
    """

    directory: str
    device: int
    inode: int
    names: frozenset[str] | None


def _places(paths: Iterable[str]) -> frozenset[_Place]:
    """Return what to watch for *paths* as they lead now, links resolved anew."""
    names: dict[str, set[str]] = {}
    trees: set[str] = set()
    for path in paths:
        end = ""
        for directory, name in _steps(path):
            names.setdefault(directory, set()).add(name)
            end = os.path.join(directory, name)  # noqa: PTH118  - Path would cost more than lstat
        if end and os.path.isdir(end):  # noqa: PTH112
            trees.add(end)
    found = set()
    for directory in trees | names.keys():
        with contextlib.suppress(OSError):
            mark = os.stat(directory)  # noqa: PTH116
            wanted = None if directory in trees else frozenset(names[directory])
            found.add(_Place(directory, mark.st_dev, mark.st_ino, wanted))
    return frozenset(found)


def _steps(path: str) -> Iterator[tuple[str, str]]:
    """
    Yield (directory, name) of every link on the way, and of what *path* leads to at last.

    Where the way ends early, its last step is the first name that is missing: it may come back.
    """
    try:
        here, waiting = "/", list(reversed(f"{os.getcwd()}/{path}".split("/")))  # noqa: PTH109
        if path.startswith("/"):
            waiting = list(reversed(path.split("/")))
        links = 0
        while waiting:
            name = waiting.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                here = os.path.dirname(here)  # noqa: PTH120
                continue
            there = os.path.join(here, name)  # noqa: PTH118
            if not os.path.islink(there):  # noqa: PTH114
                if not os.path.lexists(there):
                    yield here, name
                    return
                here = there
                continue
            links += 1
            if links > LINKS_LIMIT:
                return
            yield here, name
            target = os.readlink(there)  # noqa: PTH115
            here = "/" if target.startswith("/") else here
            waiting += reversed(target.split("/"))
        yield os.path.split(here)
    except (OSError, ValueError):  # vanished meanwhile, no permission, a NUL byte
        return


# ── hints ────────────────────────────────────────────────────────────────────────────────────


class _Hints:
    """
    What observer threads may touch: the time of the newest event, and one callback for a storm.

    The event loop is called once until `again`, however many events there are.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = False
        self.latest = 0.0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call on this loop; before any thread knows of these hints."""
        self._loop = loop

    def notice(self) -> None:
        """Say that something happened; any thread; never raises."""
        self.latest = time.monotonic()
        if self._loop is not None and not self._told:
            self._told = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake)

    def again(self) -> None:
        """Let the next event call; on the event loop, before looking."""
        self._told = False


class _Handler(events.FileSystemEventHandler):
    """Passes on that there was an event; an exception in here would end the observer's thread."""

    def __init__(self, hints: _Hints, names: frozenset[str] | None) -> None:
        self._hints = hints
        self._names = names

    def dispatch(self, event: events.FileSystemEvent) -> None:
        if self._names is None:
            self._hints.notice()
            return
        for path in (event.src_path, event.dest_path):
            if os.path.basename(os.fsdecode(path)) in self._names:  # noqa: PTH119
                self._hints.notice()
                return


def _observer(places: Iterable[_Place], hints: _Hints) -> BaseObserver:
    """Return a running observer of all places; raises OSError when the system has no more."""
    # Directories made within one another at once are told twice; that warning, a page of internals,
    # would stand between JSON lines, and end the observer's reader under `-W error`.
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
    # An observer that is put away while an event arrives calls that an ERROR; nothing is lost:
    # another observer takes its place, and then everything is looked at.
    logging.getLogger("watchdog.observers.inotify").setLevel(logging.CRITICAL)
    observer = Observer()
    try:
        for place in places:
            observer.schedule(
                _Handler(hints, place.names),
                place.directory,
                recursive=place.names is None,
                event_filter=_TELLING,
            )
        observer.start()
    except BaseException:
        _end(observer)
        raise
    return observer


def _end(observer: BaseObserver) -> None:
    """Stop an observer; its threads may hang with their file system, so not for long."""
    ending = threading.Thread(target=observer.stop, daemon=True)
    ending.start()
    ending.join(STOP)
    if observer.is_alive():
        observer.join(STOP)


def _alive(observer: BaseObserver) -> bool:
    # An emitter ends when its directory is deleted, and the observer lives on without it.
    return observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)


def _reason(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in {errno.EMFILE, errno.ENFILE, errno.ENOSPC}:  # ENOSPC has nothing to do with disks
        limits = "fs.inotify.max_user_instances and max_user_watches"
        return f"no file events: a limit of the system is reached (raise {limits})"
    return f"no file events ({os.strerror(number) if number else type(error).__name__})"


def _apart(call: Callable[[], _T]) -> asyncio.Future[_T]:
    """
    Run *call* in a daemon thread.

    Not `asyncio.to_thread`: the end of the loop, and of the process, waits for those threads, and
    one that hangs with a network file system would take 10 s and more of every stop.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(_T, result))

    def run() -> None:
        result, problem = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001  - handed over to whoever awaits
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended, nobody waits
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="jtr-watch", daemon=True).start()
    return future


async def _until(event: asyncio.Event, seconds: float) -> bool:
    """Wait for *event*, at most so long; return whether it is set."""
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()


# ── the watcher ──────────────────────────────────────────────────────────────────────────────


class _Occasion(enum.Enum):
    EVENT = enum.auto()
    POKE = enum.auto()
    TIME = enum.auto()


class Watcher:
    """
    Wakes when the content below *paths* has changed.

    An asynchronous context manager; all its methods belong to one event loop, `changed` to one
    task.  After an event, a poke and every `rescan` all contents are read, in a thread.  Where file
    events do not come (or with *polling*), sizes and times are compared every ten quiet times in
    between; a write that changes neither is found by the next `rescan`, at the latest.
    """

    def __init__(self, paths: Sequence[str], timeouts: Timeouts, *, polling: bool = False) -> None:
        self._paths = tuple(paths)
        self._quiet = timeouts.quiet
        self._rescan = timeouts.rescan
        self._often = min(timeouts.quiet * MOST_QUIETS, timeouts.rescan)
        self._polling = polling
        self._woken = asyncio.Event()
        self._poked = asyncio.Event()
        self._hints = _Hints(self._woken.set)
        self._look: asyncio.Future[tuple[Content | None, str]] | None = None
        self._due = 0.0  # when to look even without an event, on the monotonic clock
        self._reported: str | None = None
        self._blind = self._hanging = self._said = ""
        self._unheard = 0  # changes in a row that no event announced
        self._closed = False
        # For the thread that looks.
        self._observer: BaseObserver | None = None
        self._places: frozenset[_Place] = frozenset()
        self._signature = ""
        self._read_at = float("-inf")  # not 0: a machine that has just been started is near it
        self._anew = False  # its watches are deaf, perhaps: make them anew

    @property
    def trouble(self) -> str:
        """Why changes may be seen late or not at all; empty when all is well."""
        if self._hanging:
            return self._hanging
        instead = f"the documents are looked at every {self._often:g} s instead"
        if self._blind:
            return f"{self._blind}; {instead}"
        if self._unheard > 1:  # the first one may have been a coincidence
            return f"file events do not arrive (a network or bind mount?); {instead}"
        return ""

    async def __aenter__(self) -> Self:
        self._hints.attach(asyncio.get_running_loop())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        if self._look is not None:
            await asyncio.wait([self._look], timeout=STOP)
        with contextlib.suppress(RuntimeError):  # no more threads: the process ends anyway
            await asyncio.wait([_apart(self._unwatch)], timeout=2 * STOP)

    def poke(self) -> None:
        """Look at once, without waiting for quiet (SIGHUP); on the event loop."""
        self._poked.set()
        self._woken.set()

    async def changed(self) -> Content:
        """
        Return the content once it differs from the one returned last; the first at once.

        Nothing is lost by cancelling: the next call reports it.
        """
        while True:
            occasion = await self._occasion()
            began, watched = time.monotonic(), not (self._polling or self._blind)
            found = await self._find(occasion)
            new = found is not None and found.revision != self._reported
            if occasion is _Occasion.EVENT or self._hints.latest > began:
                self._unheard = 0
            elif occasion is _Occasion.TIME and new and watched and self._reported is not None:
                self._unheard += 1
                self._anew = True
            often = self._often_now()
            self._due = time.monotonic() + (self._often if often else self._rescan)
            self._say()
            if found is not None and new:
                self._reported = found.revision
                return found

    def _often_now(self) -> bool:
        return bool(self._polling or self._blind or self._unheard)

    async def _occasion(self) -> _Occasion:
        """Wait for a reason to look: time, a poke, or an event and then quiet."""
        if self._look is not None:  # its caller was cancelled; what it found is not told yet
            return _Occasion.POKE
        if not await _until(self._woken, self._due - time.monotonic()):
            return _Occasion.TIME
        latest = time.monotonic() + self._often
        while not self._poked.is_set():
            rest = min(self._hints.latest + self._quiet, latest) - time.monotonic()
            if rest <= 0:
                return _Occasion.EVENT
            await _until(self._poked, rest)
        return _Occasion.POKE

    async def _find(self, occasion: _Occasion) -> Content | None:
        """Look, or go on with a look that hangs; None when it could not be done, or need not."""
        try:
            if self._look is None:
                self._woken.clear()
                self._poked.clear()
                self._hints.again()
                full = occasion is not _Occasion.TIME
                self._look = _apart(
                    functools.partial(self._seen, full=full, often=self._often_now())
                )
            while not (await asyncio.wait([self._look], timeout=self._rescan))[0]:
                self._hanging = (
                    f"looking at the documents takes longer than {self._rescan:g} s; "
                    "check the file system that holds them"
                )
                self._say()
            self._hanging = ""
            look, self._look = self._look, None
            content, self._blind = look.result()
        except Exception as error:  # noqa: BLE001  - no thread to be had, no memory: not our end
            self._blind = f"the documents cannot be looked at ({type(error).__name__})"
            return None
        return content

    def _say(self) -> None:
        if self.trouble and self.trouble != self._said:
            _log.warning("%s", self.trouble)
        elif self._said and not self.trouble:
            _log.info("the documents are watched again")
        self._said = self.trouble

    # ── in the thread that looks ─────────────────────────────────────────────────────────────

    def _seen(self, *, full: bool, often: bool) -> tuple[Content | None, str]:
        """Return the content, if it may be another one, and why there are no file events."""
        now = time.monotonic()
        full = full or self._anew or now + self._often > self._read_at + self._rescan
        blind = self._blind
        if full and not self._polling:
            # Watched before it is read: what changes after the reading is announced.
            blind = self._watch(anew=self._anew)
            self._anew = False
        signature = stat_signature(self._paths) if often else ""
        content = None
        if full or signature != self._signature:
            content, self._read_at = take(self._paths), now
        self._signature = signature
        return content, blind

    def _watch(self, *, anew: bool) -> str:
        """Have all places watched, also after some were replaced; return why that fails."""
        for _ in range(TRIES):
            places = _places(self._paths)
            old = self._observer
            if old is not None and places == self._places and _alive(old) and not anew:
                return ""
            self._unwatch()
            try:
                self._observer, self._places = _observer(places, self._hints), places
            except (FileNotFoundError, NotADirectoryError):  # replaced at this moment
                continue
            except Exception as error:  # noqa: BLE001  - a hint less; never an end
                return _reason(error)
            break
        if self._closed:
            self._unwatch()
        return ""

    def _unwatch(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            _end(observer)
