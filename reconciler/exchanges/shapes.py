"""
What credentials cannot look like: mistakes that show before anybody is asked.

Each of these returns what is wrong, by the name of the field and never by its content; empty when
nothing is.  Only what can never be right is named: an exchange may hand out what it likes.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

_ARMOUR: Final = "-----BEGIN "


def missing(ours: Mapping[str, str], names: Iterable[str]) -> str:
    absent = [name for name in names if not ours.get(name, "").strip()]
    return f"{', '.join(absent)} is missing" if absent else ""


def broken(ours: Mapping[str, str], name: str) -> str:
    """Say what no key and no secret can hold; a passphrase may hold what its owner likes."""
    value = ours.get(name, "")
    if value.lstrip().startswith(_ARMOUR):
        return unreadable(ours, name)
    if any(sign.isspace() or not sign.isprintable() for sign in value):
        return f"{name} holds a space, a line break or another sign that no key has"
    return ""


def unreadable(ours: Mapping[str, str], name: str) -> str:
    """Say why a private key in PEM cannot be read."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  - only who needs it
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
    )

    value = ours.get(name, "")
    if "\\n" in value:
        return rf"{name} has \n in letters where its lines should end"
    try:
        load_pem_private_key(value.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"{name} is a private key in PEM that cannot be read"
    return ""


def not_base64(ours: Mapping[str, str], name: str, sizes: Iterable[int] = ()) -> str:
    """Say so of what is no base64, or of another number of bytes where *sizes* names some."""
    try:
        raw = base64.b64decode(ours.get(name, ""), validate=True)
    except (binascii.Error, ValueError):
        return f"{name} is not base64, as this exchange hands it out"
    allowed = tuple(sizes)
    return f"{name} is cut short, or of another kind" if allowed and len(raw) not in allowed else ""


def not_like(ours: Mapping[str, str], name: str, pattern: str, what: str) -> str:
    return "" if re.fullmatch(pattern, ours.get(name, "")) else f"{name} is not {what}"
