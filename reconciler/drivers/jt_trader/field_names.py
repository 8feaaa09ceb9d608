"""
From the label that JT-Trader puts beside a field to ccxt's name of the credential.

Names are never built: the server calls one exchange's field `okx_api_secret` and the next one's
`kucoin_secret`.  Only the label tells what a field is, and a label that we do not know is an
error, never a guess.  Tried on all definitions of 0.24.19 and on 76 exchanges of ccxt 4.5.
"""

import re
from functools import lru_cache
from typing import Final

CREDENTIALS: Final = (
    "apiKey",
    "secret",
    "uid",
    "accountId",
    "login",
    "password",
    "twofa",
    "privateKey",
    "walletAddress",
    "token",
)
"""All names that ccxt has for what an exchange may require (`requiredCredentials`)."""

_BY_LABEL: Final = {name.lower(): name for name in CREDENTIALS} | {
    "apisecret": "secret",
    "userid": "uid",
}


@lru_cache
def credential_of(label: str) -> str | None:
    """Return ccxt's name for the credential with this label; None when it is not known."""
    # Case folding makes ASCII letters of some others (the Kelvin sign): those are not our labels.
    if not label.isascii():
        return None
    return _BY_LABEL.get(re.sub(r"[^a-z0-9]", "", label.lower()))
