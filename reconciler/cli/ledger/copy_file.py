"""Backups as commands read them."""

from pathlib import Path
from typing import Final

from reconciler.documents.files import shown
from reconciler.errors import LedgerError, UsageError
from reconciler.ledger.copies import Heading, from_file
from reconciler.settings.model import Settings
from reconciler.settings.paths import key_file
from reconciler.system.files import read_regular, reason

LIMIT: Final = 2**30  # bytes; a server needs about ten thousand


def read_backup(file: str) -> tuple[Heading, dict[str, str]]:
    """Read what `jtr ledger backup` wrote.  Raises UsageError for no such file, LedgerError."""
    try:
        data = read_regular(Path(file), LIMIT, follow=True)
    except OSError as error:
        raise UsageError(
            f"{shown(file)} cannot be read ({reason(error)})", "name a file that is a backup"
        ) from None
    try:
        return from_file(data)
    except LedgerError as error:
        raise LedgerError(f"{shown(file)}: {error.what}", error.remedy) from None


def key_place(settings: Settings) -> str:
    """Where the fingerprint key of these settings lies, for people."""
    return str(settings.fingerprint_key or key_file())
