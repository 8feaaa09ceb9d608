"""
The exchange list of a stand-in JT-Trader: definitions, masks, and who stands in which list.

Main exchanges are written down as observed.  Additional ones follow the real server's rule:
`<code>_<ccxt credential in snake_case>`, the label is the ccxt name.  Source: the protocol
reference, sections 3.1 and 3.2.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

MAIN: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "gateio": (
        "Gate.io",
        {
            "gateio_api_key": "API Key",
            "gateio_api_secret": "API Secret",
            "gateio_user_id": "User ID",
        },
    ),
    "bybit": ("Bybit", {"bybit_api_key": "API Key", "bybit_api_secret": "API Secret"}),
    "okx": (
        "OKX",
        {"okx_api_key": "API Key", "okx_api_secret": "API Secret", "okx_password": "Password"},
    ),
    # The code has a hyphen, its fields an underscore: nobody may derive names from codes.
    "bybit-testnet": (
        "Bybit Testnet",
        {"bybit_testnet_api_key": "API Key", "bybit_testnet_api_secret": "API Secret"},
    ),
    "gateio-mock": ("Gate.io Mock", {}),
}
"""What is always listed: code, name, and labels by the names of fields."""

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


@cache
def field_name(code: str, credential: str) -> str:
    """Return the row name of an additional exchange's credential: kucoin + apiKey."""
    snake_case = re.sub("([A-Z])", r"_\1", credential).lower()
    return f"{code}_{snake_case}"


def known_additional(codes: Iterable[str]) -> tuple[str, ...]:
    """Order like the server: alphabetical; drop unknown codes and main ones in silence."""
    return tuple(sorted(code for code in set(codes) if is_additional(code)))


def is_additional(code: str) -> bool:
    return code in ADDITIONAL and code not in MAIN


def labels(code: str) -> Mapping[str, str]:
    """Return the labels of an exchange by the names of its fields, none for an unknown one."""
    if code in MAIN:
        return MAIN[code][1]
    return {field_name(code, credential): credential for credential in ADDITIONAL.get(code, ())}


def exchange_list(additional: Sequence[str], values: Mapping[str, str]) -> dict[str, Any]:
    """Return the payload of an `exchange-config-response` for rows with these *values*."""
    main = [_main(code, values) for code in MAIN]
    listed = [_additional(code, values) for code in known_additional(additional)]
    return {
        "main": main + [exchange for exchange in listed if exchange["added"]],
        "additional": [exchange for exchange in listed if not exchange["added"]],
    }


def _main(code: str, values: Mapping[str, str]) -> dict[str, Any]:
    name, fields = MAIN[code]
    return {
        "code": code,
        "name": name,
        "disabled": False,
        "sandbox": code.endswith("-testnet"),
        "fields": [
            {"name": name, "type": "string", "label": label, "value": mask(values.get(name, ""))}
            for name, label in fields.items()
        ],
        "connected": all(values.get(name) for name in fields),
    }


def _additional(code: str, values: Mapping[str, str]) -> dict[str, Any]:
    fields = labels(code)
    return {
        "code": code,
        "name": code,
        # A row with an empty value counts as added, yet not as connected.
        "added": all(name in values for name in fields),
        "connected": all(values.get(name) for name in fields),
        "sandbox": False,
        "disabled": False,
        "fields": [
            {"name": name, "label": label, "type": "string", "value": mask(values.get(name, ""))}
            for name, label in fields.items()
        ],
    }
