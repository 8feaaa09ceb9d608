"""From news to receivers: transitions, flapping, rates, dead receivers, restarts."""

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reconciler.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.notifications.deduplicate import Message
from reconciler.notifications.events import AlertSeverity, Guide, News, Topic
from reconciler.notifications.notifier import (
    Callbacks,
    Notifier,
    RetryPolicy,
    cleaned,
    open_endpoints,
    wants,
)
from reconciler.notifications.queue import RateLimit
from reconciler.settings.notifications import NotificationSettings
from reconciler.testing.receiver import Receiver, Request, receiving
from tests.notifications.receivers import Files, ManualClock
from tests.support.leaks import Watch

DAY = 86_400.0
MANNERS = RetryPolicy(deadline=5.0)


def news(state: str, topic: Topic = Topic.HEALTH, **other: Any) -> News:
    subject = other.pop("subject", "tokyo-1")
    severity = other.pop("severity", AlertSeverity.WARNING if state else AlertSeverity.INFO)
    text = other.pop("text", f"{subject}: {state or 'well again'}")
    guide = Guide(title=f"trouble of {subject}")  # unlike that of others, or it would go with it
    return News(topic, subject, state, severity, text, **{"guide": guide} | other)


def robots(state: str, number: int = 1, **other: Any) -> News:
    """A state that is told at once; that all is well comes with the same severity."""
    severity = AlertSeverity.CRITICAL
    return news(state, Topic.ROBOTS, subject=f"tokyo-{number}", severity=severity, **other)


def drifting(number: int) -> News:
    return news("drift", Topic.DRIFT, subject=f"tokyo-{number}")


@dataclass
class Execution:
    """A notifier whose clock the test holds."""

    notifier: Notifier
    clock: ManualClock
    tasks: int
    results: Counter[tuple[str, str]]
    changes: list[Mapping[str, Any]] = field(default_factory=list)

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds, self.tasks)

    async def idle(self) -> None:
        await self.clock.idle(self.tasks)


@contextlib.asynccontextmanager
async def revealing(
    *settings: NotificationSettings,
    memory: Mapping[str, Any] | None = None,
    retry_policy: RetryPolicy = MANNERS,
    clock: ManualClock | None = None,
    grace: float = 5.0,
) -> AsyncIterator[Execution]:
    clock = clock or ManualClock()
    results: Counter[tuple[str, str]] = Counter()
    scenes: list[Execution] = []

    def changed() -> None:
        # What is written down is what there is at this moment, through JSON as in the state file.
        if scenes:
            scenes[0].changes.append(json.loads(json.dumps(scenes[0].notifier.memory())))

    notifier = Notifier(
        await open_endpoints(settings),
        "fleet",
        memory or {},
        calls=Callbacks(lambda target, result: results.update([(target, str(result))]), changed),
        clock=clock,
        retry_policy=retry_policy,
    )
    scenes.append(Execution(notifier, clock, 1 + len(settings), results))
    try:
        yield scenes[0]
    finally:
        await notifier.close(grace)


@pytest.fixture
def files(tmp_path: Path, watch: Watch) -> Files:
    return Files(tmp_path, watch)


def told(story: Callable[[Receiver], Awaitable[None]]) -> None:
    async def run() -> None:
        async with receiving() as receiver:
            await story(receiver)

    asyncio.run(run())


def said(request: Request) -> str:
    """What happened: the first line."""
    return str(json.loads(request.body)["text"]).partition("\n")[0]


def texts(receiver: Receiver) -> list[str]:
    return [said(request) for request in receiver.requests]


# ── transitions ──────────────────────────────────────────────────────────────────────────────


def test_trouble_and_its_end_are_told_once_each(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url)) as stage:
            tell = stage.notifier.tell
            tell([news(""), robots("")])
            tell([robots("7")])
            tell([robots("7"), robots("7")])
            assert said(await receiver.next()) == "tokyo-1: 7"
            tell([robots("7"), robots("")])
            await stage.pass_time(59)
            tell([robots("")])
            await stage.idle()
            assert len(receiver.requests) == 1
            await stage.pass_time(1)
            tell([robots("")])
            await stage.pass_time(1000)

            assert texts(receiver) == ["tokyo-1: 7", "tokyo-1: well again"]
            severities = [json.loads(request.body)["severity"] for request in receiver.requests]
            assert severities == ["critical", "info"]
            assert stage.results == {("pager", "sent"): 2}

    told(story)


def test_it_tells_what_lasts_by_itself_and_nothing_of_what_flaps(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.slack(receiver.url)) as stage:
            for _ in range(20):
                stage.notifier.tell([news("unreachable", severity=AlertSeverity.CRITICAL)])
                await stage.pass_time(45)
                stage.notifier.tell([news("")])
                await stage.pass_time(45)
            assert receiver.requests == []

            stage.notifier.tell([news("unreachable", severity=AlertSeverity.CRITICAL)])
            await stage.pass_time(60)
            assert texts(receiver) == ["[fleet] critical: tokyo-1: unreachable"]

    told(story)


def test_a_debt_is_told_at_once_and_daily(files: Files) -> None:
    debt = news("okx", Topic.REBOOT_OWED, remind=DAY)

    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url)) as stage:
            stage.notifier.tell([debt])
            await stage.idle()
            assert len(receiver.requests) == 1
            await stage.pass_time(DAY - 1)
            stage.notifier.tell([debt])
            await stage.idle()
            assert len(receiver.requests) == 1
            await stage.pass_time(1)
            await stage.pass_time(DAY)

            bodies = [json.loads(request.body) for request in receiver.requests]
            assert [body["reminder"] for body in bodies] == [False, True, True]
            assert len({body["id"] for body in bodies}) == 3

    told(story)


def test_a_restart_repeats_nothing(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url)) as stage:
            stage.notifier.tell([robots("7"), news("okx", Topic.REBOOT_OWED, remind=DAY)])
            await receiver.next()
            await receiver.next()
            await stage.idle()
        memory = stage.changes[-1]
        assert memory["waiting"] == {}

        async with revealing(files.webhook(receiver.url), memory=memory) as stage:
            stage.notifier.tell([robots("7"), news("okx", Topic.REBOOT_OWED, remind=DAY)])
            await stage.pass_time(100)
            assert len(receiver.requests) == 2
            stage.notifier.tell([robots("")])
            await stage.pass_time(60)
            assert texts(receiver)[2:] == ["tokyo-1: well again"]

    told(story)


def test_a_death_before_the_answer_sends_it_again_under_the_same_key(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url)) as stage:
            stage.notifier.tell([robots("7")])
            # What a process that is killed now leaves: it was handed over before anything was sent.
            memory = stage.changes[-1]
            await receiver.next()
        async with revealing(files.webhook(receiver.url), memory=memory) as stage:
            stage.notifier.tell([robots("7")])
            await receiver.next()
            await stage.idle()

        keys = [request.headers["Idempotency-Key"] for request in receiver.requests]
        assert len(keys) == 2
        assert len(set(keys)) == 1

    told(story)


@pytest.mark.parametrize(
    "memory",
    [
        {"told": 1, "waiting": 2},
        {"told": [[1]], "waiting": {"pager": [1]}},
        {"waiting": {"pager": {}, "gone": [{}]}},
    ],
)
def test_a_broken_memory_begins_anew(files: Files, memory: Mapping[str, Any]) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url), memory=memory) as stage:
            stage.notifier.tell([robots("7")])
            assert said(await receiver.next()) == "tokyo-1: 7"

    told(story)


def test_a_server_that_left_is_forgotten_in_words(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url)) as stage:
            stage.notifier.tell([robots("7", 1), robots("8", 2)])
            await stage.idle()
            stage.notifier.keep({"tokyo-2"})
            await stage.idle()
            await stage.pass_time(1000)

            assert "no document names it any more" in texts(receiver)[-1]
            assert [row[1] for row in stage.notifier.memory()["told"]] == ["tokyo-2"]

    told(story)


# ── rates ────────────────────────────────────────────────────────────────────────────────────


def test_a_fleet_in_trouble_is_a_few_messages_and_a_digest(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url)) as stage:
            stage.notifier.tell([drifting(number) for number in range(57)])
            await stage.pass_time(60)
            assert len(receiver.requests) == 20
            stage.notifier.tell([robots("7")])
            await stage.idle()
            assert texts(receiver)[20:] == ["tokyo-1: 7"], "what is critical does not wait"
            await stage.pass_time(31)

            digest = json.loads(receiver.requests[-1].body)
            assert len(receiver.requests) == 22
            assert len(digest["items"]) == 37
            assert digest["text"].startswith("37 messages\n\nwarning: tokyo-")
            assert stage.results == {("pager", "sent"): 58, ("pager", "gathered"): 37}

    told(story)


def test_filters(files: Files) -> None:
    every = replace(files.webhook("http://127.0.0.1"), severity="info")
    loud = replace(every, severity="critical")
    end = Message(
        "id",
        Topic.ROBOTS,
        "a",
        "7",
        "",
        AlertSeverity.INFO,
        AlertSeverity.CRITICAL,
        "",
        "desk-asia",
        0.0,
    )
    own = replace(end, subject="", owner="", topic=Topic.BRAKE)

    assert wants(every, end)
    assert wants(loud, end), "who heard of trouble hears of its end"
    assert not wants(loud, replace(end, weight=AlertSeverity.WARNING))
    assert not wants(replace(every, topics=("brake",)), end)
    assert wants(replace(every, topics=("brake",)), own)
    assert not wants(replace(every, owners=("desk-eu",)), end)
    assert wants(replace(every, owners=("desk-eu", "desk-asia")), end)
    assert wants(replace(every, owners=("desk-eu",)), own), "what concerns all is told to all"


# ── receivers that do not take it ────────────────────────────────────────────────────────────


def test_failures_are_tried_again_and_then_dropped_with_a_line(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(receiver: Receiver) -> None:
        receiver.replies = [web.Response(status=503) for _ in range(5)]
        async with revealing(files.slack(receiver.url)) as stage:
            stage.notifier.tell([robots("7")])
            await stage.idle()
            for _ in range(4):
                await stage.pass_time(20)
            assert len(receiver.requests) == 5
            assert stage.results == {("desk", "retried"): 4, ("desk", "dropped"): 1}
            waits = [wait for wait in stage.clock.waits if wait < 60]
            assert [low <= wait <= 2 * low for low, wait in zip((1, 2, 4, 8), waits, strict=True)]

            stage.notifier.tell([robots("8", 2)])
            await stage.idle()
            assert said(receiver.requests[-1]) == "[fleet] critical: tokyo-2: 8"
            assert json.loads(receiver.requests[-1].body)["text"].endswith(
                "\n\n1 earlier notification could not be delivered: see `jtr status`, and "
                "docs/runbooks/notifications-dropped.md"
            )
            assert stage.notifier.memory()["waiting"] == {}

    told(story)

    assert "target=desk: gave up on topic=robots subject=tokyo-1: it answered 503" in caplog.text
    assert files.hook not in caplog.text


def test_a_receiver_that_asks_for_time_gets_it(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        receiver.replies = [
            web.json_response({"ok": False, "parameters": {"retry_after": 40}}, status=429)
        ]
        async with revealing(files.telegram(receiver.url)) as stage:
            stage.notifier.tell([robots("7")])
            await stage.idle()
            await stage.pass_time(39)
            assert len(receiver.requests) == 1
            await stage.pass_time(1)
            assert len(receiver.requests) == 2
            assert stage.results == {("bot", "retried"): 1, ("bot", "sent"): 1}

    told(story)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410])
def test_a_refusal_is_not_repeated_and_no_redirect_is_followed(files: Files, status: int) -> None:
    async def story(receiver: Receiver) -> None:
        async with receiving() as elsewhere:
            receiver.replies = [web.Response(status=status, headers={"Location": elsewhere.url})]
            async with revealing(files.webhook(receiver.url)) as stage:
                stage.notifier.tell([robots("7")])
                await stage.idle()
                assert stage.results == {("pager", "dropped"): 1}
                assert len(receiver.requests) == 1
                assert elsewhere.requests == []

    told(story)


def test_a_silent_receiver_delays_neither_the_loop_nor_the_others(files: Files) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def story(receiver: Receiver) -> None:
        async with receiving() as hung:
            hung.replies = [silent] * 100
            slow = files.webhook(hung.url, "slow")
            async with revealing(slow, files.slack(receiver.url), grace=0.1) as stage:
                begin = time.monotonic()
                for number in range(50):
                    stage.notifier.tell([robots("7", number)])
                assert time.monotonic() - begin < 5
                for _ in range(50):
                    await receiver.next()
                assert len(hung.requests) == 1
            waiting = stage.changes[-1]["waiting"]
            assert len(waiting["slow"]) == 50

    told(story)


def test_a_dead_receiver_costs_bounded_memory(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        receiver.replies = [web.Response(status=503) for _ in range(10_000)]
        async with revealing(files.webhook(receiver.url)) as stage:
            stage.notifier.tell(robots("7", number, text="x" * 5000) for number in range(3000))
            await stage.idle()

            memory = stage.notifier.memory()
            assert len(memory["waiting"]["pager"]) <= 201
            assert len(json.dumps(memory["waiting"])) < 400_000
            assert stage.results["pager", "dropped"] >= 2799

    told(story)


# ── stopping ─────────────────────────────────────────────────────────────────────────────────


def test_at_a_stop_everything_goes_at_once_whatever_the_rate(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        retry_policy = RetryPolicy(rate_limit=RateLimit(usual=1))
        async with revealing(files.webhook(receiver.url), retry_policy=retry_policy) as stage:
            stage.notifier.tell([drifting(number) for number in range(5)])
            await stage.pass_time(60)
            assert len(receiver.requests) == 1

        assert len(json.loads(receiver.requests[1].body)["items"]) == 4
        assert stage.changes[-1]["waiting"] == {}

    told(story)


def test_what_a_stop_leaves_is_sent_by_the_next_run(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(receiver: Receiver) -> None:
        receiver.replies = [web.Response(status=503) for _ in range(2)]
        async with revealing(files.webhook(receiver.url)) as stage:
            stage.notifier.tell([robots("7")])
            await stage.idle()
        assert len(receiver.requests) == 2, "once more, without waiting"
        assert "target=pager: 1 messages wait for the next start" in caplog.text

        async with revealing(files.webhook(receiver.url), memory=stage.changes[-1]) as stage:
            await stage.idle()
        assert texts(receiver) == ["tokyo-1: 7"] * 3

    told(story)


# ── never a secret ───────────────────────────────────────────────────────────────────────────


def test_a_secret_in_a_text_does_not_get_out(files: Files, watch: Watch) -> None:
    value = watch.secret("base62")
    alive = Secret(value)
    dirty = robots(
        f"state {value}", text=f"robot \x1b[31m\u202e{value}\nnext line", owner=f"desk {value}"
    )

    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url), files.slack(receiver.url)) as stage:
            stage.notifier.tell([dirty])
            await stage.idle()
            memory = json.dumps(stage.notifier.memory())
        bodies = [request.body.decode() for request in receiver.requests]
        assert len(bodies) == 2
        for text in (*bodies, memory):
            watch.search("what was sent or kept", text)
        (body,) = [json.loads(text) for text in bodies if "formatVersion" in text]
        assert body["what"] == "robot \\u001b[31m\\u202e***\\u000anext line"

    told(story)
    assert alive.reveal() == value


def test_a_secret_with_any_sign_in_it_does_not_get_out(watch: Watch) -> None:
    head, tail = watch.secret("base62"), watch.secret("base62")
    alive = Secret(f"{head}\x1e{tail}")

    for texts in ((alive.reveal(), "x"), (head, tail)):
        (one,) = cleaned([robots(texts[0], text=texts[1])])
        if texts[1] == "x":
            assert (one.state, one.text) == ("***", "x")
        else:
            assert (one.state, one.text) == (head, tail), "apart they are no secret"


def test_several_states_of_one_topic_are_heard_in_their_order(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url)) as stage:
            did = [news(at, Topic.APPLIED, text=at) for at in ("09:00", "09:01", "09:02")]
            stage.notifier.tell(did[:1])
            stage.notifier.tell([did[0], did[1], did[2]])
            await stage.idle()
            assert texts(receiver) == ["tokyo-1: trouble of tokyo-1, 3 times"]
            items = json.loads(receiver.requests[0].body)["items"]
            assert [item["text"] for item in items] == ["09:00", "09:01", "09:02"]

    told(story)


def test_states_that_differ_only_far_behind_are_different(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        async with revealing(files.webhook(receiver.url)) as stage:
            for end in "ab":
                stage.notifier.tell([robots("x" * 300 + end, text=end)])
                await stage.idle()
            assert texts(receiver) == ["a", "b"]

    told(story)


def test_a_secret_that_cannot_be_read_is_said_at_the_start(files: Files) -> None:
    settings = files.telegram("http://127.0.0.1")
    (files.folder / "bot-tokenFile").unlink()

    with pytest.raises(UsageError, match="notifications: bot: tokenFile cannot be read"):
        asyncio.run(open_endpoints([settings]))


def test_without_targets_and_with_the_real_clock_it_stops_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        notifier = Notifier([], "fleet", {})
        notifier.tell([robots("7"), news("degraded")])
        await asyncio.sleep(0)
        assert [row[2] for row in notifier.memory()["told"]] == ["7"]
        await notifier.close(5)

    caplog.set_level(logging.DEBUG)
    asyncio.run(story())
