"""
Crypto.com: what one signed read is answered.
"""

import pytest

from reconciler.exchanges.adapters.cryptocom import ADAPTERS
from reconciler.model.key_facts import Status
from reconciler.testing import through_ccxt
from tests.exchanges import signing_second
from tests.exchanges.contract import WatchedContract
from tests.exchanges.signed_read import exchange

# For a page ccxt has one class of error here, whatever HTTP's status: so none of it is known.
PAGES = {"500", "503", "504", "429"}
TROUBLE = [
    pytest.param(
        row.values[0], Status.INDETERMINATE if row.id in PAGES else row.values[1], id=row.id
    )
    for row in through_ccxt.TROUBLE
]

EXCHANGE = exchange(
    ADAPTERS,
    signing_second.cryptocom,
    "https://api.crypto.com/exchange/v1/private/user-balance",
    {"id": 1, "method": "private/user-balance", "code": 0, "result": {"data": []}},
    hostile=(("code", "hostile"), ("result", None)),
    wrong={"apiKey": "40101", "secret": "40101", "clock": "40102"},
    error=signing_second.numbered,
    codes={
        "40101": Status.REJECTED,
        "40103": Status.IP_REFUSED,
        **dict.fromkeys(("10002", "10003", "10005"), Status.DENIED),
        **dict.fromkeys(("40102", "10007"), Status.CLOCK),
        "42901": Status.RATE_LIMITED,
        "999999": Status.INDETERMINATE,
    },
    method="POST",
    trouble=TROUBLE,
)


class TestCryptoCom(WatchedContract):
    exchange = EXCHANGE
