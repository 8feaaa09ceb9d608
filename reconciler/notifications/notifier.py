"""
Tells people what changed: from the loop's news to every target, without making anybody wait.

`tell` returns at once.  Each target has a queue, a task and a rate of its own, so that a dead one
delays nobody; what it does not take after a few tries is given up and said so in the log.  What
was told, and what is still on its way, is handed out by `memory` for the controller's state file.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct, field

from reconciler.model.values import replace
from reconciler.model.wording import RUNBOOKS
from reconciler.notifications.deduplicate import (
    MOST,
    STABLE,
    Deduplicator,
    Key,
    Message,
    rank,
    read_told,
    told_rows,
)
from reconciler.notifications.events import AlertSeverity, News
from reconciler.notifications.queue import Delivery, RateLimit, SendQueue, read_messages
from reconciler.notifications.senders import Endpoint, open_endpoint
from reconciler.notifications.transport import Answer, Transport
from reconciler.render.escape import plain
from reconciler.settings.notifications import NotificationSettings
from reconciler.system.redaction import redacted

TEXT: Final = 1000  # characters of one message
STATE: Final = 200
_BETWEEN: Final = "\x1e"  # the record separator of ASCII
_log: Final = logging.getLogger(__name__)


class Result(StrEnum):
    """What became of messages and requests, for the counter of each target."""

    SENT = "sent"  # messages that arrived
    GATHERED = "gathered"  # of those, the ones that arrived in a digest
    RETRIED = "retried"  # requests that failed and were tried again
    DROPPED = "dropped"  # messages that were given up


class Clock:
    """Seconds since the epoch, and waiting; tests bring one of their own."""

    def now(self) -> float:
        return time.time()

    async def wait(self, woken: asyncio.Event, seconds: float | None) -> None:
        """Wait for *woken*, at most so many *seconds*; None: as long as it takes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await woken.wait()


class RetryPolicy(Struct, frozen=True):
    """
    How patiently people are told; durations in seconds.

    A state that may pass by itself is told after `stable`.  A request gets `deadline`; one that
    failed is repeated after `backoff`, which doubles, up to `tries` in all.
    """

    stable: float = STABLE
    deadline: float = 10.0
    backoff: float = 2.0
    tries: int = 5
    rate_limit: RateLimit = field(default_factory=RateLimit)


class Callbacks(Struct, frozen=True):
    """Whom the notifier itself tells: `counted` a target's results, `changed` that `memory` did."""

    counted: Callable[[str, Result], None] = lambda _target, _result: None
    changed: Callable[[], None] = lambda: None


async def open_endpoints(settings: Sequence[NotificationSettings]) -> list[Endpoint]:
    """Read the targets' secrets.  Raises UsageError when one cannot be read."""
    return [await asyncio.to_thread(open_endpoint, one) for one in settings]


class Notifier:
    """One for each run of the controller.  Event loop only; `close` it."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        label: str,
        memory: Mapping[str, Any],
        *,
        calls: Callbacks | None = None,
        clock: Clock | None = None,
        retry_policy: RetryPolicy | None = None,
        runbooks: str = RUNBOOKS,
    ) -> None:
        """*label* names the fleet in every message; the pages to read lie below *runbooks*."""
        calls, clock = calls or Callbacks(), clock or Clock()
        retry_policy = retry_policy or RetryPolicy()
        self._calls, self._clock = calls, clock
        now, label = clock.now(), _clean(label, STATE)
        told = read_told(memory.get("told"), now)
        self._deduplicator = Deduplicator(label, told, stable=retry_policy.stable)
        waiting = memory.get("waiting")
        rows: Mapping[str, Any] = waiting if isinstance(waiting, dict) else {}
        self._workers = []
        for endpoint in endpoints:
            transport = Transport(endpoint, label, retry_policy.deadline)
            left = read_messages(rows.get(endpoint.settings.name))
            queue = SendQueue(retry_policy.rate_limit, now, left, runbooks=runbooks)
            worker = _Worker(
                *(endpoint, transport, queue),
                calls=calls,
                clock=clock,
                retry_policy=retry_policy,
            )
            self._workers.append(worker)
        self._heard: dict[Key, tuple[News, News]] = {}
        self._woken = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(), name="notify")]
        self._tasks += [
            asyncio.create_task(worker.run(), name=f"notify {worker.name}")
            for worker in self._workers
        ]

    def tell(self, news: Iterable[News]) -> None:
        """
        Take present states; whatever is worth it is told soon.  Never waits, never raises.

        Speak of a server only after it was looked at: an empty state says that all is well.
        """
        now = self._clock.now()
        for one in self._cleaned(list(news)):
            self._deduplicator.hear(one, now)
        self._hand_out(now)

    def _cleaned(self, news: Sequence[News]) -> list[News]:
        """Return safe texts; the same states come every few seconds, and redaction is dear."""
        new = [one for one in news if self._heard.get(_key(one), (None,))[0] != one]
        if len(self._heard) + len(new) > MOST:
            self._heard.clear()
            new = list(news)
        safe = {id(one): clean for one, clean in zip(new, cleaned(new), strict=True)}
        found = [safe.get(id(one)) or self._heard[_key(one)][1] for one in news]
        # Only now: there may be several of one key, of which the last one stays.
        self._heard.update((_key(one), (one, safe[id(one)])) for one in new)
        return found

    def keep(self, servers: Collection[str]) -> None:
        """Forget all servers but these: they are in the documents no more."""
        now = self._clock.now()
        self._deduplicator.keep({_clean(name, STATE) for name in servers}, now)
        self._hand_out(now)

    def memory(self) -> dict[str, Any]:
        """Return what the next run must know, as JSON values; no secret is in it."""
        return {
            "told": told_rows(self._deduplicator.told),
            "waiting": {worker.name: rows for worker in self._workers if (rows := worker.rows())},
        }

    async def close(self, grace: float) -> None:
        """
        Send what waits within *grace* seconds, then stop.

        What did not arrive stays in `memory` and is sent by the next run.
        """
        self._tasks[0].cancel()
        for worker in self._workers:
            worker.finish()
        _, late = await asyncio.wait(self._tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers:
            await worker.close()
        self._calls.changed()

    async def _run(self) -> None:
        """Tell what becomes worth telling because it lasts."""
        while True:
            now = self._clock.now()
            self._hand_out(now)
            self._woken.clear()
            moment = self._deduplicator.wake()
            await self._clock.wait(self._woken, None if moment is None else max(0.0, moment - now))

    def _hand_out(self, now: float) -> None:
        messages = self._deduplicator.due(now)
        for message in messages:
            _log.debug("notify topic=%s subject=%s", message.topic, message.subject)
            for worker in self._workers:
                if wants(worker.settings, message):
                    worker.add(message)
        if messages:
            self._calls.changed()
        self._woken.set()


def wants(settings: NotificationSettings, message: Message) -> bool:
    """Return whether a target asked for this message; what has no owner concerns all of them."""
    return (
        rank(message.weight) >= rank(AlertSeverity(settings.severity))
        and (not settings.topics or message.topic in settings.topics)
        and (not settings.owners or not message.subject or message.owner in settings.owners)
    )


class _Worker:
    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        queue: SendQueue,
        *,
        calls: Callbacks,
        clock: Clock,
        retry_policy: RetryPolicy,
    ) -> None:
        self.settings = endpoint.settings
        self.name = endpoint.settings.name
        self._transport = transport
        self._queue = queue
        self._calls, self._clock, self._retry_policy = calls, clock, retry_policy
        self._woken = asyncio.Event()
        self._stop = asyncio.Event()

    def add(self, message: Message) -> None:
        if (squeezed := self._queue.add(message)) is not None:
            self._dropped([squeezed], "too many messages wait")
        self._woken.set()

    def rows(self) -> list[dict[str, Any]]:
        return self._queue.rows()

    def finish(self) -> None:
        """Send everything now, and try nothing twice."""
        self._stop.set()
        self._woken.set()

    async def close(self) -> None:
        await self._transport.close()
        if left := len(self._queue.rows()):
            _log.warning("notify target=%s: %d messages wait for the next start", self.name, left)

    async def run(self) -> None:
        while True:
            self._woken.clear()
            now, stopping = self._clock.now(), self._stop.is_set()
            delivery = self._queue.take(now, last=stopping)
            if delivery is not None:
                await self._deliver(delivery)
            if self._stop.is_set() and (delivery is None or self._queue.flying is not None):
                return
            if delivery is None:
                moment = self._queue.next(now)
                wait = None if moment is None else max(0.0, moment - now)
                await self._clock.wait(self._woken, wait)

    async def _deliver(self, delivery: Delivery) -> None:
        """Send until it arrives, is refused, or was tried often enough."""
        retry_policy = self._retry_policy
        for attempt in range(1, retry_policy.tries + 1):
            answer = await self._once(delivery)
            if not answer.why:
                self._arrived(delivery)
                return
            if not answer.again or attempt == retry_policy.tries:
                self._queue.fail()
                self._dropped(delivery.messages, answer.why)
                self._calls.changed()
                return
            if self._stop.is_set():
                return
            self._calls.counted(self.name, Result.RETRIED)
            _log.info("notify target=%s: %s; trying again", self.name, answer.why)
            luck = 0.5 + random.random() / 2  # noqa: S311  - spreads tries, hides nothing
            backoff = retry_policy.backoff * 2 ** (attempt - 1) * luck
            await self._clock.wait(self._stop, max(backoff, answer.pause))

    async def _once(self, delivery: Delivery) -> Answer:
        try:
            return await self._transport.send(delivery, self._clock.now())
        except Exception as error:  # noqa: BLE001  - one target's trouble must not end its task
            return Answer(f"unexpected {type(error).__name__}")

    def _arrived(self, delivery: Delivery) -> None:
        self._queue.done()
        for _ in delivery.messages:
            self._calls.counted(self.name, Result.SENT)
            if len(delivery.messages) > 1:
                self._calls.counted(self.name, Result.GATHERED)
        _log.debug("notify target=%s: sent messages=%d", self.name, len(delivery.messages))
        self._calls.changed()

    def _dropped(self, messages: Iterable[Message], why: str) -> None:
        for message in messages:
            self._calls.counted(self.name, Result.DROPPED)
            _log.warning(
                "notify target=%s: gave up on topic=%s subject=%s: %s",
                *(self.name, message.topic, message.subject, why),
            )


# ── what comes from servers is only text ─────────────────────────────────────────────────────


def cleaned(news: Sequence[News]) -> list[News]:
    """Return the same without secrets, and without anything that drives a terminal."""
    # All in one go: redaction spells out every living secret each time that it is asked.
    fields = [
        redacted(field).replace(_BETWEEN, " ") if _BETWEEN in field else field
        for one in news
        for field in (one.subject, one.state, one.text, one.owner)
    ]
    safe = redacted(_BETWEEN.join(fields)).split(_BETWEEN)
    if len(safe) != len(fields):  # a secret that holds the sign itself
        safe = [redacted(field) for field in fields]
    rows = zip(news, *(safe[start::4] for start in range(4)), strict=True)
    return [
        replace(
            one,
            subject=plain(subject, STATE),
            state=_short(state),
            text=plain(text, TEXT),
            owner=plain(owner, STATE),
        )
        for one, subject, state, text, owner in rows
    ]


def _key(news: News) -> Key:
    return (news.topic, news.subject)


def _clean(text: str, limit: int) -> str:
    # First redacted: cut or escaped, a secret would not be recognised any more.
    return plain(redacted(text), limit)


def _short(state: str) -> str:
    """Return a state of which no two become the same by being cut."""
    shown = plain(state, STATE)
    if len(shown) <= STATE:
        return shown
    return f"{shown} {hashlib.sha256(state.encode('utf-8', 'replace')).hexdigest()[:8]}"
