"""docs/notifications.md says what is so."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from reconciler.bootstrap import load_settings
from reconciler.model.secret import Secret
from reconciler.notifications import deduplicate
from reconciler.notifications.events import AlertSeverity, Topic
from reconciler.notifications.notifier import RetryPolicy
from reconciler.notifications.queue import MOST, Delivery, RateLimit
from reconciler.notifications.senders import Endpoint, open_endpoint
from reconciler.notifications.senders.webhook import SENDER
from reconciler.notifications.transport import Transport
from reconciler.settings import paths
from reconciler.settings.notifications import NotificationSettings
from reconciler.testing.receiver import receiving
from tests.house.pages import blocks, page
from tests.notifications.receivers import Files
from tests.support.leaks import Watch

PAGE = page("docs/notifications.md")
MESSAGE = deduplicate.Message(
    "id",
    Topic.ROBOTS,
    "a",
    "",
    "7",
    AlertSeverity.CRITICAL,
    AlertSeverity.CRITICAL,
    "text",
    "desk",
    0.0,
)


def test_the_settings_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SYSTEM_FILE", str(tmp_path / "none"))
    (block,) = blocks(PAGE, "settings")
    file = tmp_path / "settings.yaml"
    file.write_text(block, "utf-8")

    found = load_settings(str(file), {}, []).notifications

    assert [one.kind for one in found] == ["slack", "telegram", "webhook"]


def test_the_body_has_the_keys_of_a_real_one() -> None:
    (block,) = blocks(PAGE, "body")
    endpoint = Endpoint(NotificationSettings("webhook", "pager"), Secret(""))

    assert list(json.loads(block)) == list(SENDER.document(Delivery((MESSAGE,)), "fleet", endpoint))


def test_the_receiver_s_code_believes_what_is_genuine(tmp_path: Path, watch: Watch) -> None:
    (block,) = blocks(PAGE, "verify")
    space: dict[str, object] = {}
    exec(block, space)
    genuine = space["genuine"]
    assert callable(genuine)
    files = Files(tmp_path, watch)

    async def story() -> None:
        async with receiving() as receiver:
            post = Transport(open_endpoint(files.webhook(receiver.url)), "fleet", 5)
            for now in (time.time(), time.time() - 1000):
                assert not (await post.send(Delivery((MESSAGE,)), now)).why
            await post.close()
            new, old = receiver.requests
            key = files.key.encode()
            for request, body, expected in (
                (new, new.body, True),
                (new, new.body + b" ", False),
                (old, old.body, False),
            ):
                stamp, sign = (request.headers[f"X-JTR-{n}"] for n in ("Timestamp", "Signature"))
                assert genuine(key, stamp, sign, body) is expected

    asyncio.run(story())


def test_every_topic_and_every_figure_is_named() -> None:
    section = PAGE.partition("## What is told, and when")[2].partition("\n## ")[0]
    retry_policy, rate_limit = RetryPolicy(), RateLimit()

    assert {str(topic) for topic in Topic} <= set(section.replace("`", ",").split(","))
    assert (rate_limit.usual, rate_limit.period, rate_limit.urgent, MOST) == (20, 600, 60, 200)
    assert "at most 20 messages in ten minutes, and 60 critical ones besides" in section
    assert (retry_policy.stable, retry_policy.deadline, retry_policy.tries) == (60, 10, 5)
    assert deduplicate.REPEAT == 3600
