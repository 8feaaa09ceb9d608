"""
Crypto.com: `POST private/user-balance`, which says whether a key is valid and no more.

Documented at exchange-docs.crypto.com (private/user-balance).  It takes no nonce that must grow.
"""

from typing import Final

from reconciler.exchanges.adapters.signed_read import SignedRead
from reconciler.model.key_facts import Status

ADAPTERS: Final = (
    SignedRead(
        "cryptocom",
        method="v1PrivatePostPrivateUserBalance",
        holds="result",
        says=("code", "0"),
        codes={
            "40101": Status.REJECTED,
            "40103": Status.IP_REFUSED,
            **dict.fromkeys(("10002", "10003", "10005"), Status.DENIED),
            **dict.fromkeys(("40102", "10007"), Status.CLOCK),
            "42901": Status.RATE_LIMITED,
        },
        disturbs_trading=False,
    ),
)
