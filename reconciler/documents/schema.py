"""
The JSON Schemas: a fast verdict, and every problem in our own words.

A valid document is judged by jsonschema-rs in microseconds.  An invalid one is looked at again by
jsonschema, whose errors give the keyword and the path; their texts quote values and are never
shown.  Both are asked to ignore `format`, which they judge differently.
"""

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from reconciler.documents.formats import looks_secret
from reconciler.documents.tree import List, Map, Node, Scalar, plain
from reconciler.model.references import SecretRef
from reconciler.model.source import Problem, SourceLine

CONFIG: Final = "config"
SETTINGS: Final = "settings"

PASTED: Final = (
    "this looks like a secret itself",
    "put it into Vault and write vault:MOUNT/PATH#FIELD; replace the key if this was ever pushed",
)
_NEVER_SHARED: Final = ("url", "account", "reboot", "cache", "takeOver")
TYPES: Final = {
    "string": "text",
    "object": "a mapping",
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
}
_LIMITS: Final = {
    "minProperties": ("is empty", "write {example}"),
    "minItems": ("is empty", "write {example}"),
    "minLength": ("is empty", "write {example}"),
    "maxProperties": ("is too long", "the limit is {limit}"),
    "maxItems": ("is too long", "the limit is {limit}"),
    "maxLength": ("is too long", "the limit is {limit} characters"),
    "minimum": ("is too small", "write at least {limit}"),
    "maximum": ("is too large", "write at most {limit}"),
    "uniqueItems": ("names something twice", "remove one of them"),
}
_LONG: Final = 80  # longer examples are in the documentation
_GUESSES_LIMIT: Final = 50
_ERRORS_LIMIT: Final = 1000  # per document; more would only cost time
_OLD_BOOLEANS: Final = ("yes", "no", "on", "off", "y", "n")
_KEY_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,19}")


def text(name: str) -> str:
    """Return the schema called *name* (`config`, `settings`), from the wheel or the checkout."""
    file = f"{name}.schema.json"
    # Not importlib.resources: it costs a tenth of a whole `jtr validate`.
    package = Path(__file__).parent.parent
    packed = package / "_schemas" / file
    return (packed if packed.is_file() else package.parent / "schemas" / file).read_text("utf-8")


@functools.cache
def document(name: str) -> Mapping[str, Any]:
    """Return the schema called *name* as JSON values."""
    return cast("Mapping[str, Any]", json.loads(text(name)))


def valid(instance: object, name: str) -> bool:
    """Return whether *instance* (plain JSON values) fits the schema called *name*."""
    return _verdict(name)(instance)


@functools.cache
def _verdict(name: str) -> Callable[[object], bool]:
    try:
        import jsonschema_rs  # noqa: PLC0415  - optional
    except ImportError:
        return worded_validator(name).is_valid  # type: ignore[no-any-return]  # see there
    fast = jsonschema_rs.Draft202012Validator(text(name), validate_formats=False)
    return fast.is_valid


@functools.cache
def worded_validator(name: str) -> Any:
    """Return jsonschema's validator; 140 ms to import, so only for what is invalid."""
    import jsonschema  # noqa: PLC0415
    import referencing  # noqa: PLC0415

    def pattern(_: object, wanted: str, instance: object, __: object) -> Iterator[Exception]:
        # Python's `$` matches before a final newline; the schema's does not.
        if isinstance(instance, str) and not re.search(wanted.removesuffix("$") + r"\Z", instance):
            yield jsonschema.ValidationError("pattern")

    def unique(_: object, wanted: object, instance: object, __: object) -> Iterator[Exception]:
        # The original one is quadratic on lists of mixed types.
        if not isinstance(instance, list) or not wanted:
            return
        if len({json.dumps(item, sort_keys=True) for item in instance}) < len(instance):
            yield jsonschema.ValidationError("uniqueItems")

    own = jsonschema.validators.extend(  # type: ignore[no-untyped-call]  # its stubs have none
        jsonschema.Draft202012Validator, {"pattern": pattern, "uniqueItems": unique}
    )
    # An empty registry: jsonschema would fetch an unknown `$ref` from the network.
    return own(document(name), registry=referencing.Registry())


def problems(node: Node, name: str) -> list[Problem]:
    """
    Return everything that keeps *node* from fitting the schema called *name*, sorted by place.

    Empty exactly when `valid` says yes; except that values which the loader has refused already
    are not mentioned twice.
    """
    instance = plain(node)
    if valid(instance, name):
        return []
    words = _Words(node, name)
    found = {
        p for error in _leaves(worded_validator(name), instance, name) for p in words.say(error)
    }
    if not found and not words.refused:
        return [Problem(node.source, "this does not fit the schema", "see `jtr schema`")]
    return sorted(found)


def _leaves(validator: Any, instance: object, name: str) -> Iterator[Any]:
    """Yield errors, not endlessly; an unknown kind of document is judged by its kind alone."""
    if name == CONFIG:
        branches = ("if", "then", "else")
        envelope = {k: v for k, v in document(name).items() if k not in branches}
        outer = list(validator.evolve(schema=envelope).iter_errors(instance))
        foreign = [error for error in outer if list(error.absolute_path) == ["apiVersion"]]
        if outer:
            yield from foreign or outer
            return
    errors = itertools.islice(validator.iter_errors(instance), _ERRORS_LIMIT)
    yield from (error for error in errors if not _is_said(error))


def _is_said(error: Any) -> bool:
    """Return whether a text fits no pattern because it is empty, which is an error of its own."""
    return error.validator == "pattern" and error.instance == "" and "minLength" in error.schema


class _Words:
    """Says errors of one document in words; `refused` counts those that need none."""

    def __init__(self, root: Node, name: str) -> None:
        self._root = root
        self._shared = (
            isinstance(root, Map)
            and plain(root.entries.get("kind", Scalar(None, root.source))) == "Defaults"
        )
        self._settings = name == SETTINGS
        self._guesses = 0
        self.refused = 0

    def say(self, error: Any) -> Iterator[Problem]:
        path = list(error.absolute_path)
        node = self._node(path)
        if isinstance(node, Scalar) and not node.sound:
            self.refused += 1
            return
        where = place_name(path)
        about = error.schema if isinstance(error.schema, Mapping) else {}
        if "propertyNames" in error.relative_schema_path:
            yield self._bad_key(node, error, where)
            return
        match error.validator:
            case "additionalProperties":
                yield from self._unknown_keys(node, about, where)
            case "required":
                yield from self._missing(node, error, where)
            case "type":
                yield self._wrong_type(node, about, where)
            case "enum" | "const":
                yield self._not_one_of(node, about, where)
            case _ if _expects_reference(about) and not _is_vault(node):
                yield Problem(node.source, *PASTED)
            case "minLength" if not (isinstance(node, Scalar) and node.value == ""):
                yield self._malformed(node, about, where)
            case keyword if keyword in _LIMITS:
                what, remedy = _LIMITS[keyword]
                remedy = remedy.format(limit=error.validator_value, example=_example(about))
                yield Problem(node.source, f"{where} {what}", remedy)
            case _:
                yield self._malformed(node, about, where)

    def _malformed(self, node: Node, about: Mapping[str, Any], where: str) -> Problem:
        if _expects_reference(about) and isinstance(node, Scalar):
            field = "#" in about["pattern"]
            wrong = next(reference_problems(str(node.value), node.source, field=field), None)
            if wrong is not None:
                return wrong
        wanted = about.get("patternErrorMessage", "what the schema wants")
        return Problem(
            node.source, f"{where} is not {wanted}", f"write for example {_example(about)}"
        )

    def _node(self, path: Sequence[str | int]) -> Node:
        node = self._root
        for step in path:
            if isinstance(node, Map) and isinstance(step, str):
                node = node.entries[step]
            elif isinstance(node, List) and isinstance(step, int):
                node = node.items[step]
        return node

    def _bad_key(self, node: Node, error: Any, where: str) -> Problem:
        key = error.instance if isinstance(error.instance, str) else ""
        source = node.keys.get(key, node.source) if isinstance(node, Map) else node.source
        wanted = error.schema.get("patternErrorMessage", "a known name")
        return Problem(source, f"a key of {where} is not {wanted}", "write it so")

    def _unknown_keys(self, node: Node, about: Mapping[str, Any], where: str) -> Iterator[Problem]:
        known = list(about.get("properties", ()))
        for key, source in node.keys.items() if isinstance(node, Map) else ():
            if key in known:
                continue
            if self._shared and key in _NEVER_SHARED:
                yield Problem(
                    source, f"Defaults never carry {key}", "write it in each server's document"
                )
                continue
            if looks_secret(key):
                yield Problem(source, *PASTED)
                continue
            self._guesses += 1  # comparing is slow, and a hundred guesses help nobody
            near = closest(key, known) if self._guesses <= _GUESSES_LIMIT else None
            name = key if _KEY_WORD.fullmatch(key) else "this key"
            yield Problem(
                source,
                f"{name} is not known in {where}",
                f"did you mean {near}?" if near else f"known here: {', '.join(sorted(known))}",
            )

    def _missing(self, node: Node, error: Any, where: str) -> Iterator[Problem]:
        # jsonschema yields an error for each missing key; only its text says which.
        properties = error.schema.get("properties", {})
        for key in error.validator_value:
            if isinstance(node, Map) and key not in node.entries:
                about = self._resolved(properties.get(key, {}))
                example = _example(about)
                remedy = f"add {key}: {example}" if len(example) < _LONG else f"add {key}"
                yield Problem(node.source, f"{where} has no {key}", remedy)

    def _resolved(self, about: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in about:
            return about
        name = SETTINGS if self._settings else CONFIG
        return cast("Mapping[str, Any]", document(name)["$defs"][about["$ref"].rpartition("/")[2]])

    def _wrong_type(self, node: Node, about: Mapping[str, Any], where: str) -> Problem:
        wanted = about["type"] if isinstance(about["type"], list) else [about["type"]]
        words = " or ".join(TYPES[kind] for kind in wanted)
        if isinstance(node, Scalar):
            if node.value is None:
                return Problem(node.source, f"{where} is empty", f"write {_example(about)}")
            if "string" in wanted:
                if _expects_reference(about):
                    return Problem(node.source, *PASTED)
                what = "true or false" if isinstance(node.value, bool) else "a number"
                return Problem(
                    node.source,
                    f"{where} must be text, but YAML reads it as {what}",
                    "quote it with double quotes",
                )
            if wanted == ["boolean"] and str(node.value).lower() in _OLD_BOOLEANS:
                return Problem(
                    node.source,
                    f"{where} must be true or false",
                    "write true or false: in YAML 1.2 yes, no, on and off are text",
                )
            if wanted == ["boolean"]:
                return Problem(
                    node.source, f"{where} must be {words}", "write true or false, without quotes"
                )
        return Problem(node.source, f"{where} must be {words}", f"write {_example(about)}")

    def _not_one_of(self, node: Node, about: Mapping[str, Any], where: str) -> Problem:
        options = about.get("enum") or [about["const"]]
        what = (
            f"must be one of {', '.join(options)}" if len(options) > 1 else f"must be {options[0]}"
        )
        value = node.value if isinstance(node, Scalar) else None
        near = closest(value, options) if isinstance(value, str) and len(options) > 1 else None
        remedy = f"did you mean {near}?" if near else f"write {options[0]}"
        return Problem(node.source, f"{where} {what}", remedy)


def reference_problems(value: str, source: SourceLine, *, field: bool) -> Iterator[Problem]:
    """Yield what is wrong with a reference that must (or must not) name a field."""
    reference = SecretRef.parse(value)
    if reference is None and "{" in value:
        yield Problem(source, "placeholders are replaced in Defaults only", "write the name itself")
    elif reference is None:
        yield Problem(
            source,
            "this is not a reference to a secret",
            "write vault:MOUNT/PATH#FIELD: letters, digits, `_`, `-` and single dots between `/`",
        )
    elif field and reference.field is None:
        yield Problem(source, "the reference names no field", "write vault:MOUNT/PATH#FIELD")
    elif not field and reference.field is not None:
        yield Problem(
            source,
            "the reference names one field, but all credentials of the exchange are wanted",
            "write vault:MOUNT/PATH, or one reference for each credential",
        )


def _expects_reference(about: Mapping[str, Any]) -> bool:
    return str(about.get("pattern", "")).startswith("^vault:")


def _is_vault(node: Node) -> bool:
    return not isinstance(node, Scalar) or (
        isinstance(node.value, str) and node.value.startswith("vault:")
    )


def _example(about: Mapping[str, Any]) -> str:
    """Return the schema's own example of what *about* describes."""
    example = about["examples"][0]
    return example if isinstance(example, str) else json.dumps(example)


def place_name(path: Iterable[str | int]) -> str:
    """Return a path as people write it (`spec.windows[0]`); a key that may be a secret is `?`."""
    name = ""
    for step in path:
        if isinstance(step, int):
            name += f"[{step}]"
        else:
            word = step if re.fullmatch(r"[A-Za-z0-9-]{1,40}", step) else "?"
            name += f".{'?' if looks_secret(step) else word}"
    return name.removeprefix(".") or "the document"


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that *word* was probably meant to be."""
    import difflib  # noqa: PLC0415  - only for what is wrong

    if len(word) > 40:  # noqa: PLR2004  - no known word is; comparing long texts is slow
        return None
    folded = {candidate.casefold().replace("_", ""): candidate for candidate in known}
    near = difflib.get_close_matches(word.casefold().replace("_", ""), folded, 1, 0.75)
    return folded[near[0]] if near else None
