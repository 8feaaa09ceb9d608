"""How a service logs: JSON where nobody watches, lines for people on a terminal."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from reconciler.system import log_setup

LOG = logging.getLogger("reconciler.controller")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("reconciler")
    handlers, level = list(root.handlers), ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)


def told(stream: io.StringIO) -> str:
    log_setup.set_up(debug=False, stream=stream, service="controller 1@host (anna)")
    LOG.info("pass done", extra={"fields": {"server": "tokyo-1", "reason": ""}})
    LOG.warning("a \x1b[2J b")
    LOG.debug("not this")
    return stream.getvalue()


def test_programs_get_one_object_a_line_that_says_whose_it_is() -> None:
    first, second = map(json.loads, told(io.StringIO()).splitlines())

    assert first["by"] == second["by"] == "controller 1@host (anna)"
    assert (first["message"], first["server"], first["level"]) == ("pass done", "tokyo-1", "info")


def test_people_get_lines_that_nothing_drives() -> None:
    first, second = told(Terminal()).splitlines()

    assert first.endswith(' info    pass done  server=tokyo-1  reason=""')
    assert second.endswith(" warning a \ufffd[2J b")
