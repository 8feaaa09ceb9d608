"""
MEXC: what one signed read is answered.
"""

from reconciler.exchanges.adapters.mexc import ADAPTERS
from reconciler.model.key_facts import Status
from tests.exchanges import signing_second
from tests.exchanges.contract import WatchedContract
from tests.exchanges.signed_read import exchange

EXCHANGE = exchange(
    ADAPTERS,
    signing_second.mexc,
    "https://api.mexc.com/api/v3/account",
    {"canTrade": True, "canWithdraw": True, "permissions": ["SPOT"], "balances": []},
    hostile=(("balances", ...), ("balances", "hostile")),
    wrong={"apiKey": "10072", "secret": "700002", "clock": "700003"},
    error=signing_second.numbered,
    codes={
        **dict.fromkeys(("602", "700001", "700002", "10072"), Status.REJECTED),
        "700006": Status.IP_REFUSED,
        **dict.fromkeys(("700007", "701", "702", "703", "704"), Status.DENIED),
        **dict.fromkeys(("700003", "10073"), Status.CLOCK),
        **dict.fromkeys(("429", "510"), Status.RATE_LIMITED),
        "999999": Status.INDETERMINATE,
    },
)


class TestMexc(WatchedContract):
    exchange = EXCHANGE
