"""
MEXC: `GET /api/v3/account`, which says whether a key is valid and no more.

Documented at mexcdevelop.github.io (spot account information).  It takes no nonce that must grow.
"""

from typing import Final

from reconciler.exchanges.adapters.signed_read import SignedRead
from reconciler.model.key_facts import Status

ADAPTERS: Final = (
    SignedRead(
        "mexc",
        method="spotPrivateGetAccount",
        holds="balances",
        codes={
            **dict.fromkeys(("602", "700001", "700002", "10072"), Status.REJECTED),
            "700006": Status.IP_REFUSED,
            **dict.fromkeys(("700007", "701", "702", "703", "704"), Status.DENIED),
            **dict.fromkeys(("700003", "10073"), Status.CLOCK),
            **dict.fromkeys(("429", "510"), Status.RATE_LIMITED),
        },
        disturbs_trading=False,
    ),
)
