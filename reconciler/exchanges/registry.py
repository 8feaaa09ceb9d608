"""
Which exchange of ccxt stands behind a code of JT-Trader, who asks it, and what a key consists of.

Credentials that ccxt requires come from `catalogue.json`, generated from an installed ccxt: to look
there needs no import of it.  The server's own list of fields wins wherever the two differ, because
its ccxt is another one.  An exchange that is not in the catalogue is worth a warning, never an
error: ccxt drops and renames ids (`gateio` was one until 4.5.60).
"""

import functools
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.adapters import (
    binance,
    bitfinex,
    bitget,
    bybit,
    coinbase,
    deribit,
    gateio,
    htx,
    hyperliquid,
    kraken,
    kucoin,
    okx,
    signed_read,
)
from reconciler.model.key_facts import Environment

FILE: Final = "catalogue.json"

# JT-Trader's own words, and ids that ccxt had under another name.
_RENAMED: Final[Mapping[str, str]] = {
    "gateio": "gate",
    "huobi": "htx",
    "coinbaseadvanced": "coinbase",
}
_TEST: Final = "-testnet"
_WITHOUT_KEYS: Final = frozenset({"gateio-mock"})
"""Exchanges of JT-Trader that have no credentials: there is nothing to audit."""

_ADAPTERS: Final[Mapping[str, Adapter]] = {
    adapter.ccxt_id: adapter
    for adapter in (
        binance.ADAPTER,
        binance.COINM,
        binance.USDM,
        bitfinex.ADAPTER,
        bitget.ADAPTER,
        bybit.ADAPTER,
        bybit.Bybit("bybiteu"),
        bybit.Bybit("bybitid"),
        coinbase.ADAPTER,
        deribit.ADAPTER,
        gateio.ADAPTER,
        gateio.Gate("gateeu"),
        htx.ADAPTER,
        hyperliquid.ADAPTER,
        kraken.ADAPTER,
        kucoin.ADAPTER,
        kucoin.FUTURES,
        okx.ADAPTER,
        okx.Okx("myokx"),
        okx.Okx("okxus"),
    )
}


@dataclass(frozen=True, slots=True)
class Entry:
    """
    What is known of one code of JT-Trader.

    `adapter` None: there is nothing to ask that would prove a key.  `required` are ccxt's names,
    None where *ccxt_id* is not in the catalogue.  `test_network` says whether ccxt knows the
    address of one.
    """

    code: str
    ccxt_id: str
    environment: Environment
    adapter: Adapter | None
    required: tuple[str, ...] | None
    test_network: bool = False

    @property
    def known(self) -> bool:
        """Whether the ccxt of the catalogue has this exchange."""
        return self.required is not None

    @property
    def family(self) -> str:
        """The exchange itself: several ids of ccxt are one, and one module speaks to it."""
        if self.adapter is None or isinstance(self.adapter, signed_read.SignedRead):
            return self.ccxt_id  # that module speaks to many
        return type(self.adapter).__module__


def entry(code: str) -> Entry:
    """Return what is known of a code of JT-Trader; any code has an entry."""
    name = code.removesuffix(_TEST)
    environment = Environment.LIVE if name == code else Environment.TEST
    ccxt_id = _RENAMED.get(name, name)
    row = stored()["exchanges"].get(ccxt_id)
    required = None if row is None else tuple(row["required"])
    return Entry(
        code=code,
        ccxt_id=ccxt_id,
        environment=environment,
        adapter=_ADAPTERS.get(ccxt_id) or signed_read.reader(ccxt_id, required or ()),
        required=required,
        test_network=row is not None and row["test"],
    )


def has_keys(code: str) -> bool:
    """Say whether there are credentials to audit behind a code at all."""
    return code not in _WITHOUT_KEYS


def adapters() -> tuple[Adapter, ...]:
    """Return every adapter that knows its exchange's keys, in the order of their ids."""
    return tuple(_ADAPTERS[ccxt_id] for ccxt_id in sorted(_ADAPTERS))


@functools.cache
def stored() -> Mapping[str, Any]:
    """Return the catalogue of this release: ccxt's version, and a row for each of its ids."""
    text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    catalogue: Mapping[str, Any] = json.loads(text)
    return catalogue


def generate() -> Mapping[str, Any]:
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
