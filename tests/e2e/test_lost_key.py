"""The fingerprint key is lost: nothing is recognised, nothing is harmed, and that is said."""

from tests.e2e.answers import document
from tests.support.rig import Rig


def test_without_the_key_plan_says_so_and_apply_refuses(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    assert rig.apply().code == 0
    (rig.home / "config" / "jtr" / "fingerprint.key").unlink()

    planned, applied = rig.plan(), rig.apply()

    assert "no fingerprint key" in planned.err
    assert (applied.code, server.record.saves) == (4, 1)
    assert "restore it" in applied.err


def test_under_a_new_key_what_looks_right_is_written_again_without_consequences(
    rig: Rig,
) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    assert rig.apply().code == 0
    owed = len(document(rig.plan("-o", "json"))["servers"][0]["debts"])
    before = server.values()
    (rig.home / "config" / "jtr" / "fingerprint.key").unlink()
    rig.begin()  # makes a new one

    ran, again = rig.apply(), rig.plan("-o", "json")

    assert ran.code == 0, ran.text
    assert "remembered under another fingerprint key" in ran.out
    assert (server.record.saves, server.values()) == (4, before)
    found = document(again)["servers"][0]
    assert (found["actions"], len(found["debts"])) == ([], owed)
