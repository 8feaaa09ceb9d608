"""Rows become documents and come back; a document that is not understood is never guessed at."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import LedgerError
from reconciler.ledger import checked
from reconciler.ledger.codec import records, rows
from reconciler.model.observed import Robot
from reconciler.model.recorded import (
    Brake,
    Debt,
    ExchangeRecord,
    Identity,
    Observation,
    Owed,
    Write,
)
from reconciler.model.references import FrozenRef, SecretPath
from reconciler.model.target import Target
from reconciler.model.timestamps import stamp

text = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates as well
number = st.integers(-(2**70), 2**70)
stamps = st.datetimes(datetime(1970, 1, 2), timezones=st.just(UTC)).map(stamp)  # noqa: DTZ001
targets = st.builds(Target, text, text)
refs = st.builds(FrozenRef, st.builds(SecretPath, text, text), number, text, st.none() | text)
writes = st.builds(
    Write,
    sources=st.dictionaries(text, refs, max_size=3),
    values=st.dictionaries(text, text, max_size=3),
    masks=st.dictionaries(text, text, max_size=3),
    key_id=text,
    at=text,
    weak=st.booleans(),
    api_key=text,
    companions=text,
)
debts = st.builds(
    Debt, st.sampled_from(Owed), text, text, st.none() | number, st.none() | number, text
)
exchange_records = st.builds(
    ExchangeRecord,
    code=text,
    written=st.none() | writes,
    intent=st.none() | writes,
    found=st.none() | writes,
    deleting=st.booleans(),
    debts=st.lists(debts, max_size=3).map(tuple),
    past_keys=st.lists(st.tuples(text, text), max_size=3).map(tuple),
    past_boot=st.none() | number,
)
nested = st.dictionaries(text, st.dictionaries(text, text, max_size=2), max_size=2)
observations = st.builds(
    Observation,
    at=stamps,
    by=text,
    version=text,
    masks=nested,
    credentials=nested,
    robots=st.lists(st.builds(Robot, number, text, text, st.booleans()), max_size=3).map(tuple),
    boot=st.none() | number,
    key_id=text,
    troubles=st.dictionaries(text, text, max_size=2),
    alarm=st.none() | number,
)
exchange_rows = st.builds(
    rows.ExchangeRow, exchange_records, text, text, st.none() | exchange_records
)


@settings(deadline=None, max_examples=60)
@given(row=exchange_rows)
def test_an_exchange_comes_back(row: rows.ExchangeRow) -> None:
    document = records.write(row)
    assert document.isascii()
    assert records.read(rows.ExchangeRow, rows.exchange_key("u", row.record.code), document) == row


@settings(deadline=None, max_examples=60)
@given(seen=observations)
def test_an_observation_comes_back(seen: Observation) -> None:
    key = rows.observation_key("u")
    assert records.read(Observation, key, records.write(seen)) == seen


@settings(deadline=None)
@given(target=targets, name=text, order=number, retired=st.lists(targets, max_size=3).map(tuple))
def test_an_identity_comes_back(
    target: Target, name: str, order: int, retired: tuple[Target, ...]
) -> None:
    row = rows.IdentityRow(Identity("u1", target, name), order, retired)
    key = rows.identity_key("u1")
    assert records.read(rows.IdentityRow, key, records.write(row)) == row


@settings(deadline=None)
@given(
    brake=st.builds(Brake, text, text, text, stamps, text, st.none() | st.tuples(text, text, text))
)
def test_a_brake_comes_back(brake: Brake) -> None:
    key = rows.brake_key(brake.version)
    assert records.read(Brake, key, records.write(brake)) == brake
    # Such a row is one of an older ledger: the whole version is stopped, and nothing proven.
    old = rows.VersionRow(brake.version, whole=brake)
    assert records.read_version(key, records.write(brake)) == old
    assert records.read_version(key, records.write(old)) == old


@settings(deadline=None)
@given(
    row=st.builds(
        rows.LeaseRow,
        st.builds(rows.Holder, text, text, text, text, number, number),
        text,
        text,
        st.floats(0.001, 3600),
        st.booleans(),
    )
)
def test_a_lease_comes_back(row: rows.LeaseRow) -> None:
    assert records.read(rows.LeaseRow, "k", records.write(row)) == row


def test_a_birth_comes_back() -> None:
    birth = rows.Birth("uid", datetime(2026, 11, 22, 12, 0, 0, 5, UTC), "apply 1@host")
    assert records.read(rows.Birth, rows.BIRTH, records.write(birth)) == birth


def test_a_row_that_did_not_change_is_understood_once_in_its_own_place() -> None:
    one, two = (
        records.write(rows.IdentityRow(Identity("u1", Target("u", "0"), name), 1)) for name in "ab"
    )
    key = rows.identity_key("u1")

    understood = records.read(rows.IdentityRow, key, one)
    assert records.read(rows.IdentityRow, key, one) is understood
    assert records.read(rows.IdentityRow, key, two).identity.name == "b"
    with pytest.raises(LedgerError, match="another server"):
        records.read(rows.IdentityRow, rows.identity_key("u2"), one)
    with pytest.raises(LedgerError):
        records.read(Brake, key, one)


def test_a_time_without_a_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no zone"):
        stamp(datetime(2026, 11, 22))  # noqa: DTZ001  - that is the mistake


@settings(deadline=None)
@given(one=text, other=text)
def test_different_names_have_different_keys(one: str, other: str) -> None:
    assert (rows.segment(one) == rows.segment(other)) == (one == other)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/", "a/b", "OKX", "_6f", "é", "\ud800", "x" * 101, "x" * 9999, "a" * 100],
)
def test_any_name_fits_into_a_key(name: str) -> None:
    key = rows.exchange_key("u", name)
    assert checked(key) == key
    assert key.count("/") == 3


def test_ordinary_names_stay_readable() -> None:
    assert rows.exchange_key("u", "bybit") == "server/u/exchange/bybit"


# ── documents that are not ours ──────────────────────────────────────────────────────────────

KEY = "server/u/exchange/bybit"
GOOD: dict[str, Any] = json.loads(
    records.write(
        rows.ExchangeRow(
            ExchangeRecord(
                "bybit",
                written=Write(
                    {"key": FrozenRef(SecretPath("secret", "a"), 3, "t", "apiKey")},
                    {"key": "v"},
                    {"key": "m"},
                    "k",
                    "t",
                ),
                debts=(Debt(Owed.RESTART, "bybit", "t", 5, 1, "r"),),
                past_keys=(("a", "b"),),
            ),
            nonce="CANARY-NONCE",
        )
    )
)


def damaged(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(json.dumps(GOOD))
    change(document)
    return json.dumps(document)


def put(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


DAMAGES = {
    "newer format": put("format", value=2),
    "format as text": put("format", value="1"),
    "format as truth": put("format", value=True),
    "another kind": put("kind", value="lease"),
    "another exchange": put("code", value="okx"),
    "no code": lambda d: d.pop("code"),
    "no format": lambda d: d.pop("format"),
    "surplus": put("extra", value=1),
    "surplus in a write": put("written", "extra", value=1),
    "surplus in a source": put("written", "sources", "key", "extra", value=1),
    "surplus in a debt": put("debts", 0, "extra", value=1),
    "write is a list": put("written", value=[]),
    "source is text": put("written", "sources", "key", value="vault:secret/a#b"),
    "version is text": put("written", "sources", "key", "version", value="3"),
    "version is a fraction": put("written", "sources", "key", "version", value=3.0),
    "flag is a number": put("deleting", value=0),
    "value is null": put("written", "values", "key", value=None),
    "debts is null": put("debts", value=None),
    "debt of a new kind": put("debts", 0, "owed", value="CANARY"),
    "robot id is true": put("debts", 0, "robot_id", value=True),
    "pair of three": put("past_keys", 0, value=["a", "b", "c"]),
    "pair of numbers": put("past_keys", 0, value=[1, 2]),
    "boot is infinite": put("past_boot", value=float("inf")),
    "before is text": put("before", value="x"),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_a_document_that_is_not_understood_names_its_row(damage: str) -> None:
    with pytest.raises(LedgerError) as caught:
        records.read(rows.ExchangeRow, KEY, damaged(DAMAGES[damage]))

    assert KEY in str(caught.value)
    assert "restore" in caught.value.remedy
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "null",
        "[]",
        "7",
        "{",
        '{"format":1,"format":1}',
        "[" * 100_000,
        "9" * 5000,
        '{"format":NaN}',
        "\0",
    ],
    ids=range(10),
)
def test_what_is_no_document_names_its_row(document: str) -> None:
    for kind in records.KINDS:
        with pytest.raises(LedgerError, match=r"server/u/exchange/bybit"):
            records.read(kind, KEY, document)


def test_a_sound_document_is_read() -> None:
    assert records.read(rows.ExchangeRow, KEY, json.dumps(GOOD)).record.code == "bybit"


def test_rows_in_the_wrong_place_are_refused() -> None:
    identity = rows.IdentityRow(Identity("u1", Target("u", "0"), "n"), 1)
    with pytest.raises(LedgerError, match="another server"):
        records.read(rows.IdentityRow, rows.identity_key("u2"), records.write(identity))
    brake = Brake("4.2", "s", "w", "2026-11-22T09:00:00Z", "b")
    row = rows.VersionRow("4.2")
    for text in (records.write(brake), records.write(row)):
        with pytest.raises(LedgerError, match="another version"):
            records.read_version(rows.brake_key("4.3"), text)


@pytest.mark.parametrize("text", ["", "[]", '"brake"', '{"kind":"brake"}', '{"kind":[]}', "{}"])
def test_a_version_row_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match="is not understood"):
        records.read_version(rows.brake_key("4.2"), text)


@pytest.mark.parametrize("moment", ["soon", "2026-11-22T12:00:00"])
def test_a_birth_needs_a_time_with_a_zone(moment: str) -> None:
    document = json.dumps({"format": 1, "kind": "birth", "uid": "u", "at": moment, "by": "b"})
    with pytest.raises(LedgerError, match="ledger/birth"):
        records.read(rows.Birth, rows.BIRTH, document)


@pytest.mark.parametrize("seconds", [0, -1, "30", None, True, 1e300])
def test_a_lease_needs_a_sensible_duration(seconds: object) -> None:
    row = rows.LeaseRow(rows.Holder("n", "b"), "s", "u", 30.0)
    document = json.loads(records.write(row))
    document["seconds"] = seconds
    with pytest.raises(LedgerError, match="seconds"):
        records.read(rows.LeaseRow, "server/u/lease", json.dumps(document))
