"""
Which entries of a server's system log are shown, with the values of living secrets blotted out.

Pure, and bounded whatever a server answers: what the search of secrets costs grows with the text.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from reconciler.model.observed import LogEntry
from reconciler.render import logs as rendering
from reconciler.system.redaction import redacted

ENTRIES: Final = 500  # that a page shows
SEARCHED: Final = 3_000  # of the newest, where a word is looked for
TEXT: Final = 2_000_000  # characters that are looked at for one page
MESSAGE: Final = 4_000  # characters of a message that are surely shown; no secret is longer


class Excerpt(Struct, frozen=True):
    """The newest entries, oldest first: out of `searched`, which are the newest of `total`."""

    entries: tuple[dict[str, Any], ...] = ()
    searched: int = 0
    total: int = 0
    exposed: str = ""


def excerpt(log: Sequence[LogEntry], level: str, words: str) -> Excerpt:
    """Return the newest entries of *level* and worse; with *words* those that hold them."""
    wanted = list(rendering.Wanted(level).of(log))
    found: list[dict[str, Any]] = []
    searched, left = 0, TEXT
    for entry in reversed(wanted[-(SEARCHED if words else ENTRIES) :]):
        if left <= 0 or len(found) == ENTRIES:
            break
        left -= min(len(entry.message), 2 * MESSAGE)
        searched += 1
        shown = rendering.document(entry)
        shown["message"] = _safe(entry.message)
        # In what is shown: else a search would find out what was blotted.
        if words.lower() in f"{shown['class']} {shown['message']}".lower():
            found.append(shown)
    return Excerpt(tuple(reversed(found)), searched, len(wanted), rendering.exposed(log))


def _safe(message: str) -> str:
    """Return a message without secrets, and without the end of a long one."""
    if len(message) <= 2 * MESSAGE:
        return redacted(message)
    # A secret that is cut in two is recognised no more: it can only stand at the end.
    return redacted(message[: 2 * MESSAGE])[:-MESSAGE] + "..."
