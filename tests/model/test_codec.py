"""Dataclasses become JSON objects and come back; what is not exactly one is never guessed at."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, field

from reconciler.model.codec import Codec, Inline, Later, Malformed, Named, Seconds, parsed
from reconciler.model.values import replace


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(Struct, frozen=True):
    number: int
    words: tuple[str, ...] = ()


class Whole(Struct, frozen=True):
    part: Inline[Part]
    text: str
    flag: bool
    fraction: float
    wait: Seconds
    at: datetime
    colour: Annotated[Colour, Named("paint")]
    pair: tuple[str, int]
    maybe: int | None = None
    parts: tuple[Part, ...] = ()
    by_name: Mapping[str, Part] = field(default_factory=dict)
    by_colour: Mapping[Colour, int] = field(default_factory=dict)
    colours: frozenset[Colour] = frozenset()
    anything: Any = None


CODEC = Codec()
AT = datetime(2026, 11, 22, 12, 0, 0, 5, UTC)
WHOLE = Whole(
    Part(7, ("a", "\ud83d")),
    "CANARY",
    flag=True,
    fraction=1.5,
    wait=30,
    at=AT,
    colour=Colour.RED,
    pair=("x", 2),
    maybe=None,
    parts=(Part(1), Part(2, ("b",))),
    by_name={"z": Part(3), "a": Part(4)},
    by_colour={Colour.RED: 1, Colour.BLUE: 2},
    colours=frozenset({Colour.RED, Colour.BLUE}),
    anything={"k": [1, None]},
)
WRITTEN = {
    "format": 1,
    "number": 7,
    "words": ["a", "\ud83d"],
    "text": "CANARY",
    "flag": True,
    "fraction": 1.5,
    "wait": 30,
    "at": "2026-11-22T12:00:00.000005Z",
    "paint": "red",
    "pair": ["x", 2],
    "maybe": None,
    "parts": [{"number": 1, "words": []}, {"number": 2, "words": ["b"]}],
    "by_name": {"z": {"number": 3, "words": []}, "a": {"number": 4, "words": []}},
    "by_colour": {"blue": 2, "red": 1},
    "colours": ["blue", "red"],
    "anything": {"k": [1, None]},
}


def read(document: object) -> Whole:
    return CODEC.read(Whole, document, "it", format=1)


def test_fields_are_written_in_their_order_under_their_names() -> None:
    assert json.dumps(CODEC.write(WHOLE, format=1)) == json.dumps(WRITTEN)


def test_what_was_written_comes_back() -> None:
    assert read(parsed(json.dumps(WRITTEN))) == WHOLE
    assert type(read(WRITTEN).wait) is float


def test_another_spelling_is_one_of_the_codec() -> None:
    loud = Codec(
        named=str.upper, spelled=lambda at: f"{at:%Y}-01-01T00:00Z", more={str: (len, str)}
    )
    body = loud.write(WHOLE)

    assert (body["NUMBER"], body["TEXT"], body["AT"]) == (7, 6, "2026-01-01T00:00Z")
    assert body["paint"] == "red"
    assert loud.read(Whole, body, "it") == replace(
        WHOLE,
        part=Part(7, ("1", "1")),
        text="6",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        pair=("1", 2),
        parts=(Part(1), Part(2, ("1",))),
        by_name={"1": Part(4)},
    )


WRONG: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "text": (("text",), 5, "it.text is not text"),
    "text that is null": (("text",), None, "it.text is not text"),
    "whole number as text": (("number",), "7", "it.number is not a whole number"),
    "whole number as fraction": (("number",), 7.0, "it.number is not a whole number"),
    "whole number as truth": (("number",), True, "it.number is not a whole number"),
    "truth as number": (("flag",), 1, "it.flag is neither true nor false"),
    "fraction as truth": (("fraction",), True, "it.fraction is not a number"),
    "fraction without end": (("fraction",), float("inf"), "it.fraction is not a number"),
    "fraction that is none": (("fraction",), float("nan"), "it.fraction is not a number"),
    "fraction too large": (("fraction",), 10**400, "it.fraction is not a number"),
    "no time": (("wait",), 0, "it.wait is not a number of seconds"),
    "more than a day": (("wait",), 86_401, "it.wait is not a number of seconds"),
    "time that is none": (("wait",), float("nan"), "it.wait is not a number of seconds"),
    "no instant": (("at",), "soon", "it.at is no instant"),
    "instant without zone": (("at",), "2026-11-22T12:00:00", "it.at has no zone"),
    "instant before UTC began": (("at",), "0001-01-01T00:00:00+14:00", "it.at is no instant that"),
    "instant before all clocks": (
        ("at",),
        "1969-12-31T23:59:59Z",
        "it.at is no instant that a clock",
    ),
    "instant after UTC ends": (("at",), "9999-12-31T23:59:59-14:00", "it.at is no instant that a"),
    "instant as number": (("at",), 5, "it.at is not text"),
    "unknown word": (("paint",), "CANARY", "it.paint has a word that this version does not know"),
    "word as list": (("paint",), [], "it.paint is not text"),
    "unknown name": (("by_colour",), {"CANARY": 1}, "it.by_colour has a word that this version"),
    "too many": (("pair",), ["x", 2, 3], "it.pair is not a list of 2"),
    "too few": (("pair",), ["x"], "it.pair is not a list of 2"),
    "of a wrong type": (("pair", 1), "x", "it.pair is not a whole number"),
    "no list": (("parts",), {}, "it.parts is not a list"),
    "no object in a list": (("parts", 0), 1, "it.parts is not an object"),
    "deep": (("parts", 1, "words", 0), None, "it.parts.words is not text"),
    "deep by name": (("by_name", "z", "number"), None, "it.by_name.number is not a whole number"),
    "no object": (("by_name",), [], "it.by_name is not an object"),
    "no set": (("colours",), "red", "it.colours is not a list"),
    "surplus": (("more",), 1, "it has fields that this version does not know"),
    "surplus deep": (("parts", 0, "more"), 1, "it.parts has fields that this version does not"),
    "newer": (("format",), 2, "its format is 2: a newer jtr wrote it, this one knows 1"),
    "format as truth": (("format",), True, "its format is not 1, the one that this version knows"),
}


@pytest.mark.parametrize("name", WRONG, ids=str)
def test_what_is_wrong_is_said_with_its_place_and_without_content(name: str) -> None:
    path, value, words = WRONG[name]
    document = json.loads(json.dumps(WRITTEN))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    with pytest.raises(Malformed) as caught:
        read(document)
    assert str(caught.value).startswith(words)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("name", WRITTEN, ids=str)
def test_every_field_must_be_there(name: str) -> None:
    with pytest.raises(Malformed, match=f"^it has no {name}$"):
        read({key: value for key, value in WRITTEN.items() if key != name})


@pytest.mark.parametrize("document", [None, [], "x", 1])
def test_a_document_is_an_object(document: object) -> None:
    with pytest.raises(Malformed, match=r"^it is not an object$"):
        read(document)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[" * 41 + "]" * 41, "it is nested too deeply"),
        ('{"a":' * 500 + "[]" + "}" * 500, "it is nested too deeply"),
        ("9" * 5000, "it is not JSON"),
        (b'"\xff"', "it is not JSON"),
        ('"\ud800"'.encode("utf-8", "surrogatepass"), "it is not JSON"),
        ('{"a":{"b":1,"b":1}}', "a name occurs twice"),
        ("[NaN]", "a number is not finite"),
        ("[-Infinity]", "a number is not finite"),
        ("[0.1e9990]", "a number is not finite"),
        (b'{"a":-1e309}', "a number is not finite"),
    ],
    ids=range(13),
)
def test_what_is_no_json_of_ours(text: str | bytes, words: str) -> None:
    with pytest.raises(Malformed, match=f"^{words}$"):
        parsed(text)


NAMES = st.text(max_size=3)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=50,
)
SPELLINGS: list[dict[str, Any]] = [
    {"separators": (",", ":")},
    {"separators": (",", ":"), "ensure_ascii": False},
    {"indent": 1},
]


@given(VALUES, st.sampled_from(SPELLINGS))
def test_every_spelling_of_json_is_read_alike(value: Any, spelling: dict[str, Any]) -> None:
    text = json.dumps(value, **spelling)

    assert repr(parsed(text)) == repr(json.loads(text))  # of numbers the kind, too


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), st.data())
def test_no_spelling_hides_a_name_that_occurs_twice(
    value: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(value)))
    text = json.dumps(value, separators=(",", ":"))
    again = f"{text[:-1]},{json.dumps(name)}:{json.dumps(value[name], separators=(',', ':'))}}}"

    with pytest.raises(Malformed, match="twice"):
        parsed(again)


def test_a_type_that_no_document_holds_is_a_mistake_of_ours() -> None:
    class Odd(Struct, frozen=True):
        value: complex

    with pytest.raises(TypeError, match="no document holds"):
        CODEC.write(Odd(1j))


class Grown(Struct, frozen=True):
    """A document that got a field in a later version."""

    text: str
    since: Later[Mapping[str, str]] = field(default_factory=dict)


def test_a_field_that_came_later_may_be_missing_and_is_written_only_once_it_says_something() -> (
    None
):
    assert CODEC.read(Grown, {"text": "x"}, "grown") == Grown("x")
    assert CODEC.write(Grown("x")) == {"text": "x"}
    grown = Grown("x", {"a": "b"})
    assert CODEC.read(Grown, CODEC.write(grown), "grown") == grown
    with pytest.raises(Malformed, match=r"grown\.since"):
        CODEC.read(Grown, {"text": "x", "since": 5}, "grown")
    with pytest.raises(Malformed, match="has no text"):
        CODEC.read(Grown, {"since": {}}, "grown")
    with pytest.raises(Malformed, match="does not know"):
        CODEC.read(Grown, {"text": "x", "until": "y"}, "grown")
