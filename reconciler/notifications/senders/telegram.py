"""
Plain text from a bot of Telegram into one chat: core.telegram.org/bots/api#sendmessage.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from reconciler.documents.tree import Node
from reconciler.model.secret import Secret
from reconciler.notifications.queue import Delivery
from reconciler.notifications.senders import (
    Document,
    Endpoint,
    Sender,
    chat_text,
    secret_line,
    unusable,
)
from reconciler.settings.notifications import Fault, NotificationSettings, url_faults

API_URL: Final = "https://api.telegram.org"
LIMIT: Final = 4096  # UTF-16 units
_BOT_TOKEN: Final = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{20,100}")


class Telegram(Sender):
    needs = {  # noqa: RUF012
        "tokenFile": "it holds the bot's token",
        "chatId": 'for example "-1001234567890"',
    }
    takes = ("apiUrl",)
    tells_pause = True

    def faults(self, item: Node) -> Iterator[Fault]:
        yield from url_faults(item, "apiUrl")

    def open(self, settings: NotificationSettings) -> Endpoint:
        token = secret_line(settings, "tokenFile")
        if not _BOT_TOKEN.fullmatch(token):
            raise unusable(settings, "tokenFile", "does not hold a bot's token")
        url = settings.own.get("apiUrl", API_URL).rstrip("/")
        return Endpoint(settings, Secret(f"{url}/bot{token}/sendMessage"), (Secret(token),))

    def document(self, delivery: Delivery, label: str, endpoint: Endpoint) -> Document:
        """Return plain text, because no `parse_mode` is named."""
        return {
            "chat_id": endpoint.settings.own["chatId"],
            "text": chat_text(delivery, label, LIMIT),
            "link_preview_options": {"is_disabled": True},
        }

    def pause(self, body: bytes) -> object:
        """Read Telegram's own word for it: core.telegram.org/bots/api#responseparameters."""
        try:
            found: object = json.loads(body)["parameters"]["retry_after"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return found


SENDER: Final = Telegram()
