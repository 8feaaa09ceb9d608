"""What may be sent is proved against the server's own list; all else is refused unsent."""

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.drivers.jt_trader.requests import (
    ALL,
    MAY_SEND,
    accepts,
    delete_names,
    refuse_payload,
    save_rows,
    start_id,
    stop_id,
)
from reconciler.drivers.jt_trader.responses import read_exchanges
from reconciler.errors import ServerRefused
from reconciler.model.observed import ObservedExchange, Robot
from reconciler.model.secret import Secret
from reconciler.model.values import replace

ODD_IDS: tuple[object, ...] = (True, False, "1", "2", 1.0, 2.0, None, [2], {"id": 2})


def listed(**shown: str) -> tuple[ObservedExchange, ...]:
    """Return a list with bybit (two fields), a troubled exchange, and one without fields."""
    key = {"name": "bybit_api_key", "label": "API Key", "type": "string"}
    secret = {"name": "bybit_api_secret", "label": "API Secret", "type": "string"}
    odd = {"name": "odd_x", "label": "Passphrase", "type": "string", "value": ""}
    main = [
        {
            "code": "bybit",
            "fields": [f | {"value": shown.get(f["name"], "")} for f in (key, secret)],
        },
        {"code": "odd", "fields": [odd]},
        {"code": "gateio-mock", "fields": []},
    ]
    return read_exchanges({"main": main, "additional": []})


def both(key: Any = "made-up-key", secret: Any = "made-up-secret") -> dict[str, Secret]:
    return {"bybit_api_key": Secret(key), "bybit_api_secret": Secret(secret)}


def test_a_whole_exchange_becomes_rows_in_the_order_of_the_server() -> None:
    assert save_rows(listed(), "bybit", both()) == [
        {"name": "bybit_api_key", "type": "string", "value": "made-up-key"},
        {"name": "bybit_api_secret", "type": "string", "value": "made-up-secret"},
    ]


@pytest.mark.parametrize(
    ("code", "values", "words"),
    [
        ("kraken", both(), "not in the server's exchanges.conf"),
        ("odd", {"odd_x": Secret("made-up-key")}, "cannot be written safely"),
        ("gateio-mock", {}, "no fields"),
        ("bybit", {}, "must be written whole"),
        ("bybit", {"bybit_api_key": Secret("made-up-key")}, "bybit_api_secret"),
        ("bybit", both() | {"": Secret("made-up-key")}, "no field for some"),
        ("bybit", both() | {"okx_password": Secret("made-up-key")}, "no field for some"),
        ("bybit", both(key=""), "empty"),
        ("bybit", both(secret="made-up-key\n"), "line break"),
        ("bybit", both(secret="mad•••••key"), "shows instead"),
    ],
)
def test_saves_that_could_fail_are_refused(
    code: str, values: dict[str, Secret], words: str
) -> None:
    with pytest.raises(ServerRefused, match=words) as caught:
        save_rows(listed(), code, values)
    assert "made-up" not in str(caught.value)


@pytest.mark.parametrize("secret", [None, 12345, ["made-up-key"]])
def test_a_value_that_is_no_text_is_refused(secret: Any) -> None:
    # Made in here: a secret that outlives its test would meet the redaction of later ones.
    with pytest.raises(ServerRefused, match="no text"):
        save_rows(listed(), "bybit", both(secret=secret))


def test_nothing_is_sent_before_a_list_was_read() -> None:
    with pytest.raises(ServerRefused, match="not read"):
        save_rows(None, "bybit", both())
    with pytest.raises(ServerRefused, match="not read"):
        delete_names(None, listed(), "bybit", "bybit_api_key")


def test_a_delete_names_one_field_that_is_stored() -> None:
    seen = listed(bybit_api_key="abc•••••xyz")
    assert delete_names(seen, seen, "bybit", "bybit_api_key") == ["bybit_api_key"]


@pytest.mark.parametrize(
    ("known", "fresh", "name", "words"),
    [
        ("", "", "bybit_api_key", "nothing stored"),
        ("abc•••••xyz", "", "bybit_api_key", "nothing stored"),
        ("", "abc•••••xyz", "bybit_api_key", "nothing stored"),
        ("abc•••••xyz", "abc•••••xyw", "bybit_api_key", "another hand"),
        ("abc•••••xyz", "abc•••••xyz", "okx_api_key", "no such field"),
        ("abc•••••xyz", "abc•••••xyz", "", "no such field"),
    ],
)
def test_deletes_that_could_fail_are_refused(known: str, fresh: str, name: str, words: str) -> None:
    before, now = listed(bybit_api_key=known), listed(bybit_api_key=fresh)
    with pytest.raises(ServerRefused, match=words):
        delete_names(before, now, "bybit", name)


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("0.24.19", True),
        ("0.24.1", False),
        ("0.24.190", False),
        ("0.25.3", True),
        ("0.25", False),
        ("0.250.1", False),
        ("1.0.0", True),
        ("1.0.0-rc", False),
        ("", False),
    ],
)
def test_accepted_versions(version: str, *, accepted: bool) -> None:
    assert accepts({"0.24.19", "0.25.*", "1.0.0"}, version) is accepted


def test_a_bare_star_accepts_nothing() -> None:
    assert not accepts({"*"}, "0.24.19")


ROBOTS = (Robot(1, "grid", "bybit", running=True), Robot(2, "dca", "okx", running=False))


def test_a_robot_that_rests_is_started_and_one_that_runs_is_stopped() -> None:
    assert start_id(ROBOTS, 2) == 2
    assert stop_id(ROBOTS, 1) == 1


@pytest.mark.parametrize(
    ("check", "listed", "number", "words"),
    [
        (start_id, None, 2, "not read"),
        (stop_id, None, 1, "not read"),
        (start_id, (), 2, "no robot 2"),
        (stop_id, ROBOTS, 3, "no robot 3"),
        (start_id, ROBOTS, 1, "runs already"),
        (stop_id, ROBOTS, 2, "does not run"),
        *((check, ROBOTS, odd, "whole number") for check in (start_id, stop_id) for odd in ODD_IDS),
    ],
)
def test_ids_of_robots_that_could_fail_are_refused(
    check: Callable[[object, object], int], listed: object, number: object, words: str
) -> None:
    with pytest.raises(ServerRefused, match=words):
        check(listed, number)


def test_the_requests_and_what_they_take() -> None:
    takes = {request.event: request.takes for request in ALL}
    assert {event for event, kind in takes.items() if kind is None} == {
        "exchange-config-request",
        "engine-config-request",
        "background-jobs-list-request",
        "invalidate-cache-request",
        "reboot-system-request",
    }
    assert {event for event, kind in takes.items() if kind is int} == {
        "run-background-job-request",
        "stop-background-job-request",
    }
    assert {request.event for request in ALL if not request.answer} == {"reboot-system-request"}
    assert len(takes) == len(ALL) == 10


def test_what_changes_nothing_is_marked_so() -> None:
    assert {request.event for request in ALL if not request.writes} == MAY_SEND["plan"]


TAKES_NOTHING = [request for request in ALL if request.takes is None]


@pytest.mark.parametrize("payload", [0, 7, "", "system", [], {}, False])
def test_what_takes_no_payload_gets_none(payload: object) -> None:
    for request in TAKES_NOTHING:
        refuse_payload(request, None)
        with pytest.raises(ServerRefused, match="must not have a payload"):
            refuse_payload(request, payload)
        with pytest.raises(ServerRefused, match="among the requests"):
            refuse_payload(replace(request, takes=type(payload)), payload)
