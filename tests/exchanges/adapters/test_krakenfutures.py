"""
Kraken Futures: what one signed read is answered.
"""

from reconciler.exchanges.adapters.krakenfutures import ADAPTERS
from reconciler.model.key_facts import Status
from tests.exchanges import signing_second
from tests.exchanges.contract import WatchedContract
from tests.exchanges.signed_read import exchange

EXCHANGE = exchange(
    ADAPTERS,
    signing_second.krakenfutures,
    "https://futures.kraken.com/derivatives/api/v3/accounts",
    {"result": "success", "accounts": {}, "serverTime": "2026-11-22T00:00:00Z"},
    hostile=(("result", "error"), ("result", ...), ("accounts", ...)),
    wrong={"apiKey": "authenticationError", "secret": "authenticationError"},
    error=signing_second.krakenfutures_error,
    codes={
        "authenticationError": Status.REJECTED,
        **dict.fromkeys(("nonceBelowThreshold", "nonceDuplicate"), Status.CLOCK),
        "apiLimitExceeded": Status.RATE_LIMITED,
        **dict.fromkeys(("Unavailable", "unavailable"), Status.UNREACHABLE),
        "novelError": Status.INDETERMINATE,
    },
    secret="base64-32",
)


class TestKrakenFutures(WatchedContract):
    exchange = EXCHANGE
