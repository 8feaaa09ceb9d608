"""
The status of a fleet fits one screen, and hides nobody who needs somebody.

`pytest tests/golden --rewrite-golden` writes the files.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from reconciler.model.recorded import Identity, Recorded
from reconciler.render.layout import folded
from reconciler.render.ledger import Moment
from reconciler.render.status import controller_rows, needs_rows, served_servers
from reconciler.render.status_fleet import ledger_fleet, served_fleet
from reconciler.testing.renderers import is_safe
from tests.controller.sample_statuses import NOON
from tests.golden import status_cases as cases
from tests.golden.fleet_cases import GONE, NAMES
from tests.golden.test_fleet import SCREEN, WIDTHS, assert_folds, blocks, named, screen_rows
from tests.golden.test_golden import check, rewrite

__all__ = ["rewrite"]
HERE = Path(__file__).parent / "fleet"
DECLARED = frozenset(map(cases.target, NAMES))
Known = Sequence[tuple[Identity, Recorded]]
DAY_OLD = Moment(NOON, 86_400.0)
"""When all of these are told; what was seen a day before is stale."""


def by_ledger(width: int | None = None, known: Known | None = None) -> str:
    found = cases.ledger() if known is None else known
    return folded("\n".join(ledger_fleet(found, DAY_OLD, width, DECLARED)) + "\n", width)


def by_controller(width: int | None = None) -> str:
    document = cases.served()
    told = {str(row["server"]): row for row in served_servers(document)}
    rows = [
        *controller_rows(document, "https://jtr.internal"),
        *served_fleet(told, document, width, {}),
    ]
    return folded("\n".join(rows) + "\n", width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_status(width: int, *, rewrite: bool) -> None:
    for name, text in (("ledger", by_ledger(width)), ("controller", by_controller(width))):
        assert is_safe(text)
        check(HERE / f"status-{name}-{width}.txt", text, rewrite=rewrite)
        if width >= 80:
            assert screen_rows(text, width) <= SCREEN


def test_who_needs_somebody_is_named_and_the_others_are_counted() -> None:
    loud = {cases.DOUBT, cases.OWED_A_START, cases.UNFINISHED, *cases.DRIFTED, *cases.OWING}
    for text, stale in ((by_ledger(), len(cases.OLD)), (by_controller(), 0)):
        assert {name for block in blocks(text) for name in block.servers} == loud
        assert f"= {500 - len(loud) - stale} servers" in text
    assert named(by_ledger().split("? stale, not seen", 1)[1].split("\n", 1)[0]) == set(cases.OLD)


def test_the_last_line_is_for_servers_that_only_the_ledger_knows() -> None:
    last = by_ledger().splitlines()[-1]

    assert last == (
        "3 more servers are only in the ledger: berlin-1 .. berlin-3; jtr forget SERVER"
    )
    assert set(GONE).isdisjoint(named(by_ledger().removesuffix(f"{last}\n")))


def test_what_is_open_on_a_server_that_nobody_declares_is_told() -> None:
    open_ = [one for one in cases.ledger() if one[0].name in {cases.DOUBT, cases.OWED_A_START}]
    rows = list(ledger_fleet(open_, DAY_OLD, None, frozenset()))

    assert any("in doubt since" in row for row in rows)
    assert any("robots owed a start" in row for row in rows)
    assert rows[-1].startswith("2 more servers are only in the ledger: frankfurt-50, tokyo-50;")


def test_without_documents_nobody_is_called_gone() -> None:
    rows = list(ledger_fleet(cases.ledger(), DAY_OLD, None, None))

    assert not any("only in the ledger" in row for row in rows)
    assert any(
        row.startswith(f"= {503 - 23 - len(cases.OLD)} servers (--wide names them)") for row in rows
    )


def test_one_server_is_told_whole() -> None:
    (one,) = [pair for pair in cases.ledger() if pair[0].name == "tokyo-100"]
    text = by_ledger(known=[one])

    assert "bybit: written from vault:secret/jt/tokyo-1/bybit@1" in text
    assert "robots running: grid-btc (bybit)" in text


def test_a_calm_server_of_a_controller_needs_nothing() -> None:
    (row,) = [row for row in served_servers(cases.served()) if row["server"] == "tokyo-100"]
    assert list(needs_rows(row)) == []


@settings(deadline=None, max_examples=20, phases=[Phase.explicit, Phase.generate])
@given(
    names=st.lists(st.sampled_from(NAMES[:60]), unique=True, min_size=2, max_size=30),
    width=st.integers(40, 130),
)
def test_any_part_of_the_fleet(names: list[str], width: int) -> None:
    known = [pair for pair in cases.ledger() if pair[0].name in names]
    text = by_ledger(known=known)

    assert_folds(text, width)
    loud = {cases.DOUBT, *cases.OWING} & set(names)
    assert loud <= named(text)
    assert f"{len(names) - len(loud)} servers" in text or len(names) - len(loud) < 2
