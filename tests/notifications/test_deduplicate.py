"""What is told and when, what waits for one target: values in, values out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.values import replace
from reconciler.notifications.deduplicate import Deduplicator, Message, read_told, told_rows
from reconciler.notifications.events import AlertSeverity, Guide, News, Topic
from reconciler.notifications.queue import (
    MOST,
    Delivery,
    RateLimit,
    SendQueue,
    read_messages,
)

STABLE = 60.0
DAY = 86_400.0


def news(state: str, topic: Topic = Topic.HEALTH, **other: Any) -> News:
    severity = other.pop("severity", AlertSeverity.WARNING if state else AlertSeverity.INFO)
    subject = other.pop("subject", "tokyo-1")
    return News(topic, subject, state, severity, other.pop("text", f"it is {state}"), **other)


def told(harness: Deduplicator, now: float, *heard: News) -> list[tuple[str, str]]:
    for one in heard:
        harness.hear(one, now)
    return [(message.before, message.state) for message in harness.due(now)]


def test_only_transitions_are_told_and_well_only_after_trouble() -> None:
    harness = Deduplicator("fleet")

    assert told(harness, 0, news("")) == []
    assert told(harness, 60, news("degraded")) == []
    assert told(harness, 119, news("degraded")) == []
    assert harness.wake() == 120
    assert told(harness, 120) == [("", "degraded")]
    assert told(harness, 500, news("degraded")) == []
    assert told(harness, 560, news("")) == []
    assert told(harness, 620, news("")) == [("degraded", "")]
    assert told(harness, 900, news("")) == []
    assert harness.wake() is None
    assert harness.told == {}


def test_a_server_that_flaps_says_nothing() -> None:
    harness = Deduplicator("fleet")

    for minute in range(100):
        heard = news("unreachable" if minute % 2 else "", severity=AlertSeverity.CRITICAL)
        assert told(harness, minute * 59.0, heard) == []


def test_trouble_that_changes_its_name_is_told_all_the_same() -> None:
    harness = Deduplicator("fleet")

    assert told(harness, 0, news("degraded")) == []
    assert told(harness, 30, news("unreachable", severity=AlertSeverity.CRITICAL)) == []
    assert told(harness, 60, news("degraded")) == [("", "degraded")]
    assert told(harness, 70, news("unreachable")) == []
    assert told(harness, 129, news("")) == []
    assert told(harness, 188, news("")) == []
    assert told(harness, 189) == [("degraded", "")]


@pytest.mark.parametrize(
    ("topic", "severity", "at_once"),
    [
        (Topic.ROBOTS, AlertSeverity.CRITICAL, True),
        (Topic.BRAKE, AlertSeverity.CRITICAL, True),
        (Topic.IN_DOUBT, AlertSeverity.CRITICAL, True),
        (Topic.REBOOT_OWED, AlertSeverity.WARNING, True),
        (Topic.HEALTH, AlertSeverity.CRITICAL, False),
        (Topic.SECRETS, AlertSeverity.CRITICAL, False),
        (Topic.DRIFT, AlertSeverity.WARNING, False),
    ],
)
def test_what_is_told_at_once(topic: Topic, severity: AlertSeverity, *, at_once: bool) -> None:
    harness = Deduplicator("fleet")

    assert bool(told(harness, 0, news("x", topic, severity=severity))) is at_once
    assert bool(told(harness, STABLE)) is not at_once
    assert told(harness, 100, news("", topic)) == []
    assert told(harness, 100 + STABLE) == [("x", "")]


def test_a_debt_is_repeated_daily_while_it_lasts() -> None:
    harness = Deduplicator("fleet")
    debt = news("okx", Topic.REBOOT_OWED, remind=DAY)
    moments = []
    for minute in range(0, 3 * 24 * 60 + 1, 5):
        moments += [minute / 60 for _ in told(harness, minute * 60.0, debt)]

    assert moments == [0, 24, 48, 72]
    (reminder,) = [m for m in [*harness.due(4 * DAY)] if m.reminder]
    assert reminder.text == "still: it is okx"
    assert told(harness, 4 * DAY + 1, news("", Topic.REBOOT_OWED)) == []
    assert told(harness, 5 * DAY, news("", Topic.REBOOT_OWED)) == [("okx", "")]
    assert told(harness, 9 * DAY) == []


def test_what_happened_is_told_once_each_and_the_same_failure_once_an_hour() -> None:
    harness = Deduplicator("fleet")

    def did(at: str, text: str, severity: AlertSeverity = AlertSeverity.INFO) -> News:
        return news(at, Topic.APPLIED, text=text, severity=severity)

    assert len(told(harness, 0, did("09:00", "okx: done"), did("09:01", "bybit: done"))) == 2
    assert told(harness, 1, did("09:01", "bybit: done")) == []
    failing = [
        len(told(harness, at, did(str(at), "okx: failed", AlertSeverity.WARNING)))
        for at in range(10, 7300, 300)
    ]
    assert sum(failing) == 3
    harm = [
        told(harness, at, news(f"{at}", Topic.HARM, severity=AlertSeverity.CRITICAL))
        for at in (1, 2)
    ]
    assert harm == [[("", "1")], [("", "2")]]


def test_a_restart_repeats_nothing_and_still_tells_the_end() -> None:
    before = Deduplicator("fleet")
    debt = news("okx", Topic.REBOOT_OWED, remind=DAY)
    assert told(before, 0, debt, news("1", Topic.HARM, severity=AlertSeverity.CRITICAL))
    rows = json.loads(json.dumps(told_rows(before.told)))

    after = Deduplicator("fleet", read_told(rows, 100))

    assert after.told == before.told
    assert told(after, 2 * DAY) == [], "nobody said yet that it lasts"
    assert told(after, 100, news("1", Topic.HARM, severity=AlertSeverity.CRITICAL), debt) == []
    assert told(after, DAY + 1, debt) == [("okx", "okx")]
    assert told(after, DAY + 2, news("", Topic.REBOOT_OWED)) == []
    assert told(after, DAY + 70) == [("okx", "")]


def test_what_an_earlier_version_told_is_still_known() -> None:
    now = read_told([["health", "a", "degraded", "warning", 5.0, "x"]], 100)
    then = read_told([["health", "a", "degraded", "warning", 5.0, "x", 4.0, "drift"]], 100)

    assert [(one.at, one.since, one.runbook) for one in (*now.values(), *then.values())] == [
        (5.0, 5.0, ""),
        (5.0, 4.0, "drift"),
    ]


def test_a_clock_that_was_set_back_delays_by_one_turn_at_most() -> None:
    harness = Deduplicator("fleet")
    debt = news("okx", Topic.REBOOT_OWED, remind=DAY)
    assert told(harness, 50 * DAY, debt, news("degraded"))

    assert told(harness, 10 * DAY) == []
    assert told(harness, 10 * DAY + STABLE) == [("", "degraded")]
    assert told(harness, 11 * DAY) == [("okx", "okx")]


def test_a_server_that_nobody_declares_any_more_is_forgotten_in_words() -> None:
    harness = Deduplicator("fleet")
    assert told(
        harness, 0, news("x", Topic.ROBOTS, severity=AlertSeverity.CRITICAL), news("degraded")
    )

    harness.keep({"osaka-1"}, 10)
    (gone,) = harness.due(10)

    assert (gone.state, gone.weight) == ("", AlertSeverity.CRITICAL)
    assert "no document names it any more" in gone.text
    assert told(harness, 1000) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Topic.HEALTH, Topic.ROBOTS, Topic.REBOOT_OWED]),
            st.sampled_from(["", "a", "b"]),
            st.floats(0, 100),
        )
    )
)
def test_messages_are_a_chain_without_a_step_on_the_spot(
    steps: list[tuple[Topic, str, float]],
) -> None:
    harness, now = Deduplicator("fleet"), 0.0
    known: dict[Topic, str] = {}
    present: dict[Topic, str] = {}
    for topic, state, passed in [*steps, (Topic.DRIFT, "", 1e6)]:
        now += passed
        present[topic] = state
        harness.hear(news(state, topic), now)
        for message in harness.due(now):
            assert message.before == known.get(message.topic, "") != message.state
            assert message.state == present[message.topic]
            known[message.topic] = message.state

    assert {t: s for t, s in known.items() if s} == {t: s for t, s in present.items() if s}


@pytest.mark.parametrize(
    "rows",
    [
        None,
        {},
        "x",
        [1],
        [["health", "a", "b"]],
        [["none", "a", "b", "info", 1.0, ""]],
        [["health", "a", "b", "info", "nan", ""]],
        [["health", "a", "b", "info", -1, ""]],
        [["health", "a", "b", "info", 10**400, ""]],
    ],
)
def test_a_broken_memory_begins_anew(rows: Any) -> None:
    assert read_told(rows, 0) == {}
    assert read_messages(rows) == []


# ── the queue of one target ─────────────────────────────────────────────────────────────────


def message(number: int, **other: Any) -> Message:
    plain = Message(
        f"id-{number}",
        Topic.DRIFT,
        f"server-{number}",
        "",
        "drift",
        AlertSeverity.WARNING,
        AlertSeverity.WARNING,
        f"server-{number} drifts",
        "",
        float(number),
        guide=Guide(title=f"trouble {number}"),  # unlike others, or it would go with them
    )
    return replace(plain, **other)


def drained(queue: SendQueue, now: float) -> list[Delivery]:
    found = []
    while (delivery := queue.take(now)) is not None:
        found.append(delivery)
        queue.done()
    return found


def test_what_does_not_fit_is_one_digest_later() -> None:
    queue = SendQueue(RateLimit(usual=20, period=600), 0)
    for number in range(60):
        queue.add(message(number))

    assert [len(delivery.messages) for delivery in drained(queue, 0)] == [1] * 20
    queue.add(message(60))
    assert drained(queue, 29) == []
    assert queue.next(29) == pytest.approx(30, abs=0.01)
    (digest,) = drained(queue, queue.next(29) or 0)
    assert [one.subject for one in digest.messages] == [f"server-{n}" for n in range(20, 61)]
    assert digest.text.startswith("41 messages\n\nwarning: server-20 drifts\n")
    assert len(queue) == 0
    assert queue.next(30) is None


def alike(number: int, **other: Any) -> Message:
    guide = Guide("drift", "another key may be in use", "ask who changed SERVER", "drift")
    return message(number, guide=guide, **other)


def test_the_first_of_a_kind_goes_at_once_and_the_others_go_as_one() -> None:
    queue = SendQueue(RateLimit(usual=2), 0, runbooks="https://ops.internal/runbooks/")
    queue.add(alike(0))

    (first,) = drained(queue, 0)
    for number in range(1, 41):
        queue.add(alike(number, since=100.0 + number))
        assert drained(queue, number / 4) == []
    assert queue.next(29) == RateLimit().together
    (others,) = drained(queue, RateLimit().together)

    assert first.text.splitlines()[2:] == [
        "For trading: another key may be in use",
        "To do: ask who changed server-0",
        "See: https://ops.internal/runbooks/drift.md",
    ]
    assert others.text.splitlines()[:6] == [
        "40 servers: drift",
        "Since: 1970-01-01 00:01:41 UTC",
        "For trading: another key may be in use",
        "To do: ask who changed SERVER",
        "See: https://ops.internal/runbooks/drift.md",
        "- server-1 drifts",
    ]
    assert others.text.endswith("- and 30 more: " + ", ".join(f"server-{n}" for n in range(11, 41)))


def test_what_is_unlike_waits_for_nothing() -> None:
    queue = SendQueue(RateLimit(), 0)
    assert queue.add(alike(0)) is None
    assert len(drained(queue, 0)) == 1
    queue.add(alike(1, severity=AlertSeverity.CRITICAL))
    queue.add(alike(2, topic=Topic.ROBOTS))
    queue.add(alike(3))

    assert [[one.subject for one in found.messages] for found in drained(queue, 1)] == [
        ["server-1"],
        ["server-2"],
    ]
    assert queue.next(-100) is not None
    assert drained(queue, -100), "a clock that was set back lets nothing wait longer"


def test_what_is_critical_has_tokens_of_its_own_and_goes_first() -> None:
    queue = SendQueue(RateLimit(usual=2, urgent=3, period=600), 0)
    for number in range(4):
        queue.add(message(number))
    for number in range(10, 16):
        queue.add(message(number, severity=AlertSeverity.CRITICAL))

    sent = [[int(one.at) for one in delivery.messages] for delivery in drained(queue, 0)]

    assert sent == [[10], [11], [12], [13], [14]]
    assert queue.next(0) == pytest.approx(200, abs=0.01)
    (late, digest) = [p for now in (200.1, 300.1) for p in drained(queue, now)]
    assert [one.at for one in late.messages] == [15]
    assert [one.at for one in digest.messages] == [0, 1, 2, 3]


def test_the_newest_state_counts_and_what_ended_meanwhile_is_not_told() -> None:
    queue = SendQueue(RateLimit(), 0)
    queue.add(message(1))
    queue.add(message(1, id="b", before="drift", state="", text="well"))
    queue.add(message(2))
    queue.add(message(2, id="c", before="drift", state="more", text="more"))
    queue.add(message(3, topic=Topic.APPLIED, id="d", state="1"))
    queue.add(message(3, topic=Topic.APPLIED, id="e", state="2"))

    assert [d.text.splitlines()[:1] for d in drained(queue, 0)] == [
        ["more"],
        ["server-3: trouble 3, 2 times"],
    ]


def test_the_queue_is_bounded_and_what_was_lost_is_counted() -> None:
    queue = SendQueue(RateLimit(usual=1), 0)
    queue.add(message(0, severity=AlertSeverity.CRITICAL, weight=AlertSeverity.CRITICAL))
    squeezed = [queue.add(message(number)) for number in range(1, MOST + 6)]

    assert [one.subject for one in squeezed if one] == [f"server-{n}" for n in range(1, 7)]
    assert len(queue) == MOST
    delivery = queue.take(0)
    assert delivery is not None
    assert delivery.lost == 6
    assert delivery.text.endswith(
        "6 earlier notifications could not be delivered: see `jtr status`, and "
        "docs/runbooks/notifications-dropped.md"
    )
    queue.fail()
    again = queue.take(0)
    assert again is not None
    assert again.lost == 7
    queue.done()
    last = queue.take(0, last=True)
    assert last is not None
    assert (last.lost, len(last.messages)) == (0, MOST - 2)


def test_what_is_on_its_way_survives() -> None:
    queue = SendQueue(RateLimit(), 0)
    queue.add(message(1))
    queue.add(message(2))
    queue.take(0)

    rows = json.loads(json.dumps(queue.rows()))
    again = SendQueue(RateLimit(), 0, read_messages(rows))

    assert drained(again, 0) == [Delivery((message(1),)), Delivery((message(2),))]


@given(st.lists(st.tuples(st.floats(0, 1000), st.booleans()), max_size=200))
def test_the_rate_holds_for_every_window(steps: list[tuple[float, bool]]) -> None:
    queue, now = SendQueue(RateLimit(usual=5, urgent=7, period=100), 0), 0.0
    sent: list[float] = []
    for number, (passed, critical) in enumerate(steps):
        now += passed
        severity = AlertSeverity.CRITICAL if critical else AlertSeverity.WARNING
        queue.add(message(number, severity=severity))
        sent += [now for _ in drained(queue, now)]

    for begin in sent:
        assert len([at for at in sent if begin <= at < begin + 100]) <= 2 * (5 + 7)
