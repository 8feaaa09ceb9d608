"""
Values as JSON objects, and back, by their type hints.  Pure.

Reading is strict: an object that is not exactly what would be written is `Malformed`, because
guessing what was meant could repeat a deed.  Messages hold names, never content.
"""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import (
    Annotated,
    Any,
    Final,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)
from typing import get_type_hints as hints_of

import msgspec
from msgspec import NODEFAULT, Struct, structs

from reconciler.model.timestamps import stamp

T = TypeVar("T")
Convert = Callable[[Any], Any]
Shape = tuple[Convert, Convert]  # how values of a type are written, and read: raises Malformed

INLINE: Final = "inline"
Inline = Annotated[T, INLINE]
"""A value whose fields stand among those of the object that holds it."""
LATER: Final = "later"
Later = Annotated[T, LATER]
"""A field that documents of earlier versions lack; while it is as by default it is not written."""
Seconds = Annotated[float, "seconds"]
"""A duration of more than nothing and at most a day."""
Stamp = Annotated[str, "stamp"]
"""An instant that is kept as the text that `reconciler.model.timestamps.stamp` made of it."""
StampOrEmpty = Annotated[str, "stamp or empty"]
_LONGEST: Final = 86_400.0
_DEEPEST: Final = 40  # levels; whatever we write has fewer than ten
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)  # no clock of ours shows less
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_UNIONS: Final = (Union, type(int | str))


class Named(Struct, frozen=True):
    """What a field is called in documents, as `Annotated[bool, Named("bindable")]`."""

    name: str


class Malformed(Exception):
    """Says what is wrong with a document and where, by names only, never by its content."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._place = ""

    def below(self, name: str) -> None:
        self._place = f"{name}.{self._place}" if self._place else name

    def __str__(self) -> str:
        return f"{self._place} {self.args[0]}".lstrip()


class Codec:
    """
    Writes and reads values; what is worked out for a type is kept.

    *named* gives fields their names in documents, *spelled* writes instants.  *more* are types that
    only this codec knows, and *namespace* what hints call that a module imports for checkers only.
    """

    def __init__(
        self,
        *,
        named: Callable[[str], str] = str,
        spelled: Callable[[datetime], str] = stamp,
        more: Mapping[Any, Shape] | None = None,
        namespace: dict[str, Any] | None = None,
    ) -> None:
        self._named: Final = named
        self._namespace: Final = namespace
        self._shapes: Final[dict[Any, Shape]] = {
            **_SHAPES,
            datetime: (spelled, _instant),
            **(more or {}),
        }

    def write(self, value: object, /, **head: object) -> dict[str, Any]:
        """Return *value* as an object that begins with the fields *head*."""
        return {**head, **self._shape(type(value))[0](value)}

    def read(self, kind: type[T], data: object, where: str, /, **head: object) -> T:
        """Read what `write` returned for one of *kind*, called *where*.  Raises Malformed."""
        rest = _behind(head, data, where)
        try:
            found: T = self._shape(kind)[1](rest)
        except Malformed as problem:
            problem.below(where)
            raise
        return found

    def _shape(self, hint: Any) -> Shape:
        if hint not in self._shapes:
            self._shapes[hint] = self._new_shape(hint)
        return self._shapes[hint]

    def _new_shape(self, hint: Any) -> Shape:
        origin, args = get_origin(hint), get_args(hint)
        if origin in _UNIONS and len(args) == 2 and args[1] is type(None):  # noqa: PLR2004
            return _or_none(*self._shape(args[0]))
        if origin is tuple and args[-1] is ...:
            return _list(*self._shape(args[0]), list, tuple)
        if origin is tuple:
            return _several([self._shape(arg) for arg in args])
        if origin is frozenset:
            return _list(*self._shape(args[0]), sorted, frozenset)
        if origin is Mapping:
            return _mapping(self._shape(args[0]), self._shape(args[1]), ordered=args[0] is not str)
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            return str, lambda value: _word(hint, value)
        if isinstance(hint, type) and issubclass(hint, Struct):
            return self._struct(hint)
        raise TypeError(f"no document holds a {hint}")

    def _struct(self, kind: Any) -> Shape:
        names, later, write, build = self._fields(kind)
        expected = frozenset(names)

        def read(data: Any) -> Any:
            if _object(data).keys() != expected:
                for name in names:
                    if name not in data and name not in later:
                        raise Malformed(f"has no {name}")
                if data.keys() - expected:
                    raise Malformed("has fields that this version does not know")
            return build(data)

        return write, read

    def _fields(self, kind: Any) -> tuple[list[str], dict[str, Any], Convert, Convert]:
        """
        Return the names of the fields, what those have that came later, and how all are written
        and read.
        """
        hints = hints_of(kind, localns=self._namespace, include_extras=True)
        names: list[str] = []
        later: dict[str, Any] = {}
        parts: list[_Part] = []
        for attribute in kind.__struct_fields__:
            hint = hints[attribute]
            marks = getattr(hint, "__metadata__", ())
            if INLINE in marks:
                inner, newer, put, take = self._fields(get_args(hint)[0])
                names += inner
                later |= newer
                parts.append(_Part(attribute, "", put, take))
                continue
            called = [mark.name for mark in marks if isinstance(mark, Named)]
            name = called[0] if called else self._named(attribute)
            names.append(name)
            if LATER in marks:
                later[name] = _default(kind, attribute)
            bare = get_args(hint)[0] if called or LATER in marks else hint
            parts.append(_Part(attribute, name, *self._shape(bare), later.get(name, _NEVER)))

        def write(value: Any) -> dict[str, Any]:
            body: dict[str, Any] = {}
            for part in parts:
                part.write(getattr(value, part.attribute), body)
            return body

        return names, later, write, lambda data: kind(*(part.read(data) for part in parts))


_NEVER: Final = object()
"""Equal to no value of a field."""


class _Part(NamedTuple):
    """One field of a value; its own fields stand among the others where it has no name."""

    attribute: str
    name: str
    put: Convert
    take: Convert
    default: Any = _NEVER

    def write(self, value: Any, body: dict[str, Any]) -> None:
        if not self.name:
            body.update(self.put(value))
        elif value != self.default:
            body[self.name] = self.put(value)

    def read(self, data: Mapping[str, Any]) -> Any:
        if self.default is not _NEVER and self.name not in data:
            return self.default
        try:
            return self.take(data[self.name] if self.name else data)
        except Malformed as problem:
            if self.name:
                problem.below(self.name)
            raise


def _default(kind: Any, attribute: str) -> Any:
    [found] = [one for one in structs.fields(kind) if one.name == attribute]
    return found.default if found.default_factory is NODEFAULT else found.default_factory()


def parsed(text: str | bytes) -> Any:
    """
    Parse JSON in which no name occurs twice, every number is finite and little is nested.

    Raises Malformed.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("ascii")  # nothing else is ever written to a file
        found = _quickly(text)
        if found is None:
            found = _DECODER.decode(text)
            _check_depth(found)
    except (ValueError, RecursionError):
        raise Malformed("it is not JSON") from None
    return found


def _quickly(text: str) -> Any:
    """
    Parse what is in the spelling of who wrote it, nearly everything that we read; else None.

    What is spelled the same again has no name twice and no number that is none.
    """
    if text.count("{") + text.count("[") > _DEEPEST:
        return None
    try:
        found = msgspec.json.decode(text)
        return found if msgspec.json.encode(found).decode() == text else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _check_depth(value: Any) -> None:
    """Refuse what would exhaust the stack of whoever prints or compares it."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise Malformed("it is nested too deeply")


def newer(document: object, name: str, known: object) -> int | None:
    """Return the number of the format of *document* where it is one from after *known*."""
    found = document.get(name) if isinstance(document, dict) else None
    return found if type(found) is int and isinstance(known, int) and found > known else None


def _behind(head: Mapping[str, object], data: object, where: str) -> dict[str, Any]:
    """Return the fields of an object but those of *head*, which must be as they are there."""
    if not isinstance(data, dict):
        raise Malformed(f"{where} is not an object")
    rest = dict(data)
    for name, expected in head.items():
        if name not in rest:
            raise Malformed(f"{where} has no {name}")
        if other := newer(data, name, expected):
            raise Malformed(
                f"its {name} is {other}: a newer jtr wrote it, this one knows {expected}"
            )
        value = rest.pop(name)
        if type(value) is not type(expected) or value != expected:
            raise Malformed(f"its {name} is not {expected!r}, the one that this version knows")
    return rest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a name occurs twice")
    return found


def _finite(spelled: str) -> float:
    """Read a number that `json` takes for a float; it makes infinity of what is too large."""
    if not math.isfinite(found := float(spelled)):
        raise Malformed("a number is not finite")
    return found


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite
)


# ── types ────────────────────────────────────────────────────────────────────────────────────


def _same(value: Any) -> Any:
    return value


def _exactly(kind: type, what: str) -> Convert:
    def read(value: Any) -> Any:
        if type(value) is not kind:  # True is an int to isinstance
            raise Malformed(what)
        return value

    return read


_object: Final = _exactly(dict, "is not an object")
_items: Final = _exactly(list, "is not a list")
_text: Final = _exactly(str, "is not text")


def _number(value: Any) -> float:
    try:
        if type(value) in (int, float) and math.isfinite(value):  # 1e999 is not
            return float(value)
    except OverflowError:
        pass
    raise Malformed("is not a number")


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= _LONGEST:
        raise Malformed("is not a number of seconds")
    return float(value)


def _instant(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        raise Malformed("is no instant") from None
    if moment.tzinfo is None:
        raise Malformed("has no zone")
    if not _EPOCH <= moment <= _LAST:
        raise Malformed("is no instant that a clock shows")  # nor could it be put in UTC
    return moment


def _stamp(value: Any) -> Any:
    _instant(value)
    return value


def _word(kind: type[StrEnum], value: Any) -> StrEnum:
    try:
        return kind(_text(value))
    except ValueError:
        raise Malformed("has a word that this version does not know") from None


def _or_none(write: Convert, read: Convert) -> Shape:
    return (
        lambda value: None if value is None else write(value),
        lambda value: None if value is None else read(value),
    )


def _list(write: Convert, read: Convert, written: Convert, made: Convert) -> Shape:
    return (
        lambda values: written(map(write, values)),
        lambda values: made(map(read, _items(values))),
    )


def _several(shapes: list[Shape]) -> Shape:
    def read(values: Any) -> Any:
        if len(_items(values)) != len(shapes):
            raise Malformed(f"is not a list of {len(shapes)}")
        return tuple(take(value) for (_, take), value in zip(shapes, values, strict=True))

    return (
        lambda values: [put(value) for (put, _), value in zip(shapes, values, strict=True)],
        read,
    )


def _mapping(key: Shape, value: Shape, *, ordered: bool) -> Shape:
    """Names of our own are put in order; those from outside stay as they came."""
    (put_key, take_key), (put, take) = key, value

    def write(values: Mapping[Any, Any]) -> dict[str, Any]:
        found = {put_key(name): put(item) for name, item in values.items()}
        return dict(sorted(found.items())) if ordered else found

    return (
        write,
        lambda values: {take_key(name): take(item) for name, item in _object(values).items()},
    )


_SHAPES: Final[Mapping[Any, Shape]] = {
    Any: (_same, _same),
    str: (_same, _text),
    int: (_same, _exactly(int, "is not a whole number")),
    float: (_same, _number),
    Seconds: (_same, _seconds),
    Stamp: (_same, _stamp),
    StampOrEmpty: (_same, lambda value: value if value == "" else _stamp(value)),
    bool: (_same, _exactly(bool, "is neither true nor false")),
}
