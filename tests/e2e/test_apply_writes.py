"""What `jtr apply` writes: exactly what is desired, whole, once, and nothing beside it."""

from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from tests.e2e import answers
from tests.e2e.answers import line, results, statuses, stored
from tests.world import World


def converged(world: World, *exchanges: str, **spec: Any) -> StandInThread:
    """Bring one server to its document and return it."""
    server = world.server()
    world.document("tokyo-1", *exchanges, **spec)
    world.begin()
    ran = world.apply()
    assert ran.code == 0, ran.text
    return server


def finished(server: StandInThread) -> list[tuple[str, ...]]:
    """Return every save and delete that went through, without the account."""
    return [(kind, *names) for kind, _, *names in server.record.history]


def test_the_first_apply_stores_exactly_the_values_of_vault(world: World) -> None:
    server = world.server()
    world.document("tokyo-1", "bybit", "okx", rotate=False)
    bybit, okx = world.rotate(exchange="bybit"), world.rotate(exchange="okx")
    world.begin()

    ran = world.apply("-o", "json")

    assert ran.code == 0
    assert results(ran) == {"bybit": "done", "okx": "done"}
    assert server.values() == stored("bybit", bybit) | stored("okx", okx)
    assert server.robots_running() == {1, 2}


def test_a_rotation_writes_exactly_that_exchange_in_one_save(world: World) -> None:
    server = converged(world, "bybit", "okx", "kucoin")
    before, since = server.values(), len(server.record.history)
    new = world.rotate(exchange="okx")

    ran = world.apply()

    assert ran.code == 0
    assert finished(server)[since:] == [("save", "okx_api_key", "okx_api_secret", "okx_password")]
    assert server.values() == before | stored("okx", new)


def test_a_pinned_version_ignores_a_newer_one_and_a_moved_pin_is_followed(world: World) -> None:
    server = world.server()
    first = world.rotate()
    path = world.reference("tokyo-1/bybit")
    world.document("tokyo-1", rotate=False, exchanges={"bybit": {"credentials": f"{path}@1"}})
    world.begin()
    world.apply()
    second = world.rotate()

    kept = world.apply()
    saves = server.record.saves
    shown = server.values()
    world.document("tokyo-1", rotate=False, exchanges={"bybit": {"credentials": f"{path}@2"}})
    planned = world.plan("-o", "json")
    moved = world.apply()

    assert (kept.code, moved.code) == (0, 0)
    assert (saves, server.record.saves) == (1, 2)
    assert shown == stored("bybit", first)
    assert line(planned, "bybit")["reason"] == "the pin moved"
    assert server.values() == stored("bybit", second)


def test_a_pin_moved_back_is_followed_too(world: World) -> None:
    server = world.server()
    first = world.rotate()
    world.rotate()
    path = world.reference("tokyo-1/bybit")
    world.document("tokyo-1", rotate=False)
    world.begin()
    world.apply()

    world.document("tokyo-1", rotate=False, exchanges={"bybit": {"credentials": f"{path}@1"}})

    assert world.apply().code == 0
    assert server.values() == stored("bybit", first)


@pytest.mark.parametrize(
    "names", [("apiKey", "secret"), ("api_key", "api_secret"), ("apiKey", "api_secret")]
)
def test_one_secret_may_use_either_spelling(world: World, names: tuple[str, str]) -> None:
    server = world.server()
    world.document(rotate=False)
    values = [world.watch.secret(), world.watch.secret()]
    world.put("tokyo-1/bybit", **dict(zip(names, values, strict=True)))
    world.begin()

    assert world.apply().code == 0
    assert server.values() == stored("bybit", dict(zip(("apiKey", "secret"), values, strict=True)))


def test_both_spellings_in_one_secret_are_an_error_and_nothing_is_written(world: World) -> None:
    server = world.server()
    world.document(rotate=False)
    world.rotate(exchange="bybit")
    world.put(
        "tokyo-1/bybit",
        apiKey=world.watch.secret(),
        api_key=world.watch.secret(),
        secret=world.watch.secret(),
    )
    world.begin()

    ran = world.apply("-o", "json")

    assert ran.code == 5
    assert "both apiKey and api_key" in line(ran, "bybit")["why"]
    assert server.record.saves == 0


def test_surplus_fields_of_a_secret_are_ignored_and_named(world: World) -> None:
    server = world.server()
    world.document(rotate=False)
    fields = {name: world.watch.secret() for name in ("apiKey", "secret", "withdrawPin")}
    world.put("tokyo-1/bybit", **fields)
    world.begin()

    planned = world.plan("-o", "json")
    applied = world.apply()

    assert "withdrawPin" in line(planned, "bybit")["note"]
    assert applied.code == 0
    assert sorted(server.values()) == ["bybit_api_key", "bybit_api_secret"]


def test_a_missing_field_is_an_error_of_that_exchange_only(world: World) -> None:
    server = world.server()
    world.document("tokyo-1", "bybit", "okx")
    world.put("tokyo-1/okx", apiKey=world.watch.secret(), secret=world.watch.secret())
    world.begin()

    ran = world.apply("-o", "json")

    assert ran.code == 5
    assert statuses(ran) == {"bybit": "write", "okx": "failed"}
    assert "password" in line(ran, "okx")["why"]
    assert sorted(server.values()) == ["bybit_api_key", "bybit_api_secret"]


def test_field_names_of_a_mapping_are_the_teams_own(world: World) -> None:
    server = world.server()
    values = {name: world.watch.secret() for name in ("key_2026", "sec_2026", "phrase")}
    version = world.put("tokyo-1/okx", **values)
    path = world.reference("tokyo-1/okx")
    fields = {"apiKey": "key_2026", "secret": "sec_2026", "password": "phrase"}
    mapping = {name: f"{path}#{field}@{version}" for name, field in fields.items()}
    world.document("tokyo-1", "bybit", exchanges={"okx": {"credentials": mapping}})
    world.begin()

    assert world.apply().code == 0
    assert {n: v for n, v in server.values().items() if n.startswith("okx")} == {
        "okx_api_key": values["key_2026"],
        "okx_api_secret": values["sec_2026"],
        "okx_password": values["phrase"],
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("apiKey", "secret"), "the server also asks for password"),
        (("apiKey", "secret", "password", "uid"), "the server does not ask for uid"),
    ],
)
def test_a_mapping_with_missing_or_surplus_fields_is_blocked(
    world: World, names: tuple[str, ...], said: str
) -> None:
    server = world.server()
    world.put("tokyo-1/okx", **{name: world.watch.secret() for name in names})
    path = world.reference("tokyo-1/okx")
    mapping = {name: f"{path}#{name}" for name in names}
    world.document("tokyo-1", "bybit", exchanges={"okx": {"credentials": mapping}})
    world.begin()

    ran = world.apply("-o", "json")

    assert ran.code == 4
    assert said in line(ran, "okx")["why"]
    assert finished(server) == [("save", "bybit_api_key", "bybit_api_secret")]


def test_gateio_is_written_with_its_user_id(world: World) -> None:
    server = world.server()
    world.document("tokyo-1", "gateio", rotate=False)
    fields = world.rotate(exchange="gateio", uid="12345678")
    world.begin()

    assert world.apply().code == 0
    assert server.values() == stored("gateio", fields)


def test_an_additional_exchange_is_written_and_is_in_sync_after_it_moved_to_main(
    world: World,
) -> None:
    server = world.server()
    world.document("tokyo-1", "kucoin", rotate=False)
    fields = world.rotate(exchange="kucoin")
    world.begin()

    first, second = world.apply("-o", "json"), world.plan("-o", "json")

    assert results(first) == {"kucoin": "done"}
    assert server.values() == stored("kucoin", fields)
    assert statuses(second) == {"kucoin": "in sync"}


def test_an_exchange_that_the_server_does_not_know_is_blocked_and_the_rest_goes_on(
    world: World,
) -> None:
    server = world.server(additional=("mexc",))
    world.document("tokyo-1", "bybit", "kucoin")
    world.begin()

    ran = world.apply("-o", "json")

    assert ran.code == 4
    assert "does not know the exchange kucoin" in line(ran, "kucoin")["why"]
    assert finished(server) == [("save", "bybit_api_key", "bybit_api_secret")]


def test_a_half_done_save_of_ours_is_repaired_whole_in_one_save(world: World) -> None:
    server = converged(world, "bybit", "okx")
    new = world.rotate(exchange="okx")
    server.behaviour.save = "drop-midway"
    torn = world.apply("-o", "json")
    server.behaviour.save = "answer"
    since = len(server.record.history)

    planned = world.plan("-o", "json")
    repaired = world.apply()

    assert (torn.code, results(torn)) == (6, {"okx": "failed"})
    assert line(planned, "okx")["reason"] == "an earlier write did not finish"
    assert repaired.code == 0
    assert finished(server)[since:] == [("save", "okx_api_key", "okx_api_secret", "okx_password")]
    assert stored("okx", new).items() <= server.values().items()


def test_rewrite_saves_what_is_in_sync_and_leaves_no_debt(world: World) -> None:
    server = converged(world, "bybit", "okx")
    since = len(server.record.history)

    rewritten = world.apply("--rewrite", "tokyo-1/okx", "-o", "json")
    planned = world.plan("-o", "json")

    assert rewritten.code == 0
    assert finished(server)[since:] == [("save", "okx_api_key", "okx_api_secret", "okx_password")]
    owed = [debt["exchange"] for debt in answers.server(planned)["debts"]]
    assert owed == ["bybit", "okx"]  # of the first apply


def test_rewrite_of_a_server_covers_all_its_exchanges(world: World) -> None:
    server = converged(world, "bybit", "okx")
    since = server.record.saves

    assert world.apply("--rewrite", "tokyo-1").code == 0
    assert server.record.saves - since == 2


def test_rewrite_repairs_what_no_mask_can_show(world: World) -> None:
    server = converged(world)
    real = server.values()["bybit_api_secret"]
    fake = real[:3] + real[3:-3][::-1] + real[-3:]
    server.set_value("bybit_api_secret", world.watch.guard(fake))

    unseen = world.apply()
    world.apply("--rewrite", "tokyo-1/bybit")

    assert unseen.code == 0
    assert server.values()["bybit_api_secret"] == real


def test_what_left_the_file_is_listed_and_untouched(world: World) -> None:
    server = converged(world, "bybit", "okx")
    before = server.values()
    world.document("tokyo-1", "bybit", rotate=False)

    ran = world.apply("-o", "json")

    assert ran.code == 0
    assert statuses(ran) == {"bybit": "in sync", "okx": "left on the server"}
    assert (server.values(), server.record.deletes) == (before, 0)


def test_two_servers_get_each_their_own(world: World) -> None:
    one, two = world.server("tokyo-1"), world.server("tokyo-2")
    world.document("tokyo-1", rotate=False)
    world.document("tokyo-2", rotate=False)
    first, second = world.rotate("tokyo-1"), world.rotate("tokyo-2")
    world.begin()

    assert world.apply().code == 0
    assert one.values() == stored("bybit", first)
    assert two.values() == stored("bybit", second)


def test_a_secret_without_robots_on_its_exchange_concerns_no_robot(world: World) -> None:
    world.server(robots=[Robot(id=7, name="elsewhere", exchange="okx")])
    world.document()
    world.begin()

    ran = world.plan("-o", "json")

    assert line(ran, "bybit")["consequence"] == {"need": "restart", "robots": []}
