"""A name is a label: servers are known by their addresses."""

import yaml

from tests.world import World


def renamed(world: World, old: str, new: str) -> None:
    """Give the server of one document another name; its secrets stay where they are."""
    path = world.docs / f"{old}.yaml"
    document = yaml.safe_load(path.read_text("utf-8"))
    document["metadata"]["name"] = new
    path.write_text(yaml.safe_dump(document), "utf-8")


def test_two_servers_swap_their_names_and_nothing_is_written(world: World) -> None:
    for name in ("tokyo-1", "osaka-1"):
        world.server(name)
        world.document(name)
    world.begin()
    assert world.apply().code == 0
    renamed(world, "tokyo-1", "osaka-1")
    (world.docs / "osaka-1.yaml").rename(world.docs / "second.yaml")
    renamed(world, "second", "tokyo-1")

    again = world.apply()

    assert again.code == 0, again.text
    assert [server.record.saves for server in world.servers.values()] == [1, 1]


def test_a_new_server_takes_the_name_of_a_renamed_one(world: World) -> None:
    first = world.server("tokyo-1")
    world.document("tokyo-1")
    world.begin()
    assert world.apply().code == 0
    renamed(world, "tokyo-1", "tokyo-old")
    (world.docs / "tokyo-1.yaml").rename(world.docs / "old.yaml")
    second = world.server("tokyo-2")
    world.document("tokyo-2")
    renamed(world, "tokyo-2", "tokyo-1")

    again = world.apply()

    assert again.code == 0, again.text
    assert (first.record.saves, second.record.saves) == (1, 1)
    assert "tokyo-old" in world.jtr("status").out
