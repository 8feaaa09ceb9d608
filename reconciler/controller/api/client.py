"""
Ask a running controller: its status, the rows of its ledger, the log of a server.  Blocking.

What it answers is another program's text: checked for its shape here, escaped where it is shown.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from msgspec import Struct

from reconciler import bootstrap
from reconciler.controller.api.token import read_token
from reconciler.errors import DriverError, Exit, JtrError, ServerUnreachable, UsageError
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.snapshot import SnapshotStore
from reconciler.model.observed import LogEntry
from reconciler.model.secret import Secret
from reconciler.render.escape import plain
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.http_client import Lost, Reply, fetch_once, untrusted
from reconciler.system.network import loopback

FORMAT: Final = 1
MOST: Final = 64 * 1024 * 1024  # bytes of an answer
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  - whom to ask, not where to listen


class ControllerAway(JtrError):
    """The controller cannot be reached, or waits for something itself."""

    transient = True


class ControllerRefused(JtrError):
    """Something answers there, but does not let us in, or is no controller that we understand."""


class Snapshot(Struct, frozen=True):
    """
    The rows of a controller's ledger, by key, and when and by whom they were read.

    `only` says that no other ledger knows its servers.
    """

    documents: Mapping[str, str]
    at: str
    by: str
    only: bool


class Controller:
    """The controller at one address; every method is one request, bounded in time and size."""

    def __init__(self, settings: Settings) -> None:
        """Raise UsageError when the settings cannot be used; contacts nothing."""
        named = settings.controller
        self.url: Final = (named.url or "").rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not loopback(parts.hostname or ""):
            raise UsageError(f"{self.url} would carry the controller's token in clear", "use https")
        if named.ca_file is not None and not Path(named.ca_file).is_file():
            raise UsageError(
                f"the file controller.caFile cannot be read: {named.ca_file}", "check its path"
            )
        self._timeouts: Final = settings.timeouts
        self._ca_file: Final = named.ca_file
        self._token: Final[Secret | None] = (
            read_token(named.token_file) if named.token_file else None
        )

    def status(self) -> dict[str, Any]:
        """Return all that the controller knows of itself and of its servers."""
        return self._document("/v1/status", self._timeouts.secrets_request)

    def ledger_documents(self) -> Snapshot:
        found = self._document("/v1/observations", self._timeouts.secrets_total)
        documents = found.get("documents")
        if not isinstance(documents, dict):
            raise self._strange()
        rows = {str(key): text for key, text in documents.items() if isinstance(text, str)}
        if len(rows) != len(documents):
            raise self._strange()
        return Snapshot(
            rows, str(found.get("at", "")), str(found.get("by", "")), found.get("only") is True
        )

    def logs(self, server: str) -> tuple[LogEntry, ...]:
        """
        Return the system log of a server, oldest entry first.

        Raises UsageError for a name that the controller does not know, and DriverError when it
        cannot read that log.
        """
        # The controller waits for the server up to twice the time of one request.
        limit = 2 * self._timeouts.request + self._timeouts.secrets_request
        reply = self._get(f"/v1/logs?server={quote(server, safe='')}", limit)
        if reply.status == HTTPStatus.NOT_FOUND:
            raise UsageError(*self._told(reply))
        if reply.status == HTTPStatus.BAD_GATEWAY:
            raise DriverError(*self._told(reply))
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise ServerUnreachable(*self._told(reply))
        entries = self._read(reply).get("entries")
        if not isinstance(entries, list):
            raise self._strange()
        return tuple(self._entry(row) for row in entries)

    # ── below ────────────────────────────────────────────────────────────────────────────────

    def _document(self, path: str, limit: float) -> dict[str, Any]:
        reply = self._get(path, limit)
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
            what, remedy = self._told(reply)
            raise ControllerAway(f"{self._name} cannot tell now: {what}", remedy)
        return self._read(reply)

    def _get(self, path: str, limit: float) -> Reply:
        headers = {}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        connect = min(limit, self._timeouts.connect)
        found = ask(self.url + path, headers, self._ca_file, connect=connect, limit=limit)
        if isinstance(found, Lost) and untrusted(found.error):
            raise ControllerRefused(
                f"{self._name} is not trusted: its certificate is not accepted",
                "controller.caFile of the settings names the CA that signed it",
            )
        if isinstance(found, Lost):
            raise ControllerAway(
                f"{self._name} cannot be asked: {lost(found, limit)}",
                "see that `jtr controller` runs, and controller.url of the settings",
            )
        return found

    def _read(self, reply: Reply) -> dict[str, Any]:
        if reply.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            state = "asks for a token" if self._token is None else "does not accept the token"
            raise ControllerRefused(
                f"{self._name} {state}",
                "controller.tokenFile of the settings names a file with the controller's token",
            )
        if reply.status != HTTPStatus.OK or len(reply.content) > MOST:
            raise self._strange(f" (status {reply.status})")
        document = _parsed(reply.content)
        if document.get("formatVersion") != FORMAT:
            raise self._strange()
        return document

    def _told(self, reply: Reply) -> tuple[str, str]:
        """Return what the controller says went wrong, and the remedy."""
        error = _parsed(reply.content).get("error")
        if not isinstance(error, dict) or not isinstance(error.get("what"), str):
            raise self._strange(f" (status {reply.status})")
        return plain(error["what"], 600), plain(str(error.get("remedy", "")), 600)

    def _entry(self, row: object) -> LogEntry:
        if not isinstance(row, dict):
            raise self._strange()
        words = [row.get(key) for key in ("level", "class", "message")]
        level, origin, message = (word if isinstance(word, str) else "" for word in words)
        return LogEntry(_milliseconds(row.get("time")), level, origin, message, {})

    @property
    def _name(self) -> str:
        return f"the controller at {self.url}"

    def _strange(self, more: str = "") -> ControllerRefused:
        return ControllerRefused(
            f"what answers at {self.url} is not understood{more}",
            "see that controller.url names a jtr controller of this version",
        )


def recalled(settings: Settings, command: str) -> bootstrap.Recalled:
    """Return the ledger of the controller that the settings name, as a copy to read."""
    found = Controller(settings).ledger_documents()
    return bootstrap.Recalled(ledger_of(found, settings, command), found.only)


def ledger_of(found: Snapshot, settings: Settings, command: str) -> Ledger:
    """Return a ledger to read that stands on the rows of a controller's."""
    return Ledger(
        SnapshotStore(found.documents),
        now=bootstrap.now,
        timeouts=settings.timeouts,
        writer=command,
    )


def ask(
    url: str, headers: Mapping[str, str], ca_file: str | None, *, connect: float, limit: float
) -> Reply | Lost:
    """Send one GET: no redirects, no proxies, nothing from the environment."""
    return asyncio.run(fetch_once(url, headers, ca_file, connect=connect, limit=limit, most=MOST))


def lost(found: Lost, limit: float) -> str:
    """Say why no answer came, without the library's text: it may hold the request."""
    if found.late:
        return f"no answer within {limit:g} s"
    return "the connection ended" if found.sent else "there is no connection"


def alive(listen: str, settings: Settings) -> int:
    """
    Ask the controller that listens at *listen* on this host whether it lives: 0 when it does.

    For a container's health check: needs no token, and says on standard error what is wrong.
    """
    host, _, port = listen.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bare = _ANY.get(bare, bare)
    where = f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
    limit = settings.timeouts.secrets_request
    try:
        found = ask(f"http://{where}/healthz", {}, None, connect=limit, limit=limit)
    except ValueError:  # an address that is none
        raise UsageError(f"{listen!a} is no address to ask", "write HOST:PORT") from None
    if isinstance(found, Lost):
        say(f"no controller answers at {where}: {lost(found, limit)}")
        return Exit.ERROR
    if found.status != HTTPStatus.OK:
        reason = _parsed(found.content).get("reason", f"it answers {found.status}")
        say(f"the controller at {where} is not alive: {plain(str(reason), 600)}")
        return Exit.ERROR
    return Exit.DONE


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _milliseconds(text: object) -> int | None:
    if not isinstance(text, str):
        return None
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
