"""
Phemex: what one signed read is answered.
"""

from reconciler.exchanges.adapters.phemex import ADAPTERS
from reconciler.model.key_facts import Status
from reconciler.testing.exchange_server import Reply
from tests.exchanges import signing_second
from tests.exchanges.contract import WatchedContract
from tests.exchanges.signed_read import exchange


def error(code: str) -> Reply:
    """Return an error whose words, or number, say what it is."""
    if code.isdigit():
        return signing_second.phemex_words("novel words", int(code))
    return signing_second.phemex_words(f"401 {code}.")


EXCHANGE = exchange(
    ADAPTERS,
    signing_second.phemex,
    "https://api.phemex.com/spot/wallets",
    {"code": 0, "msg": "OK", "data": []},
    hostile=(("code", 1), ("data", None)),
    wrong={"apiKey": "Api key not found", "secret": "signature verification failed"},
    error=error,
    codes={
        **dict.fromkeys(("Api key not found", "signature verification failed"), Status.REJECTED),
        "Request IP mismatch": Status.IP_REFUSED,
        "Insufficient privilege": Status.DENIED,
        "401": Status.INDETERMINATE,
        "39995": Status.RATE_LIMITED,
        "999999": Status.INDETERMINATE,
    },
)


class TestPhemex(WatchedContract):
    exchange = EXCHANGE
