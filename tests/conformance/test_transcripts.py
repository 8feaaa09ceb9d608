"""
The stand-in answers as the real JT-Trader did; or a real one answers as it did.

Without environment variables the stand-in is tested.  `JTR_CONFORMANCE_URL` and
`JTR_CONFORMANCE_SECRET_FILE` name a real server instead: then only reads are sent, one at a time.
With `JTR_CONFORMANCE_DESTRUCTIVE=1` all cases are sent, which stops every robot and deletes every
credential of that server's account again and again.
"""

import asyncio
import contextlib
import itertools
import json
import operator
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import socketio

from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn
from tests.conformance.naive import NaiveClient
from tests.conformance.replay import (
    AUTHENTICATED,
    WAIT,
    Case,
    Replay,
    Target,
    empty_and_fill,
    read_transcript,
    rows_before,
)

TRANSCRIPTS = Path(__file__).parent / "transcripts"
URL = os.environ.get("JTR_CONFORMANCE_URL", "")
SECRET_FILE = os.environ.get("JTR_CONFORMANCE_SECRET_FILE", "")
DESTRUCTIVE = os.environ.get("JTR_CONFORMANCE_DESTRUCTIVE") == "1"

WRONG = {"accessToken": "", "accessSecret": "wrong"}
CASES = (
    Case("00-empty-server", "a server without any row", reads_only=True),
    Case(
        "01-auth",
        "right, wrong, missing and numeric secret; websocket and polling",
        auth={"B": WRONG, "N": None, "S": {"accessSecret": "right"}, "T": {"accessSecret": 5}},
        reads_only=True,
    ),
    Case(
        "02-basic-requests",
        "requests, acknowledgements, odd messages",
        reads_only=True,
        fatal_paths=1,
    ),
    Case("03-save", "good saves, masks, long values, a frame over the limit", deaf=True),
    Case("04-save-bad", "odd and failing saves", fatal_paths=16),
    Case("05-delete", "good, odd and failing deletes", fatal_paths=9),
    Case("06-concurrency", "two clients, pipelining, who is registered", fatal_paths=5),
    Case("07-unauthorized", "what a refused socket can do", auth={"BAD": WRONG}, fatal_paths=5),
    Case("08-before-auth", "requests before the login was answered"),
    Case("09-robots", "the job list, a start", robots=True),
    Case(
        "10-robots-keys",
        "which keys a started robot takes; what stops all robots; invalidation",
        auth={"BAD": WRONG},
        skip=frozenset({"report-action-request"}),
        fatal_paths=2,
        robots=True,
    ),
    Case("11-reboot-nopayload", "robots that run already; a reboot", robots=True),
    Case("12-reboot-null", "a reboot with null", robots=True),
    Case("13-reboot-number-missing", "a reboot with the number of no robot", robots=True),
    Case("14-reboot-number-existing", "a reboot that removes a robot", robots=True),
    Case("15-reboot-noRobots", "a reboot while nothing runs", robots=True),
    Case("16-crash-restore", "kill -9 with a running robot", robots=True, crashes=True),
    Case(
        "17-logs", "log names, levels, lines that are no JSON", read_limit=4 * 2**20, fatal_paths=1
    ),
    Case("18-logs-big", "12 MB in one message"),
    Case("19-reboot-robot-stop-throws", "a reboot that does not happen", robots=True),
    Case("20-reboot-robot-stop-hangs", "a reboot that does not happen", robots=True),
    Case(
        "21-reboot-unauthorized",
        "anybody can reboot",
        auth={"BAD": WRONG},
        robots=True,
        until=3.5,  # then 22 begins
    ),
    Case(
        "22-other-client-disconnects",
        "a failed start with nobody registered",
        fatal_paths=1,
        robots=True,
        until=3.5,  # then 23 begins
    ),
    Case("23-same-with-registered-ui", "the same with somebody registered", robots=True),
    Case("24-concurrency-async-db", "duplicates, a save whose client went away"),
    Case(
        "25-site-api",
        "accounts by token, a login that hangs",
        auth={"TOKEN": {"accessToken": "good", "accessSecret": "right"}},
    ),
    Case(
        "26-not-standalone",
        "a token is needed",
        auth={
            "BADTOKEN": {"accessToken": "bad", "accessSecret": "right"},
            "GOOD": {"accessToken": "good", "accessSecret": "right"},
            "BADSECRET": WRONG,
        },
    ),
    Case(
        "29-queued-during-downtime",
        "a save behind a reboot is lost",
        lost=frozenset({"okx_password"}),
    ),
    Case("30-robot-without-keys", "a start with missing keys", robots=True),
    Case(
        "31-secret-in-error-log",
        "a rejected value stands in the log",
        auth={"BAD": WRONG},
        fatal_paths=1,
    ),
    Case("32-robot-state-invalidate-vs-reboot", "which order keeps the robots' state", robots=True),
)
STAND_IN_ONLY = {
    *("17-logs", "18-logs-big", "25-site-api", "26-not-standalone"),
    *("06-concurrency", "24-concurrency-async-db", "29-queued-during-downtime"),
    *(case.transcript for case in CASES if case.robots),
}
"""
They need robots, files or a site that a server cannot be given through its protocol; in the second
line, who wins a race depends on the database and the network.
"""
DOWN = 0.1
"""Seconds in which a server that ends takes no connection."""

DUMMY = Robot(1, "dummy1", "gateio", running=False, keeps_state=False)
SECOND = replace(DUMMY, id=2, name="dummy2", prefix="p2")
FAULTY = (
    replace(DUMMY, id=3, name="throwstop3", prefix="p3", strategy="throwstop", stop="throws"),
    replace(DUMMY, id=4, name="hangstop4", prefix="p4", strategy="hangstop", stop="hangs"),
    replace(DUMMY, id=5, name="throwinit5", prefix="p5", strategy="throwinit", start="fails"),
)
STATE = Robot(9, "state", "gateio", running=False, prefix="p9", strategy="state", talks=False)
ROBOTS = {
    **dict.fromkeys(("09", "10", "11", "12", "13", "14", "30"), (DUMMY, SECOND)),
    **dict.fromkeys(("15", "16"), (DUMMY,)),
    **dict.fromkeys(("19", "20", "21", "22", "23"), (DUMMY, SECOND, *FAULTY)),
    "32": (DUMMY, SECOND, STATE),
}
ALL = (DUMMY, SECOND, *FAULTY, STATE)
RUNNING = {"10": {1}, "11": {1, 2}}
"""Robots that ran when the recording began."""


def chosen() -> list[Any]:
    """List the cases that this target allows."""
    return [
        pytest.param(
            case, id=case.transcript, marks=pytest.mark.fatal_paths(0 if URL else case.fatal_paths)
        )
        for case in CASES
        if not URL or (case.transcript not in STAND_IN_ONLY and (case.reads_only or DESTRUCTIVE))
    ]


@pytest.mark.naive
@pytest.mark.parametrize("case", chosen())
def test_answers_are_those_of_the_real_server(case: Case) -> None:
    """
    Replay one transcript; the first difference fails.

    Source: observed on JT-Trader 0.24.19.
    """
    entries = read_transcript(TRANSCRIPTS / f"{case.transcript}.jsonl")

    async def play() -> int:
        async with target(case, entries) as server:
            replay = Replay(case, server)
            await replay.run(entries)
            return replay.compared

    compared = asyncio.run(play())

    assert compared > 0


@contextlib.asynccontextmanager
async def target(case: Case, entries: list[Any]) -> AsyncIterator[Target]:
    """Open what the case is played against."""
    if URL:
        secret = (await asyncio.to_thread(Path(SECRET_FILE).read_text)).strip()
        if DESTRUCTIVE:
            await empty_and_fill(URL, secret, rows_before(entries, case.lost))
        yield Target(URL, secret, exact=DESTRUCTIVE, busy=True, reads_only=not DESTRUCTIVE)
        return
    server = stand_in(case.transcript)
    for _, account, name, kind, value in rows_before(entries, case.lost):
        server._state.rows.insert(account, name, kind, value)
    url = await server.start()

    def prepare(connection: str) -> None:
        server.behaviour.login = "silent" if connection == "SLOW" else "answer"

    def all_rows() -> list[tuple[str, str, str]]:
        return [*server.rows("0"), *server.rows("42")]

    async def crash() -> None:
        await server.crash()
        back.append(asyncio.ensure_future(come_back()))

    async def come_back() -> None:
        await asyncio.sleep(DOWN)
        await server.come_back()

    back: list[asyncio.Future[None]] = []
    try:
        yield Target(
            url,
            server._state.access_secret,
            rows=all_rows,
            prepare=prepare,
            crash=crash,
            noted=lambda note: check_inside(server, note),
        )
        assert server.record.fatal_paths == case.fatal_paths
    finally:
        await asyncio.gather(*back)
        await server.stop()


def check_inside(server: StandIn, note: Mapping[str, Any]) -> None:
    """Compare what the recorder saw inside: the calls to exchanges, the cache, who runs."""
    for call in note.get("calls", [])[-1:]:
        keys = server.robot_credentials(1)
        assert keys.get("gateio_api_key") == call.get("apiKey")
        assert keys.get("gateio_api_secret") == call.get("secret")
    if "cache" in note:
        saved = {f"HOST::{r.prefix}-global-storage" for r in ALL if server.saved_state(r.id)}
        assert saved == {key for key in note["cache"] if key.endswith("-global-storage")}
        assert server.marked() == set()
    for robot, running in note.get("jobs", []):
        assert (robot in server.robots_running()) == running


def stand_in(transcript: str) -> StandIn:
    """Make the server that the transcript was taken from."""
    asynchronous = transcript == "24-concurrency-async-db"
    delay = 0.003 if asynchronous else 0.0005
    server = StandIn(
        access_secret=secrets.token_hex(8),
        robots=[
            replace(robot, running=robot.id in RUNNING.get(transcript[:2], ()))
            for robot in ROBOTS.get(transcript[:2], ())
        ],
        tokens={"good": "42"},
        behaviour=Behaviour(
            sprinkle=False,
            row_delay=(delay, delay),  # equal pauses: in the order of the requests
            synchronous=not asynchronous,
            reboot_drop=0.02,
            reboot_down=DOWN,
            standalone=transcript != "26-not-standalone",
        ),
    )
    for name, lines in LOGS.items():
        for line in lines:
            server.append_log_line(line, name)
    return server


def _big(size: int) -> list[str]:
    entry = {"level": 30, "time": 1795333273499, "pid": 1, "class": "X", "msg": "m" * 100_000}
    return [json.dumps(entry)] * (size // 100_000)


LOGS = {
    "levels": [
        *(json.dumps({"level": level, "msg": f"l{level}"}) for level in range(10, 70, 10)),
        json.dumps({"msg": "nolevel"}),
    ],
    "mixed": [json.dumps({"level": 30, "msg": "fine"}), "this is no JSON"],
    "../outside": [json.dumps({"level": 30, "msg": "outside ok"})],
    "../outside-text": ["this is no JSON"],
    "big1": _big(1_000_000),
    "big5": _big(5_000_000),
    "big12": _big(12_000_000),
}


@pytest.mark.naive
def test_log_entries_have_the_keys_of_the_real_ones() -> None:
    """Compare level and keys of every entry that both logs have."""

    async def provoked() -> list[dict[str, Any]]:
        server = stand_in("02-basic-requests")
        case = Case("", "", auth={"BAD": WRONG})
        try:
            replay = Replay(case, Target(await server.start(), server._state.access_secret))
            await replay.run(PROVOKING)
            return server.log_entries()
        finally:
            await server.stop()

    ours = {_kind(entry): _shape(entry) for entry in asyncio.run(provoked())}
    real = {_kind(entry): _shape(entry) for entry in _real_log_entries()}

    assert ours.keys() & real.keys() >= {
        ("NestFactory", "Starting Nest application..."),
        ("NestApplication", "Nest application successfully started"),
        ("MonitoringService", "App STATUS"),
        ("EventsGateway", "Socket auth error"),
        ("EventsGateway", "Unknown event"),
    }
    assert {kind: ours[kind] for kind in ours.keys() & real.keys()} == {
        kind: real[kind] for kind in ours.keys() & real.keys()
    }


@pytest.mark.skipif(bool(URL), reason="it reboots")
@pytest.mark.naive
def test_a_client_that_reconnects_by_itself_sees_what_it_saw_with_the_real_server() -> None:
    """Source: transcript 28; it does not show who rebooted, nor how often an attempt failed."""
    entries = read_transcript(TRANSCRIPTS / "28-auto-reconnect.jsonl")
    wanted = [
        (event, arguments) for _, event, arguments in map(operator.itemgetter("msg"), entries)
    ]

    async def play() -> list[tuple[str, list[Any]]]:
        server = stand_in("28")
        url = await server.start()
        seen: list[tuple[str, list[Any]]] = []
        logins = asyncio.Semaphore(0)

        def message(body: dict[str, Any]) -> None:
            seen.append(("message", [body["event"]]))
            logins.release()

        client = socketio.AsyncClient(
            reconnection_delay=0.01, randomization_factor=0, handle_sigint=False
        )
        client.on("connect", lambda: seen.append(("connect", [])))
        client.on("connect_error", lambda text: seen.append(("connect_error", [text])))
        client.on("disconnect", lambda reason: seen.append(("disconnect", [reason])))
        client.on("message", message)
        auth = {"accessSecret": server._state.access_secret}
        try:
            await client.connect(url, auth=auth, transports=["websocket"])
            async with NaiveClient(url, auth) as other:
                await other.wait_for("authenticated")
                await other.request("reboot-system-request")
                await asyncio.wait_for(other.ended.wait(), WAIT)
            for _ in range(2):
                await asyncio.wait_for(logins.acquire(), WAIT)
        finally:
            await client.disconnect()
            await server.stop()
        return seen

    seen = asyncio.run(play())

    assert _once(seen) == _once(wanted)


def _once(seen: list[tuple[str, list[Any]]]) -> list[tuple[str, list[Any]]]:
    """Leave repetitions out."""
    return [what for what, _ in itertools.groupby(seen)]


def _real_log_entries() -> list[dict[str, Any]]:
    return [
        entry
        for path in sorted(TRANSCRIPTS.glob("*.jsonl"))
        for line in read_transcript(path)
        if line["dir"] == "recv" and line["msg"].get("event") == "logs-list-response"
        for entry in line["msg"].get("payload", {}).get("data", [])
        if "class" in entry
    ]


def _kind(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["class"], entry["msg"]


def _shape(entry: dict[str, Any]) -> tuple[str, list[str]]:
    return entry["level"], sorted(entry)


PROVOKING: list[dict[str, Any]] = [
    {"conn": "A", "dir": "event", "msg": {"event": "connect", "transport": "websocket"}},
    {"conn": "A", "dir": "recv", "msg": AUTHENTICATED},
    {"conn": "A", "dir": "send", "msg": {"event": "no-such-event"}},
    {"conn": "BAD", "dir": "event", "msg": {"event": "connect", "transport": "websocket"}},
    {
        "conn": "BAD",
        "dir": "recv",
        "msg": {"event": "unauthorized", "payload": {"code": 4002}},
    },
]
