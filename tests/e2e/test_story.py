"""The way from a document to a converged server, judged by the server."""

from tests.support.rig import Rig


def test_second_apply_writes_nothing(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx", "kucoin")
    rig.begin()

    first = rig.apply()
    saves = server.record.saves
    second = rig.apply()

    assert (first.code, second.code) == (0, 0), first.text + second.text
    assert (saves, server.record.saves) == (3, 3)
    assert server.robots_running() == {1, 2}
