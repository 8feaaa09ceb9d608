"""
Reads the long answer to a listing while it arrives, and keeps only what is wanted of it.

Vault's answer is one JSON object; its `data.key_info` has an entry of some hundred bytes for each
secret below a folder, and there may be tens of thousands of which we use a few.
"""

import codecs
import json
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, TypeVar

from reconciler.model.references import SecretPath

T = TypeVar("T")
_DECODE: Final = json.JSONDecoder().raw_decode
_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_BLANK: Final = frozenset(" \t\n\r")
_ENDS: Final = frozenset(" \t\n\r,:]}")  # what may follow a value
_Steps = Generator[None, None, T]  # pauses where more text is needed


class Entries:
    """
    Which entries of a listing are wanted: by what each is called in there, the secret that it is.

    An entry that is told in the same text as last time is not decoded again.
    """

    def __init__(self, secrets: Mapping[str, SecretPath]) -> None:
        self.secrets: Final = secrets
        self.told: Final[dict[str, tuple[str, Any]]] = {}  # each one's text, and what it says


class Listing:
    """
    Takes an answer piece by piece (`feed`), and has it as `body`, less what is not *wanted*.

    What is held at any time, besides what is kept, is less than *most* bytes: `too_long` otherwise.
    """

    def __init__(self, wanted: Entries, most: int) -> None:
        self.too_long = False
        self._wanted: Final = wanted
        self._most: Final = most
        self._text = ""
        self._at = 0
        self._pending: list[str] = []  # what comes after `_text`
        self._length = 0  # of all of that
        self._size = 0  # of the last value
        self._kept = 0  # characters of what is kept besides `key_info`
        self._needed = 0  # a value that did not fit into so much is tried again with twice as much
        self._ended = False
        self._broken = False
        self._found: dict[str, Any] = {}
        self._data: dict[str, Any] = {}
        self._infos: dict[str, Any] = {}
        self._decoder: Final = codecs.getincrementaldecoder("utf-8")()
        self._steps: Final = self._whole()

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; False when no more is wanted, because nothing can come of it."""
        try:
            text = self._decoder.decode(piece)
        except ValueError:
            self._broken = True
            return False
        self._pending.append(text)
        self._length += len(text)
        if self._length >= self._needed:
            self._step()
        self.too_long = max(self._length, self._kept) > self._most
        return not self.too_long and not self._broken

    def body(self) -> Mapping[str, Any]:
        """Return the object, once all of it was fed; empty when it was none."""
        self._ended = True
        self._step()
        return {} if self._broken else self._found

    def _step(self) -> None:
        self._text = "".join((self._text[self._at :], *self._pending))
        self._pending, self._at = [], 0
        try:
            next(self._steps)
        except StopIteration:
            return
        except (ValueError, RecursionError):
            self._broken = True
        else:
            self._length = len(self._text) - self._at
            self._needed = 2 * self._length
            self._broken = self._ended  # it needs more, and there is no more

    # ── the grammar ──────────────────────────────────────────────────────────────────────────

    def _whole(self) -> _Steps[None]:
        yield from self._object(self._top)
        while True:
            self._skip()
            if self._at < len(self._text):
                raise ValueError  # nothing but blanks may follow
            if self._ended:
                return
            yield

    def _top(self, name: str) -> _Steps[None]:
        if name == "data" and (yield from self._next()) == "{":
            self._data = self._found["data"] = {}
            yield from self._object(self._inner)
        else:
            self._found[name] = yield from self._whole_of(name)

    def _inner(self, name: str) -> _Steps[None]:
        if name == "key_info" and (yield from self._next()) == "{":
            self._infos = self._data["key_info"] = {}
            yield from self._object(self._info)
        else:
            self._data[name] = yield from self._whole_of(name)

    def _info(self, name: str) -> _Steps[None]:
        wanted = self._wanted
        if name not in wanted.secrets:
            yield from self._value()
            return
        self._skip()
        text, facts = wanted.told.get(name, ("", None))
        if text and self._text.startswith(text, self._at):
            self._at += len(text)  # whole: it ends with its brace
        else:
            facts = yield from self._value()
            if isinstance(facts, dict):
                wanted.told[name] = self._text[self._at - self._size : self._at], facts
        self._infos[name] = facts

    def _whole_of(self, name: str) -> _Steps[Any]:
        """Take a value that is kept whatever it is."""
        value = yield from self._value()
        self._kept += len(name) + self._size
        return value

    def _object(self, member: Callable[[str], _Steps[None]]) -> _Steps[None]:
        if (yield from self._next()) != "{":
            raise ValueError
        self._at += 1
        if (yield from self._next()) == "}":
            self._at += 1
            return
        while True:
            name = yield from self._value()
            if not isinstance(name, str) or (yield from self._next()) != ":":
                raise ValueError
            self._at += 1
            yield from member(name)
            mark = yield from self._next()
            self._at += 1
            if mark == "}":
                return
            if mark != ",":
                raise ValueError

    def _next(self) -> _Steps[str]:
        """Return the next character that is no blank, without taking it."""
        while True:
            self._skip()
            if self._at < len(self._text):
                return self._text[self._at]
            yield

    def _value(self) -> _Steps[Any]:
        """Take a whole value; a number may go on in the next piece."""
        while True:
            self._skip()
            try:
                value, end = _DECODE(self._text, self._at)
            except ValueError:
                pass
            else:
                if self._text[end : end + 1] in _ENDS:
                    self._size, self._at = end - self._at, end
                    return value
            yield

    def _skip(self) -> None:
        if self._text[self._at : self._at + 1] in _BLANK:
            blanks = _BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks is not None else self._at
