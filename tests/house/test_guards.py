"""
Positive controls: each guard of the suite turns a test red when there is something to see.

A generated file of small tests runs in a pytest of its own, under the real `tests/conftest.py`; its
verdicts are compared with what each test says of itself.  Its secrets are its own.
"""

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.leaks import PRIVATE, Watch

ROOT = Path(__file__).parent.parent.parent

# The name of a test begins with the verdict that it should have.
LEAKS = """
import base64, json, logging, subprocess, sys, urllib.parse

import pytest

FORMS = {
    "raw": lambda v: v,
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 shifted": lambda v: base64.b64encode(b"x" + v.encode()).decode(),
    "hex": lambda v: v.encode().hex(),
    "url": lambda v: urllib.parse.quote(v, safe=""),
    "json": json.dumps,
    "reversed": lambda v: v[::-1],
    "window": lambda v: v[5:13],
}
WAYS = {
    "print": lambda text, folder: print(text),
    "stderr": lambda text, folder: print(text, file=sys.stderr),
    "log": lambda text, folder: logging.getLogger("some.library").debug("sent %s", text),
    "file": lambda text, folder: (folder / "out.json").write_text(text),
    "deep file": lambda text, folder: deep(folder).write_bytes(b"\\0" + text.encode()),
}


def deep(folder):
    (folder / "a" / "b").mkdir(parents=True)
    return folder / "a" / "b" / "c.db"


@pytest.fixture
def late(watch):
    secret = watch.secret()
    yield secret
    print(secret)


@pytest.mark.parametrize("shape", ["base62", "password"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_red(way, form, shape, watch, tmp_path):
    WAYS[way](FORMS[form](watch.secret(shape)), tmp_path)


def test_red_raised(watch):
    raise ValueError("bad header " + watch.secret())


def test_red_printed_by_a_fixture(late):
    pass


def test_red_file_name(watch, tmp_path):
    (tmp_path / watch.secret("hex")).touch()


def test_red_given(watch):
    print(watch.guard("an own secret 123"))


@pytest.mark.parametrize("way", WAYS)
def test_green(way, watch, tmp_path):
    watch.secret()
    WAYS[way]("nothing of it", tmp_path)


def test_green_seven_characters(watch):
    print(watch.secret("base62")[5:12])


def test_green_private(watch, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "token").write_text(watch.secret())
"""

SERVERS = '''
import asyncio

import pytest

from reconciler.drivers.jt_trader.requests import MAY_SEND
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn
from tests.conformance.naive import NaiveClient

ROW = [{"name": "bybit_api_key", "type": "string", "value": "v", "label": "x"}]
LIST, SAVE, DELETE = (f"exchange-config-{x}" for x in ("request", "save", "delete"))
REBOOT = "reboot-system-request"


def send(watch, event, payload=None, agent="", secret=None):
    """Ask a stand-in once, as somebody without our driver does; returns its record."""

    async def whole():
        given = watch.secret("hex")
        server = StandIn(
            access_secret=given,
            robots=[Robot(1, "one", "bybit"), Robot(2, "two", "okx")],
            behaviour=Behaviour(sprinkle=False, row_delay=(0.0, 0.0)),
        )
        url = await server.start()
        try:
            headers = {"User-Agent": agent} if agent else {}
            login = {"accessSecret": secret or given}
            async with NaiveClient(url, login, headers=headers) as client:
                assert await client.wait_for("unauthorized" if secret else "authenticated")
                body = () if payload is None else (payload,)
                answer = {LIST: "exchange-config-response", SAVE: "exchange-config-response"}
                await client.ask(
                    event, *body, answer=answer.get(event, "update-report"), patience=0.3
                )
        finally:
            await server.stop()
        assert server.record.events(event) == 1, "it arrived"
        return server.record

    return asyncio.run(whole())


def ours(command):
    return f"jt-reconciler/0.1.0 ({command})"


@pytest.mark.naive
def test_red_fatal_without_marker(watch):
    assert send(watch, LIST, secret="wrong").fatal_paths == 1


@pytest.mark.naive
@pytest.mark.fatal_paths(2)
def test_red_too_few_fatal(watch):
    assert send(watch, LIST, secret="wrong").fatal_paths == 1


@pytest.mark.naive
@pytest.mark.fatal_paths(1)
def test_red_no_fatal_though_expected(watch):
    assert send(watch, LIST).fatal_paths == 0


@pytest.mark.naive
@pytest.mark.fatal_paths(1)
def test_green_fatal_with_marker(watch):
    assert send(watch, LIST, secret="wrong").fatal_paths == 1


@pytest.mark.parametrize(
    ("command", "event", "payload"),
    [("plan", SAVE, ROW), ("status", SAVE, ROW), ("request", REBOOT, None), ("guess", LIST, None)],
)
def test_red_outside_the_table(watch, command, event, payload):
    send(watch, event, payload, ours(command))


@pytest.mark.naive
def test_red_outside_the_table_and_naive_is_no_excuse_for_our_own_name(watch):
    send(watch, SAVE, ROW, ours("plan"))


def test_red_a_foreign_client_without_marker(watch):
    send(watch, LIST)


@pytest.mark.naive
def test_green_a_foreign_client_with_marker(watch):
    send(watch, SAVE, ROW)


@pytest.mark.parametrize(("command", "event"), [("plan", LIST), ("apply", LIST)])
def test_green_inside_the_table(watch, command, event):
    assert event in MAY_SEND[command]
    send(watch, event, None, ours(command))


def test_green_apply_saves(watch):
    send(watch, SAVE, ROW, ours("apply"))
'''

DRIVER = '''
import asyncio

import pytest

from reconciler import bootstrap
from reconciler.drivers.jt_trader.requests import MAY_SEND, SAVE
from tests.support.rig import Rig


def test_red_plan_that_saves(rig: Rig, monkeypatch):
    """Our own driver, gone astray: under the name of `plan` it may save, and does."""
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    monkeypatch.setattr(
        bootstrap,
        "JtTraderDriver",
        lambda command, **options: astray(**options),
    )
    assert rig.apply().code == 0
    assert server.record.saves == 1


def astray(**options):
    from reconciler.drivers.jt_trader.driver import JtTraderDriver

    driver = JtTraderDriver(command="plan", **options)
    driver._may_send = MAY_SEND["apply"]
    return driver


def test_green_apply_that_saves(rig: Rig):
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    assert rig.apply().code == 0
    assert server.record.saves == 1


def test_green_plan_is_stopped_by_the_driver_itself(rig: Rig, monkeypatch):
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    real = bootstrap.JtTraderDriver
    monkeypatch.setattr(
        bootstrap, "JtTraderDriver", lambda command, **options: real(command="plan", **options)
    )
    assert rig.apply().code != 0
    assert (server.record.saves, server.record.fatal_paths) == (0, 0)
'''


@dataclass(frozen=True, slots=True)
class Inner:
    """How an inner run ended: names of red and of green tests, and what it printed."""

    red: frozenset[str]
    green: frozenset[str]
    text: str


def inner_run(folder: Path, source: str) -> Inner:
    """Run *source* as a test file under the real conftest."""
    file = folder / "test_inner.py"
    file.write_text(textwrap.dedent(source), "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rA", "--color=no", "-p", "tests.conftest"),
            *("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist"),
            *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)),
            *("--basetemp", str(folder / "inner"), str(file)),
        ],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    verdicts: dict[str, set[str]] = {"red": set(), "green": set()}
    for verdict, name in re.findall(
        r"^(PASSED|FAILED|ERROR) test_inner\.py::(.+?)(?: - .*)?$", done.stdout, re.MULTILINE
    ):
        verdicts["green" if verdict == "PASSED" else "red"].add(name)
    red = frozenset(verdicts["red"])  # passed, and red when it was torn down: red
    green = frozenset(verdicts["green"]) - red
    assert red | green, done.stdout + done.stderr
    return Inner(red, green, done.stdout)


def wrong(inner: Inner) -> set[str]:
    """Names of tests whose verdict is not the one that their name promises."""
    return {name for name in inner.red if not name.startswith("test_red")} | {
        name for name in inner.green if not name.startswith("test_green")
    }


def test_every_leak_turns_a_test_red(tmp_path: Path) -> None:
    inner = inner_run(tmp_path, LEAKS)

    assert wrong(inner) == set()
    assert (len(inner.red), len(inner.green)) == (84, 7)
    assert "a secret leaked:" in inner.text
    assert re.search("^what it raised: base62 at byte", inner.text, re.MULTILINE)
    assert re.search(r"^seed \d+$", inner.text, re.MULTILINE), "so that it can be repeated"


def test_fatal_paths_and_events_outside_the_table_turn_a_test_red(tmp_path: Path) -> None:
    inner = inner_run(tmp_path, SERVERS)

    assert wrong(inner) == set()
    assert (len(inner.red), len(inner.green)) == (9, 5)
    assert "the stand-ins ran 1 fatal paths, expected 0" in inner.text
    assert "the stand-ins ran 1 fatal paths, expected 2" in inner.text
    assert "the stand-ins ran 0 fatal paths, expected 1" in inner.text
    assert "[('plan', 'exchange-config-save')]" in inner.text
    assert "[('request', 'reboot-system-request')]" in inner.text
    assert "[('guess', 'exchange-config-request')]" in inner.text
    assert "[('', 'exchange-config-request')]" in inner.text


def test_a_driver_that_saves_under_the_name_of_plan_turns_a_test_red(tmp_path: Path) -> None:
    inner = inner_run(tmp_path, DRIVER)

    assert wrong(inner) == set()
    assert (len(inner.red), len(inner.green)) == (1, 2)
    assert "('plan', 'exchange-config-save')" in inner.text


# ── the search itself, without a pytest around it ────────────────────────────────────────────


@pytest.mark.parametrize("shape", ["hex", "base62", "pem", "passphrase", "unicode", "jwt"])
def test_files_are_searched_whatever_their_place_and_kind(shape: str, tmp_path: Path) -> None:
    own = Watch("inner")
    value = own.secret(shape)
    places = ("plain.txt", "a/b/deep.json", ".hidden", "ledger.db-wal", "a.private")
    for place in places:
        path = tmp_path / "searched" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x00\xff" + value.encode() + b"\x00")
    (tmp_path / "searched" / PRIVATE).mkdir()
    (tmp_path / "searched" / PRIVATE / "token").write_text(value, "utf-8")
    own.search_folder(tmp_path / "searched")

    assert {line.split(":")[0] for line in own.found} == set(places)
    assert all(f"{shape} at byte" in line for line in own.found)
    assert not any(value in line for line in own.found)


def test_a_watch_without_secrets_finds_nothing_and_one_with_sees_later_ones(tmp_path: Path) -> None:
    own = Watch("inner")
    (tmp_path / "early").write_text("kX8vQ2mW9pL4", "utf-8")
    own.search_folder(tmp_path)
    assert own.found == []

    own.guard("kX8vQ2mW9pL4")
    own.search_folder(tmp_path)
    assert own.found == ["early: given at byte 0"]

    own.search("text", "and 8vQ2mW9p within")
    assert own.found[1:] == ["text: given at byte 4"]
