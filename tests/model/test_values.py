"""How values are changed: `reconciler.model.values`."""

from dataclasses import dataclass, field

import pytest
from msgspec import Struct

from reconciler.model.values import replace


class Value(Struct, frozen=True):
    name: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Hiding:
    name: str
    secret: str = field(default="", repr=False)


@pytest.mark.parametrize("kind", [Value, Hiding])
def test_another_is_made(kind: type[Value]) -> None:
    value = kind("tokyo-1")

    assert replace(value, name="tokyo-2") == kind("tokyo-2")
    assert value == kind("tokyo-1")


@pytest.mark.parametrize("kind", [Value, Hiding])
def test_what_a_value_has_not_is_refused(kind: type[Value]) -> None:
    with pytest.raises(TypeError):
        replace(kind("tokyo-1"), nmae="tokyo-2")  # type: ignore[call-arg]  # a checker sees it too
