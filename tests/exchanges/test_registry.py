"""
The catalogue is that of the installed ccxt, and every code of JT-Trader has its entry.

`pytest tests/exchanges/test_registry.py --rewrite-golden` writes the file anew.
"""

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import ccxt
import pytest

import reconciler
from reconciler.exchanges import adapters, registry
from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.registry import Entry, discovered, entry, has_keys, stored
from reconciler.model.key_facts import Environment, Status

FILE = Path(registry.__file__).with_name(registry.FILE)
KEY_AND_SECRET = ("apiKey", "secret")
# The server's own names of credentials, for ccxt's; see the driver.
CREDENTIALS = {
    *("apiKey", "secret", "password", "uid", "login", "accountId"),
    *("privateKey", "walletAddress"),
}


@cache
def generated() -> Mapping[str, Any]:
    """
    Return the catalogue of the installed ccxt.  Imports all of it: 110 MB.

    From `ccxt.pro`, as JT-Trader uses it (it demands more of bitopro and woo), from the plain
    classes for what has no streaming one.
    """
    plain = importlib.import_module("ccxt")
    streaming = importlib.import_module("ccxt.pro")
    rows = {}
    for ccxt_id in sorted(plain.exchanges):
        module = streaming if ccxt_id in streaming.exchanges else plain
        exchange = getattr(module, ccxt_id)()
        needed = (name for name, is_needed in exchange.requiredCredentials.items() if is_needed)
        rows[ccxt_id] = {"required": list(needed), "test": bool(exchange.urls.get("test"))}
    return {"ccxt": plain.__version__, "exchanges": rows}


def written(catalogue: Mapping[str, Any]) -> str:
    """Return the text of the file: an exchange a line, so that a change of one is one line."""
    lines = (
        f"    {json.dumps(ccxt_id)}: {json.dumps(row)}"
        for ccxt_id, row in catalogue["exchanges"].items()
    )
    body = ",\n".join(lines)
    return f'{{\n  "ccxt": {json.dumps(catalogue["ccxt"])},\n  "exchanges": {{\n{body}\n  }}\n}}\n'


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Say in words what is different in another version of ccxt."""
    old, new = before["exchanges"], after["exchanges"]
    for ccxt_id in sorted(old.keys() | new.keys()):
        if ccxt_id not in new:
            yield f"{ccxt_id}: gone"
        elif ccxt_id not in old:
            yield f"{ccxt_id}: new, requires {', '.join(new[ccxt_id]['required'])}"
        else:
            for what in ("required", "test"):
                was, now = old[ccxt_id][what], new[ccxt_id][what]
                if was != now:
                    yield f"{ccxt_id}: {what} was {was}, is {now}"


def test_the_catalogue_is_that_of_the_installed_ccxt(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rewrite-golden"):
        FILE.write_text(written(generated()), encoding="utf-8")
        stored.cache_clear()

    lines = list(moved(stored(), generated()))

    was, now = stored()["ccxt"], generated()["ccxt"]
    assert not lines, "\n".join([f"from ccxt {was} to {now}, rewrite the catalogue:", *lines])
    assert was == now, f"nothing moved from ccxt {was} to {now}; rewrite the catalogue"


def test_what_moved_is_said() -> None:
    def row(*required: str, test: bool = False) -> dict[str, Any]:
        return {"required": list(required), "test": test}

    before = {"ccxt": "1", "exchanges": {"a": row("apiKey"), "b": row("apiKey"), "c": row("uid")}}
    after = {
        "ccxt": "2",
        "exchanges": {"b": row("secret"), "c": row("uid", test=True), "d": row("x")},
    }

    assert list(moved(before, after)) == [
        "a: gone",
        "b: required was ['apiKey'], is ['secret']",
        "c: test was False, is True",
        "d: new, requires x",
    ]


def test_the_file_is_as_it_would_be_written() -> None:
    assert FILE.read_text(encoding="utf-8") == written(stored())


def test_it_requires_what_ccxts_streaming_classes_require() -> None:
    required = {ccxt_id: row["required"] for ccxt_id, row in stored()["exchanges"].items()}

    assert "login" in required["bitopro"]  # the plain class does without
    assert "uid" in required["woo"]  # and here
    assert {name for names in required.values() for name in names} <= CREDENTIALS


ENTRIES = [
    ("gateio", "gate", Environment.LIVE, "gate", KEY_AND_SECRET),
    ("gate", "gate", Environment.LIVE, "gate", KEY_AND_SECRET),
    ("gateio-testnet", "gate", Environment.TEST, "gate", KEY_AND_SECRET),
    ("huobi", "htx", Environment.LIVE, "htx", KEY_AND_SECRET),
    ("coinbase", "coinbase", Environment.LIVE, "coinbase", KEY_AND_SECRET),
    ("coinbaseadvanced", "coinbase", Environment.LIVE, "coinbase", KEY_AND_SECRET),
    ("kraken", "kraken", Environment.LIVE, "kraken", KEY_AND_SECRET),
    ("bitfinex", "bitfinex", Environment.LIVE, "bitfinex", KEY_AND_SECRET),
    ("deribit-testnet", "deribit", Environment.TEST, "deribit", KEY_AND_SECRET),
    (
        "hyperliquid",
        "hyperliquid",
        Environment.LIVE,
        "hyperliquid",
        ("privateKey", "walletAddress"),
    ),
    ("bybit", "bybit", Environment.LIVE, "bybit", KEY_AND_SECRET),
    ("bybit-testnet", "bybit", Environment.TEST, "bybit", KEY_AND_SECRET),
    ("bybiteu", "bybiteu", Environment.LIVE, "bybiteu", KEY_AND_SECRET),
    ("okx", "okx", Environment.LIVE, "okx", (*KEY_AND_SECRET, "password")),
    ("okxus", "okxus", Environment.LIVE, "okxus", (*KEY_AND_SECRET, "password")),
    ("kucoin", "kucoin", Environment.LIVE, "kucoin", (*KEY_AND_SECRET, "password")),
    ("kucoinfutures", "kucoinfutures", Environment.LIVE, "kucoinfutures", None),
    ("binance", "binance", Environment.LIVE, "binance", KEY_AND_SECRET),
    ("binanceusdm", "binanceusdm", Environment.LIVE, "binanceusdm", KEY_AND_SECRET),
    ("binancecoinm", "binancecoinm", Environment.LIVE, "binancecoinm", KEY_AND_SECRET),
    ("bitget", "bitget", Environment.LIVE, "bitget", (*KEY_AND_SECRET, "password")),
    ("mexc", "mexc", Environment.LIVE, "mexc", KEY_AND_SECRET),
    ("bitstamp", "bitstamp", Environment.LIVE, "bitstamp", KEY_AND_SECRET),
    ("dydx", "dydx", Environment.LIVE, None, ()),
    ("bullish", "bullish", Environment.LIVE, None, KEY_AND_SECRET),
]


@pytest.mark.parametrize(("code", "ccxt_id", "environment", "adapter", "required"), ENTRIES)
def test_a_code_of_jt_trader_has_its_entry(
    code: str,
    ccxt_id: str,
    environment: Environment,
    adapter: str | None,
    required: tuple[str, ...] | None,
) -> None:
    found = entry(code)

    assert (found.code, found.ccxt_id, found.environment) == (code, ccxt_id, environment)
    assert found.known
    assert (found.adapter.ccxt_id if found.adapter else None) == adapter
    if required is not None:
        assert found.required == required


@pytest.mark.parametrize("code", ["bitmex", "ascendex", "zonda", "never-heard-of", ""])
def test_an_exchange_that_ccxt_has_not_is_an_entry_too(code: str) -> None:
    found = entry(code)

    assert found == Entry(code, code, Environment.LIVE, None, None)
    assert not found.known


def test_whether_there_is_a_test_network_is_known() -> None:
    assert entry("bybit-testnet").test_network
    assert not entry("kucoin").test_network


def test_exchanges_that_only_tell_valid_from_invalid_are_not_one_exchange() -> None:
    assert entry("mexc").family != entry("phemex").family
    assert entry("kucoin").family == entry("kucoinfutures").family
    assert entry("kraken").family != entry("krakenfutures").family
    assert entry("dydx").family == "dydx"


def test_a_mock_has_no_keys() -> None:
    assert not has_keys("gateio-mock")
    assert has_keys("gateio")


FILES = [
    importlib.import_module(f"{adapters.__name__}.{file.name}")
    for file in pkgutil.iter_modules(adapters.__path__)
]
PACKAGE = Path(reconciler.__file__).parent
# A stand-in is one of these exchanges; the driver without a server has their fields.
STAND_INS = {path for room in ("sandbox", "testing") for path in (PACKAGE / room).rglob("*.py")}


def test_no_two_files_speak_for_one_exchange() -> None:
    assert sum(len(file.ADAPTERS) for file in FILES) == len(discovered())


def test_only_its_own_file_names_an_exchange() -> None:
    owner = {
        name: str(file.__file__)
        for file in FILES
        for one in file.ADAPTERS
        for name in (one.ccxt_id, *one.also_called, *one.without_keys)
    }
    named = {
        (node.value, str(path.relative_to(PACKAGE)))
        for path in {*PACKAGE.rglob("*.py")} - STAND_INS
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and owner.get(str(node.value), str(path)) != str(path)
    }

    assert named == set()
    assert owner["gateio"].endswith("adapters/gateio.py"), "positive control"


READS_BY_POST = {
    *("privatePostGetApiKeyInfo", "privatePostAuthRPermissions", "publicPostInfo"),
    "v1PrivatePostPrivateUserBalance",
}
ANSWERS: Mapping[str, Any] = {"htx": {"code": 200, "data": 17}, "hyperliquid": {"role": "agent"}}
VERB = re.compile(r"(Get|Post|Put|Delete|Patch)[A-Z]")


class Spy:
    """Stands for an exchange of ccxt, answers always the same and notes what it is asked."""

    def __init__(self, ccxt_id: str) -> None:
        self.asked: list[str] = []
        made_up = dict.fromkeys(("apiKey", "secret", "password"), "bWFkZSB1cA==")
        wallet = {"privateKey": f"0x{17:064x}", "walletAddress": f"0x{17:040x}"}
        self.real = getattr(ccxt, ccxt_id)({**made_up, **wallet})

    def request(self, path: str, api: list[str], method: str, params: Any) -> Any:
        """An address that ccxt does not know; it must sign it."""
        assert self.real.sign(path, api, method, params)["headers"]
        self.asked.append(f"{api[0]}{method.title()}Check")
        return []

    def __getattr__(self, name: str) -> Any:
        if not VERB.search(name):
            return getattr(self.real, name)
        self.asked.append(name)
        return lambda *_: ANSWERS.get(self.real.id, [])


@pytest.mark.parametrize("adapter", discovered().values(), ids=lambda adapter: adapter.ccxt_id)
def test_every_adapter_is_one_of_an_exchange_and_its_methods_exist(adapter: Adapter) -> None:
    assert adapter.ccxt_id in ccxt.exchanges
    assert entry(adapter.ccxt_id).adapter is adapter
    assert adapter.version >= 1
    assert set(adapter.needs) == set(entry(adapter.ccxt_id).required or ())
    assert adapter.of_a_sibling <= {*adapter.codes}
    assert {entry(code).family for code in adapter.siblings} <= {entry(adapter.ccxt_id).family}
    assert adapter.codes
    assert Status.VALID not in adapter.codes.values()
    for environment in Environment:
        spy = Spy(adapter.ccxt_id)
        adapter.fetch(spy, environment)
        assert spy.asked
        for name in spy.asked:
            assert callable(getattr(spy.real, name, None)) or name == "authGetCheck", name
            assert VERB.findall(name)[:1] == ["Get"] or name in READS_BY_POST
