"""What people connected before us: never overwritten or deleted without being asked."""

from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked, line, results, statuses, stored
from tests.world import World


def connected(world: World, exchange: str, fields: dict[str, str]) -> StandInThread:
    """Return a server on which a person connected an exchange."""
    server = world.servers.get("tokyo-1") or world.server()
    for name, value in stored(exchange, fields).items():
        server.set_value(name, value)
    return server


def others(world: World, *names: str) -> dict[str, str]:
    """Return made-up credentials that nobody put into Vault."""
    return {name: world.watch.secret() for name in (*names, "apiKey", "secret")}


def started(world: World, *exchanges: str, **spec: Any) -> None:
    """Write the document and begin the ledger."""
    world.document("tokyo-1", *exchanges, **spec)
    world.begin()


def test_a_foreign_exchange_is_blocked_and_the_rest_goes_on(world: World) -> None:
    theirs = others(world)
    server = connected(world, "bybit", theirs)
    started(world, "bybit", "okx")

    planned, ran = world.plan("-o", "json"), world.apply("-o", "json")

    assert (planned.code, ran.code) == (4, 4)
    assert line(planned, "bybit")["asks"] == "--take-over"
    assert results(ran) == {"okx": "done"}
    assert stored("bybit", theirs).items() <= server.values().items()


def test_auto_approve_and_correct_drift_do_not_take_over(world: World) -> None:
    theirs = others(world)
    server = connected(world, "bybit", theirs)
    started(world)

    assert world.apply("--correct-drift", "--rewrite", "tokyo-1").code == 4
    assert server.values() == stored("bybit", theirs)
    assert server.record.saves == 0


def test_taking_over_by_flag_covers_one_exchange_only(world: World) -> None:
    server = connected(world, "bybit", others(world))
    theirs = others(world, "password")
    connected(world, "okx", theirs)
    world.document("tokyo-1", "bybit", "okx")
    ours = world.rotate(exchange="bybit")
    world.begin()

    ran = world.apply("--take-over", "tokyo-1/bybit", "-o", "json")

    assert (ran.code, results(ran)) == (4, {"bybit": "done"})
    assert server.values() == stored("bybit", ours) | stored("okx", theirs)


def test_taking_over_a_server_covers_all_its_exchanges(world: World) -> None:
    server = connected(world, "bybit", others(world))
    connected(world, "okx", others(world, "password"))
    world.document("tokyo-1", "bybit", "okx")
    ours = {exchange: world.rotate(exchange=exchange) for exchange in ("bybit", "okx")}
    world.begin()

    assert world.apply("--take-over", "tokyo-1").code == 0
    assert server.values() == stored("bybit", ours["bybit"]) | stored("okx", ours["okx"])


def taking_over(world: World) -> dict[str, Any]:
    """Return the declaration of bybit that takes over."""
    return {"bybit": {"credentials": world.reference("tokyo-1/bybit"), "takeOver": True}}


def test_take_over_in_git_takes_over_at_the_first_write(world: World) -> None:
    server = connected(world, "bybit", others(world))
    world.document(rotate=False, exchanges=taking_over(world))
    ours = world.rotate()
    world.begin()

    assert world.apply().code == 0
    assert server.values() == stored("bybit", ours)


def test_take_over_in_git_does_not_count_again_after_our_own_delete(world: World) -> None:
    server = connected(world, "bybit", others(world))
    world.document(exchanges=taking_over(world))
    world.begin()
    world.apply()
    server.set_running(1, running=False)
    world.document(rotate=False, exchanges={"bybit": {"state": "absent"}})
    deleted = world.apply()
    theirs = others(world)
    connected(world, "bybit", theirs)
    world.document(rotate=False, exchanges=taking_over(world))

    ran = world.apply("-o", "json")

    assert deleted.code == 0, deleted.text
    assert (ran.code, statuses(ran)) == (4, {"bybit": "blocked"})
    assert server.values() == stored("bybit", theirs)


def test_a_strong_equal_value_is_found_recorded_and_not_read_again(
    world: World, bao: OpenBao
) -> None:
    server = world.server()
    world.document(rotate=False)
    connected(world, "bybit", world.rotate())
    world.begin()

    with asked(bao, world) as first:
        found = world.apply("-o", "json")
    with asked(bao, world) as second:
        again = world.apply("-o", "json")

    assert (found.code, again.code) == (0, 0)
    assert statuses(found) == statuses(again) == {"bybit": "found"}
    assert server.record.saves == 0
    data = f"secret/data/{world.path('tokyo-1/bybit')}"
    assert first.count(data) == 1
    assert second.count(data) == 0


def test_what_was_found_is_rewritten_when_asked(world: World) -> None:
    server = world.server()
    world.document(rotate=False)
    connected(world, "bybit", world.rotate())
    world.begin()
    world.apply()

    ran = world.apply("--rewrite", "tokyo-1/bybit", "-o", "json")
    planned = world.plan("-o", "json")

    # The same mask was there before: it proves nothing about what was written now.
    assert results(ran) == {"bybit": "written, not verifiable"}
    assert (ran.code, server.record.saves) == (0, 1)
    assert statuses(planned) == {"bybit": "in sync"}


def test_a_rotation_after_a_find_is_foreign_still(world: World) -> None:
    server = world.server()
    world.document(rotate=False)
    old = world.rotate()
    connected(world, "bybit", old)
    world.begin()
    world.apply()
    world.rotate()

    assert world.apply().code == 4
    assert server.values() == stored("bybit", old)


@pytest.mark.parametrize("shape", ["pem", "short"])
def test_a_weak_equal_mask_is_blocked_until_taken_over(world: World, shape: str) -> None:
    server = world.server()
    world.document(rotate=False)
    secret = "abcdefgh-12" if shape == "short" else world.watch.secret("pem").strip()
    same = world.rotate(secret=secret)
    connected(world, "bybit", same)
    world.begin()

    blocked = world.apply("-o", "json")
    saves = server.record.saves
    taken = world.apply("--take-over", "tokyo-1/bybit", "-o", "json")
    after = world.plan("-o", "json")

    assert (blocked.code, statuses(blocked)) == (4, {"bybit": "blocked"})
    assert (saves, server.record.saves) == (0, 1)
    assert results(taken) == {"bybit": "written, not verifiable"}
    assert statuses(after) == {"bybit": "in sync"}


def test_a_partly_stored_foreign_exchange_is_blocked(world: World) -> None:
    server = world.server()
    world.document("tokyo-1", "kucoin", rotate=False)
    fields = world.rotate(exchange="kucoin")
    server.set_value("kucoin_api_key", fields["apiKey"])
    world.begin()

    ran = world.apply("-o", "json")

    assert (ran.code, statuses(ran)) == (4, {"kucoin": "blocked"})
    assert list(server.values()) == ["kucoin_api_key"]


def test_an_exchange_that_was_never_declared_is_named_and_untouched(world: World) -> None:
    theirs = others(world, "password")
    server = connected(world, "okx", theirs)
    started(world)

    ran = world.apply("-o", "json")
    text = world.plan()

    assert (ran.code, statuses(ran)["okx"]) == (0, "not managed")
    assert "not managed, untouched: okx" in text.out
    assert stored("okx", theirs).items() <= server.values().items()


def test_writes_of_unknown_verdicts_stop_at_the_operators_limit(world: World) -> None:
    world.settings(maxUnknownWrites=1)
    for name in ("tokyo-1", "tokyo-2"):
        server = world.server(name)
        world.document(name, rotate=False)
        same = world.rotate(name, secret="abcdefgh-12")
        for field, value in stored("bybit", same).items():
            server.set_value(field, value)
    world.begin()

    both = ("--take-over", "tokyo-1", "--take-over", "tokyo-2")
    first = world.apply(*both)
    saves = [world.servers[name].record.saves for name in ("tokyo-1", "tokyo-2")]
    second = world.apply(*both)

    assert (first.code, saves) == (4, [1, 0])
    assert second.code == 0
    assert [server.record.saves for server in world.servers.values()] == [1, 1]
