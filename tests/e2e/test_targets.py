"""Which server an address means: tunnels get swapped, servers move, two people apply at once."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any

import pytest

from reconciler.sandbox.jt_trader import writes
from reconciler.sandbox.jt_trader.faults import lasting
from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked, codes, document, results, server, statuses, stored
from tests.e2e.meanwhile import HELD, LOOK, SAVE, beside
from tests.support.durations import DURATIONS
from tests.support.processes import until
from tests.support.rig import Ran, Rig


def converged(rig: Rig, name: str = "tokyo-1") -> StandInThread:
    """Bring one server to its document and return it."""
    stand_in = rig.server(name)
    rig.document(name, "bybit", "okx")
    rig.begin()
    assert rig.apply().code == 0
    return stand_in


def moved(stand_in: StandInThread) -> str:
    """Let the same server come back on another port; returns its new URL."""
    stand_in.stop()
    old = stand_in.url
    stand_in.server.url = ""
    url = stand_in.start()
    assert url != old
    return url


def ledger_rows(rig: Rig, like: str) -> list[str]:
    """Return texts of the ledger's rows whose key fits."""
    (file,) = (rig.home / "state").rglob("ledger.db")
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


def test_a_changed_address_is_blocked_before_any_handshake(rig: Rig) -> None:
    converged(rig)
    secret = {"accessSecret": f"{rig.reference('tokyo-1')}#access_secret"}
    other = rig.server("tokyo-2")
    rig.document("tokyo-1", "bybit", "okx", rotate=False, url=other.url, **secret)

    planned, applied = rig.plan("-o", "json"), rig.apply("-o", "json")

    assert (planned.code, applied.code) == (4, 4)
    assert "its address changed" in server(planned)["held"]
    assert "--approve-target-change tokyo-1" in server(planned)["remedy"]
    assert other.record.handshakes == []


def test_an_approved_address_goes_on_with_its_history(rig: Rig) -> None:
    stand_in = converged(rig)
    saves = stand_in.record.saves
    url = moved(stand_in)
    rig.document("tokyo-1", "bybit", "okx", rotate=False, url=url)

    blocked = rig.apply()
    approved = rig.apply("--approve-target-change", "tokyo-1", "-o", "json")
    after = rig.apply("-o", "json")

    assert blocked.code == 4
    assert (approved.code, statuses(approved)) == (0, {"bybit": "in sync", "okx": "in sync"})
    assert (after.code, stand_in.record.saves) == (0, saves)


def test_an_address_that_was_left_is_retired_and_going_back_asks_again(rig: Rig) -> None:
    stand_in = converged(rig)
    old = stand_in.url
    url = moved(stand_in)
    rig.document("tokyo-1", "bybit", "okx", rotate=False, url=url)
    rig.apply("--approve-target-change", "tokyo-1")
    rig.document("tokyo-1", "bybit", "okx", rotate=False, url=old)

    back = rig.apply("-o", "json")

    assert any(old in row and "retired" in row for row in ledger_rows(rig, "/identity"))
    assert back.code == 4
    assert "its address changed" in server(back)["held"]


@pytest.mark.parametrize("name", ["tokyo-9", "tokyo-1/bybit"])
def test_approving_the_address_of_what_is_no_server_is_a_usage_error(rig: Rig, name: str) -> None:
    rig.server()
    rig.document()

    assert rig.plan("--approve-target-change", name).code == 64


def test_a_renamed_server_keeps_its_history(rig: Rig) -> None:
    stand_in = converged(rig)
    saves = stand_in.record.saves
    (rig.docs / "tokyo-1.yaml").unlink()
    rig.document(
        "osaka-1",
        rotate=False,
        url=stand_in.url,
        accessSecret=f"{rig.reference('tokyo-1')}#access_secret",
        exchanges={
            code: {"credentials": rig.reference(f"tokyo-1/{code}")} for code in ("bybit", "okx")
        },
    )

    ran = rig.apply("-o", "json")
    status = rig.jtr("status")

    assert (ran.code, statuses(ran, "osaka-1")) == (0, {"bybit": "in sync", "okx": "in sync"})
    assert stand_in.record.saves == saves
    assert "osaka-1  " in status.out
    assert "tokyo-1  " not in status.out


def test_two_names_that_swap_their_servers_keep_each_servers_history(rig: Rig) -> None:
    one = converged(rig, "tokyo-1")
    two = rig.server("tokyo-2")
    rig.document("tokyo-2", "bybit", "okx")
    rig.apply()
    saves = (one.record.saves, two.record.saves)
    first, second = (rig.docs / f"tokyo-{n}.yaml" for n in (1, 2))
    texts = [
        file.read_text().replace(f"name: {old}", f"name: {new}")
        for file, old, new in ((first, "tokyo-1", "tokyo-2"), (second, "tokyo-2", "tokyo-1"))
    ]
    first.write_text(texts[0])
    second.write_text(texts[1])

    ran = rig.apply("-o", "json")

    assert (ran.code, document(ran)["summary"]["writes"]) == (0, 0)
    assert (one.record.saves, two.record.saves) == saves


def test_another_server_behind_the_address_is_blocked_until_approved(rig: Rig) -> None:
    stand_in = converged(rig)
    for name in stand_in.values():
        stand_in.set_value(name, rig.watch.secret("hex"))
    saves = stand_in.record.saves
    rig.rotate(exchange="okx")

    blocked = rig.apply("--correct-drift", "-o", "json")
    sent = stand_in.record.saves - saves
    approved = rig.apply("--correct-drift", "--approve-target-change", "tokyo-1")

    assert (blocked.code, sent) == (4, 0)
    assert "another server behind this address?" in server(blocked)["held"]
    assert (approved.code, stand_in.record.saves - saves) == (0, 2)
    assert rig.plan().code == 0


def test_no_known_robot_left_is_blocked_until_approved(rig: Rig) -> None:
    stand_in = converged(rig)
    stand_in.server._state.robots[:] = [Robot(id=77, name="stranger", exchange="bybit")]
    saves = stand_in.record.saves
    new = stored("okx", rig.rotate(exchange="okx"))

    blocked = rig.apply("-o", "json")
    sent = stand_in.record.saves - saves
    approved = rig.apply("--approve-target-change", "tokyo-1")
    later = rig.apply()

    assert (blocked.code, sent) == (4, 0)
    assert "none of the robots that we knew" in server(blocked)["held"]
    assert (approved.code, later.code) == (0, 0)
    assert new.items() <= stand_in.values().items()


def test_another_account_is_refused(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document(account="42")
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 6
    assert server(ran)["failure"]["kind"] == "WrongAccount"
    assert stand_in.record.saves == 0
    assert stand_in.record.events("exchange-config-request") == 0


def test_a_wrong_access_secret_sends_nothing(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    rig.put("tokyo-1", access_secret=rig.watch.secret())
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 6
    assert server(ran)["failure"]["kind"] == "Unauthorized"
    assert stand_in.record.received == []
    assert len(stand_in.record.handshakes) == 1


def test_addresses_and_paths_outside_the_operators_lists_are_blocked(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    rig.begin()
    rig.settings(allow={"urls": ["https://*.internal"]})
    by_url = rig.apply()
    rig.settings(allow={"paths": ["secret/elsewhere/*"]})
    by_path = rig.apply()

    assert (by_url.code, by_path.code) == (4, 4)
    assert stand_in.record.handshakes == []


# ── two at once ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Until it is set the first save is in flight."""
    save, rows, free = writes._save_row, count(), Event()

    async def held(*args: Any) -> str:
        if next(rows) == 0:
            await lasting(lambda: 0.0 if free.is_set() else HELD)
        return await save(*args)

    monkeypatch.setattr(writes, "_save_row", held)
    return free


def both_at_once(rig: Rig, free: Event, enough: Callable[[], bool]) -> tuple[Ran, Ran]:
    """
    Apply tokyo-1 here and, while its save is in flight, everything in another process.

    The save goes on when it is *enough*, or when the other process has ended.
    """

    def second() -> Ran:
        return rig.process("apply", str(rig.docs), "--auto-approve", "-o", "json")

    def beside_it() -> None:
        other = pool.submit(second)
        until(lambda: other.done() or enough())
        free.set()
        ran.append(other.result())

    ran: list[Ran] = []
    with ThreadPoolExecutor(1) as pool, beside(rig.servers["tokyo-1"], SAVE, beside_it):
        first = rig.apply("--server", "tokyo-1", "-o", "json")
    return first, ran[0]


def held_server(rig: Rig, wait: str) -> StandInThread:
    """Return a server to write to, and set how long a lease is waited for."""
    rig.settings(durations=DURATIONS | {"request": "10m", "leaseWait": wait})
    stand_in = rig.server()
    rig.document("tokyo-1")
    rig.begin()
    return stand_in


def test_a_second_apply_is_told_who_holds_the_server_and_goes_on_with_others(
    rig: Rig, free: Event
) -> None:
    one, two = held_server(rig, "300ms"), rig.server("tokyo-2")
    rig.document("tokyo-2")

    first, second = both_at_once(rig, free, lambda: False)

    assert (first.code, results(first)) == (0, {"bybit": "done"})
    assert codes(second) == {"tokyo-1": 4, "tokyo-2": 0}
    assert "is applying to tokyo-1 since" in server(second)["failure"]["what"]
    assert (one.record.saves, two.record.saves) == (1, 1)


def test_a_second_apply_waits_its_turn_and_writes_nothing_twice(rig: Rig, free: Event) -> None:
    stand_in = held_server(rig, "10m")

    def planned() -> bool:
        """Whether the second one has looked, too: what it does next needs the lease."""
        first = stand_in.record.handshakes[0].connection
        return any(
            one.event == LOOK and one.connection != first for one in stand_in.record.received
        )

    first, second = both_at_once(rig, free, planned)

    assert first.code == 0
    assert second.code == 0, second.text
    assert "another process did it meanwhile" in second.text
    assert stand_in.record.saves == 1
    assert len(stand_in.rows()) == 2  # no duplicates
    assert rig.plan().code == 0


# ── what the owner of a secret says ──────────────────────────────────────────────────────────


def bind(rig: Rig, name: str, *targets: str) -> None:
    rig.bao.bind(rig.path(name), ",".join(targets))


def test_a_secret_goes_only_where_its_owner_says(rig: Rig, bao: OpenBao) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    bind(rig, "tokyo-1", server.url)
    bind(rig, "tokyo-1/bybit", "https://elsewhere.internal", "https://*.osaka")
    bind(rig, "tokyo-1/okx", "http://127.0.0.1:*")

    with asked(bao, rig) as paths:
        ran = rig.apply()

    assert ran.code == 4
    assert f"{rig.reference('tokyo-1/bybit')} is not for {server.url}" in ran.out
    assert [path for path in paths if path == "secret/data/" + rig.path("tokyo-1/bybit")] == []
    assert {name.split("_")[0] for name in server.values()} == {"okx"}

    bind(rig, "tokyo-1/bybit", server.url)
    assert rig.apply().code == 0


def test_a_login_goes_only_where_its_owner_says(rig: Rig, bao: OpenBao) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    bind(rig, "tokyo-1", "none")

    with asked(bao, rig) as paths:
        planned, applied = rig.plan(), rig.apply()

    assert (planned.code, applied.code) == (4, 4)
    assert server.record.handshakes == []
    assert [path for path in paths if "/data/" in path] == []
