"""
Replay the client side of a transcript of the real JT-Trader and compare what comes back.

One transcript is JSON lines: `conn` which client, `dir` send/recv/event/note/db, `msg`.  What
happened between two sends is compared as a multiset per connection, because the server promises no
order.  Left out of the comparison: times, process ids, connection ids, row ids, dates and report
names of robots, how often an unsolicited broadcast came, and with several requests in flight the
values in the answers (a matter of timing; the rows at the end are compared).  Where robots start
and stop, their log lines are compared as a whole at the end, and reports on the system log not at
all: both come whenever they want.
"""

import ast
import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from socketio.exceptions import ConnectionError as Refused

from tests.conformance.naive import NaiveClient

WAIT = 3.0
"""Seconds for what must come."""
QUIET = 0.04
"""Seconds in which nothing more may come where the transcript has no answer."""
READS = frozenset(
    {"exchange-config-request", "engine-config-request", "background-jobs-list-request"}
)
"""What may be sent to a real server that is not there to be broken; and the system log."""

UNASKED = frozenset({"tester-scenario-list-response"})
"""Looks like an answer, yet belongs to the fatal path."""

AUTHENTICATED = {
    "event": "authenticated",
    "payload": {"id": "0", "email": "Incognito", "developerAccess": True, "engineMode": "both"},
}

Entry = Mapping[str, Any]
RowTexts = list[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Case:
    """
    How one transcript is replayed; what the transcript itself does not say.

    *auth* gives handshakes that differ from the right secret.  *skip* names events whose whole
    exchange is left out.  *reads_only* tells that a part of it may go to any server.
    """

    transcript: str
    why: str
    auth: Mapping[str, Mapping[str, object] | None] = field(default_factory=dict)
    skip: frozenset[str] = frozenset()
    read_limit: int = 0  # bytes of one message; 0 is no limit
    reads_only: bool = False
    fatal_paths: int = 0  # how often the transcript fails inside the server on purpose
    deaf: bool = False  # the recorder could not write lists with lone surrogates down
    robots: bool = False  # robots start or stop in it
    crashes: bool = False  # a lost connection means that somebody killed the server
    lost: frozenset[str] = frozenset()  # rows that are saved and yet never changed
    until: float = 1e9  # seconds; what comes later was caused by a client of another transcript


@dataclass(frozen=True, slots=True)
class Target:
    """
    The server under test.

    *rows* reads what is really stored, *prepare* is told of each connection before it opens,
    *crash* kills the server for a moment, *noted* compares what the recorder saw inside; a real
    server offers none.  *exact* compares values, else only shapes.  A *busy* server has
    other clients and robots: messages that nobody asked for are left out.
    """

    url: str
    secret: str
    rows: Callable[[], RowTexts] | None = None
    prepare: Callable[[str], None] = lambda _name: None
    exact: bool = True
    busy: bool = False
    reads_only: bool = False
    crash: Callable[[], Awaitable[None]] | None = None
    noted: Callable[[Mapping[str, Any]], None] = lambda _note: None


def read_transcript(path: Path) -> list[Entry]:
    """Return the entries of a transcript."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rows_before(entries: Sequence[Entry], lost: frozenset[str] = frozenset()) -> list[list[Any]]:
    """
    Return the rows [id, account, name, type, value] that were stored before the first send.

    *lost* names rows that were sent and yet never changed.
    """
    sent: set[str] = set()
    for entry in entries:
        message = entry["msg"]
        if entry["dir"] == "db":
            return [row for row in message["Config"] if row[2] not in sent - lost]
        sent |= _names_sent(entry)
    return _rows_by_masks(entries)


def _names_sent(entry: Entry) -> set[str]:
    message = entry["msg"]
    payload = message.get("payload") if isinstance(message, dict) else None
    if entry["dir"] != "send" or not isinstance(payload, list):
        return set()
    return {str(row["name"]) for row in payload if isinstance(row, dict) and "name" in row}


def _rows_by_masks(entries: Sequence[Entry]) -> list[list[Any]]:
    """Return rows whose value is the mask shown first: the mask of a mask is itself."""
    sent: set[str] = set()
    for entry in entries:
        sent |= _names_sent(entry)
        if entry["dir"] == "recv" and entry["msg"].get("event") == "exchange-config-response":
            return [
                [0, "0", stored["name"], "string", stored["value"]]
                for side in entry["msg"]["payload"].values()
                for exchange in side
                for stored in exchange["fields"]
                if stored["name"] not in sent and (stored["value"] or exchange.get("added"))
            ]
    return []


async def empty_and_fill(url: str, secret: str, rows: Sequence[Sequence[Any]]) -> None:
    """
    Delete every credential of the account, then save *rows*: only for a server made for tests.

    An empty filter deletes the oldest row; that there is none left shows as a failure, in silence.
    """
    listed = "exchange-config-response"
    async with NaiveClient(url, {"accessToken": "", "accessSecret": secret}) as client:
        await client.wait_for("authenticated")
        while await client.ask("exchange-config-delete", [{}], answer=listed, patience=1.0):
            pass
        payload = [{"name": row[2], "type": row[3], "value": row[4]} for row in rows]
        assert await client.ask("exchange-config-save", payload, answer=listed) is not None


class Replay:
    """One run of one case against one target."""

    def __init__(self, case: Case, target: Target) -> None:
        self._case = case
        self._target = target
        self._clients: dict[str, NaiveClient] = {}
        self._expected: defaultdict[str, list[Any]] = defaultdict(list)
        self._lines: defaultdict[str, int] = defaultdict(int)
        self._sends = 0
        self._down = False
        self.compared = 0
        """Messages of the transcript that were found again."""

    async def run(self, entries: Sequence[Entry]) -> None:
        """Play all entries; raise AssertionError at the first difference."""
        try:
            for step in self._steps(
                [entry for entry in entries if entry.get("t", 0) < self._case.until]
            ):
                await step
            await self._settle()
            for name in self._clients:
                await self._lines_heard(name)
            assert not any(client.acknowledged for client in self._clients.values())
        finally:
            for client in self._clients.values():
                await client.close()

    def _steps(self, entries: Sequence[Entry]) -> Iterator[Awaitable[None]]:
        skipping = False
        for before, entry in zip([None, *entries], entries, strict=False):
            name, message, kind = entry["conn"], entry["msg"], entry["dir"]
            if kind.startswith("send"):
                event = message.get("event") if isinstance(message, dict) else None
                skipping = event in self._case.skip or not self._may_send(name, message)
                if not skipping:
                    if before is None or not before["dir"].startswith("send"):
                        yield self._settle()
                    yield self._send(name, message, acknowledge=kind == "send-with-ack")
            elif kind == "recv" and not skipping:
                self._expected[name].append(message)
            elif kind == "recv-other":
                (payload,) = ast.literal_eval(message["args"])
                self._expected[name].append({"event": message["ev"], "payload": payload})
            elif kind == "event":
                skipping = skipping and message["event"] != "connect"
                yield self._happens(name, message)
            elif kind in ("note", "db"):
                yield self._compare_inside(message)

    async def _happens(self, name: str, event: Mapping[str, Any]) -> None:
        """Do, or wait for, what happened to one connection."""
        match event["event"]:
            case "connect":
                await self._connect(name, event["transport"])
            case "connect_error":
                await self._refused()
            case "client-close":
                await self._close(name)
            case "disconnect" if event["reason"] == ["transport error"]:
                await self._ended(name)

    async def _compare_inside(self, seen: Mapping[str, Any]) -> None:
        """Compare what the recorder saw inside the server."""
        if "Config" in seen and self._target.rows is not None:
            await self._rows(seen["Config"])
        if "note" in seen:
            await self._settle()
            self._target.noted(seen)

    def _may_send(self, name: str, message: object) -> bool:
        """Protect a real server: reads only, and only on an authorised connection."""
        if not self._target.reads_only:
            return True
        if name in self._case.auth or not isinstance(message, dict):
            return False
        event, payload = message.get("event"), message.get("payload")
        return (event in READS and payload is None) or (
            event == "logs-list-request" and payload == "system"
        )

    async def _connect(self, name: str, transport: str) -> None:
        await self._settle()
        self._target.prepare(name)
        if name in self._clients:
            await self._clients[name].close()
        auth = self._case.auth.get(name, {"accessToken": "", "accessSecret": "right"})
        if auth is not None and auth.get("accessSecret") == "right":
            auth = {**auth, "accessSecret": self._target.secret}
        async with asyncio.timeout(WAIT):
            while True:
                client = self._clients[name] = NaiveClient(
                    self._target.url, auth, transport=transport, read_limit=self._case.read_limit
                )
                try:
                    await client.open()
                    break
                except Refused:  # still down
                    await client.close()
                    await asyncio.sleep(0.01)
        self._down = False

    async def _refused(self) -> None:
        """Compare the first failed attempt to come back: there is nobody to connect to."""
        if not self._down:
            client = NaiveClient(self._target.url, None)
            with pytest.raises(Refused):
                await client.open()
            await client.close()
        self._down = True

    async def _send(self, name: str, message: object, *, acknowledge: bool) -> None:
        if name not in self._clients:  # a transcript that begins on an open connection
            await self._connect(name, "websocket")
            self._expected[name].append(AUTHENTICATED)
            await self._settle()
        self._sends += 1
        await self._clients[name].send(_whole(message), acknowledge=acknowledge)

    async def _close(self, name: str) -> None:
        await self._settle()
        await self._lines_heard(name)
        await self._clients[name].close()

    async def _ended(self, name: str) -> None:
        if self._case.crashes:
            assert self._target.crash is not None
            await self._settle()
            await self._target.crash()
        await asyncio.wait_for(self._clients[name].ended.wait(), WAIT)

    async def _lines_heard(self, name: str) -> None:
        """Compare how many log lines of robots this connection heard since it was opened."""
        client = self._clients[name]
        async with asyncio.timeout(WAIT):
            while (missing := self._lines[name] - _lines(client.received)) > 0:
                assert not client.ended.is_set(), f"{self._case.transcript} {name}: {missing} lines"
                client.news.clear()
                await client.news.wait()
        assert missing == 0, f"{self._case.transcript} {name}: {-missing} lines too many"
        self._lines[name] = 0
        client.received.clear()

    async def _rows(self, config: list[list[Any]]) -> None:
        await self._settle()
        assert self._target.rows is not None
        wanted = [(name, kind, _short(value)) for _, _, name, kind, value in config]
        deadline = asyncio.get_running_loop().time() + WAIT
        # A save goes on after its client went away, so the rows may still be on their way.
        while (found := self._stored()) != wanted:
            assert asyncio.get_running_loop().time() < deadline, (found, wanted)
            await asyncio.sleep(0.01)

    def _stored(self) -> RowTexts:
        assert self._target.rows is not None
        return [(name, kind, _short(value)) for name, kind, value in self._target.rows()]

    async def _settle(self) -> None:
        """Wait until all that the transcript has did come, compare, and forget it."""
        for name, client in self._clients.items():
            wanted = self._normal(self._expected[name])
            with contextlib.suppress(TimeoutError):  # what is missing is shown below
                async with asyncio.timeout(WAIT):
                    while wanted - self._found(name) and not client.ended.is_set():
                        client.news.clear()
                        await client.news.wait()
        answers = sum(_is_answer(m) for messages in self._expected.values() for m in messages)
        if answers < self._sends:
            await asyncio.sleep(QUIET)
        for name, client in self._clients.items():
            wanted, found = self._normal(self._expected[name]), self._found(name)
            assert found == wanted, f"{self._case.transcript} {name}: {found} != {wanted}"
            self.compared += sum(wanted.values())
            if self._case.robots:
                self._lines[name] += _lines(self._expected[name]) - _lines(client.received)
            client.received.clear()
        self._expected.clear()
        self._sends = 0

    def _found(self, name: str) -> Counter[str]:
        """Return what this connection received since the last comparison."""
        messages = self._clients[name].received
        if self._target.busy:
            asked = {message["event"] for message in self._expected[name]}
            messages = [m for m in messages if m["event"] in asked or _is_answer(m)]
        return self._normal(messages)

    def _normal(self, messages: Sequence[Any]) -> Counter[str]:
        loose = self._sends > 1 or not self._target.exact
        heard = [m for m in messages if not (self._case.deaf and _lone_surrogates(m))]
        if self._case.robots:
            heard = [m for m in heard if not _comes_late(m)]
        texts = [(m["event"], _text(m, loose=loose)) for m in heard]
        once = {text for event, text in texts if event in ("update-report", "authenticated")}
        rest = [text for event, text in texts if event not in ("update-report", "authenticated")]
        return Counter([*once, *rest])


def _is_answer(message: Mapping[str, Any]) -> bool:
    event: str = message["event"]
    return event.endswith("-response") and event not in UNASKED


def _comes_late(message: Mapping[str, Any]) -> bool:
    system_report = message == {"event": "update-report", "payload": {"artifacts": "system"}}
    return system_report or message["event"] == "user-script-log"


def _lines(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(message["event"] == "user-script-log" for message in messages)


def _whole(message: object) -> object:
    """Restore a message that was too long for the transcript: one long value of L."""
    if isinstance(message, dict) and "TRUNCATED_chars" in message:
        value = "L" * (message["TRUNCATED_chars"] - 117)
        row = {"name": "okx_password", "type": "string", "value": value, "label": "x"}
        return {"event": message["event"], "payload": [row]}
    return message


def _short(value: str) -> str:
    """Write a long value as the transcripts do."""
    return value if len(value) < 200 else f"{value[:20]}...({len(value)} chars)"


def _lone_surrogates(message: Mapping[str, Any]) -> bool:
    text = json.dumps(message.get("payload"), ensure_ascii=False)
    return any("\ud800" <= unit <= "\udfff" for unit in text)


def _text(message: Mapping[str, Any], *, loose: bool) -> str:
    """Return what is compared of one message."""
    event: str = message["event"]
    payload: Any = message.get("payload")
    match event:
        case "logs-list-response":
            whole = "TRUNCATED_chars" not in message and payload is not None and not loose
            # The entries of the system log are compared one by one, elsewhere.
            return _log_text(message) if whole and payload.get("artifacts") != "system" else event
        case "user-script-log":
            return event
        case "exchange-config-response" | "background-jobs-list-response" if loose:
            return event
        case "engine-config-response" if loose:
            return f"{event} {sorted(payload['testerDefaults'])}"
        case "background-jobs-list-response":
            jobs = [{**job, "createdAt": 0, "updatedAt": 0, "artifacts": 0} for job in payload]
            return f"{event} {_json(jobs)}"
        case "update-report":
            return f"{event} {payload['artifacts'] == 'system'}"
        case "user-script-log" | "exception":
            return event
        case "authenticated" | "unauthorized" if loose:
            return f"{event} {sorted(payload)}"
        case _:
            return f"{event} {_json(message)}"


def _log_text(message: Mapping[str, Any]) -> str:
    text = _json(message["payload"])
    return f"{message['event']} {text}" if len(text) < 10_000 else message["event"]


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
