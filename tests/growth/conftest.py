"""What each command costs on a fleet, from the first plan to a controller's rounds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.ledger.codec import records
from reconciler.model.outcomes import Report
from reconciler.testing.virtual_time import virtual_time
from tests.growth.fleet import CODES, Fleet, Work

COMMANDS = (
    *("cold plan", "first apply", "converged plan", "converged apply", "one-change apply"),
    *("recorded plan", "status", "controller rounds", "apply of another ledger"),
)
Costs = dict[str, Work]


def costs(
    folder: Path, servers: int, codes: tuple[str, ...] = CODES, *, lines: bool = False
) -> Costs:
    found = dict(commands(folder, servers, codes, lines=lines))
    assert tuple(found) == COMMANDS
    return found


def commands(
    folder: Path, servers: int, codes: tuple[str, ...], *, lines: bool
) -> Iterator[tuple[str, Work]]:
    """Carry out every command, one after the other, and say what each cost."""
    fleet = Fleet(folder, servers, codes)
    fleet.lines = lines
    # Rows that are understood already cost nothing, but only as many as are kept.
    with pytest.MonkeyPatch.context() as patch, virtual_time(fleet.clock) as runner:
        patch.setattr(records, "_row", records._row.__wrapped__)
        fleet.documents()  # schemas are read once in a process
        runner.run(fleet.start())
        with fleet.counting() as found:
            plan = runner.run(fleet.plan())
        assert len(plan.actions) == servers * len(codes)
        yield "cold plan", found
        with fleet.counting() as found:
            reports = runner.run(fleet.apply())
        assert codes_of(reports) == [0] * servers * len(codes)
        yield "first apply", found
        with fleet.counting() as found:
            plan = runner.run(fleet.plan())
        assert not plan.actions
        yield "converged plan", found
        with fleet.counting() as found:
            reports = runner.run(fleet.apply())
        assert codes_of(reports) == []
        yield "converged apply", found
        fleet.rotate(fleet.names[0], codes[0])
        with fleet.counting() as found:
            reports = runner.run(fleet.apply())
        assert codes_of(reports) == [0]
        yield "one-change apply", found
        with fleet.counting() as found:
            plan = runner.run(fleet.recorded())
        assert not plan.actions
        yield "recorded plan", found
        with fleet.counting() as found:
            assert runner.run(fleet.status()) == servers
        yield "status", found
        yield "controller rounds", runner.run(fleet.rounds())
        fleet.forget()
        with fleet.counting() as found:
            reports = runner.run(fleet.apply())
        assert codes_of(reports) == []
        yield "apply of another ledger", found


def codes_of(reports: list[Report]) -> list[int]:
    assert not any(report.failure or report.plan.failure for report in reports)
    return [outcome.code for report in reports for outcome in report.outcomes]
