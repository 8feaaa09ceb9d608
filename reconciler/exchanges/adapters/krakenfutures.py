"""
Kraken Futures: `GET /derivatives/api/v3/accounts`, which says whether a key is valid and no more.

Documented at docs.kraken.com (futures, get wallets).  It takes no nonce that must grow.
"""

from typing import Final

from reconciler.exchanges.adapters.signed_read import SignedRead
from reconciler.model.key_facts import Status

ADAPTERS: Final = (
    SignedRead(
        "krakenfutures",
        method="privateGetAccounts",
        holds="accounts",
        says=("result", "success"),
        codes={
            "authenticationError": Status.REJECTED,
            **dict.fromkeys(("nonceBelowThreshold", "nonceDuplicate"), Status.CLOCK),
            "apiLimitExceeded": Status.RATE_LIMITED,
            **dict.fromkeys(("Unavailable", "unavailable"), Status.UNREACHABLE),
        },
        disturbs_trading=False,
    ),
)
