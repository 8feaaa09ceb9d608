"""
Values that several servers share: which apply to a server, and how they merge.

Mappings merge, lists and single values replace; the server's own document wins over `Defaults`
with a selector, those over `Defaults` without one.  Two documents of the same rank that disagree
are an error, unless a higher rank decides.  In references `{server}` and `{exchange}` are replaced
by names; nothing else is ever substituted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.documents.schema import reference_problems
from reconciler.documents.tree import List, Map, Node, Scalar, at, plain, text
from reconciler.model.source import Problem, SourceLine

_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}|[{}]")
_REFERENCES: Final = ("accessSecret", "accessToken")


@dataclass(frozen=True, slots=True)
class Shared:
    """One `kind: Defaults` document; `selector` is empty when it is for all servers."""

    label: str
    selector: Mapping[str, str]
    spec: Map

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Return whether a server with these labels gets these values."""
        return all(labels.get(key) == value for key, value in self.selector.items())


def shared(root: Map) -> Shared:
    """Return a valid `Defaults` document as a value."""
    selector = at(root, "selector")
    spec = at(root, "spec")
    keys = selector.entries if isinstance(selector, Map) else {}
    return Shared(
        text(root, "metadata", "name") or f"{root.source.file}:{root.source.line}",
        {key: text(selector, key) for key in keys},
        spec if isinstance(spec, Map) else Map({}, {}, root.source),
    )


@dataclass(frozen=True, slots=True)
class Merged:
    """A server's document after merging, and the layers that it was made of, highest first."""

    root: Map
    own: Map
    layers: tuple[Shared, ...]

    def origin(self, path: Sequence[str]) -> str | None:
        """Return the label of the `Defaults` that gave the value at *path*; None: the server."""
        if path[0] != "spec" or at(self.own, *path) is not None:
            return None
        return next((s.label for s in self.layers if at(s.spec, *path[1:]) is not None), None)


def labels_of(root: Map) -> Mapping[str, str]:
    """Return a valid server document's labels."""
    found = at(root, "metadata", "labels")
    keys = found.entries if isinstance(found, Map) else {}
    return {key: text(found, key) for key in keys}


def merged(root: Map, everything: Sequence[Shared], problems: list[Problem]) -> Merged:
    """Return the server document *root* with all that applies to it; disagreements are appended."""
    own = at(root, "spec")
    if not isinstance(own, Map):
        return Merged(root, root, ())
    name = text(root, "metadata", "name")
    labels = labels_of(root)
    layers = [
        Shared(s.label, s.selector, filled)
        for s in everything
        if s.selects(labels) and isinstance(filled := _filled(s.spec, name), Map)
    ]
    selective = [s.spec for s in layers if s.selector]
    general = [s.spec for s in layers if not s.selector]
    first = _joined(selective, (own,), problems)
    second = _joined(general, (own, *selective), problems)
    spec = _over(_over(second, first), own)
    named = at(own, "exchanges")
    complete = _completed(spec, named.entries if isinstance(named, Map) else {})
    result = Map({**root.entries, "spec": complete}, root.keys, root.source)
    ranked = sorted(layers, key=lambda s: not s.selector)
    return Merged(result, root, tuple(ranked))


def _filled(node: Node, server: str, exchange: str = "", *, reference: bool = False) -> Node:
    """Replace placeholders in references; *node* is a `Defaults` spec, or something inside it."""
    match node:
        case Scalar(value=str() as value) if reference and "{" in value:
            value = value.replace("{server}", server)
            return Scalar(value.replace("{exchange}", exchange) if exchange else value, node.source)
        case Map() if exchange or reference:
            entries = {
                key: _filled(child, server, exchange, reference=reference or key == "credentials")
                for key, child in node.entries.items()
            }
            return Map(entries, node.keys, node.source)
        case Map():
            entries = {
                key: _exchanges(child, server)
                if key == "exchanges"
                else _filled(child, server, reference=True)
                if key in _REFERENCES
                else child
                for key, child in node.entries.items()
            }
            return Map(entries, node.keys, node.source)
        case _:
            return node


def _exchanges(node: Node, server: str) -> Node:
    if not isinstance(node, Map):
        return node
    entries = {code: _filled(child, server, code) for code, child in node.entries.items()}
    return Map(entries, node.keys, node.source)


def _joined(
    same_rank: Sequence[Map], higher: Sequence[Map], problems: list[Problem], *path: str
) -> Map:
    """Merge documents of one rank, which must agree wherever no *higher* one decides."""
    entries: dict[str, Node] = {}
    keys: dict[str, SourceLine] = {}
    for key in dict.fromkeys(key for one in same_rank for key in one.entries):
        having = [one for one in same_rank if key in one.entries]
        values = [one.entries[key] for one in having]
        here = (*path, key)
        keys[key] = having[0].keys[key]
        entries[key] = values[0]
        maps = [value for value in values if isinstance(value, Map)]
        if len(maps) == len(values) > 1:
            entries[key] = _joined(maps, higher, problems, *here)
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
    source = same_rank[0].source if same_rank else SourceLine("", 0, 0)
    return Map(entries, keys, source)


def _over(low: Map, high: Map, *path: str) -> Map:
    """Merge *high* over *low*."""
    entries = dict(low.entries)
    if path[:1] == ("exchanges",) and len(path) == 2:  # noqa: PLR2004  - one exchange
        # Whoever says `absent`, or where the credentials are, speaks for the other key as well.
        if text(high, "state") == "absent":
            entries.pop("credentials", None)
        if "credentials" in high.entries and "state" not in high.entries:
            entries.pop("state", None)
    for key, value in high.entries.items():
        below = entries.get(key)
        if isinstance(value, Map) and isinstance(below, Map):
            entries[key] = _over(below, value, *path, key)
        else:
            entries[key] = value
    keys = {key: source for key, source in {**low.keys, **high.keys}.items() if key in entries}
    return Map(entries, keys, high.source)


def _completed(spec: Map, named: Mapping[str, Node]) -> Map:
    """Drop exchanges that Defaults only complete (no credentials) and the server does not name."""
    exchanges = at(spec, "exchanges")
    if not isinstance(exchanges, Map):
        return spec
    kept = {
        code: node
        for code, node in exchanges.entries.items()
        if code in named or at(node, "credentials") or at(node, "state")
    }
    keys = {code: exchanges.keys[code] for code in kept}
    entries = {**spec.entries, "exchanges": Map(kept, keys, exchanges.source)}
    return Map(entries, spec.keys, spec.source)


def template_problems(document: Shared) -> Iterator[Problem]:
    """Yield what is wrong with the references of a `Defaults` document, whomever it selects."""
    for key in _REFERENCES:
        yield from _template(at(document.spec, key), ("{server}",), field=True)
    exchanges = at(document.spec, "exchanges")
    for exchange in exchanges.entries.values() if isinstance(exchanges, Map) else ():
        credentials = at(exchange, "credentials")
        both = ("{server}", "{exchange}")
        if isinstance(credentials, Map):
            for node in credentials.entries.values():
                yield from _template(node, both, field=True)
        else:
            yield from _template(credentials, both, field=False)


def _template(node: Node | None, allowed: Sequence[str], *, field: bool) -> Iterator[Problem]:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return
    if any(found not in allowed for found in _PLACEHOLDER.findall(node.value)):
        yield Problem(
            node.source,
            "a reference holds a placeholder that nothing replaces here",
            f"known here: {' and '.join(allowed)}",
        )
        return
    sample = node.value
    for placeholder in allowed:
        sample = sample.replace(placeholder, "x")
    yield from reference_problems(sample, node.source, field=field)


def leaves(node: Node, *path: str) -> Iterator[tuple[tuple[str, ...], Scalar | List]]:
    """Yield every value below *node* with its path; a list is one value."""
    if isinstance(node, Map):
        for key, child in node.entries.items():
            yield from leaves(child, *path, key)
    else:
        yield path, node
