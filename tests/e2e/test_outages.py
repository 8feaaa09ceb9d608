"""
Every outage of the table is provoked for real; what is to be seen of it is read back.

And then it is mended: everything is as before by itself, and people are told so.
"""

import math
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from reconciler.documents.formats import duration
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.deploy.ports import free_ports
from tests.e2e import outage_table
from tests.e2e.outage_table import OUTAGES, Outage
from tests.golden.test_golden import check, rewrite
from tests.house.pages import ROOT
from tests.support.fault_proxy import HALF_OPEN, Door, FaultProxy, Faults, Lane
from tests.support.leaks import PRIVATE
from tests.support.night import Night
from tests.support.rig import Rig
from tests.support.stepped_clock import SteppedClock

__all__ = ["rewrite"]
ROWS = {row.name: row for row in OUTAGES}
CLOSED = Faults(door=Door.CLOSED)
SLOW = Faults(down=Lane(latency=4.0))
DURATIONS = {"interval": "1s", "toldAfter": "500ms"}
LOOK = "background-jobs-list-request"
"""What every look asks, a glance and a whole one."""
WITNESS = "osaka-1"
"""A server to which nothing happens: looks at it are the controller's own count of intervals."""
RULES = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
_SIMPLE = re.compile(r"(jtr_\w+(?:\{.*?\})?)\)* (==|>|<) ([\d.]+)")


def test_the_page_is_the_table(*, rewrite: bool) -> None:
    text = "\n".join(outage_table.page()) + "\n"

    check(ROOT / "docs/outages.md", text, rewrite=rewrite)


def test_every_row_has_a_story_and_an_alert_that_is_there() -> None:
    assert ROWS.keys() == {*SHARED, *ALONE}
    assert {row.alert for row in OUTAGES if row.alert} <= RULES.keys()


# ── what is seen ─────────────────────────────────────────────────────────────────────────────


def fires(expr: str, metrics: dict[str, float]) -> bool:
    """Whether a rule of the plain kind holds for what was scraped."""
    match = _SIMPLE.search(expr)
    assert match is not None, f"not of the plain kind: {expr}"
    wanted, sign, bound = match[1], match[2], float(match[3])
    name, _, labels = wanted.partition("{")
    pairs = set(labels.rstrip("}").split(",")) - {""}
    found = [
        value
        for key, value in metrics.items()
        if key.partition("{")[0] == name
        and pairs <= {*key.partition("{")[2].rstrip("}").split(",")}
    ]
    return any(
        {"==": value == bound, ">": value > bound, "<": value < bound}[sign] for value in found
    )


@dataclass
class Seen:
    """What was said since a moment; `looks` were had at the witness before."""

    night: Night
    log: int
    messages: int
    looks: int

    @classmethod
    def now(cls, night: Night) -> "Seen":
        return cls(night, night.log_end(), len(night.messages), looks(night))

    def within(self, row: Outage, *more: str) -> None:
        """Fail where more intervals went by than *row* says, and these deadlines."""
        interval, *waits = (
            duration(self.night.durations[one]) or 0.0 for one in ("interval", *row.hangs, *more)
        )
        # One look may have been under way, and one may begin while we read what is said.
        most = 1 + math.ceil(sum(waits) / interval) + 2
        # What failed is tried again sooner than after an interval, and counts for none.
        again = sum(one.get("server") == WITNESS for one in self.night.log(self.log))
        passed = looks(self.night) - self.looks - again
        assert passed <= most, f"{row.name}: said after {passed} intervals"

    def lines(self) -> list[str]:
        """What `journalctl -p warning` shows."""
        found = [one for one in self.night.log(self.log) if one["priority"] <= 4]
        return [f"{one['message']} {one.get('reason', '')}" for one in found]

    def told(self) -> list[str]:
        """What people were told."""
        found = self.night.messages[self.messages :]
        return [f"{one['severity']}: {one['what']}" for one in found]


def looks(night: Night) -> int:
    """How often the controller looked at the witness."""
    return night.rig.servers[WITNESS].record.events(LOOK)


def witness(rig: Rig) -> None:
    """Declare the server to which nothing happens."""
    rig.server(WITNESS, behaviour=Behaviour(ping_interval=0.1, ping_timeout=0.6))
    rig.document(WITNESS, "bybit")


def holds(row: Outage, seen: Seen, night: Night) -> None:
    """Wait until everything that the row names is to be seen, and that in time."""
    if row.healthz:
        night.until(
            lambda: row.metrics.items() <= night.metrics().items(), f"{row.name}: {row.metrics}"
        )
        night.until(lambda: row.status in night.asks("/v1/status")[1], f"{row.name}: {row.status}")
        night.until(
            lambda: any(row.log in line for line in seen.lines()), f"{row.name}: log {row.log}"
        )
        if row.alert:
            night.until(
                lambda: fires(RULES[row.alert], night.metrics()), f"{row.name}: {row.alert}"
            )
        seen.within(row)
    if row.message:
        night.until(
            lambda: any(line.startswith(row.message) for line in seen.told()),
            f"{row.name}: message {row.message}",
        )
        seen.within(row, "toldAfter")
    assert night.asks("/healthz")[0] == row.healthz
    assert night.asks("/readyz")[0] == row.readyz


def calm(night: Night, what: str) -> None:
    """Wait until everything is as before."""

    def well() -> bool:
        status = night.status()
        controller, metrics = status.get("controller", {}), night.metrics()
        return (
            bool(controller)
            and not any(
                controller[key] for key in ("secrets", "ledger", "documents", "state", "clock")
            )
            and controller["acting"]
            and controller["ready"]
            and all(metrics[f"jtr_{name}"] == 1 for name in ("vault_up", "ledger_up", "ready"))
            and all(one["health"] == "healthy" for one in status["servers"])
            and all(one["sync"] == "synced" for one in status["servers"])
        )

    night.until(well, f"{what}: as before")
    written = {*night.rig.servers}
    night.until(
        lambda: written <= {one["subject"] for one in night.messages},
        "what was written at the beginning is told",
    )


# ── outages that one controller goes through, one after the other ────────────────────────────


@dataclass
class Stage:
    """A controller, and what stands between it and the others."""

    night: Night
    server: StandInThread
    to_vault: FaultProxy
    to_server: FaultProxy

    @property
    def file(self) -> Path:
        return self.night.rig.docs / "tokyo-1.yaml"


@contextmanager
def cut(*proxies: FaultProxy, faults: Faults = CLOSED) -> Iterator[None]:
    for proxy in proxies:
        proxy.switch(faults)
        if faults is CLOSED:
            proxy.cut()
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.heal()


@contextmanager
def frozen(stage: Stage) -> Iterator[None]:
    stage.night.rig.bao.pause()
    try:
        yield
    finally:
        stage.night.rig.bao.resume()


@contextmanager
def sealed(stage: Stage) -> Iterator[None]:
    stage.night.rig.bao.seal()
    try:
        yield
    finally:
        stage.night.rig.bao.unseal()


@contextmanager
def rebooting(stage: Stage) -> Iterator[None]:
    port = int(stage.server.url.rpartition(":")[2])
    stage.server.stop()
    try:
        yield
    finally:
        stage.server.start(port)


@contextmanager
def another_version(stage: Stage) -> Iterator[None]:
    stage.server.behaviour.version = "9.9.9"
    stage.server.restart(0.05)
    stage.night.rig.rotate()
    try:
        yield
    finally:
        stage.server.behaviour.version = Behaviour().version
        stage.server.restart(0.05)


@contextmanager
def spoilt(stage: Stage, text: str | None) -> Iterator[None]:
    good = {file: file.read_text() for file in stage.night.rig.docs.glob("*.yaml")}
    if text is None:
        for file in good:
            file.unlink()
    else:
        stage.file.write_text(text)
    try:
        yield
    finally:
        for file, before in good.items():
            file.write_text(before)


SHARED: dict[str, Callable[[Stage], object]] = {
    "the documents are broken": lambda stage: spoilt(stage, "a: ["),
    "Vault is gone": lambda stage: cut(stage.to_vault),
    "the server is down": lambda stage: cut(stage.to_server),
    "the network is cut": lambda stage: cut(stage.to_vault, stage.to_server),
    "Vault is frozen": frozen,
    "Vault is sealed": sealed,
    "Vault is slow": lambda stage: cut(stage.to_vault, faults=SLOW),
    "the server is frozen": lambda stage: cut(stage.to_server, faults=HALF_OPEN),
    "the server reboots": rebooting,
    "the server has another version": another_version,
    "the documents vanish": lambda stage: spoilt(stage, None),
}
QUICK = (*SHARED,)[:4]


@contextmanager
def staged(rig: Rig) -> Iterator[Stage]:
    with FaultProxy.of(rig.bao.address) as to_vault:
        rig.environment["VAULT_ADDR"] = to_vault.url
        with Night(rig, **DURATIONS) as night:
            server = rig.server(behaviour=Behaviour(ping_interval=0.1, ping_timeout=0.6))
            with FaultProxy.of(server.url) as to_server:
                rig.document("tokyo-1", "bybit", url=to_server.url)
                witness(rig)
                night.start()
                calm(night, "at the beginning")
                yield Stage(night, server, to_vault, to_server)
                night.shell("systemctl stop jtr-controller")


def gone_through(rig: Rig, names: tuple[str, ...]) -> None:
    with staged(rig) as stage:
        night, pid = stage.night, stage.night.pid
        for name in names:
            seen = Seen.now(night)
            with SHARED[name](stage):  # type: ignore[attr-defined]
                holds(ROWS[name], seen, night)
            calm(night, name)
            night.until(
                lambda seen=seen: any(line.startswith("info: ") for line in seen.told()),  # type: ignore[misc]
                f"{name}: told that it is over",
            )
        assert night.pid == pid
        assert stage.server.record.reboot_requests == 0
        assert stage.server.robots_running() == {1, 2}


@pytest.mark.volume
@pytest.mark.timeout(600)
def test_outages(rig: Rig) -> None:
    gone_through(rig, QUICK)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_more_outages(rig: Rig) -> None:
    gone_through(rig, tuple(name for name in SHARED if name not in QUICK))


# ── those that need something of their own ───────────────────────────────────────────────────


def begun(night: Night, **more: str) -> StandInThread:
    server = night.rig.server(behaviour=Behaviour(ping_interval=0.1, ping_timeout=0.6))
    night.rig.document("tokyo-1", "bybit")
    witness(night.rig)
    night.start(**more)
    calm(night, "at the beginning")
    return server


def killed(rig: Rig) -> None:
    with Night(rig, **DURATIONS) as night:
        server = begun(night)
        seen = Seen.now(night)
        night.kill()
        holds(ROWS["the controller is killed"], seen, night)
        night.shell("systemctl start jtr-controller")
        calm(night, "started again")

        known = {one["id"] for one in night.messages[: seen.messages]}
        again = {one["id"] for one in night.messages[seen.messages :]}
        assert again <= known, "what was on its way goes again, under the same key"
        assert server.record.saves == 1


def two(rig: Rig) -> None:
    with Night(rig, **DURATIONS) as night:
        begun(night)
        (port,) = free_ports(1)
        name = "two controllers"
        second = Night.__new__(Night)
        second.__dict__.update(night.__dict__)
        second.url = f"http://127.0.0.1:{port}"
        second._unit = rig.home / "second"
        second._unit.mkdir()
        told = len(night.messages)
        with (second._unit / "log").open("wb") as log:
            found = os.fstat(log.fileno())
            state = rig.home / "second-settings.yaml"
            settings = yaml.safe_load(rig.settings_file.read_text())
            settings["controller"] |= {
                "listen": f"127.0.0.1:{port}",
                "state": str(rig.home / "second" / "state.json"),
            }
            state.write_text(yaml.safe_dump(settings))
            process = subprocess.Popen(
                ["jtr", "controller", "servers", "--settings", str(state)],
                env=night.environment | {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
                executable=str(rig.home / PRIVATE / "person" / "bin" / "jtr"),
                cwd=rig.home,
                stdout=log,
                stderr=log,
            )
        try:
            second.until(lambda: second.asks("/readyz")[0] == 200, "the second one is ready")
            seen = Seen(second, 0, told, looks(night))
            holds(ROWS[name], seen, second)
            night.shell("systemctl stop jtr-controller")
            second.until(lambda: second.status()["controller"]["acting"], "it takes over")
            calm(second, name)
        finally:
            process.terminate()
            process.wait(30)


def revoked(rig: Rig) -> None:
    token = rig.bao.create_token(["root"])
    rig.watch.guard(token.reveal(), "token")
    file = rig.home / PRIVATE / "vault-token"
    file.write_text(token.reveal())
    file.chmod(0o600)
    rig.environment.pop("VAULT_TOKEN")
    with Night(rig, **DURATIONS) as night:
        auth = {"method": "token-file", "tokenFile": str(file)}
        night.settings(vault={"address": rig.bao.address, "auth": auth})
        begun(night)
        seen = Seen.now(night)
        rig.bao.request("POST", "auth/token/revoke", {"token": token.reveal()})
        holds(ROWS["our token is revoked"], seen, night)
        another = rig.bao.create_token(["root"])
        rig.watch.guard(another.reveal(), "token")
        file.write_text(another.reveal())
        calm(night, "another token")


def ledger_in_vault(rig: Rig) -> None:
    name = "Vault is frozen, with the ledger in it"
    # As with the usual durations, people are told later than it is known what is away.
    with Night(rig, **DURATIONS | {"toldAfter": "4s"}) as night:
        night.settings(**rig.ledger("vault"))
        rig.server(behaviour=Behaviour(ping_interval=0.1, ping_timeout=0.6))
        rig.document("tokyo-1", "bybit")
        witness(rig)
        rig.begin()
        night.shell("systemctl start jtr-controller")
        calm(night, "at the beginning")
        seen = Seen.now(night)
        rig.bao.pause()
        try:
            holds(ROWS[name], seen, night)
        finally:
            rig.bao.resume()
        calm(night, name)
        assert len([line for line in seen.told() if line.startswith("critical")]) == 1, seen.told()


def full(rig: Rig) -> None:
    state = rig.home / "state"
    state.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", str(state)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here: it needs root")
    try:
        with Night(rig, **DURATIONS) as night:
            begun(night)
            seen = Seen.now(night)
            filler = state / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
            assert os.statvfs(state).f_bavail == 0
            rig.servers["tokyo-1"].set_running(1, running=False)  # something to remember
            holds(ROWS["the disk is full"], seen, night)
            filler.unlink()
            rig.servers["tokyo-1"].set_running(1, running=True)
            calm(night, "there is room")
            night.shell("systemctl stop jtr-controller")
    finally:
        subprocess.run(["umount", str(state)], check=True)


def jumped(rig: Rig, name: str, seconds: int) -> None:
    clock = SteppedClock(rig.home / "clock")
    with Night(rig, **DURATIONS) as night:
        server = begun(night, **clock.environment)
        seen, pid = Seen.now(night), night.pid
        clock.step(seconds)
        holds(ROWS[name], seen, night)
        clock.step(0)
        calm(night, name)
        night.until(
            lambda: any(line.startswith("info: ") for line in seen.told()),
            f"{name}: told that it is over",
        )
        assert night.pid == pid
        assert (server.record.saves, server.record.reboot_requests) == (1, 0)
        assert server.robots_running() == {1, 2}


ALONE: dict[str, Callable[[Rig], None]] = {
    "the controller is killed": killed,
    "two controllers": two,
    "our token is revoked": revoked,
    "Vault is frozen, with the ledger in it": ledger_in_vault,
    "the disk is full": full,
    "the clock jumps forward": lambda rig: jumped(rig, "the clock jumps forward", 7200),
    "the clock jumps backward": lambda rig: jumped(rig, "the clock jumps backward", -7200),
}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ALONE)
def test_an_outage_of_its_own(rig: Rig, name: str) -> None:
    ALONE[name](rig)


def test_positive_control_a_rule_fires_only_for_its_value() -> None:
    metrics = {'jtr_server_health{server="a",status="degraded"}': 1.0, "jtr_vault_up": 1.0}

    assert fires(RULES["JtrServerDegraded"], metrics)
    assert not fires(RULES["JtrServerUnreachable"], metrics)
    assert not fires(RULES["JtrVaultDown"], metrics)
