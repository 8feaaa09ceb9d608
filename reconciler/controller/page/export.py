"""What was done, as files for other programs.  Pure."""

import csv
import io
from collections.abc import Iterable
from typing import Final

from reconciler.model.recorded import HistoryEntry
from reconciler.render.escape import plain
from reconciler.render.json_values import Document, to_json

COLUMNS: Final = ("at", "server", "what", "result", "by", "detail", "revision", "pull", "mergedBy")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Deeds = Iterable[tuple[str, HistoryEntry]]


def as_csv(deeds: Deeds) -> str:
    """Return one row for each; no cell begins like a formula of a spreadsheet."""
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerow(COLUMNS)
    for name, deed in deeds:
        origin = deed.origin
        asked = (origin.revision, origin.pull, origin.by)
        row = (deed.at, name, deed.what, deed.result, deed.by, deed.detail, *asked)
        writer.writerow([_cell(text) for text in row])
    return made.getvalue()


def _cell(text: str) -> str:
    shown = plain(text, 2_000)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def as_json(deeds: Deeds) -> Document:
    return {
        "formatVersion": 1,
        "deeds": [{"server": name} | to_json(deed) for name, deed in deeds],
    }
