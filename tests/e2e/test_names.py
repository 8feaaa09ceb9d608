"""A name is a label: servers are known by their addresses."""

import pytest
import yaml

from reconciler.sandbox.jt_trader import record
from tests.support.rig import Rig


def renamed(rig: Rig, old: str, new: str) -> None:
    """Give the server of one document another name; its secrets stay where they are."""
    path = rig.docs / f"{old}.yaml"
    document = yaml.safe_load(path.read_text("utf-8"))
    document["metadata"]["name"] = new
    path.write_text(yaml.safe_dump(document), "utf-8")


def test_two_servers_swap_their_names_and_nothing_is_written(rig: Rig) -> None:
    for name in ("tokyo-1", "osaka-1"):
        rig.server(name)
        rig.document(name)
    rig.begin()
    assert rig.apply().code == 0
    renamed(rig, "tokyo-1", "osaka-1")
    (rig.docs / "osaka-1.yaml").rename(rig.docs / "second.yaml")
    renamed(rig, "second", "tokyo-1")

    again = rig.apply()

    assert again.code == 0, again.text
    assert [server.record.saves for server in rig.servers.values()] == [1, 1]


def test_a_new_server_takes_the_name_of_a_renamed_one(rig: Rig) -> None:
    first = rig.server("tokyo-1")
    rig.document("tokyo-1")
    rig.begin()
    assert rig.apply().code == 0
    renamed(rig, "tokyo-1", "tokyo-old")
    (rig.docs / "tokyo-1.yaml").rename(rig.docs / "old.yaml")
    second = rig.server("tokyo-2")
    rig.document("tokyo-2")
    renamed(rig, "tokyo-2", "tokyo-1")

    again = rig.apply()

    assert again.code == 0, again.text
    assert (first.record.saves, second.record.saves) == (1, 1)
    assert "tokyo-old" in rig.jtr("status").out


def test_a_server_that_was_swapped_between_plan_and_write_gets_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    collect = record.SINK

    def swapped_meanwhile(command: str, event: str) -> None:
        if event == "logs-list-request":  # the last read of the plan
            for robot in server.server._state.robots:
                robot.id = robot.id % 100 + 100
        if collect is not None:
            collect(command, event)

    monkeypatch.setattr(record, "SINK", swapped_meanwhile)
    ran = rig.apply()

    assert (ran.code, server.record.saves) == (4, 0), ran.text
    assert "none of the robots is there" in ran.out


def test_an_approval_does_not_hand_one_servers_history_to_another(rig: Rig) -> None:
    first = rig.server("tokyo-1")
    rig.document("tokyo-1")
    rig.begin()
    assert rig.apply().code == 0
    renamed(rig, "tokyo-1", "tokyo-old")
    (rig.docs / "tokyo-1.yaml").rename(rig.docs / "old.yaml")
    second = rig.server("tokyo-2")
    rig.document("tokyo-2")
    renamed(rig, "tokyo-2", "tokyo-1")

    for field in ("bybit_api_key", "bybit_api_secret"):  # so the first one keeps its old name
        first.set_value(field, rig.watch.secret())

    ran = rig.apply("--approve-target-change", "tokyo-1")

    assert ran.code == 4, ran.text
    # The first one is held as it is; the second one is new, whatever its name.
    assert (first.record.saves, second.record.saves) == (1, 1)
    known = rig.jtr("status").out
    assert first.url in known
    assert second.url in known
