"""
Logging: to standard error, and never a secret.

Redaction sits in the formatter of our one handler, so that lines of libraries pass through it too,
tracebacks included.  It is the second net: nothing of ours logs a value in the first place.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO

from reconciler.system.console import Priority, prioritised, reaches_journal
from reconciler.system.redaction import redacted

NOISY = ("engineio", "socketio", "urllib3", "requests", "hvac", "ccxt", "asyncio")


_PRIORITIES = (
    (logging.ERROR, Priority.ERROR),
    (logging.WARNING, Priority.WARNING),
    (logging.INFO, Priority.INFO),
)


class RedactingFormatter(logging.Formatter):
    """Replaces every living secret, raw and in common encodings, by three asterisks."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class JsonFormatter(RedactingFormatter):
    """
    One JSON object a line, redacted like all others; `extra={"fields": {...}}` adds to it.

    `by` says whose lines they are.  Of an exception there is the class and where it came from:
    texts of foreign ones may hold anything.
    """

    def __init__(self, by: str = "") -> None:
        super().__init__()
        self._by = by

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "by": self._by,
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


class ReadableFormatter(RedactingFormatter):
    """What `JsonFormatter` tells, for who watches: time, level, message, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7} "
        text += record.getMessage()
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            text += "".join(f"  {key}={_told(value)}" for key, value in fields.items())
        if record.exc_info and record.exc_info[1] is not None:
            text += f"  error={type(record.exc_info[1]).__name__}"
        return redacted("".join(c if c.isprintable() else "\ufffd" for c in text))


def _told(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) if value == "" else str(value)


class RedactingHandler(logging.StreamHandler[TextIO]):
    """Writes redacted lines; the only handler that `set_up` installs."""

    def __init__(self, stream: TextIO, form: logging.Formatter | None = None) -> None:
        super().__init__(stream)
        self._journal = reaches_journal(stream)
        text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        self.setFormatter(form or RedactingFormatter(text))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return text
        level = record.levelno
        return prioritised(
            text, next((p for least, p in _PRIORITIES if level >= least), Priority.DEBUG)
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  - logging's name
        """Say that a line was lost; the usual handler would print its arguments, unredacted."""
        self.stream.write(f"a log line of {record.name} could not be written\n")


def set_up(*, debug: bool, stream: TextIO | None = None, service: str = "") -> None:
    """
    Send warnings (with *debug* everything) to standard error, through redaction.

    A *service* tells at INFO what it does: one JSON object a line, in which `by` is what is given
    here; to a terminal in lines that people read.

    May be called again; the handler of the last call is the one that counts.
    """
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, RedactingHandler)]:
        root.removeHandler(old)
    stream = stream or sys.stderr
    form: logging.Formatter | None = None
    if service:
        form = ReadableFormatter() if stream.isatty() else JsonFormatter(service)
    handler = RedactingHandler(stream, form)
    handler.setLevel(logging.DEBUG if debug or service else logging.WARNING)
    root.addHandler(handler)
    logging.getLogger("reconciler").setLevel(logging.INFO if service else logging.NOTSET)
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
