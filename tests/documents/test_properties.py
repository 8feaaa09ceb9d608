"""Whatever stands in a file, there is a result or an error of ours, and no key in any message."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.bootstrap import load_settings
from reconciler.documents import schema
from reconciler.documents.load import Loaded, load
from reconciler.documents.tree import plain
from reconciler.documents.yaml_reader import parse
from reconciler.errors import InvalidConfig, UsageError
from tests.support.canaries import canaries, find_leaks
from tests.support.counts import drawn
from tests.support.strategies_config import (
    block_yaml,
    fleets,
    hostile_yaml,
    servers,
    valid_documents,
)

CASES = Path(__file__).parent / "cases"
SEED = 20261122
CANARIES = canaries(SEED)
QUICK = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "a.yaml"


def outcome(place: Path, data: bytes) -> Loaded | InvalidConfig | UsageError:
    place.write_bytes(data)
    try:
        return load([str(place)])
    except (InvalidConfig, UsageError) as error:
        return error


@pytest.mark.timeout(600)  # so many examples that only the machine decides how long they take
@settings(QUICK, max_examples=drawn(1200))
@given(data=hostile_yaml())
def test_any_bytes_give_a_result_or_an_error_of_ours(place: Path, data: bytes) -> None:
    found = outcome(place, data)

    if isinstance(found, InvalidConfig):
        assert found.problems
        assert all("\x1b" not in str(problem) for problem in found.problems)


@settings(QUICK, max_examples=drawn(300))
@given(data=hostile_yaml())
def test_any_settings_give_a_result_or_an_error_of_ours(place: Path, data: bytes) -> None:
    place.write_bytes(data)
    with contextlib.suppress(InvalidConfig, UsageError):
        load_settings(str(place), {"HOME": "/nowhere"}, [])


@settings(QUICK, max_examples=drawn(60))
@given(text=valid_documents())
def test_valid_documents_are_valid(place: Path, text: str) -> None:
    found = outcome(place, text.encode())

    assert isinstance(found, Loaded), str(found)


@settings(QUICK, max_examples=drawn(40))
@given(fleet=fleets(), data=st.data())
def test_order_of_keys_and_documents_means_nothing(
    place: Path, fleet: list[dict[str, Any]], data: st.DataObject
) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        keys = data.draw(st.permutations(sorted(value)))
        return {key: shuffled(value[key]) for key in keys}

    other = [shuffled(one) for one in data.draw(st.permutations(fleet))]
    results = [
        outcome(place, "\n---\n".join(map(block_yaml, documents)).encode())
        for documents in (fleet, other)
    ]
    first, second = (r.effective for r in results if isinstance(r, Loaded))

    assert {n: e.as_document() for n, e in first.items()} == {
        n: e.as_document() for n, e in second.items()
    }


# ── pasted keys ──────────────────────────────────────────────────────────────────────────────


def spots(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value, and of every mapping (for a key that is pasted into it)."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield (*path, key)
            yield from spots(child, *path, key)


def with_pasted(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copy


@settings(QUICK, max_examples=drawn(300))
@given(document=servers("a"), data=st.data())
def test_a_pasted_key_is_in_no_message(
    place: Path, document: dict[str, Any], data: st.DataObject
) -> None:
    canary = data.draw(st.sampled_from(CANARIES))
    path = data.draw(st.sampled_from(sorted(spots(document), key=repr)))
    shape: Any = data.draw(
        st.sampled_from(
            [
                canary.value,
                [canary.value],
                {canary.value: 1},
                {"apiKey": canary.value},
                f"vault:{canary.value}",
                f"https://{canary.value}@a.test",
                f"https://a.test/?k={canary.value}",
            ]
        )
    )
    text = block_yaml(with_pasted(document, path, shape))
    if data.draw(st.booleans()):
        text = text.replace(json.dumps(canary.value), canary.value)  # without quotes

    found = outcome(place, text.encode())

    # An owner may be any text, so a document can stay valid; then no message is printed.
    if not isinstance(found, Loaded):
        assert not find_leaks(str(found).encode(), [canary]), f"seed {SEED}, {canary.shape}, {path}"


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.shape)
@pytest.mark.parametrize(
    "where", ["credentials: {0}", "credentials: {{apiKey: {0}}}", "{0}: x", "secret: {0}"]
)
def test_a_key_pasted_where_a_reference_belongs_is_refused(
    place: Path, canary: Any, where: str
) -> None:
    pasted = where.format(json.dumps(canary.value))
    text = (
        "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {name: a}\n"
        f"spec: {{url: https://a.test, exchanges: {{bybit: {{{pasted}}}}}}}\n"
    )

    found = outcome(place, text.encode())

    assert isinstance(found, InvalidConfig)
    assert not find_leaks(str(found).encode(), [canary]), f"seed {SEED}, {canary.shape}"


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.shape)
@pytest.mark.parametrize("value", ["1", "[x]", "text"])
def test_a_key_pasted_as_the_name_of_a_label_is_in_no_message(
    place: Path, canary: Any, value: str
) -> None:
    text = (
        "apiVersion: jtr/v1\nkind: TradingServer\n"
        f"metadata: {{name: a, labels: {{{json.dumps(canary.value)}: {value}}}}}\n"
        "spec: {url: https://a.test, exchanges: {}}\n"
    )

    found = outcome(place, text.encode())

    assert isinstance(found, InvalidConfig) or value == "text"
    assert not find_leaks(str(found).encode(), [canary]), f"seed {SEED}, {canary.shape}"


# ── the two validators ───────────────────────────────────────────────────────────────────────


def verdicts(instance: object, name: str) -> tuple[bool, bool]:
    return schema.valid(instance, name), schema.worded_validator(name).is_valid(instance)


def test_both_validators_agree_on_the_corpus() -> None:
    judged = 0
    for case in sorted(CASES.rglob("*.yaml")):
        try:
            roots = parse(case.read_bytes(), case.name)
        except InvalidConfig:
            continue
        for root in roots:
            for name in (schema.CONFIG, schema.SETTINGS):
                fast, slow = verdicts(plain(root), name)
                assert fast == slow, case.name
                judged += 1

    assert judged > 200


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 30),
    st.sampled_from([1.0, 0.5, "", "a\n", "0\n", "vault:a/b#c\n", "x" * 600, "é", "1h\n", "1h"]),
    st.sampled_from([[], {}, [1, True], ["spot", "spot"], {"a": {}}, {"apiKey": "vault:a/b#c"}]),
)


@settings(QUICK, max_examples=drawn(300))
@given(document=servers(), data=st.data())
def test_both_validators_agree_on_wounded_documents(
    document: dict[str, Any], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(spots(document), key=repr)))
    wounded = with_pasted(document, path, data.draw(JUNK))

    fast, slow = verdicts(wounded, schema.CONFIG)

    assert fast == slow
