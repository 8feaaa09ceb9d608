"""
The state of a trading server in a dictionary; see `reconciler.drivers.memory`.

It behaves like JT-Trader (masks, `main` and `additional`, what a failing request or a failing robot
does to the others, reboots that do not happen), can be told to misbehave, and counts what was done
to it.
"""

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from reconciler.drivers.jt_trader import masks
from reconciler.drivers.jt_trader.responses import ALARM, read_exchanges
from reconciler.model.observed import ObservedExchange, Robot

MAIN: Final[Mapping[str, Mapping[str, str]]] = {
    "gateio": {
        "gateio_api_key": "API Key",
        "gateio_api_secret": "API Secret",
        "gateio_user_id": "User ID",
    },
    "bybit": {"bybit_api_key": "API Key", "bybit_api_secret": "API Secret"},
    "okx": {
        "okx_api_key": "API Key",
        "okx_api_secret": "API Secret",
        "okx_password": "Password",
    },
    "bybit-testnet": {
        "bybit_testnet_api_key": "API Key",
        "bybit_testnet_api_secret": "API Secret",
    },
    "gateio-mock": {},
}
"""What every server of version 0.24.19 lists: exchange code, field name, label."""

ADDITIONAL: Final[Mapping[str, Mapping[str, str]]] = {
    "kucoin": {
        "kucoin_api_key": "apiKey",
        "kucoin_secret": "secret",
        "kucoin_password": "password",
    },
    "kucoinfutures": {
        "kucoinfutures_api_key": "apiKey",
        "kucoinfutures_secret": "secret",
        "kucoinfutures_password": "password",
    },
    "mexc": {"mexc_api_key": "apiKey", "mexc_secret": "secret"},
}
"""What the default `exchanges.conf` adds."""


class Fault(enum.Enum):
    """One way in which the next write goes wrong."""

    FATAL = enum.auto()  # fails inside the server: silence, all robots stop, an alarm in the log
    SILENT = enum.auto()  # took effect, but no answer came
    LOST_BEFORE = enum.auto()  # the connection ended before the server had acted
    LOST_AFTER = enum.auto()  # it ended after the server had acted
    ODD_ANSWER = enum.auto()  # took effect; what came back has an unknown shape
    STOPS_ROBOTS = enum.auto()  # took effect and answered; all robots stop, no alarm
    STOPS_ONE_ROBOT = enum.auto()  # took effect and answered; one running robot stops


class Trouble(enum.Enum):
    """What goes wrong with one robot."""

    FAILS_TO_START = enum.auto()  # with nobody registered, that stops all the others
    START_HANGS = enum.auto()  # silence; every later start is dropped until the process restarts
    STOPS_ITSELF = enum.auto()  # it starts, and is gone at the next read; else as FAILS_TO_START
    STOP_FAILS = enum.auto()  # it stops, and so do all others
    STOP_HANGS = enum.auto()  # it stops, in silence; a reboot waits for it for ever


class Reboot(enum.Enum):
    """What becomes of a request to reboot."""

    NORMAL = enum.auto()
    IGNORED = enum.auto()
    LOST = enum.auto()  # the connection ends, and nothing happens
    LATE = enum.auto()  # it happens at the `late_reads`-th read from now
    STOP_HANGS = enum.auto()  # all robots stop, the process stays
    UNTOLD_DONE = enum.auto()  # it cannot be told whether it was sent; it was
    UNTOLD_NOT_DONE = enum.auto()  # likewise; it was not


class Door(enum.Enum):
    """How the server receives whoever comes."""

    OPEN = enum.auto()
    UNREACHABLE = enum.auto()
    SILENT = enum.auto()


@dataclass(slots=True)
class MemoryServer:
    """
    One server's whole state, changeable by a test at any time.

    `values` goes from field name to what is stored; `faults` are used up one per save or delete,
    oldest first, and so are those of `robot_faults` (starts and stops), `cache_faults` and
    `reboots`; `troubles` go by robot; `lose_field` is a field that every save forgets.  `log` has
    raw entries in the server's own form.  After a reboot the first `away` visits find nobody.

    `done` counts what was done to the server: opened, refused, closed, read, saved, deleted, fatal,
    started, stopped, invalidated, rebooted (on request), booted (all boots); and, by its event,
    each request to start, stop, invalidate or reboot that arrived, whatever became of it.
    """

    account: str = "0"
    access_secret: str | None = None
    version: str = "0.24.19"
    main: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MAIN)
    additional: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: ADDITIONAL)
    values: dict[str, str] = field(default_factory=dict)
    robots: list[Robot] = field(default_factory=list)
    clock: int = 2_000  # the server's own, in ms; moves on by one with each write
    pid: int = 41
    log: list[dict[str, object]] = field(default_factory=lambda: [boot_line(1_000, 41)])
    log_readable: bool = True
    door: Door = Door.OPEN
    faults: list[Fault] = field(default_factory=list)
    robot_faults: list[Fault] = field(default_factory=list)
    cache_faults: list[Fault] = field(default_factory=list)
    reboots: list[Reboot] = field(default_factory=list)
    troubles: dict[int, Trouble] = field(default_factory=dict)
    late_reads: int = 3
    away: int = 0
    ahead: float | None = 0.0  # seconds; None: the web page has no `Date`
    patience: float = 0.0
    registered: bool = False  # somebody is there to be told of a failed start
    lose_field: str | None = None
    lose_connection_on_read: bool = False
    done: Counter[str] = field(default_factory=Counter)
    process: int = 0  # how often it was started anew: connections belong to one process
    missed: int = 0  # visits since the last reboot that found nobody
    _late: int | None = None
    _stuck: bool = False
    _giving_up: list[int] = field(default_factory=list)

    def listing(self) -> tuple[ObservedExchange, ...]:
        """Return the exchange list as the server shows it now."""
        added = {c: f for c, f in self.additional.items() if f.keys() <= self.values.keys()}
        rest = {c: f for c, f in self.additional.items() if c not in added}
        return read_exchanges(
            {
                "main": [self._entry(*item) for item in (*self.main.items(), *added.items())],
                "additional": [self._entry(*item) for item in rest.items()],
            }
        )

    def reboot(self) -> None:
        """Start anew: a newer boot line, all robots stopped, all connections ended."""
        self.clock += 1
        self.stop_robots()
        self.log.append(boot_line(self.clock, self.pid))
        self.done["booted"] += 1
        self.process += 1
        self.missed = 0
        self.registered = self._stuck = False
        self._late = None
        self._giving_up.clear()

    def asked_to_reboot(self) -> Reboot:
        """Do what a request to reboot does, and return which way it went."""
        self.clock += 1
        way = self.reboots.pop(0) if self.reboots else Reboot.NORMAL
        if way is Reboot.NORMAL and Trouble.STOP_HANGS in self._running_troubles():
            way = Reboot.STOP_HANGS
        match way:
            case Reboot.NORMAL | Reboot.UNTOLD_DONE:
                self.done["rebooted"] += 1
                self.reboot()
            case Reboot.STOP_HANGS:
                self.stop_robots()
            case Reboot.LATE:
                self._late = self.late_reads
        return way

    def looked_at(self) -> None:
        """Do what was to happen by the time of the next read."""
        self.done["read"] += 1
        for number in self._giving_up:
            self._turn(number, running=False)
            self._tell_of_failure()
        self._giving_up.clear()
        if self._late is not None:
            self._late -= 1
            if self._late <= 0:
                self.done["rebooted"] += 1
                self.reboot()

    def start(self, number: int) -> tuple[Robot, ...] | None:
        """Start a robot as the server does; returns the list of its answer, None for silence."""
        trouble = self.troubles.get(number)
        if self._stuck or trouble is Trouble.START_HANGS:
            self._stuck = True
            return None
        if trouble is Trouble.FAILS_TO_START:
            listed = tuple(self.robots)
            self._tell_of_failure()
            return listed
        self._turn(number, running=True)
        self.done["started"] += 1
        if trouble is Trouble.STOPS_ITSELF:
            self._giving_up.append(number)
        return tuple(self.robots)

    def stop(self, number: int) -> tuple[Robot, ...] | None:
        """Stop a robot as the server does; returns the list of its answer, None for silence."""
        self._turn(number, running=False)
        self.done["stopped"] += 1
        match self.troubles.get(number):
            case Trouble.STOP_FAILS:
                self.fatal()
                return None
            case Trouble.STOP_HANGS:
                return None
        return tuple(self.robots)

    def stop_robots(self) -> None:
        """Stop all robots."""
        self.robots = [replace(robot, running=False) for robot in self.robots]

    def _turn(self, number: int, *, running: bool) -> None:
        self.robots = [replace(r, running=running) if r.id == number else r for r in self.robots]

    def _running_troubles(self) -> set[Trouble | None]:
        return {self.troubles.get(robot.id) for robot in self.robots if robot.running}

    def _tell_of_failure(self) -> None:
        """Tell of a robot that failed: with nobody to be told, the telling itself is fatal."""
        if not self.registered:
            self.fatal()

    def save(self, rows: list[dict[str, str]]) -> None:
        """Store *rows* as the server does: one by one."""
        self.done["saved"] += 1
        for row in rows:
            if row["name"] != self.lose_field:
                self.values[row["name"]] = row["value"]

    def delete(self, names: list[str]) -> bool:
        """Delete *names* one by one; False when one is not stored, which is fatal there."""
        self.done["deleted"] += 1
        return all(self.values.pop(name, None) is not None for name in names)

    def fatal(self) -> None:
        """Do what a request that fails inside the server does."""
        self.done["fatal"] += 1
        self.log.append({"time": self.clock, "pid": self.pid, "level": "error", "class": ALARM})
        self.stop_robots()

    def _entry(self, code: str, fields: Mapping[str, str]) -> dict[str, object]:
        return {
            "code": code,
            "fields": [
                {
                    "name": name,
                    "type": "string",
                    "label": label,
                    "value": masks.mask_text(self.values.get(name, "")),
                }
                for name, label in fields.items()
            ],
        }


def boot_line(time: int, pid: int) -> dict[str, object]:
    """Return the entry of the system log that tells of a boot at *time* (ms)."""
    what = {"class": "NestApplication", "msg": "Nest application successfully started"}
    return {"time": time, "pid": pid, "level": "info", **what}
