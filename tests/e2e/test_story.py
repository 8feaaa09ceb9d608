"""The way from a document to a converged server, judged by the server."""

from tests.world import World


def test_second_apply_writes_nothing(world: World) -> None:
    server = world.server()
    world.document("tokyo-1", "bybit", "okx", "kucoin")
    world.begin()

    first = world.apply()
    saves = server.record.saves
    second = world.apply()

    assert (first.code, second.code) == (0, 0), first.text + second.text
    assert (saves, server.record.saves) == (3, 3)
    assert server.robots_running() == {1, 2}
