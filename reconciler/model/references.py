"""References to secrets: `vault:MOUNT/PATH#FIELD@VERSION`, and frozen to one version."""

import re
from dataclasses import dataclass
from typing import Final, Self

from reconciler.model.codec import Inline

_SEGMENT: Final = r"[A-Za-z0-9_][A-Za-z0-9_.\-]*"
_REFERENCE: Final = re.compile(
    rf"vault:(?P<mount>{_SEGMENT}(?:/{_SEGMENT})*?)(?P<sep>//|/)(?P<path>{_SEGMENT}(?:/{_SEGMENT})*)"
    rf"(?:\#(?P<field>{_SEGMENT}))?(?:@(?P<version>[1-9][0-9]{{0,8}}))?"
)
REFERENCE_LIMIT: Final = 512


@dataclass(frozen=True, slots=True, order=True)
class SecretPath:
    mount: str
    path: str

    def __str__(self) -> str:
        separator = "//" if "/" in self.mount else "/"
        return f"vault:{self.mount}{separator}{self.path}"


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """
    A whole secret (`field` is None) or one field of it, newest (`version` is None) or pinned.

    Written `vault:MOUNT/PATH#FIELD@VERSION`; the mount is the first segment, or, if it has several,
    everything before `//`.  The grammar is our own and strict, because the HTTP library underneath
    hvac collapses `..` and would read foreign secrets.
    """

    at: SecretPath
    field: str | None = None
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a reference; None when *text* is not one."""
        if len(text) > REFERENCE_LIMIT or not text.isascii():
            return None
        match = _REFERENCE.fullmatch(text)
        if match is None:
            return None
        mount, path = match["mount"], match["path"]
        if match["sep"] == "//" and "/" not in mount:
            return None  # one path must have one spelling, else a list of paths misses it
        if match["sep"] == "/":
            # One slash: the mount is the first segment, whatever the pattern took for it.
            mount, _, path = f"{mount}/{path}".partition("/")
        segments = (*mount.split("/"), *path.split("/"))
        if any(segment.endswith(".") or ".." in segment for segment in segments):
            return None
        version = int(match["version"]) if match["version"] else None
        return cls(SecretPath(mount, path), match["field"], version)

    def __str__(self) -> str:
        name = f"#{self.field}" if self.field else ""
        pin = f"@{self.version}" if self.version else ""
        return f"{self.at}{name}{pin}"


@dataclass(frozen=True, slots=True, order=True)
class FrozenRef:
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
