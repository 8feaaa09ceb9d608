"""The stand-in as a server: its list and masks, its frames, its start and stop, its record."""

import asyncio
import contextlib
import gc
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from reconciler.sandbox.jt_trader import exchange_list, record
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn, StandInThread
from tests.conformance.naive import WAIT, NaiveClient
from tests.drivers.scripted import Authority
from tests.support.leaks import Watch

pytestmark = pytest.mark.naive


@pytest.fixture
def secret(watch: Watch) -> str:
    return watch.secret("hex")


# Masks and the list


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("", ""),
        ("a", "a•••••a"),
        ("ab", "ab•••••ab"),
        ("abc", "abc•••••abc"),
        ("abcd", "abc•••••bcd"),
        ("abcdef", "abc•••••def"),
        ("пароль-ключ", "пар•••••люч"),
        ("a😀", "a😀•••••a😀"),
        ("😀😁😂middle🤣😃😄", "😀\ud83d•••••\ude03😄"),
        ("abc•••••xyz", "abc•••••xyz"),
    ],
)
def test_masks_show_three_utf16_units_of_each_end(stored: str, shown: str) -> None:
    """Source: observed on JT-Trader 0.24.19."""
    assert exchange_list.mask(stored) == shown


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("binance", ["binance_api_key", "binance_secret"]),
        ("bitget", ["bitget_api_key", "bitget_secret", "bitget_password"]),
        ("hyperliquid", ["hyperliquid_private_key", "hyperliquid_wallet_address"]),
        ("woo", ["woo_api_key", "woo_secret", "woo_uid"]),
        ("woofipro", ["woofipro_api_key", "woofipro_secret", "woofipro_account_id"]),
        ("blockchaincom", ["blockchaincom_secret"]),
        ("onetrading", ["onetrading_api_key"]),
    ],
)
def test_fields_of_additional_exchanges(code: str, names: list[str]) -> None:
    (listed,) = exchange_list.exchange_list([code], {})["additional"]

    assert [stored["name"] for stored in listed["fields"]] == names


def test_unknown_and_main_exchanges_are_no_additional_ones() -> None:
    payload = exchange_list.exchange_list(["mexc", "no-such", "okx", "kraken", "mexc"], {})

    assert [exchange["code"] for exchange in payload["additional"]] == ["kraken", "mexc"]


@pytest.mark.parametrize(
    ("values", "place", "connected"),
    [
        ({"mexc_api_key": "k"}, "additional", False),
        ({"mexc_api_key": "k", "mexc_secret": ""}, "main", False),
        ({"mexc_api_key": "k", "mexc_secret": "s"}, "main", True),
    ],
    ids=["partly", "one is empty", "whole"],
)
def test_an_additional_exchange_moves_when_all_its_rows_exist(
    values: dict[str, str],
    place: str,
    connected: bool,  # noqa: FBT001  - a column of the table
) -> None:
    payload = exchange_list.exchange_list(["mexc"], values)

    (found,) = [exchange for exchange in payload[place] if exchange["code"] == "mexc"]
    assert found is payload[place][-1]
    assert (found["added"], found["connected"]) == (place == "main", connected)


# Frames


def test_frames_are_those_of_the_real_server(secret: str) -> None:
    with StandInThread(access_secret=secret, behaviour=Behaviour(sprinkle=False)) as server:
        server.set_value("okx_password", "😀😁😂middle🤣😃😄")
        frames = asyncio.run(_frames(server.url, secret))

    assert json.loads(frames[0][1:]) | {"sid": ""} == {
        "sid": "",
        "upgrades": [],
        "pingInterval": 25_000,
        "pingTimeout": 20_000,
        "maxPayload": 1_000_000,
    }
    assert frames[1].startswith('40{"sid":"')
    assert frames[2].startswith('42["message",{"event":"authenticated","payload":{"id":"0",')
    assert frames[3] == '42["message",{"event":"invalidate-cache-response"}]'
    # Only what cannot be UTF-8 is escaped.
    assert '"value":"😀\\ud83d•••••\\ude03😄"' in frames[4]


async def _frames(url: str, secret: str) -> list[str]:
    address = f"{url}/socket.io/?EIO=4&transport=websocket"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(address, headers={"Origin": "http://elsewhere.test"}) as socket,
    ):
        frames = [await socket.receive_str(timeout=WAIT)]
        await socket.send_str("40" + json.dumps({"accessSecret": secret}))
        frames += [await socket.receive_str(timeout=WAIT) for _ in range(2)]
        for event in ("invalidate-cache-request", "exchange-config-request"):
            await socket.send_str("42" + json.dumps(["message", {"event": event}]))
            frames.append(await socket.receive_str(timeout=WAIT))
        return frames


def test_a_silent_peer_is_dropped_without_a_goodbye(secret: str) -> None:
    behaviour = Behaviour(ping_interval=0.2, ping_timeout=0.1)
    with StandInThread(access_secret=secret, behaviour=behaviour) as server:
        opening, rest, code = asyncio.run(_sleep_through_pings(server.url))

    assert json.loads(opening[1:])["pingInterval"] == 200
    assert json.loads(opening[1:])["pingTimeout"] == 100
    assert rest == ["2"]
    assert code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE


async def _sleep_through_pings(url: str) -> tuple[str, list[str], int | None]:
    address = f"{url}/socket.io/?EIO=4&transport=websocket"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(address) as socket,
        asyncio.timeout(WAIT),
    ):
        frames = [message.data async for message in socket if message.type.name == "TEXT"]
        return frames[0], frames[1:], socket.close_code


def test_other_protocol_versions_are_refused_and_any_page_is_served(secret: str) -> None:
    with StandInThread(access_secret=secret, behaviour=Behaviour(clock_offset=3600)) as server:
        status, _, body = _get(f"{server.url}/socket.io/?EIO=3&transport=polling")
        page, headers, _ = _get(f"{server.url}/any/page")
        entry = server.log_entries()[0]

    assert (status, json.loads(body)) == (
        400,
        {"code": 5, "message": "Unsupported protocol version"},
    )
    assert page == 200
    assert "Access-Control-Allow-Origin" not in headers
    ahead = parsedate_to_datetime(headers["Date"]).timestamp() - time.time()
    assert 3590 < ahead < 3610
    assert 3590 < entry["time"] / 1000 - time.time() < 3610


def _get(url: str) -> tuple[int, dict[str, str], str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.addheaders = [("Origin", "http://elsewhere.test")]
    try:
        answer = opener.open(url, timeout=WAIT)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status or 0, dict(answer.headers), answer.read().decode()


# Start and stop


def test_rows_survive_a_restart_on_the_same_port(secret: str) -> None:
    with StandInThread(access_secret=secret) as server:
        url = server.url
        server.set_value("okx_api_key", "kept-value")
        boots = _boots(server)
        server.restart(down=0.01)

        assert server.url == url
        assert server.values() == {"okx_api_key": "kept-value"}
        assert _boots(server) == boots + 1
        assert _get(url)[0] == 200

    with pytest.raises(OSError, match="refused"):
        _get(url)


def _boots(server: StandInThread) -> int:
    return sum(entry["msg"] == "Starting Nest application..." for entry in server.log_entries())


def test_a_stop_under_load_leaves_nothing_behind(secret: str) -> None:
    threads = threading.active_count()

    async def scenario() -> set[str]:
        server = StandIn(access_secret=secret)
        url = await server.start()
        clients = [NaiveClient(url, {"accessSecret": secret}) for _ in range(20)]
        await asyncio.gather(*(client.open() for client in clients))
        for client in clients:
            await client.request("exchange-config-request")
        await server.stop()
        for client in clients:
            await asyncio.wait_for(client.ended.wait(), WAIT)
            await client.close()
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        return {task.get_coro().__qualname__ for task in tasks}  # type: ignore[union-attr]

    assert asyncio.run(scenario()) == set()
    assert threading.active_count() == threads


def test_many_threads_at_once(secret: str) -> None:
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(StandInThread(access_secret=secret)) for _ in range(20)]
        assert {_get(server.url)[0] for server in servers} == {200}
        assert len({server.url for server in servers}) == 20

    assert threading.active_count() == threads


def test_nobody_gets_the_port_of_a_server_that_is_down(secret: str) -> None:
    """Another test's server would be asked in its place, and count what was meant for this one."""

    async def scenario() -> int:
        server = StandIn(access_secret=secret)
        await server.start()
        taken = 0
        for end in (server.crash(down=0.05), server.crash()):
            ending = asyncio.ensure_future(end)
            while not ending.done():
                taken += free(server.url)
                await asyncio.sleep(0)
        taken += free(server.url)
        await server.come_back()
        await server.stop()
        assert free(server.url), "positive control"
        return taken

    assert asyncio.run(scenario()) == 0


def free(url: str) -> bool:
    """Say whether anybody could listen on the port of *url*."""
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        except OSError:
            return False
    return True


def test_a_taken_port_is_an_error_that_leaves_nothing(secret: str) -> None:
    with StandInThread(access_secret=secret) as server:
        port = int(server.url.rpartition(":")[2])
        other = StandInThread(access_secret=secret)
        threads = threading.active_count()
        with pytest.raises(OSError, match="in use"):
            other.start(port)

        assert threading.active_count() == threads


def test_tls(secret: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with StandInThread(access_secret=secret, tls=authority.server_context()) as server:
        client = ssl.create_default_context(cafile=str(authority.ca_file))
        with urllib.request.urlopen(server.url, context=client, timeout=WAIT) as answer:
            assert answer.status == 200

        assert server.url.startswith("https://127.0.0.1:")


# The record


def test_the_record_names_the_command_of_each_event(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, str]] = []
    monkeypatch.setattr(record, "SINK", lambda command, event: heard.append((command, event)))

    async def visit(url: str, agent: str, given: str) -> None:
        headers = {"User-Agent": agent}
        async with NaiveClient(url, {"accessSecret": given}, headers=headers) as client:
            event = "authenticated" if given == secret else "unauthorized"
            assert await client.wait_for(event)
            assert await client.ask("engine-config-request", answer="engine-config-response")

    with StandInThread(access_secret=secret) as server:
        asyncio.run(visit(server.url, "jt-reconciler/0.1.0 (plan)", secret))
        asyncio.run(visit(server.url, "somebody/1.0 (plan)", "wrong"))

    assert heard == [("plan", "engine-config-request"), ("", "engine-config-request")]
    assert [(h.command, h.authorised) for h in server.record.handshakes] == [
        ("plan", True),
        ("", False),
    ]
    assert [(r.command, r.authorised) for r in server.record.received] == [
        ("plan", True),
        ("", False),
    ]


def test_accounts_keep_apart(secret: str) -> None:
    robots = [Robot(1, "mine", "okx"), Robot(2, "theirs", "okx", account="42")]

    async def visit(url: str) -> list[Any]:
        auth = {"accessSecret": secret, "accessToken": "site-token"}
        async with NaiveClient(url, auth) as client:
            login = await client.wait_for("authenticated")
            jobs = await client.ask(
                "background-jobs-list-request", answer="background-jobs-list-response"
            )
            assert login is not None
            assert jobs is not None
            return [login["payload"]["id"], [job["id"] for job in jobs["payload"]]]

    with StandInThread(access_secret=secret, robots=robots, tokens={"site-token": "42"}) as server:
        server.set_value("okx_api_key", "of-the-first-account")

        assert asyncio.run(visit(server.url)) == ["42", [2]]
        assert server.values("42") == {}


# In the foreground


@pytest.fixture
def foreground(tmp_path: Path, secret: str) -> Iterator[subprocess.Popen[str]]:
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret").write_text(f"{secret}\n")
    command = [
        *(sys.executable, "-m", "reconciler.sandbox.jt_trader.server"),
        *("--secret-file", str(private / "secret"), "--record", str(tmp_path / "record")),
        *("--robots", '[{"id": 1, "name": "one", "exchange": "okx"}]'),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT)


def test_the_foreground_process_says_where_and_ends_politely(
    foreground: subprocess.Popen[str], tmp_path: Path, secret: str
) -> None:
    assert foreground.stdout is not None
    line = foreground.stdout.readline()
    url = line.removeprefix("listening on ").strip()

    async def visit() -> int:
        async with NaiveClient(url, {"accessSecret": secret}) as client:
            assert await client.wait_for("authenticated")
            jobs = await client.ask(
                "background-jobs-list-request", answer="background-jobs-list-response"
            )
            assert jobs is not None
            return len(jobs["payload"])

    assert asyncio.run(visit()) == 1
    foreground.send_signal(signal.SIGTERM)
    output, errors = foreground.communicate(timeout=WAIT)
    assert (foreground.returncode, output, errors) == (0, "", "")
    assert json.loads((tmp_path / "record").read_text()) == {
        "command": "",
        "event": "background-jobs-list-request",
    }


def test_who_knocks_while_it_goes_down_is_not_forgotten() -> None:
    """A connection accepted just before the port closes must be closed by somebody."""
    over = threading.Event()

    def knock(port: int) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()

    with StandInThread(access_secret="made-up") as server:
        port = int(server.url.rpartition(":")[2])
        visitors = [threading.Thread(target=knock, args=(port,)) for _ in range(2)]
        for visitor in visitors:
            visitor.start()
        for _ in range(30):
            server.restart(down=0.001)
        over.set()
        for visitor in visitors:
            visitor.join(10)
    gc.collect()  # what was forgotten warns now, and a warning fails the test
