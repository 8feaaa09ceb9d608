"""Reading what a server says: strict on what is used, tolerant of the rest."""

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.drivers.jt_trader.field_names import CREDENTIALS, credential_of
from reconciler.drivers.jt_trader.responses import (
    ALARM,
    CUT,
    HARMLESS,
    read_entries,
    read_exchanges,
    read_log,
    read_nothing,
    read_robots,
    read_version,
)
from reconciler.errors import UnknownAnswer
from reconciler.model.observed import BootLine, Logbook, LogEntry, Mask, Robot

TRANSCRIPTS = Path(__file__).parents[2] / "conformance" / "transcripts"


def field(name: str, label: str, value: object = "", kind: object = "string") -> dict[str, Any]:
    return {"name": name, "label": label, "type": kind, "value": value}


def listing(*fields: dict[str, Any], code: str = "okx") -> dict[str, Any]:
    return {"main": [{"code": code, "fields": list(fields)}], "additional": []}


WHOLE = (
    field("okx_api_key", "API Key", "abc•••••xyz"),
    field("okx_api_secret", "API Secret"),
    field("okx_password", "Password"),
)


@pytest.mark.parametrize("name", CREDENTIALS)
def test_every_name_of_ccxt_is_its_own_label(name: str) -> None:
    assert credential_of(name) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("API Key", "apiKey"),
        ("API Secret", "secret"),
        ("Password", "password"),
        ("User ID", "uid"),
        ("wallet_address", "walletAddress"),
    ],
)
def test_the_labels_of_the_main_exchanges(label: str, name: str) -> None:
    assert credential_of(label) == name


@pytest.mark.parametrize(
    "label", ["", "Passphrase", "API Key 2", "API \u212aey", "\u0410PI Key", "key"]
)
def test_other_labels_are_never_guessed(label: str) -> None:
    assert credential_of(label) is None


def test_an_exchange_is_read_wherever_it_is_listed() -> None:
    answer = listing(*WHOLE) | {
        "additional": [{"code": "mexc", "fields": [field("mexc_secret", "secret")], "x": 1}]
    }
    okx, mexc = read_exchanges(answer)
    assert [(f.name, f.credential, f.type) for f in okx.fields] == [
        ("okx_api_key", "apiKey", "string"),
        ("okx_api_secret", "secret", "string"),
        ("okx_password", "password", "string"),
    ]
    assert okx.fields[0].mask == Mask("abc•••••xyz")
    assert not okx.fields[1].mask
    assert (okx.trouble, mexc.code, mexc.trouble) == ("", "mexc", "")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([field("okx_x", "Passphrase")], "label"),
        ([field("okx_x", "API Key", kind="boolean", value=True)], "another type"),
        ([field("okx_x", "API Key", kind="number")], "another type"),
        ([field("okx_x", "API Key"), field("okx_y", "apiKey")], "two of its fields"),
        ([field("okx_x", "API Key"), field("okx_x", "Password")], ""),
        ([field("okx_x", "API Key", "the value in plain")], "shown in a way"),
    ],
)
def test_what_cannot_be_written_safely_is_listed_with_the_reason(
    fields: list[dict[str, Any]], words: str
) -> None:
    (exchange,) = read_exchanges(listing(*fields))
    assert words in exchange.trouble
    assert "plain" not in exchange.trouble


def test_a_field_of_two_exchanges_makes_both_unsafe() -> None:
    answer = listing(*WHOLE) | {
        "additional": [{"code": "evil", "fields": [field("okx_password", "Password")]}]
    }
    assert all("belongs to another" in e.trouble for e in read_exchanges(answer))


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"main": []},
        {"main": {}, "additional": []},
        {"main": [None], "additional": []},
        {"main": [{"code": 1, "fields": []}], "additional": []},
        {"main": [{"code": "", "fields": []}], "additional": []},
        {"main": [{"code": "x\x1b[31m", "fields": []}], "additional": []},
        {"main": [{"code": "x" * 101, "fields": []}], "additional": []},
        {"main": [{"code": "x"}], "additional": []},
        listing(field("", "API Key")),
        listing(field("a\nb", "API Key")),
        listing({"name": {"contains": "x"}, "label": "API Key", "type": "string", "value": ""}),
        listing({"label": "API Key", "type": "string", "value": ""}),
        listing(field("okx_x", "API Key", value=None)),
        listing(field("okx_x", "API Key", value=7)),
        listing(field("okx_x", "API Key", kind=None)),
        {"main": [{"code": "x", "fields": []}], "additional": [{"code": "x", "fields": []}]},
        {"main": [{"code": "x", "fields": []}, {"code": "x", "fields": []}], "additional": []},
    ],
)
def test_odd_exchange_lists_are_refused(payload: object) -> None:
    with pytest.raises(UnknownAnswer):
        read_exchanges(payload)


def test_robots_are_read_and_their_names_cut() -> None:
    jobs = [
        {"id": 3, "name": "n" * 5000, "exchange": "okx", "isEnabled": False, "strategy": {}},
        {"id": 4, "name": "half \ud83d", "exchange": None, "isEnabled": True},
    ]
    long, half = read_robots(jobs)
    assert long == Robot(3, "n" * 200, "okx", running=False)
    assert half.name.encode()
    assert (half.id, half.exchange, half.running) == (4, "", True)


@pytest.mark.parametrize(
    "job",
    [
        7,
        {"id": "3", "name": "a", "exchange": "b", "isEnabled": True},
        {"id": True, "name": "a", "exchange": "b", "isEnabled": True},
        {"id": 3.0, "name": "a", "exchange": "b", "isEnabled": True},
        {"id": 2**60, "name": "a", "exchange": "b", "isEnabled": True},
        {"id": 3, "name": "a", "exchange": "b", "isEnabled": 1},
        {"id": 3, "name": "a", "exchange": "b"},
        {"id": 3, "name": ["a"], "exchange": "b", "isEnabled": True},
    ],
)
def test_odd_robots_are_refused(job: object) -> None:
    with pytest.raises(UnknownAnswer):
        read_robots([job])


def test_one_robot_twice_is_refused() -> None:
    job = {"id": 3, "name": "a", "exchange": "b", "isEnabled": True}
    with pytest.raises(UnknownAnswer):
        read_robots([job, copy.copy(job)])


@pytest.mark.parametrize("version", [None, 1, "", "1\n", "x" * 51, "\x1b[0m"])
def test_odd_versions_are_refused(version: object) -> None:
    with pytest.raises(UnknownAnswer):
        read_version({"version": version})


def boot(time: object, pid: object = None) -> dict[str, object]:
    msg = "Nest application successfully started"
    entry = {"level": "info", "time": time, "class": "NestApplication", "msg": msg}
    return entry if pid is None else entry | {"pid": pid}


def alarm(time: object) -> dict[str, object]:
    return {"level": "error", "time": time, "class": "MainProcessExceptionHandler", "stack": "x"}


def test_the_newest_boot_and_the_newest_alarm() -> None:
    data = [
        boot(5),
        boot(9),
        alarm(7),
        boot(6),
        alarm(3),
        4,
        {"class": []},
        boot("10"),
        alarm(True),
    ]
    data += [{"time": 50, "class": "NestApplication", "msg": "another"}, boot(10**400), boot(-1)]
    assert read_log({"artifacts": "system", "data": data}) == Logbook(
        readable=True,
        boot=9,
        alarm=7,
        boots=(BootLine(5, 0), BootLine(9, 0), BootLine(6, 0)),
        newest=50,
    )


def line(time: int, pid: object = None, **more: object) -> dict[str, object]:
    return {"time": time, "class": "X", "msg": "m"} | ({} if pid is None else {"pid": pid}) | more


@pytest.mark.parametrize(
    ("data", "boots", "strangers"),
    [
        ([], (), False),
        ([line(1, 7)], (), False),
        ([line(1, 8), boot(2, 7), line(3, 7)], (BootLine(2, 7),), False),
        ([boot(2, 7), line(1, 8)], (BootLine(2, 7),), True),
        ([boot(2, 7), line(3, 8), boot(4, 8)], (BootLine(2, 7), BootLine(4, 8)), False),
        ([boot(2, 7), line(3, 8), boot(4, 7)], (BootLine(2, 7), BootLine(4, 7)), False),
        ([boot(2, 7), boot(4, 8), line(5, 7)], (BootLine(2, 7), BootLine(4, 8)), True),
        ([boot(2, 7), {"pid": 8}], (BootLine(2, 7),), True),
        ([boot(2, 7), line(3), line(3, "8"), line(3, True)], (BootLine(2, 7),), False),
        ([boot(2), line(3, 8)], (BootLine(2, 0),), True),
        ([boot(2, "7"), line(3)], (BootLine(2, 0),), False),
    ],
)
def test_whether_the_lines_tell_which_process_runs(
    data: list[object], boots: tuple[BootLine, ...], *, strangers: bool
) -> None:
    log = read_log({"artifacts": "system", "data": data})
    assert (log.boots, log.strangers) == (boots, strangers)


def status(*rows: object) -> dict[str, object]:
    return {"time": 1, "class": "MonitoringService", "msg": "App STATUS", "Proxy": list(rows)}


@pytest.mark.parametrize(
    ("data", "outgoing"),
    [
        ([], ()),
        ([status({"url": "a", "ip": "203.0.113.10"})], ("203.0.113.10",)),
        # Two services, one address; and two, when they see different ones.
        ([status({"ip": "203.0.113.10"}, {"ip": "203.0.113.10\n"})], ("203.0.113.10",)),
        ([status({"ip": "2001:db8::1"}, {"ip": "203.0.113.9"})], ("2001:db8::1", "203.0.113.9")),
        # Only the newest counts, also when the server could not find out any more.
        ([status({"ip": "203.0.113.9"}), status({"ip": "203.0.113.10"})], ("203.0.113.10",)),
        ([status({"ip": "203.0.113.9"}), status()], ()),
        ([status({"ip": "<html>"}, {"ip": 5}, {"ip": None}, "203.0.113.9", {})], ()),
        ([{"class": "MonitoringService", "msg": "App STATUS", "Proxy": {"ip": "x"}}], ()),
        ([{"class": "MonitoringService", "msg": "Failed Proxy check request"}], ()),
        ([status({"ip": "1" * 100_000})], ()),
    ],
)
def test_the_servers_own_addresses_are_those_of_its_newest_status(
    data: list[object], outgoing: tuple[str, ...]
) -> None:
    assert read_log({"artifacts": "system", "data": data}).outgoing == outgoing


def test_the_log_for_people_is_tolerant() -> None:
    data = [
        {"time": 5, "level": "info", "pid": 1, "class": "A", "msg": "said", "url": "x", "n": [1]},
        {"time": "5", "level": 30, "class": None, "msg": {"deep": ["\ud83d"]}},
        {"time": True},
        {},
        7,
    ]
    assert read_entries({"artifacts": "system", "data": data}) == (
        LogEntry(5, "info", "A", "said", {"url": "x", "n": [1]}),
        LogEntry(None, "30", "", '{"deep": ["\\ud83d"]}', {}),
        LogEntry(None, "", "", "", {}),
        LogEntry(None, "", "", "", {}),
    )
    assert read_entries({"artifacts": "system"}) is None
    with pytest.raises(UnknownAnswer):
        read_entries({"artifacts": "robot", "data": []})


@pytest.mark.parametrize(
    "origin", [ALARM, f" {ALARM}", f"{ALARM}:x", [ALARM], {"name": ALARM}], ids=str
)
def test_nothing_that_the_fatal_path_noted_passes(origin: object) -> None:
    value = "a-made-up-rejected-key"
    entry = {
        "time": 5,
        "level": "error",
        "pid": 1,
        "class": origin,
        "msg": f"Error: {value}",
        "stack": [value],
        "trace": {"args": value},
        value: 1,
    }
    (found,) = read_entries({"artifacts": "system", "data": [entry]}) or ()
    assert found == LogEntry(5, "error", ALARM, CUT, {})
    assert value not in repr(found)


VM = ["Error: x", "    at Robot.tick (vm.js:12:7)"]
SCRIPTS = [
    *({"cause": cause} for cause in sorted(HARMLESS)),
    *({"cause": cause, "stack": VM} for cause in sorted(HARMLESS)),
    {"stack": VM},
    {"stack": "Error: x\n    at Robot.tick (vm.js:12:7)"},
]
FATAL = [
    {},
    {"stack": ["Error: x", "    at Object.create (db.js:1:1)"]},
    {"stack": None},
    {"stack": [None, 1]},
    {"cause": "sdk-error"},
    {"cause": "sdk-error", "stack": VM},
    {"cause": "a-new-one", "stack": VM},
    {"cause": None, "stack": VM},
    {"cause": ["user-script"]},
]


@pytest.mark.parametrize("named", SCRIPTS, ids=str)
def test_an_error_of_a_robots_own_script_is_no_alarm(named: dict[str, object]) -> None:
    entry = {"time": 7, "level": "error", "pid": 1, "class": ALARM, "msg": "a secret"} | named
    answer = {"artifacts": "system", "data": [entry]}

    assert read_log(answer).alarm is None
    (found,) = read_entries(answer) or ()
    assert found.origin == f"{ALARM} ({named.get('cause', 'user-script')})"
    assert "secret" not in repr(found)


@pytest.mark.parametrize("named", FATAL, ids=str)
def test_every_other_entry_of_the_handler_is_one(named: dict[str, object]) -> None:
    entry = {"time": 7, "level": "error", "pid": 1, "class": ALARM, "msg": "m"} | named
    answer = {"artifacts": "system", "data": [entry]}

    assert read_log(answer).alarm == 7
    (found,) = read_entries(answer) or ()
    assert found.origin == ALARM


def test_an_answer_that_is_but_a_word_has_no_payload() -> None:
    read_nothing(None)
    with pytest.raises(UnknownAnswer):
        read_nothing({})


@pytest.mark.parametrize("rest", [{}, {"data": None}, {"data": "text"}, {"data": {}}])
def test_an_unreadable_log_is_a_fact(rest: dict[str, object]) -> None:
    assert read_log({"artifacts": "system"} | rest) == Logbook(readable=False)


@pytest.mark.parametrize("payload", [None, [], {"data": []}, {"artifacts": "robot", "data": []}])
def test_another_log_is_refused(payload: object) -> None:
    with pytest.raises(UnknownAnswer):
        read_log(payload)


def test_every_answer_of_the_real_server_is_read() -> None:
    """Of the transcripts, but for logs other than the system's, which we never ask for."""
    readers: dict[str, Callable[[object], Any]] = {
        "exchange-config-response": read_exchanges,
        "background-jobs-list-response": read_robots,
        "engine-config-response": read_version,
    }
    read: Counter[str] = Counter()
    for file in TRANSCRIPTS.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            message = entry["msg"] if entry["dir"] == "recv" else {}
            event = message.get("event")
            if event in readers and "payload" in message:
                answer = readers[event](message["payload"])
                read[event] += 1
                if event == "exchange-config-response":
                    assert not any(exchange.trouble for exchange in answer)
    assert set(read) == set(readers)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["main", "additional", "fields", "code", "name", "label", "type", "value", "id"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_either_read_or_an_unknown_answer(payload: object) -> None:
    said = []
    for read in (read_exchanges, read_robots, read_log, read_entries, read_version, read_nothing):
        try:
            read(payload)
        except UnknownAnswer as error:
            said.append(str(error))
    assert all(text.isprintable() and len(text) < 500 for text in said)
