"""
BingX: what one signed read is answered.
"""

from reconciler.exchanges.adapters.bingx import ADAPTERS
from reconciler.model.key_facts import Status
from tests.exchanges import signing_second
from tests.exchanges.contract import WatchedContract
from tests.exchanges.signed_read import exchange

EXCHANGE = exchange(
    ADAPTERS,
    signing_second.bingx,
    "https://open-api.bingx.com/openApi/spot/v1/account/balance",
    {"code": 0, "msg": "", "debugMsg": "", "data": {"balances": []}},
    hostile=(("code", ...), ("code", 80_014), ("data", ...), ("data", None)),
    wrong={"apiKey": "100413", "secret": "100001", "clock": "100421"},
    error=signing_second.numbered,
    codes={
        **dict.fromkeys(("100413", "100001"), Status.REJECTED),
        "100419": Status.IP_REFUSED,
        "100004": Status.DENIED,
        "100421": Status.CLOCK,
        "429": Status.RATE_LIMITED,
        "999999": Status.INDETERMINATE,
    },
)


class TestBingX(WatchedContract):
    exchange = EXCHANGE
