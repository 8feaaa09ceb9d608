"""
The credential rows of a stand-in JT-Trader, with the real one's carelessness.

Rows are an ordered list without uniqueness: two clients that save the same new name make two rows,
and every reader sees only the oldest.  A name that is absent or an object is a database filter.
What the real server refuses raises `Rejected`; the caller then runs the fatal path.
Source: the protocol reference, sections 3.3 to 3.5.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

ABSENT: Final = object()
"""A key that the request did not have; a null is None."""


class Rejected(Exception):
    """
    The database or the request's shape refuses; nothing of this row was changed.

    *leaked* is text that the real server then writes into its system log: for a refused insert it
    holds the plain value.
    """

    def __init__(self, what: str, *, leaked: str = "") -> None:
        super().__init__(what)
        self.leaked = leaked


@dataclass(slots=True)
class Row:
    id: int
    account: str
    name: str
    type: str
    value: str


class Rows:
    """All rows of all accounts; each call is safe from any thread, a sequence of calls is not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._next_id = 1

    def find_first(self, account: str, name: object) -> int | None:
        """Return the id of the oldest row that *name* selects; raise Rejected for a bad name."""
        selects = _filter(name)
        with self._lock:
            return next(
                (r.id for r in self._rows if r.account == account and selects(r.name)), None
            )

    def insert(self, account: str, name: object, kind: object, value: str) -> None:
        """Append a row; a name or type that is no text raises Rejected with the value inside."""
        if not isinstance(name, str) or not isinstance(kind, str):
            raise Rejected(
                "Invalid invocation: create",
                leaked=f'data: {{ accountId: "{account}", value: "{value}" }}',
            )
        with self._lock:
            self._rows.append(Row(self._next_id, account, name, kind, value))
            self._next_id += 1

    def update(self, row_id: int, value: str) -> None:
        """Replace the value; a row that somebody deleted meanwhile raises Rejected."""
        with self._lock:
            for row in self._rows:
                if row.id == row_id:
                    row.value = value
                    return
        raise Rejected("Record to update not found")

    def delete(self, row_id: int) -> None:
        """Remove one row; one that is already gone raises Rejected."""
        with self._lock:
            for index, row in enumerate(self._rows):
                if row.id == row_id:
                    del self._rows[index]
                    return
        raise Rejected("Record to delete does not exist")

    def values(self, account: str) -> dict[str, str]:
        """Return name -> value of the oldest row of each name."""
        oldest: dict[str, str] = {}
        for name, _, value in self.listing(account):
            oldest.setdefault(name, value)
        return oldest

    def listing(self, account: str) -> list[tuple[str, str, str]]:
        """Return (name, type, value) of every row, duplicates too, oldest first."""
        with self._lock:
            return [(r.name, r.type, r.value) for r in self._rows if r.account == account]


def value_text(row: Mapping[str, object]) -> str:
    """Return the text that the real server stores for a row of a save; raise Rejected if none."""
    value = row.get("value", ABSENT)
    if row.get("type") == "boolean":
        return "true" if value is not ABSENT and value not in (None, False, 0, "") else "false"
    if value is ABSENT or value is None:
        raise Rejected("Cannot read properties of an absent value")
    return _script_text(value)


def _script_text(value: object) -> str:
    """Turn a JSON value into text as JavaScript's toString() does."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e21:  # noqa: PLR2004  - script's rule
            return str(int(value))
        case list():
            return ",".join("" if item is None else _script_text(item) for item in value)
        case dict():
            return "[object Object]"
        case _:
            return str(value)


_TEXT_FILTERS: Final[Mapping[str, Callable[[str, Any], bool]]] = {
    "equals": lambda name, wanted: name == wanted,
    "not": lambda name, wanted: name != wanted,
    "contains": lambda name, part: part in name,
    "startsWith": lambda name, part: name.startswith(part),
    "endsWith": lambda name, part: name.endswith(part),
}


def _filter(name: object) -> Callable[[str], bool]:
    """Read a name as the database layer does: text is equality, an object a filter."""
    match name:
        case str():
            return lambda stored: stored == name
        case _ if name is ABSENT:
            return lambda _stored: True
        case dict() if all(k in _TEXT_FILTERS and isinstance(v, str) for k, v in name.items()):
            return lambda stored: all(_TEXT_FILTERS[k](stored, v) for k, v in name.items())
        case _:
            raise Rejected("Invalid invocation: findFirst")
