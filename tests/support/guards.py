"""
The judgements of the suite's guards, apart from the fixtures so that they can be tested.
"""

import pytest

from reconciler.drivers.jt_trader.driver import MAY_SEND


def check_fatal_paths(node: pytest.Item, counted: list[int]) -> None:
    """Fail a test whose stand-ins ran their fatal path oftener or seldomer than it says."""
    marker = node.get_closest_marker("fatal_paths")
    expected = marker.args[0] if marker else 0
    if sum(counted) != expected:
        pytest.fail(f"the stand-ins ran {sum(counted)} fatal paths, expected {expected}")


def check_events(node: pytest.Item, seen: set[tuple[str, str]]) -> None:
    """Fail a test in which a command sent an event that the table does not give it."""
    if node.get_closest_marker("naive"):
        seen = {(command, event) for command, event in seen if command}
    outside = {
        (command, event)
        for command, event in seen
        if event not in MAY_SEND.get(command, frozenset())
    }
    if outside:
        pytest.fail(f"sent outside the table of commands and events: {sorted(outside)}")
