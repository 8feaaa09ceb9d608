"""What people changed on a server by hand: told, left alone, put back only with consent."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.jt_trader import record
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.e2e import answers
from tests.e2e.answers import line, results, statuses, stored
from tests.e2e.meanwhile import LOOK, when_asked
from tests.support.rig import Rig

KEY = "okx_api_key"


def converged(rig: Rig, **spec: Any) -> StandInThread:
    """Bring one server with two exchanges to its document and return it."""
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx", **spec)
    rig.begin()
    ran = rig.apply()
    assert ran.code == 0, ran.text
    return server


def typed(rig: Rig, server: StandInThread, name: str = KEY) -> str:
    """Let a person type another value into the Config page."""
    value = rig.watch.secret("hex")
    server.set_value(name, value)
    return value


def test_drift_is_left_alone_and_told(rig: Rig) -> None:
    server = converged(rig)
    saves, other = server.record.saves, typed(rig, server)

    planned = rig.plan("-o", "json")
    applied = rig.apply()
    detailed = rig.apply("--detailed-exitcode", "-o", "json")

    assert (planned.code, applied.code, detailed.code) == (0, 0, 2)
    assert line(planned, "okx")["category"] == "drift"
    assert statuses(planned) == {"bybit": "in sync", "okx": "left alone"}
    assert "--correct-drift" in applied.out
    assert results(detailed) == {}
    assert (server.values()[KEY], server.record.saves) == (other, saves)


def test_a_plan_with_drift_ends_with_2_when_asked_for_details(rig: Rig) -> None:
    server = converged(rig)

    assert rig.plan("--detailed-exitcode").code == 0
    typed(rig, server)
    assert rig.plan("--detailed-exitcode", "-o", "json").code == 2


def test_drift_is_corrected_with_consent_and_leaves_no_debt(rig: Rig) -> None:
    server = converged(rig)
    server.restart()  # a newer boot line settles what the first apply left owed
    before = server.values()
    typed(rig, server)

    ran = rig.apply("--correct-drift")
    after = rig.plan("-o", "json")

    assert ran.code == 0, ran.text
    assert server.values() == before
    assert statuses(after) == {"bybit": "in sync", "okx": "in sync"}
    assert answers.server(after)["debts"] == []


def test_self_heal_corrects_drift_without_the_flag(rig: Rig) -> None:
    server = converged(rig, selfHeal=True)
    before = server.values()
    typed(rig, server)

    assert rig.apply().code == 0
    assert server.values() == before


def test_drift_by_removal_of_a_part_is_told_and_corrected_in_one_save(rig: Rig) -> None:
    server = converged(rig)
    before, saves = server.values(), server.record.saves
    server.remove_value("okx_password")

    planned = rig.plan("-o", "json")
    left = rig.apply()
    saved = server.record.saves
    corrected = rig.apply("--correct-drift")

    assert "removed a part" in line(planned, "okx")["why"]
    assert (left.code, saved, corrected.code) == (0, saves, 0)
    assert server.record.saves == saves + 1
    assert server.values() == before


def test_drift_by_removal_of_everything_is_drift_too(rig: Rig) -> None:
    server = converged(rig)
    before = server.values()
    for name in ("okx_api_key", "okx_api_secret", "okx_password"):
        server.remove_value(name)

    planned = rig.plan("-o", "json")
    left = rig.apply()
    shown = server.values()
    rig.apply("--correct-drift")

    assert "removed it" in line(planned, "okx")["why"]
    assert left.code == 0
    assert KEY not in shown
    assert server.values() == before


def test_drift_while_vault_moved_too_says_both_and_is_corrected_to_the_new_version(
    rig: Rig,
) -> None:
    server = converged(rig)
    typed(rig, server)
    new = rig.rotate(exchange="okx")

    planned = rig.plan("-o", "json")
    left = rig.apply()
    shown = server.values()
    corrected = rig.apply("--correct-drift")

    why = line(planned, "okx")["why"]
    assert "changed it on the server" in why
    assert "Vault moved too" in why
    assert (left.code, corrected.code) == (0, 0)
    assert not stored("okx", new).items() <= shown.items()
    assert stored("okx", new).items() <= server.values().items()


def test_drift_to_the_desired_value_is_found_and_not_written(rig: Rig) -> None:
    server = converged(rig)
    saves = server.record.saves
    for name, value in stored("okx", rig.rotate(exchange="okx")).items():
        server.set_value(name, value)

    planned = rig.plan("-o", "json")
    applied = rig.apply("--correct-drift", "-o", "json")

    assert statuses(planned) == {"bybit": "in sync", "okx": "found"}
    assert (applied.code, results(applied)) == (0, {})
    assert server.record.saves == saves


def test_drift_of_one_server_does_not_hold_back_changes_of_the_same_server(rig: Rig) -> None:
    server = converged(rig)
    other = typed(rig, server)
    new = rig.rotate(exchange="bybit")

    ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (0, {"bybit": "done"})
    assert server.values()[KEY] == other
    assert stored("bybit", new).items() <= server.values().items()


@contextmanager
def types_meanwhile(rig: Rig, server: StandInThread, name: str) -> Iterator[None]:
    """Let somebody type a value as soon as the server was looked at once more."""
    value = rig.watch.secret("hex")
    with when_asked(server, LOOK, lambda: server.set_value(name, value)):
        yield


@pytest.mark.parametrize("field", ["okx_api_key", "okx_password"])
def test_what_changed_between_plan_and_apply_is_not_overwritten(rig: Rig, field: str) -> None:
    server = converged(rig)
    rig.server("tokyo-2", behaviour=Behaviour(login_delay=0.5))  # keeps the plan waiting
    rig.document("tokyo-2")
    saves = server.record.saves
    rig.rotate(exchange="okx")

    with types_meanwhile(rig, server, field):
        ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert results(ran) == {"okx": "failed"}
    assert results(ran, "tokyo-2") == {"bybit": "done"}
    assert server.record.saves == saves
    assert "changed on the server since it was planned" in ran.out
    assert answers.codes(ran) == {"tokyo-1": 4, "tokyo-2": 0}


def test_another_exchange_that_changed_meanwhile_does_not_matter(rig: Rig) -> None:
    server = converged(rig)
    rig.server("tokyo-2", behaviour=Behaviour(login_delay=0.5))
    rig.document("tokyo-2")
    new = rig.rotate(exchange="okx")

    with types_meanwhile(rig, server, "bybit_api_key"):
        ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (0, {"okx": "done"})
    assert stored("okx", new).items() <= server.values().items()


def test_a_plan_writes_nothing_anywhere(rig: Rig, tmp_path: Path) -> None:
    server = rig.server()
    rig.document()

    ran = rig.plan()

    assert ran.code == 0
    assert server.record.saves == server.record.deletes == 0
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "config").exists()


def test_what_somebody_types_while_another_exchange_is_written_is_not_overwritten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    assert rig.apply().code == 0
    for exchange in ("bybit", "okx"):
        rig.rotate("tokyo-1", exchange)
    typed = rig.watch.secret()
    collect = record.SINK

    def types_meanwhile(command: str, event: str) -> None:
        if event == "exchange-config-save":
            server.set_value("okx_password", typed)
        if collect is not None:
            collect(command, event)

    monkeypatch.setattr(record, "SINK", types_meanwhile)
    ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (4, {"bybit": "done", "okx": "failed"}), ran.text
    assert server.values()["okx_password"] == typed
