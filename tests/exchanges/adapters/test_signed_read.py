"""
Exchanges that only tell valid from invalid: which way each id of ccxt is asked, that real ccxt
signs what proves a key, and that nothing else ever does.
"""

import asyncio
import base64
import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ccxt
import pytest
from hypothesis import given, settings
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from reconciler.exchanges.adapters.signed_read import SignedRead, reader
from reconciler.exchanges.auditor import Auditor, KeyToAsk
from reconciler.exchanges.ccxt_client import opened
from reconciler.exchanges.parse import NotUnderstood
from reconciler.exchanges.registry import discovered, entry
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.key_audits import KeyId, Light, light
from reconciler.model.key_facts import TRANSIENT, Environment, KeyFacts, Status
from reconciler.model.key_policy import NOTHING_DECLARED
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.system.timeouts import Timeouts
from reconciler.testing import through_ccxt
from reconciler.testing.documented_answers import check, mangled, refuse, survives
from reconciler.testing.exchange_server import Call, HangUp, Reply, SigningServer, serving
from tests.exchanges import signing_second
from tests.exchanges.adapters import test_mexc
from tests.support.leaks import Watch

_BALANCE = """
    alpaca apex backpack bequant bigone binanceus bit2c bitbank bitbns bitflyer bithumb bitopro
    bitrue bitso bitstamp bitteam bittrade bitvavo blofin btcbox btcmarkets btcturk btse bydfi cex
    coinbaseexchange coincheck coinmate coinone coinsph coinspot deepcoin delta digifinex fmfwio
    foxbit gemini hashkey hitbtc hollaex independentreserve indodax latoken lbank luno
    mercado modetrade p2b paymium poloniex tokocrypto toobit upbit weex whitebit woo woofipro xt
    zaif zebpay
"""
_NO_KEY = """
    aster blockchaincom cryptomus derive dydx extended grvt hibachi lighter mudrex nado onetrading
    pacifica paradex polymarket revolutx
"""
_FULL = """
    binance binancecoinm binanceusdm bitfinex bitget bybit bybiteu bybitid coinbase deribit gate
    gateeu htx hyperliquid kraken kucoin kucoinfutures myokx okx okxus
"""
BALANCE = _BALANCE.split()
KNOWN = ("mexc", "bingx", "cryptocom", "phemex", "krakenfutures")
WAYS = {
    **dict.fromkeys(_FULL.split(), "a full adapter"),
    **dict.fromkeys(KNOWN, "one known request"),
    **dict.fromkeys(BALANCE, "its balance"),
    **dict.fromkeys(_NO_KEY.split(), "signed with no API key and secret"),
    **dict.fromkeys(("bullish", "coinbaseinternational", "ndax"), "opens a session first"),
}


def way(ccxt_id: str) -> str:
    """Say how a key of this exchange is asked about, or why it is not."""
    found = entry(ccxt_id)
    if isinstance(found.adapter, SignedRead):
        return "its balance" if found.adapter.disturbs_trading else "one known request"
    if found.adapter is not None:
        return "a full adapter"
    if not {"apiKey", "secret"} <= set(found.required or ()):
        return "signed with no API key and secret"
    return "opens a session first"


def moved() -> Iterator[str]:
    """Say in words which exchanges are asked in another way than written here."""
    for ccxt_id in sorted({*ccxt.exchanges, *WAYS}):
        was, now = WAYS.get(ccxt_id, "not in ccxt"), "not in ccxt"
        if ccxt_id in ccxt.exchanges:
            now = way(ccxt_id)
        if was != now:
            yield f"{ccxt_id}: was {was}, is {now}"


def test_every_exchange_of_ccxt_is_asked_in_the_written_way_or_not_for_the_written_reason() -> None:
    lines = list(moved())

    assert not lines, "\n".join([f"with ccxt {ccxt.__version__}:", *lines])
    assert len(WAYS) == len(ccxt.exchanges)


def test_whoever_is_asked_for_its_balance_has_one() -> None:
    assert all(getattr(ccxt, ccxt_id)().has["fetchBalance"] for ccxt_id in BALANCE)


def test_a_wallet_is_not_asked_even_with_a_key_beside_it() -> None:
    assert reader("novel", ["apiKey", "secret"]) == SignedRead("novel")
    assert reader("novel", ["apiKey", "secret", "walletAddress"]) is None
    assert reader("novel", ["apiKey", "secret", "privateKey"]) is None
    assert reader("novel", ["apiKey"]) is None
    assert reader("novel", []) is None


def test_only_where_the_nonce_is_known_to_do_no_harm_nobody_is_disturbed() -> None:
    assert not any(discovered()[ccxt_id].disturbs_trading for ccxt_id in KNOWN)
    assert all(SignedRead(ccxt_id).disturbs_trading for ccxt_id in BALANCE)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key; one secret is base64, as Kraken's are."""
    return {"apiKey": watch.secret("hex"), "secret": made_up(watch)}


def made_up(watch: Watch) -> str:
    """Return another secret."""
    return watch.guard(base64.b64encode(secrets.token_bytes(32)).decode())


@settings(deadline=None, max_examples=50)
@given(mangled({"code": 0, "msg": "", "data": {"balances": []}}))
def test_no_answer_at_all_does_harm(answer: Any) -> None:
    survives(SignedRead("hitbtc"), answer)


# ── its balance ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "answer",
    [
        *([], {}, None, "", "<html>hostile</html>", 17, True),
        *({"code": 4711}, {"code": "E-17"}, {"success": False}, {"success": "0"}),
        *({"error": "hostile"}, {"error": {"code": 17}}, {"errors": ["hostile"]}),
        {"status": "error"},
    ],
)
def test_what_says_that_something_is_wrong_proves_nothing(answer: Any) -> None:
    refuse(SignedRead("hitbtc"), [answer])


@pytest.mark.parametrize(
    "answer",
    [
        *([{"currency": "BTC"}], {"BTC": "0"}, {"code": 0, "data": []}, {"code": "00000"}),
        *({"code": "200"}, {"success": 1}, {"success": True, "error": None}, {"errors": []}),
        {"status": "ok"},
    ],
)
def test_any_other_answer_to_a_signed_request_says_that_the_key_is_valid(answer: Any) -> None:
    check(SignedRead("hitbtc"), answer, KeyFacts())


@pytest.mark.parametrize("answers", [[], [{"a": 1}, {"a": 1}]])
def test_without_a_signed_request_nothing_is_proven(answers: list[Any]) -> None:
    with pytest.raises(NotUnderstood):
        SignedRead("hitbtc").parse(answers, {}, Environment.LIVE)


class Abroad(HTTPAdapter):
    """Notes requests that do not go to the stand-in, and does not send them."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        del args, kwargs
        self.urls.append((request.url or "").partition("?")[0])
        raise ConnectionError


MARKETS = {"/v2/currencies", "/markets"}
"""Of Poloniex, which asks for them each time."""


class Anyone(SigningServer):
    """Answers whatever it is asked with one answer, and knows no markets."""

    def __init__(self, answer: Any) -> None:
        super().__init__(signing_second.anybody, {})
        self.answer = answer

    def reply(self, call: Call) -> Reply:
        self.calls.append(call)
        return Reply([] if call.path in MARKETS else self.answer)


# What ccxt can read of a secret, where that is not base64.
SHAPES = {"lbank": "hex", "modetrade": "base58", "woofipro": "base58"}
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data: bytes) -> str:
    """Return *data*, which must not begin with a zero, as Solana's people write it."""
    number, text = int.from_bytes(b"\1" + data[1:]), ""
    while number:
        number, digit = divmod(number, len(BASE58))
        text = BASE58[digit] + text
    return text


def credentials_of(ccxt_id: str, watch: Watch) -> dict[str, str]:
    """Return a made-up key of this exchange."""
    found = {name: watch.secret("hex") for name in entry(ccxt_id).required or ()}
    match SHAPES.get(ccxt_id):
        case "hex":
            found["secret"] = watch.guard(secrets.token_hex(16))
        case "base58":
            found["secret"] = watch.guard(base58(secrets.token_bytes(32)))
        case _ if "secret" in found:
            found["secret"] = made_up(watch)
    if ccxt_id == "gemini":
        found["apiKey"] = watch.guard(f"account-{found['apiKey']}")
    for name in {"privateKey", "walletAddress"} & set(found):
        length = 32 if name == "privateKey" else 20
        found[name] = watch.guard(f"0x{secrets.token_hex(length)}")
    return found


def balance(ccxt_id: str, ours: Mapping[str, str], answer: Any) -> tuple[Any, list[Call]]:
    """
    Ask for a balance without markets, and return what it came to and the calls.

    What there is to trade is of no interest here, and each exchange tells it in another shape.
    """
    abroad = Abroad()
    held = {name: Secret(value) for name, value in ours.items()}
    with (
        Anyone(answer) as server,
        opened(
            ccxt_id, held, environment=Environment.LIVE, timeout=60, base=server.url
        ) as exchange,
    ):
        exchange.session.mount("https://", abroad)
        exchange.enableRateLimit = False
        exchange.set_markets([])
        try:
            told: Any = SignedRead(ccxt_id).fetch(exchange, Environment.LIVE)
        except Exception as wrong:  # noqa: BLE001  - ccxt raises anything
            told = wrong
    assert not abroad.urls
    return told, server.calls


@pytest.mark.parametrize("ccxt_id", BALANCE)
def test_what_proves_a_key_was_sent_with_it(ccxt_id: str, watch: Watch) -> None:
    ours = credentials_of(ccxt_id, watch)

    good = "200" if ccxt_id == "poloniex" else "0"
    told, calls = balance(ccxt_id, ours, {"data": [], "result": {}, "code": good, "success": 1})

    proven = [call for call in calls if signing_second.carries(call, ours["apiKey"])]
    assert proven, told
    for call in proven:
        assert all(value not in call.target for name, value in ours.items() if name == "secret")


@pytest.mark.parametrize("ccxt_id", ["dydx", "hyperliquid", "nado", "polymarket"])
def test_the_balance_of_a_wallet_proves_nothing(ccxt_id: str, watch: Watch) -> None:
    told, _ = balance(ccxt_id, credentials_of(ccxt_id, watch), {"data": []})

    assert told == () or isinstance(told, Exception)


@pytest.mark.parametrize("ccxt_id", sorted({*BALANCE} - {"alpaca"}))
def test_what_there_is_to_trade_is_asked_without_the_key(ccxt_id: str, watch: Watch) -> None:
    """Of all others: Alpaca tells it to its users only, Gate asks for the user's fees as well."""
    ours = credentials_of(ccxt_id, watch)
    held = {name: Secret(value) for name, value in ours.items()}
    with (
        Anyone({"note": "words"}) as server,
        opened(
            ccxt_id, held, environment=Environment.LIVE, timeout=60, base=server.url
        ) as exchange,
    ):
        exchange.enableRateLimit = False
        # What is asked for is the markets, so that an answer must prove nothing.
        exchange.fetch_balance = exchange.fetch_markets
        told: Any = ()
        with contextlib.suppress(Exception):  # ccxt raises anything for an answer like this
            told = SignedRead(ccxt_id).fetch(exchange, Environment.LIVE)
    assert told == ()
    assert not any(signing_second.carries(call, ours["apiKey"]) for call in server.calls)


# ── the whole way, with markets ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ccxt_id", ["apex", "bitstamp", "btcturk", "cex", "hitbtc", "luno", "p2b"])
def test_a_key_is_valid_after_a_signed_request(ccxt_id: str, watch: Watch) -> None:
    ours = credentials_of(ccxt_id, watch)
    with Anyone({"note": "words"}) as server:
        asked = through_ccxt.ask(SignedRead(ccxt_id), server.url, ours)

    assert (asked.status, asked.facts) == (Status.VALID, KeyFacts())
    assert signing_second.carries(server.calls[-1], ours["apiKey"])
    assert all(call.method in {"GET", "POST"} for call in server.calls)


SAID = {
    "Invalid signature": Status.REJECTED,
    "API key not found": Status.REJECTED,
    "No permission found": Status.DENIED,
    "Invalid nonce": Status.CLOCK,
    "novel words": Status.INDETERMINATE,
}


def bitstamp(words: str) -> Reply:
    """Return an error in Bitstamp's shape."""
    return Reply({"status": "error", "reason": words, "code": "API0017"}, 403)


@pytest.mark.parametrize(("words", "status"), SAID.items())
def test_what_is_said_to_a_signed_request_counts(
    credentials: dict[str, str], words: str, status: Status
) -> None:
    with serving(signing_second.anybody, credentials, {}) as server:
        server.script += [Reply([]), bitstamp(words)]
        asked = through_ccxt.ask(SignedRead("bitstamp"), server.url, credentials)

    assert asked.status is status
    signed = [signing_second.carries(call, credentials["apiKey"]) for call in server.calls]
    assert signed == [False, True]


@pytest.mark.parametrize("words", SAID)
def test_what_is_said_to_any_other_is_no_verdict(credentials: dict[str, str], words: str) -> None:
    with serving(signing_second.anybody, credentials, {}) as server:
        server.script.append(bitstamp(words))
        asked = through_ccxt.ask(SignedRead("bitstamp"), server.url, credentials)

    assert asked.status in TRANSIENT
    assert len(server.calls) == 1


def test_a_public_answer_after_a_refusal_proves_nothing(credentials: dict[str, str]) -> None:
    held = {name: Secret(value) for name, value in credentials.items()}
    with (
        serving(signing_second.anybody, credentials, {}) as server,
        opened(
            "hitbtc", held, environment=Environment.LIVE, timeout=60, base=server.url
        ) as exchange,
    ):

        def stubborn() -> None:
            with contextlib.suppress(ccxt.ExchangeError):
                exchange.privateGetSpotBalance()
            exchange.publicGetPublicCurrency()

        exchange.fetch_balance = stubborn
        server.script += [Reply({"error": {"code": 1002}}, 401), Reply({"BTC": {}})]
        told = SignedRead("hitbtc").fetch(exchange, Environment.LIVE)

    assert told == ()
    assert [path.rpartition("/")[2] for path in server.paths()] == ["balance", "currency"]


def test_what_ccxt_cannot_send_is_no_verdict(credentials: dict[str, str]) -> None:
    with serving(signing_second.anybody, credentials, {}) as server:
        server.script += [Reply({"result": "ok"}), Reply([])]
        asked = through_ccxt.ask(SignedRead("gemini"), server.url, credentials)

    assert asked == through_ccxt.Asked(Status.INDETERMINATE)


def test_a_balance_that_ccxt_does_not_understand_proves_a_key_all_the_same(
    credentials: dict[str, str],
) -> None:
    with serving(signing_second.anybody, credentials, {}) as server:
        server.script.append(Reply({"status": "ok", "balances": 17}))
        asked = through_ccxt.ask(SignedRead("coinspot"), server.url, credentials)

    assert (asked.status, len(server.calls)) == (Status.VALID, 1)


@pytest.mark.parametrize(("reply", "status"), through_ccxt.TROUBLE)
@pytest.mark.parametrize("earlier", [[], [Reply([])]], ids=["markets", "balance"])
def test_trouble_on_the_way_to_a_balance_is_never_a_wrong_key(
    credentials: dict[str, str], earlier: list[Reply], reply: Any, status: Status
) -> None:
    with serving(signing_second.anybody, credentials, {}) as server:
        server.script += [*earlier, reply, reply]
        timeout = through_ccxt.patience(reply)
        asked = through_ccxt.ask(SignedRead("bitstamp"), server.url, credentials, timeout=timeout)

    assert asked.status is status


# ── many keys ────────────────────────────────────────────────────────────────────────────────


def test_trouble_with_one_of_them_does_not_stop_the_others_and_answers_are_remembered(
    credentials: dict[str, str], tmp_path: Path
) -> None:
    held = {name: Secret(value) for name, value in credentials.items()}
    keys = [
        KeyToAsk(KeyId("tokyo-1", code), held, NOTHING_DECLARED)
        for code in ("phemex", "mexc", "dydx")
    ]
    known = test_mexc.EXCHANGE
    (good,) = known.good
    with (
        serving(signing_second.phemex, credentials, {}) as silent,
        serving(known.check, credentials, good.answers("")) as server,
    ):
        silent.script += [HangUp()] * 4
        auditor = Auditor(
            Fingerprints(Secret("a1" * 32)),
            replace(Timeouts(), audit_request=2.0, audit_total=20.0),
            cache=str(tmp_path / "audit.json"),
            bases={"phemex": silent.url, "mexc": server.url},
        )
        first = asyncio.run(auditor.audit(keys))
        second = asyncio.run(auditor.audit(keys))

    statuses = {key.exchange: answered.status for key, (answered, _) in first.items()}
    assert statuses == {
        "phemex": Status.UNREACHABLE,
        "mexc": Status.VALID,
        "dydx": Status.UNSUPPORTED,
    }
    mexc = KeyId("tokyo-1", "mexc")
    answered, findings = first[mexc]
    assert second[mexc] == (replace(answered, requests=()), findings)
    assert first[mexc][0].facts == KeyFacts()
    assert (len(server.calls), len(silent.calls)) == (1, 4)
    assert all(light(*found) is Light.ATTENTION for found in first.values())
