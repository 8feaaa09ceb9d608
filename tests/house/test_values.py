"""What values are made of: docs/adr/0019."""

import ast
import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct, field

PACKAGE = Path(__file__).parent.parent.parent / "reconciler"
ADAPTERS = {  # people write more of these, as dataclasses
    "exchanges/adapter.py",
    "exchanges/adapters/binance.py",
    "exchanges/adapters/signed_read.py",
}
APART = {"repr", "compare", "init"}  # what a field of a dataclass can be kept out of


def frozen(tree: ast.AST) -> Iterator[ast.ClassDef]:
    """Frozen dataclasses of which every field is shown, compared and given."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        calls = [one for one in node.decorator_list if isinstance(one, ast.Call)]
        names = {word.arg for one in calls for word in one.keywords}
        inside = {one.arg for one in ast.walk(node) if isinstance(one, ast.keyword)}
        if "frozen" in names and not APART & (names | inside):
            yield node


def test_a_value_is_a_struct() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {name for name, path in modules.items() for _ in frozen(ast.parse(path.read_text()))}

    assert found == ADAPTERS


def test_positive_control_a_frozen_dataclass_is_found() -> None:
    plain = "@dataclass(frozen=True, slots=True)\nclass A:\n    a: int"
    hidden = "@dataclass(frozen=True)\nclass A:\n    a: int = field(repr=False)"

    assert [one.name for one in frozen(ast.parse(plain))] == ["A"]
    assert list(frozen(ast.parse(hidden))) == []


def misread(kinds: Iterator[type[Struct]]) -> list[str]:
    """Fields that got the description of another library's field as their value."""
    return [
        f"{kind.__module__}.{kind.__name__}"
        for kind in kinds
        if any(isinstance(one, dataclasses.Field) for one in kind.__struct_defaults__)
    ]


def below(kind: type[Struct]) -> Iterator[type[Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


def test_no_field_is_one_of_a_dataclass() -> None:
    """A checker does not tell the two `field`s apart, and the wrong one becomes the value."""
    for path in PACKAGE.rglob("*.py"):
        if path.stem != "__main__":
            name = path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
            importlib.import_module(name.removesuffix(".__init__"))
    kinds = [kind for kind in below(Struct) if kind.__module__.startswith("reconciler.")]

    assert len(kinds) > 200
    assert misread(iter(kinds)) == []


def test_positive_control_the_wrong_field_is_found() -> None:
    class Wrong(Struct, frozen=True):
        texts: dict[str, str] = dataclasses.field(default_factory=dict)

    class Right(Struct, frozen=True):
        texts: dict[str, str] = field(default_factory=dict)

    assert misread(iter([Wrong, Right])) == [f"{__name__}.Wrong"]
    with pytest.raises(AttributeError):
        Right().texts = {}  # type: ignore[misc]  # that is the point
