"""
Files of today's formats, kept byte for byte, are read by whoever comes later; newer ones are not.

What a newer jtr wrote is refused in words, and a refusal changes nothing.  A file under `stored/`
or a `stored_*.json` is never written anew: another format gets files of its own beside it.
"""

import hashlib
import json
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.state_file import State, StateFile
from reconciler.exchanges.cache import AuditCache
from tests.house.pages import ROOT
from tests.support.rig import Ran, Rig

STORED = Path(__file__).parent / "stored"
PLAN = STORED / "plan.json"
STATE = ROOT / "tests/controller/stored_state_2.json"
STATE_BY_NAMES = ROOT / "tests/controller/stored_state.json"
CACHE = ROOT / "tests/exchanges/stored_cache.json"
NEWER = "a newer jtr wrote it, this one knows 1"


def ledger(rig: Rig) -> Path:
    """Put the stored ledger where the settings have it."""
    path = rig.home / "state" / "jtr" / "ledger.db"
    path.parent.mkdir(parents=True, mode=0o700)
    (rig.home / "state").chmod(0o700)
    shutil.copyfile(STORED / "ledger.db", path)
    path.chmod(0o600)
    return path


def content(path: Path) -> list[tuple[Any, ...]]:
    """All rows of a ledger, and the version of the file."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT * FROM documents ORDER BY 1").fetchall()
        return [*rows, *connection.execute("PRAGMA user_version").fetchall()]
    finally:
        connection.close()


def changed(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


# ── what is stored today is read ─────────────────────────────────────────────────────────────


def test_a_ledger(rig: Rig) -> None:
    ledger(rig)

    checked, status = rig.jtr("ledger", "check"), rig.jtr("status")

    assert checked.code == 0, checked.text
    assert "every row can be read" in checked.out
    assert "tokyo-1  https://tokyo-1.internal:8443" in status.out


def test_a_backup(rig: Rig) -> None:
    backup = rig.home / "ledger.jsonl"
    shutil.copyfile(STORED / "ledger.jsonl", backup)
    backup.chmod(0o600)

    restored = rig.jtr("ledger", "restore", str(backup), "--because", "a new host")

    assert restored.code == 0, restored.text
    assert "tokyo-1  https://tokyo-1.internal:8443" in rig.jtr("status").out


def test_a_plan(rig: Rig) -> None:
    shown = rig.jtr("show-plan", str(PLAN))

    assert shown.code == 0, shown.text
    assert "kyoto-1" in shown.out


def test_the_state_of_a_controller_and_what_exchanges_said(tmp_path: Path) -> None:
    state, cache = private(tmp_path / "state.json", STATE), private(tmp_path / "audit.json", CACHE)

    opened, trouble = StateFile(state).open()

    assert (trouble, AuditCache(str(cache)).trouble) == ("", "")
    assert opened.servers
    opened, trouble = StateFile(private(tmp_path / "old.json", STATE_BY_NAMES)).open()
    assert trouble == ""
    assert opened.named


def private(path: Path, source: Path, number: int = 0) -> Path:
    """A copy of a stored document, with another *number* of its format where one is given."""
    path.touch(0o600)
    path.write_bytes(
        source.read_bytes()
        if not number
        else json.dumps(json.loads(source.read_text()) | {"formatVersion": number}).encode()
    )
    return path


# ── what a newer one wrote is refused, and left as it is ─────────────────────────────────────

COMMANDS = (("ledger", "check"), ("status",), ("apply",))


def ran(rig: Rig, command: tuple[str, ...]) -> Ran:
    return rig.apply() if command == ("apply",) else rig.jtr(*command)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("PRAGMA user_version = 2", "has version 2, this jtr knows 1"),
        (
            """UPDATE documents SET text = replace(text, '"format":1', '"format":2')""",
            f"its format is 2: {NEWER}",
        ),
    ],
    ids=["file", "rows"],
)
def test_a_newer_ledger(rig: Rig, command: tuple[str, ...], script: str, said: str) -> None:
    path = ledger(rig)
    server = rig.server()
    rig.document()
    assert rig.jtr("status").code == 0, "positive control"
    changed(path, script)
    before = content(path)

    refused = ran(rig, command)

    assert refused.code in (1, 4), refused.text
    assert said in refused.text
    assert "use the newest jtr that wrote" in refused.text
    assert content(path) == before
    assert server.record.saves == 0


def test_a_newer_backup(rig: Rig) -> None:
    lines = (STORED / "ledger.jsonl").read_bytes().splitlines(keepends=True)[:-1]
    body = b"".join([lines[0].replace(b'"format":1', b'"format":2'), *lines[1:]])
    end = {"rows": len(lines) - 1, "sha256": hashlib.sha256(body).hexdigest()}
    backup = rig.home / "ledger.jsonl"
    backup.touch(0o600)
    backup.write_bytes(body + json.dumps(end).encode() + b"\n")

    refused = rig.jtr("ledger", "restore", str(backup), "--because", "a new host")

    assert refused.code != 0
    assert f"its format is 2: {NEWER}" in refused.err
    assert not list((rig.home / "state").rglob("ledger.db"))


def test_a_newer_plan(rig: Rig) -> None:
    ledger(rig)
    server = rig.server()
    rig.document()
    newer = private(rig.home / "plan.json", PLAN, 2)

    for refused in (
        rig.jtr("show-plan", str(newer)),
        rig.jtr("apply", str(rig.docs), "--expect", str(newer)),
    ):
        assert refused.code == 64
        assert "a newer jtr wrote it (format 2, this one knows 1); use that one" in refused.err
    assert server.record.handshakes == []


def test_a_newer_state_file_is_kept_for_when_that_jtr_comes_back(tmp_path: Path) -> None:
    path = private(tmp_path / "state.json", STATE, 3)
    before = path.read_bytes()

    state, trouble = StateFile(path).open()
    StateFile(path).save(State())

    assert state == State()
    assert "was written by a newer jtr (format 3, this one knows 2)" in trouble
    assert (tmp_path / "state.json.format-3").read_bytes() == before
    assert StateFile(path).open() == (State(), "")


def test_what_a_newer_one_learnt_of_keys_is_kept_as_well(tmp_path: Path) -> None:
    path = private(tmp_path / "audit.json", CACHE, 2)
    before = path.read_bytes()

    cache = AuditCache(str(path))
    cache.save(datetime(2026, 11, 22, tzinfo=UTC))

    assert "was written by a newer jtr (format 2, this one knows 1)" in cache.trouble
    assert (tmp_path / "audit.json.format-2").read_bytes() == before
    assert not path.exists()
