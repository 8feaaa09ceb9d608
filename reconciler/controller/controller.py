"""
The controller as a whole: starts everything, passes on what happens, and stops well.

Level-triggered: files, Vault, signals and servers that hang up only wake workers.  Health depends
on nothing but this process; what is missing is said and waited for.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, Final

from reconciler.apply.disruption_budget import DisruptionBudget
from reconciler.controller.dependencies import Dependencies, Notifier, Site
from reconciler.controller.document_source import Reading
from reconciler.controller.events import controller_news, server_news
from reconciler.controller.leader_election import Leadership
from reconciler.controller.pauses import Noted, PauseChange, Pauses
from reconciler.controller.scheduled_audits import Audits
from reconciler.controller.shared import SharedState
from reconciler.controller.state_file import State
from reconciler.controller.sweep import swept
from reconciler.controller.workers import Workers
from reconciler.errors import (
    Exit,
    JtrError,
    LedgerError,
    LedgerMissing,
    SecretsError,
)
from reconciler.ledger.ledger import Ledger
from reconciler.model.observed import LogEntry
from reconciler.notifications.events import News
from reconciler.observe.context import PassContext
from reconciler.system.systemd import ALIVE

LOG: Final = logging.getLogger("reconciler.controller")
LAST: Final = 1.8  # seconds after the grace time in which the process ends, whatever hangs
NEWS: Final = 5.0  # seconds at most between two looks for news


class Controller:
    """One run.  `run` returns the exit code."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies: Final = dependencies
        self._status_store: Final = dependencies.status_store
        self._documents: Final = dependencies.documents()
        self._stop: Final = asyncio.Event()
        self._signal = 0
        self._sweep_now: Final = asyncio.Event()
        self._news: Final = asyncio.Event()
        self._dirty = False
        self._told_away = False  # whether Vault was away when states were told last
        self._moved: Final = dependencies.status_store.servers.follow(times=False)
        self._recorded = State()
        self._notifier: Notifier | None = None
        self._workers: Workers | None = None
        self._shared: SharedState | None = None
        self._leadership: Leadership | None = None
        self._reading: Reading | None = None
        self._pauses: Pauses | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._deadline: threading.Timer | None = None
        self._failed: BaseException | None = None
        self._code: int = Exit.DONE

    # ── what the pages ask for ───────────────────────────────────────────────────────────────

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        return await self._running().entries(name)

    async def documents(self) -> Mapping[str, str]:
        """Return the rows of the ledger.  Raises JtrError."""
        if self._shared is None or self._shared.context.ledger is None:
            raise self._waits()
        return await asyncio.to_thread(self._shared.context.ledger.documents)

    def documents_moved(self) -> None:
        """Look at the documents now."""
        self._documents.poke()

    @property
    def shared(self) -> SharedState | None:
        return self._shared

    def look(self, name: str) -> None:
        self._running().look(name)

    async def pause(self, change: PauseChange) -> Noted:
        if self._pauses is None:
            raise self._waits()
        return await self._pauses.note(change)

    def _waits(self) -> JtrError:
        return JtrError(f"the controller waits: {self._status_store.controller.waiting}", "wait")

    def _running(self) -> Workers:
        if self._workers is None:
            raise self._waits()
        return self._workers

    # ── the run ──────────────────────────────────────────────────────────────────────────────

    async def run(self) -> int:
        """Serve and keep until a signal comes.  Raises JtrError for what no waiting will mend."""
        dependencies, status_store = self._dependencies, self._status_store
        self._recorded, trouble = await asyncio.to_thread(dependencies.state_file.open)
        if trouble:
            LOG.warning(trouble)
        self._install_signals()
        site = dependencies.site(self)
        with ExitStack() as stack:
            try:
                status_store.tick = asyncio.get_running_loop().time()
                await site.start()
                self._notifier = await dependencies.notifier(self._recorded.told, self._changed)
                self._begin(self._beat())
                self._begin(self._remember())
                dependencies.systemd.tell("READY=1", "STATUS=waiting for Vault and the ledger")
                async with self._documents:
                    self._begin(self._follow_documents())
                    context = await self._open(stack)
                    if context is not None:
                        await self._keep(context)
            finally:
                await self._end(site, stack)
        if self._failed is not None:
            raise self._failed
        return self._code

    async def _open(self, stack: ExitStack) -> PassContext | None:
        """Open Vault and ledger, as often as it takes; None when a stop came first."""
        dependencies, attempt = self._dependencies, 0
        while not self._stop.is_set():
            try:
                opening = asyncio.create_task(
                    asyncio.to_thread(stack.enter_context, dependencies.open_context())
                )
                return await self._unless_stopped(opening)
            except LedgerMissing:
                raise
            except JtrError as error:
                known = isinstance(error, SecretsError | LedgerError)
                if not known and not error.transient:
                    raise
                attempt += 1
                # A start anew would mend neither; waiting, it can tell people.
                whose = "ledger" if isinstance(error, LedgerError) else "secrets"
                nothing = {"ledger": "", "secrets": ""}
                self._status_store.note(waiting=str(error), **nothing | {whose: str(error)})
                if attempt == 1:
                    LOG.warning("waiting: %s", error)
                wait = min(
                    dependencies.timeouts.interval / 2, dependencies.timeouts.backoff * attempt
                )
                await self._pause(wait)
        return None

    async def _keep(self, context: PassContext) -> None:
        dependencies, status_store = self._dependencies, self._status_store
        ledger = context.ledger
        if ledger is None:
            raise AssertionError
        status_store.note(waiting="", secrets="", ledger="")
        self._documents.remember(ledger.revisions)
        self._leadership = Leadership(ledger, dependencies.timeouts, self._led, self._confirm)
        self._shared = SharedState(
            context,
            status_store,
            acting=self._acts,
            looking=self._looks,
            quiet=dependencies.quiet,
            tell=self._tell,
            dirty=self._changed,
        )
        self._shared.disruption_budget = DisruptionBudget(dependencies.max_disruptive)
        self._workers = Workers(self._shared, self._recorded)
        self._pauses = Pauses(context, ledger, self._declare)
        with suppress(JtrError):  # until it tells, nothing is done
            await self._pauses.look()
        if self._reading is not None:
            self._enforce(self._reading)
        self._begin(self._leadership.run())
        self._begin(self._follow_secrets())
        self._begin(self._follow_brakes(ledger, self._pauses))
        self._begin(Audits(self._shared).run())
        if dependencies.reports is not None:
            self._begin(dependencies.reports())
        dependencies.systemd.tell("STATUS=keeping")
        await self._stop.wait()

    def _acts(self) -> bool:
        held = self._leadership is not None and self._leadership.held
        told = self._pauses is not None and self._pauses.known is not None
        known = self._status_store.controller.revision != ""  # else others may know better ones
        return held and told and known and not self._stop.is_set()

    def _looks(self) -> bool:
        return self._leadership is not None and self._leadership.unrivalled

    def _led(self, rival: str, trouble: str) -> None:
        acting = not rival and not trouble
        if not rival:
            # We may look from now on; or is it Vault that is away, in which the ledger may lie?
            self._sweep_now.set()
        self._status_store.note(acting=acting, rival=rival, ledger=trouble)
        self._settle_readiness()
        if self._workers is not None and self._shared is not None:
            self._workers.nudge()
            self._shared.keys_moved.set()

    def _settle_readiness(self) -> None:
        """Ready: documents in force, the ledger open, and the place taken, by us or another."""
        status = self._status_store.controller
        if status.revision and not status.waiting and (status.acting or status.rival):
            self._status_store.ready = True

    # ── what wakes workers ───────────────────────────────────────────────────────────────────

    async def _follow_documents(self) -> None:
        """Put the documents into force, and every later version of them."""
        while True:
            self._take_up(await self._documents.changed())

    async def _confirm(self) -> None:
        """Put into force what is in force by the ledger now, before anything is done."""
        if (reading := await self._documents.confirmed()) is not None:
            self._take_up(reading)

    def _take_up(self, reading: Reading) -> None:
        before = self._reading
        if before is not None and 0 < reading.look <= before.look:
            return  # it was heard, or waited to be while a newer one was
        self._reading = reading
        moved = before is None or reading.revision != before.revision
        self._status_store.note_documents(reading, moved=moved)
        self._settle_readiness()
        if reading.trouble:
            LOG.warning("the newest documents are not in force: %s", reading.trouble)
        elif before is not None and before.trouble:
            LOG.info("the newest documents are in force again")
        if moved:
            self._enforce(reading)

    def _enforce(self, reading: Reading) -> None:
        """Put documents into force, once there is a fleet."""
        if self._workers is None or reading.state is None:
            return
        names = {server.name for server in reading.state.servers}
        fields = {"revision": reading.revision, "servers": len(names)}
        LOG.info("documents in force", extra={"fields": fields})
        self._declare()
        if self._shared is not None:
            self._shared.keys_moved.set()
        self._sweep_now.set()
        if self._notifier is not None:
            self._notifier.keep(names)

    def _declare(self) -> None:
        reading, workers, held = self._reading, self._workers, self._pauses
        if reading is not None and reading.state is not None and workers and held:
            state = held.over(reading.state)
            workers.declare(state, reading.revision, reading.meaning, reading.origin)

    async def _follow_secrets(self) -> None:
        """Ask Vault for new versions; wake who uses one, and who missed Vault while it was away."""
        dependencies, status_store = self._dependencies, self._status_store
        away = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    dependencies.timeouts.interval if not away else self._retry
                ):
                    await self._sweep_now.wait()
            self._sweep_now.clear()
            if self._workers is None or self._shared is None or not self._looks():
                continue
            paths = self._shared.secrets
            found, trouble = await swept(dependencies, status_store, paths)
            self._shared.cache.down = None if not trouble else self._shared.cache.down
            if bool(trouble) != away:
                away = bool(trouble)
                LOG.warning("Vault: %s", trouble) if away else LOG.info("Vault is back")
                if not away:
                    self._workers.wake_failed()
            status_store.note(secrets=trouble, token_seconds=dependencies.token_seconds())
            known = self._shared.newest
            moved = [path for path, one in found.items() if known.get(path, one) != one]
            known |= found
            for gone in known.keys() - paths:
                del known[gone]
            if moved:
                self._workers.wake_for(moved)

    @property
    def _retry(self) -> float:
        return min(self._dependencies.timeouts.interval, 2 * self._dependencies.timeouts.backoff)

    async def _follow_brakes(self, ledger: Ledger, pauses: Pauses) -> None:
        """Show the ledger's brakes, let go of ours that people released; and heed their pauses."""
        while True:
            try:
                await pauses.look()
                brakes = await asyncio.to_thread(ledger.brakes)
            except JtrError as error:
                self._status_store.note(ledger=str(error))
            else:
                if self._shared is not None:
                    await self._shared.look_at_brakes(brakes)
            await asyncio.sleep(self._dependencies.timeouts.interval / 4)

    # ── signs of life, memory, news ──────────────────────────────────────────────────────────

    async def _beat(self) -> None:
        """Say that the loop lives, tell people what is new."""
        dependencies, status_store, loop = (
            self._dependencies,
            self._status_store,
            asyncio.get_running_loop(),
        )
        period = min(1.0, (dependencies.systemd.watchdog or 3.0) / 3)
        pause = min(NEWS, dependencies.timeouts.interval / 10)
        told = float("-inf")
        while True:
            status_store.tick = loop.time()
            if loop.time() - told >= pause:  # what looks at all servers is not for every second
                told = loop.time()
                status_store.stuck = self._workers.stuck() if self._workers is not None else ""
                if self._shared is not None:
                    self._shared.heed_clock()
                self._tell(self._states())
            if not status_store.stuck:
                dependencies.systemd.tell(ALIVE)
            await asyncio.sleep(min(period, pause))

    async def _remember(self) -> None:
        """Write down what changed; a disk that hangs must not look like a loop that does."""
        while True:
            if self._dirty:
                await self._save()
            await asyncio.sleep(min(1.0, self._dependencies.timeouts.interval / 10))

    def _states(self) -> Iterable[News]:
        """Yield the states of what has another status than when it was told last."""
        status_store = self._status_store
        away = bool(status_store.controller.secrets)
        yield from controller_news(status_store.controller)
        names = [*(self._moved if self._told_away is away else status_store.servers)]
        self._told_away = away
        self._moved.clear()
        for name in names:
            status = status_store.servers.get(name)
            if status is not None and status.last_pass:
                yield from server_news(status, vault_away=away)

    def _tell(self, news: Iterable[News]) -> None:
        if self._notifier is not None:
            self._notifier.tell(news)

    def _changed(self) -> None:
        self._dirty = True

    async def _save(self) -> None:
        """Write the state file; a full disk is said, and everything goes on."""
        self._dirty = False
        if self._workers is None or self._notifier is None:
            return
        state = self._workers.remembered(self._notifier.memory())
        try:
            await asyncio.to_thread(self._dependencies.state_file.save, state)
        except JtrError as error:
            if not self._status_store.controller.state:
                LOG.warning(str(error))
            self._status_store.note(state=str(error))
        else:
            self._status_store.note(state="")

    # ── signals and the end ──────────────────────────────────────────────────────────────────

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number)
        loop.add_signal_handler(signal.SIGHUP, self.look_again)

    def look_again(self) -> None:
        """Look at documents, secrets and servers now."""
        LOG.info("asked to look at everything now")
        self._documents.poke()
        self._sweep_now.set()
        if self._workers is not None:
            self._workers.hasten()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Begin to stop; the second time end at once: intents are recorded before anything is."""
        if self._stop.is_set():
            LOG.warning("ended at once; what was in flight is recorded as not finished")
            self._dependencies.leave(128 + number)
            return
        self._signal = number
        LOG.info("stopping: nothing new begins, what is in flight gets its end")
        self._status_store.note(stopping=True)
        self._dependencies.systemd.tell("STOPPING=1")
        if self._shared is not None:
            self._shared.stopping = True
        self._stop.set()
        # Threads that wait for Vault or a disk cannot be cancelled; the process ends anyway.
        self._deadline = threading.Timer(
            self._dependencies.timeouts.stop + LAST, lambda: self._dependencies.leave(self._code)
        )
        self._deadline.daemon = True
        self._deadline.start()

    async def _end(self, site: Site, stack: ExitStack) -> None:
        grace = self._dependencies.timeouts.stop
        if self._shared is not None:
            self._shared.stopping = True
            await self._shared.brake.stop("the controller is stopping")
        self._stop.set()
        if self._signal:
            self._code = 128 + self._signal  # unless everything ends in time
        ended = await self._workers.stop(grace) if self._workers is not None else True
        self._dirty = True
        await self._save()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        if self._notifier is not None:
            await self._notifier.close(min(1.0, grace))
            self._dirty = True
            await self._save()  # with what could not be told any more
        await site.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.to_thread(stack.close)
        if ended:
            self._code = Exit.DONE
        LOG.info("stopped" if ended else "stopped; something was cut off and is recorded so")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def calm(self) -> None:
        """Forget the last deadline: nothing hangs any more."""
        if self._deadline is not None:
            self._deadline.cancel()

    # ── below ────────────────────────────────────────────────────────────────────────────────

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        """Stop when one of the loops failed: whoever started us shall start us anew."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("a part of the controller failed: %s", type(error).__name__, exc_info=error)
            self._failed = self._failed or error
            self._stop.set()

    async def _unless_stopped(self, task: "asyncio.Task[PassContext]") -> PassContext | None:
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        return task.result() if task.done() else None

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
