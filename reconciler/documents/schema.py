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
from reconciler.documents.tree import List, Map, Node, Scalar, keys, plain, size
from reconciler.documents.tree import text as text_at
from reconciler.model.references import SecretRef
from reconciler.model.source import Problem, SourceLine

CONFIG: Final = "config"
SETTINGS: Final = "settings"
POLICY: Final = "policy"
PLAN: Final = "plan"

PASTED: Final = (
    "this looks like a secret itself",
    "put it into Vault and write vault:MOUNT/PATH#FIELD; replace the key if this was ever pushed",
)
_NEVER_SHARED: Final = ("url", "account", "reboot", "cache", "takeOver", "state")
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
_VALUES_LIMIT: Final = 20_000  # of one document whose problems are looked for, one by one
_OLD_BOOLEANS: Final = ("yes", "no", "on", "off", "y", "n")
_OUR_VERSION: Final = re.compile(r"jtr/v[0-9]+[a-z0-9]*")
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
    return cast("Mapping[str, Any]", json.loads(text(name)))


def resolved(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what *about*, a part of the schema called *name*, says, or what it refers to."""
    if "$ref" not in about:
        return about
    return cast("Mapping[str, Any]", document(name)["$defs"][about["$ref"].rpartition("/")[2]])


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
    if size(node) > _VALUES_LIMIT:
        return [
            Problem(
                node.source,
                f"a document of more than {_VALUES_LIMIT:,} values, some of them wrong",
                "write one document for each server",
            )
        ]
    words = _Words(node, name)
    found = {p for error in _leaves(instance, name) for p in words.say(error)}
    if not found and not words.refused:
        return [Problem(node.source, "this does not fit the schema", "see `jtr schema`")]
    return sorted(found)


def _leaves(instance: object, name: str) -> Iterator[Any]:
    """Yield errors, not endlessly; an unknown kind of document is judged by its kind alone."""
    validator = worded_validator(name)
    if name == CONFIG:
        branches = ("if", "then", "else")
        envelope = {k: v for k, v in document(name).items() if k not in branches}
        outer = list(validator.evolve(schema=envelope).iter_errors(instance))
        if outer:
            foreign = [error for error in outer if list(error.absolute_path) == ["apiVersion"]]
            yield from foreign or outer
            if not foreign or len(foreign) < len(outer) or not _meant_for_us(instance):
                return
            # A slip of the finger: all other mistakes are said at once, too.
            ours = document(name)["properties"]["apiVersion"]["enum"][0]
            instance = {**cast("Mapping[str, object]", instance), "apiVersion": ours}
    for error in itertools.islice(validator.iter_errors(instance), _ERRORS_LIMIT):
        # A text that fits no pattern because it is empty has an error for that as well.
        if (error.validator, error.instance) != ("pattern", "") or "minLength" not in error.schema:
            yield error


def _meant_for_us(instance: object) -> bool:
    """Whether a document of our kind has a mistyped version, and not one that is yet to come."""
    version = instance.get("apiVersion") if isinstance(instance, Mapping) else None
    return _OUR_VERSION.fullmatch(str(version)) is None


class _Words:
    """Says errors of one document in words; `refused` counts those that need none."""

    def __init__(self, root: Node, name: str) -> None:
        self._root = root
        self._schema = name
        self._shared = text_at(root, "kind") == "Defaults"
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
            key = error.instance if isinstance(error.instance, str) else ""
            wanted = about.get("patternErrorMessage", "a known name")
            source = keys(node).get(key, node.source)
            yield Problem(source, f"a key of {where} is not {wanted}", "write it so")
        elif error.validator == "additionalProperties":
            yield from self._unknown_keys(node, about, where)
        elif error.validator == "required":
            yield from self._missing(node, about, where)
        else:
            yield Problem(node.source, *_wrong(node, error, about, where))

    def _node(self, path: Sequence[str | int]) -> Node:
        node = self._root
        for step in path:
            if isinstance(node, Map) and isinstance(step, str):
                node = node.entries[step]
            elif isinstance(node, List) and isinstance(step, int):
                node = node.items[step]
        return node

    def _unknown_keys(self, node: Node, about: Mapping[str, Any], where: str) -> Iterator[Problem]:
        known = list(about.get("properties", ()))
        for key, source in keys(node).items():
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

    def _missing(self, node: Node, about: Mapping[str, Any], where: str) -> Iterator[Problem]:
        # jsonschema yields an error for each missing key; only its text says which.
        for key in about["required"]:
            if key not in keys(node):
                wanted = resolved(about.get("properties", {}).get(key, {}), self._schema)
                example = _example(wanted)
                remedy = f"add {key}: {example}" if len(example) < _LONG else f"add {key}"
                yield Problem(node.source, f"{where} has no {key}", remedy)


def _wrong(node: Node, error: Any, about: Mapping[str, Any], where: str) -> tuple[str, str]:
    value = node.value if isinstance(node, Scalar) else None
    reference = isinstance(node, Scalar) and _expects_reference(about)
    match error.validator:
        case "type":
            return _wrong_type(node, about, where)
        case "enum" | "const":
            options = about.get("enum") or [about["const"]]
            several = len(options) > 1
            near = closest(value, options) if isinstance(value, str) and several else None
            return (
                f"{where} must be {'one of ' if several else ''}{', '.join(options)}",
                f"did you mean {near}?" if near else f"write {options[0]}",
            )
        case _ if reference and not str(value).startswith("vault:"):
            return _no_reference(str(value), field="#" in about.get("pattern", ""))
        case keyword if keyword in _LIMITS and (keyword != "minLength" or value == ""):
            what, remedy = _LIMITS[keyword]
            return (
                f"{where} {what}",
                remedy.format(limit=error.validator_value, example=_example(about)),
            )
    field = "#" in about.get("pattern", "")
    for problem in reference_problems(str(value), node.source, field=field) if reference else ():
        return problem.what, problem.remedy
    wanted = about.get("patternErrorMessage", "what the schema wants")
    return f"{where} is not {wanted}", f"write for example {_example(about)}"


def _no_reference(value: str, *, field: bool) -> tuple[str, str]:
    """Say what is wrong with a text that may be a key, or a path before which `vault:` lacks."""
    if "/" not in value or looks_secret(value) or SecretRef.parse(f"vault:{value}") is None:
        return PASTED
    place = "vault:MOUNT/PATH#FIELD" if field else "vault:MOUNT/PATH"
    pasted = "if this is a key itself, put it into Vault, and replace it if it was ever pushed"
    return "the reference does not begin with vault:", f"write {place}; {pasted}"


def _wrong_type(node: Node, about: Mapping[str, Any], where: str) -> tuple[str, str]:
    wanted = about["type"] if isinstance(about["type"], list) else [about["type"]]
    if isinstance(node, Scalar) and node.value is None:
        return f"{where} is empty", f"write {_example(about)}"
    if isinstance(node, Scalar) and "string" in wanted:
        if _expects_reference(about):
            return PASTED
        read = "true or false" if isinstance(node.value, bool) else "a number"
        return f"{where} must be text, but YAML reads it as {read}", "quote it with double quotes"
    if isinstance(node, Scalar) and wanted == ["boolean"]:
        old = str(node.value).lower() in _OLD_BOOLEANS
        why = ": in YAML 1.2 yes, no, on and off are text" if old else ", without quotes"
        return f"{where} must be true or false", f"write true or false{why}"
    words = " or ".join(TYPES[kind] for kind in wanted)
    return f"{where} must be {words}", f"write {_example(about)}"


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


def _example(about: Mapping[str, Any]) -> str:
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
    import difflib  # noqa: PLC0415  - only for what is wrong

    if len(word) > 40:  # noqa: PLR2004  - no known word is; comparing long texts is slow
        return None
    folded = {candidate.casefold().replace("_", ""): candidate for candidate in known}
    near = difflib.get_close_matches(word.casefold().replace("_", ""), folded, 1, 0.75)
    return folded[near[0]] if near else None
