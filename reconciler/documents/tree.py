"""
The positioned tree: what stood in a YAML document, and where.

A tree never holds an alias, a tag or a key that is not text; the loader refuses them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.model.source import SourceLine


@dataclass(frozen=True, slots=True)
class Scalar:
    """
    One value.

    `sound` is False when the loader has already complained about it (an alias, a number of a
    thousand digits): nobody need complain about the value that stands in for it.
    """

    value: str | int | float | bool | None
    source: SourceLine
    sound: bool = True


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping; `keys` says where each key was written."""

    entries: Mapping[str, "Node"]
    keys: Mapping[str, SourceLine]
    source: SourceLine


@dataclass(frozen=True, slots=True)
class List:
    items: tuple["Node", ...]
    source: SourceLine


Node = Scalar | Map | List


def plain(node: Node) -> object:
    """Return the same value as dictionaries, lists and scalars, as a JSON reader would give it."""
    match node:
        case Scalar(value=value):
            return value
        case Map(entries=entries):
            return {key: plain(value) for key, value in entries.items()}
        case List(items=items):
            return [plain(item) for item in items]


def at(node: Node | None, *path: str) -> Node | None:
    """Return what stands below *node* under these keys, or None where one of them is missing."""
    for key in path:
        if not isinstance(node, Map):
            return None
        node = node.entries.get(key)
    return node


def text(node: Node | None, *path: str, default: str = "") -> str:
    """Return the text below *node* under these keys, or *default*."""
    found = at(node, *path)
    return found.value if isinstance(found, Scalar) and isinstance(found.value, str) else default


def true(node: Node | None, *path: str) -> bool:
    """Return whether `true` stands below *node* under these keys."""
    found = at(node, *path)
    return isinstance(found, Scalar) and found.value is True


def items(node: Node | None, *path: str) -> tuple[Node, ...]:
    """Return the items of the list below *node* under these keys; none where there is no list."""
    found = at(node, *path)
    return found.items if isinstance(found, List) else ()


def entries(node: Node | None, *path: str) -> Mapping[str, Node]:
    """Return what the mapping below *node* under these keys holds; nothing where there is none."""
    found = at(node, *path)
    return found.entries if isinstance(found, Map) else {}


def keys(node: Node | None, *path: str) -> Mapping[str, SourceLine]:
    """Return where the keys of the mapping below *node* stand; nothing where there is none."""
    found = at(node, *path)
    return found.keys if isinstance(found, Map) else {}


def texts(node: Node | None, *path: str) -> dict[str, str]:
    """Return the texts in the mapping below *node* under these keys."""
    return {key: text(child) for key, child in entries(node, *path).items()}


def leaves(node: Node, *path: str) -> Iterator[tuple[tuple[str, ...], Scalar | List]]:
    """Yield every value below *node* with its path; a list is one value."""
    if isinstance(node, Map):
        for key, child in node.entries.items():
            yield from leaves(child, *path, key)
    else:
        yield path, node
