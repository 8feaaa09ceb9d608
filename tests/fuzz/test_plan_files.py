"""
Plan files that are given to `--expect`: every change of one is noticed, and nothing in it ends us.

Threat T12 in docs/security.md.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from reconciler.cli.expectation import Expected, expectation
from reconciler.documents.load import load
from reconciler.errors import Exit, UsageError
from reconciler.model.codec import Malformed
from reconciler.model.observed import Robot
from reconciler.render.plan_json import RENDERER, read_sealed, sealed
from reconciler.testing.state import ServerState, State, plan
from tests.fuzz.bounds import PATIENT, attack, examples, outcome
from tests.fuzz.damage import as_json, damaged, torn
from tests.fuzz.test_ledger_rows import DOCUMENT, URL, state_with


def written() -> bytes:
    """Return a plan file with everything in it, a robot's odd name included."""
    state = state_with({})
    robots = (Robot(7, "schräg \ud83d 🤖", "bybit", True), Robot(8, "two", "okx", True))
    keys = {"bybit_api_key": "k" * 20, "bybit_secret_key": "s" * 20}
    servers = {URL: ServerState("made-up", stored=keys, robots=robots)}
    made = State({"tokyo-1.yaml": DOCUMENT}, servers, state.secrets, now=state.now)
    return RENDERER.plan(plan(made), Exit.BLOCKED).encode("ascii")


PLAN: Final = written()


def same(data: bytes) -> bool:
    """Whether a file says, to any reader of JSON, what it said."""
    try:
        return bool(json.loads(data) == json.loads(PLAN))
    except ValueError:
        return False


def flips() -> Iterator[bytes]:
    """Yield the plan with each bit of each byte turned, one at a time."""
    for place, byte in enumerate(PLAN):
        for bit in range(8):
            yield PLAN[:place] + bytes([byte ^ 1 << bit]) + PLAN[place + 1 :]


def test_control_the_plan_is_taken_and_says_much(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(PLAN)
    document = read_sealed(PLAN)

    assert expectation(str(file)).id == document["planId"]
    assert len(document["servers"][0]["lines"]) == 2
    assert rb"\u00e4" in PLAN


@PATIENT
def test_t12_every_flipped_bit_of_a_plan_file_is_recognised() -> None:
    """The only ones that are not make `\\u00E4` of `\\u00e4`: the same letter to all readers."""
    unnoticed = []
    for flipped in flips():
        try:
            read_sealed(flipped)
        except Malformed:
            continue
        unnoticed.append(flipped)

    assert [one for one in unnoticed if not same(one)] == []
    assert len(unnoticed) < 40


def test_t12_what_was_flipped_is_refused_by_the_command(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    for number, flipped in enumerate(flips()):
        if number % 61 == 0 and not same(flipped):
            file.write_bytes(flipped)
            with pytest.raises(UsageError):
                expectation(str(file))


def test_t12_blanks_and_the_order_of_names_mean_nothing() -> None:
    document = json.loads(PLAN)
    turned = dict(reversed(document.items()))

    assert read_sealed(json.dumps(turned, indent=7).encode()) == document


@pytest.mark.parametrize("action", ["write", None, {}, {"kind": 7}])
def test_a_sealed_file_of_another_shape_is_refused(action: object, tmp_path: Path) -> None:
    """It ended in a traceback: whoever writes a file anew may seal it, too."""
    document = json.loads(PLAN)
    document["servers"][0]["actions"] = [action]
    file = tmp_path / "plan.json"
    file.write_text(as_json(sealed(document)))

    with pytest.raises(UsageError):
        expectation(str(file))


@examples(300, 30_000)
def test_no_plan_file_ends_anything(most: int, tmp_path: Path) -> None:
    """Those that are sealed anew get past the digest: their shape is looked at all the same."""
    file = tmp_path / "plan.json"
    document = json.loads(PLAN)
    (tmp_path / "tokyo-1.yaml").write_text(DOCUMENT)
    state = load([str(tmp_path)]).state

    def one(data: bytes) -> None:
        file.write_bytes(data)
        found = outcome(lambda: expectation(str(file)))
        if isinstance(found, Expected):
            found.check(state)

    forged = damaged([document]).map(
        lambda value: as_json(sealed(value) if isinstance(value, dict) else value).encode()
    )
    attack(torn([PLAN]) | forged, one, most)
