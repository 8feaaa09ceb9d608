"""
What people say in words on the command line, before it is kept where everybody reads it.
"""

from typing import Final

from reconciler.documents.formats import looks_secret
from reconciler.documents.schema import PASTED
from reconciler.errors import UsageError
from reconciler.render.escape import plain

LIMIT: Final = 300  # characters; the limit of the schema as well


def explained(option: str, text: str) -> str:
    """Return the words given to *option*; UsageError, without an echo, if they must not be kept."""
    words = text.strip()
    if not words or plain(words, LIMIT) != words:
        raise UsageError(
            f"{option} is empty, longer than one line, or holds characters that nobody can see",
            f"say why in one line of at most {LIMIT} characters",
        )
    if looks_secret(words):
        raise UsageError(f"{option}: {PASTED[0]}", "say why in words; nothing was written")
    return words
