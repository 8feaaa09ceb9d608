"""
The status store as Prometheus reads it: gauges and counters as text, made at each scrape.

Names of servers and of exchanges are labels, and nothing else that grows; times are computed when
they are asked for, so that a controller that hangs does not look fresh.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from reconciler.controller.api.responses import missing
from reconciler.controller.status import Health, ServerStatus, Sync
from reconciler.controller.status_store import BUCKETS, StatusStore
from reconciler.model.key_policy import Severity
from reconciler.model.outcomes import Result
from reconciler.model.recorded import Owed
from reconciler.render.escape import plain

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PASSES: Final = ("done", "failed")
_STOPS: Final = ("robots", "reboot")

Rows = Iterable[tuple[tuple[str, ...], float]]
Read = Callable[[ServerStatus], float | None]


def exposition(status_store: StatusStore, now: float, clock: float) -> bytes:
    """Return all metrics; *now* is seconds since the epoch, *clock* the event loop's time."""
    registry = CollectorRegistry()
    registry.register(_Reader(status_store, now, clock))
    return generate_latest(registry)


class _Reader(Collector):
    """Reads one status store once."""

    def __init__(self, status_store: StatusStore, now: float, clock: float) -> None:
        self._status_store: Final = status_store
        self._now: Final = now
        self._clock: Final = clock
        self._servers: Final = [status_store.servers[name] for name in sorted(status_store.servers)]

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also those that have no series now."""
        yield from self._controller()
        yield from self._passes()
        yield from self._counters()
        yield from self._states()
        yield from self._numbers()
        yield from self._keys()
        yield from self._moments()

    # ── the controller itself ────────────────────────────────────────────────────────────────

    def _controller(self) -> Iterator[Metric]:
        status_store, status = self._status_store, self._status_store.controller
        yield _gauge(
            "jtr_build_info",
            "Always 1; the version of jt-reconciler is its label.",
            [((status.version,), 1)],
            "version",
        )
        yield _gauge(
            "jtr_controller_start_timestamp_seconds",
            "When the controller started.",
            _moment(status.started_at),
        )
        for name, text, holds in (
            ("jtr_acting", "Whether this controller is the one that acts.", status.acting),
            (
                "jtr_ready",
                "Whether documents, ledger and Vault were all there, and it is not stopping.",
                not missing(status_store),
            ),
            ("jtr_stuck", "Whether a pass does not end.", bool(status_store.stuck)),
            (
                "jtr_documents_valid",
                "Whether the newest documents are in force.",
                bool(status.revision) and not status.documents,
            ),
            ("jtr_vault_up", "Whether Vault can be used.", not status.secrets),
            ("jtr_ledger_up", "Whether the ledger can be used.", not status.ledger),
            ("jtr_state_file_up", "Whether its own state file can be written.", not status.state),
        ):
            yield _gauge(name, text, [((), holds)])
        yield _gauge("jtr_tasks", "Tasks on the event loop.", [((), status_store.tasks)])
        yield _gauge(
            "jtr_documents_info",
            "Always 1; the revision of the documents in force is its label.",
            [((status.revision,), 1)] if status.revision else [],
            "revision",
        )
        left = status.token_seconds
        yield _gauge(
            "jtr_vault_token_ttl_seconds",
            "What was left on the token for Vault when Vault was asked last.",
            [] if left is None else [((), left)],
        )
        yield _gauge(
            "jtr_brake_engaged",
            "1 for each JT-Trader version to which nothing is written.",
            [((version,), 1) for version in sorted(status.brakes)],
            "jt_version",
        )

    def _passes(self) -> Iterator[Metric]:
        status_store = self._status_store
        ended, began = status_store.last_pass, _seconds(status_store.controller.started_at)
        age: Rows = []
        if ended is not None:
            age = [((), max(0.0, self._clock - ended))]
        elif began is not None:
            age = [((), max(0.0, self._now - began))]
        yield _gauge(
            "jtr_pass_age_seconds",
            "Since a pass over any server ended; since the start while none did.",
            age,
        )
        took = HistogramMetricFamily("jtr_pass_duration_seconds", "How long passes took.")
        buckets, total = [], 0
        for bound, count in zip(
            [*map(str, BUCKETS), "+Inf"], status_store.pass_seconds.counts, strict=True
        ):
            total += count
            buckets.append((bound, total))
        took.add_metric([], buckets, status_store.pass_seconds.total)
        yield took

    def _counters(self) -> Iterator[Metric]:
        status_store = self._status_store
        names = {server.server for server in self._servers}
        yield _counter(
            "jtr_passes",
            "Passes over servers.",
            _counted(
                (((key,), n) for key, n in status_store.passes.items()), [(key,) for key in _PASSES]
            ),
            "result",
        )
        results = [(str(result),) for result in Result if result is not Result.NOT_ATTEMPTED]
        yield _counter(
            "jtr_applies",
            "Actions on servers, by what became of them.",
            _counted((((key,), n) for key, n in status_store.applies.items()), results),
            "result",
        )
        yield _counter(
            "jtr_restarts",
            "What stopped robots because it was asked or owed.",
            _counted(
                status_store.restarts.items(), [(name, kind) for name in names for kind in _STOPS]
            ),
            "server",
            "kind",
        )
        yield _counter(
            "jtr_robot_stops",
            "Robots that ran and stopped without our asking.",
            _counted(
                (((key,), n) for key, n in status_store.stops.items()), [(name,) for name in names]
            ),
            "server",
        )
        yield _counter(
            "jtr_notifications",
            "Notifications, by what became of them.",
            _counted(status_store.notifications.items(), []),
            "target",
            "result",
        )

    # ── servers ──────────────────────────────────────────────────────────────────────────────

    def _states(self) -> Iterator[Metric]:
        yield _gauge(
            "jtr_server_sync",
            "1 for the one that holds: is the server as its document says?",
            [row for s in self._servers for row in _one_of(s.server, Sync, s.sync)],
            "server",
            "status",
        )
        yield _gauge(
            "jtr_server_health",
            "1 for the one that holds: does anybody have to do something?",
            [row for s in self._servers for row in _one_of(s.server, Health, s.health)],
            "server",
            "status",
        )
        yield _gauge(
            "jtr_server_debts",
            "Consequences of credential writes that are still owed.",
            [
                ((s.server, str(owed)), sum(debt.owed is owed for debt in s.debts))
                for s in self._servers
                for owed in Owed
            ],
            "server",
            "kind",
        )

    def _numbers(self) -> Iterator[Metric]:
        yield self._each(
            "jtr_server_changes",
            "Exchanges that differ because documents or Vault moved.",
            lambda s: s.changes,
        )
        yield self._each(
            "jtr_server_drift",
            "Exchanges that differ because the server moved.",
            lambda s: s.drift,
        )
        yield self._each(
            "jtr_server_contested",
            "Exchanges that somebody keeps changing back.",
            lambda s: len(s.contested),
        )
        yield self._each(
            "jtr_server_blocked", "Lines that a person has to decide.", lambda s: s.blocked
        )
        yield self._each(
            "jtr_server_requests_in_doubt",
            "Requests of which nobody knows whether they took effect.",
            lambda s: s.in_doubt,
        )
        yield self._each(
            "jtr_server_robots_owed",
            "Robots that we stopped and that wait for a start.",
            lambda s: len(s.owed_robots),
        )
        yield self._each(
            "jtr_server_robots_running",
            "Robots that run.",
            lambda s: sum(robot.running for robot in s.robots),
        )
        yield self._each(
            "jtr_server_robots_stopped_unasked",
            "Robots that ran, stopped without our asking, and do not run yet.",
            lambda s: len(s.stopped_robots),
        )
        yield self._each(
            "jtr_server_suspended",
            "Whether its document suspends it.",
            lambda s: bool(s.suspended),
        )
        yield self._each(
            "jtr_server_window_open",
            "Whether its windows allow to disturb robots now; only for servers with windows.",
            lambda s: s.window_open,
        )
        yield self._each(
            "jtr_server_connected", "Whether a connection is held to it.", lambda s: s.connected
        )
        yield self._each(
            "jtr_server_failures", "Passes that failed in a row.", lambda s: s.failures
        )
        yield _gauge(
            "jtr_secret_age_seconds",
            "How old the version in use was at the last pass that could tell.",
            [
                ((s.server, exchange), age)
                for s in self._servers
                for exchange, age in sorted(s.secret_ages.items())
            ],
            "server",
            "exchange",
        )

    def _keys(self) -> Iterator[Metric]:
        found = [(s.server, e, key) for s in self._servers for e, key in sorted(s.keys.items())]
        yield _gauge(
            "jtr_key_findings",
            "What the audit has to say of a key, by severity; accepted findings do not count.",
            [
                (
                    (server, exchange, weight.name.lower()),
                    sum(f.severity is weight and not f.accepted for f in key.findings),
                )
                for server, exchange, key in found
                for weight in Severity
            ],
            *("server", "exchange", "severity"),
        )
        yield _gauge(
            "jtr_key_asked_timestamp_seconds",
            "When its exchange was last asked about a key.",
            [
                ((server, exchange), moment)
                for server, exchange, key in found
                if (moment := _seconds(key.asked_at)) is not None
            ],
            *("server", "exchange"),
        )
        yield _gauge(
            "jtr_key_expires_timestamp_seconds",
            "When a key ends; only where its exchange tells.",
            [
                ((server, exchange), moment)
                for server, exchange, key in found
                if (moment := _seconds(key.expires_at)) is not None
            ],
            *("server", "exchange"),
        )

    def _moments(self) -> Iterator[Metric]:
        yield self._each(
            "jtr_server_last_success_timestamp_seconds",
            "When a pass over it last ended well.",
            lambda s: _seconds(s.last_success),
        )
        yield self._each(
            "jtr_server_last_seen_timestamp_seconds",
            "When it was last looked at.",
            lambda s: _seconds(s.seen_at),
        )
        yield self._each(
            "jtr_server_next_pass_timestamp_seconds",
            "When the next pass over it is due.",
            lambda s: _seconds(s.next_pass),
        )

    def _each(self, name: str, text: str, read: Read) -> Metric:
        """Return one value a server; none where there is nothing to tell."""
        found = ((server.server, read(server)) for server in self._servers)
        rows = [((server,), value) for server, value in found if value is not None]
        return _gauge(name, text, rows, "server")


# ── below ────────────────────────────────────────────────────────────────────────────────────


def _gauge(name: str, text: str, rows: Rows, *labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(_labels(values), float(value))
    return family


def _counter(name: str, text: str, rows: Rows, *labels: str) -> Metric:
    """Return a counter; the format adds `_total` to its name."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(_labels(values), value)
    return family


def _labels(values: Iterable[str]) -> list[str]:
    """Return the labels' values; a server's version is text of a server, half a character too."""
    return [plain(value) for value in values]


def _counted(
    found: Iterable[tuple[tuple[str, ...], int]], known: Iterable[tuple[str, ...]]
) -> list[tuple[tuple[str, ...], float]]:
    """Return all counts; those that may come begin with 0, or `increase()` misses the first."""
    counts = dict.fromkeys(known, 0) | dict(found)
    return [(key, float(counts[key])) for key in sorted(counts)]


def _one_of(server: str, states: type[StrEnum], holds: StrEnum) -> Rows:
    return [((server, str(state)), state is holds) for state in states]


def _moment(text: str) -> Rows:
    seconds = _seconds(text)
    return [] if seconds is None else [((), seconds)]


def _seconds(text: str) -> float | None:
    """Return RFC 3339 text as seconds since the epoch; None for what is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
