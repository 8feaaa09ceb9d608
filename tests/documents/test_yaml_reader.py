"""The strict YAML reader: scalars, places, limits."""

import time

import pytest

from reconciler.documents.tree import List, Map, Scalar, plain
from reconciler.documents.yaml_reader import BYTES_LIMIT, PROBLEMS_LIMIT, parse, scan
from reconciler.errors import InvalidConfig
from reconciler.model.source import SourceLine


def value(text: str) -> object:
    (root,) = parse(text.encode(), "f")
    return plain(root)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((word, word) for word in ("yes", "no", "on", "off", "y", "1_000", "1:30", "12:30:45")),
        *((word, word) for word in ("2026-11-22", "2026-11-22T09:30:00Z", "0b1", "0xg", "08:15")),
        *(
            ("true", True),
            ("True", True),
            ("FALSE", False),
            ("null", None),
            ("~", None),
            ("", None),
        ),
        *(("017", 17), ("0o17", 15), ("0x1F", 31), ("-5", -5), ("+5", 5), ("1.5", 1.5)),
        *(("1e3", 1000.0), (".5", 0.5), ('"0"', "0"), ("'true'", "true"), ('""', ""), ("0", 0)),
        ("|\n    a\n    b", "a\nb\n"),
    ],
)
def test_scalars_follow_the_core_schema(written: str, meant: object) -> None:
    found = value(f"a: {written}\n")

    assert found == {"a": meant}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(meant)


def test_every_node_and_key_has_its_place() -> None:
    (root,) = parse(b"# x\na:\n  - {b: c}\n", "f.yaml")

    assert isinstance(root, Map)
    assert root.keys["a"] == SourceLine("f.yaml", 2, 1)
    items = root.entries["a"]
    assert isinstance(items, List)
    inner = items.items[0]
    assert isinstance(inner, Map)
    assert inner.keys["b"] == SourceLine("f.yaml", 3, 6)
    assert inner.entries["b"] == Scalar("c", SourceLine("f.yaml", 3, 9))


def test_all_problems_of_a_file_come_at_once() -> None:
    with pytest.raises(InvalidConfig) as raised:
        parse(b"a: &x 1\nb: *x\na: 2\n1: 3\nc: !t 4\n<<: {}\n", "f")

    assert [str(p).split(":")[1] for p in raised.value.problems] == list("123456")


def test_a_duplicate_key_names_the_first_place() -> None:
    with pytest.raises(InvalidConfig, match="already in line 1, column 1"):
        parse(b"a: 1\nb: 2\na: 3\n", "f")


@pytest.mark.parametrize(
    "attack",
    [
        b"[" * 1_000_000,
        b"{a: " * 250_000,
        b"- " * 500_000,
        b"? " * 500_000,
        b"".join(b" " * i + b"a:\n" for i in range(1000)),
        b"a: [" + b"x," * 300_000 + b"]",
        b"a: " + b"9" * 1_000_000,
        b"a: &a [x]\nb: [" + b"*a," * 200_000 + b"]",
        b'"' + b"\\u202e" * 150_000 + b'"',
        b"\t\n" * 400_000,
        "\u202e".encode() * 300_000,
        b"\0" * 1_000_000,
        b"\xff" * 1_000_000,
        b"x" * (BYTES_LIMIT + 1),
        b"x" * (2 * BYTES_LIMIT),
        b"a" * 900_000 + b": 1",
        b"--- !t\n" * 100_000,
    ],
    ids=lambda attack: repr(attack[:12]),
)
def test_an_attack_ends_soon_and_with_words(attack: bytes) -> None:
    begin = time.monotonic()

    with pytest.raises(InvalidConfig):
        parse(attack, "f")

    assert time.monotonic() - begin < 30


def test_nesting_up_to_the_limit_is_read() -> None:
    parse(b"[" * 40 + b"]" * 40, "f")

    with pytest.raises(InvalidConfig, match="1:41: nested deeper"):
        parse(b"[" * 41 + b"]" * 41, "f")


@pytest.mark.parametrize("depth", [900, 1_100, 100_000])
@pytest.mark.parametrize(
    ("level", "place"), [("[", "1:41"), ("{a: ", "1:161"), ("- ", "1:81"), ("? ", "1:81")]
)
def test_our_limit_of_nesting_is_met_before_any_of_the_parser(
    level: str, depth: int, place: str
) -> None:
    """Source: PyYAML 6.0.4 gives up at 1,000 levels, and looks that far ahead in flow style."""
    with pytest.raises(InvalidConfig) as raised:
        parse(f"{level * depth}\n\tx".encode(), "f")

    deep, tab = raised.value.problems
    assert str(deep) == f"f:{place}: nested deeper than 40 levels; no document needs that"
    assert "a tab in the indentation" in str(tab)


def test_no_message_repeats_the_file() -> None:
    with pytest.raises(InvalidConfig) as raised:
        parse(b"a: @QwErTyUiOp1234\nb: *QwErTyUiOp1234\n", "f")

    assert "QwErTy" not in str(raised.value)


def test_of_a_document_that_is_full_of_mistakes_a_thousand_are_noted() -> None:
    tags = b"- !x 1\n" * (PROBLEMS_LIMIT + 500)

    builder, _ = scan(b"---\n" + tags + b"---\n" + tags, "f")

    assert len(builder.problems) == 2 * PROBLEMS_LIMIT, "of each document"
