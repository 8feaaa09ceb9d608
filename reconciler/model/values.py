"""
How values are changed: by making another.  Pure.

What the rooms hand to each other are frozen `msgspec.Struct`s; a dataclass is what changes itself,
and what must not show or compare all of its fields (docs/adr/0019).
"""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct, structs

if TYPE_CHECKING:
    from dataclasses import replace  # the one whose changes checkers hold against the fields
else:
    T = TypeVar("T")

    def replace(value: T, /, **changes: Any) -> T:
        """Return a copy of *value* with other fields.  Raises TypeError for what it has not."""
        change = structs.replace if isinstance(value, Struct) else dataclasses.replace
        return change(value, **changes)


__all__ = ["replace"]
