"""Patterns where commands take names: what they mean is said, and one that means nothing stops."""

import json

import pytest

from tests.e2e.answers import stored
from tests.support.rig import Rig

CODES = ("bybit", "okx")


@pytest.fixture
def fleet(rig: Rig) -> Rig:
    """Three servers, and a ledger that knows none of them."""
    for name in ("tokyo-1", "tokyo-2", "osaka-1"):
        rig.server(name)
        rig.document(name, *(CODES if name == "tokyo-1" else ("bybit",)))
    rig.begin()
    return rig


def planned(rig: Rig, *args: str) -> list[str]:
    """Return the names of the servers that a plan looks at."""
    ran = rig.plan("-o", "json", *args)
    assert ran.code in {0, 4}, ran.text
    return sorted(server["server"] for server in json.loads(ran.out)["servers"])


def connected(rig: Rig) -> None:
    """Let somebody else connect bybit on every server."""
    for server in rig.servers.values():
        theirs = {name: rig.watch.secret() for name in ("apiKey", "secret")}
        for name, value in stored("bybit", theirs).items():
            server.set_value(name, value)


def test_a_pattern_selects_what_it_matches(fleet: Rig) -> None:
    assert planned(fleet, "--server", "tokyo-*") == ["tokyo-1", "tokyo-2"]
    assert planned(fleet, "--server", "*-1") == ["osaka-1", "tokyo-1"]
    assert planned(fleet, "--server", "tokyo-?", "--server", "osaka-1") == sorted(fleet.servers)


def test_everything_that_was_there_before_is_taken_over_by_one_star(fleet: Rig) -> None:
    connected(fleet)
    assert fleet.apply().code == 4
    assert [server.record.saves for server in fleet.servers.values()] == [1, 0, 0]  # okx

    ran = fleet.apply("--take-over", "*")

    assert ran.code == 0, ran.text
    assert "--take-over * means osaka-1, tokyo-1, tokyo-2\n" in ran.err
    assert [server.record.saves for server in fleet.servers.values()] == [2, 1, 1]


def test_a_pattern_consents_to_no_more_than_it_matches(fleet: Rig) -> None:
    connected(fleet)

    ran = fleet.apply("--take-over", "tokyo-*/by*")

    assert ran.code == 4
    assert "--take-over tokyo-*/by* means tokyo-1/bybit, tokyo-2/bybit\n" in ran.err
    assert fleet.servers["osaka-1"].record.saves == 0
    assert fleet.servers["tokyo-2"].record.saves == 1


@pytest.mark.parametrize(
    ("args", "what", "remedy"),
    [
        (
            ("--server", "tokio-*"),
            "no server has a name that matches tokio-*",
            "did you mean tokyo-1 or tokyo-2",
        ),
        (("--server", "paris-*"), "no server has a name that matches paris-*", "known: osaka-1"),
        (("--server", "tokyo1"), "no server is called tokyo1", "did you mean tokyo-1"),
        (
            ("--take-over", "tokio-*/bybit"),
            "--take-over tokio-*/bybit: no server has a name that matches tokio-*",
            "did you mean tokyo-1",
        ),
        (
            ("--rewrite", "tokyo-*/kraken*"),
            "--rewrite tokyo-*/kraken*: none of tokyo-1, tokyo-2 declares an exchange kraken*",
            "they declare bybit, okx",
        ),
    ],
)
def test_what_means_nothing_stops_the_command(
    fleet: Rig, args: tuple[str, ...], what: str, remedy: str
) -> None:
    ran = fleet.apply(*args)

    assert ran.code == 64
    assert what in ran.err
    assert remedy in ran.err
    assert all(server.record.handshakes == [] for server in fleet.servers.values())


@pytest.mark.parametrize("option", ["--approve-recipient", "--approve-target-change"])
def test_who_gets_something_is_agreed_to_by_name(fleet: Rig, option: str) -> None:
    ran = fleet.apply(option, "tokyo-*")

    assert ran.code == 64
    assert f"{option} tokyo-*: a pattern would agree to servers that nobody has seen" in ran.err
    assert f"{option} tokyo-1 {option} tokyo-2" in ran.err
    assert all(server.record.handshakes == [] for server in fleet.servers.values())


def test_status_and_history_take_patterns(fleet: Rig) -> None:
    assert fleet.apply().code == 0

    status = fleet.jtr("status", "--server", "tokyo-*", "-o", "json")
    history = fleet.jtr("history", "*-1", "-o", "json")
    none = fleet.jtr("history", "tokio-*")

    assert [row["server"] for row in json.loads(status.out)["servers"]] == ["tokyo-1", "tokyo-2"]
    assert [row["server"] for row in json.loads(history.out)["servers"]] == ["osaka-1", "tokyo-1"]
    assert none.code == 64
    assert "the ledger knows no server whose name matches tokio-*" in none.err


def test_one_server_is_asked_for_and_a_pattern_may_mean_it(fleet: Rig) -> None:
    docs = str(fleet.docs)
    one = fleet.jtr("show", "osaka-*", "--from", docs)
    several = fleet.jtr("show", "tokyo-*", "--from", docs)

    assert one.code == 0, one.text
    assert several.code == 64
    assert "tokyo-* means 2 servers, and this is about one" in several.err
    assert "name one of: tokyo-1, tokyo-2" in several.err
