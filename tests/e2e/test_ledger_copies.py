"""`jtr ledger backup`, `restore`, `check` and `move`; what a server saw is what counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.bootstrap import now
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from reconciler.system.timeouts import Timeouts
from tests.e2e.test_requests import ask, kinds, moment
from tests.support.durations import DURATIONS
from tests.support.rig import LEDGERS, Ran, Rig

BRIEF = DURATIONS | {"quiesce": "1s", "sendWindow": "1s"}


@pytest.fixture(params=LEDGERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def begun(rig: Rig, kind: str) -> tuple[StandInThread, dict[str, Any]]:
    """A server that is as its document says, with a ledger of that kind; and its settings."""
    settings = {"durations": BRIEF, **rig.ledger(kind)}
    rig.settings(**settings)
    server = rig.server(behaviour=Behaviour(ping_interval=0.1, ping_timeout=0.6))
    rig.document("tokyo-1", "bybit", supervised=True)
    rig.begin()
    assert rig.apply().code == 0
    return server, settings


def backup(rig: Rig, name: str = "backup.jsonl") -> Path:
    file = rig.home / name
    ran = rig.jtr("ledger", "backup", str(file))
    assert ran.code == 0, ran.text
    assert file.stat().st_mode & 0o777 == 0o600
    rig.watch.search("a backup", file.read_text("ascii"))
    return file


def lost(rig: Rig, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Lose the ledger: its file is gone, or another path in Vault is to take its place."""
    if kind == "sqlite":
        for file in (rig.home / "state" / "jtr").glob("ledger.db*"):
            file.unlink()
        return settings
    changed = {**settings, "ledger": f"{settings['ledger']}-anew"}
    rig.settings(**changed)
    return changed


def restore(rig: Rig, file: Path, *more: str) -> Ran:
    return rig.jtr("ledger", "restore", str(file), "--because", "the disk died", *more)


def reboots(server: StandInThread) -> int:
    return kinds(server).count("reboot")


def test_a_restored_ledger_repeats_nothing_and_still_knows_what_it_wrote(
    rig: Rig, kind: str
) -> None:
    server, settings = begun(rig, kind)
    file = backup(rig)
    ask(rig, cache={"invalidatedAfter": moment()})
    assert rig.apply().code == 0
    done = kinds(server)
    assert "invalidate" in " ".join(done)
    lost(rig, kind, settings)

    ran = restore(rig, file)

    assert ran.code == 0, ran.text
    assert "counts as handled" in ran.out
    assert "not known any more: brakes" in ran.out
    for _ in range(2):  # the document still asks for what the ledger forgot
        again = rig.apply()
        assert again.code == 0, again.text
        assert "to write" not in again.out or "0 to write" in again.out
    assert kinds(server) == done
    rig.rotate()
    assert rig.apply().code == 0  # the key is still known to be ours
    ask(rig, cache={"invalidatedAfter": moment()})
    assert rig.apply().code == 0  # and what is asked for anew is done
    assert len(kinds(server)) > len(done)


def test_a_move_forgets_nothing_and_repeats_nothing(rig: Rig) -> None:
    server, settings = begun(rig, "sqlite")
    there = rig.ledger("vault")
    ask(rig, cache={"invalidatedAfter": moment()})
    assert rig.apply().code == 0
    done = kinds(server)
    rig.settings(**{**settings, "fingerprintKey": there["fingerprintKey"]})
    key = rig.home / "config" / "jtr" / "fingerprint.key"
    rig.put("fingerprint", key=key.read_text("ascii").strip())

    ran = rig.jtr("ledger", "move", there["ledger"])

    assert ran.code == 0, ran.text
    assert f"ledger: {there['ledger']}" in ran.err
    old = rig.apply()
    assert old.code == 1
    assert f"this ledger was moved to {there['ledger']}" in old.err
    again = rig.jtr("ledger", "move", there["ledger"])
    assert (again.code, "was moved" in again.out) == (0, True)
    rig.settings(**{**settings, **there})
    again = rig.apply()
    assert again.code == 0, again.text
    assert "no reboot" not in again.err  # nothing is suspect
    assert kinds(server) == done
    ask(rig, cache={"invalidatedAfter": moment()})
    assert rig.apply().code == 0
    assert len(kinds(server)) == len(done) + 1


def test_a_ledger_that_was_lost_after_its_move_is_restored_and_not_moved_again(rig: Rig) -> None:
    begun(rig, "sqlite")
    file = rig.home / "state" / "elsewhere.db"
    assert rig.jtr("ledger", "move", f"sqlite:{file}").code == 0
    for part in file.parent.glob("elsewhere.db*"):
        part.unlink()

    again = rig.jtr("ledger", "move", f"sqlite:{file}")

    assert again.code == 1
    assert "there is none any more; what lies here is older" in " ".join(again.err.split())
    assert "jtr ledger restore" in again.err
    assert not file.exists()


def test_a_move_and_back(rig: Rig) -> None:
    server, settings = begun(rig, "vault")
    file = rig.home / "state" / "elsewhere.db"

    assert rig.jtr("ledger", "move", f"sqlite:{file}").code == 0
    rig.settings(**{**settings, "ledger": f"sqlite:{file}", "soleWriter": True})
    rig.rotate()
    assert rig.apply().code == 0
    back = rig.jtr("ledger", "move", settings["ledger"])

    assert back.code == 1
    assert "already" in back.err  # the old rows are still there, and not overwritten
    assert rig.apply().code == 0
    assert server.record.saves == 2


def test_a_controller_must_be_stopped_first(rig: Rig) -> None:
    begun(rig, "sqlite")
    store = SqliteStore.open(rig.home / "state" / "jtr" / "ledger.db")
    ledger = Ledger(store, now=now, timeouts=Timeouts(), writer="controller 1@elsewhere")
    with ledger.leadership():
        ran = rig.jtr("ledger", "move", f"sqlite:{rig.home / 'new.db'}")
    store.close()

    assert ran.code == 4
    assert "is the controller of this ledger" in ran.err
    assert rig.apply().code == 0  # nothing was changed


def test_a_sound_ledger_and_its_backup_are_said_to_be_so(rig: Rig, kind: str) -> None:
    begun(rig, kind)
    file = backup(rig)

    for args in ((), (str(file),)):
        ran = rig.jtr("ledger", "check", *args)
        found = json.loads(rig.jtr("ledger", "check", *args, "-o", "json").out)
        assert ran.code == 0, ran.text
        assert "every row can be read" in ran.out
        assert found["damaged"] == []
        assert found["missingFingerprintKeys"] == []
        assert found["rows"]["exchange"] == 1


def test_a_damaged_row_is_named_and_never_copied(rig: Rig) -> None:
    begun(rig, "sqlite")
    store = SqliteStore.open(rig.home / "state" / "jtr" / "ledger.db")
    store.put("server/x/history", "{}", expect=0)
    store.close()

    ran = rig.jtr("ledger", "check")

    assert ran.code == 1
    assert "server/x/history" in ran.out
    for args in (("backup", str(rig.home / "no")), ("move", f"sqlite:{rig.home / 'no.db'}")):
        refused = rig.jtr("ledger", *args)
        assert refused.code == 1
        assert "server/x/history" in refused.err
    assert not (rig.home / "no").exists()


def test_a_missing_fingerprint_key_is_told(rig: Rig) -> None:
    begun(rig, "sqlite")

    ran = rig.jtr("ledger", "check", environment={"XDG_CONFIG_HOME": str(rig.home / "other")})

    assert "a fingerprint key that is not at" in ran.out


def test_nothing_is_restored_over_a_ledger(rig: Rig, kind: str) -> None:
    server, _ = begun(rig, kind)
    file = backup(rig)
    rig.rotate()
    assert rig.apply().code == 0

    ran = restore(rig, file)

    assert ran.code == 1
    assert "there already is a ledger" in ran.err
    assert rig.apply().code == 0
    assert server.record.saves == 2


def test_what_is_no_backup_is_refused_and_nothing_begun(rig: Rig) -> None:
    rig.settings(soleWriter=True)
    rig.server()
    cut = rig.home / "cut"
    cut.write_text('{"format":1}\n', "ascii")

    for file, code, says in (
        (rig.home / "nowhere", 64, "cannot be read"),
        (rig.home, 64, "cannot be read"),
        (cut, 1, "no backup of a ledger"),
    ):
        ran = restore(rig, file)
        assert (ran.code, says in ran.err) == (code, True), ran.text
    assert not (rig.home / "state" / "jtr" / "ledger.db").exists()


def test_bad_places_and_files_are_told(rig: Rig) -> None:
    begun(rig, "sqlite")
    file = backup(rig)

    for args, says in (
        (("backup", str(file)), "is there already"),
        (("backup", str(rig.home / "no" / "folder")), "cannot be written"),
        (("move", "nowhere"), "no place for a ledger"),
        (("move", "vault:x"), "no place for a ledger"),
        (("move", f"sqlite:{rig.home / 'state' / 'jtr' / 'ledger.db'}"), "already"),
        (("move", "vault:secret/ledger"), "fingerprint key is not"),
        (("restore", str(file)), "--because"),
    ):
        ran = rig.jtr("ledger", *args)
        assert (ran.code, says in ran.err) == (64, True), ran.text
    assert rig.apply().code == 0


def test_standard_output_is_a_file_as_well(rig: Rig) -> None:
    begun(rig, "sqlite")
    ran = rig.jtr("ledger", "backup", "-")
    file = rig.home / "piped"
    file.write_text(ran.out, "ascii")

    assert rig.jtr("ledger", "check", str(file)).code == 0
