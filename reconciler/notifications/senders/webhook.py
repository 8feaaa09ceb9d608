"""
Signed JSON for machines, at a URL that is no secret, or in a file when it is one.
"""

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from reconciler.documents.tree import Node, at
from reconciler.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.notifications.deduplicate import Message
from reconciler.notifications.queue import Delivery
from reconciler.notifications.senders import (
    LONG,
    Document,
    Endpoint,
    Sender,
    open_hook,
    secret_line,
)
from reconciler.settings.notifications import Fault, NotificationSettings, url_faults

FORMAT: Final = 1


class Webhook(Sender):
    needs = {"secretFile": "it holds the key that every message is signed with"}  # noqa: RUF012
    takes = ("url", "urlFile")

    def faults(self, item: Node) -> Iterator[Fault]:
        if (at(item, "url") is None) is (at(item, "urlFile") is None):
            yield item, "webhook needs either url or urlFile", "write one of them"
        yield from url_faults(item, "url")

    def open(self, settings: NotificationSettings) -> Endpoint:
        endpoint = (
            open_hook(settings)
            if "urlFile" in settings.own
            else Endpoint(settings, Secret(settings.own["url"]))
        )
        key = secret_line(settings, "secretFile")
        if len(key) < LONG:
            raise UsageError(
                f"notifications: {settings.name}: the key in secretFile is too short",
                f"write at least {LONG} random characters into {settings.own['secretFile']}",
            )
        return Endpoint(settings, endpoint.url, endpoint.held, Secret(key))

    def document(self, delivery: Delivery, label: str, endpoint: Endpoint) -> Document:
        del endpoint
        document: Document = {"formatVersion": FORMAT, "id": delivery.id, "controller": label}
        if len(delivery.messages) == 1:
            (message,) = delivery.messages
            facts = _facts(message, delivery) | {"text": delivery.text}
            return document | facts | {"lost": delivery.lost}
        return document | {
            "topic": "digest",
            "subject": "",
            "state": "digest",
            "severity": delivery.severity,
            "text": delivery.text,
            "owner": delivery.owner,
            "at": _moment(delivery.at),
            "reminder": False,
            "lost": delivery.lost,
            "items": [{"id": one.id} | _facts(one, delivery) for one in delivery.messages],
        }

    def headers(self, endpoint: Endpoint, now: float, body: bytes) -> dict[str, str]:
        """Return what a receiver compares with its own: HMAC-SHA256 of `TIMESTAMP.BODY`."""
        if endpoint.key is None:
            raise AssertionError
        timestamp = str(int(now))
        key, signed = endpoint.key.reveal().encode(), timestamp.encode() + b"." + body
        signature = hmac.new(key, signed, hashlib.sha256).hexdigest()
        return {"X-JTR-Timestamp": timestamp, "X-JTR-Signature": f"v1={signature}"}


def _facts(message: Message, delivery: Delivery) -> Document:
    names = ("topic", "subject", "state", "severity", "text", "owner", "reminder")
    return {name: getattr(message, name) for name in names} | {
        "at": _moment(message.at),
        "since": _moment(message.since),
        "what": message.text,
        "meaning": message.guide.meaning,
        "remedy": message.remedy,
        "link": delivery.link(message),
    }


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


SENDER: Final = Webhook()
