"""
Logging: to standard error, and never a secret.

Redaction sits in the formatter of our one handler, so that lines of libraries pass through it too,
tracebacks included.  It is the second net: nothing of ours logs a value in the first place.
"""

import base64
import json
import logging
import sys
import traceback
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

from reconciler.model.secret import alive

SHORTEST = 6  # shorter values occur in ordinary words; they are kept out of logs by other means
NOISY = ("engineio", "socketio", "urllib3", "requests", "hvac", "ccxt", "asyncio")
BLOT = "***"


class RedactingFormatter(logging.Formatter):
    """Replaces every living secret, raw and in common encodings, by three asterisks."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class JsonFormatter(RedactingFormatter):
    """
    One JSON object a line, redacted like all others; `extra={"fields": {...}}` adds to it.

    Of an exception there is the class and where it came from: texts of foreign ones may hold
    anything.
    """

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            row |= {key: value for key, value in fields.items() if key not in row}
        if record.exc_info and record.exc_info[1] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            row["error"] = type(record.exc_info[1]).__name__
            row["at"] = [f"{frame.filename}:{frame.lineno}" for frame in frames]
        return redacted(json.dumps(row, ensure_ascii=True, default=str))

    def formatTime(  # noqa: N802  - logging's name
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        del datefmt
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RedactingHandler(logging.StreamHandler[TextIO]):
    """Writes redacted lines; the only handler that `set_up` installs."""

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        super().__init__(stream)
        text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        self.setFormatter(JsonFormatter() if as_json else RedactingFormatter(text))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  - logging's name
        """Say that a line was lost; the usual handler would print its arguments, unredacted."""
        self.stream.write(f"a log line of {record.name} could not be written\n")


def redacted(text: str) -> str:
    """Return *text* with the values of all living secrets blotted out."""
    shapes = {shape for secret in alive() for shape in _shapes(str(secret.reveal()))}
    # The longest first: a secret may be a part of another one, whose rest would stay.  Again until
    # nothing changes: a blot beside what was there can look like a secret with asterisks.
    longest_first = sorted(shapes, key=len, reverse=True)
    before = ""
    while text != before:
        before = text
        for shape in longest_first:
            text = text.replace(shape, BLOT)
    return text


def _shapes(value: str) -> Iterator[str]:
    if len(value) < SHORTEST:
        return
    data = value.encode("utf-8", "surrogatepass")
    in_json = json.dumps(value)[1:-1]
    quoted = urllib.parse.quote(data, safe="")
    yield value
    yield repr(value)[1:-1]
    yield repr(data)[2:-1]
    yield in_json
    yield json.dumps(in_json)[1:-1]  # JSON within a text within JSON
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quoted
    yield urllib.parse.quote(data)
    yield urllib.parse.quote_plus(data)
    yield data.hex()
    yield data.hex().upper()
    # Base64 depends on where the value begins within a group of three bytes; the characters at
    # both ends also hold bits of what stands beside it.
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data).decode()
        core = encoded[(0, 2, 3)[shift] : (shift + len(data)) * 8 // 6]
        yield core
        yield core.translate({ord("+"): "-", ord("/"): "_"})


def set_up(*, debug: bool, stream: TextIO | None = None, as_json: bool = False) -> None:
    """
    Send warnings (with *debug* everything) to standard error, through redaction.

    *as_json* is for services: one object a line, and what they do at INFO.

    May be called again; the handler of the last call is the one that counts.
    """
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, RedactingHandler)]:
        root.removeHandler(old)
    handler = RedactingHandler(stream or sys.stderr, as_json=as_json)
    handler.setLevel(logging.DEBUG if debug or as_json else logging.WARNING)
    root.addHandler(handler)
    logging.getLogger("reconciler").setLevel(logging.INFO if as_json else logging.NOTSET)
    if not debug:
        return
    root.setLevel(logging.DEBUG)
    # These print whole packets and headers below WARNING: access secrets and keys included.
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def ensure() -> None:
    """
    Send warnings through redaction unless `set_up` did so for this standard error.

    Without any handler Python itself prints them as they are: lines of libraries and the texts of
    exceptions that nobody awaited.
    """
    mine = (h for h in logging.getLogger().handlers if isinstance(h, RedactingHandler))
    if not any(handler.stream is sys.stderr for handler in mine):
        set_up(debug=False)
