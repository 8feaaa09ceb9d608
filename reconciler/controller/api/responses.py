"""
What the controller's pages say, as JSON-able data: statuses, the ledger's rows, logs, errors.

Pure.  Holds references, versions, names and words; never a value and never a mask.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from reconciler.controller.status import ControllerStatus, ServerStatus
from reconciler.controller.status_store import BUCKETS, StatusStore
from reconciler.errors import JtrError
from reconciler.ledger.codec.records import observations
from reconciler.model.observed import LogEntry
from reconciler.render import logs as rendering
from reconciler.render.json_values import Document, shown
from reconciler.render.ledger import brake_document

FORMAT: Final = 1


def trouble(status_store: StatusStore, clock: float, period: float) -> str:
    """
    Say why the controller does not live; empty when it does.

    *clock* is the event loop's, *period* the seconds within which its loop gives a sign of life.
    Nothing outside this process counts: a restart would not bring Vault or a server back.
    """
    if status_store.stuck:
        return status_store.stuck
    silent = clock - status_store.tick
    if silent >= 3 * period:
        return f"its loop gave no sign of life for {silent:.0f} s"
    return ""


def missing(status_store: StatusStore) -> str:
    """Say what the controller waits for before it keeps anything; empty when it is ready."""
    status = status_store.controller
    if status.stopping:
        return "it is stopping"
    if status.waiting:
        return status.waiting
    if status_store.ready:
        return ""
    if not status.revision:
        return status.documents or "no documents are in force yet"
    return status.ledger or status.secrets or "it has not taken its place on the ledger yet"


def status_document(status_store: StatusStore, now: datetime, clock: float) -> Document:
    """Return everything on the status store; *clock* is the event loop's."""
    return {
        "formatVersion": FORMAT,
        "at": _stamp(now),
        "controller": _controller(status_store, status_store.controller, clock),
        "servers": [_server(status) for status in status_store.standing(now.timestamp())],
        "counts": {
            "passes": dict(sorted(status_store.passes.items())),
            "applies": dict(sorted(status_store.applies.items())),
            "restarts": [
                {"server": server, "kind": kind, "count": count}
                for (server, kind), count in sorted(status_store.restarts.items())
            ],
            "robotStops": dict(sorted(status_store.stops.items())),
            "notifications": [
                {"target": target, "result": result, "count": count}
                for (target, result), count in sorted(status_store.notifications.items())
            ],
            "passSeconds": {
                "sum": status_store.pass_seconds.total,
                "upTo": [*BUCKETS, None],
                "counts": list(status_store.pass_seconds.counts),
            },
        },
    }


def _controller(status_store: StatusStore, status: ControllerStatus, clock: float) -> Document:
    ended = status_store.last_pass
    return {
        **shown(status, "version label startedAt acting"),
        "ready": not missing(status_store),
        **shown(status, "rival waiting stopping"),
        "stuck": status_store.stuck,
        **shown(status, "revision attempted documents secrets ledger state clock"),
        "documentsSince": status.documents_since or None,
        "inForceSince": status.in_force_since or None,
        "brakes": [brake_document(held) for held in status.brakes],
        "vaultTokenSeconds": status.token_seconds,
        "lastPassSeconds": None if ended is None else max(0.0, clock - ended),
    }


def _server(status: ServerStatus) -> Document:
    suspended = {
        "reason": status.suspended,
        "by": status.suspended_by,
        "until": status.suspended_until or None,
    }
    return {
        **shown(
            status,
            "server url account owner labels version mode sync health reason changes drift"
            " contested blocked debts requestsInDoubt=in_doubt robotsOwed=owed_robots deferred"
            " robotsStoppedUnasked=stopped_robots robots judged",
        ),
        "suspended": suspended if status.suspended else None,
        "window": None
        if status.window_open is None
        else {"open": status.window_open, "why": status.window},
        "connected": status.connected,
        "observedAt": status.seen_at or None,
        "lastPass": status.last_pass or None,
        "lastSuccess": status.last_success or None,
        "passSeconds": status.pass_seconds,
        "nextPass": status.next_pass or None,
        "failures": status.failures,
        "secretAgeSeconds": dict(sorted(status.secret_ages.items())),
        "outgoing": list(status.outgoing),
        "keys": [
            {"exchange": exchange}
            | shown(key, "light askedAt expiresAt findings")
            | {"expiresAt": key.expires_at or None}
            for exchange, key in sorted(status.keys.items())
        ],
    }


def observations_document(
    documents: Mapping[str, str], *, at: datetime, by: str, only: bool, believed: float
) -> Document:
    """
    Return the rows of the ledger as they lie there, read at that time by that controller.

    *only* says that no other ledger knows these servers.  Observations that are older than
    *believed* seconds are named.
    """
    stale = (key for key, seen in observations(documents) if (at - seen).total_seconds() > believed)
    return {
        "formatVersion": FORMAT,
        "at": _stamp(at),
        "by": by,
        "only": only,
        "stale": sorted(stale),
        "documents": dict(sorted(documents.items())),
    }


def log_document(server: str, entries: Iterable[LogEntry]) -> Document:
    """Return a server's system log, oldest entry first, without what only terminals may see."""
    return {
        "formatVersion": FORMAT,
        "server": server,
        "entries": [rendering.document(entry) for entry in entries],
    }


def error_document(error: JtrError) -> Document:
    return {"error": shown(error, "what remedy transient")}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
