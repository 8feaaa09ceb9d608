"""What `jtr apply` writes: exactly what is desired, whole, once, and nothing beside it."""

from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from tests.e2e import answers
from tests.e2e.answers import line, results, statuses, stored
from tests.support.rig import Rig


def converged(rig: Rig, *exchanges: str, **spec: Any) -> StandInThread:
    """Bring one server to its document and return it."""
    server = rig.server()
    rig.document("tokyo-1", *exchanges, **spec)
    rig.begin()
    ran = rig.apply()
    assert ran.code == 0, ran.text
    return server


def finished(server: StandInThread) -> list[tuple[str, ...]]:
    """Return every save and delete that went through, without the account."""
    return [(kind, *names) for kind, _, *names in server.record.history]


def test_the_first_apply_stores_exactly_the_values_of_vault(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    bybit, okx = rig.rotate(exchange="bybit"), rig.rotate(exchange="okx")
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 0
    assert results(ran) == {"bybit": "done", "okx": "done"}
    assert server.values() == stored("bybit", bybit) | stored("okx", okx)
    assert server.robots_running() == {1, 2}


def test_a_rotation_writes_exactly_that_exchange_in_one_save(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx", "kucoin")
    before, since = server.values(), len(server.record.history)
    new = rig.rotate(exchange="okx")

    ran = rig.apply()

    assert ran.code == 0
    assert finished(server)[since:] == [("save", "okx_api_key", "okx_api_secret", "okx_password")]
    assert server.values() == before | stored("okx", new)


def test_a_pinned_version_ignores_a_newer_one_and_a_moved_pin_is_followed(rig: Rig) -> None:
    server = rig.server()
    first = rig.rotate()
    path = rig.reference("tokyo-1/bybit")
    rig.document("tokyo-1", rotate=False, exchanges={"bybit": {"credentials": f"{path}@1"}})
    rig.begin()
    rig.apply()
    second = rig.rotate()

    kept = rig.apply()
    saves = server.record.saves
    shown = server.values()
    rig.document("tokyo-1", rotate=False, exchanges={"bybit": {"credentials": f"{path}@2"}})
    planned = rig.plan("-o", "json")
    moved = rig.apply()

    assert (kept.code, moved.code) == (0, 0)
    assert (saves, server.record.saves) == (1, 2)
    assert shown == stored("bybit", first)
    assert line(planned, "bybit")["reason"] == "the pin moved"
    assert server.values() == stored("bybit", second)


def test_a_pin_moved_back_is_followed_too(rig: Rig) -> None:
    server = rig.server()
    first = rig.rotate()
    rig.rotate()
    path = rig.reference("tokyo-1/bybit")
    rig.document("tokyo-1", rotate=False)
    rig.begin()
    rig.apply()

    rig.document("tokyo-1", rotate=False, exchanges={"bybit": {"credentials": f"{path}@1"}})

    assert rig.apply().code == 0
    assert server.values() == stored("bybit", first)


@pytest.mark.parametrize(
    "names", [("apiKey", "secret"), ("api_key", "api_secret"), ("apiKey", "api_secret")]
)
def test_one_secret_may_use_either_spelling(rig: Rig, names: tuple[str, str]) -> None:
    server = rig.server()
    rig.document(rotate=False)
    values = [rig.watch.secret(), rig.watch.secret()]
    rig.put("tokyo-1/bybit", **dict(zip(names, values, strict=True)))
    rig.begin()

    assert rig.apply().code == 0
    assert server.values() == stored("bybit", dict(zip(("apiKey", "secret"), values, strict=True)))


def test_both_spellings_in_one_secret_are_an_error_and_nothing_is_written(rig: Rig) -> None:
    server = rig.server()
    rig.document(rotate=False)
    rig.rotate(exchange="bybit")
    rig.put(
        "tokyo-1/bybit",
        apiKey=rig.watch.secret(),
        api_key=rig.watch.secret(),
        secret=rig.watch.secret(),
    )
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 5
    assert "both apiKey and api_key" in line(ran, "bybit")["why"]
    assert server.record.saves == 0


def test_surplus_fields_of_a_secret_are_ignored_and_named(rig: Rig) -> None:
    server = rig.server()
    rig.document(rotate=False)
    fields = {name: rig.watch.secret() for name in ("apiKey", "secret", "withdrawPin")}
    rig.put("tokyo-1/bybit", **fields)
    rig.begin()

    planned = rig.plan("-o", "json")
    applied = rig.apply()

    assert "withdrawPin" in line(planned, "bybit")["note"]
    assert applied.code == 0
    assert sorted(server.values()) == ["bybit_api_key", "bybit_api_secret"]


def test_a_missing_field_is_an_error_of_that_exchange_only(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.put("tokyo-1/okx", apiKey=rig.watch.secret(), secret=rig.watch.secret())
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 5
    assert statuses(ran) == {"bybit": "write", "okx": "failed"}
    assert "password" in line(ran, "okx")["why"]
    assert sorted(server.values()) == ["bybit_api_key", "bybit_api_secret"]


def test_field_names_of_a_mapping_are_the_teams_own(rig: Rig) -> None:
    server = rig.server()
    values = {name: rig.watch.secret() for name in ("key_2026", "sec_2026", "phrase")}
    version = rig.put("tokyo-1/okx", **values)
    path = rig.reference("tokyo-1/okx")
    fields = {"apiKey": "key_2026", "secret": "sec_2026", "password": "phrase"}
    mapping = {name: f"{path}#{field}@{version}" for name, field in fields.items()}
    rig.document("tokyo-1", "bybit", exchanges={"okx": {"credentials": mapping}})
    rig.begin()

    assert rig.apply().code == 0
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
    rig: Rig, names: tuple[str, ...], said: str
) -> None:
    server = rig.server()
    rig.put("tokyo-1/okx", **{name: rig.watch.secret() for name in names})
    path = rig.reference("tokyo-1/okx")
    mapping = {name: f"{path}#{name}" for name in names}
    rig.document("tokyo-1", "bybit", exchanges={"okx": {"credentials": mapping}})
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert said in line(ran, "okx")["why"]
    assert finished(server) == [("save", "bybit_api_key", "bybit_api_secret")]


def test_gateio_is_written_with_its_user_id(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "gateio", rotate=False)
    fields = rig.rotate(exchange="gateio", uid="12345678")
    rig.begin()

    assert rig.apply().code == 0
    assert server.values() == stored("gateio", fields)


def test_an_additional_exchange_is_written_and_is_in_sync_after_it_moved_to_main(
    rig: Rig,
) -> None:
    server = rig.server()
    rig.document("tokyo-1", "kucoin", rotate=False)
    fields = rig.rotate(exchange="kucoin")
    rig.begin()

    first, second = rig.apply("-o", "json"), rig.plan("-o", "json")

    assert results(first) == {"kucoin": "done"}
    assert server.values() == stored("kucoin", fields)
    assert statuses(second) == {"kucoin": "in sync"}


def test_an_exchange_that_the_server_does_not_know_is_blocked_and_the_rest_goes_on(
    rig: Rig,
) -> None:
    server = rig.server(additional=("mexc",))
    rig.document("tokyo-1", "bybit", "kucoin")
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert "does not know the exchange kucoin" in line(ran, "kucoin")["why"]
    assert finished(server) == [("save", "bybit_api_key", "bybit_api_secret")]


def test_a_half_done_save_of_ours_is_repaired_whole_in_one_save(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    new = rig.rotate(exchange="okx")
    server.behaviour.save = "drop-midway"
    torn = rig.apply("-o", "json")
    server.behaviour.save = "answer"
    since = len(server.record.history)

    planned = rig.plan("-o", "json")
    repaired = rig.apply()

    assert (torn.code, results(torn)) == (6, {"okx": "failed"})
    assert line(planned, "okx")["reason"] == "an earlier write did not finish"
    assert repaired.code == 0
    assert finished(server)[since:] == [("save", "okx_api_key", "okx_api_secret", "okx_password")]
    assert stored("okx", new).items() <= server.values().items()


def test_rewrite_saves_what_is_in_sync_and_leaves_no_debt(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    since = len(server.record.history)

    rewritten = rig.apply("--rewrite", "tokyo-1/okx", "-o", "json")
    planned = rig.plan("-o", "json")

    assert rewritten.code == 0
    assert finished(server)[since:] == [("save", "okx_api_key", "okx_api_secret", "okx_password")]
    owed = [debt["exchange"] for debt in answers.server(planned)["debts"]]
    assert owed == ["bybit", "okx"]  # of the first apply


def test_rewrite_of_a_server_covers_all_its_exchanges(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    since = server.record.saves

    assert rig.apply("--rewrite", "tokyo-1").code == 0
    assert server.record.saves - since == 2


def test_rewrite_repairs_what_no_mask_can_show(rig: Rig) -> None:
    server = converged(rig)
    real = server.values()["bybit_api_secret"]
    fake = real[:3] + real[3:-3][::-1] + real[-3:]
    server.set_value("bybit_api_secret", rig.watch.guard(fake))

    unseen = rig.apply()
    rig.apply("--rewrite", "tokyo-1/bybit")

    assert unseen.code == 0
    assert server.values()["bybit_api_secret"] == real


def test_what_left_the_file_is_listed_and_untouched(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    before = server.values()
    rig.document("tokyo-1", "bybit", rotate=False)

    ran = rig.apply("-o", "json")

    assert ran.code == 0
    assert statuses(ran) == {"bybit": "in sync", "okx": "left on the server"}
    assert (server.values(), server.record.deletes) == (before, 0)


def test_two_servers_get_each_their_own(rig: Rig) -> None:
    one, two = rig.server("tokyo-1"), rig.server("tokyo-2")
    rig.document("tokyo-1", rotate=False)
    rig.document("tokyo-2", rotate=False)
    first, second = rig.rotate("tokyo-1"), rig.rotate("tokyo-2")
    rig.begin()

    assert rig.apply().code == 0
    assert one.values() == stored("bybit", first)
    assert two.values() == stored("bybit", second)


def test_a_secret_without_robots_on_its_exchange_concerns_no_robot(rig: Rig) -> None:
    rig.server(robots=[Robot(id=7, name="elsewhere", exchange="okx")])
    rig.document()
    rig.begin()

    ran = rig.plan("-o", "json")

    assert line(ran, "bybit")["consequence"] == {"need": "restart", "robots": []}
