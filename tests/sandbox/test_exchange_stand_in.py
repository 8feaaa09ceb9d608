"""
The stand-in exchanges of the sandbox, as real ccxt and our own adapters meet them.

What a key's owner chose at a stand-in must come out of the audit; what is wrong with a call must be
refused with the exchange's own code.
"""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.exchanges import registry
from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.ccxt_client import opened
from reconciler.model.key_facts import Cap, Environment, KeyFacts, Status
from reconciler.sandbox.exchanges import http
from reconciler.sandbox.exchanges.http import Call, ExchangeServer, Reply
from reconciler.sandbox.exchanges.server import (
    DIALECTS,
    EXPIRED,
    GOOD,
    TRADE,
    UNBOUND,
    WITHDRAWS,
    ExchangeStandIn,
    Right,
    Traits,
)
from reconciler.sandbox.exchanges.signing import late
from reconciler.sandbox.playground import ROWS
from reconciler.testing import through_ccxt
from tests.exchanges.counting_exchange import held
from tests.support.leaks import Watch

UNKNOWN = {"bybit": "10003", "okx": "50111", "gateio": "INVALID_KEY", "kucoin": "400003"}
SIGNATURE = {"bybit": "10004", "okx": "50113", "gateio": "INVALID_SIGNATURE", "kucoin": "400005"}
CLOCK = {"bybit": "10002", "okx": "50102", "gateio": "REQUEST_EXPIRED", "kucoin": "400002"}
PASSPHRASE = {"okx": "50105", "kucoin": "400004"}
ENDED = {"bybit": "33004", "okx": "50119", "gateio": "INVALID_KEY", "kucoin": "400003"}
ELSEWHERE = {"bybit": "10010", "okx": "50110", "gateio": "IP_FORBIDDEN", "kucoin": "400006"}

Key = dict[str, str]


@pytest.fixture(params=DIALECTS)
def code(request: pytest.FixtureRequest) -> str:
    """Each exchange of the sandbox, by JT-Trader's code."""
    return str(request.param)


@pytest.fixture
def exchange(code: str) -> Iterator[ExchangeStandIn]:
    """A stand-in without any key."""
    with ExchangeStandIn(DIALECTS[code]) as exchange:
        yield exchange


@pytest.fixture
def key(code: str, watch: Watch) -> Key:
    """A made-up key, of which no exchange knows yet."""
    return {name: watch.secret() for name in ROWS[code]}


def adapter(code: str) -> Adapter:
    """Return what asks this exchange."""
    found = registry.entry(code).adapter
    assert found is not None
    return found


def ask(code: str, exchange: ExchangeStandIn, key: Key, *, skew_ms: int = 0) -> through_ccxt.Asked:
    """Ask with real ccxt."""
    return through_ccxt.ask(adapter(code), exchange.url, key, skew_ms=skew_ms)


def facts(code: str, exchange: ExchangeStandIn, key: Key) -> KeyFacts:
    """Return what is told of a key that is accepted."""
    asked = ask(code, exchange, key)
    assert asked.facts is not None, asked.status
    return asked.facts


def may(told: KeyFacts) -> frozenset[Cap]:
    """Return everything that a key was granted."""
    return frozenset[Cap]().union(*(grant.caps for grant in told.grants or ()))


def test_a_good_key_is_told_as_its_owner_made_it(
    code: str, exchange: ExchangeStandIn, key: Key, watch: Watch
) -> None:
    exchange.know({name: watch.secret() for name in key}, WITHDRAWS)
    exchange.know(key)

    told = facts(code, exchange, key)

    assert exchange.requests == 1
    assert {Cap.SPOT, Cap.PERPETUAL} <= may(told)
    assert Cap.WITHDRAW not in may(told)
    assert [str(network) for network in told.ip.networks] == ["127.0.0.1/32"]
    assert told.read_only is False
    assert "lacks" not in told.traits
    assert told.same_key is (True if code in {"bybit", "kucoin"} else None)
    assert told.master is (code == "gateio")
    assert told.never_expires is (True if code == "bybit" else None)


def test_every_trait_is_told(code: str, exchange: ExchangeStandIn, key: Key) -> None:
    exchange.know(key, WITHDRAWS)
    told = facts(code, exchange, key)
    assert Cap.WITHDRAW in (told.unproven if code == "gateio" else may(told))

    exchange.change(key["apiKey"], UNBOUND)
    unbound = facts(code, exchange, key)
    assert (unbound.ip.bound, Cap.WITHDRAW in may(unbound)) == (False, False)

    exchange.change(key["apiKey"], Traits(rights=frozenset({Right.SPOT, Right.TRANSFER})))
    granted = may(facts(code, exchange, key))
    assert {Cap.SPOT, Cap.TRANSFER} <= granted
    assert (Cap.PERPETUAL in granted) is (code == "okx"), "coarse there"

    exchange.change(key["apiKey"], Traits(read_only=True))
    assert facts(code, exchange, key).read_only is True

    exchange.change(key["apiKey"], Traits(addresses=("127.0.0.0/8", "203.0.113.10")))
    bound = facts(code, exchange, key).ip
    assert {str(one) for one in bound.networks} == {"127.0.0.0/8", "203.0.113.10/32"}
    assert exchange.requests == 5


def test_an_end_is_shown_where_the_exchange_shows_it(
    code: str, exchange: ExchangeStandIn, key: Key
) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    exchange.know(key, Traits(expires=end))

    assert facts(code, exchange, key).expires_at == (end if code == "bybit" else None)

    exchange.change(key["apiKey"], UNBOUND)
    unbound = facts(code, exchange, key)
    if code == "bybit":
        assert unbound.expires_at is not None
        assert timedelta(days=89) < unbound.expires_at - datetime.now(UTC) <= timedelta(days=90)


@pytest.mark.parametrize("wrong", ["nobody", "apiKey", "secret", "password", "clock"])
def test_a_bad_call_gets_the_exchanges_own_error(
    code: str, exchange: ExchangeStandIn, key: Key, watch: Watch, wrong: str
) -> None:
    if wrong == "password" and code not in PASSPHRASE:
        pytest.skip("it has no passphrase")
    if wrong != "nobody":
        exchange.know(key)
    others = {wrong: watch.secret()}
    ours, skew_ms = (key, 0) if wrong == "nobody" else through_ccxt.swapped(key, others, wrong)
    codes = {"secret": SIGNATURE, "password": PASSPHRASE, "clock": CLOCK}.get(wrong, UNKNOWN)

    asked = ask(code, exchange, ours, skew_ms=skew_ms)

    assert (asked.status, asked.code) == (through_ccxt.expected(wrong), codes[code])
    assert exchange.requests == 1


def test_what_has_ended_or_comes_from_elsewhere_is_refused(
    code: str, exchange: ExchangeStandIn, key: Key
) -> None:
    exchange.know(key, EXPIRED)
    ended = ask(code, exchange, key)
    exchange.change(key["apiKey"], Traits(addresses=("203.0.113.10",)))
    elsewhere = ask(code, exchange, key)

    assert (ended.status, ended.code) == (Status.REJECTED, ENDED[code])
    assert (elsewhere.status, elsewhere.code) == (Status.IP_REFUSED, ELSEWHERE[code])


def test_a_key_that_expired_is_not_in_the_list_of_its_account(watch: Watch) -> None:
    """Gate shows all keys of an account to each of them."""
    old, other, ours = ({name: watch.secret() for name in ROWS["gateio"]} for _ in range(3))
    with ExchangeStandIn(DIALECTS["gateio"]) as exchange:
        exchange.know(old, EXPIRED)
        exchange.know(other, UNBOUND)
        exchange.know(ours)
        with opened(
            "gate", held(ours), environment=Environment.LIVE, timeout=5, base=exchange.url
        ) as asked:
            listed = asked.privateAccountGetMainKeys()

    shown = [row["key"].rstrip("*") for row in listed]
    assert [other["apiKey"][: len(shown[0])], ours["apiKey"][: len(shown[1])]] == shown


def test_nothing_secret_shows_itself(key: Key, watch: Watch, exchange: ExchangeStandIn) -> None:
    exchange.know(key)
    call = Call("GET", "/", f"signature={key['secret']}", {"key": key["apiKey"]}, b"")

    shown = f"{exchange!r} {exchange._keys[key['apiKey']]!r} {call!r} {Reply(dict(key))!r}"

    assert "Traits(" in shown, "positive control: it was shown"
    assert not any(value in shown for value in key.values())
    watch.search("representations", shown)


@pytest.mark.parametrize("headers", [{}, {"strange": "1"}, {"timestamp": "²"}])
def test_a_call_of_nobody_is_refused_and_the_exchange_lives_on(
    code: str, exchange: ExchangeStandIn, key: Key, headers: Key
) -> None:
    exchange.know(key)
    blank = {exchange.dialect.header: "", **headers}
    for path in (exchange.dialect.path, "/", "/%00?x=%ff"):
        request = urllib.request.Request(exchange.url + path, headers=blank)
        try:
            with _direct().open(request, timeout=5) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            body = json.load(error)
            error.close()
        assert UNKNOWN[code] in {str(value) for value in body.values()}

    assert facts(code, exchange, key).grants


def _direct() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.mark.parametrize(
    ("sent", "is_late"), [("", True), ("-1", True), ("²", True), ("9" * 400, True), ("1e3", True)]
)
def test_what_is_no_instant_is_late(sent: str, is_late: bool) -> None:  # noqa: FBT001  - a row
    assert late(sent) is is_late
    assert late(str(int(time.time() * 1000))) is False, "positive control"


def test_callers_that_go_away_are_not_talked_about(capfd: pytest.CaptureFixture[str]) -> None:
    asked, gone = threading.Event(), threading.Event()

    def answer(call: Call) -> Reply:
        asked.set()
        assert gone.wait(5)
        return Reply({"path": call.path * 1_000_000})

    with ExchangeServer(answer) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection((http.LOOPBACK, port)) as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert asked.wait(5)
        gone.set()

    assert capfd.readouterr() == ("", "")


def test_traits_in_words() -> None:
    assert GOOD.rights == TRADE
    assert GOOD.admits("127.0.0.1")
    assert not GOOD.admits("127.0.0.2")
    assert UNBOUND.admits("203.0.113.10")
