"""
Plain text for an incoming webhook of Slack, or of a chat that understands the same.
"""

import re
from collections.abc import Iterator
from typing import Final

from reconciler.documents.tree import Node, at
from reconciler.notifications.queue import Delivery
from reconciler.notifications.senders import Document, Endpoint, Sender, chat_text, open_hook
from reconciler.settings.notifications import Fault, NotificationSettings

LIMIT: Final = 3000  # UTF-16 units before escaping; Slack cuts at 40,000 characters


class Slack(Sender):
    needs = {"urlFile": "the hook's URL is a secret, so it lies in a file"}  # noqa: RUF012
    takes = ("url",)  # only to be refused in words of its own

    def faults(self, item: Node) -> Iterator[Fault]:
        if (url := at(item, "url")) is not None:
            yield url, "a hook's URL is a secret", "write it into a file, name that in urlFile"

    def open(self, settings: NotificationSettings) -> Endpoint:
        return open_hook(settings)

    def document(self, delivery: Delivery, label: str, endpoint: Endpoint) -> Document:
        """Return plain text that mentions and links nobody."""
        del endpoint
        text = chat_text(delivery, label, LIMIT)
        for sign, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(sign, escape)
        # Slack needs a `<!channel>` to call everybody, which is escaped; others take a bare @all,
        # and Markdown's links and pictures.  What follows the zero-width space stays readable.
        text = re.sub(r"@(?=\w)", "@\u200b", text).replace("](", "] (")
        return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


SENDER: Final = Slack()
