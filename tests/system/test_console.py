"""What goes to systemd's journal says there how much it matters."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from reconciler.system import log_setup
from reconciler.system.console import reaches_journal

ROOT = Path(__file__).parents[2]


def named(stream: TextIO) -> str:
    """JOURNAL_STREAM, as systemd sets it for a service whose standard error is *stream*."""
    found = os.fstat(stream.fileno())
    return f"{found.st_dev}:{found.st_ino}"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "journal").open("w+", encoding="utf-8") as stream:
        yield stream


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("reconciler.tests.journal")
    made.propagate = False
    made.setLevel(logging.DEBUG)
    yield made
    made.handlers.clear()


@pytest.mark.parametrize("as_json", [True, False])
def test_each_line_begins_with_its_priority(
    journal: TextIO, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", named(journal))
    form = log_setup.JsonFormatter("controller test") if as_json else None
    logger.addHandler(log_setup.RedactingHandler(journal, form))
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "one\ntwo")

    lines = Path(journal.name).read_text("utf-8").splitlines()

    each = 1 if as_json else 2  # the journal takes every line by itself
    assert [line[:3] for line in lines] == [f"<{n}>" for n in (7, 6, 4, 3, 3) for _ in range(each)]
    if as_json:
        levels = [json.loads(line[3:])["level"] for line in lines]
        assert levels == ["debug", "info", "warning", "error", "critical"]


@pytest.mark.parametrize("value", ["", "1:2", "x"])
def test_elsewhere_nothing_stands_before_the_lines(
    journal: TextIO, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", value)
    logger.addHandler(log_setup.RedactingHandler(journal, log_setup.JsonFormatter("test")))
    logger.warning("one")

    assert Path(journal.name).read_text("utf-8").startswith("{")
    assert not reaches_journal(sys.stderr)


@pytest.mark.parametrize("args", [("validate", "/nonexistent"), ("validate", "--nonsense")])
def test_why_a_command_ended_is_an_error_there(journal: TextIO, args: tuple[str, ...]) -> None:
    subprocess.run(
        [sys.executable, "-m", "reconciler", *args],
        env={"PATH": os.defpath, "JOURNAL_STREAM": named(journal)},
        cwd=ROOT,
        stderr=journal,
        timeout=60,
        check=False,
    )

    lines = Path(journal.name).read_text("utf-8").splitlines()

    assert lines
    assert {line[:3] for line in lines} == {"<3>"}
