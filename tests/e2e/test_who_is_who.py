"""A server is its address and account; who is who is judged over all documents, selected or not."""

from reconciler.sandbox.jt_trader.server import StandInThread
from tests.e2e.test_requests import LEAVE, RESUME, ask, moment, ready
from tests.support.rig import Rig


def declare(
    rig: Rig, name: str, server: StandInThread, owner: str, keys: str, **spec: object
) -> None:
    """Write a document: where the server is, whose access secret lets us in, whose keys it has."""
    rig.document(
        name,
        rotate=False,
        url=spec.pop("url", server.url),
        accessSecret=f"{rig.reference(owner)}#access_secret",
        exchanges={"bybit": {"credentials": rig.reference(f"{keys}/bybit")}},
        supervised=True,
        **spec,
    )


def test_a_new_machine_under_an_old_name_is_no_move_when_it_is_selected_alone(rig: Rig) -> None:
    (old,) = ready(rig)
    cache = {"invalidatedAfter": moment(), "reason": "stale"}
    ask(rig, cache={**cache})
    assert rig.apply().code == 0
    assert old.record.invalidations == 1
    new, fresh = rig.server("new"), rig.rotate("fresh")
    (rig.docs / "tokyo-1.yaml").unlink()
    declare(rig, "tokyo-old", old, "tokyo-1", "tokyo-1", cache=cache)
    declare(rig, "tokyo-1", new, "new", "fresh")

    planned = rig.plan("--server", "tokyo-1")
    alone = rig.apply("--server", "tokyo-1")
    both = rig.apply()

    assert "approve-target-change" not in planned.text
    assert (planned.code, alone.code, both.code) == (0, 0, 0), alone.text + both.text
    assert set(new.values().values()) == set(fresh.values())
    assert (old.record.invalidations, new.record.invalidations) == (1, 0)
    assert rig.plan("--detailed-exitcode").code == 0


def test_one_server_under_two_addresses_is_not_rebooted_by_one_of_them_alone(rig: Rig) -> None:
    (server,) = ready(rig)
    again = server.url.replace("127.0.0.1", "localhost")
    declare(rig, "tokyo-2", server, "tokyo-1", "tokyo-1", url=again)
    assert rig.apply().code == 0
    reboot = {"bootedAfter": moment(), "reason": "quarterly", **LEAVE}
    declare(rig, "tokyo-1", server, "tokyo-1", "tokyo-1", reboot=reboot)
    declare(rig, "tokyo-2", server, "tokyo-1", "tokyo-1", url=again, reboot=reboot)

    for chosen in ("tokyo-1", "tokyo-2"):
        ran = rig.apply("--server", chosen)
        assert ran.code == 4, ran.text
        assert "another document names the same server" in ran.text
    assert server.record.reboots == 0


def two_accounts(rig: Rig) -> StandInThread:
    """Write documents of two accounts of one server; the second one is not written yet."""
    token = rig.watch.secret()
    (server,) = ready(rig, tokens={token: "42"})
    rig.put("site", token=token)
    declare(
        rig,
        "tokyo-1-site",
        server,
        "tokyo-1",
        "site",
        account="42",
        accessToken=f"{rig.reference('site')}#token",
    )
    rig.rotate("site")
    return server


def test_two_accounts_of_one_server_may_have_a_request(rig: Rig) -> None:
    server = two_accounts(rig)
    ran = rig.apply()
    assert ran.code == 0, ran.text
    ask(rig, reboot=LEAVE)

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert server.record.reboots == 1


def test_the_reboot_of_one_account_is_no_harm_that_the_others_write_did(rig: Rig) -> None:
    """They share a process: while the one writes, nothing of the other begins, and the reverse."""
    server = two_accounts(rig)
    assert rig.apply().code == 0
    running = server.robots_running()
    assert len(running) >= 2, "positive control: harm can be seen"
    server.behaviour.row_delay = (0.1, 0.12)
    fields = rig.rotate("site")
    ask(rig, reboot=RESUME)

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert server.record.reboots == 1
    assert set(fields.values()) <= set(server.values("42").values())
    assert server.robots_running() == running
