"""
The positioned tree: what stood in a YAML document, and where.

A tree never holds an alias, a tag or a key that is not text; the loader refuses them.

The functions look below a node under some keys, and find nothing where one of these is missing or
where something of another kind stands.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct

from reconciler.model.source import SourceLine


class Scalar(NamedTuple):  # there are hundreds of thousands, and a dataclass costs thrice
    """
    One value.

    `sound` is False when the loader has already complained about it (an alias, a number of a
    thousand digits): nobody need complain about the value that stands in for it.
    """

    value: str | int | float | bool | None
    source: SourceLine
    sound: bool = True


class Map(Struct, frozen=True):
    """A mapping; `keys` says where each key was written."""

    entries: Mapping[str, "Node"]
    keys: Mapping[str, SourceLine]
    source: SourceLine


class List(Struct, frozen=True):
    items: tuple["Node", ...]
    source: SourceLine


Node = Scalar | Map | List


def plain(node: Node) -> object:
    """Return the same value as dictionaries, lists and scalars, as a JSON reader would give it."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Map):
        return {
            key: value.value if isinstance(value, Scalar) else plain(value)
            for key, value in node.entries.items()
        }
    return [plain(item) for item in node.items]


def size(node: Node) -> int:
    """Return how many values there are, collections among them."""
    match node:
        case Map(entries=entries):
            return 1 + sum(map(size, entries.values()))
        case List(items=items):
            return 1 + sum(map(size, items))
    return 1


def at(node: Node | None, *path: str) -> Node | None:
    for key in path:
        if not isinstance(node, Map):
            return None
        node = node.entries.get(key)
    return node


def text(node: Node | None, *path: str, default: str = "") -> str:
    for key in path:  # as `at` does; this is asked forty times of each document
        if not isinstance(node, Map):
            return default
        node = node.entries.get(key)
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else default


def true(node: Node | None, *path: str) -> bool:
    found = at(node, *path)
    return isinstance(found, Scalar) and found.value is True


def items(node: Node | None, *path: str) -> tuple[Node, ...]:
    found = at(node, *path)
    return found.items if isinstance(found, List) else ()


def text_list(node: Node | None, *path: str) -> tuple[str, ...]:
    return tuple(text(item) for item in items(node, *path))


def entries(node: Node | None, *path: str) -> Mapping[str, Node]:
    found = at(node, *path)
    return found.entries if isinstance(found, Map) else {}


def keys(node: Node | None, *path: str) -> Mapping[str, SourceLine]:
    found = at(node, *path)
    return found.keys if isinstance(found, Map) else {}


def texts(node: Node | None, *path: str) -> dict[str, str]:
    return {key: text(child) for key, child in entries(node, *path).items()}


def leaves(node: Node, *path: str) -> Iterator[tuple[tuple[str, ...], Scalar | List]]:
    """Yield every value below *node* with its path; a list is one value."""
    if isinstance(node, Map):
        for key, child in node.entries.items():
            yield from leaves(child, *path, key)
    else:
        yield path, node
