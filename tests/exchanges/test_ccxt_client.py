"""
ccxt's exchanges as we make them: nothing followed, repeated, remembered, logged or left open.
"""

import logging
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from reconciler.errors import UsageError
from reconciler.exchanges import ccxt_client
from reconciler.exchanges.adapters import bybit
from reconciler.exchanges.ccxt_client import NotOffered, knows, opened
from reconciler.model.key_facts import Environment
from reconciler.model.secret import Secret
from reconciler.sandbox.exchanges import signing
from reconciler.testing.exchange_server import HangUp, Reply, serving
from tests.exchanges import signing_more
from tests.support.leaks import Watch

LIVE, TEST = Environment
PATH = "/v5/user/query-api"
NOWHERE = "http://127.0.0.1:9"  # never asked


def made(ccxt_id: str, environment: Environment = LIVE, **fields: Any) -> Any:
    """Return the exchange of a block that has ended, as far as it is still there."""
    fields["test_by_header"] = ccxt_id == "bitget"
    with opened(ccxt_id, {}, environment=environment, timeout=1, **fields) as exchange:
        return exchange


@pytest.fixture
def plain(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return {"apiKey": watch.secret(), "secret": watch.secret()}


def secrets(plain: Mapping[str, str]) -> dict[str, Secret]:
    """Return credentials as the resolver hands them over."""
    return {name: Secret(value) for name, value in plain.items()}


def addresses(urls: Any) -> list[str]:
    """Return all addresses in a nest of them."""
    if isinstance(urls, dict):
        return [address for value in urls.values() for address in addresses(value)]
    return [urls] if isinstance(urls, str) else []


@pytest.mark.parametrize("environment", Environment)
@pytest.mark.parametrize("ccxt_id", ["binance", "bitget", "bybit", "gate", "okx", "woo"])
def test_every_address_moves_to_the_stand_in_with_its_path(
    ccxt_id: str, environment: Environment
) -> None:
    real = addresses(made(ccxt_id, environment).urls["api"])
    moved = addresses(made(ccxt_id, environment, base=NOWHERE).urls["api"])

    assert {urlsplit(address).netloc for address in moved} == {"127.0.0.1:9"}
    assert [urlsplit(address).path for address in moved] == [urlsplit(a).path for a in real]


@pytest.mark.parametrize(
    ("ccxt_id", "host"), [("bybit", "api-testnet.{hostname}"), ("gate", "api-testnet.gateapi.io")]
)
def test_a_test_network_has_its_own_host(ccxt_id: str, host: str) -> None:
    assert {urlsplit(url).netloc for url in addresses(made(ccxt_id, TEST).urls["api"])} == {host}


def test_or_says_it_in_a_header() -> None:
    assert made("okx", TEST).headers["x-simulated-trading"] == "1"
    assert made("bitget", TEST).options["sandboxMode"] is True


@pytest.mark.parametrize("ccxt_id", ["kucoin", "mexc", "htx", "kraken", "coinbase", "bitfinex"])
def test_where_ccxt_knows_no_test_network_it_says_so(ccxt_id: str) -> None:
    with pytest.raises(NotOffered, match=f"^ccxt knows no test network of {ccxt_id}$"):
        made(ccxt_id, TEST)


@pytest.mark.parametrize("ccxt_id", ["gateio", "nowhere", "Exchange", "__version__", "pro"])
def test_what_ccxt_does_not_know_is_said(ccxt_id: str) -> None:
    assert not knows(ccxt_id)
    with pytest.raises(NotOffered, match=f"^ccxt [0-9.]+ does not know {ccxt_id}$"):
        made(ccxt_id)


@pytest.mark.parametrize(
    "base",
    ["http://10.0.0.1:80", "http://example.org", "ftp://127.0.0.1", "x", "http://127.0.0.1/p"],
)
def test_a_base_that_would_show_keys_is_refused(base: str) -> None:
    with pytest.raises(UsageError):
        made("bybit", base=base)


@pytest.mark.parametrize(
    ("proxy", "base", "setting"),
    [
        ("http://127.0.0.1:3128", "", "httpsProxy"),
        ("https://127.0.0.1:3128", "", "httpsProxy"),
        ("http://127.0.0.1:3128", "https://127.0.0.1:9", "httpsProxy"),
        ("http://127.0.0.1:3128", NOWHERE, "httpProxy"),
    ],
)
def test_exactly_one_setting_is_made_of_a_proxy(proxy: str, base: str, setting: str) -> None:
    exchange = made("bybit", proxy=proxy, base=base)

    settings = ("httpProxy", "httpsProxy", "socksProxy", "proxyUrl", "proxies")
    assert {name: getattr(exchange, name) for name in settings if getattr(exchange, name)} == {
        setting: proxy
    }


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1", "127.0.0.1:3128", "nonsense"])
def test_a_proxy_of_no_known_kind_is_refused(proxy: str) -> None:
    with pytest.raises(UsageError, match=r"audit\.proxy"):
        made("bybit", proxy=proxy)


def test_a_call_goes_through_the_proxy(plain: dict[str, str]) -> None:
    with serving(signing.bybit, plain, {}) as proxy:
        proxy.script.append(signing.bybit_error("10010"))
        with (
            opened(
                "bybit", secrets(plain), environment=LIVE, timeout=60, proxy=proxy.url, base=NOWHERE
            ) as exchange,
            pytest.raises(Exception, match="10010"),
        ):
            bybit.ADAPTERS[0].fetch(exchange, LIVE)

    (call,) = proxy.calls
    assert (call.path, call.headers["host"]) == (PATH, "127.0.0.1:9")


class Tunnel(socketserver.ThreadingTCPServer):
    """SOCKS 5 without a password, as `ssh -D` has it: leads everybody to *goal*, notes to where."""

    daemon_threads = True

    def __init__(self, goal: tuple[str, int]) -> None:
        self.goal = goal
        self.asked: list[tuple[int, bytes]] = []  # kind of address (3: a name), and the address
        super().__init__(("127.0.0.1", 0), _Through)


class _Through(socketserver.StreamRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        _, methods = self.rfile.read(2)
        self.rfile.read(methods)
        self.wfile.write(b"\x05\x00")
        _, _, _, kind = self.rfile.read(4)
        address = self.rfile.read(self.rfile.read(1)[0] if kind == 3 else 4)
        self.rfile.read(2)
        self.server.asked.append((kind, address))
        self.wfile.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        with socket.create_connection(self.server.goal, timeout=5) as there:
            back = threading.Thread(target=self._bring, args=(there,))
            back.start()
            while part := self.connection.recv(65_536):
                there.sendall(part)
            there.shutdown(socket.SHUT_WR)
            back.join(5)

    def _bring(self, there: socket.socket) -> None:
        while part := there.recv(65_536):
            self.wfile.write(part)
        self.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("scheme", "asked"),
    [("socks5h", (3, b"api.exchange.invalid")), ("socks5", (1, b"\x7f\x00\x00\x01"))],
)
def test_a_call_goes_through_a_tunnel(
    scheme: str, asked: tuple[int, bytes], plain: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `socks5h` the other end looks names up: there an exchange may have another address."""
    host = "api.exchange.invalid" if scheme == "socks5h" else "127.0.0.1"
    monkeypatch.setattr(ccxt_client, "loopback", lambda _host: True)
    with serving(signing.bybit, plain, {PATH: {"retCode": 0}}) as exchange:
        goal = urlsplit(exchange.url)
        with Tunnel((goal.hostname or "", goal.port or 0)) as tunnel:
            thread = threading.Thread(target=tunnel.serve_forever, args=(0.02,))
            thread.start()
            try:
                proxy = f"{scheme}://127.0.0.1:{tunnel.server_address[1]}"
                with opened(
                    *("bybit", secrets(plain)),
                    environment=LIVE,
                    timeout=5,
                    proxy=proxy,
                    base=f"http://{host}:80",
                ) as asking:
                    bybit.ADAPTERS[0].fetch(asking, LIVE)
            finally:
                tunnel.shutdown()
                thread.join(5)

    assert tunnel.asked == [asked]
    assert exchange.paths() == [PATH]


def test_proxies_of_the_environment_are_not_used(
    plain: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.upper(), NOWHERE)
    monkeypatch.setenv("no_proxy", "")
    with serving(signing.bybit, plain, {PATH: {"retCode": 0}}) as server:
        with opened(
            "bybit", secrets(plain), environment=LIVE, timeout=60, base=server.url
        ) as exchange:
            bybit.ADAPTERS[0].fetch(exchange, LIVE)

        assert server.paths() == [PATH]


def test_a_redirect_does_not_carry_the_key_elsewhere(plain: dict[str, str]) -> None:
    with (
        serving(signing.bybit, plain, {}) as elsewhere,
        serving(signing.bybit, plain, {}) as server,
    ):
        server.script.append(Reply(b"", 307, {"Location": f"{elsewhere.url}{PATH}"}))
        with (
            opened(
                "bybit", secrets(plain), environment=LIVE, timeout=60, base=server.url
            ) as exchange,
            pytest.raises(Exception, match="bybit GET"),
        ):
            bybit.ADAPTERS[0].fetch(exchange, LIVE)

        assert (len(server.calls), elsewhere.calls) == (1, [])


@pytest.mark.parametrize("reply", [HangUp(), Reply(b"", 503)], ids=["hangs up", "503"])
def test_nothing_is_tried_twice_and_no_older_answer_is_taken_for_this_one(
    plain: dict[str, str], reply: Any
) -> None:
    with serving(signing.bybit, plain, {PATH: {"retCode": 0}}) as server:
        with opened(
            "bybit", secrets(plain), environment=LIVE, timeout=60, base=server.url
        ) as exchange:
            before = exchange.last_http_response
            assert before is None
            bybit.ADAPTERS[0].fetch(exchange, LIVE)
            assert exchange.last_http_response == '{"retCode": 0}'
            server.script.append(reply)
            with pytest.raises(Exception, match="bybit"):
                bybit.ADAPTERS[0].fetch(exchange, LIVE)
            assert not exchange.last_http_response

        assert len(server.calls) == 2


def test_afterwards_no_credential_is_left_in_the_exchange(plain: dict[str, str]) -> None:
    with serving(signing.bybit, plain, {PATH: {"retCode": 0}}) as server:
        with opened(
            "bybit", secrets(plain), environment=LIVE, timeout=60, base=server.url
        ) as exchange:
            assert exchange.apiKey == plain["apiKey"]
            bybit.ADAPTERS[0].fetch(exchange, LIVE)

        left = str({**vars(exchange), "options": None})
        assert not any(value in left for value in plain.values())


def test_sessions_are_closed_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def use() -> None:
        with opened("bybit", {}, environment=LIVE, timeout=1, base=NOWHERE) as exchange:
            monkeypatch.setattr(exchange.session, "close", lambda: closed.append("closed"))
            raise LookupError

    with pytest.raises(LookupError):
        use()
    assert closed == ["closed"]


def test_debug_logging_shows_neither_key_nor_query(
    plain: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "ccxt", "ccxt.base.exchange", "urllib3", "urllib3.connectionpool", "requests"):
        caplog.set_level(logging.DEBUG, name)  # as a person does who looks for a mistake
    with serving(signing_more.binance, plain, {"/sapi/v1/account/apiRestrictions": {}}) as server:
        with opened(
            "binance", secrets(plain), environment=LIVE, timeout=60, base=server.url
        ) as exchange:
            exchange.sapiGetAccountApiRestrictions()

        (call,) = server.calls
        assert "signature=" in call.query
    assert caplog.text == ""
    # Positive control: a warning of theirs does come through, without its query.
    logging.getLogger("urllib3.connectionpool").warning("Failed (url=%s)", f"/p?{call.query}")
    assert "Failed (url=/p?***)" in caplog.text
    assert "signature" not in caplog.text


def test_ccxt_is_imported_by_the_call_only() -> None:
    probe = (
        "import sys\n"
        "import reconciler.exchanges.ccxt_client, reconciler.exchanges.classify\n"
        "import reconciler.exchanges.registry, reconciler.exchanges.judge\n"
        "reconciler.exchanges.registry.entry('gateio')\n"
        "assert not {'ccxt', 'requests', 'urllib3', 'aiohttp'} & set(sys.modules)\n"
        "assert reconciler.exchanges.ccxt_client.knows('gate')\n"
        "assert 'ccxt' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, timeout=60)
