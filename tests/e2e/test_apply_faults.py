"""What `jtr apply` makes of servers that lie, fall silent or hang up: read again, never repeat."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from reconciler.apply.credentials import Writes
from reconciler.apply.execution import Execution
from reconciler.reconcile import survey
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import codes, results, server, statuses, stored
from tests.e2e.meanwhile import DELETE, HELD, LOOK, SAVE, going_down, when_asked
from tests.support.durations import DURATIONS
from tests.support.rig import Rig

Fault = Literal[
    "drop-before",
    "drop-midway",
    "drop-after",
    "crash-midway",
    "silent-before",
    "silent-after",
    "unknown-answer",
    "lose-last-row",
]


def rotated(rig: Rig, *, fault: Fault, **options: Any) -> tuple[StandInThread, dict[str, str]]:
    """Return a converged server whose next save goes wrong, and what it should store then."""
    stand_in = rig.server(**options)
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    assert rig.apply().code == 0
    new = stored("okx", rig.rotate(exchange="okx"))
    stand_in.behaviour.save = fault
    return stand_in, new


@pytest.mark.silence
@pytest.mark.parametrize(
    ("fault", "written"),
    [
        ("silent-after", True),
        ("drop-after", True),
        ("unknown-answer", True),
        ("silent-before", False),
        ("drop-before", False),
        ("drop-midway", False),
        ("crash-midway", False),
    ],
)
def test_silence_is_resolved_by_reading_and_the_next_apply_converges(
    rig: Rig, fault: Fault, *, written: bool
) -> None:
    stand_in, new = rotated(rig, fault=fault)
    saves = stand_in.record.saves

    ran = rig.apply("-o", "json")
    stand_in.behaviour.save = "answer"
    sent = stand_in.record.saves - saves
    again = rig.apply()
    third = stand_in.record.saves
    rig.apply()

    assert sent == 1  # never a second save in the same pass
    assert (ran.code, results(ran)) == ((0, {"okx": "done"}) if written else (6, {"okx": "failed"}))
    assert (again.code, third - saves) == (0, 1 if written else 2)
    assert stand_in.record.saves == third
    assert new.items() <= stand_in.values().items()
    assert stand_in.robots_running() == {1, 2}


@pytest.mark.silence
def test_after_silence_that_did_no_harm_the_brake_is_off(rig: Rig) -> None:
    stand_in, _ = rotated(rig, fault="silent-before")

    rig.apply()
    status = rig.jtr("status", "-o", "json")
    planned = rig.plan("-o", "json")

    assert '"brakes": []' in status.out
    assert (planned.code, statuses(planned)["okx"]) == (0, "write")
    assert stand_in.robots_running() == {1, 2}


def test_a_lost_row_is_seen_and_repaired_by_the_next_apply(rig: Rig) -> None:
    stand_in, new = rotated(rig, fault="lose-last-row")
    saves = stand_in.record.saves

    ran = rig.apply("-o", "json")
    stand_in.behaviour.save = "answer"
    again = rig.apply()

    assert (ran.code, results(ran)) == (6, {"okx": "failed"})
    assert "okx_password" in server(ran)["outcomes"][0]["detail"]
    assert (again.code, stand_in.record.saves - saves) == (0, 2)
    assert new.items() <= stand_in.values().items()


def test_a_lost_row_of_a_first_write_is_repaired_too(rig: Rig) -> None:
    stand_in = rig.server(behaviour=Behaviour(save="lose-last-row"))
    rig.document("tokyo-1", "kucoin", rotate=False)
    new = stored("kucoin", rig.rotate(exchange="kucoin"))
    rig.begin()

    ran = rig.apply()
    stand_in.behaviour.save = "answer"

    assert (ran.code, rig.apply().code) == (6, 0)
    assert stand_in.values() == new


@pytest.mark.parametrize("shape", ["pem", "short"])
def test_what_a_mask_cannot_prove_is_written_but_not_verifiable(rig: Rig, shape: str) -> None:
    stand_in = rig.server()
    rig.document(rotate=False)
    secret = "abcdefgh-12" if shape == "short" else rig.watch.secret("pem").strip()
    new = stored("bybit", rig.rotate(secret=secret))
    rig.begin()

    ran, planned = rig.apply("-o", "json"), rig.plan("-o", "json")

    assert (ran.code, results(ran)) == (0, {"bybit": "written, not verifiable"})
    assert stand_in.values() == new
    assert statuses(planned) == {"bybit": "in sync"}


@pytest.mark.silence
def test_silence_around_a_value_whose_mask_stays_is_not_taken_for_success(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document(rotate=False)
    key = rig.watch.secret()
    rig.rotate(apiKey=key, secret=rig.watch.secret("pem").strip())
    rig.begin()
    rig.apply()
    new = stored("bybit", rig.rotate(apiKey=key, secret=rig.watch.secret("pem").strip()))
    stand_in.behaviour.save = "silent-before"

    ran = rig.apply("-o", "json")
    stand_in.behaviour.save = "answer"
    again = rig.apply()

    assert (ran.code, results(ran)) == (6, {"bybit": "failed"})
    assert again.code == 0
    assert stand_in.values() == new


@pytest.mark.silence
def test_nothing_more_is_done_on_a_server_after_a_failure_and_others_go_on(rig: Rig) -> None:
    failing = rig.server("tokyo-1", behaviour=Behaviour(save="silent-before"))
    good = rig.server("tokyo-2")
    rig.document("tokyo-1", "bybit", "okx")
    rig.document("tokyo-2", "bybit", "okx")
    rig.begin()

    ran = rig.apply("-o", "json")

    assert codes(ran) == {"tokyo-1": 6, "tokyo-2": 0}
    assert results(ran) == {"bybit": "failed", "okx": "not attempted"}
    assert results(ran, "tokyo-2") == {"bybit": "done", "okx": "done"}
    assert (failing.record.saves, good.record.saves) == (1, 2)


def test_a_delayed_answer_is_waited_for(rig: Rig) -> None:
    stand_in, new = rotated(rig, fault="silent-after")
    stand_in.behaviour.save = "answer"
    stand_in.behaviour.answer_delay = 0.05

    ran = rig.apply("-o", "json")

    assert results(ran) == {"okx": "done"}
    assert new.items() <= stand_in.values().items()


def test_a_connection_that_went_away_before_the_write_is_opened_once_more(rig: Rig) -> None:
    stand_in = rig.server()
    other = rig.server("tokyo-2", behaviour=Behaviour(login_delay=HELD))  # the plan waits for it
    rig.document("tokyo-1")
    rig.document("tokyo-2")
    rig.begin()

    def cut() -> None:
        stand_in.server.drop_connections()
        other.behaviour.login_delay = 0.0

    def answered() -> None:
        # On the server's own loop: a timer comes after everything that is ready, the answer too.
        asyncio.get_running_loop().call_later(0.05, cut)

    with when_asked(stand_in, LOOK, answered):
        ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (0, {"bybit": "done"})
    assert stand_in.record.saves == 1
    assert len(stand_in.record.handshakes) == 2


@pytest.mark.silence
def test_when_vault_fails_in_the_middle_of_silence_the_way_back_is_known(
    rig: Rig, bao: OpenBao
) -> None:
    """It needs the access secret once more: that of the same visit."""
    stand_in, _ = rotated(rig, fault="silent-after")
    bao.write_policy(f"read-{rig.team}", {"secret/*": ["read", "list"]})
    token = bao.create_token([f"read-{rig.team}"])
    rig.watch.guard(token.reveal(), "token")

    with when_asked(stand_in, SAVE, lambda: bao.revoke(token)):
        ran = rig.apply("-o", "json", environment={"VAULT_TOKEN": token.reveal()})
    planned = rig.plan("-o", "json")

    assert (ran.code, results(ran)) == (0, {"okx": "done"})
    assert (planned.code, statuses(planned)["okx"]) == (0, "in sync")


@pytest.mark.silence
def test_a_robot_list_of_unknown_shape_after_a_write_is_no_proof_that_robots_run(
    rig: Rig,
) -> None:
    stand_in, _ = rotated(rig, fault="drop-after")

    def spoil() -> None:
        stand_in.behaviour.unknown = frozenset({"background-jobs-list-response"})

    with when_asked(stand_in, SAVE, spoil):
        ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (6, {"okx": "outcome unknown"})


@pytest.mark.silence
def test_a_log_that_cannot_be_read_after_silence_is_no_proof_either(rig: Rig) -> None:
    stand_in, _ = rotated(rig, fault="silent-before")
    stand_in.append_log_line("this is no JSON")

    ran = rig.apply("-o", "json")
    planned = rig.plan("-o", "json")

    assert (ran.code, results(ran)) == (6, {"okx": "outcome unknown"})
    assert (planned.code, statuses(planned)["okx"]) == (4, "blocked")


@pytest.mark.silence
def test_a_rewrite_without_answer_proves_nothing(rig: Rig) -> None:
    """It would show what stood there before: only an answer tells that anything was written."""
    stand_in, _ = rotated(rig, fault="silent-after")
    rig.apply()
    real = stand_in.values()["okx_api_secret"]
    stand_in.set_value("okx_api_secret", rig.watch.guard(real[:3] + real[-4:2:-1] + real[-3:]))
    stand_in.behaviour.save = "silent-before"

    ran = rig.apply("--rewrite", "tokyo-1/okx", "-o", "json")
    stand_in.behaviour.save = "answer"
    again = rig.apply()

    assert (ran.code, results(ran)) == (6, {"okx": "failed"})
    assert again.code == 0
    assert stand_in.values()["okx_api_secret"] == real


def test_an_exchange_that_the_server_stops_listing_while_it_is_deleted_is_not_taken_for_gone(
    rig: Rig,
) -> None:
    stand_in = rig.server(robots=[])
    rig.document("tokyo-1", "bybit", "kucoin")
    rig.begin()
    rig.apply()
    absent = {"kucoin": {"state": "absent"}}
    rig.document("tokyo-1", "bybit", rotate=False, exchanges=absent)

    def edits_exchanges_conf() -> None:
        stand_in.server._state.additional = ("mexc",)

    with when_asked(stand_in, DELETE, edits_exchanges_conf):
        ran = rig.apply("-o", "json")
    listed_again = ("mexc", "kucoin")
    unlisted = rig.apply()
    stand_in.server._state.additional = listed_again
    later = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (4, {"kucoin": "failed"})
    assert unlisted.code == 0
    assert (later.code, results(later)) == (0, {"kucoin": "done"})
    assert sorted(stand_in.values()) == ["bybit_api_key", "bybit_api_secret"]


@pytest.mark.silence
def test_what_was_seen_before_a_server_went_away_keeps_its_time(rig: Rig) -> None:
    rig.settings(durations=DURATIONS | {"reconnect": "400ms"})
    stand_in, _ = rotated(rig, fault="silent-after")
    with going_down(stand_in, SAVE):
        rig.apply()
    ended = datetime.now(UTC)
    (seen,) = json.loads(rig.jtr("status", "-o", "json").out)["servers"]

    assert (ended - datetime.fromisoformat(seen["observedAt"])).total_seconds() > 0.6


# ── a mistake of ours on one server ──────────────────────────────────────────────────────────


def broken(rig: Rig, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[str]:
    """Let a function fail by a mistake for tokyo-1 alone; returns whom the others were done for."""
    for one in ("tokyo-1", "tokyo-2", "tokyo-3"):
        rig.server(one, behaviour=Behaviour(login_delay=0.0 if one == "tokyo-1" else 0.3))
        rig.document(one)
    rig.begin()
    whole = getattr(module, name)
    done: list[str] = []

    async def mistaken(subject: Any, *args: Any, **named: Any) -> Any:
        server = getattr(subject, "_execution", subject).desired.name
        if server == "tokyo-1":
            raise KeyError("made up, and to be shown to nobody")
        found = await whole(subject, *args, **named)
        done.append(server)
        return found

    monkeypatch.setattr(module, name, mistaken)
    return done


@pytest.mark.parametrize(
    ("module", "name"), [(Writes, "_each"), (survey, "_look")], ids=["writes", "looks"]
)
def test_a_mistake_on_one_server_ends_no_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    """Their tasks went on behind a command that had ended, without anybody to tell of them."""
    done = broken(rig, monkeypatch, module, name)

    ran = rig.apply("-o", "json")

    assert codes(ran) == {"tokyo-1": 1, "tokyo-2": 0, "tokyo-3": 0}
    assert sorted(done) == ["tokyo-2", "tokyo-3"]
    assert [server.record.saves for server in rig.servers.values()] == [0, 1, 1]
    assert "internal error (KeyError in broken.<locals>.mistaken" in ran.out
    assert "made up" not in ran.text


def test_a_mistake_after_a_write_was_sent_engages_the_brake(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody judged what that write did, and the others were written to all the same."""
    broken(rig, monkeypatch, Execution, "aftermath")

    ran = rig.apply("--server", "tokyo-1", "-o", "json")
    others = rig.apply("-o", "json")

    assert codes(ran) == {"tokyo-1": 1}
    assert codes(others) == dict.fromkeys(("tokyo-1", "tokyo-2", "tokyo-3"), 4)
    assert [server.record.saves for server in rig.servers.values()] == [1, 0, 0]
    assert "a mistake of jt-reconciler" in others.out
