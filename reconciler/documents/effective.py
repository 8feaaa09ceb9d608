"""A server's document after merging, with the origin of each value; for `jtr show`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from reconciler.documents.defaults import Merged
from reconciler.documents.schema import CONFIG, document, resolved
from reconciler.documents.tree import Map, Node, at, entries, leaves, plain
from reconciler.model.source import NOWHERE, SourceLine

BUILT_IN: Final = "built in"


class EffectiveValue(Struct, frozen=True):
    """
    One value of an effective document.

    `path` is as people write it (`spec.exchanges.bybit.credentials`), `value` its text.
    `from_default` names the `Defaults` document that gave it, or is `BUILT_IN` (then `origin` is
    `NOWHERE`); None means that the server's own document says so.
    """

    path: str
    value: str
    origin: SourceLine
    from_default: str | None


class Effective(Struct, frozen=True):
    """What holds for one server; put together when it is asked for, which few commands do."""

    result: Merged

    @property
    def values(self) -> tuple[EffectiveValue, ...]:
        root = self.result.root
        rows = [
            EffectiveValue(
                ".".join(path), _shown(plain(leaf)), leaf.source, self.result.origin(path)
            )
            for path, leaf in leaves(root)
        ]
        rows += _built_in(root)
        return tuple(sorted(rows, key=lambda row: row.path))

    def as_document(self) -> dict[str, Any]:
        """Return the merged document as plain JSON values, without built-in defaults."""
        return {key: plain(node) for key, node in self.result.root.entries.items()}


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _built_in(root: Map) -> Iterator[EffectiveValue]:
    """Yield what holds because nobody wrote anything else, from the schema's own words."""

    def below(about: Mapping[str, Any], node: Node | None, path: str) -> Iterator[EffectiveValue]:
        about = resolved(about, CONFIG)
        if node is None and "default" in about:
            yield EffectiveValue(path, _shown(about["default"]), NOWHERE, BUILT_IN)
        elif isinstance(node, Map) or path == "spec.robots":
            written = entries(node)
            children = about.get("properties", {})
            more = about.get("additionalProperties")
            for key in (*children, *(key for key in written if key not in children)):
                if key == "security" and path != "spec":
                    continue  # what an exchange does not say here, the server says
                inner = children.get(key, more)
                if isinstance(inner, Mapping):
                    yield from below(inner, at(node, key), f"{path}.{key}")

    spec = document(CONFIG)["$defs"]["server"]["properties"]["spec"]
    yield from below(spec, at(root, "spec"), "spec")
