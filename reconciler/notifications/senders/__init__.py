"""
The ways to people: one file here for each kind of receiver, found by its name.

A file says all that is to be said of its kind: which keys of the settings it needs and how they are
checked, what it posts, how that is signed, and how its receiver asks for a pause.  The URL of a
chat hook is a secret, and libraries put URLs into their errors: so no text of theirs is ever logged
or raised, only our own words.
"""

import importlib
import pkgutil
import re
import ssl
from collections.abc import Collection, Iterator
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from reconciler.documents.tree import Node
from reconciler.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.model.target import is_plain
from reconciler.model.values import replace
from reconciler.notifications.queue import Delivery
from reconciler.settings.notifications import Fault, NotificationSettings, OwnKeys
from reconciler.system import files
from reconciler.system.network import loopback

LONG: Final = 16  # characters that a key has at least, and a part of a path that may be a token
_PRINTABLE: Final = re.compile(r"[!-~]{8,2000}")


Document = dict[str, Any]


class Endpoint(Struct, frozen=True):
    """One receiver with its secrets: where to post, and the key to sign with."""

    settings: NotificationSettings
    url: Secret
    held: tuple[Secret, ...] = ()  # parts of the URL that redaction has to know by themselves
    key: Secret | None = None
    context: ssl.SSLContext | None = None


class Sender(OwnKeys, Protocol):
    """
    One kind of receiver; the name of its file is the kind, and the file ends with `SENDER`.

    Nothing here speaks to a network.  No text that is raised repeats what stands in a file.
    """

    takes: Collection[str] = ()
    tells_pause: bool = False  # whether the body of an answer 429 may say how long to wait

    def faults(self, item: Node) -> Iterator[Fault]:  # noqa: ARG002  - the protocol's default
        yield from ()

    def open(self, settings: NotificationSettings) -> Endpoint:
        """Read the secrets.  Blocking.  Raises UsageError."""
        ...

    def document(self, delivery: Delivery, label: str, endpoint: Endpoint) -> Document:
        """Return what is posted as JSON: texts of any length, with signs of any kind in them."""
        ...

    def headers(self, endpoint: Endpoint, now: float, body: bytes) -> dict[str, str]:  # noqa: ARG002
        """Return the headers of this kind, such as a signature."""
        return {}

    def pause(self, body: bytes) -> object:  # noqa: ARG002
        """Return the seconds to wait that the beginning of an answer tells, if it does."""
        return None


def kinds() -> list[str]:
    """Return every kind, without importing any."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def sender(kind: str) -> Sender:
    """Return the sender of a kind; only now its file is imported."""
    found: Sender = importlib.import_module(f"{__name__}.{kind}").SENDER
    return found


def open_endpoint(settings: NotificationSettings) -> Endpoint:
    """Read what one target needs.  Blocking.  Raises UsageError, which never quotes a file."""
    endpoint = sender(settings.kind).open(settings)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError):  # SSLError is an OSError
        raise UsageError(
            f"notifications: {settings.name}: the CA file {settings.ca_file} cannot be used",
            "caFile names a readable PEM file",
        ) from None
    return replace(endpoint, context=context)


# ── what several senders need ────────────────────────────────────────────────────────────────


def secret_line(settings: NotificationSettings, key: str) -> str:
    what = f"notifications: {settings.name}: {key}"
    line = files.secret_line(settings.own[key], what, UsageError)
    if line is None:
        raise unusable(settings, key, "is not a file with one line of ASCII text")
    return line


def unusable(settings: NotificationSettings, key: str, why: str) -> UsageError:
    """Return the error to raise about what stands in the file that *key* names."""
    return UsageError(f"notifications: {settings.name}: {key} {why}", f"check {settings.own[key]}")


def open_hook(settings: NotificationSettings) -> Endpoint:
    """Return the endpoint whose whole URL is a secret, in the file `urlFile`."""
    url = secret_line(settings, "urlFile")
    if wrong := _hook_fault(url):
        raise unusable(settings, "urlFile", wrong)
    parts = urlsplit(url)
    longer = [piece for piece in parts.path.split("/") if len(piece) >= LONG]
    revealing = [part for part in (parts.path, parts.query, *longer) if len(part) > 1]
    return Endpoint(settings, Secret(url), tuple(map(Secret, revealing)))


def _hook_fault(url: str) -> str:
    """Say what is wrong with a hook's URL without repeating any of it; empty when nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "does not hold a URL"
    if not _PRINTABLE.fullmatch(url) or parts.scheme not in ("https", "http") or not host:
        return "does not hold a URL"
    if "@" in parts.netloc or "#" in url or port == 0 or not is_plain(url):
        return "holds a URL with a user, a fragment or no port"
    if parts.scheme == "http" and not loopback(host):
        return "holds an http:// URL, which would carry what people are told in clear"
    return ""


def chat_text(delivery: Delivery, label: str, most: int) -> str:
    """Return what people read in a chat, in at most so many UTF-16 units: never half of a pair."""
    owner = f" (owner: {delivery.owner})" if delivery.owner else ""
    text = f"[{label}] {delivery.severity}{owner}: {delivery.text}"
    data = text.encode("utf-16-le", "replace")
    if len(data) <= 2 * most:
        return text
    return data[: 2 * (most - 1)].decode("utf-16-le", "ignore") + "…"
