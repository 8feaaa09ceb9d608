"""
Keyed fingerprints: what a ledger may remember of a value or a mask without holding any of it.

Each is an HMAC-SHA256 over a label, its context and the value, so that the same value on two
servers does not look the same and nobody can test guesses without the key.
"""

import hmac
import re
from collections.abc import Mapping
from typing import Final, NoReturn

from reconciler.errors import SecretUnusable
from reconciler.model.observed import Mask
from reconciler.model.secret import Secret

_DOMAIN: Final = "jtr/v1"


class Fingerprints:
    """
    Computes fingerprints under one key; `key_id` names the key and tells nothing about it.

    With *lasting* False the key was made for one look: what it computes is not worth remembering.
    All results are lower-case hex.  Raises SecretUnusable for a key that is not 64 hex digits.
    """

    __slots__ = ("_key", "key_id", "lasting")

    def __init__(self, key: Secret, *, lasting: bool = True) -> None:
        self.lasting: Final = lasting
        self._key: Final = bytes.fromhex(checked_key(key, "the fingerprint key").reveal())
        self.key_id: Final = self._hmac("key-id")[:12]

    def slot(self, server_uid: str, exchange: str, field: str, value: Secret) -> str:
        """Return the fingerprint of a value in its place; equal values elsewhere differ."""
        return self._hmac("slot", server_uid, exchange, field, _bytes(value))

    def mask(self, server_uid: str, exchange: str, field: str, mask: Mask) -> str:
        """Return the fingerprint of what a server shows in a place; empty for an empty mask."""
        return self._hmac("mask", server_uid, exchange, field, mask.encoded()) if mask else ""

    def key(self, value: Secret) -> str:
        """Return the fingerprint of a value wherever it is: finds the same key used twice."""
        return self._hmac("key", _bytes(value))

    def credentials(self, values: Mapping[str, Secret]) -> str:
        """Return one fingerprint of all credentials of a key by name, wherever they are used."""
        parts = (part for name in sorted(values) for part in (name, _bytes(values[name])))
        return self._hmac("credentials", *parts)

    def joined(self, server_uid: str, exchange: str, values: Mapping[str, Secret]) -> str:
        """Return one fingerprint of several named values; their order does not matter."""
        parts = (part for name in sorted(values) for part in (name, _bytes(values[name])))
        return self._hmac("companions", server_uid, exchange, *parts)

    def _hmac(self, label: str, *parts: str | bytes) -> str:
        said = bytearray()
        for part in (_DOMAIN, label, *parts):
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            # The length first: ("ab", "c") and ("a", "bc") must not look the same.
            said += len(data).to_bytes(8, "big") + data
        return hmac.digest(self._key, said, "sha256").hex()

    def __repr__(self) -> str:
        return f"Fingerprints({self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a fingerprint key is never written down")


def _bytes(value: Secret) -> bytes:
    return value.reveal().encode("utf-8", "surrogatepass")


_KEY: Final = re.compile(r"[0-9a-f]{64}")


def checked_key(key: Secret, what: str) -> Secret:
    if not _KEY.fullmatch(key.reveal()):
        raise SecretUnusable(
            f"{what} does not hold a fingerprint key",
            "it must be 64 hex digits: restore it from a backup; if there is none, move it away, "
            "and `jtr ledger init` makes a new one",
        )
    return key
