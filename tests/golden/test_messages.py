"""
What people read of every kind of news, at every kind of receiver.

`pytest tests/golden --rewrite-golden` writes the files.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.controller import guidance
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.notifications import senders
from reconciler.notifications.events import AlertSeverity, Guide, Topic
from reconciler.notifications.queue import Delivery
from reconciler.notifications.senders import Endpoint, sender
from reconciler.settings.notifications import NotificationSettings
from tests.golden.message_cases import FLEET, STORIES, deliveries
from tests.golden.test_golden import check, rewrite
from tests.house.pages import BLOCK, ROOT, page

__all__ = ["rewrite"]
HERE = Path(__file__).parent / "messages"
DELIVERIES = deliveries()
GUIDES = [one for one in vars(guidance).values() if isinstance(one, Guide)]
LABELS = ("Since: ", "For trading: ", "To do: ", "See: ")


def posted(kind: str, delivery: Delivery) -> str:
    """What one kind of sender posts, as its receiver shows it."""
    endpoint = Endpoint(NotificationSettings(kind, "one", {"chatId": "-100"}), Secret(""))
    document = sender(kind).document(delivery, "desk-asia", endpoint)
    if "formatVersion" in document:
        return json.dumps(document, indent=2, ensure_ascii=False)
    return str(document["text"])


@pytest.mark.parametrize("name", DELIVERIES)
def test_a_message(name: str, *, rewrite: bool) -> None:
    """Each of its deliveries, as every kind of receiver gets it; alike ones stand there once."""
    shown: dict[str, list[str]] = {}
    for kind in senders.kinds():
        text = "\n\n".join(posted(kind, delivery) for delivery in DELIVERIES[name])
        shown.setdefault(text, []).append(kind)
    text = "\n\n".join(f"=== {', '.join(kinds)}\n\n{text}" for text, kinds in shown.items())

    check(HERE / f"{name}.txt", text + "\n", rewrite=rewrite)


def test_no_file_is_left_over_and_no_topic_left_out() -> None:
    assert {path.stem for path in HERE.iterdir()} == {*DELIVERIES}
    told = {message.topic for messages in STORIES.values() for message in messages}
    assert told == {*Topic}


@pytest.mark.parametrize("name", STORIES)
def test_whoever_is_woken_reads_all_that_is_needed(name: str) -> None:
    for message in STORIES[name]:
        what, *rest = Delivery((message,)).text.splitlines()
        assert what == message.text
        assert what.startswith(f"{message.subject}: " if message.subject else "")
        assert [line.partition(": ")[0] + ": " for line in rest] in (
            [*LABELS],
            ["At: ", *LABELS[1:]],
        )
        assert all(line.partition(": ")[2] for line in rest)
        assert "SERVER" not in message.remedy or not message.subject
        assert "(s)" not in message.text
        runbook = ROOT / rest[-1].removeprefix("See: ")
        assert runbook.is_file(), runbook


@pytest.mark.parametrize("name", [name for name, told in STORIES.items() if len(told) > 1])
def test_that_it_is_over_is_no_alarm(name: str) -> None:
    _, over = STORIES[name]

    assert over.state == ""
    assert over.guide.runbook == STORIES[name][0].guide.runbook, "it says how one can tell"
    assert over.severity is AlertSeverity.INFO
    assert over.remedy == "nothing"
    began = datetime.fromtimestamp(over.since, UTC)
    assert (began.hour, began.minute) == (3, 12), "since when it is well, not since the trouble"


def test_alike_news_of_many_servers_are_one_text_that_fits_a_screen() -> None:
    lines = Delivery(FLEET).text.splitlines()

    assert lines[0] == "12 servers: cannot be reached"
    assert lines[-1] == "- and 2 more: tokyo-11, tokyo-12"
    assert len(lines) <= 20


def test_every_guide_has_a_page_and_words_of_its_own() -> None:
    assert len(GUIDES) > len(Topic)
    for guide in GUIDES:
        assert (ROOT / f"docs/runbooks/{guide.runbook}.md").is_file(), guide.runbook
        assert guide.title
        assert guide.meaning
        assert guide.remedy
    assert len({guide.title for guide in GUIDES}) == len(GUIDES)


def test_the_page_shows_a_real_one() -> None:
    text = page("docs/notifications.md").partition("## What a message says")[2]
    shown = next(BLOCK.finditer(text))["body"]
    golden = (HERE / "robots.txt").read_text("utf-8")

    assert shown.strip() in golden.replace("@\u200b", "@")


def test_a_message_of_an_earlier_version_is_still_sent() -> None:
    message = STORIES["robots"][0]
    row = message.document()
    del row["since"], row["guide"]
    old = type(message).parse(row)

    assert old == replace(message, since=message.at, guide=Guide())
    assert Delivery((old,)).text.splitlines()[0] == message.text
    assert type(message).parse(message.document()) == message
