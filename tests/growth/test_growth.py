"""
Four times as many servers cost four times as much: every line of ours, and every request.

A loop over all servers inside of one over all servers is seen here by its own lines, however little
it takes on so small a fleet.
"""

import pytest

from reconciler.ledger import identity_index
from tests.growth.conftest import COMMANDS, Costs, commands, costs
from tests.growth.fleet import Work

FEW, MANY = 10, 40
TIMES = MANY // FEW


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Costs, Costs]:
    few, many = (
        costs(tmp_path_factory.mktemp("fleet"), servers, ("bybit",), lines=True)
        for servers in (FEW, MANY)
    )
    return few, many


def grows(few: int, many: int) -> bool:
    """Whether that is more than linear; what is done for a part of them is left to chance."""
    return many > 1.25 * TIMES * max(few, FEW)


@pytest.mark.parametrize("command", COMMANDS)
def test_four_times_the_servers_cost_four_times_as_much(
    both: tuple[Costs, Costs], command: str
) -> None:
    few, many = (costs[command] for costs in both)

    assert {what: (few[what], many[what]) for what in many if grows(few[what], many[what])} == {}
    assert sum(many.values()) > TIMES * MANY, "something was counted"


def test_control_a_loop_in_a_loop_is_seen(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_apply(servers: int) -> Work:
        folder = tmp_path_factory.mktemp("fleet")
        passed = commands(folder, servers, ("bybit",), lines=True)
        return next(work for command, work in passed if command == "first apply")

    monkeypatch.setattr(identity_index, "FRESH", -1.0)  # all rows at every first contact
    few, many = first_apply(4), first_apply(16)

    seen = {what.partition(":")[0] for what in many if many[what] > 2 * TIMES * few[what] > 0}
    assert {"reconciler/ledger/identity_index.py", "ledger rows listed"} <= seen
