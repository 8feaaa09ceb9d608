"""`jtr explain`: why a line is in the plan, why nothing is done, what a code means."""

import json
from typing import Any

import click
import pytest

from reconciler.cli.explain import command
from tests.e2e.test_status import converged
from tests.support.durations import DURATIONS
from tests.support.rig import Ran, Rig


def explained(rig: Rig, subject: str, *args: str) -> dict[str, Any]:
    ran = rig.jtr("explain", subject, "--from", str(rig.docs), "-o", "json", *args)
    assert ran.code == 0, ran.text
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_by_what_was_remembered_nobody_is_visited_and_a_look_learns_of_drift(rig: Rig) -> None:
    stand_in = converged(rig, "bybit", "okx")
    stand_in.set_value("okx_api_key", rig.watch.secret("hex"))
    seen = len(stand_in.record.handshakes)

    before = explained(rig, "tokyo-1/okx")
    assert (before["stands"], before["condition"]["code"]) == ("in sync", "in-sync")
    assert before["does"] is False
    assert len(stand_in.record.handshakes) == seen
    live = explained(rig, "tokyo-1/okx", "--live")
    assert live["condition"]["code"] == "drift-left-alone"
    assert len(stand_in.record.handshakes) == seen + 1
    assert "--correct-drift" in live["remedies"][0]
    kinds = [source["kind"] for source in live["sources"]]
    assert kinds == ["document", "secret", "observation", "ledger"]

    rig.apply()  # leaves the drift alone, and remembers what it saw
    rig.apply()
    text = rig.jtr("explain", "tokyo-1/okx", "--from", str(rig.docs)).out
    assert "✗ drift may be corrected: selfHeal: false, and nobody asked" in text
    plan = rig.plan().text
    assert "since " in plan
    assert "as far as it was seen" in plan
    assert "okx: drifted: written from" in rig.jtr("status").out
    assert "as far as it was seen" in rig.jtr("status").out


def test_what_was_seen_too_long_ago_is_stale_and_never_in_sync(rig: Rig) -> None:
    converged(rig, "bybit")
    rig.settings(durations=DURATIONS | {"stale": "1ms"})

    plan = rig.plan("--recorded")
    status = rig.jtr("status")
    document = json.loads(rig.jtr("status", "-o", "json").out)["servers"][0]

    assert "stale" in plan.out
    assert "in sync" not in plan.out
    assert "? stale: so it was" in status.out
    assert document["stale"] is True
    assert document["ageSeconds"] > 0
    assert explained(rig, "tokyo-1/bybit")["condition"]["code"] == "stale"
    assert "in sync: bybit" in rig.plan().out


def test_a_request_that_nobody_made_and_one_that_waits(rig: Rig) -> None:
    converged(rig, "bybit")
    asked = explained(rig, "tokyo-1/reboot")
    assert asked["condition"]["code"] == "not-asked"

    cache = {"invalidatedAfter": "2126-11-22T09:00:00Z", "reason": "stale"}
    rig.document("tokyo-1", "bybit", rotate=False, cache=cache)
    waits = explained(rig, "tokyo-1/cache")
    assert (waits["stands"], waits["does"]) == ("scheduled", False)
    assert waits["condition"]["code"] == "scheduled"


def test_what_is_not_there_is_a_usage_error_with_a_guess(rig: Rig) -> None:
    rig.server()
    rig.document()
    for subject, said in (
        ("drift-left-alnoe", "did you mean drift-left-alone?"),
        ("tokyo-1", "jtr explain SERVER/EXCHANGE"),
        ("tokio-1/bybit", "did you mean tokyo-1?"),
        ("tokyo-1/bibyt", "did you mean tokyo-1/bybit?"),
        ("tokyo-1/reboots", "did you mean tokyo-1/reboot?"),
        ("tokyo-1/", "known: bybit, and reboot, cache"),
        ("\x1b[2J", "there is no code \\u001b[2J"),
    ):
        ran: Ran = rig.jtr("explain", subject, "--from", str(rig.docs))

        assert (ran.code, ran.out) == (64, "")
        assert said in ran.err
    assert not (rig.home / "state").exists()


def test_codes_of_every_kind(rig: Rig) -> None:
    for code, means in (
        ("brake", "nothing more is written there"),
        ("8", "Robots stopped around one of our writes"),
        ("ip_unbound", "Whoever gets it can trade with it from"),
        ("vault.bindings", "where these may go"),
        ("server-unreachable", "No connection to the server"),
    ):
        ran = rig.jtr("explain", code)
        assert ran.code == 0
        assert means in " ".join(ran.out.split())
        assert "What to do: " in ran.out
        document = json.loads(rig.jtr("explain", code, "-o", "json").out)
        assert document["code"].casefold() == code


def test_completion_offers_codes_and_what_the_documents_name(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    monkeypatch.chdir(rig.docs)
    (argument,) = (one for one in command.params if one.name == "subject")

    def offered(incomplete: str) -> list[str]:
        found = argument.shell_complete(click.Context(command), incomplete)
        return [str(item.value) for item in found]

    assert offered("drift") == ["drift-corrected", "drift-left-alone"]
    assert offered("tokyo-1/") == [
        "tokyo-1/bybit",
        "tokyo-1/cache",
        "tokyo-1/okx",
        "tokyo-1/reboot",
    ]
    assert offered("tok") == ["token-expired", "tokyo-1"]
    assert offered("nowhere/") == []
