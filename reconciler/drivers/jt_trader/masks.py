"""
What JT-Trader shows of a stored value, what a mask proves, and which values must not be sent.

Pure.  Source of the rule: docs/protocol.md, 3.2; of the bits: measured on random values.
"""

import math
import re
import unicodedata
from typing import Final

BULLETS: Final = "•••••"
_ENDS: Final = 3  # UTF-16 units shown at each end
_UNIT: Final = 2  # bytes

LONGEST_VALUE: Final = 100_000
"""Characters; the server drops the connection at a frame of 1,000,000 bytes."""

_SHORTEST_STRONG: Final = 12
_FEWEST_DISTINCT: Final = 6
_WORD_BITS: Final = 2.0
_ARMOUR: Final = "-----BEGIN"
# How base64 of an ASN.1 sequence begins (a PEM key without its armour): no secret in there.
_DER: Final = ("MII", "MIG", "MHc", "MHQ", "MC4")
_ALPHABETS: Final = (
    (re.compile(r"[0-9]+"), math.log2(10)),
    (re.compile(r"[0-9a-f-]+|[0-9A-F-]+"), 4.0),
    (re.compile(r"[A-Z2-7]+"), 5.0),
    (re.compile(r"[a-z0-9]+|[A-Z0-9]+"), math.log2(36)),
    (re.compile(r"[A-Za-z0-9]+"), math.log2(62)),
    (re.compile(r"[A-Za-z0-9+/_-]+"), 6.0),
)
_PRINTABLE: Final = re.compile(r"[!-~]+")
_LETTERS: Final = re.compile(r"[A-Za-z]+")


def mask_text(value: str) -> str:
    """
    Return what the server shows of *value*: three UTF-16 units, five bullets, three units.

    Short values overlap and are shown whole, twice; a surrogate pair may be cut in half.  The mask
    of the mask of three units or more is itself: the web page can store masks unnoticed.
    """
    if not value:
        return ""
    units = value.encode("utf-16-le", "surrogatepass")
    head, tail = units[: _ENDS * _UNIT], units[-_ENDS * _UNIT :]
    return BULLETS.join(end.decode("utf-16-le", "surrogatepass") for end in (head, tail))


def looks_like_mask(shown: str) -> bool:
    """Whether *shown* can be what a server of this kind shows of some value, or of none."""
    if not shown:
        return True
    units = shown.encode("utf-16-le", "surrogatepass")
    size, bullets = len(units) // _UNIT, BULLETS.encode("utf-16-le")
    ends, odd = divmod(size - len(BULLETS), 2)
    return not odd and 1 <= ends <= _ENDS and units[ends * _UNIT : -ends * _UNIT] == bullets


def refusal(value: str) -> str:
    """Say why *value* must not be sent, without quoting it; empty when it may."""
    if not value:
        return "it is empty"
    if len(value) > LONGEST_VALUE:
        return f"it is longer than {LONGEST_VALUE:,} characters"
    # A byte order mark is what some editors put before a pasted key.
    if value.strip() != value or value.strip("\ufeff\u200b") != value:
        return "it begins or ends with whitespace or a line break, which the server would keep"
    if "•" in value:
        return "it contains '•': it seems to be what a server shows instead of a value"
    categories = {unicodedata.category(c) for c in _without_pem_lines(value)}
    if "Cs" in categories:
        return "it contains half of a surrogate pair, which is no text"
    if categories & {"Cc", "Zl", "Zp"}:
        return "it contains a control character or a line break"
    return ""


def mask_bits(value: str) -> float:
    """
    Return how many bits of *value* its mask proves, by the alphabet that the value seems to use.

    0.0 where the six characters say nothing: PEM text, base64 of a key's ASN.1 frame, values under
    twelve characters, one character repeated.  Text of words counts two bits a character.
    """
    if (
        value.startswith((_ARMOUR, *_DER))
        or len(value) < _SHORTEST_STRONG
        or len(set(value)) < _FEWEST_DISTINCT
    ):
        return 0.0
    body = value.rstrip("=")
    padding = min(len(value) - len(body), _ENDS)
    each = _bits_each(body)
    if not padding:
        return 2 * _ENDS * each
    # The last character before one `=` carries four bits, before `==` two, else we count none.
    last = {1: 4.0, 2: 2.0}.get(padding, 0.0)
    return _ENDS * each + max(_ENDS - padding - 1, 0) * each + min(last, each)


def _bits_each(body: str) -> float:
    # Twelve random characters of base62 without one digit are rarer than a passphrase of words.
    if _LETTERS.fullmatch(body) or not _PRINTABLE.fullmatch(body):
        return _WORD_BITS
    return next((bits for letters, bits in _ALPHABETS if letters.fullmatch(body)), 6.0)


def _without_pem_lines(value: str) -> str:
    """Return *value* without the line feeds that PEM text consists of."""
    return value.replace("\n", "") if value.startswith(_ARMOUR) else value
