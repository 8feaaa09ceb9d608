"""
The stand-in answers as the real JT-Trader did; or a real one answers as it did.

Without environment variables the stand-in is tested.  `JTR_CONFORMANCE_URL` and
`JTR_CONFORMANCE_SECRET_FILE` name a real server instead: then only reads are sent, one at a time.
With `JTR_CONFORMANCE_DESTRUCTIVE=1` all cases are sent, which stops every robot and deletes every
credential of that server's account again and again.
"""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.jt_trader import Behaviour, Robot, StandIn
from tests.conformance.replay import (
    AUTHENTICATED,
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
ROBOTS = frozenset({"run-background-job-request"})

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
    Case("09-robots", "the job list; starting robots is not there yet", skip=ROBOTS),
    Case(
        "17-logs", "log names, levels, lines that are no JSON", read_limit=4 * 2**20, fatal_paths=1
    ),
    Case("18-logs-big", "12 MB in one message"),
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
        "31-secret-in-error-log",
        "a rejected value stands in the log",
        auth={"BAD": WRONG},
        fatal_paths=1,
    ),
)
STAND_IN_ONLY = {
    *("09-robots", "17-logs", "18-logs-big", "25-site-api", "26-not-standalone"),
    *("06-concurrency", "24-concurrency-async-db"),
}
"""
They need robots, files or a site that a server cannot be given through its protocol; in the last
two, who wins a race depends on the database.
"""


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
            await empty_and_fill(URL, secret, rows_before(entries))
        yield Target(URL, secret, exact=DESTRUCTIVE, busy=True, reads_only=not DESTRUCTIVE)
        return
    server = stand_in(case.transcript)
    for _, account, name, kind, value in rows_before(entries):
        server._state.rows.insert(account, name, kind, value)
    url = await server.start()

    def prepare(connection: str) -> None:
        server.behaviour.login = "silent" if connection == "SLOW" else "answer"

    def all_rows() -> list[tuple[str, str, str]]:
        return [*server.rows("0"), *server.rows("42")]

    try:
        yield Target(url, server._state.access_secret, rows=all_rows, prepare=prepare)
        assert server.record.fatal_paths == case.fatal_paths
    finally:
        await server.stop()


def stand_in(transcript: str) -> StandIn:
    """Make the server that the transcript was taken from."""
    asynchronous = transcript == "24-concurrency-async-db"
    delay = 0.003 if asynchronous else 0.0005
    server = StandIn(
        access_secret=secrets.token_hex(8),
        robots=[
            Robot(1, "dummy1", "gateio", prefix="p1"),
            Robot(2, "dummy2", "gateio", prefix="p2", running=False),
        ]
        if transcript == "09-robots"
        else (),
        tokens={"good": "42"},
        behaviour=Behaviour(
            sprinkle=False,
            row_delay=(delay, delay),  # equal pauses: in the order of the requests
            synchronous=not asynchronous,
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
