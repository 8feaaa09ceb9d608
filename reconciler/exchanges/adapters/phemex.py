"""
Phemex: `GET /spot/wallets`, which says whether a key is valid and no more.

Documented at phemex-docs.github.io (spot wallets).  It takes no nonce that must grow.
"""

from typing import Final

from reconciler.exchanges.adapters.signed_read import SignedRead
from reconciler.model.key_facts import Status

ADAPTERS: Final = (
    SignedRead(
        "phemex",
        method="privateGetSpotWallets",
        holds="data",
        says=("code", "0"),
        codes={
            # Words: the code is the same for all of them, and says nothing alone.
            **dict.fromkeys(
                ("Api key not found", "signature verification failed"), Status.REJECTED
            ),
            "Request IP mismatch": Status.IP_REFUSED,
            "Insufficient privilege": Status.DENIED,
            "401": Status.INDETERMINATE,
            "39995": Status.RATE_LIMITED,
        },
        in_words=True,
        disturbs_trading=False,
    ),
)
