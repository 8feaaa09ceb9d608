"""A listing in pieces is what `json.loads` makes of the whole, less what nobody wants."""

import json
from collections.abc import Iterable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from reconciler.model.references import SecretPath
from reconciler.secrets.vault.listing import Entries, Listing

MANY = 10_000_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["a", "b", "a/b", "data", "key_info", "é", '"', ""])
INFOS = st.dictionaries(NAMES, VALUES, max_size=6)
DATA = st.dictionaries(NAMES, VALUES, max_size=3) | st.builds(
    lambda infos, more: {**more, "key_info": infos}, INFOS | VALUES, st.dictionaries(NAMES, VALUES)
)
WHOLE = st.builds(
    lambda data, more: {**more, "data": data}, DATA | VALUES, st.dictionaries(NAMES, VALUES)
)


def read(content: bytes, size: int, wanted: set[str], most: int = MANY) -> tuple[Listing, Any]:
    """Feed it piece by piece, as long as it is wanted."""
    return read_again(content, size, entries(wanted), most)


def entries(wanted: Iterable[str]) -> Entries:
    return Entries({name: SecretPath("kv", name) for name in wanted})


def read_again(content: bytes, size: int, wanted: Entries, most: int = MANY) -> tuple[Listing, Any]:
    listing = Listing(wanted, most)
    for start in range(0, len(content), size):
        if not listing.feed(content[start : start + size]):
            break
    return listing, listing.body()


@settings(max_examples=150, deadline=None)
@given(WHOLE, st.integers(1, 40), st.sets(NAMES), st.sampled_from([None, 2]))
def test_any_answer_in_any_pieces(
    whole: dict[str, Any], size: int, wanted: set[str], indent: int | None
) -> None:
    content = json.dumps(whole, ensure_ascii=indent is None, indent=indent).encode()
    expected = json.loads(content)
    data = expected["data"]
    if isinstance(data, dict) and isinstance(data.get("key_info"), dict):
        data["key_info"] = {
            name: data["key_info"][name] for name in data["key_info"] if name in wanted
        }

    listing, found = read(content, size, wanted)

    assert found == expected
    assert not listing.too_long


@settings(max_examples=150, deadline=None)
@given(INFOS, INFOS, st.integers(1, 40), st.sampled_from([None, 2]))
def test_what_was_told_before_is_told_as_it_is_now(
    before: dict[str, Any], now: dict[str, Any], size: int, indent: int | None
) -> None:
    wanted = entries(before.keys() | now.keys())
    first, second = (
        json.dumps({"data": {"key_info": infos}}, indent=indent).encode() for infos in (before, now)
    )

    read_again(first, size, wanted)

    assert read_again(second, size, wanted)[1] == json.loads(second)


def test_a_number_may_go_on_where_the_last_one_ended() -> None:
    wanted = entries("a")

    for number in (12, 123, 12):
        told = {"data": {"key_info": {"a": number}}}
        assert read_again(json.dumps(told).encode(), 4096, wanted)[1] == told


def test_an_entry_that_is_told_in_the_same_text_is_not_decoded_again() -> None:
    same, other = {"current_version": 1}, {"current_version": 2}
    wanted = entries("ab")
    first, second = (
        json.dumps({"data": {"key_info": {"a": same, "b": second}}}).encode()
        for second in (same, other)
    )

    old = read_again(first, 4096, wanted)[1]["data"]["key_info"]
    new = read_again(second, 4096, wanted)[1]["data"]["key_info"]

    assert new["a"] is old["a"]
    assert new["b"] == other


@settings(max_examples=100, deadline=None)
@given(WHOLE, st.integers(1, 40), st.data())
def test_no_part_of_an_answer_is_one(
    whole: dict[str, Any], size: int, chance: st.DataObject
) -> None:
    content = json.dumps(whole).encode()
    content = content[: chance.draw(st.integers(0, len(content) - 1))]

    assert read(content, size, {"a"})[1] == {}


@pytest.mark.parametrize(
    "content",
    [
        b'{"data": {"key_info": {"a": "' + b"x" * 5000 + b'"}}}',
        b'{"data": {"keys": "' + b"x" * 5000 + b'"}}',
        b"{" + b",".join(b'"%d": 12345678' % n for n in range(500)) + b"}",
        b'{"data": {"key_info": ' + b" " * 5000 + b"[" + b"[" * 5000,
    ],
    ids=["one entry", "one value", "many values", "depth"],
)
def test_what_is_held_is_bounded(content: bytes) -> None:
    listing, found = read(content, 64, {"a"}, most=1000)

    assert listing.too_long or found == {}
    assert len(listing._text) + sum(map(len, listing._pending)) <= 3000


def test_an_unwanted_fleet_is_not_held() -> None:
    facts = {"current_version": 1, "versions": {"1": {"created_time": "x" * 100}}}
    content = json.dumps({"data": {"key_info": {f"s{n}": facts for n in range(2000)}}}).encode()

    listing, found = read(content, 4096, {"s7"}, most=10_000)

    assert not listing.too_long
    assert found == {"data": {"key_info": {"s7": facts}}}
