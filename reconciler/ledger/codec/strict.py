"""
Reading JSON objects that must be exactly as expected, by fields that are each taken once.

Nothing here knows the ledger.  Messages hold names, never content.
"""

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

T = TypeVar("T")

_LONGEST: Final = 86_400.0


class Malformed(Exception):
    """Says what is wrong with a document, by names only, never by its content."""


class Fields:
    """
    The fields of one JSON object, each to be taken exactly once.

    Every method raises Malformed when the field is missing or of another shape.
    """

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise Malformed(f"{where} is not an object")
        self._left: dict[str, Any] = dict(data)
        self._where = where

    def take(self, name: str) -> Any:
        """Return a field of any shape."""
        if name not in self._left:
            raise Malformed(f"{self._where} has no {name}")
        return self._left.pop(name)

    def must(self, name: str, expected: object) -> None:
        """Take a field that can have one value only."""
        value = self.take(name)
        if type(value) is not type(expected) or value != expected:
            raise Malformed(f"its {name} is not {expected!r}, the one that this version knows")

    def end(self) -> None:
        """Say that nothing more may be there."""
        if self._left:
            raise Malformed(f"{self._where} has fields that this version does not know")

    def text(self, name: str) -> str:
        """Take text."""
        return text_of(self.take(name), f"{self._where}.{name}")

    def maybe_text(self, name: str) -> str | None:
        """Take text or null."""
        value = self.take(name)
        return None if value is None else text_of(value, f"{self._where}.{name}")

    def integer(self, name: str) -> int:
        """Take a whole number."""
        return integer_of(self.take(name), f"{self._where}.{name}")

    def maybe_integer(self, name: str) -> int | None:
        """Take a whole number or null."""
        value = self.take(name)
        return None if value is None else integer_of(value, f"{self._where}.{name}")

    def seconds(self, name: str) -> float:
        """Take a duration of more than nothing and at most a day."""
        value = self.take(name)
        if type(value) not in (int, float) or not 0 < value <= _LONGEST:
            raise Malformed(f"{self._where}.{name} is not a number of seconds")
        return float(value)

    def number(self, name: str) -> float:
        """Take a number."""
        value = self.take(name)
        if type(value) not in (int, float):
            raise Malformed(f"{self._where}.{name} is not a number")
        return float(value)

    def flag(self, name: str) -> bool:
        """Take true or false."""
        value = self.take(name)
        if not isinstance(value, bool):
            raise Malformed(f"{self._where}.{name} is neither true nor false")
        return value

    def items(self, name: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
        """Take a list and *read* each item."""
        value = self.take(name)
        if not isinstance(value, list):
            raise Malformed(f"{self._where}.{name} is not a list")
        return tuple(read(item, f"{self._where}.{name}") for item in value)

    def mapping(self, name: str, read: Callable[[Any, str], T]) -> dict[str, T]:
        """Take an object with names that are not known beforehand and *read* each value."""
        value = self.take(name)
        if not isinstance(value, dict):
            raise Malformed(f"{self._where}.{name} is not an object")
        return {key: read(item, f"{self._where}.{name}") for key, item in value.items()}

    def maybe(self, name: str, read: Callable[[Any, str], T]) -> T | None:
        """Take null, or *read* what is there."""
        value = self.take(name)
        return None if value is None else read(value, f"{self._where}.{name}")


def text_of(value: Any, where: str) -> str:
    """Return *value* if it is text."""
    if not isinstance(value, str):
        raise Malformed(f"{where} is not text")
    return value


def integer_of(value: Any, where: str) -> int:
    """Return *value* if it is a whole number."""
    if type(value) is not int:  # True is an int to isinstance
        raise Malformed(f"{where} is not a whole number")
    return value


def texts(value: Any, where: str) -> dict[str, str]:
    """Return *value* if it is an object of texts."""
    if not isinstance(value, dict):
        raise Malformed(f"{where} is not an object")
    return {key: text_of(item, where) for key, item in value.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a name occurs twice")
    return found


def _no_number(_name: str) -> NoReturn:
    raise Malformed("a number is not finite")


def parsed(text: str) -> Any:
    """Parse JSON in which no name occurs twice and every number is finite."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Malformed("it is not JSON") from None
