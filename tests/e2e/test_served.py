"""`jtr status`, `logs` and `plan --recorded` with a running controller: asked, believed, missed."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
from reconciler.model.values import replace
from reconciler.sandbox.openbao import OpenBao
from reconciler.settings.model import ControllerSettings, Settings, SqliteLedger
from reconciler.system.timeouts import Timeouts
from tests.controller.sample_statuses import braked, busy
from tests.e2e.answers import document, server
from tests.e2e.controllers import Served
from tests.e2e.terminal import Command
from tests.support.durations import DURATIONS
from tests.support.leaks import PRIVATE
from tests.support.processes import until
from tests.support.rig import Ran, Rig

ROBOT = Robot(7, "arb", "okx", running=False)


def applied(rig: Rig, *exchanges: str, **spec: Any) -> None:
    """Bring one server to its document, with a ledger that knows it."""
    rig.server()
    rig.document("tokyo-1", *exchanges, **spec)
    rig.begin()
    assert rig.apply().code == 0


def told(rig: Rig, **changes: Any) -> ServerStatus:
    """The world's server as a controller might tell of it."""
    ago = datetime.now(UTC) - timedelta(seconds=7)
    return replace(
        ServerStatus(
            "tokyo-1",
            rig.servers["tokyo-1"].url,
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


def elsewhere(rig: Rig) -> dict[str, str]:
    """The environment of a host that never had a ledger."""
    return {"XDG_STATE_HOME": str(rig.home / "elsewhere")}


# ── status ───────────────────────────────────────────────────────────────────────────────────


def test_status_shows_what_the_controller_says_and_visits_nobody(rig: Rig) -> None:
    applied(rig)
    visits = len(rig.servers["tokyo-1"].record.handshakes)

    with Served(rig, (told(rig),)) as served:
        ran = rig.jtr("status", environment=elsewhere(rig))

    assert ran.code == 0, ran.text
    assert ran.err == ""
    head, _, first, *rest = ran.out.splitlines()
    assert head.startswith(f"controller 1@host at http://127.0.0.1:{served.web.port}: acts, ")
    assert head.endswith("documents 0123abcd")
    assert first == f"tokyo-1  {rig.servers['tokyo-1'].url}  account 0  JT-Trader 0.6.1"
    assert rest[0] == "  synced, healthy"
    assert rest[1].startswith("  seen 7 s ago, last success 7 s ago, next pass in 5")
    assert rest[1].endswith(", connected")
    assert "  robots running: grid-btc (bybit)" in rest
    assert f"  bybit: written from {rig.reference('tokyo-1/bybit')}@1" in rest
    assert len(rig.servers["tokyo-1"].record.handshakes) == visits
    assert not (rig.home / "elsewhere").exists()


def test_status_shows_all_that_needs_a_person(rig: Rig) -> None:
    trouble = {
        "acting": False,
        "rival": "controller 2@other",
        "documents": "a.yaml:1:1: bad",
        "secrets": "sealed",
        "state": "the disk is full",
        "brakes": (
            braked("0.6.1", "harm on tokyo-1"),
            braked("0.6.1", "harm on tokyo-1", "tokyo-1"),
        ),
    }
    applied(rig)

    with Served(rig, (busy(),), trouble):
        ran = rig.jtr("status")

    assert ran.code == 7
    for line in (
        "does not act",
        "  ! another controller acts: controller 2@other",
        "  ! the newest documents are not in force: a.yaml:1:1: bad",
        "  ! Vault: sealed",
        "  ! its own state file: the disk is full",
        "  ! the brake is on for JT-Trader 0.6.1: harm on tokyo-1",
        "      `jtr ledger release-brake 0.6.1 --because TEXT` after you looked",
        "  ! the brake is on for tokyo-1: harm on tokyo-1",
        "      `jtr ledger release-brake tokyo-1 --because TEXT` after you looked",
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
        ": reboot: the server caches the okx key from before 2026-11-22T09:00:00Z",
        ": restart of robot arb (7): it holds the okx key",
        "  robots running: none",
        "  in no document of the controller; its ledger remembers it",
    ):
        assert line in ran.out, line


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"health": Health.UNREACHABLE, "failures": 3, "drifting": ("bybit",)}, 0),
        ({"owed_robots": (ROBOT,)}, 4),
        ({"in_doubt": 1, "owed_robots": (ROBOT,)}, 7),
    ],
)
def test_exit_codes_are_those_of_what_was_served(
    rig: Rig, changes: dict[str, Any], code: int
) -> None:
    applied(rig)

    with Served(rig, (told(rig, **changes),)):
        assert rig.jtr("status").code == code
        assert rig.jtr("status", "-o", "json").code == code
        assert rig.jtr("status", "--server", "tokyo-1").code == code


def test_json_has_the_served_document_beside_the_usual_form(rig: Rig) -> None:
    applied(rig)
    usual = json.loads(rig.jtr("status", "-o", "json").out)

    debt = Debt(Owed.REBOOT, "bybit", "2026-11-22T09:00:00+00:00", 5)
    with Served(rig, (told(rig, debts=(debt,)), busy())):
        ran = rig.jtr("status", "-o", "json", environment=elsewhere(rig))
        one = rig.jtr("status", "-o", "json", "--server", "tokyo-1")

    found = json.loads(ran.out)
    controller = found.pop("controller")
    for row in (*found["servers"], *usual["servers"]):
        del row["ageSeconds"]  # of two moments
    assert found == usual
    assert controller["controller"]["acting"] is True
    assert [row["server"] for row in controller["servers"]] == ["osaka-2", "tokyo-1"]
    assert controller["servers"][1]["debts"][0]["owed"] == "reboot"
    assert [row["server"] for row in json.loads(one.out)["controller"]["servers"]] == ["tokyo-1"]


def test_status_of_one_server(rig: Rig) -> None:
    applied(rig)

    with Served(rig, (told(rig), busy())):
        one = rig.jtr("status", "--server", "tokyo-1")
        unknown = rig.jtr("status", "--server", "nowhere")

    assert (one.code, unknown.code) == (0, 64)
    assert "osaka-2" not in one.out
    assert "knows no server called nowhere" in unknown.err
    assert "osaka-2, tokyo-1" in unknown.err


def test_a_controller_that_waits_still_tells_that_it_does(rig: Rig) -> None:
    waits = {"waiting": "Vault: sealed", "acting": False, "revision": ""}

    with Served(rig, (), waits, LedgerError("the controller waits: Vault: sealed")):
        ran = rig.jtr("status", environment=elsewhere(rig))

    assert ran.code == 0
    assert "  ! it waits: Vault: sealed" in ran.out
    assert "without what its ledger knows" in ran.err


def test_without_the_controller_status_is_the_ledgers_and_says_so(rig: Rig) -> None:
    applied(rig)
    plain = rig.jtr("status")

    with Served(rig, (busy(),)) as served:
        served.stop()
        ran = rig.jtr("status")
        nothing = rig.jtr("status", environment=elsewhere(rig))

    assert ran.code == 0
    assert without_ages(ran.out) == without_ages(plain.out)
    (word,) = ran.err.splitlines()
    assert f"the controller at http://127.0.0.1:{served.web.port} cannot be asked" in word
    assert "there is no connection; this is what the ledger of the settings knows" in word
    assert nothing.code == 4


def without_ages(text: str) -> list[str]:
    return [line for line in text.splitlines() if " ago by " not in line]


def test_live_status_asks_the_servers_and_not_the_controller(rig: Rig) -> None:
    applied(rig)
    before = len(rig.servers["tokyo-1"].record.handshakes)

    with Served(rig, (busy(),)) as served:
        ran = rig.jtr("status", "--live", "--from", str(rig.docs))

    assert ran.code == 0
    assert "osaka-2" not in ran.text
    assert served.asked == []
    assert len(rig.servers["tokyo-1"].record.handshakes) == before + 1


def test_no_text_of_a_controller_drives_the_terminal(rig: Rig) -> None:
    hostile = "\x1b[2J\r\nfake line\x9b31m\u202e\ud83d\x00"
    applied(rig)
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
    trouble = {"waiting": hostile, "label": hostile, "brakes": (braked(hostile, hostile, hostile),)}

    with Served(rig, (odd,), trouble):
        ran = rig.jtr("status")
        served = rig.jtr("status", environment=elsewhere(rig))

    for found in (ran, served):
        assert "fake line" in found.text
        assert all(line.isprintable() for line in found.text.split("\n"))
        assert not [line for line in found.text.splitlines() if line.startswith("fake")]


# ── who is let in ────────────────────────────────────────────────────────────────────────────


COMMANDS = (("status",), ("plan", "DOCS", "--recorded"), ("logs", "tokyo-1"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_wrong_token_is_said_and_nothing_takes_its_place(
    rig: Rig, command: tuple[str, ...]
) -> None:
    applied(rig)
    args = tuple(str(rig.docs) if word == "DOCS" else word for word in command)
    visits = len(rig.servers["tokyo-1"].record.handshakes)

    with Served(rig, (told(rig),)) as served:
        served.token_file.write_text(rig.watch.secret("hex"))
        wrong = rig.jtr(*args)
        rig.settings(controller={"url": f"http://127.0.0.1:{served.web.port}"})
        missing = rig.jtr(*args)
        served.token_file.write_text("short")
        served.name(url=f"http://127.0.0.1:{served.web.port}")
        broken = rig.jtr(*args)

    assert (wrong.code, missing.code, broken.code) == (1, 1, 64)
    assert "does not accept the token" in wrong.err
    assert "asks for a token" in missing.err
    assert "controller.tokenFile" in wrong.err
    assert "does not hold a token" in broken.err
    assert served.asked == []
    assert len(rig.servers["tokyo-1"].record.handshakes) == visits


# ── plan --recorded ──────────────────────────────────────────────────────────────────────────


def test_a_recorded_plan_is_the_same_from_the_controllers_ledger(rig: Rig) -> None:
    applied(rig, "bybit", "okx")
    rig.rotate(exchange="okx")
    own = document(rig.plan("--recorded", "-o", "json"))
    visits = len(rig.servers["tokyo-1"].record.handshakes)

    with Served(rig) as served:
        ran = rig.plan("--recorded", "-o", "json", environment=elsewhere(rig))

    found = document(ran)
    assert found["planId"] == own["planId"]
    assert found["summary"]["writes"] == 1
    for plan in (found, own):
        assert plan["servers"][0].pop("ageSeconds") >= 0
        del plan["digest"]  # of the age as well
    assert found == own
    assert ran.err == ""
    assert served.asked == ["observations"]
    assert len(rig.servers["tokyo-1"].record.handshakes) == visits
    assert not (rig.home / "elsewhere").exists()


def test_the_controllers_ledger_wins_over_one_that_lies_about(rig: Rig) -> None:
    applied(rig)

    with Served(rig, rows=None) as served:
        rig.plan("--recorded")
        rig.plan()

    assert served.asked == ["observations"], "only the recorded one asks"


def test_without_the_controller_a_recorded_plan_uses_a_ledger_or_fails(rig: Rig) -> None:
    applied(rig)

    with Served(rig) as served:
        served.stop()
        here = rig.plan("--recorded", "-o", "json")
        nowhere = rig.plan("--recorded", environment=elsewhere(rig))

    assert here.code == 0
    assert "comparing with the ledger of the settings" in here.err
    assert server(here)["lines"][0]["status"] == "in sync"
    assert nowhere.code == 1
    assert nowhere.out == ""
    assert "cannot be asked" in nowhere.err.splitlines()[-2]


@pytest.mark.parametrize(
    "rows", [{}, {"ledger/birth": "no JSON"}, {"NO KEY": "{}"}], ids=["empty", "broken", "keys"]
)
def test_what_is_no_ledger_is_not_planned_from(rig: Rig, rows: dict[str, str]) -> None:
    applied(rig)

    with Served(rig, rows=rows):
        ran = rig.plan("--recorded")

    assert ran.code in (1, 4)
    assert ran.out == ""


def test_one_shots_are_promised_only_if_no_other_ledger_knows_the_server(rig: Rig) -> None:
    applied(rig)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    wish = {"invalidatedAfter": now.replace("+00:00", "Z"), "reason": "stale"}
    rig.document("tokyo-1", rotate=False, cache=wish)
    found = {}
    for only in (True, False):
        with Served(rig, only=only):
            (line,) = server(rig.plan("--recorded", "-o", "json"))["disruptions"]
            found[only] = (line["standing"], line["why"])

    assert "another ledger might know of it" in found[False][1]
    assert "another ledger" not in found[True][1]


def test_what_the_controller_would_do_is_not_called_left_to_it(rig: Rig) -> None:
    """Elsewhere a plan leaves drift and requests to the controller; this one is its own."""
    applied(rig)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    rig.document("tokyo-1", rotate=False, cache={"invalidatedAfter": now, "reason": "stale"})
    store = SqliteStore.open(rig.home / "state" / "jtr" / "ledger.db")
    ledger = Ledger(
        store, now=lambda: datetime.now(UTC), timeouts=Timeouts(), writer="controller 1@host"
    )

    with closing(store), ledger.leadership():
        own = rig.plan("--recorded")
        with Served(rig):
            ran = rig.plan("--recorded")

    assert "left to it" in own.text
    assert "left to" not in ran.text


# ── logs ─────────────────────────────────────────────────────────────────────────────────────


START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def entry(seconds: int, message: str, level: str = "info") -> LogEntry:
    moment = START + timedelta(seconds=seconds, milliseconds=5)
    return LogEntry(round(moment.timestamp() * 1000), level, "Robot", message, {"secret": "x"})


LOG = (entry(0, "one"), entry(1, "two", "error"), entry(2, "three"))


def logs(rig: Rig, *args: str) -> Ran:
    """Run `jtr logs` where there are no documents."""
    empty = rig.home / "empty"
    empty.mkdir(exist_ok=True)
    return rig.jtr("logs", "tokyo-1", "--from", str(empty), *args)


def test_logs_come_from_the_controller_without_a_visit_and_without_documents(
    rig: Rig,
) -> None:
    stand_in = rig.server()

    with Served(rig, log=LOG) as served:
        ran = logs(rig)
        rows = [json.loads(line) for line in logs(rig, "-o", "json").out.splitlines()]
        errors = logs(rig, "--level", "error").out
        late = logs(rig, "--since", "2026-11-22T12:00:02Z").out
        none = logs(rig, "--since", "1ms").out

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
def test_a_log_that_the_controller_cannot_read(rig: Rig, log: Any, code: int, word: str) -> None:
    stand_in = rig.server()
    rig.document()

    with Served(rig, log=log):
        ran = rig.jtr("logs", "tokyo-1", "--from", str(rig.docs))

    assert (ran.code, ran.out) == (code, "")
    assert word in ran.err
    assert not stand_in.record.handshakes


def test_logs_with_visit_or_without_the_controller_visit(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    where = ("logs", "tokyo-1", "--from", str(rig.docs))

    with Served(rig, log=LOG) as served:
        visit = rig.jtr(*where, "--visit")
        asked = list(served.asked)
        served.stop()
        away = rig.jtr(*where)

    assert (visit.code, away.code) == (0, 0)
    assert asked == []
    assert visit.err == ""
    assert "cannot be asked" in away.err
    assert "visiting the server instead" in away.err
    for ran in (visit, away):
        assert "Nest application successfully started" in ran.out
    assert len(stand_in.record.handshakes) == 2


@contextmanager
def following(rig: Rig) -> Iterator[Command]:
    with Command(rig, "logs", "tokyo-1", "--follow") as command:
        yield command


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_following_prints_what_is_new_until_a_signal(
    rig: Rig, number: signal.Signals, code: int
) -> None:
    rig.server()
    short = {"durations": DURATIONS | {"follow": "30ms"}}

    with Served(rig, log=LOG, settings=short) as served, following(rig) as command:
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


def test_following_says_once_that_a_slow_server_is_away(rig: Rig) -> None:
    rig.server()
    short = {"durations": DURATIONS | {"follow": "30ms", "ready": "30s"}}

    with Served(rig, log=LOG, settings=short) as served, following(rig) as command:
        command.expect("three")
        served.delay = 0.2  # longer than it takes to ask twice
        served.log = ServerUnreachable("nothing listens there")
        command.expect("looking for it again")
        asked = len(served.asked)
        until(lambda: len(served.asked) > asked + 2)
        served.log = (*LOG, entry(3, "four"))
        command.expect("four")
        assert command.text.count("looking for it again") == 1


def test_following_ends_when_the_controller_stays_away(rig: Rig) -> None:
    rig.server()
    rig.document()
    short = {"durations": DURATIONS | {"follow": "30ms", "ready": "200ms"}}

    with Served(rig, log=LOG, settings=short) as served, following(rig) as command:
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


@pytest.mark.parametrize("answers", [(b"", b""), (b"canary\r\n\r\n",)])  # the client asks once more
def test_an_answer_that_is_none_counts_as_away(answers: tuple[bytes, ...]) -> None:
    with answering(*answers) as controller, pytest.raises(ControllerAway) as caught:
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


def test_log_entries_of_another_shape(rig: Rig) -> None:
    del rig
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
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    with Served(rig) as served:
        port, settings = served.web.port, named("https://elsewhere.internal")
        assert [alive(f"{host}:{port}", settings) for host in ("127.0.0.1", "0.0.0.0")] == [0, 0]
        assert capsys.readouterr().err == ""
        served.status_store.stuck = "a pass does not end: tokyo-1"
        assert alive(f"127.0.0.1:{port}", settings) == 1
        assert "is not alive: a pass does not end: tokyo-1" in capsys.readouterr().err
        served.stop()
        assert alive(f"127.0.0.1:{port}", settings) == 1
        assert "no controller answers at 127.0.0.1" in capsys.readouterr().err
    with pytest.raises(UsageError):
        alive("nonsense:port", settings)


# ── all of it ────────────────────────────────────────────────────────────────────────────────


def test_a_real_controller_is_asked_by_all_and_visits_the_server_once(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    rig.begin()
    token = rig.home / PRIVATE / "page-token"
    token.write_text(rig.watch.secret("hex"))
    listen = f"127.0.0.1:{free_port()}"
    names = {"listen": listen, "url": f"http://{listen}", "tokenFile": str(token)}
    rig.settings(controller=names, soleWriter=True)

    with Command(rig, "controller", str(rig.docs)) as command:
        command.expect("pass healthy")
        found = [
            rig.jtr(*args, environment=elsewhere(rig))
            for args in (
                ("controller", "--check"),
                ("status",),
                ("plan", str(rig.docs), "--recorded"),
                ("logs", "tokyo-1"),
            )
        ]
        command.process.send_signal(signal.SIGTERM)
        assert command.ended() == 0
    after = rig.jtr("controller", "--check")

    assert [(ran.code, ran.err) for ran in found] == [(0, "")] * 4
    assert "  synced, healthy" in found[1].out
    assert f"  bybit: written from {rig.reference('tokyo-1/bybit')}@1" in found[1].out
    assert "Plan: 0 to write" in found[2].out
    assert "Nest application successfully started" in found[3].out
    assert (after.code, after.out) == (1, "")
    assert len(stand_in.record.handshakes) == 1


def free_port() -> int:
    """A port that was free a moment ago: the command prints none that it chose itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
