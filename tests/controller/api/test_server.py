"""The controller's pages over a real socket: who may ask, what is told, and what nobody can do."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from reconciler.controller.api import server as pages
from reconciler.controller.api.server import Web, checked_listen
from reconciler.controller.api.token import read_token
from reconciler.controller.metrics import CONTENT_TYPE
from reconciler.controller.status_store import StatusStore
from reconciler.drivers.jt_trader.responses import ALARM, read_entries
from reconciler.errors import DriverError, JtrError, LedgerError, ServerUnreachable, UsageError
from reconciler.ledger.codec.records import write
from reconciler.model.observed import LogEntry
from reconciler.model.recorded import Observation
from reconciler.model.secret import Secret
from tests.controller.sample_statuses import braked, busy, calm, status_store
from tests.support.leaks import Watch
from tests.support.processes import PATIENCE
from tests.support.quiet_time import told

ROWS = {"birth": "{}", "server/a/identity": '{"x": 1}'}
PRIVATE = ("/v1/status", "/v1/observations", "/v1/logs?server=tokyo-1")
OPEN = ("/healthz", "/readyz", "/metrics")


@dataclass
class Behind:
    """What the pages ask for; an exception in its place is raised."""

    rows: Mapping[str, str] | Exception = field(default_factory=lambda: dict(ROWS))
    log: tuple[LogEntry, ...] | Exception | None = ()

    async def observations(self) -> Mapping[str, str]:
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        assert name == "tokyo-1"
        if isinstance(self.log, Exception):
            raise self.log
        return self.log


@dataclass
class Page:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def document(self) -> Any:
        assert self.headers["Content-Type"].startswith("application/json")
        return json.loads(self.content)


@dataclass
class Site:
    """A server that runs, and a client for it."""

    web: Web
    status_store: StatusStore
    http: aiohttp.ClientSession

    async def get(self, path: str, method: str = "GET", **headers: str) -> Page:
        url = f"http://127.0.0.1:{self.web.port}{path}"
        async with self.http.request(
            method, url, headers={k.replace("_", "-"): v for k, v in headers.items()}
        ) as answer:
            return Page(answer.status, dict(answer.headers), await answer.read())


@asynccontextmanager
async def serving(
    made: StatusStore | None = None,
    behind: Behind | None = None,
    *,
    token: str | None = None,
    **options: Any,
) -> AsyncIterator[Site]:
    made, behind = made or status_store(calm(), busy()), behind or Behind()
    made.tick = asyncio.get_running_loop().time()
    made.last_pass = made.tick
    web = Web(
        made,
        listen=options.pop("listen", "127.0.0.1:0"),
        token=Secret(token) if token else None,
        observations=behind.observations,
        entries=behind.entries,
        **options,
    )
    await web.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            yield Site(web, made, http)
    finally:
        await web.stop()


async def raw(site: Site, data: bytes) -> bytes:
    """Send bytes as they are and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
    writer.write(data)
    with closing(writer):
        async with asyncio.timeout(PATIENCE):
            try:
                return await reader.read()
            except ConnectionError:
                return b""


async def until(holds: Callable[[], object]) -> None:
    """Wait until something on this loop holds; nothing there tells when."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  - aiohttp has no event for it
            await asyncio.sleep(0.01)


def inside(site: Site) -> aiohttp.web.Server:
    """The library's server, which knows its connections."""
    server = site.web._listener.inside if site.web._listener else None
    assert server is not None
    return server


def heard_since(site: Site, before: int) -> bool:
    """Whether a request came since there were so many."""
    return inside(site).requests_count > before


# ── health ───────────────────────────────────────────────────────────────────────────────────


def test_a_living_controller_is_alive_and_ready() -> None:
    async def story() -> None:
        async with serving() as site:
            alive, ready = await site.get("/healthz"), await site.get("/readyz")
            assert (alive.status, alive.document) == (200, {"alive": True})
            assert (ready.status, ready.document) == (200, {"ready": True})

    asyncio.run(story())


def test_alive_ends_with_three_silent_periods_or_a_stuck_pass() -> None:
    async def story() -> None:
        async with serving(period=1.0) as site:
            site.status_store.tick -= 2.5
            assert (await site.get("/healthz")).status == 200
            site.status_store.tick -= 0.6
            dead = await site.get("/healthz")
            assert (dead.status, dead.document["alive"]) == (503, False)
            assert "no sign of life for 3 s" in dead.document["reason"]
            site.status_store.tick = asyncio.get_running_loop().time()
            site.status_store.stuck = "a pass does not end: tokyo-1"
            stuck = await site.get("/healthz")
            assert stuck.status == 503
            assert "does not end: tokyo-1" in stuck.document["reason"]

    asyncio.run(story())


def test_neither_depends_on_servers_and_alive_depends_on_nothing_outside() -> None:
    async def story() -> None:
        trouble = {"documents": "x", "secrets": "sealed", "ledger": "locked", "rival": "another"}
        async with serving(status_store(busy(), acting=False, **trouble)) as site:
            assert (await site.get("/healthz")).status == 200
            assert (await site.get("/readyz")).status == 200
            site.status_store.note(waiting="Vault: sealed")
            site.status_store.ready = False
            assert (await site.get("/healthz")).status == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    ("ready", "change", "reason"),
    [
        (True, {"waiting": "Vault: sealed"}, "Vault: sealed"),
        (True, {"stopping": True}, "it is stopping"),
        (False, {"revision": ""}, "no documents are in force yet"),
        (False, {"revision": "", "documents": "a.yaml:1: bad"}, "a.yaml:1: bad"),
        (False, {"ledger": "it is locked"}, "it is locked"),
        (False, {}, "it has not taken its place on the ledger yet"),
    ],
)
def test_not_ready_says_what_it_waits_for(
    ready: object, change: dict[str, Any], reason: str
) -> None:
    async def story() -> None:
        made = status_store(**change)
        made.ready = ready is True
        async with serving(made) as site:
            page = await site.get("/readyz")
            assert page.status == 503
            assert page.document == {"ready": False, "reason": reason}

    asyncio.run(story())


# ── pages ────────────────────────────────────────────────────────────────────────────────────


def test_metrics_are_prometheus_text() -> None:
    async def story() -> None:
        async with serving() as site:
            page = await site.get("/metrics")
            assert (page.status, page.headers["Content-Type"]) == (200, CONTENT_TYPE)
            assert b'\njtr_server_health{server="osaka-2",status="degraded"} 1.0\n' in page.content
            age = [row for row in page.content.splitlines() if row.startswith(b"jtr_pass_age")]
            assert 0 <= float(age[0].split()[1]) < 5

    asyncio.run(story())


def test_status_holds_everything_on_the_board() -> None:
    async def story() -> None:
        made = status_store(calm(), busy(), brakes=(braked("0.6.1"),), token_seconds=60.0)
        made.passes["done"] = 3
        made.restarts["tokyo-1", "robots"] = 1
        made.notifications["chat", "arrived"] = 2
        async with serving(made) as site:
            page = await site.get("/v1/status")
        document = page.document
        controller, servers = document["controller"], document["servers"]
        assert page.status == 200
        assert document["formatVersion"] == 1
        assert controller["acting"] is controller["ready"] is True
        assert controller["brakes"] == [
            {
                "over": "0.6.1",
                "wholeVersion": True,
                "version": "0.6.1",
                "server": "tokyo-1",
                "why": "harm",
            }
        ]
        assert controller["vaultTokenSeconds"] == 60
        assert [row["server"] for row in servers] == ["osaka-2", "tokyo-1"]
        assert (servers[0]["sync"], servers[0]["health"]) == ("out of sync", "degraded")
        assert servers[0]["suspended"] == {
            "reason": "exchange maintenance",
            "by": "ann",
            "until": "2026-11-22T15:00:00Z",
        }
        assert servers[0]["window"] == {"open": False, "why": "opens at 18:00"}
        assert servers[0]["lastSuccess"] is servers[1]["suspended"] is servers[1]["window"] is None
        assert {debt["owed"] for debt in servers[0]["debts"]} == {"restart", "reboot"}
        assert servers[0]["robotsOwed"][0]["name"] == "arb"
        assert servers[1]["secretAgeSeconds"] == {"bybit": 86400}
        assert document["counts"]["passes"] == {"done": 3}
        assert document["counts"]["restarts"] == [
            {"server": "tokyo-1", "kind": "robots", "count": 1}
        ]

    asyncio.run(story())


def test_every_fact_of_a_status_is_served() -> None:
    """A new field of the status store must not be forgotten here."""

    async def story() -> None:
        async with serving(status_store(busy())) as site:
            document = (await site.get("/v1/status")).document
        # Of 38: `suspended` and `window` are one, `lines` and `waits` none.
        assert len(document["servers"][0]) == 33
        assert len(document["controller"]) == 21

    from reconciler.controller.status import ControllerStatus, ServerStatus  # noqa: PLC0415

    assert len(ServerStatus.__struct_fields__) == 38
    assert len(ControllerStatus.__struct_fields__) == 19
    asyncio.run(story())


def test_observations_are_the_rows_of_the_ledger() -> None:
    async def story() -> None:
        async with serving(only=True) as site:
            document = (await site.get("/v1/observations")).document
        assert document["documents"] == ROWS
        assert (document["by"], document["only"]) == ("controller 1@host", True)
        assert document["at"].endswith("+00:00")

    asyncio.run(story())


def test_observations_that_are_too_old_to_be_believed_are_named() -> None:
    def row(at: datetime) -> str:
        return write(Observation(at.isoformat(), "apply", "1", {}, {}, (), None, "k"))

    now = datetime.now(UTC)
    rows = {
        "server/a/observation": row(now - timedelta(hours=25)),
        "server/b/observation": row(now - timedelta(hours=23)),
        "server/c/observation": "{damaged",
        "server/a/identity": "{}",
    }

    async def story() -> None:
        made = status_store(calm())
        made.believed = 86_400.0
        async with serving(made, Behind(rows)) as site:
            document = (await site.get("/v1/observations")).document
        assert (document["documents"], document["stale"]) == (rows, ["server/a/observation"])

    asyncio.run(story())


def test_logs_are_those_of_jtr_logs_and_the_fatal_handlers_are_cut(watch: Watch) -> None:
    secret = watch.secret()
    entries = read_entries(
        {
            "artifacts": "system",
            "data": [
                {
                    "time": 1763805600000,
                    "level": "info",
                    "class": "Robot",
                    "msg": "hi",
                    "detail": "x",
                },
                {
                    "time": 1763805601000,
                    "level": "error",
                    "class": ALARM,
                    "msg": f"bad key {secret}",
                },
            ],
        }
    )

    async def story() -> None:
        async with serving(behind=Behind(log=entries)) as site:
            page = await site.get("/v1/logs?server=tokyo-1")
        watch.search("the log page", page.content)
        assert page.document["server"] == "tokyo-1"
        first, second = page.document["entries"]
        assert first == {
            "time": "2025-11-22T10:00:00.000Z",
            "level": "info",
            "class": "Robot",
            "message": "hi",
        }
        assert second["class"] == ALARM
        assert set(second) == set(first)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("log", "status", "word"),
    [
        (UsageError("no server is called tokyo-1", "see: jtr status"), 404, "no server"),
        (ServerUnreachable("it is away"), 503, "away"),
        (DriverError("not acceptable"), 502, "acceptable"),
        (JtrError("the controller waits: Vault"), 503, "waits"),
        (TimeoutError(), 503, "no answer in time"),
        (None, 503, "is not JSON"),
        (RuntimeError("with a secret"), 500, "mistake"),
    ],
)
def test_a_log_that_cannot_be_read(
    log: Exception | None, status: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with serving(behind=Behind(log=log)) as site:
            page = await site.get("/v1/logs?server=tokyo-1")
        error = page.document["error"]
        assert page.status == status
        assert word in error["what"]
        assert "secret" not in str(page)
        assert error["transient"] is (isinstance(log, ServerUnreachable | TimeoutError | None))

    asyncio.run(story())
    caplog.clear()


@pytest.mark.parametrize("query", ["", "?server=", "?server=../x", "?server=A", "?name=tokyo-1"])
def test_a_log_of_no_server_is_a_bad_request(query: str) -> None:
    async def story() -> None:
        async with serving() as site:
            assert (await site.get(f"/v1/logs{query}")).status == 400

    asyncio.run(story())


def test_a_log_is_read_once_for_all_and_to_its_end() -> None:
    begun, ended, let_go = [], [], asyncio.Event()

    class Slow(Behind):
        async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
            begun.append(name)
            await let_go.wait()
            ended.append(name)
            return ()

    async def story() -> None:
        async with serving(behind=Slow()) as site:
            path = "/v1/logs?server=tokyo-1"
            asking = [asyncio.ensure_future(site.get(path)) for _ in range(5)]
            await until(lambda: inside(site).requests_count == 5)
            for one in asking[:4]:
                one.cancel()
            await until(lambda: len(inside(site).connections) == 1)
            let_go.set()
            assert (await asking[4]).status == 200
            assert begun == ended == ["tokyo-1"]
            assert (await site.get(path)).status == 200
            assert begun == ["tokyo-1"] * 2

    asyncio.run(story())


def test_a_ledger_that_cannot_be_read_is_said() -> None:
    async def story() -> None:
        async with serving(behind=Behind(rows=LedgerError("it is locked", "wait"))) as site:
            page = await site.get("/v1/observations")
        assert page.status == 503
        assert page.document["error"]["what"] == "it is locked"
        assert page.document["error"]["remedy"] == "wait"

    asyncio.run(story())


# ── who may ask what ─────────────────────────────────────────────────────────────────────────


def test_without_a_token_this_host_is_asked_for_nothing() -> None:
    async def story() -> None:
        async with serving() as site:
            for path in (*OPEN, *PRIVATE):
                assert (await site.get(path)).status == 200, path

    asyncio.run(story())


def test_with_a_token_only_health_and_metrics_are_open(watch: Watch) -> None:
    token = watch.secret("hex")

    async def story() -> None:
        async with serving(token=token) as site:
            for path in OPEN:
                assert (await site.get(path)).status == 200, path
            for path in (*PRIVATE, "/v1/unknown", "/v1"):
                refused = await site.get(path)
                assert refused.status == 401, path
                assert refused.headers["WWW-Authenticate"].startswith("Bearer")
                watch.search(path, refused.content)
            for path in PRIVATE:
                allowed = await site.get(path, Authorization=f"Bearer {token}")
                assert allowed.status == 200, path
                watch.search(path, allowed.content)
            assert (await site.get("/v1/status", Authorization=f"bearer {token}")).status == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic {}", "{}", "Bearer {}x", "Bearer x{}", "Bearer é"],
)
def test_nearly_a_token_is_none(given: str, watch: Watch) -> None:
    token = watch.secret("hex")

    async def story() -> None:
        async with serving(token=token) as site:
            page = await site.get("/v1/status", Authorization=given.format(token))
            assert page.status == 401

    asyncio.run(story())


def test_two_logins_in_one_request_are_none(watch: Watch) -> None:
    token = watch.secret("hex").encode()

    async def story() -> None:
        async with serving(token=token.decode()) as site:
            answer = await raw(
                site,
                b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
                + token
                + b"\r\nAuthorization: Bearer "
                + token
                + b"\r\n\r\n",
            )
            assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400"))
            watch.search("the answer", answer)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:9797", 200),
        ("127.8.8.8", 200),
        ("[::1]:80", 200),
        ("attacker.example", 421),
        ("localhost.attacker.example", 421),
        ("127.0.0.1.attacker.example:9797", 421),
        ("localhost@attacker.example", 421),
        ("10.0.0.1", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_a_name_that_somebody_else_made_does_not_lead_here(host: str, expected: int) -> None:
    async def story() -> None:
        async with serving() as site:
            for path in (*OPEN, *PRIVATE):
                answer = await raw(site, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                if expected == 200:
                    assert answer.startswith(b"HTTP/1.1 200"), path
                else:
                    assert answer.startswith((b"HTTP/1.1 421", b"HTTP/1.1 400")), path
                    assert b"tokyo-1" not in answer

    asyncio.run(story())


def test_behind_another_address_any_name_leads_here_and_the_token_decides(watch: Watch) -> None:
    token = watch.secret("hex")

    async def story() -> None:
        async with serving(token=token, listen="0.0.0.0:0") as site:
            login = {"Host": "jtr.internal", "Authorization": f"Bearer {token}"}
            assert (await site.get("/v1/status", **login)).status == 200
            assert (await site.get("/v1/status", Host="jtr.internal")).status == 401
            assert (await site.get("/healthz", Host="10.1.2.3:9797")).status == 200

    asyncio.run(story())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed_here(method: str) -> None:
    async def story() -> None:
        async with serving() as site:
            for path in ("/healthz", "/v1/status", "/nowhere"):
                page = await site.get(path, method)
                assert (page.status, page.headers["Allow"]) == (405, "GET, HEAD"), path

    asyncio.run(story())


def test_heads_are_answered_without_a_body() -> None:
    async def story() -> None:
        async with serving() as site:
            for path in (*OPEN, *PRIVATE):
                page = await site.get(path, "HEAD")
                assert (page.status, page.content) == (200, b""), path

    asyncio.run(story())


def test_every_answer_forbids_to_keep_or_to_guess() -> None:
    async def story() -> None:
        async with serving(token="x" * 20) as site:
            answers = [await site.get(path) for path in (*OPEN, *PRIVATE, "/nowhere", "//", "/%00")]
            answers.append(await site.get("/healthz", "POST"))
            for page in answers:
                assert page.headers["Cache-Control"] == "no-store"
                assert page.headers["X-Content-Type-Options"] == "nosniff"
                assert page.headers["Server"] == "jtr"
                assert page.headers["Connection"] == "close"
                assert "aiohttp" not in str(page)

    asyncio.run(story())


# ── hostile requests ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"canary" * 1500 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: canary\r\n" * 300 + b"\r\n",
        b"\x16\x03\x01 canary\r\n\r\n",
        b"canary canary canary\r\n\r\n",
    ],
    ids=["line", "field", "fields", "tls", "nonsense"],
)
def test_what_is_no_request_is_refused_without_an_echo(data: bytes) -> None:
    async def story() -> None:
        async with serving() as site:
            answer = await raw(site, data)
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")) or not answer
            assert b"canary" not in answer
            assert b"aaaa" not in answer
            assert b"aiohttp" not in answer
            assert (await site.get("/healthz")).status == 200

    asyncio.run(story())


def test_a_body_is_not_waited_for() -> None:
    async def story() -> None:
        async with serving() as site:
            answer = await raw(
                site, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n"
            )
            assert answer.startswith(b"HTTP/1.1 200")

    told(story)


@pytest.mark.parametrize("data", [b"", b"GET /healthz HTTP/1.1\r\nHo"])
def test_who_says_nothing_or_half_of_it_is_cut_off(data: bytes) -> None:
    async def story() -> None:
        async with serving(patience=0.3) as site:
            clock = asyncio.get_running_loop().time
            began = clock()
            await raw(site, data)
            assert 0.2 < clock() - began < 0.4
            assert (await site.get("/healthz")).status == 200

    told(story)


def test_who_drips_is_cut_off() -> None:
    async def story() -> None:
        async with serving(patience=0.5) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
            clock = asyncio.get_running_loop().time
            began = clock()
            with closing(writer):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
                ended = asyncio.ensure_future(reader.read())
                while not ended.done() and clock() - began < 5:
                    writer.write(b"x")
                    await asyncio.wait({ended}, timeout=0.05)
                assert 0.4 < clock() - began < 0.7
                assert ended.exception() is not None or ended.result() == b""

    told(story)


def test_who_does_not_read_is_cut_off() -> None:
    rows = {f"server/{number:032d}/identity": "x" * 100_000 for number in range(200)}  # 20 MB

    async def story() -> None:
        async with serving(behind=Behind(rows=rows), patience=0.5) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port, limit=1024)
            with closing(writer):
                writer.write(b"GET /v1/observations HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await until(lambda: inside(site).connections)
                await until(lambda: not inside(site).connections)
                got = 0
                with suppress(ConnectionError):
                    while piece := await reader.read(1 << 16):
                        got += len(piece)
                assert got < 20_000_000

    told(story)


def test_a_crowd_that_asks_nothing_makes_room_for_who_asks() -> None:
    async def story() -> None:
        async with serving() as site:
            crowd = [
                await asyncio.open_connection("127.0.0.1", site.web.port)
                for _ in range(pages.CONNECTIONS + 20)
            ]
            await until(lambda: len(inside(site).connections) == pages.CONNECTIONS)
            assert (await site.get("/healthz")).status == 200
            ended = [reader for reader, _ in crowd if reader.at_eof() or reader.exception()]
            assert len(ended) >= 20
            for _, writer in crowd:
                writer.close()
            await until(lambda: not inside(site).connections)

    asyncio.run(story())


def test_a_crowd_that_asks_for_slow_pages_is_not_let_grow() -> None:
    class Slow(Behind):
        async def observations(self) -> Mapping[str, str]:
            await asyncio.sleep(60)
            return {}

    async def story() -> None:
        async with serving(behind=Slow(), patience=1.0) as site:
            ask = b"GET /v1/observations HTTP/1.1\r\nHost: localhost\r\n\r\n"
            asking = [asyncio.ensure_future(raw(site, ask)) for _ in range(pages.CONNECTIONS)]
            await until(lambda: inside(site).requests_count == pages.CONNECTIONS)
            assert await raw(site, ask) == b""
            assert len(inside(site).connections) == pages.CONNECTIONS
            assert set(await asyncio.gather(*asking)) == {b""}  # their deadline
            assert (await site.get("/healthz")).status == 200

    told(story)


def test_one_request_a_connection() -> None:
    async def story() -> None:
        async with serving() as site:
            one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
            assert (await raw(site, one * 3)).count(b"HTTP/1.1 200") == 1

    asyncio.run(story())


# ── listening ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:9797", ("127.0.0.1", 9797)),
        ("127.3.4.5:0", ("127.3.4.5", 0)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_this_host_needs_no_token(listen: str, expected: tuple[str, int]) -> None:
    assert checked_listen(listen, False) == checked_listen(listen, True) == expected


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9797", "[::]:9797", "10.0.0.1:9797", "jtr.internal:9797", "128.0.0.1:1"]
)
def test_other_addresses_need_a_token(listen: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_listen(listen, False)

    assert "to anybody" in caught.value.what
    assert "controller.tokenFile" in caught.value.remedy
    assert caught.value.exit_code == 64
    assert checked_listen(listen, True)[0] in listen


@pytest.mark.parametrize(
    "listen",
    [
        "",
        "9797",
        ":9797",
        "localhost",
        "localhost:",
        "localhost:x",
        "a:65536",
        "::1:80",
        "[::1]",
        "[localhost]:80",
        "[::1:80",
    ],
)
def test_addresses_that_are_none(listen: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_listen(listen, True)

    assert "HOST:PORT" in str(caught.value) or "[ADDRESS]:PORT" in str(caught.value)


def test_a_port_in_use_says_so() -> None:
    async def story() -> None:
        async with serving() as site:
            with pytest.raises(UsageError) as caught:
                async with serving(listen=f"127.0.0.1:{site.web.port}"):
                    raise AssertionError
            assert f"127.0.0.1:{site.web.port}: something else listens there" in caught.value.what
            assert "--listen" in caught.value.remedy

    asyncio.run(story())


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "nowhere.invalid:0"])
def test_an_address_that_is_not_ours_says_so(listen: str) -> None:
    async def story() -> None:
        with pytest.raises(UsageError, match=r"cannot listen on .*: (this host does|.* name)"):
            async with serving(listen=listen, token="x" * 20):
                raise AssertionError

    asyncio.run(story())


def test_after_the_stop_nobody_listens_and_a_second_one_is_allowed() -> None:
    async def story() -> None:
        async with serving() as site:
            port = site.web.port
            assert port
            await site.web.stop()
            await site.web.stop()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(story())


def test_a_stop_does_not_wait_for_a_slow_page() -> None:
    class Slow(Behind):
        async def observations(self) -> Mapping[str, str]:
            await asyncio.sleep(60)
            return {}

    async def story() -> None:
        async with serving(behind=Slow()) as site:
            asking = asyncio.ensure_future(site.get("/v1/observations"))
            await until(lambda: inside(site).requests_count)
            clock = asyncio.get_running_loop().time
            began = clock()
            await site.web.stop()
            assert clock() - began < 20
            with pytest.raises(aiohttp.ClientError):
                await asking

    told(story)


def test_the_ledger_is_read_once_however_many_hang_up() -> None:
    begun, let_go = 0, asyncio.Event()

    class Slow(Behind):
        async def observations(self) -> Mapping[str, str]:
            nonlocal begun
            begun += 1
            await let_go.wait()
            return ROWS

    async def story() -> None:
        async with serving(behind=Slow()) as site:
            path = "/v1/observations"
            for _ in range(5):
                before = inside(site).requests_count
                asking = asyncio.ensure_future(site.get(path))
                await until(partial(heard_since, site, before))
                asking.cancel()
                await until(lambda: not inside(site).connections)
            assert begun == 1
            before = inside(site).requests_count
            asking = asyncio.ensure_future(site.get(path))
            await until(partial(heard_since, site, before))
            let_go.set()
            assert (await asking).status == 200
            assert begun == 1
            assert (await site.get(path)).status == 200
            assert begun == 2

    asyncio.run(story())


def test_nothing_is_logged_for_a_request(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with serving() as site:
            await site.get("/v1/status?token=canary", Authorization="Bearer canary")
            await raw(site, b"GET /canary\x00 HTTP/1.1\r\n\r\n")

    asyncio.run(story())

    ours = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert not [record.getMessage() for record in ours if "canary" in record.getMessage()]
    assert not [record for record in caplog.records if record.name.startswith("aiohttp.access")]


def test_the_loops_signal_handlers_stay_the_controllers() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        before = dict(loop._signal_handlers)  # type: ignore[attr-defined]
        async with serving():
            assert loop._signal_handlers == before  # type: ignore[attr-defined]

    asyncio.run(story())


def test_ipv6(watch: Watch) -> None:
    del watch
    with closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this host has no IPv6")

    async def story() -> None:
        async with (
            serving(listen="[::1]:0") as site,
            site.http.get(f"http://[::1]:{site.web.port}/healthz") as answer,
        ):
            assert answer.status == 200

    asyncio.run(story())


# ── the token's file ─────────────────────────────────────────────────────────────────────────


def test_a_token_is_one_line(tmp_path: Path, watch: Watch) -> None:
    file = tmp_path / "private" / "token"
    file.parent.mkdir()
    token = watch.secret("hex")

    for end in ("", "\n", "\r\n"):
        file.write_text(token + end, newline="")
        assert read_token(str(file)).reveal() == token


@pytest.mark.parametrize(
    "content",
    [
        "",
        "short",
        "a" * 15,
        "a" * 1025,
        "two lines of it\nand more",
        "blank in the middle x",
        "a" * 20 + "\n\n",
        "é" * 20,
        "a" * 20 + "\x00",
    ],
)
def test_what_is_no_token_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)

    with pytest.raises(UsageError) as caught:
        read_token(str(file))

    assert "does not hold a token" in caught.value.what
    assert not content or content.strip() not in str(caught.value)


def test_a_token_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_token(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="not a regular file"):
        read_token(str(tmp_path))
