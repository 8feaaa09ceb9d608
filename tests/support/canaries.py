"""
Random secrets in the shapes that exchanges and people use, and a search for any trace of them.

A trace is any eight bytes in a row of a secret, and more where eight say little: of hex digits, or
encoded in a usual way.  The caller prints the seed, so that a failure can be repeated; the values
themselves are never printed.
"""

import base64
import functools
import json
import random
import string
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

WINDOW = 8
_HEX = frozenset(b"0123456789abcdefABCDEF-")
# Eight hex digits are 32 bits: some fingerprint in a large file would match by chance.  That says
# nothing of the secret as a whole: a token of a name and hex digits has such runs, too.
_HEX_RUN = 12
# Of the encodings that spend several characters on a byte, eight characters say little; 16 of
# base64 are twelve bytes.
_WIDE_RUN = 16
_BASE62 = string.ascii_letters + string.digits
_PEM_HEAD = "-----BEGIN PRIVATE KEY-----"
_PEM_FOOT = "-----END PRIVATE KEY-----"
_PUBLIC = (f"{_PEM_HEAD}\n", f"\n{_PEM_FOOT}\n", "-" * WINDOW)


@dataclass(frozen=True, slots=True)
class Canary:
    """A made-up secret; `shape` may be printed, `value` may not."""

    shape: str
    value: str = field(repr=False)


def canaries(seed: int) -> tuple[Canary, ...]:
    """Return one secret of each shape, the same for the same seed."""
    chance = random.Random(seed)
    return tuple(canary(shape, chance) for shape in _SHAPES)


def canary(shape: str, chance: random.Random) -> Canary:
    """Make up one secret of this shape."""
    return Canary(shape, _SHAPES[shape](chance))


def _text(chance: random.Random, alphabet: str, length: int) -> str:
    return "".join(chance.choices(alphabet, k=length))


def _word(chance: random.Random) -> str:
    return "".join(chance.choice("bdfgkmnprtvz") + chance.choice("aeiou") for _ in range(3))


def _base62(chance: random.Random, length: int) -> str:
    # Always with a digit: one in 500 would do without, and be taken for words, a weak mask.
    return _text(chance, _BASE62, length - 1) + _text(chance, string.digits, 1)


def _pem(chance: random.Random) -> str:
    body = base64.b64encode(chance.randbytes(138)).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join((_PEM_HEAD, *lines, _PEM_FOOT, ""))


def _token(chance: random.Random) -> str:
    parts = (base64.urlsafe_b64encode(chance.randbytes(n)) for n in (27, 60, 32))
    return ".".join(part.decode().rstrip("=") for part in parts)


_SHAPES: Final[Mapping[str, Callable[[random.Random], str]]] = {
    "hex": lambda chance: chance.randbytes(32).hex(),
    "hex-upper": lambda chance: chance.randbytes(20).hex().upper(),
    "base62": lambda chance: _base62(chance, 36),
    "base62-long": lambda chance: _base62(chance, 64),
    "uuid": lambda chance: str(uuid.UUID(bytes=chance.randbytes(16), version=4)),
    "base64-32": lambda chance: base64.b64encode(chance.randbytes(32)).decode(),
    "base64-64": lambda chance: base64.b64encode(chance.randbytes(64)).decode(),
    "base64url": lambda chance: base64.urlsafe_b64encode(chance.randbytes(33)).decode(),
    "pem": _pem,
    "passphrase": lambda chance: " ".join(
        f"{_word(chance).title()}{chance.randrange(10, 99)}" for _ in range(4)
    ),
    "password": lambda chance: _text(chance, _BASE62 + "!$%&/()=?+*#'\"\\<>;:,.^~|{}[]@", 24),
    "unicode": lambda chance: _text(chance, "äöüßéèñçøåжщюяѣλπσωŁőşğ漢字密鍵値", 20),
    "jwt": _token,
    "long": lambda chance: _text(chance, _BASE62, 2048),
}


def windows(value: str) -> frozenset[bytes]:
    """Return every eight bytes in a row of *value*, raw and encoded, less what is no secret."""
    found: set[bytes] = set()
    for form, _ in _forms(value):
        found.update(form[i : i + WINDOW] for i in range(len(form) - WINDOW + 1))
    return frozenset(found - _public_windows())


class Search:
    """Looks for traces of the same secrets in many pieces of data."""

    def __init__(self, searched: Iterable[Canary] = ()) -> None:
        self._new: list[Canary] = []
        self._known: dict[bytes, list[tuple[str, bytes, int, int]]] = {}
        self._windows: set[tuple[bytes]] = set()
        for canary in searched:
            self.add(canary)

    def add(self, canary: Canary) -> None:
        """Look for it, too, from now on."""
        self._new.append(canary)
        self._windows.update((window,) for window in windows(canary.value))

    def leaks(self, data: bytes) -> list[str]:
        """Return a line for each secret of which *data* holds a trace: its shape and where."""
        found: dict[str, int] = {}
        for offset in range(min(WINDOW, len(data)) if self._windows else 0):
            whole = (len(data) - offset) // WINDOW * WINDOW
            pieces = struct.iter_unpack(f"{WINDOW}s", data[offset : offset + whole])
            if self._windows.isdisjoint(pieces):
                continue  # the usual case, at the speed of C
            for start in range(offset, offset + whole, WINDOW):
                window = data[start : start + WINDOW]
                for shape, form, position, run in self._places().get(window, ()):
                    if _runs(data, start, form, position, run):
                        found[shape] = min(start, found.get(shape, start))
        return [f"{shape} at byte {found[shape]}" for shape in sorted(found)]

    def _places(self) -> dict[bytes, list[tuple[str, bytes, int, int]]]:
        """Return where each window stands; hardly any search comes to need it."""
        for canary in self._new:
            for form, run in _forms(canary.value):
                for position in range(len(form) - WINDOW + 1):
                    window = form[position : position + WINDOW]
                    if (window,) in self._windows:  # the head of a PEM block is no secret
                        place = (canary.shape, form, position, run)
                        self._known.setdefault(window, []).append(place)
        self._new.clear()
        return self._known


def find_leaks(data: bytes, searched: Iterable[Canary]) -> list[str]:
    """Return a line for each secret of which *data* holds a trace: its shape and where."""
    return _search(tuple(searched)).leaks(data)


@functools.lru_cache(maxsize=2)
def _search(searched: tuple[Canary, ...]) -> Search:
    return Search(searched)


def _forms(value: str) -> Iterator[tuple[bytes, int]]:
    """Give the ways in which a value may be written, and how many bytes in a row are a trace."""
    raw = value.encode("utf-8", "surrogatepass")
    yield raw, WINDOW
    yield raw[::-1], WINDOW
    yield value[::-1].encode("utf-8", "surrogatepass"), WINDOW
    for text in (raw.hex(), raw.hex().upper()):
        yield text.encode(), _WIDE_RUN
    for form in (quote(raw, safe=""), quote(raw)):
        if form.encode() != raw:
            yield form.encode(), _WIDE_RUN if "%" in form else WINDOW
    for escaped in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        if escaped[1:-1].encode("utf-8", "surrogatepass") != raw:
            yield escaped[1:-1].encode("utf-8", "surrogatepass"), _WIDE_RUN
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"\0" * shift + raw)
            # The characters at both ends also depend on what stands beside the value.
            own = coded[(0, 2, 3)[shift] : -4]
            yield own, min(_WIDE_RUN, len(own))


@functools.cache
def _public_windows() -> frozenset[bytes]:
    found: set[bytes] = set()
    for text in _PUBLIC:
        for form, _ in _forms(text):
            found.update(form[i : i + WINDOW] for i in range(len(form) - WINDOW + 1))
    return frozenset(found)


def _runs(data: bytes, start: int, form: bytes, position: int, run: int) -> bool:
    """Say whether around eight bytes *run* in a row agree, or twelve of hex digits."""
    left, right = 0, WINDOW
    most = max(run, _HEX_RUN)
    while left + right < most and start - left > 0 and position - left > 0:
        if data[start - left - 1] != form[position - left - 1]:
            break
        left += 1
    while left + right < most and start + right < len(data) and position + right < len(form):
        if data[start + right] != form[position + right]:
            break
        right += 1
    agreed = data[start - left : start + right]
    return len(agreed) >= (most if _HEX.issuperset(agreed) else run)
