"""References to secrets: `vault:MOUNT/PATH#FIELD@VERSION`, and frozen to one version."""

import functools
import re
from typing import Final

from msgspec import Struct

from reconciler.model.codec import Inline

_SEGMENT: Final = r"[A-Za-z0-9_][A-Za-z0-9_.\-]*"
_REFERENCE: Final = re.compile(
    rf"vault:(?P<mount>{_SEGMENT}(?:/{_SEGMENT})*?)(?P<sep>//|/)(?P<path>{_SEGMENT}(?:/{_SEGMENT})*)"
    rf"(?:\#(?P<field>{_SEGMENT}))?(?:@(?P<version>[1-9][0-9]{{0,8}}))?"
)
REFERENCE_LIMIT: Final = 512


class SecretPath(Struct, frozen=True, order=True):
    mount: str
    path: str

    def __str__(self) -> str:
        separator = "//" if "/" in self.mount else "/"
        return f"vault:{self.mount}{separator}{self.path}"


class SecretRef(Struct, frozen=True, order=True):
    """
    A whole secret (`field` is None) or one field of it, newest (`version` is None) or pinned.

    Written `vault:MOUNT/PATH#FIELD@VERSION`; the mount is the first segment, or, if it has several,
    everything before `//`.  The grammar is our own and strict, because the HTTP library underneath
    hvac collapses `..` and would read foreign secrets.
    """

    at: SecretPath
    field: str | None = None
    version: int | None = None

    @staticmethod
    def parse(text: str) -> "SecretRef | None":
        """Read a reference; None when *text* is not one."""
        # Anything else may be a pasted key, and is not to be remembered.
        return _parsed(text) if text.startswith("vault:") else None

    def __str__(self) -> str:
        name = f"#{self.field}" if self.field else ""
        pin = f"@{self.version}" if self.version else ""
        return f"{self.at}{name}{pin}"


@functools.lru_cache(maxsize=1024)  # it is checked, compared with others, built: one after another
def _parsed(text: str) -> SecretRef | None:
    if len(text) > REFERENCE_LIMIT or not text.isascii():
        return None
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    mount, separator, path, field, version = match.groups()
    if separator == "//" and "/" not in mount:
        return None  # one path must have one spelling, else a list of paths misses it
    whole = f"{mount}/{path}"
    if separator == "/":
        # One slash: the mount is the first segment, whatever the pattern took for it.
        mount, _, path = whole.partition("/")
    if ".." in whole or "./" in whole or whole.endswith("."):
        return None
    return SecretRef(SecretPath(mount, path), field, int(version) if version else None)


class FrozenRef(Struct, frozen=True, order=True):
    """
    A reference whose version a plan has fixed.

    `created` (RFC 3339, Vault's clock) belongs to the identity: removing a secret's metadata and
    writing again starts over at version 1.
    """

    at: Inline[SecretPath]
    version: int
    created: str
    field: str | None = None

    def __str__(self) -> str:
        return str(SecretRef(self.at, self.field, self.version))
