"""What people connected before us: never overwritten or deleted without being asked."""

from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked, line, results, statuses, stored
from tests.support.rig import Rig


def connected(rig: Rig, exchange: str, fields: dict[str, str]) -> StandInThread:
    """Return a server on which a person connected an exchange."""
    server = rig.servers.get("tokyo-1") or rig.server()
    for name, value in stored(exchange, fields).items():
        server.set_value(name, value)
    return server


def others(rig: Rig, *names: str) -> dict[str, str]:
    """Return made-up credentials that nobody put into Vault."""
    return {name: rig.watch.secret() for name in (*names, "apiKey", "secret")}


def started(rig: Rig, *exchanges: str, **spec: Any) -> None:
    """Write the document and begin the ledger."""
    rig.document("tokyo-1", *exchanges, **spec)
    rig.begin()


def test_a_foreign_exchange_is_blocked_and_the_rest_goes_on(rig: Rig) -> None:
    theirs = others(rig)
    server = connected(rig, "bybit", theirs)
    started(rig, "bybit", "okx")

    planned, ran = rig.plan("-o", "json"), rig.apply("-o", "json")

    assert (planned.code, ran.code) == (4, 4)
    assert line(planned, "bybit")["asks"] == "--take-over"
    assert results(ran) == {"okx": "done"}
    assert stored("bybit", theirs).items() <= server.values().items()


def test_auto_approve_and_correct_drift_do_not_take_over(rig: Rig) -> None:
    theirs = others(rig)
    server = connected(rig, "bybit", theirs)
    started(rig)

    assert rig.apply("--correct-drift", "--rewrite", "tokyo-1").code == 4
    assert server.values() == stored("bybit", theirs)
    assert server.record.saves == 0


def test_taking_over_by_flag_covers_one_exchange_only(rig: Rig) -> None:
    server = connected(rig, "bybit", others(rig))
    theirs = others(rig, "password")
    connected(rig, "okx", theirs)
    rig.document("tokyo-1", "bybit", "okx")
    ours = rig.rotate(exchange="bybit")
    rig.begin()

    ran = rig.apply("--take-over", "tokyo-1/bybit", "-o", "json")

    assert (ran.code, results(ran)) == (4, {"bybit": "done"})
    assert server.values() == stored("bybit", ours) | stored("okx", theirs)


def test_taking_over_a_server_covers_all_its_exchanges(rig: Rig) -> None:
    server = connected(rig, "bybit", others(rig))
    connected(rig, "okx", others(rig, "password"))
    rig.document("tokyo-1", "bybit", "okx")
    ours = {exchange: rig.rotate(exchange=exchange) for exchange in ("bybit", "okx")}
    rig.begin()

    assert rig.apply("--take-over", "tokyo-1").code == 0
    assert server.values() == stored("bybit", ours["bybit"]) | stored("okx", ours["okx"])


def taking_over(rig: Rig) -> dict[str, Any]:
    """Return the declaration of bybit that takes over."""
    return {"bybit": {"credentials": rig.reference("tokyo-1/bybit"), "takeOver": True}}


def test_take_over_in_git_takes_over_at_the_first_write(rig: Rig) -> None:
    server = connected(rig, "bybit", others(rig))
    rig.document(rotate=False, exchanges=taking_over(rig))
    ours = rig.rotate()
    rig.begin()

    assert rig.apply().code == 0
    assert server.values() == stored("bybit", ours)


def test_take_over_in_git_does_not_count_again_after_our_own_delete(rig: Rig) -> None:
    server = connected(rig, "bybit", others(rig))
    rig.document(exchanges=taking_over(rig))
    rig.begin()
    rig.apply()
    server.set_running(1, running=False)
    rig.document(rotate=False, exchanges={"bybit": {"state": "absent"}})
    deleted = rig.apply()
    theirs = others(rig)
    connected(rig, "bybit", theirs)
    rig.document(rotate=False, exchanges=taking_over(rig))

    ran = rig.apply("-o", "json")

    assert deleted.code == 0, deleted.text
    assert (ran.code, statuses(ran)) == (4, {"bybit": "blocked"})
    assert server.values() == stored("bybit", theirs)


def test_a_strong_equal_value_is_found_recorded_and_not_read_again(rig: Rig, bao: OpenBao) -> None:
    server = rig.server()
    rig.document(rotate=False)
    connected(rig, "bybit", rig.rotate())
    rig.begin()

    with asked(bao, rig) as first:
        found = rig.apply("-o", "json")
    with asked(bao, rig) as second:
        again = rig.apply("-o", "json")

    assert (found.code, again.code) == (0, 0)
    assert statuses(found) == statuses(again) == {"bybit": "found"}
    assert server.record.saves == 0
    data = f"secret/data/{rig.path('tokyo-1/bybit')}"
    assert first.count(data) == 1
    assert second.count(data) == 0


def test_what_was_found_is_rewritten_when_asked(rig: Rig) -> None:
    server = rig.server()
    rig.document(rotate=False)
    connected(rig, "bybit", rig.rotate())
    rig.begin()
    rig.apply()

    ran = rig.apply("--rewrite", "tokyo-1/bybit", "-o", "json")
    planned = rig.plan("-o", "json")

    # The same mask was there before: it proves nothing about what was written now.
    assert results(ran) == {"bybit": "written, not verifiable"}
    assert (ran.code, server.record.saves) == (0, 1)
    assert statuses(planned) == {"bybit": "in sync"}


def test_a_rotation_after_a_find_is_foreign_still(rig: Rig) -> None:
    server = rig.server()
    rig.document(rotate=False)
    old = rig.rotate()
    connected(rig, "bybit", old)
    rig.begin()
    rig.apply()
    rig.rotate()

    assert rig.apply().code == 4
    assert server.values() == stored("bybit", old)


@pytest.mark.parametrize("shape", ["pem", "short"])
def test_a_weak_equal_mask_is_blocked_until_taken_over(rig: Rig, shape: str) -> None:
    server = rig.server()
    rig.document(rotate=False)
    secret = "abcdefgh-12" if shape == "short" else rig.watch.secret("pem").strip()
    same = rig.rotate(secret=secret)
    connected(rig, "bybit", same)
    rig.begin()

    blocked = rig.apply("-o", "json")
    saves = server.record.saves
    taken = rig.apply("--take-over", "tokyo-1/bybit", "-o", "json")
    after = rig.plan("-o", "json")

    assert (blocked.code, statuses(blocked)) == (4, {"bybit": "blocked"})
    assert (saves, server.record.saves) == (0, 1)
    assert results(taken) == {"bybit": "written, not verifiable"}
    assert statuses(after) == {"bybit": "in sync"}


def test_a_partly_stored_foreign_exchange_is_blocked(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "kucoin", rotate=False)
    fields = rig.rotate(exchange="kucoin")
    server.set_value("kucoin_api_key", fields["apiKey"])
    rig.begin()

    ran = rig.apply("-o", "json")

    assert (ran.code, statuses(ran)) == (4, {"kucoin": "blocked"})
    assert list(server.values()) == ["kucoin_api_key"]


def test_an_exchange_that_was_never_declared_is_named_and_untouched(rig: Rig) -> None:
    theirs = others(rig, "password")
    server = connected(rig, "okx", theirs)
    started(rig)

    ran = rig.apply("-o", "json")
    text = rig.plan()

    assert (ran.code, statuses(ran)["okx"]) == (0, "not managed")
    assert "not managed, untouched: okx" in text.out
    assert stored("okx", theirs).items() <= server.values().items()


def test_writes_of_unknown_verdicts_stop_at_the_operators_limit(rig: Rig) -> None:
    rig.settings(maxUnknownWrites=1)
    for name in ("tokyo-1", "tokyo-2"):
        server = rig.server(name)
        rig.document(name, rotate=False)
        same = rig.rotate(name, secret="abcdefgh-12")
        for field, value in stored("bybit", same).items():
            server.set_value(field, value)
    rig.begin()

    both = ("--take-over", "tokyo-1", "--take-over", "tokyo-2")
    first = rig.apply(*both)
    saves = [rig.servers[name].record.saves for name in ("tokyo-1", "tokyo-2")]
    second = rig.apply(*both)

    assert (first.code, saves) == (4, [1, 0])
    assert second.code == 0
    assert [server.record.saves for server in rig.servers.values()] == [1, 1]
