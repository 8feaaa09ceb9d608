"""Options that say where in Vault something is, for any server: checked, and never the secret."""

import re
from typing import Final

from reconciler.documents.files import shown
from reconciler.errors import UsageError
from reconciler.model.references import SecretRef

_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}|[{}]")


def checked_paths(text: str) -> str:
    """Check --paths, which may be empty.  Raises UsageError."""
    text = text.removeprefix("vault:")
    if not text:
        return ""
    known = ("{server}", "{exchange}")
    if unknown := [one for one in _PLACEHOLDER.findall(text) if one not in known]:
        raise UsageError(
            f"--paths holds {shown(unknown[0])}, which nothing replaces",
            "known: {server} and {exchange}",
        )
    if "{exchange}" not in text:
        raise UsageError(
            "--paths without {exchange} would be one secret for all exchanges",
            "write --paths 'secret/jt/{server}/{exchange}'",
        )
    ref = SecretRef.parse(f"vault:{text.replace('{server}', 'x').replace('{exchange}', 'x')}")
    if ref is None or ref.field is not None or ref.version is not None:
        raise UsageError(
            "--paths is no path of whole secrets: MOUNT/PATH, without #FIELD and @VERSION",
            "write --paths 'secret/jt/{server}/{exchange}'",
        )
    return text


def checked_login(text: str) -> str:
    """Check --access-secret, which may be empty.  Raises UsageError, without a pasted secret."""
    text = text.removeprefix("vault:")
    ref = login_of(text, "x")
    if text and (ref is None or ref.field is None):
        raise UsageError(
            "--access-secret names where the secret is, MOUNT/PATH#FIELD, and is never the secret",
            "write --access-secret 'secret/jt/{server}#access_secret'",
        )
    return text


def login_of(pattern: str, server: str) -> SecretRef | None:
    return SecretRef.parse(f"vault:{pattern.replace('{server}', server)}") if pattern else None
