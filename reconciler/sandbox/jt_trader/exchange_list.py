"""
The exchange list of a stand-in JT-Trader: definitions, masks, and who stands in which list.

Main exchanges are written down as observed.  Additional ones follow the real server's rule:
`<code>_<ccxt credential in snake_case>`, the label is the ccxt name.  Source: the protocol
reference, sections 3.1 and 3.2.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class MainExchange:
    """An exchange that is always listed; *fields* are (name, label)."""

    code: str
    name: str
    fields: tuple[tuple[str, str], ...]
    sandbox: bool = False


MAIN: Final = (
    MainExchange(
        "gateio",
        "Gate.io",
        (
            ("gateio_api_key", "API Key"),
            ("gateio_api_secret", "API Secret"),
            ("gateio_user_id", "User ID"),
        ),
    ),
    MainExchange(
        "bybit",
        "Bybit",
        (("bybit_api_key", "API Key"), ("bybit_api_secret", "API Secret")),
    ),
    MainExchange(
        "okx",
        "OKX",
        (
            ("okx_api_key", "API Key"),
            ("okx_api_secret", "API Secret"),
            ("okx_password", "Password"),
        ),
    ),
    # The code has a hyphen, its fields an underscore: nobody may derive names from codes.
    MainExchange(
        "bybit-testnet",
        "Bybit Testnet",
        (("bybit_testnet_api_key", "API Key"), ("bybit_testnet_api_secret", "API Secret")),
        sandbox=True,
    ),
    MainExchange("gateio-mock", "Gate.io Mock", ()),
)

_KEY_SECRET: Final = ("apiKey", "secret")
_KEY_SECRET_PASSWORD: Final = ("apiKey", "secret", "password")
_KEY_SECRET_UID: Final = ("apiKey", "secret", "uid")
_WALLET: Final = ("privateKey", "walletAddress")

ADDITIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            *("ascendex", "binance", "binancecoinm", "binanceus", "binanceusdm", "bingx"),
            *("bitfinex", "bitstamp", "cryptocom", "deribit", "gate", "gemini", "hitbtc"),
            *("htx", "kraken", "krakenfutures", "mexc", "phemex", "poloniex", "upbit"),
            *("whitebit", "xt"),
        ),
        _KEY_SECRET,
    ),
    **dict.fromkeys(
        (
            *("apex", "bitget", "blofin", "coinbaseexchange", "coinbaseinternational"),
            *("coincatch", "kucoin", "kucoinfutures", "myokx", "okcoin", "okxus"),
        ),
        _KEY_SECRET_PASSWORD,
    ),
    **dict.fromkeys(("bitmart", "woo"), _KEY_SECRET_UID),
    **dict.fromkeys(("derive", "hyperliquid", "paradex"), _WALLET),
    **dict.fromkeys(("modetrade", "woofipro"), ("apiKey", "secret", "accountId")),
    "bitopro": ("apiKey", "secret", "login"),
    "blockchaincom": ("secret",),
    "ndax": ("apiKey", "secret", "uid", "login", "password"),
    "onetrading": ("apiKey",),
}
"""ccxt credentials by code, in the order in which the server lists the fields."""

BULLETS: Final = "•••••"
_UNITS: Final = 6  # bytes of three UTF-16 code units


def mask(value: str) -> str:
    """
    Show the first and the last three UTF-16 code units, whatever the length.

    Cutting through an astral character leaves lone surrogates, as the real server does.
    """
    if not value:
        return ""
    units = value.encode("utf-16-le", "surrogatepass")
    return (
        units[:_UNITS].decode("utf-16-le", "surrogatepass")
        + BULLETS
        + units[-_UNITS:].decode("utf-16-le", "surrogatepass")
    )


def field_name(code: str, credential: str) -> str:
    """Return the row name of an additional exchange's credential: kucoin + apiKey."""
    snake_case = re.sub("([A-Z])", r"_\1", credential).lower()
    return f"{code}_{snake_case}"


def known_additional(codes: Iterable[str]) -> tuple[str, ...]:
    """Order like the server: alphabetical; drop unknown codes and main ones in silence."""
    main = {exchange.code for exchange in MAIN}
    return tuple(sorted(code for code in set(codes) if code in ADDITIONAL and code not in main))


def is_additional(code: str) -> bool:
    """Tell whether *code* is known and not a main exchange."""
    return bool(known_additional([code]))


def field_names(code: str) -> tuple[str, ...]:
    """Return the row names of an exchange, none for an unknown one."""
    for exchange in MAIN:
        if exchange.code == code:
            return tuple(name for name, _ in exchange.fields)
    return tuple(field_name(code, credential) for credential in ADDITIONAL.get(code, ()))


def exchange_list(additional: Sequence[str], values: Mapping[str, str]) -> dict[str, Any]:
    """Return the payload of an `exchange-config-response` for rows with these *values*."""
    main = [_main(exchange, values) for exchange in MAIN]
    listed = [_additional(code, values) for code in known_additional(additional)]
    return {
        "main": main + [exchange for exchange in listed if exchange["added"]],
        "additional": [exchange for exchange in listed if not exchange["added"]],
    }


def _main(exchange: MainExchange, values: Mapping[str, str]) -> dict[str, Any]:
    return {
        "code": exchange.code,
        "name": exchange.name,
        "disabled": False,
        "sandbox": exchange.sandbox,
        "fields": [
            {"name": name, "type": "string", "label": label, "value": mask(values.get(name, ""))}
            for name, label in exchange.fields
        ],
        "connected": all(values.get(name) for name, _ in exchange.fields),
    }


def _additional(code: str, values: Mapping[str, str]) -> dict[str, Any]:
    labels = {field_name(code, credential): credential for credential in ADDITIONAL[code]}
    return {
        "code": code,
        "name": code,
        # A row with an empty value counts as added, yet not as connected.
        "added": all(name in values for name in labels),
        "connected": all(values.get(name) for name in labels),
        "sandbox": False,
        "disabled": False,
        "fields": [
            {"name": name, "label": label, "type": "string", "value": mask(values.get(name, ""))}
            for name, label in labels.items()
        ],
    }
