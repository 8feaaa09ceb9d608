"""Since when a server shows what it shows, as far as somebody looked."""

import pytest

from reconciler.model.fingerprints import Fingerprints
from reconciler.model.observed import (
    Logbook,
    Mask,
    ObservedExchange,
    ObservedField,
    ObservedServer,
)
from reconciler.model.recorded import Observation
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.observe.evidence import recorded_view

KEY, OTHER_KEY = Fingerprints(Secret("a" * 64)), Fingerprints(Secret("b" * 64))
NINE, TEN, ELEVEN = (f"2026-11-22T{hour}:00:00.000+00:00" for hour in ("09", "10", "11"))


def seen(mask: str, at: str, before: Observation | None, key: Fingerprints = KEY) -> Observation:
    """What is remembered of a server that shows this at bybit, and nothing at okx."""
    exchanges = tuple(
        ObservedExchange(code, (ObservedField(f"{code}_key", "apiKey", "string", Mask(shown)),))
        for code, shown in (("bybit", mask), ("okx", ""))
    )
    server = ObservedServer("0", "0.24.19", exchanges, (), Logbook())
    return recorded_view(server, key, "uid", at=at, by="test", before=before)


def test_what_is_seen_for_the_first_time_is_so_since_then_and_what_was_always_empty_is_not() -> (
    None
):
    assert seen("abc", NINE, None).since == {"bybit": NINE}
    assert seen("", NINE, None).since == {}


def test_it_stays_while_nothing_moves_and_begins_anew_when_something_does() -> None:
    first = seen("abc", NINE, None)
    second = seen("abc", TEN, first)

    assert second.since == {"bybit": NINE}
    assert seen("xyz", ELEVEN, second).since == {"bybit": ELEVEN}
    emptied = seen("", TEN, first)
    assert emptied.since == {"bybit": TEN}
    assert seen("", ELEVEN, emptied).since == {"bybit": TEN}


def test_of_an_older_ledger_the_last_sight_is_the_earliest_that_is_known() -> None:
    older = replace(seen("abc", NINE, None), since={})

    assert seen("abc", TEN, older).since == {"bybit": NINE}


@pytest.mark.parametrize("mask", ["abc", ""])
def test_under_another_fingerprint_key_nobody_can_tell_that_it_is_the_same(mask: str) -> None:
    found = seen(mask, TEN, seen(mask, NINE, None), OTHER_KEY)

    assert found.since == ({"bybit": TEN} if mask else {})
