"""`jtr forget`: what the ledger says of a server that is gone, and what keeps it from ending."""

import json
from pathlib import Path

import pytest

from reconciler.ledger.ledger import Ledger
from reconciler.model.recorded import Identity
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.server import StandInThread
from tests.e2e.terminal import Command
from tests.e2e.test_requests import ask, moment, ready
from tests.support.rig import LEDGERS, Ran, Rig

BECAUSE = ("--because", "the machine was given back")


def forget(rig: Rig, name: str = "osaka-1", *args: str) -> Ran:
    """Run `jtr forget` without being asked."""
    return rig.jtr("forget", name, "--from", str(rig.docs), "--auto-approve", *BECAUSE, *args)


def gone(rig: Rig, kind: str = "sqlite") -> StandInThread:
    """Two servers that are as declared; the document of the second, osaka-1, goes away."""
    rig.settings(**rig.ledger(kind))
    for name in ("tokyo-1", "osaka-1"):
        rig.server(name, robots=[])
        rig.document(name)
    rig.begin()
    assert rig.apply().code == 0
    aside(rig.docs / "osaka-1.yaml")
    return rig.servers["osaka-1"]


def aside(path: Path) -> None:
    path.rename(path.with_suffix(".gone"))


def again(rig: Rig) -> None:
    """Declare osaka-1 once more."""
    (rig.docs / "osaka-1.gone").rename(rig.docs / "osaka-1.yaml")


def known(rig: Rig) -> list[str]:
    ran = rig.jtr("status", "-o", "json")
    return [row["server"] for row in json.loads(ran.out)["servers"]]


@pytest.mark.parametrize("kind", LEDGERS)
def test_a_server_that_is_gone_is_in_no_list_any_more(rig: Rig, kind: str) -> None:
    stand_in = gone(rig, kind)
    before = len(stand_in.record.handshakes)

    ran = forget(rig)

    assert ran.code == 0, ran.text
    assert "forgotten: osaka-1 (" in ran.out
    assert known(rig) == ["tokyo-1"]
    assert len(stand_in.record.handshakes) == before
    assert rig.jtr("history", "osaka-1").code == 64
    assert forget(rig).code == 64
    assert rig.plan("--detailed-exitcode").code == 0


def test_what_is_declared_is_not_forgotten_under_whatever_name(rig: Rig) -> None:
    gone(rig)
    again(rig)
    declared = forget(rig)
    path = rig.docs / "osaka-1.yaml"
    path.write_text(path.read_text().replace("name: osaka-1", "name: osaka-9"))
    renamed = forget(rig)

    assert (declared.code, renamed.code) == (4, 4)
    assert "osaka-1 is declared in the documents" in declared.err
    assert known(rig) == ["osaka-1", "tokyo-1"]


def test_who_comes_back_is_new_and_has_to_be_agreed_to(rig: Rig) -> None:
    stand_in = gone(rig)
    assert forget(rig).code == 0
    again(rig)
    rig.settings(**rig.ledger("sqlite"), policy=None)
    before = len(stand_in.record.handshakes)

    ran = rig.apply("--approve-recipient", "tokyo-1")

    assert ran.code == 4
    assert "first contact" in ran.out
    assert len(stand_in.record.handshakes) == before
    assert rig.apply("--approve-recipient", "osaka-1").code in {0, 4}
    assert known(rig) == ["osaka-1", "tokyo-1"]


def test_a_request_that_was_done_before_is_not_done_again(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    ask(rig, cache={"invalidatedAfter": moment()})
    assert rig.apply().code == 0
    assert stand_in.record.invalidations == 1
    stand_in.restart()
    assert rig.apply().code == 0
    rig.server("osaka-1", robots=[])
    rig.document("osaka-1")
    aside(rig.docs / "tokyo-1.yaml")
    assert forget(rig, "tokyo-1").code == 0
    (rig.docs / "tokyo-1.gone").rename(rig.docs / "tokyo-1.yaml")

    ran = rig.apply("--take-over", "*")

    assert stand_in.record.invalidations == 1
    assert "never run" in ran.out


@pytest.mark.silence
def test_a_request_in_doubt_keeps_the_server(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.invalidate = "silent after effect"
    ask(rig, cache={"invalidatedAfter": moment()})
    assert rig.apply().code == 7
    rig.server("osaka-1")
    rig.document("osaka-1")
    aside(rig.docs / "tokyo-1.yaml")

    ran = forget(rig, "tokyo-1")

    assert ran.code == 4
    assert "tokyo-1 is not forgotten: " in ran.err
    assert "is in doubt" in ran.err
    assert "jtr request resolve tokyo-1" in ran.err
    assert "tokyo-1" in known(rig)


def test_what_robots_are_owed_keeps_the_server(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.server("osaka-1")
    rig.document("osaka-1")
    rig.begin()
    assert rig.apply().code == 0
    rig.rotate("osaka-1")
    assert rig.apply().code == 0
    aside(rig.docs / "osaka-1.yaml")

    ran = forget(rig)

    assert ran.code == 4
    assert "a restart of its robots is owed since a write of bybit" in ran.err
    assert "if the machine is gone for good: --write-off" in ran.err
    assert "osaka-1" in known(rig)


def written_off(rig: Rig, name: str, *words: str) -> None:
    """Forget *name* with all that is open of it, and see that it was said, kept, and not sent."""
    stand_in = rig.servers[name]
    before = (len(stand_in.record.handshakes), len(stand_in.record.received))

    ran = forget(rig, name, "--write-off")

    assert ran.code == 0, ran.text
    kept = rig.jtr("history", name, "--forgotten")
    for word in words:
        assert f"  written off: {word}" in ran.out
        assert f"written off: {word}" in kept.out
    assert "forgotten: the machine was given back" in kept.out
    assert (len(stand_in.record.handshakes), len(stand_in.record.received)) == before
    assert name not in known(rig)


@pytest.mark.parametrize("kind", LEDGERS)
def test_a_person_writes_off_what_robots_and_server_are_owed(rig: Rig, kind: str) -> None:
    rig.settings(**rig.ledger(kind))
    rig.server()
    rig.document()
    rig.server("osaka-1")
    rig.document("osaka-1")
    before = rig.rotate("osaka-1")
    rig.begin()
    assert rig.apply().code == 0
    rig.rotate("osaka-1", apiKey=before["apiKey"])
    assert rig.apply().code == 0
    aside(rig.docs / "osaka-1.yaml")

    written_off(rig, "osaka-1", "a reboot is owed since a write of bybit")


@pytest.mark.silence
def test_a_person_writes_off_a_request_in_doubt_which_is_never_done_again(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.invalidate = "silent after effect"
    ask(rig, cache={"invalidatedAfter": moment()})
    assert rig.apply().code == 7
    assert stand_in.record.invalidations == 1
    rig.server("osaka-1")
    rig.document("osaka-1")
    aside(rig.docs / "tokyo-1.yaml")

    written_off(rig, "tokyo-1", "invalidate-cache ")

    stand_in.behaviour.invalidate = "answer"
    (rig.docs / "tokyo-1.gone").rename(rig.docs / "tokyo-1.yaml")
    ran = rig.apply("--take-over", "*", "--approve-recipient", "tokyo-1")
    assert stand_in.record.invalidations == 1
    assert "never run" in ran.out


@pytest.mark.fatal_paths(1)
def test_nobody_writes_a_brake_off(rig: Rig) -> None:
    rig.server("osaka-1")
    rig.document("osaka-1")
    stand_in = rig.servers["osaka-1"]
    rig.begin()
    stand_in.behaviour.save = "fatal"
    assert rig.apply().code != 0
    rig.server()
    rig.document()
    aside(rig.docs / "osaka-1.yaml")

    ran = forget(rig, "osaka-1", "--write-off")

    assert ran.code == 4
    assert "the brake is on" in ran.err
    assert "jtr ledger release-brake osaka-1" in ran.err
    assert "osaka-1" in known(rig)


def test_what_is_written_off_is_said_before_a_person_is_asked(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.server("osaka-1")
    rig.document("osaka-1")
    rig.begin()
    assert rig.apply().code == 0
    rig.rotate("osaka-1")
    assert rig.apply().code == 0
    aside(rig.docs / "osaka-1.yaml")

    with Command(
        rig,
        *("forget", "osaka-1", "--write-off", "--from", str(rig.docs), *BECAUSE),
        terminal=True,
    ) as command:
        command.answer("gone for good?", "n")
        assert command.ended() == 4, command.text
        assert "to be written off: a restart of its robots is owed" in command.text

    assert "osaka-1" in known(rig)
    assert "Nothing was done yet." in rig.jtr("history", "--forgotten").out
    assert rig.jtr("history", "--forgotten", "--from", str(rig.docs)).code == 64


def test_what_nobody_was_shown_is_not_written_off(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.server("osaka-1")
    rig.document("osaka-1")
    before = rig.rotate("osaka-1")
    rig.begin()
    assert rig.apply().code == 0
    aside(rig.docs / "osaka-1.yaml")

    with Command(
        rig,
        *("forget", "osaka-1", "--write-off", "--from", str(rig.docs), *BECAUSE),
        terminal=True,
    ) as command:
        command.expect("gone for good?")
        again(rig)
        rig.rotate("osaka-1", apiKey=before["apiKey"])
        assert rig.apply().code == 0
        command.answer("gone for good?", "y")
        assert command.ended() == 4, command.text
        assert "osaka-1 is not forgotten: meanwhile " in command.text

    assert "osaka-1" in known(rig)


def test_an_apply_that_was_under_way_sends_nothing_to_who_was_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = gone(rig)
    again(rig)
    rig.rotate("osaka-1")
    pin, saves = Ledger.pin, stand_in.record.saves

    def forgotten_meanwhile(self: Ledger, target: Target, name: str, **more: bool) -> Identity:
        identity = pin(self, target, name, **more)
        if name == "osaka-1":
            self.forget(identity.uid, "another person says so")
        return identity

    monkeypatch.setattr(Ledger, "pin", forgotten_meanwhile)
    ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "osaka-1 was forgotten meanwhile" in ran.text
    assert stand_in.record.saves == saves


def test_bad_input_changes_nothing(rig: Rig) -> None:
    gone(rig)
    docs = ("--from", str(rig.docs))
    nobody = rig.jtr("forget", "osaka-1", *docs, *BECAUSE)
    silent = rig.jtr("forget", "osaka-1", *docs, "--auto-approve")
    typo = forget(rig, "osaka1")
    pattern = forget(rig, "osaka-*")

    assert {nobody.code, silent.code, typo.code, pattern.code} == {64}
    assert "nobody is there to approve it" in nobody.err
    assert "--because" in silent.err
    assert "the ledger knows no server called osaka1" in typo.err
    assert "did you mean osaka-1" in typo.err
    assert "servers are forgotten one by one" in pattern.err
    assert known(rig) == ["osaka-1", "tokyo-1"]


@pytest.mark.parametrize(("reply", "code", "left"), [("n", 4, 2), ("y", 0, 1)])
def test_a_terminal_is_asked(rig: Rig, reply: str, code: int, left: int) -> None:
    gone(rig)
    with Command(
        rig, "forget", "osaka-1", "--from", str(rig.docs), *BECAUSE, terminal=True
    ) as command:
        command.answer("gone for good?", reply)
        assert command.ended() == code, command.text

    assert len(known(rig)) == left
