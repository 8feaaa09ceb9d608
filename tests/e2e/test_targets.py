"""Which server an address means: tunnels get swapped, servers move, two people apply at once."""

import sqlite3
import time
from threading import Thread

import pytest

from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandInThread
from tests.e2e.answers import codes, document, results, server, statuses, stored
from tests.world import DURATIONS, Ran, World


def converged(world: World, name: str = "tokyo-1") -> StandInThread:
    """Bring one server to its document and return it."""
    stand_in = world.server(name)
    world.document(name, "bybit", "okx")
    world.begin()
    assert world.apply().code == 0
    return stand_in


def moved(stand_in: StandInThread) -> str:
    """Let the same server come back on another port; returns its new URL."""
    stand_in.stop()
    old = stand_in.server._port
    stand_in.server._port = 0
    url = stand_in.start()
    assert not url.endswith(f":{old}")
    return url


def ledger_rows(world: World, like: str) -> list[str]:
    """Return texts of the ledger's rows whose key fits."""
    (file,) = (world.home / "state").rglob("ledger.db")
    with sqlite3.connect(file) as database:
        tables = [
            row[0] for row in database.execute("select name from sqlite_master where type='table'")
        ]
        found = [
            str(row)
            for table in tables
            for row in database.execute(f"select * from {table}")
            if like in str(row)
        ]
    database.close()
    return found


def test_a_changed_address_is_blocked_before_any_handshake(world: World) -> None:
    converged(world)
    secret = {"accessSecret": f"{world.reference('tokyo-1')}#access_secret"}
    other = world.server("tokyo-2")
    world.document("tokyo-1", "bybit", "okx", rotate=False, url=other.url, **secret)

    planned, applied = world.plan("-o", "json"), world.apply("-o", "json")

    assert (planned.code, applied.code) == (4, 4)
    assert "its address changed" in server(planned)["held"]
    assert "--approve-target-change tokyo-1" in server(planned)["remedy"]
    assert other.record.handshakes == []


def test_an_approved_address_goes_on_with_its_history(world: World) -> None:
    stand_in = converged(world)
    saves = stand_in.record.saves
    url = moved(stand_in)
    world.document("tokyo-1", "bybit", "okx", rotate=False, url=url)

    blocked = world.apply()
    approved = world.apply("--approve-target-change", "tokyo-1", "-o", "json")
    after = world.apply("-o", "json")

    assert blocked.code == 4
    assert (approved.code, statuses(approved)) == (0, {"bybit": "in sync", "okx": "in sync"})
    assert (after.code, stand_in.record.saves) == (0, saves)


def test_an_address_that_was_left_is_retired_and_going_back_asks_again(world: World) -> None:
    stand_in = converged(world)
    old = stand_in.url
    url = moved(stand_in)
    world.document("tokyo-1", "bybit", "okx", rotate=False, url=url)
    world.apply("--approve-target-change", "tokyo-1")
    world.document("tokyo-1", "bybit", "okx", rotate=False, url=old)

    back = world.apply("-o", "json")

    assert any(old in row and "retired" in row for row in ledger_rows(world, "/identity"))
    assert back.code == 4
    assert "its address changed" in server(back)["held"]


@pytest.mark.parametrize("name", ["tokyo-9", "tokyo-1/bybit"])
def test_approving_the_address_of_what_is_no_server_is_a_usage_error(
    world: World, name: str
) -> None:
    world.server()
    world.document()

    assert world.plan("--approve-target-change", name).code == 64


def test_a_renamed_server_keeps_its_history(world: World) -> None:
    stand_in = converged(world)
    saves = stand_in.record.saves
    (world.docs / "tokyo-1.yaml").unlink()
    world.document(
        "osaka-1",
        rotate=False,
        url=stand_in.url,
        accessSecret=f"{world.reference('tokyo-1')}#access_secret",
        exchanges={
            code: {"credentials": world.reference(f"tokyo-1/{code}")} for code in ("bybit", "okx")
        },
    )

    ran = world.apply("-o", "json")
    status = world.jtr("status")

    assert (ran.code, statuses(ran, "osaka-1")) == (0, {"bybit": "in sync", "okx": "in sync"})
    assert stand_in.record.saves == saves
    assert "osaka-1  " in status.out
    assert "tokyo-1  " not in status.out


def test_two_names_that_swap_their_servers_keep_each_servers_history(world: World) -> None:
    one = converged(world, "tokyo-1")
    two = world.server("tokyo-2")
    world.document("tokyo-2", "bybit", "okx")
    world.apply()
    saves = (one.record.saves, two.record.saves)
    first, second = (world.docs / f"tokyo-{n}.yaml" for n in (1, 2))
    texts = [
        file.read_text().replace(f"name: {old}", f"name: {new}")
        for file, old, new in ((first, "tokyo-1", "tokyo-2"), (second, "tokyo-2", "tokyo-1"))
    ]
    first.write_text(texts[0])
    second.write_text(texts[1])

    ran = world.apply("-o", "json")

    assert (ran.code, document(ran)["summary"]["writes"]) == (0, 0)
    assert (one.record.saves, two.record.saves) == saves


def test_another_server_behind_the_address_is_blocked_until_approved(world: World) -> None:
    stand_in = converged(world)
    for name in stand_in.values():
        stand_in.set_value(name, world.watch.secret("hex"))
    saves = stand_in.record.saves
    world.rotate(exchange="okx")

    blocked = world.apply("--correct-drift", "-o", "json")
    sent = stand_in.record.saves - saves
    approved = world.apply("--correct-drift", "--approve-target-change", "tokyo-1")

    assert (blocked.code, sent) == (4, 0)
    assert "another server behind this address?" in server(blocked)["held"]
    assert (approved.code, stand_in.record.saves - saves) == (0, 2)
    assert world.plan().code == 0


def test_no_known_robot_left_is_blocked_until_approved(world: World) -> None:
    stand_in = converged(world)
    stand_in.server._state.robots[:] = [Robot(id=77, name="stranger", exchange="bybit")]
    saves = stand_in.record.saves
    new = stored("okx", world.rotate(exchange="okx"))

    blocked = world.apply("-o", "json")
    sent = stand_in.record.saves - saves
    approved = world.apply("--approve-target-change", "tokyo-1")
    later = world.apply()

    assert (blocked.code, sent) == (4, 0)
    assert "none of the robots that we knew" in server(blocked)["held"]
    assert (approved.code, later.code) == (0, 0)
    assert new.items() <= stand_in.values().items()


def test_another_account_is_refused(world: World) -> None:
    stand_in = world.server()
    world.document(account="42")
    world.begin()

    ran = world.apply("-o", "json")

    assert ran.code == 6
    assert server(ran)["failure"]["kind"] == "WrongAccount"
    assert stand_in.record.saves == 0
    assert stand_in.record.events("exchange-config-request") == 0


def test_a_wrong_access_secret_sends_nothing(world: World) -> None:
    stand_in = world.server()
    world.document()
    world.put("tokyo-1", access_secret=world.watch.secret())
    world.begin()

    ran = world.apply("-o", "json")

    assert ran.code == 6
    assert server(ran)["failure"]["kind"] == "Unauthorized"
    assert stand_in.record.received == []
    assert len(stand_in.record.handshakes) == 1


def test_addresses_and_paths_outside_the_operators_lists_are_blocked(world: World) -> None:
    stand_in = world.server()
    world.document()
    world.begin()
    world.settings(allow={"urls": ["https://*.internal"]})
    by_url = world.apply()
    world.settings(allow={"paths": ["secret/elsewhere/*"]})
    by_path = world.apply()

    assert (by_url.code, by_path.code) == (4, 4)
    assert stand_in.record.handshakes == []


# ── two at once ──────────────────────────────────────────────────────────────────────────────


def slow(world: World, seconds: float, wait: str) -> StandInThread:
    """Return a server whose rows take their time, and set how long a lease is waited for."""
    world.settings(durations=DURATIONS | {"request": "30s", "leaseWait": wait})
    stand_in = world.server(behaviour=Behaviour(row_delay=(seconds, seconds)))
    world.document("tokyo-1")
    world.begin()
    return stand_in


def both_at_once(world: World) -> tuple[Ran, Ran]:
    """Apply tokyo-1 here and, while its save is in flight, everything in another process."""
    stand_in = world.servers["tokyo-1"]
    other: list[Ran] = []

    def second() -> None:
        deadline = time.monotonic() + 30
        while not stand_in.record.saves and time.monotonic() < deadline:
            time.sleep(0.005)
        other.append(world.process("apply", str(world.docs), "--auto-approve", "-o", "json"))

    thread = Thread(target=second)
    thread.start()
    ran = world.apply("--server", "tokyo-1", "-o", "json")
    thread.join()
    return ran, other[0]


def test_a_second_apply_is_told_who_holds_the_server_and_goes_on_with_others(
    world: World,
) -> None:
    one, two = slow(world, 3.0, "300ms"), world.server("tokyo-2")
    world.document("tokyo-2")

    first, second = both_at_once(world)

    assert (first.code, results(first)) == (0, {"bybit": "done"})
    assert codes(second) == {"tokyo-1": 4, "tokyo-2": 0}
    assert "is applying to tokyo-1 since" in server(second)["failure"]["what"]
    assert (one.record.saves, two.record.saves) == (1, 1)


def test_a_second_apply_waits_its_turn_and_writes_nothing_twice(world: World) -> None:
    stand_in = slow(world, 0.1, "5s")

    first, second = both_at_once(world)

    assert first.code == 0
    assert second.code in {0, 4}  # 4: what it had planned on is no longer so
    assert stand_in.record.saves == 1
    assert len(stand_in.rows()) == 2  # no duplicates
    assert world.plan().code == 0
