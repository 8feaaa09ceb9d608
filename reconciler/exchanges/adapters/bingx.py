"""
BingX: `GET /openApi/spot/v1/account/balance`, which says whether a key is valid and no more.

Documented at bingx-api.github.io (query assets).  It takes no nonce that must grow.
"""

from typing import Final

from reconciler.exchanges.adapters.signed_read import SignedRead
from reconciler.model.key_facts import Status

ADAPTERS: Final = (
    SignedRead(
        "bingx",
        method="spotV1PrivateGetAccountBalance",
        holds="data",
        says=("code", "0"),
        codes={
            **dict.fromkeys(("100001", "100413"), Status.REJECTED),
            "100419": Status.IP_REFUSED,
            "100004": Status.DENIED,
            "100421": Status.CLOCK,
            "429": Status.RATE_LIMITED,
        },
        disturbs_trading=False,
    ),
)
