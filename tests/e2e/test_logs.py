"""`jtr logs`: what it shows, what never passes, and how it follows a log that changes under it."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reconciler.drivers.jt_trader.responses import ALARM
from reconciler.model.observed import LogEntry
from reconciler.render.logs import Wanted, exposed, lines, news, row
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.conformance.naive import NaiveClient
from tests.e2e.terminal import Command
from tests.support.durations import DURATIONS
from tests.support.rig import Ran, Rig

INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
EVENTS = {"logs-list-request"}


def logs(rig: Rig, *args: str) -> Ran:
    """Run `jtr logs` on the only server."""
    return rig.jtr("logs", "tokyo-1", "--from", str(rig.docs), *args)


def served(rig: Rig, **options: Any) -> StandInThread:
    """Start a server with a document."""
    server = rig.server(**options)
    rig.document()
    return server


def messages(ran: Ran) -> list[str]:
    """Return the messages of a JSON answer."""
    return [json.loads(line)["message"] for line in ran.out.splitlines()]


def test_the_log_is_printed_oldest_first_and_needs_no_ledger(rig: Rig) -> None:
    server = served(rig)
    server.append_log("warn", "Robot", "something is odd", detail="x")

    ran = logs(rig)

    assert ran.code == 0, ran.text
    shown = ran.out.splitlines()
    assert all(re.match(f"{INSTANT}  (info |warn |error)  ", line) for line in shown)
    assert [line.split("  ")[0] for line in shown] == sorted(line.split("  ")[0] for line in shown)
    assert shown[-1].endswith("Z  warn   Robot  something is odd")
    assert any(line.endswith("Nest application successfully started") for line in shown)
    assert "detail" not in ran.out
    assert "plain text" not in ran.text
    assert {one.event for one in server.record.received} == EVENTS
    assert {one.command for one in server.record.received} == {"logs"}
    assert len(server.record.handshakes) == 1


def test_json_has_one_object_per_line(rig: Rig) -> None:
    server = served(rig)
    server.append_log("error", "Robot", "bad \x1b[31m \x9b \x7f \u202e", detail="x")

    ran = logs(rig, "-o", "json")

    last = json.loads(ran.out.splitlines()[-1])
    assert set(last) == {"time", "level", "class", "message"}
    assert re.fullmatch(INSTANT, last["time"])
    assert (last["level"], last["class"]) == ("error", "Robot")
    assert last["message"] == "bad \x1b[31m \x9b \x7f \u202e"
    assert all(line.isprintable() and line.isascii() for line in ran.out.splitlines())


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\nfake line\x9b31m\u202e\ud83d\x00\x7f"


def test_no_text_of_a_server_drives_the_terminal(rig: Rig) -> None:
    server = served(rig)
    server.append_log("info", HOSTILE, HOSTILE, **{HOSTILE: HOSTILE})
    server.append_log_line(json.dumps({"level": HOSTILE, "time": 5, "class": [], "msg": {"a": 1}}))
    server.append_log_line(json.dumps({"level": 30, "time": 10**15, "pid": 1}))

    ran = logs(rig)
    with Command(
        rig, "logs", "tokyo-1", "--from", str(rig.docs), "--full", terminal=True
    ) as command:
        code = command.ended()
        full = command.text

    assert (ran.code, code) == (0, 0)
    assert all(line.isprintable() for line in ran.out.split("\n"))
    # Standard error is the same terminal, and has our own spinner on it.
    assert not any(mark in full for mark in ("\x1b]0", "\x07", "\x1b[2J", "\x9b", "\u202e", "\x00"))
    assert not re.search("^fake line", ran.out + full, re.MULTILINE)
    assert "\\u001b]0;owned" in ran.out
    shown = full.splitlines()
    assert sum(line.startswith("    \\u001b]0;owned") for line in shown) == 1


def test_other_keys_only_on_a_terminal(rig: Rig) -> None:
    server = served(rig)
    server.append_log("info", "Robot", "said", detail={"deep": "value"})

    for args in (("--full",), ("--full", "-o", "json"), ("--full", "--follow")):
        refused = logs(rig, *args)
        assert refused.code == 64
        assert "terminal only" in refused.err
        assert refused.out == ""
    assert not server.record.handshakes

    for form in ("text", "json"):
        where = ("logs", "tokyo-1", "--from", str(rig.docs), "--full", "-o", form)
        with Command(rig, *where, terminal=True) as command:
            assert command.ended() == 0
            assert '{"deep": "value"}' in command.text


def test_levels(rig: Rig) -> None:
    server = served(rig)
    for level in ("debug", "info", "warn", "error"):
        server.append_log(level, "Robot", f"at {level}")

    for level, expected in (
        ("debug", ["at debug", "at info", "at warn", "at error"]),
        ("info", ["at info", "at warn", "at error"]),
        ("warn", ["at warn", "at error"]),
        ("error", ["at error"]),
    ):
        found = [m for m in messages(logs(rig, "-o", "json", "--level", level)) if m[:3] == "at "]
        assert found == expected
    assert logs(rig, "--level", "fatal").code == 64


def test_since_is_on_the_servers_clock(rig: Rig) -> None:
    server = served(rig, behaviour=Behaviour(clock_offset=-7 * 3600.0))
    ahead = {"class": "Robot", "level": 30, "pid": 1}
    now = server.log_entries()[-1]["time"]
    for minutes in (90, 30, 0):
        entry = ahead | {"time": now - minutes * 60_000, "msg": f"{minutes} ago"}
        server.append_log_line(json.dumps(entry))
    server.append_log_line(json.dumps({"class": "Robot", "level": 30, "msg": "without a time"}))

    def since(text: str) -> list[str]:
        found = messages(logs(rig, "-o", "json", "--since", text))
        return [message for message in found if "ago" in message or "time" in message]

    assert since("1h") == ["30 ago", "0 ago", "without a time"]
    assert since("100m") == ["90 ago", "30 ago", "0 ago", "without a time"]
    assert since("2020-01-01T00:00:00Z") == since("100m")
    assert since("2100-01-01T00:00:00+01:00") == []


@pytest.mark.parametrize("since", ["yesterday", "-5m", "2026-11-22T09:00:00", "", "5"])
def test_a_since_that_is_none(rig: Rig, since: str) -> None:
    server = served(rig)

    ran = logs(rig, f"--since={since}")

    assert ran.code == 64
    assert "--since 15m" in ran.err
    assert not server.record.handshakes


@pytest.mark.parametrize("follow", [False, True], ids=["once", "follow"])
def test_a_log_without_data(rig: Rig, *, follow: bool) -> None:
    server = served(rig)
    server.append_log_line("no JSON")

    ran = logs(rig, *(["--follow"] if follow else []))

    assert ran.code == 6
    assert "does not show its system log" in ran.err
    assert ran.out == ""


def test_an_unknown_server_and_one_that_is_away(rig: Rig) -> None:
    rig.document()

    assert rig.jtr("logs", "osaka-9", "--from", str(rig.docs)).code == 64
    ran = logs(rig)
    assert ran.code in (5, 6)
    assert ran.out == ""


def test_a_changed_address_is_not_shown_the_login(rig: Rig) -> None:
    served(rig)
    rig.begin()
    assert rig.apply().code == 0
    elsewhere = StandInThread(access_secret="made-up-other")
    with elsewhere:
        rig.document(url=elsewhere.url, rotate=False)

        ran = logs(rig)

        assert ran.code == 4
        assert "tokyo-1: its address changed" in ran.err
        assert not elsewhere.record.handshakes


# ── keys that the server noted ───────────────────────────────────────────────────────────────


def reject(server: StandInThread, secret: str, value: str) -> None:
    """Send what no driver would: the value of a new field without a type."""

    async def send() -> None:
        async with NaiveClient(server.url, {"accessSecret": secret}) as client:
            await client.wait_for("authenticated")
            row = {"name": "okx_password", "value": value}
            await client.request("exchange-config-save", [row])
            await client.wait_for("update-report")

    asyncio.run(send())


@pytest.mark.naive
@pytest.mark.fatal_paths(2)
def test_a_rejected_key_never_reaches_the_output(rig: Rig) -> None:
    server = served(rig)
    secret = server.server._state.access_secret
    values = [rig.watch.secret(shape) for shape in ("base62", "hex")]
    for value in values:
        reject(server, secret, value)
    written = json.dumps(server.log_entries())
    assert all(value in written for value in values), "the log does hold them"
    server.show_log()

    ran = logs(rig)
    rows = logs(rig, "-o", "json")
    with Command(
        rig, "logs", "tokyo-1", "--from", str(rig.docs), "--full", terminal=True
    ) as command:
        assert command.ended() == 0
        full = command.text

    # The world searches all three outputs for the values.
    alarms = [e["time"] for e in server.log_entries() if e["class"].startswith("MainProcess")]
    for text in (ran.out, rows.out, full):
        assert text.count("cut by jtr") == len(alarms) == 2
        assert "stack" not in text
    assert ran.code == rows.code == 0
    for ran_ in (ran, rows):
        (said,) = ran_.err.splitlines()
        assert "holds 2 entries that may contain a rejected key in plain text" in said
        assert "rotate the keys that were written around 2" in said
        assert "docs/security.md" in said


@pytest.mark.naive
@pytest.mark.fatal_paths(1)
def test_while_following_an_exposed_key_is_told_of_once(rig: Rig) -> None:
    server = served(rig)
    secret = server.server._state.access_secret
    with following(rig) as command:
        command.expect("successfully started")
        reject(server, secret, rig.watch.secret())
        command.expect("docs/security.md")
        server.append_log("info", "Robot", "much later")
        command.expect("much later")
        assert command.text.count("rotate the keys") == 1
        assert command.text.count("cut by jtr") == 1


# ── following ────────────────────────────────────────────────────────────────────────────────


@contextmanager
def following(rig: Rig, *args: str, code: int = 130) -> Iterator[Command]:
    """Run `jtr logs --follow`, interrupt it at the end."""
    rig.settings(durations=DURATIONS | {"follow": "30ms", "ready": "4s"})
    where = ("logs", "tokyo-1", "--from", str(rig.docs), "--follow", *args)
    with Command(rig, *where) as command:
        yield command
        command.signal(signal.SIGINT)
        assert command.ended() == code
        assert "Traceback" not in command.text


def test_following_prints_only_what_is_new_on_one_connection(rig: Rig) -> None:
    server = served(rig)
    with following(rig) as command:
        command.expect("successfully started")
        for number in range(3):
            server.append_log("info", "Robot", f"news {number}")
            command.expect(f"news {number}")
        assert command.text.count("successfully started") == 1
        assert [command.text.count(f"news {number}") for number in range(3)] == [1, 1, 1]
    assert len(server.record.handshakes) == 1
    assert {one.event for one in server.record.received} == EVENTS


def test_following_through_a_rotation(rig: Rig) -> None:
    server = served(rig)
    with following(rig) as command:
        command.expect("successfully started")
        server.server._state.log.rotate()
        server.append_log("info", "Robot", "the first of the new file")
        command.expect("the first of the new file")
        server.append_log("info", "Robot", "and the second")
        command.expect("and the second")
        assert command.text.count("successfully started") == 1
        assert command.text.count("the first of the new file") == 1


def test_following_through_a_restart_repeats_nothing(rig: Rig) -> None:
    server = served(rig)
    server.append_log("info", "Robot", "before")
    with following(rig) as command:
        command.expect("before")
        server.restart(down=0.3)
        command.expect("looking for it again")
        server.append_log("info", "Robot", "after")
        command.expect("after")
        assert command.text.count("  before\n") == 1
        assert command.text.count("successfully started") == 2
        assert command.text.count("looking for it again") == 1


def test_following_a_server_that_does_not_come_back(rig: Rig) -> None:
    server = served(rig)
    rig.settings(durations=DURATIONS | {"follow": "30ms", "ready": "300ms"})
    where = ("logs", "tokyo-1", "--from", str(rig.docs), "--follow")
    with Command(rig, *where) as command:
        command.expect("successfully started")
        server.stop()
        assert command.ended() == 6
        assert "nothing listens" in command.text


def test_following_while_a_line_is_no_json(rig: Rig) -> None:
    server = served(rig)
    with following(rig) as command:
        command.expect("successfully started")
        server.append_log_line("no JSON")
        command.expect("cannot be read until it is rotated")
        server.server._state.log.rotate()
        server.append_log("info", "Robot", "after")
        command.expect("after")
        assert command.text.count("cannot be read") == 1


# ── without a server ─────────────────────────────────────────────────────────────────────────


def entry(number: int, message: str = "m", origin: str = "A", level: str = "info") -> LogEntry:
    return LogEntry(number, level, origin, message, {})


ONE, TWO, THREE, FOUR = (entry(number) for number in range(1, 5))


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ((), (), ()),
        ((), (ONE,), (ONE,)),
        ((ONE,), (ONE,), ()),
        ((ONE, TWO), (ONE, TWO, THREE), (THREE,)),
        ((ONE, ONE), (ONE, ONE, ONE), (ONE,)),
        ((ONE, TWO), (), ()),
        ((ONE, TWO), (ONE,), ()),
        ((ONE, TWO), (THREE, FOUR), (THREE, FOUR)),
        ((ONE, TWO, THREE), (TWO, THREE, FOUR), (FOUR,)),
        ((ONE, TWO, THREE), (THREE,), ()),
        ((ONE, TWO, ONE), (ONE, TWO, THREE), (TWO, THREE)),
    ],
)
def test_what_is_new(
    before: tuple[LogEntry, ...], now: tuple[LogEntry, ...], new: tuple[LogEntry, ...]
) -> None:
    assert news(before, now) == new


@pytest.mark.parametrize(
    ("before", "now", "fresh"),
    [
        ([1] * 200_000, [1] * 200_000 + [2], 1),
        ([1] * 200_000 + [3], [1] * 200_000 + [2], 200_001),
        ([1, 2] * 100_000, [2, 1] * 100_000 + [3], 2),
    ],
    ids=["grown", "nothing in common", "shifted"],
)
def test_a_log_that_repeats_itself_is_compared_in_one_go(
    before: list[int], now: list[int], fresh: int
) -> None:
    """For a hostile one the time grew with its square, and no signal ended the command."""
    old, new = [entry(n) for n in before], [entry(n) for n in now]

    assert len(news(old, new)) == fresh


def test_an_entry_without_a_time_goes_with_the_one_before_it() -> None:
    timeless = LogEntry(None, "info", "A", "m", {})
    assert list(Wanted(since=2).of([timeless, ONE, timeless, TWO, timeless])) == [TWO, timeless]


def test_a_level_that_is_none_is_like_info() -> None:
    odd = entry(1, level="silly")
    assert list(Wanted("info").of([odd])) == [odd]
    assert list(Wanted("warn").of([odd])) == []


def test_times_that_are_none_and_messages_without_end() -> None:
    (line,) = lines(LogEntry(2**53 - 1, "info", "A", "x" * 10_000, {}), full=True)
    assert line.startswith("- ")
    assert len(line) < 5_000
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "nested" in row(LogEntry(1, "info", "A", "m", {"deep": deep}), full=True)
    while deep:  # else taking it apart at the end would go as deep
        deep = deep.pop()


def test_very_many_exposed_keys_are_not_named_one_by_one() -> None:
    text = exposed(
        entry(number * 1000, origin="MainProcessExceptionHandler") for number in range(9)
    )
    assert "9 entries" in text
    assert "and 4 more" in text
    assert "1 entry that" in exposed([entry(0, origin=ALARM)])
    assert exposed([ONE]) == ""
