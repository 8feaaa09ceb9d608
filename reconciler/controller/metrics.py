"""
The status store as Prometheus reads it: two tables, made into text at each scrape.

Names of servers and of exchanges are labels, and nothing else that grows; times are computed when
they are asked for, so that a controller that hangs does not look fresh.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from reconciler.controller.api.responses import missing
from reconciler.controller.status import ControllerStatus, ServerStatus
from reconciler.controller.status_store import BUCKETS, StatusStore
from reconciler.model.key_policy import Severity
from reconciler.model.outcomes import Result
from reconciler.model.recorded import Owed
from reconciler.render.escape import plain

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

HELP: Final = {
    "jtr_build_info": "Always 1; the version of jt-reconciler is its label.",
    "jtr_controller_start_timestamp_seconds": "When the controller started.",
    "jtr_acting": "Whether this controller is the one that acts.",
    "jtr_ready": "Whether documents, ledger and Vault were all there, and it is not stopping.",
    "jtr_stuck": "Whether a pass does not end.",
    "jtr_documents_valid": "Whether the newest documents are in force.",
    "jtr_vault_up": "Whether Vault can be used.",
    "jtr_ledger_up": "Whether the ledger can be used.",
    "jtr_state_file_up": "Whether its own state file can be written.",
    "jtr_clock_steady": "Whether the clock of its own host can be believed.",
    "jtr_tasks": "Tasks on the event loop.",
    "jtr_documents_info": "Always 1; the revision of the documents in force is its label.",
    "jtr_documents_attempted_info": (
        "Always 1; the revision of the newest documents is its label, in force or not."
    ),
    "jtr_documents_trouble_since_timestamp_seconds": (
        "Since when the newest documents are not in force; only while that is so."
    ),
    "jtr_vault_token_ttl_seconds": (
        "What was left on the token for Vault when Vault was asked last."
    ),
    "jtr_brake_engaged": (
        "1 for each server to which nothing is written after harm, and with an empty server for "
        "each JT-Trader version."
    ),
    "jtr_pass_age_seconds": "Since a pass over any server ended; since the start while none did.",
    "jtr_pass_duration_seconds": "How long passes took.",
    "jtr_passes": "Passes over servers.",
    "jtr_applies": "Actions on servers, by what became of them.",
    "jtr_restarts": "What stopped robots because it was asked or owed.",
    "jtr_robot_stops": "Robots that ran and stopped without our asking.",
    "jtr_notifications": "Notifications, by what became of them.",
    "jtr_server_sync": "1 for the one that holds: is the server as its document says?",
    "jtr_server_health": "1 for the one that holds: does anybody have to do something?",
    "jtr_server_debts": "Consequences of credential writes that are still owed.",
    "jtr_server_changes": "Exchanges that differ because documents or Vault moved.",
    "jtr_server_drift": "Exchanges that differ because the server moved.",
    "jtr_server_contested": "Exchanges that somebody keeps changing back.",
    "jtr_server_blocked": "Lines that a person has to decide.",
    "jtr_server_requests_in_doubt": "Requests of which nobody knows whether they took effect.",
    "jtr_server_robots_owed": "Robots that we stopped and that wait for a start.",
    "jtr_server_robots_running": "Robots that run.",
    "jtr_server_robots_stopped_unasked": (
        "Robots that ran, stopped without our asking, and do not run yet."
    ),
    "jtr_server_suspended": "Whether its document suspends it.",
    "jtr_server_window_open": (
        "Whether its windows allow to disturb robots now; only for servers with windows."
    ),
    "jtr_server_connected": "Whether a connection is held to it.",
    "jtr_server_failures": "Passes that failed in a row.",
    "jtr_secret_age_seconds": "How old the version in use was at the last pass that could tell.",
    "jtr_key_findings": (
        "What the audit has to say of a key, by severity; accepted findings do not count."
    ),
    "jtr_key_asked_timestamp_seconds": "When its exchange was last asked about a key.",
    "jtr_key_expires_timestamp_seconds": "When a key ends; only where its exchange tells.",
    "jtr_server_last_success_timestamp_seconds": "When a pass over it last ended well.",
    "jtr_server_last_seen_timestamp_seconds": "When it was last looked at.",
    "jtr_server_next_pass_timestamp_seconds": "When the next pass over it is due.",
}
"""Every metric, in the order of the page; the format adds `_total` to the names of counters."""


class _Scrape:
    """What one scrape reads: *now* is seconds since the epoch, *clock* the event loop's time."""

    def __init__(self, store: StatusStore, now: float, clock: float) -> None:
        self.store: Final = store
        self.controller: Final[ControllerStatus] = store.controller
        self.now: Final = now
        self.clock: Final = clock
        self.servers: Final = store.standing(now)

    def pass_age(self) -> float | None:
        if self.store.last_pass is not None:
            return max(0.0, self.clock - self.store.last_pass)
        began = _number(self.controller.started_at)
        return None if began is None else max(0.0, self.now - began)

    def pass_seconds(self) -> tuple[list[tuple[str, int]], float]:
        """Return what is in each bucket and all smaller ones, and the sum."""
        taken = self.store.pass_seconds
        bounds = [*map(str, BUCKETS), "+Inf"]
        buckets = [(bound, sum(taken.counts[: n + 1])) for n, bound in enumerate(bounds)]
        return buckets, taken.total


Rows = Iterable[tuple[tuple[str, ...], Any]]
Kind = type[GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily]


class _Source(Struct, frozen=True):
    """Where the values of a metric come from: the values of its *labels*, and what goes there."""

    read: Callable[[_Scrape], Rows]
    labels: tuple[str, ...] = ()
    kind: Kind = GaugeMetricFamily


def _own(read: Callable[[_Scrape], Any], kind: Kind = GaugeMetricFamily) -> _Source:
    return _Source(lambda scrape: [((), read(scrape))], kind=kind)


def _info(label: str, read: Callable[[ControllerStatus], Iterable[str]]) -> _Source:
    return _Source(lambda scrape: [((word,), 1) for word in read(scrape.controller)], (label,))


def _brakes(controller: ControllerStatus) -> set[tuple[str, str]]:
    return {
        (held.brake.version, held.harmed.name if held.harmed is not None else "")
        for held in controller.brakes
    }


def _each(read: Callable[[ServerStatus], Any]) -> _Source:
    return _Source(lambda scrape: [((s.server,), read(s)) for s in scrape.servers], ("server",))


def _within(label: str, read: Callable[[ServerStatus], Iterable[tuple[str, Any]]]) -> _Source:
    return _Source(
        lambda scrape: [
            ((s.server, word), value) for s in scrape.servers for word, value in read(s)
        ],
        ("server", label),
    )


def _one_of(holds: StrEnum) -> Iterable[tuple[str, bool]]:
    return [(state, state is holds) for state in type(holds)]


def _counts(
    counter: str, labels: tuple[str, ...], known: Callable[[_Scrape], Iterable[tuple[str, ...]]]
) -> _Source:
    """Return all counts; those that may come begin with 0, or `increase()` misses the first."""

    def read(scrape: _Scrape) -> Rows:
        found = {
            (key,) if isinstance(key, str) else key: count
            for key, count in getattr(scrape.store, counter).items()
        }
        return sorted((dict.fromkeys(known(scrape), 0) | found).items())

    return _Source(read, labels, CounterMetricFamily)


SOURCES: Final = {
    "jtr_build_info": _info("version", lambda controller: [controller.version]),
    "jtr_controller_start_timestamp_seconds": _own(lambda s: s.controller.started_at),
    "jtr_acting": _own(lambda s: s.controller.acting),
    "jtr_ready": _own(lambda s: not missing(s.store)),
    "jtr_stuck": _own(lambda s: bool(s.store.stuck)),
    "jtr_documents_valid": _own(
        lambda s: bool(s.controller.revision) and not s.controller.documents
    ),
    "jtr_vault_up": _own(lambda s: not s.controller.secrets),
    "jtr_ledger_up": _own(lambda s: not s.controller.ledger),
    "jtr_state_file_up": _own(lambda s: not s.controller.state),
    "jtr_clock_steady": _own(lambda s: not s.controller.clock),
    "jtr_tasks": _own(lambda s: s.store.tasks),
    "jtr_documents_info": _info("revision", lambda controller: filter(None, [controller.revision])),
    "jtr_documents_attempted_info": _info(
        "revision", lambda controller: filter(None, [controller.attempted])
    ),
    "jtr_documents_trouble_since_timestamp_seconds": _own(lambda s: s.controller.documents_since),
    "jtr_vault_token_ttl_seconds": _own(lambda s: s.controller.token_seconds),
    "jtr_brake_engaged": _Source(
        lambda scrape: [(labels, 1) for labels in sorted(_brakes(scrape.controller))],
        ("jt_version", "server"),
    ),
    "jtr_pass_age_seconds": _own(_Scrape.pass_age),
    "jtr_pass_duration_seconds": _own(_Scrape.pass_seconds, HistogramMetricFamily),
    "jtr_passes": _counts("passes", ("result",), lambda _: [("done",), ("failed",)]),
    "jtr_applies": _counts(
        "applies",
        ("result",),
        lambda _: [(str(result),) for result in Result if result is not Result.NOT_ATTEMPTED],
    ),
    "jtr_restarts": _counts(
        "restarts",
        ("server", "kind"),
        lambda s: [(one.server, kind) for one in s.servers for kind in ("robots", "reboot")],
    ),
    "jtr_robot_stops": _counts("stops", ("server",), lambda s: [(x.server,) for x in s.servers]),
    "jtr_notifications": _counts("notifications", ("target", "result"), lambda _: []),
    "jtr_server_sync": _within("status", lambda s: _one_of(s.sync)),
    "jtr_server_health": _within("status", lambda s: _one_of(s.health)),
    "jtr_server_debts": _within(
        "kind", lambda s: [(owed, sum(debt.owed is owed for debt in s.debts)) for owed in Owed]
    ),
    "jtr_server_changes": _each(lambda s: s.changes),
    "jtr_server_drift": _each(lambda s: s.drift),
    "jtr_server_contested": _each(lambda s: s.contested),
    "jtr_server_blocked": _each(lambda s: s.blocked),
    "jtr_server_requests_in_doubt": _each(lambda s: s.in_doubt),
    "jtr_server_robots_owed": _each(lambda s: s.owed_robots),
    "jtr_server_robots_running": _each(lambda s: sum(robot.running for robot in s.robots)),
    "jtr_server_robots_stopped_unasked": _each(lambda s: s.stopped_robots),
    "jtr_server_suspended": _each(lambda s: bool(s.suspended)),
    "jtr_server_window_open": _each(lambda s: s.window_open),
    "jtr_server_connected": _each(lambda s: s.connected),
    "jtr_server_failures": _each(lambda s: s.failures),
    "jtr_secret_age_seconds": _within("exchange", lambda s: sorted(s.secret_ages.items())),
    "jtr_key_findings": _Source(
        lambda scrape: [
            (
                (server.server, exchange, weight.name.lower()),
                sum(f.severity is weight and not f.accepted for f in key.findings),
            )
            for server in scrape.servers
            for exchange, key in sorted(server.keys.items())
            for weight in Severity
        ],
        ("server", "exchange", "severity"),
    ),
    "jtr_key_asked_timestamp_seconds": _within(
        "exchange", lambda s: [(code, key.asked_at) for code, key in sorted(s.keys.items())]
    ),
    "jtr_key_expires_timestamp_seconds": _within(
        "exchange", lambda s: [(code, key.expires_at) for code, key in sorted(s.keys.items())]
    ),
    "jtr_server_last_success_timestamp_seconds": _each(lambda s: s.last_success),
    "jtr_server_last_seen_timestamp_seconds": _each(lambda s: s.seen_at),
    "jtr_server_next_pass_timestamp_seconds": _each(lambda s: s.next_pass),
}
"""Kind, labels and values of every metric of HELP."""


class _Reader(Collector):
    """Reads one status store once."""

    def __init__(self, scrape: _Scrape) -> None:
        self._scrape: Final = scrape

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also those that have no series now."""
        for name, text in HELP.items():
            source = SOURCES[name]
            family: Any = source.kind(name, text, labels=source.labels)
            for labels, found in source.read(self._scrape):
                # A server's version is text of a server, half a character too.
                words = [plain(word) for word in labels]
                if isinstance(family, HistogramMetricFamily):
                    family.add_metric(words, *found)
                elif (value := _number(found)) is not None:
                    family.add_metric(words, value)
            yield family


def _number(found: Any) -> float | None:
    """Return RFC 3339 text as seconds since the epoch, else a number, or how many there are."""
    if isinstance(found, str):
        try:
            return datetime.fromisoformat(found).timestamp()
        except ValueError:
            return None
    return None if found is None else float(len(found) if isinstance(found, tuple) else found)


def exposition(status_store: StatusStore, now: float, clock: float) -> bytes:
    """Return all metrics; *now* is seconds since the epoch, *clock* the event loop's time."""
    registry = CollectorRegistry()
    registry.register(_Reader(_Scrape(status_store, now, clock)))
    return generate_latest(registry)
