"""
Values that several servers share: which apply to a server, and how they merge.

`Defaults` hold for documents in their own directory and below: whoever writes in one team's folder
says nothing about another team's servers.  Mappings merge, lists and single values replace; the
server's own document wins over `Defaults` with a selector, those over `Defaults` without one.  Two
documents of the same rank that disagree are an error, unless a higher rank decides.  In references
`{server}` and `{exchange}` are replaced by names; nothing else is ever substituted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from reconciler.documents.files import Placed
from reconciler.documents.schema import reference_problems
from reconciler.documents.tree import Map, Node, Scalar, at, entries, leaves, plain, text, texts
from reconciler.documents.walk import lies_in
from reconciler.model.source import NOWHERE, Problem, SourceLine
from reconciler.model.values import replace

_WHOLE: Final = {("suspend",)}  # half of one person's word and half of another's is nobody's
_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}|[{}]")


class Shared(Struct, frozen=True):
    """
    One `kind: Defaults` document, for servers in `folder` and below.

    `selector` is empty when it is for all of these.
    """

    folder: str
    label: str
    selector: Mapping[str, str]
    spec: Map

    def selects(self, folder: str, labels: Mapping[str, str]) -> bool:
        return lies_in(folder, self.folder) and all(
            labels.get(key) == value for key, value in self.selector.items()
        )


def shared(placed: Placed) -> Shared:
    root = placed.root
    spec = at(root, "spec")
    return Shared(
        placed.folder,
        text(root, "metadata", "name") or f"{root.source.file}:{root.source.line}",
        texts(root, "selector"),
        spec if isinstance(spec, Map) else Map({}, {}, root.source),
    )


class Merged(Struct, frozen=True):
    """
    A server's document after merging, and the layers that it was made of, highest first.

    `place` is that of its own file.
    """

    root: Map
    own: Map
    layers: tuple[Shared, ...]
    place: str

    def origin(self, path: Sequence[str]) -> str | None:
        """Return the label of the `Defaults` that gave the value at *path*; None: the server."""
        if path[0] != "spec" or at(self.own, *path) is not None:
            return None
        return next((s.label for s in self.layers if at(s.spec, *path[1:]) is not None), None)

    def foreign(self, *path: str) -> SourceLine | None:
        """Return where the value at *path* stands, when that is another file than the server's."""
        node = at(self.root, *path)
        if node is None or node.source.file == self.own.source.file:
            return None
        return node.source


def merged(placed: Placed, everything: Sequence[Shared], problems: list[Problem]) -> Merged:
    """Return a server's document with all that applies to it; disagreements are appended."""
    root = placed.root
    own = at(root, "spec")
    if not isinstance(own, Map):
        return Merged(root, root, (), placed.place)
    name = text(root, "metadata", "name")
    labels = texts(root, "metadata", "labels")
    chosen = [s for s in everything if s.selects(placed.folder, labels)]
    if not chosen:
        return Merged(root, root, (), placed.place)
    layers = [replace(s, spec=_filled(s.spec, name)) for s in chosen]
    selective = [s.spec for s in layers if s.selector]
    general = [s.spec for s in layers if not s.selector]
    first = _joined(selective, (own,), problems)
    second = _joined(general, (own, *selective), problems)
    spec = _completed(_over(_over(second, first), own), entries(own, "exchanges"))
    result = replace(root, entries={**root.entries, "spec": spec})
    layers.sort(key=lambda s: not s.selector)
    return Merged(result, root, tuple(layers), placed.place)


def _placeholders(path: tuple[str, ...], server: str) -> dict[str, str]:
    """Return what stands for what in the reference at *path* of a spec; empty where none is."""
    match path:
        case ("accessSecret" | "accessToken",):
            return {"{server}": server}
        case ("exchanges", code, "credentials", *_):
            return {"{server}": server, "{exchange}": code}
    return {}


def _filled(spec: Map, server: str, *path: str) -> Map:
    """Replace the placeholders in a `Defaults` spec, or in the mapping at *path* of one."""

    def filled(node: Node, here: tuple[str, ...]) -> Node:
        if isinstance(node, Map):
            return _filled(node, server, *here)
        known = _placeholders(here, server)
        if not known or not isinstance(node, Scalar) or not isinstance(node.value, str):
            return node
        value = node.value
        for placeholder, name in known.items():
            value = value.replace(placeholder, name)
        return Scalar(value, node.source)

    children = {key: filled(child, (*path, key)) for key, child in spec.entries.items()}
    return replace(spec, entries=children)


def _joined(
    same_rank: Sequence[Map], higher: Sequence[Map], problems: list[Problem], *path: str
) -> Map:
    """Merge documents of one rank, which must agree wherever no *higher* one decides."""
    found: dict[str, Node] = {}
    keys: dict[str, SourceLine] = {}
    for key in dict.fromkeys(key for one in same_rank for key in one.entries):
        having = [one for one in same_rank if key in one.entries]
        values = [one.entries[key] for one in having]
        here = (*path, key)
        keys[key] = having[0].keys[key]
        found[key] = values[0]
        maps = [value for value in values if isinstance(value, Map) and here not in _WHOLE]
        if len(maps) == len(values) > 1:
            found[key] = _joined(maps, higher, problems, *here)
            continue
        if any(at(one, *here) is not None for one in higher):
            continue
        for one, value in zip(having[1:], values[1:], strict=True):
            if plain(value) != plain(values[0]):
                problems.append(
                    Problem(
                        one.keys[key],
                        f"these Defaults and those at {keys[key]} disagree on {key}",
                        "give the server its own value, or select different servers",
                    )
                )
    return Map(found, keys, same_rank[0].source if same_rank else NOWHERE)


def _over(low: Map, high: Map, *path: str) -> Map:
    found = dict(low.entries)
    if len(path) == 2 and text(high, "state") == "absent":  # noqa: PLR2004  - one exchange
        found.pop("credentials", None)
    for key, value in high.entries.items():
        below = found.get(key)
        whole = (*path, key) in _WHOLE
        if isinstance(value, Map) and isinstance(below, Map) and not whole:
            found[key] = _over(below, value, *path, key)
        else:
            found[key] = value
    keys = {key: source for key, source in {**low.keys, **high.keys}.items() if key in found}
    return Map(found, keys, high.source)


def _completed(spec: Map, named: Mapping[str, Node]) -> Map:
    """Drop exchanges that Defaults only complete (no credentials) and the server does not name."""
    exchanges = at(spec, "exchanges")
    if not isinstance(exchanges, Map):
        return spec
    kept = {
        code: node
        for code, node in exchanges.entries.items()
        if code in named or at(node, "credentials")
    }
    keys = {code: exchanges.keys[code] for code in kept}
    return replace(spec, entries={**spec.entries, "exchanges": Map(kept, keys, exchanges.source)})


def template_problems(document: Shared) -> Iterator[Problem]:
    """Yield what is wrong with the references of a `Defaults` document, whomever it selects."""
    for path, node in leaves(document.spec):
        known = _placeholders(path, "x")
        if not known or not isinstance(node, Scalar) or not isinstance(node.value, str):
            continue
        if any(found not in known for found in _PLACEHOLDER.findall(node.value)):
            yield Problem(
                node.source,
                "a reference holds a placeholder that nothing replaces here",
                f"known here: {' and '.join(known)}",
            )
            continue
        whole = path[2:] == ("credentials",)  # one secret that holds all of an exchange's fields
        yield from reference_problems(
            _PLACEHOLDER.sub("x", node.value), node.source, field=not whole
        )
