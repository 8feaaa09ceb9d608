"""`jtr status`, `logs` and `plan --recorded` with a running controller: asked, believed, missed."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.api.client import Controller, ControllerAway, ControllerRefused, alive
from reconciler.controller.status import Health, ServerStatus, Sync
from reconciler.errors import DriverError, LedgerError, ServerUnreachable, UsageError
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.model.observed import LogEntry, Robot
from reconciler.model.recorded import Debt, Owed
from reconciler.sandbox.openbao import OpenBao
from reconciler.settings.model import ControllerSettings, Settings, SqliteLedger
from reconciler.system.timeouts import Timeouts
from tests.controller.boards import busy
from tests.e2e.answers import document, server
from tests.e2e.controllers import Served
from tests.e2e.terminal import Command
from tests.leaks import PRIVATE
from tests.processes import until
from tests.world import DURATIONS, Ran, World

ROBOT = Robot(7, "arb", "okx", running=False)


def applied(world: World, *exchanges: str, **spec: Any) -> None:
    """Bring one server to its document, with a ledger that knows it."""
    world.server()
    world.document("tokyo-1", *exchanges, **spec)
    world.begin()
    assert world.apply().code == 0


def told(world: World, **changes: Any) -> ServerStatus:
    """The world's server as a controller might tell of it."""
    ago = datetime.now(UTC) - timedelta(seconds=7)
    return replace(
        ServerStatus(
            "tokyo-1",
            world.servers["tokyo-1"].url,
            "0",
            sync=Sync.SYNCED,
            health=Health.HEALTHY,
            version="0.6.1",
            robots=(Robot(1, "grid-btc", "bybit", running=True),),
            connected=True,
            seen_at=ago.isoformat(),
            last_pass=ago.isoformat(),
            last_success=ago.isoformat(),
            next_pass=(ago + timedelta(seconds=60)).isoformat(),
        ),
        **changes,
    )


def elsewhere(world: World) -> dict[str, str]:
    """The environment of a host that never had a ledger."""
    return {"XDG_STATE_HOME": str(world.home / "elsewhere")}


# ── status ───────────────────────────────────────────────────────────────────────────────────


def test_status_shows_what_the_controller_says_and_visits_nobody(world: World) -> None:
    applied(world)
    visits = len(world.servers["tokyo-1"].record.handshakes)

    with Served(world, (told(world),)) as served:
        ran = world.jtr("status", environment=elsewhere(world))

    assert ran.code == 0, ran.text
    assert ran.err == ""
    head, _, first, *rest = ran.out.splitlines()
    assert head.startswith(f"controller 1@host at http://127.0.0.1:{served.web.port}: acts, ")
    assert head.endswith("documents 0123abcd")
    assert first == f"tokyo-1  {world.servers['tokyo-1'].url}  account 0  JT-Trader 0.6.1"
    assert rest[0] == "  synced, healthy"
    assert rest[1].startswith("  seen 7 s ago, last success 7 s ago, next pass in 5")
    assert rest[1].endswith(", connected")
    assert "  robots running: grid-btc (bybit)" in rest
    assert f"  bybit: written from {world.reference('tokyo-1/bybit')}@1" in rest
    assert len(world.servers["tokyo-1"].record.handshakes) == visits
    assert not (world.home / "elsewhere").exists()


def test_status_shows_all_that_needs_a_person(world: World) -> None:
    trouble = {
        "acting": False,
        "rival": "controller 2@other",
        "documents": "a.yaml:1:1: bad",
        "secrets": "sealed",
        "state": "the disk is full",
        "brakes": {"0.6.1": "harm on tokyo-1"},
    }
    applied(world)

    with Served(world, (busy(),), trouble):
        ran = world.jtr("status")

    assert ran.code == 7
    for line in (
        "does not act",
        "  ! another controller acts: controller 2@other",
        "  ! the newest documents are not in force: a.yaml:1:1: bad",
        "  ! Vault: sealed",
        "  ! its own state file: the disk is full",
        "  ! the brake is on for JT-Trader 0.6.1: harm on tokyo-1",
        "      `jtr ledger release-brake 0.6.1 --because TEXT` after you looked",
        "owner desk-asia",
        "  out of sync, degraded: somebody keeps changing okx back",
        "failed 4 times in a row, not connected",
        "  2 changes, drift on 1 exchange, 3 blocked until a person decides; see: jtr plan",
        "  ! contested, somebody keeps changing it back: okx",
        "  ! key of okx: PERM_WITHDRAW; see: jtr audit",
        "      `jtr apply --server osaka-2 --correct-drift` corrects it once more",
        "  suspended by ann until 2026-11-22T15:00:00Z: exchange maintenance",
        "  window closed: opens at 18:00",
        "  later: reboot: scheduled, at 12:30",
        "  ? a request is in doubt; see: jtr request list",
        "  ! robots owed a start: arb (7)",
        "      jtr request resume osaka-2",
        "  ! robots stopped without our asking: arb (7)",
        ": reboot: the server caches the okx key from before 2026-11-22T09:00:00+00:00",
        ": restart of robot arb (7): it holds the okx key",
        "  robots running: none",
        "  in no document of the controller; its ledger remembers it",
    ):
        assert line in ran.out, line


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"health": Health.UNREACHABLE, "failures": 3, "drift": 1}, 0),
        ({"owed_robots": (ROBOT,)}, 4),
        ({"in_doubt": 1, "owed_robots": (ROBOT,)}, 7),
    ],
)
def test_exit_codes_are_those_of_what_was_served(
    world: World, changes: dict[str, Any], code: int
) -> None:
    applied(world)

    with Served(world, (told(world, **changes),)):
        assert world.jtr("status").code == code
        assert world.jtr("status", "-o", "json").code == code
        assert world.jtr("status", "--server", "tokyo-1").code == code


def test_json_has_the_served_document_beside_the_usual_form(world: World) -> None:
    applied(world)
    usual = json.loads(world.jtr("status", "-o", "json").out)

    debt = Debt(Owed.REBOOT, "bybit", "2026-11-22T09:00:00+00:00", 5)
    with Served(world, (told(world, debts=(debt,)), busy())):
        ran = world.jtr("status", "-o", "json", environment=elsewhere(world))
        one = world.jtr("status", "-o", "json", "--server", "tokyo-1")

    found = json.loads(ran.out)
    controller = found.pop("controller")
    assert found == usual
    assert controller["controller"]["acting"] is True
    assert [row["server"] for row in controller["servers"]] == ["osaka-2", "tokyo-1"]
    assert controller["servers"][1]["debts"][0]["owed"] == "reboot"
    assert [row["server"] for row in json.loads(one.out)["controller"]["servers"]] == ["tokyo-1"]


def test_status_of_one_server(world: World) -> None:
    applied(world)

    with Served(world, (told(world), busy())):
        one = world.jtr("status", "--server", "tokyo-1")
        unknown = world.jtr("status", "--server", "nowhere")

    assert (one.code, unknown.code) == (0, 64)
    assert "osaka-2" not in one.out
    assert "knows no server called nowhere" in unknown.err
    assert "osaka-2, tokyo-1" in unknown.err


def test_a_controller_that_waits_still_tells_that_it_does(world: World) -> None:
    waits = {"waiting": "Vault: sealed", "acting": False, "revision": ""}

    with Served(world, (), waits, LedgerError("the controller waits: Vault: sealed")):
        ran = world.jtr("status", environment=elsewhere(world))

    assert ran.code == 0
    assert "  ! it waits: Vault: sealed" in ran.out
    assert "without what its ledger knows" in ran.err


def test_without_the_controller_status_is_the_ledgers_and_says_so(world: World) -> None:
    applied(world)
    plain = world.jtr("status")

    with Served(world, (busy(),)) as served:
        served.stop()
        ran = world.jtr("status")
        nothing = world.jtr("status", environment=elsewhere(world))

    assert ran.code == 0
    assert without_ages(ran.out) == without_ages(plain.out)
    (word,) = ran.err.splitlines()
    assert f"the controller at http://127.0.0.1:{served.web.port} cannot be asked" in word
    assert "there is no connection; this is what the ledger of the settings knows" in word
    assert nothing.code == 4


def without_ages(text: str) -> list[str]:
    return [line for line in text.splitlines() if " ago by " not in line]


def test_live_status_asks_the_servers_and_not_the_controller(world: World) -> None:
    applied(world)
    before = len(world.servers["tokyo-1"].record.handshakes)

    with Served(world, (busy(),)) as served:
        ran = world.jtr("status", "--live", "--from", str(world.docs))

    assert ran.code == 0
    assert "osaka-2" not in ran.text
    assert served.asked == []
    assert len(world.servers["tokyo-1"].record.handshakes) == before + 1


def test_no_text_of_a_controller_drives_the_terminal(world: World) -> None:
    hostile = "\x1b[2J\r\nfake line\x9b31m\u202e\ud83d\x00"
    applied(world)
    odd = replace(
        busy(),
        reason=hostile,
        owner=hostile,
        version=hostile,
        suspended=hostile,
        suspended_by=hostile,
        suspended_until=hostile,
        window=hostile,
        deferred=(hostile,),
        contested=(hostile,),
        robots=(Robot(1, hostile, hostile, running=True),),
        owed_robots=(Robot(1, hostile, hostile, running=True),),
        debts=(Debt(Owed.RESTART, hostile, hostile, 1, 1, hostile),),
    )
    trouble = {"waiting": hostile, "label": hostile, "brakes": {hostile: hostile}}

    with Served(world, (odd,), trouble):
        ran = world.jtr("status")
        served = world.jtr("status", environment=elsewhere(world))

    for found in (ran, served):
        assert "fake line" in found.text
        assert all(line.isprintable() for line in found.text.split("\n"))
        assert not [line for line in found.text.splitlines() if line.startswith("fake")]


# ── who is let in ────────────────────────────────────────────────────────────────────────────


COMMANDS = (("status",), ("plan", "DOCS", "--recorded"), ("logs", "tokyo-1"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_wrong_token_is_said_and_nothing_takes_its_place(
    world: World, command: tuple[str, ...]
) -> None:
    applied(world)
    args = tuple(str(world.docs) if word == "DOCS" else word for word in command)
    visits = len(world.servers["tokyo-1"].record.handshakes)

    with Served(world, (told(world),)) as served:
        served.token_file.write_text(world.watch.secret("hex"))
        wrong = world.jtr(*args)
        world.settings(controller={"url": f"http://127.0.0.1:{served.web.port}"})
        missing = world.jtr(*args)
        served.token_file.write_text("short")
        served.name(url=f"http://127.0.0.1:{served.web.port}")
        broken = world.jtr(*args)

    assert (wrong.code, missing.code, broken.code) == (1, 1, 64)
    assert "does not accept the token" in wrong.err
    assert "asks for a token" in missing.err
    assert "controller.tokenFile" in wrong.err
    assert "does not hold a token" in broken.err
    assert served.asked == []
    assert len(world.servers["tokyo-1"].record.handshakes) == visits


# ── plan --recorded ──────────────────────────────────────────────────────────────────────────


def test_a_recorded_plan_is_the_same_from_the_controllers_ledger(world: World) -> None:
    applied(world, "bybit", "okx")
    world.rotate(exchange="okx")
    own = document(world.plan("--recorded", "-o", "json"))
    visits = len(world.servers["tokyo-1"].record.handshakes)

    with Served(world) as served:
        ran = world.plan("--recorded", "-o", "json", environment=elsewhere(world))

    found = document(ran)
    assert found["planId"] == own["planId"]
    assert found["summary"]["writes"] == 1
    for plan in (found, own):
        assert plan["servers"][0].pop("ageSeconds") >= 0
    assert found == own
    assert ran.err == ""
    assert served.asked == ["observations"]
    assert len(world.servers["tokyo-1"].record.handshakes) == visits
    assert not (world.home / "elsewhere").exists()


def test_the_controllers_ledger_wins_over_one_that_lies_about(world: World) -> None:
    applied(world)

    with Served(world, rows=None) as served:
        world.plan("--recorded")
        world.plan()

    assert served.asked == ["observations"], "only the recorded one asks"


def test_without_the_controller_a_recorded_plan_uses_a_ledger_or_fails(world: World) -> None:
    applied(world)

    with Served(world) as served:
        served.stop()
        here = world.plan("--recorded", "-o", "json")
        nowhere = world.plan("--recorded", environment=elsewhere(world))

    assert here.code == 0
    assert "comparing with the ledger of the settings" in here.err
    assert server(here)["lines"][0]["status"] == "in sync"
    assert nowhere.code == 1
    assert nowhere.out == ""
    assert "cannot be asked" in nowhere.err.splitlines()[-2]


@pytest.mark.parametrize(
    "rows", [{}, {"ledger/birth": "no JSON"}, {"NO KEY": "{}"}], ids=["empty", "broken", "keys"]
)
def test_what_is_no_ledger_is_not_planned_from(world: World, rows: dict[str, str]) -> None:
    applied(world)

    with Served(world, rows=rows):
        ran = world.plan("--recorded")

    assert ran.code in (1, 4)
    assert ran.out == ""


def test_one_shots_are_promised_only_if_no_other_ledger_knows_the_server(world: World) -> None:
    applied(world)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    wish = {"invalidatedAfter": now.replace("+00:00", "Z"), "reason": "stale"}
    world.document("tokyo-1", rotate=False, cache=wish)
    found = {}
    for only in (True, False):
        with Served(world, only=only):
            (line,) = server(world.plan("--recorded", "-o", "json"))["disruptions"]
            found[only] = (line["standing"], line["why"])

    assert "another ledger might know of it" in found[False][1]
    assert "another ledger" not in found[True][1]


def test_what_the_controller_would_do_is_not_called_left_to_it(world: World) -> None:
    """Elsewhere a plan leaves drift and requests to the controller; this one is its own."""
    applied(world)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    world.document("tokyo-1", rotate=False, cache={"invalidatedAfter": now, "reason": "stale"})
    store = SqliteStore.open(world.home / "state" / "jtr" / "ledger.db")
    ledger = Ledger(
        store, now=lambda: datetime.now(UTC), timeouts=Timeouts(), writer="controller 1@host"
    )

    with closing(store), ledger.leadership():
        own = world.plan("--recorded")
        with Served(world):
            ran = world.plan("--recorded")

    assert "left to it" in own.text
    assert "left to" not in ran.text


# ── logs ─────────────────────────────────────────────────────────────────────────────────────


START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def entry(seconds: int, message: str, level: str = "info") -> LogEntry:
    moment = START + timedelta(seconds=seconds, milliseconds=5)
    return LogEntry(round(moment.timestamp() * 1000), level, "Robot", message, {"secret": "x"})


LOG = (entry(0, "one"), entry(1, "two", "error"), entry(2, "three"))


def logs(world: World, *args: str) -> Ran:
    """Run `jtr logs` where there are no documents."""
    empty = world.home / "empty"
    empty.mkdir(exist_ok=True)
    return world.jtr("logs", "tokyo-1", "--from", str(empty), *args)


def test_logs_come_from_the_controller_without_a_visit_and_without_documents(
    world: World,
) -> None:
    stand_in = world.server()

    with Served(world, log=LOG) as served:
        ran = logs(world)
        rows = [json.loads(line) for line in logs(world, "-o", "json").out.splitlines()]
        errors = logs(world, "--level", "error").out
        late = logs(world, "--since", "2026-11-22T12:00:02Z").out
        none = logs(world, "--since", "1ms").out

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "2026-11-22T12:00:00.005Z  info   Robot  one"
    assert len(ran.out.splitlines()) == 3
    assert rows[1] == {
        "time": "2026-11-22T12:00:01.005Z",
        "level": "error",
        "class": "Robot",
        "message": "two",
    }
    assert errors.splitlines() == ["2026-11-22T12:00:01.005Z  error  Robot  two"]
    assert [line[-5:] for line in late.splitlines()] == ["three"]
    assert none == ""
    assert served.asked == ["log of tokyo-1"] * 5
    assert not stand_in.record.handshakes


@pytest.mark.parametrize(
    ("log", "code", "word"),
    [
        (UsageError("no server is called tokyo-1", "see: jtr status"), 64, "see: jtr status"),
        (ServerUnreachable("nothing listens there", "start it"), 6, "nothing listens there"),
        (DriverError("it is not acceptable"), 6, "not acceptable"),
        (None, 6, "a line of the file is not JSON"),
    ],
)
def test_a_log_that_the_controller_cannot_read(
    world: World, log: Any, code: int, word: str
) -> None:
    stand_in = world.server()
    world.document()

    with Served(world, log=log):
        ran = world.jtr("logs", "tokyo-1", "--from", str(world.docs))

    assert (ran.code, ran.out) == (code, "")
    assert word in ran.err
    assert not stand_in.record.handshakes


def test_logs_with_visit_or_without_the_controller_visit(world: World) -> None:
    stand_in = world.server()
    world.document()
    where = ("logs", "tokyo-1", "--from", str(world.docs))

    with Served(world, log=LOG) as served:
        visit = world.jtr(*where, "--visit")
        asked = list(served.asked)
        served.stop()
        away = world.jtr(*where)

    assert (visit.code, away.code) == (0, 0)
    assert asked == []
    assert visit.err == ""
    assert "cannot be asked" in away.err
    assert "visiting the server instead" in away.err
    for ran in (visit, away):
        assert "Nest application successfully started" in ran.out
    assert len(stand_in.record.handshakes) == 2


@contextmanager
def following(world: World) -> Iterator[Command]:
    with Command(world, "logs", "tokyo-1", "--follow") as command:
        yield command


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_following_prints_what_is_new_until_a_signal(
    world: World, number: signal.Signals, code: int
) -> None:
    world.server()
    short = {"durations": DURATIONS | {"follow": "30ms"}}

    with Served(world, log=LOG, settings=short) as served, following(world) as command:
        command.expect("three")
        served.log = (*LOG, entry(3, "four"))
        command.expect("four")
        served.log = ServerUnreachable("nothing listens there")
        command.expect("looking for it again")
        served.log = (entry(4, "five"),)  # rotated
        command.expect("five")
        command.process.send_signal(number)
        assert command.ended() == code
        assert command.text.count("  one") == command.text.count("  four") == 1


def test_following_says_once_that_a_slow_server_is_away(world: World) -> None:
    world.server()
    short = {"durations": DURATIONS | {"follow": "30ms", "ready": "30s"}}

    with Served(world, log=LOG, settings=short) as served, following(world) as command:
        command.expect("three")
        served.delay = 0.2  # longer than it takes to ask twice
        served.log = ServerUnreachable("nothing listens there")
        command.expect("looking for it again")
        asked = len(served.asked)
        until(lambda: len(served.asked) > asked + 2)
        served.log = (*LOG, entry(3, "four"))
        command.expect("four")
        assert command.text.count("looking for it again") == 1


def test_following_ends_when_the_controller_stays_away(world: World) -> None:
    world.server()
    world.document()
    short = {"durations": DURATIONS | {"follow": "30ms", "ready": "200ms"}}

    with Served(world, log=LOG, settings=short) as served, following(world) as command:
        command.expect("three")
        served.stop()
        assert command.ended() == 1
        assert "cannot be asked" in command.text
        assert "visiting" not in command.text


# ── strange answers ──────────────────────────────────────────────────────────────────────────


@contextmanager
def answering(*answers: bytes) -> Iterator[Controller]:
    """A server that answers each connection with bytes as they are."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Controller(named(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join(10)
        assert not thread.is_alive()


def named(url: str, **controller: Any) -> Settings:
    return Settings(
        SqliteLedger("/nonexistent/ledger.db"), controller=ControllerSettings(url=url, **controller)
    )


def response(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "answer",
    [
        response("200 OK", b"<html>canary</html>"),
        response("200 OK", b"[1]"),
        response("200 OK", b'{"formatVersion": 2}'),
        response("200 OK", b"[" * 200_000),
        response("200 OK", b"\xff\xfe"),
        response("404 Not Found", b"canary"),
        response("500 No", b'{"error": {"what": 5}}'),
        response("503 No", b"canary"),
        response("302 Found", b"", "Location: http://127.0.0.1:1/canary"),
        response("421 No", b"{}"),
    ],
    ids=lambda answer: answer[9:30].decode("latin-1").split("\r")[0],
)
def test_what_is_not_understood_is_said_without_an_echo(answer: bytes) -> None:
    with answering(answer) as controller, pytest.raises(ControllerRefused) as caught:
        controller.status()

    assert "is not understood" in caught.value.what
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"", b"canary\r\n\r\n"])
def test_an_answer_that_is_none_counts_as_away(answer: bytes) -> None:
    with answering(answer) as controller, pytest.raises(ControllerAway) as caught:
        controller.status()

    assert "canary" not in str(caught.value)
    assert caught.value.transient


@pytest.mark.parametrize(
    "body",
    [
        {"documents": []},
        {"documents": {"a": 1}},
        {},
        {"documents": {"a": None}},
    ],
)
def test_rows_of_another_shape_are_refused(body: dict[str, Any]) -> None:
    content = json.dumps({"formatVersion": 1} | body).encode()

    with answering(response("200 OK", content)) as controller, pytest.raises(ControllerRefused):
        controller.ledger_documents()


def test_log_entries_of_another_shape(world: World) -> None:
    del world
    rows = [{"time": 5, "level": [], "class": None}, {"time": "yesterday", "message": "m"}]
    good = json.dumps({"formatVersion": 1, "entries": rows}).encode()
    bad = json.dumps({"formatVersion": 1, "entries": [5]}).encode()

    with answering(response("200 OK", good), response("200 OK", bad)) as controller:
        assert controller.logs("tokyo-1") == (
            LogEntry(None, "", "", "", {}),
            LogEntry(None, "", "", "m", {}),
        )
        with pytest.raises(ControllerRefused):
            controller.logs("tokyo-1")


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in clear"):
        Controller(named("http://jtr.internal:9797"))
    with pytest.raises(UsageError, match=r"controller\.caFile"):
        Controller(named("https://jtr.internal", ca_file=str(tmp_path / "none.pem")))
    with pytest.raises(UsageError, match=r"controller\.tokenFile cannot be read"):
        Controller(named("https://jtr.internal", token_file=str(tmp_path / "none")))


def test_only_the_named_ca_is_trusted() -> None:
    with OpenBao(tls=True) as somebody:  # any server with a certificate
        for ca_file, why in (
            (None, "certificate is not accepted"),
            (somebody.ca_file, "asks for a token"),
        ):
            with pytest.raises(ControllerRefused, match=why) as caught:
                Controller(named(somebody.address, ca_file=ca_file)).status()
            assert caught.value.__context__ is None


# ── the health check of a container ──────────────────────────────────────────────────────────


def test_alive_asks_this_host_however_it_is_written(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with Served(world) as served:
        port, settings = served.web.port, named("https://elsewhere.internal")
        assert [alive(f"{host}:{port}", settings) for host in ("127.0.0.1", "0.0.0.0")] == [0, 0]
        assert capsys.readouterr().err == ""
        served.status_store.stuck = "tokyo-1"
        assert alive(f"127.0.0.1:{port}", settings) == 1
        assert "is not alive: a pass does not end: tokyo-1" in capsys.readouterr().err
        served.stop()
        assert alive(f"127.0.0.1:{port}", settings) == 1
        assert "no controller answers at 127.0.0.1" in capsys.readouterr().err
    with pytest.raises(UsageError):
        alive("nonsense:port", settings)


# ── all of it ────────────────────────────────────────────────────────────────────────────────


def test_a_real_controller_is_asked_by_all_and_visits_the_server_once(world: World) -> None:
    stand_in = world.server()
    world.document()
    world.begin()
    token = world.home / PRIVATE / "page-token"
    token.write_text(world.watch.secret("hex"))
    listen = f"127.0.0.1:{free_port()}"
    names = {"listen": listen, "url": f"http://{listen}", "tokenFile": str(token)}
    world.settings(controller=names, soleWriter=True)

    with Command(world, "controller", str(world.docs)) as command:
        command.expect("pass healthy")
        found = [
            world.jtr(*args, environment=elsewhere(world))
            for args in (
                ("controller", "--check"),
                ("status",),
                ("plan", str(world.docs), "--recorded"),
                ("logs", "tokyo-1"),
            )
        ]
        command.process.send_signal(signal.SIGTERM)
        assert command.ended() == 0
    after = world.jtr("controller", "--check")

    assert [(ran.code, ran.err) for ran in found] == [(0, "")] * 4
    assert "  synced, healthy" in found[1].out
    assert f"  bybit: written from {world.reference('tokyo-1/bybit')}@1" in found[1].out
    assert "Plan: 0 to write" in found[2].out
    assert "Nest application successfully started" in found[3].out
    assert (after.code, after.out) == (1, "")
    assert len(stand_in.record.handshakes) == 1


def free_port() -> int:
    """A port that was free a moment ago: the command prints none that it chose itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
