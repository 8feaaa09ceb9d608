"""
A person with the runbook alone gets from each alert to mended.

Each scene makes the trouble in the sandbox, waits until the alert would ring by what the controller
measures, takes the page to which that alert leads, and does what it says: first look, mend, proof.
Everything is typed at one terminal, as it stands there, and what is asked is answered.  Sandbox,
OpenBao and controller are real; only `systemctl` and `journalctl` are stand-ins.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from reconciler.sandbox.exchanges.server import GOOD, WITHDRAWS
from reconciler.sandbox.jt_trader.server import StandInThread
from tests.deploy.ports import free_ports
from tests.e2e.terminal import Hidden, Shell
from tests.house.pages import BIN, BLOCK, blocks, commands, page
from tests.support.leaks import PRIVATE, Watch
from tests.support.night import Night, Served
from tests.support.on_call import (
    ALERTS,
    PAGES,
    follow,
    led,
    listed,
    over,
    place,
    rings,
    rule,
    rung,
)
from tests.support.play import Play, playing
from tests.support.stepped_clock import SteppedClock

pytestmark = pytest.mark.timeout(600)  # each scene starts a dozen processes
HEADS = [
    "What you see",
    "What it means for trading",
    "First look",
    "Mend it",
    "How you know that it is mended",
]
KEY = "bybit_api_key"
ASKED = {
    *("robots-stopped", "reboot-owed", "in-doubt", "brake", "drift", "contested", "vault-away"),
    *("ledger-lost", "host-moved", "token-rotated", "page-token", "upgrade", "controller-gone"),
    *("notifications-dropped", "documents-broken", "clock"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_five_answers(name: str) -> None:
    heads = re.findall(r"^## (.*)$", PAGES[name], re.MULTILINE)
    parts = re.split(r"^## .*$", PAGES[name], flags=re.MULTILINE)[1:]

    assert heads == HEADS
    assert all(part.strip() for part in parts)
    commands = [match["kind"] for match in BLOCK.finditer(PAGES[name])]
    assert commands
    assert f"]({name}.md)" in page("docs/runbooks/README.md")


def test_every_alert_leads_to_a_page_and_every_page_has_a_scene() -> None:
    sections = page("docs/alerts.md")
    scenes = {name.removeprefix("test_").replace("_", "-") for name in globals()}

    for alert in ALERTS:
        led_to, section = place(alert)
        if led_to:
            assert f"](../alerts.md#{alert.lower()})" in PAGES[led_to], alert
        else:
            assert section == alert.lower()
        own = re.split(rf"^## {alert}\n", sections, flags=re.MULTILINE)[1].split("\n## ")[0]
        said = [part for part in own.split("\n\n") if part.strip()]
        assert len(said) >= (2 if led_to else 3), f"{alert} ends where nothing is to be done"
    assert PAGES.keys() >= ASKED
    assert PAGES.keys() - scenes == set()


@pytest.mark.parametrize(
    ("metrics", "ring"),
    [
        ({}, {"JtrControllerDown"}),
        ({"jtr_build_info": 1.0, "jtr_vault_up": 1.0}, set()),
        ({"jtr_build_info": 1.0, "jtr_vault_up": 0.0}, {"JtrVaultDown"}),
        (
            {
                "jtr_build_info": 1.0,
                'jtr_server_health{server="a",status="degraded"}': 1.0,
                'jtr_server_health{server="a",status="unreachable"}': 0.0,
                'jtr_key_findings{server="a",exchange="okx",severity="warning"}': 2.0,
            },
            {"JtrServerDegraded"},
        ),
        (
            {
                "jtr_build_info": 1.0,
                'jtr_key_findings{server="a",exchange="okx",severity="critical"}': 1.0,
            },
            {"JtrKeyBlocked"},
        ),
    ],
)
def test_positive_control_an_alert_rings_by_its_own_rule(
    metrics: dict[str, float], ring: set[str]
) -> None:
    assert {
        alert for alert in ALERTS if "time()" not in rule(alert) and rings(alert, metrics)
    } == ring


# ── the scenes ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def night(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    """A night in the sandbox."""
    with playing(tmp_path, watch, monkeypatch) as play, Night(play) as night:
        yield night


def play(night: Night) -> Play:
    assert isinstance(night.rig, Play)
    return night.rig


def declared(night: Night, **spec: Any) -> StandInThread:
    """The sandbox as it came, with this in its document besides, and the documents in Git."""
    night.rig.document(**spec)
    for words in ("init --quiet", "config user.email ann@x.test", "config user.name ann", "add ."):
        night.shell(f"git -C servers {words}")
    night.shell("git -C servers commit --quiet --message Begin")
    return night.rig.server()


def started(night: Night, **spec: Any) -> StandInThread:
    server = declared(night, **spec)
    night.start()
    night.until(lambda: night.server().get("sync") == "synced", "in sync")
    return server


def committed(night: Night) -> None:
    night.shell("git -C servers commit --quiet --all --message Change")


@pytest.mark.volume
def test_robots_stopped(night: Night) -> None:
    server = started(night)
    server.force_stop(1)
    name = rung(night, "JtrRobotsStoppedUnasked")
    assert led(night.told("robots")) == name

    seen = follow(
        night,
        name,
        by_hand=lambda _seen: server.set_running(1, running=True),
        mend=False,  # it is for robots that are owed a start
    )

    over(night, "JtrRobotsStoppedUnasked")
    assert "grid-btc" in seen["look"]
    assert night.told("robots", over=True)["severity"] == "info"
    assert server.record.robot_starts_asked == []


@pytest.mark.long
def test_robots_owed_a_start(night: Night) -> None:
    robot, _ = play(night).ground.robots
    server = started(night, robots={"onCredentialChange": "restart"})
    robot.start = "fails"
    night.rig.rotate()
    name = rung(night, "JtrRobotsOwed")
    robot.start = "ok"

    seen = follow(
        night,
        name,
        answers={"jtr request resume": [("start", "y")]},
        exits={"jtr status": 4},
    )

    over(night, "JtrRobotsOwed")
    assert "owed a start" in seen["look"]
    assert server.robots_running() == {1, 2}


@pytest.mark.long
def test_reboot_owed(night: Night) -> None:
    server = started(night)
    night.rig.rotate("tokyo-1", "bybit", apiKey=server.values()[KEY])
    name = rung(night, "JtrRebootOwed")
    assert led(night.told("reboot owed")) == name

    def mended() -> None:
        night.told("reboot owed", over=True)
        night.until(lambda: server.robots_running() == {1, 2}, "they run")

    seen = follow(night, name, mended=mended)

    over(night, "JtrRebootOwed")
    assert "done" in seen["proof"]
    assert server.record.reboots == 1


@pytest.mark.long
def test_in_doubt(night: Night) -> None:
    server = started(night)
    server.behaviour.invalidate = "lost before effect"
    instant = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    night.rig.document(cache={"invalidatedAfter": instant, "reason": "stale"})
    name = rung(night, "JtrRequestInDoubt")
    assert led(night.told("in doubt")) == name

    follow(
        night,
        name,
        by_hand=_instant_into(night.person),
        mended=lambda: night.told("in doubt", over=True),
        exits={"jtr request list": 7},
        still={"jtr request list": 4},  # it stands in the document, and was not done
    )

    over(night, "JtrRequestInDoubt")
    assert server.record.invalidation_requests == 1


@pytest.mark.long
@pytest.mark.fatal_paths(1)
def test_brake(night: Night) -> None:
    server = started(night)
    server.behaviour.save = "fatal"
    night.rig.rotate()
    name = rung(night, "JtrBrakeEngaged")
    assert led(night.told("harm")) == led(night.told("brake")) == name

    def by_hand(_seen: str) -> None:
        server.behaviour.save = "answer"
        for robot in (1, 2):
            server.set_running(robot, running=True)

    follow(night, name, by_hand=by_hand)

    over(night, "JtrBrakeEngaged")
    night.told("brake", over=True)
    assert night.server()["sync"] == "synced"


@pytest.mark.volume
def test_drift(night: Night) -> None:
    server = started(night)
    wanted = server.values()[KEY]
    server.set_value(KEY, night.rig.watch.secret("hex"))
    name = rung(night, "JtrServerOutOfSync")
    message = night.told("drift")
    assert led(message) == name
    assert message["what"] == "tokyo-1: bybit changed on the server by another hand"

    follow(
        night,
        name,
        answers={"jtr apply": [("Correct 1 drifted exchange?", "y")]},
        mended=lambda: night.told("drift", over=True),
    )

    over(night, "JtrServerOutOfSync")
    assert server.values()[KEY] == wanted
    (line,) = [one for one in night.log() if one["message"].startswith("drift: ")]
    assert (line["priority"], line["exchanges"]) == (4, ["bybit"])


@pytest.mark.long
def test_contested(night: Night) -> None:
    server = started(night, selfHeal=True)
    wanted = server.values()[KEY]
    while not night.server().get("contested"):
        night.until(
            lambda: server.values()[KEY] == wanted or night.server().get("contested"), "corrected"
        )
        if not night.server().get("contested"):
            server.set_value(KEY, night.rig.watch.secret("hex"))
            night.until(
                lambda: server.values()[KEY] == wanted or night.server().get("contested"), "moved"
            )
    name = rung(night, "JtrDriftContested")
    assert led(night.told("contested")) == name

    follow(
        night,
        name,
        answers={"jtr apply": [("Correct 1 drifted exchange?", "y")]},
        mended=lambda: night.told("contested", over=True),
    )

    over(night, "JtrDriftContested")
    assert server.values()[KEY] == wanted


@pytest.mark.long
def test_vault_away(night: Night) -> None:
    bao, server = night.rig.bao, started(night)
    key = night.rig.watch.guard(bao.unseal_key(), "unseal key")
    saves = server.record.saves
    bao.seal()
    name = rung(night, "JtrVaultDown")
    assert led(night.told("secrets")) == name

    def mended() -> None:
        night.told("secrets", over=True)
        night.rig.rotate()
        night.until(lambda: server.record.saves == saves + 1, "it catches up")

    seen = follow(
        night,
        name,
        answers={"bao operator unseal": [("Unseal Key (will be hidden): ", Hidden(key))]},
        mended=mended,
        exits={"jtr doctor": 5, "bao status": 2},
    )

    over(night, "JtrVaultDown")
    assert "sealed" in seen["look"]


@pytest.mark.long
def test_ledger_lost(night: Night) -> None:
    started(night)
    night.shell('cd "$XDG_STATE_HOME/jtr"; cp ledger.db copy; mv copy ledger.db')
    name = rung(night, "JtrLedgerDown")
    assert led(night.told("controller")) == name

    seen = follow(night, name, exits={"jtr doctor": 4})

    over(night, "JtrLedgerDown")
    assert "accept-restore" in seen["look"]
    assert "accepted: " in seen["mend"]
    assert "accept-restore" not in seen["proof"]


@pytest.mark.long
def test_host_moved(night: Night) -> None:
    server = started(night)
    saves, old = server.record.saves, dict(night.environment)
    new = {
        name: str(night.rig.home / "new" / name) for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME")
    }

    def by_hand(_seen: str) -> None:
        """The new host, with what its variables name."""
        night.unit(**new)
        where = {"OLD_STATE": old["XDG_STATE_HOME"], "OLD_CONFIG": old["XDG_CONFIG_HOME"]} | new
        for variable, folder in where.items():
            night.person.types(f"export {variable}='{folder}'")

    follow(night, listed("A move to another host"), by_hand=by_hand)

    night.until(lambda: night.server().get("sync") == "synced", "in sync on the new host")
    assert server.record.saves == saves, "it knows what the old one wrote"


@pytest.mark.long
def test_token_rotated(night: Night) -> None:
    rig, bao = night.rig, night.rig.bao
    rights = {f"secret/{kind}/jt/*": ("read",) for kind in ("data", "metadata")}
    bao.write_policy("jtr-controller", rights)
    token = bao.create_token(["jtr-controller"], ttl="9m")
    rig.watch.guard(token.reveal(), "token")
    file = rig.home / PRIVATE / "vault-token"
    file.write_text(token.reveal())
    file.chmod(0o600)
    auth = {"method": "token-file", "tokenFile": str(file)}
    night.settings(vault={"address": bao.address, "auth": auth})
    for variables in (night.environment, rig.environment):
        del variables["VAULT_TOKEN"]
    server = started(night)
    saves = server.record.saves
    name = rung(night, "JtrVaultTokenExpiring")
    bao.revoke(token)
    assert f"]({name}.md)" in PAGES[led(night.told("secrets"))]
    begin = len(night.messages)

    def by_hand(_seen: str) -> None:
        root = Hidden(bao.root_token.reveal())
        night.person.types("bao login -no-print", ("Token (will be hidden): ", root))
        night.person.types(f"cd '{file.parent}'")

    def mended() -> None:
        rig.watch.guard(file.read_text().strip(), "token")
        night.person.types("cd -; rm ~/.vault-token")
        night.told("secrets", over=True, begin=begin)
        rig.rotate()
        night.until(lambda: server.record.saves == saves + 1, "it catches up")

    follow(night, name, by_hand=by_hand, mended=mended, exits={"jtr doctor": 5})

    over(night, "JtrVaultTokenExpiring")
    over(night, "JtrVaultDown")


@pytest.mark.long
def test_page_token(night: Night) -> None:
    file = night.rig.home / PRIVATE / "page-token"
    file.write_text("a-token-that-was-there-before\n")
    file.chmod(0o600)
    night.settings(controller={"tokenFile": str(file)})
    declared(night)
    night.start()
    file.write_text("another-one-that-nobody-told-it\n")

    seen = follow(
        night,
        listed("are refused by the controller (401)"),
        by_hand=lambda _seen: night.person.types(f"cd '{file.parent}'"),
        mended=lambda: night.until(lambda: night.asks("/readyz")[0] == 200, "ready"),
        exits={"jtr status": 1},
    )

    assert "401" in seen["look"] or "token" in seen["look"]
    assert "tokyo-1" in seen["proof"]


@pytest.mark.long
def test_upgrade(night: Night) -> None:
    server = started(night)
    saves = server.record.saves

    follow(night, listed("A new release"))

    assert server.record.saves == saves
    assert server.robots_running() == {1, 2}


@pytest.mark.long
def test_controller_gone(night: Night) -> None:
    started(night)
    night.kill()
    name = rung(night, "JtrControllerDown")

    seen = follow(night, name, exits={"systemctl status": 3, "jtr doctor": 1})

    over(night, "JtrControllerDown")
    assert "Active: failed" in seen["look"]
    assert "tokyo-1" in seen["proof"]


@pytest.mark.long
def test_clock(night: Night) -> None:
    clock = SteppedClock(night.rig.home / "clock")
    server = declared(night)
    night.start(**clock.environment)
    night.until(lambda: night.server().get("health") == "healthy", "it is looked after")
    clock.step(-7200)
    name = rung(night, "JtrClockUnsteady")
    assert led(night.told("controller")) == name

    seen = follow(night, name)

    over(night, "JtrClockUnsteady")
    assert "its own clock: our own clock jumped by -7200 s" in seen["look"]
    assert "no request and no restart begins" in seen["look"]
    assert "its own clock" not in seen["proof"]
    assert server.record.reboot_requests == 0


@pytest.mark.long
def test_notifications_dropped(night: Night) -> None:
    rig = night.rig
    hook = rig.home / PRIVATE / "hook"
    hook.write_text(f"{night.receiver.url}/services/old\n")
    hook.chmod(0o600)
    target = {"kind": "slack", "name": "desk", "severity": "info", "urlFile": str(hook)}
    night.settings(notifications=[target])
    server = started(night)
    night.until(lambda: night.receiver.requests, "what was written is told")
    night.receiver.replies = [web.Response(status=410)]
    server.force_stop(1)
    name = rung(night, "JtrNotificationsDropped")
    secret = rig.watch.secret("base62")

    def by_hand(_seen: str) -> None:
        server.set_running(1, running=True)
        night.person.types(f"cd '{hook.parent}'")

    seen = follow(
        night,
        name,
        by_hand=by_hand,
        answers={"read": [("The new hook: ", Hidden(f"{night.receiver.url}/services/{secret}"))]},
    )
    server.force_stop(2)
    night.until(lambda: night.receiver.requests[-1].path == f"/services/{secret}", "heard again")

    assert "target=desk: gave up on topic=robots" in seen["look"]


@pytest.mark.long
def test_documents_broken(night: Night) -> None:
    started(night)
    file = night.rig.docs / "tokyo-1.yaml"
    document = yaml.safe_load(file.read_text())
    del document["spec"]["url"]
    file.write_text(yaml.safe_dump(document))
    committed(night)
    name = rung(night, "JtrDocumentsInvalid")
    message = night.told("documents")
    assert led(message) == name
    assert "tokyo-1.yaml:" in message["what"]

    follow(
        night,
        name,
        mended=lambda: night.told("documents", over=True),
        exits={"jtr validate": 3},
    )

    over(night, "JtrDocumentsInvalid")
    assert night.status()["controller"]["documents"] == ""


@pytest.mark.long
def test_server_unreachable(night: Night) -> None:
    server = started(night)
    port = int(server.url.rpartition(":")[2])
    server.stop()
    name = rung(night, "JtrServerUnreachable")
    assert led(night.told("health")) == name

    follow(night, name, by_hand=lambda _seen: server.start(port), exits={"jtr doctor": 6})

    over(night, "JtrServerUnreachable")
    assert night.told("health", over=True)["severity"] == "info"


@pytest.mark.long
def test_server_degraded(night: Night) -> None:
    server = declared(night)
    for field in (KEY, "bybit_api_secret"):
        server.set_value(field, night.rig.watch.secret("hex"))
    night.start()
    name = rung(night, "JtrServerDegraded")
    assert led(night.told("health")) == name
    saves = server.record.saves

    seen = follow(
        night,
        name,
        answers={"jtr apply": [("Apply 1 change?", "y")]},
        exits={"jtr plan": 4},
    )

    over(night, "JtrServerDegraded")
    assert "take-over" in seen["look"]
    assert server.record.saves == saves + 1


@pytest.mark.long
def test_suspended(night: Night) -> None:
    started(night)
    night.rig.document(suspend={"reason": "exchange maintenance", "by": "ann"})
    committed(night)
    name = rung(night, "JtrSuspendedLong")
    assert led(night.told("suspended")) == name

    seen = follow(night, name)

    over(night, "JtrSuspendedLong")
    assert "exchange maintenance" in seen["look"]
    night.told("suspended", over=True)


@pytest.mark.long
def test_key_audit(night: Night) -> None:
    ground = play(night).ground
    night.settings(durations=night.durations | {"auditEvery": "1s"})
    server = started(night, security={"permissions": {"require": ["spot"]}})
    ground.change("bybit", WITHDRAWS)
    name = rung(night, "JtrKeyBlocked")
    assert led(night.told("audit")) == name

    seen = follow(
        night,
        name,
        by_hand=lambda _seen: ground.change("bybit", GOOD),
        mended=lambda: over(night, "JtrKeyBlocked"),
        exits={"jtr audit": 4},
    )

    assert "PERM_WITHDRAW" in seen["look"]
    assert "PERM_WITHDRAW" not in seen["proof"]
    assert server.record.saves == len(ground.in_vault), "nothing was written because of it"


# ── as a person has it: three terminals, and nothing of ours in between ──────────────────────


@pytest.mark.volume
def test_a_night_in_the_sandbox_as_it_is_handed_out(tmp_path: Path, watch: Watch) -> None:
    """`jtr sandbox` in one terminal, the controller in another, the runbooks in a third."""
    steps = page("docs/first-steps.md")
    home, clone = tmp_path / PRIVATE, tmp_path / "clone"
    person = commands(home)
    (clone / ".venv").mkdir(parents=True)
    (clone / ".venv" / "bin").symlink_to(BIN)
    (port,) = free_ports(1)
    with (
        Shell(watch, clone, person, name="the sandbox's terminal") as sandbox,
        Shell(watch, clone, person, name="the controller's terminal") as controller,
        Shell(watch, clone, person, name="the terminal of who is on call") as shell,
    ):
        sandbox.starts(blocks(steps, "background")[0].strip(), until="sandbox> ")
        own, *first = blocks(steps, "steps")[0].strip().splitlines()
        for line in (own, *first):
            controller.types(line)
        controller.types("echo '  invalidate: 300ms' >> ../settings.yaml")
        practise = blocks(page("docs/runbooks/README.md"), "practise")[0].replace("9797", str(port))
        named, runs = practise.replace("{url:", f"{{listen: 127.0.0.1:{port}, url:").splitlines()
        controller.types(named)
        controller.starts(runs, until="documents in force")
        for line in (own, *first[:2]):
            shell.types(line)
        for value in _values(home / "jtr-play"):
            watch.guard(value)
        served = Served(f"http://127.0.0.1:{port}")
        served.until(lambda: served.server().get("sync") == "synced", "in sync")

        def well() -> None:
            served.until(lambda: served.server().get("health") == "healthy", "all is well")

        def mend(alert: str, **more: Any) -> dict[str, str]:
            return follow(
                served, rung(served, alert), shell=shell, mended=lambda: over(served, alert), **more
            )

        with controller.left_alone():
            sandbox.starts("stop-robot 1", until="grid-btc (1) on bybit: stopped")
            seen = mend(
                "JtrRobotsStoppedUnasked",
                by_hand=lambda _seen: sandbox.starts("start-robot 1", until="bybit: running"),
                mend=False,
            )
            assert "grid-btc" in seen["look"]

            well()
            sandbox.starts("set bybit_api_key", until="bybit_api_key changed on the server")
            mend(
                "JtrServerOutOfSync", answers={"jtr apply": [("Correct 1 drifted exchange?", "y")]}
            )

            well()
            sandbox.starts("seal", until="OpenBao is sealed")
            key = watch.guard((home / "jtr-play" / "unseal.key").read_text().strip(), "unseal key")
            seen = mend(
                "JtrVaultDown",
                answers={"bao operator unseal": [("Unseal Key (will be hidden): ", Hidden(key))]},
                exits={"jtr doctor": 5, "bao status": 2},
            )
            assert "sealed" in seen["look"]

            well()
            sandbox.starts("lose", until="invalidations are lost")
            shell.types("jtr request invalidate-cache tokyo-1 --from servers --reason stale")
            mend(
                "JtrRequestInDoubt",
                by_hand=_instant_into(shell),
                exits={"jtr request list": 7},
                still={"jtr request list": 4},
            )

        assert controller.interrupts().code == 0
        sandbox.starts("record", until="fields with a value")
        assert "4 saves" in sandbox.text, "three keys, and one put back"
        sandbox.types("quit")
    for file in (home / "jtr-play").rglob("*"):
        if file.is_file() and file.name not in {"env.sh", "writer.header", "unseal.key"}:
            watch.search(file.name, file.read_bytes())


def _instant_into(shell: Shell) -> Callable[[str], object]:
    """Copy the instant from the line that the first look showed."""

    def copied(seen: str) -> None:
        found = re.search(r"jtr request resolve tokyo-1 invalidate-cache (\S+)", seen)
        assert found, f"what is to be typed stands there: {seen}"
        shell.types(f"INSTANT={found[1]}")

    return copied


def _values(box: Path) -> Iterator[str]:
    """The tokens of a sandbox, from the files that it writes for its user."""
    yield (box / "writer.header").read_text().strip().removeprefix("X-Vault-Token: ")
    found = re.search(r"^export VAULT_TOKEN=(\S+)$", (box / "env.sh").read_text(), re.MULTILINE)
    assert found
    yield found[1]
