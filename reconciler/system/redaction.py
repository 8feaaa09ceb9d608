"""
Takes the values of living secrets out of a text, raw and in common encodings.

What a line costs depends on the line, not on how many secrets there are: the shapes of each are
made once, and found by their first characters.
"""

import base64
import json
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Final

from reconciler.model.secret import on_end, take_born

SHORTEST: Final = 6  # shorter values occur in ordinary words; they are kept out by other means
BLOT: Final = "***"


class Shapes:
    """
    What living secrets look like in a text.

    It forgets a secret the moment that nobody holds it any more, on whatever thread that is.
    """

    def __init__(self) -> None:
        self._by_head: Final[dict[str, tuple[str, ...]]] = {}
        self._of: Final[dict[int, tuple[str, ...]]] = {}
        self._changing: Final = threading.RLock()  # a secret may end while another one is added

    def add(self, number: int, value: str) -> None:
        """Know the secret *number* from now on."""
        shapes = tuple(set(_shapes(value)))
        with self._changing:
            self._of[number] = shapes
            for shape in shapes:
                head = shape[:SHORTEST]
                self._by_head[head] = (*self._by_head.get(head, ()), shape)

    def drop(self, number: int) -> None:
        """Forget it."""
        with self._changing:
            for shape in self._of.pop(number, ()):
                head = shape[:SHORTEST]
                left = list(self._by_head[head])
                left.remove(shape)  # once: another secret may have the same value
                if left:
                    self._by_head[head] = tuple(left)
                else:
                    del self._by_head[head]

    def within(self, text: str) -> set[str]:
        """Return which of them stand in *text*."""
        found = set()
        for at in range(len(text) - SHORTEST + 1):
            for shape in self._by_head.get(text[at : at + SHORTEST], ()):
                if text.startswith(shape, at):
                    found.add(shape)
        return found


_KNOWN: Final = Shapes()
on_end(_KNOWN.drop)


def redacted(text: str) -> str:
    """Return *text* with the values of all living secrets blotted out."""
    for number, secret in take_born():
        _KNOWN.add(number, secret.reveal())
    # The longest first: a secret may be a part of another one, whose rest would stay.  Again until
    # nothing changes: a blot beside what was there can look like a secret with asterisks.
    while found := _KNOWN.within(text):
        for shape in sorted(found, key=len, reverse=True):
            text = text.replace(shape, BLOT)
    return text


def _shapes(value: str) -> Iterator[str]:
    if len(value) < SHORTEST:
        return
    data = value.encode("utf-8", "surrogatepass")
    in_json = json.dumps(value)[1:-1]
    yield value
    yield repr(value)[1:-1]
    yield repr(data)[2:-1]
    yield in_json
    yield json.dumps(in_json)[1:-1]  # JSON within a text within JSON
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield urllib.parse.quote(data, safe="")
    yield urllib.parse.quote(data)
    yield urllib.parse.quote_plus(data)
    yield data.hex()
    yield data.hex().upper()
    # Base64 depends on where the value begins within a group of three bytes; the characters at
    # both ends also hold bits of what stands beside it.
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data).decode()
        core = encoded[(0, 2, 3)[shift] : (shift + len(data)) * 8 // 6]
        yield core
        yield core.translate({ord("+"): "-", ord("/"): "_"})
