"""
The ways to people: signed JSON for machines, Slack-compatible hooks, Telegram.

One request is built from a delivery, sent, and judged: arrived, worth another try, or refused.  The
URL of a chat hook is a secret, and libraries put URLs into their errors: so no text of theirs is
ever logged or raised, only our own words.
"""

import asyncio
import hashlib
import hmac
import json
import os
import re
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from reconciler.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.notifications.deduplicate import Message
from reconciler.notifications.queue import Delivery
from reconciler.settings.notifications import Kind, NotificationSettings
from reconciler.system.network import loopback

FORMAT: Final = 1
ANSWER_LIMIT: Final = 16 * 1024  # bytes of an answer that are read at all
LONGEST_PAUSE: Final = 300.0  # seconds that a target may ask us to wait
SLACK_LIMIT: Final = 3000  # characters before escaping; Slack cuts at 40,000
TELEGRAM_LIMIT: Final = 4096  # UTF-16 units: core.telegram.org/bots/api#sendmessage
_FILE_LIMIT: Final = 16 * 1024
_SHORTEST_KEY: Final = 16
_BOT_TOKEN: Final = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{20,100}")
_PRINTABLE: Final = re.compile(r"[!-~]{8,2000}")
_SUCCESS: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_AGAIN: Final = {408, 425, 429, *range(500, 600)}
_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True)
class Target:
    """One receiver with its secrets: where to post, and the key to sign with."""

    settings: NotificationSettings
    url: Secret
    held: tuple[Secret, ...]  # parts of the URL that redaction has to know by themselves
    key: Secret | None = None
    context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What became of a request: empty `why` means that it arrived.

    `again` says whether another try may help, and `pause` how many seconds the target asked for.
    """

    why: str = ""
    again: bool = False
    pause: float = 0.0


# ── secrets and certificates, read once at start ─────────────────────────────────────────────


def open_target(settings: NotificationSettings) -> Target:
    """Read what one target needs.  Blocking.  Raises UsageError, which never quotes a file."""
    about = f"notifications: {settings.name}"
    held: list[Secret] = []
    key = None
    if settings.kind is Kind.TELEGRAM:
        token = _word(settings.token_file, f"{about}: tokenFile")
        if not _BOT_TOKEN.fullmatch(token):
            raise UsageError(
                f"{about}: tokenFile does not hold a bot's token", f"check {settings.token_file}"
            )
        held.append(Secret(token))
        url = f"{settings.api_url}/bot{token}/sendMessage"
    elif settings.url_file is not None:
        url = _word(settings.url_file, f"{about}: urlFile")
        if wrong := _hook_fault(url):
            raise UsageError(f"{about}: urlFile {wrong}", f"check {settings.url_file}")
    else:
        url = settings.url or ""
    if settings.kind is Kind.WEBHOOK:
        word = _word(settings.secret_file, f"{about}: secretFile")
        if len(word) < _SHORTEST_KEY:
            raise UsageError(
                f"{about}: the key in secretFile is too short",
                f"write at least {_SHORTEST_KEY} random characters into {settings.secret_file}",
            )
        key = Secret(word)
    if settings.url_file is not None:
        held += [Secret(part) for part in _telling_parts(url)]
    return Target(settings, Secret(url), tuple(held), key, _context(settings, about))


def _context(settings: NotificationSettings, about: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError):  # SSLError is an OSError
        raise UsageError(
            f"{about}: the CA file {settings.ca_file} cannot be used",
            "caFile names a readable PEM file",
        ) from None


def _word(path: str | None, what: str) -> str:
    """Return the one line of a small regular file."""
    try:
        # Non-blocking: a FIFO in its place must not hang us.
        handle = os.open(path or "", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "unknown reason"
        raise UsageError(f"{what} cannot be read: {why}", f"check {path} and its rights") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)  # opening a directory as a file would raise
        raise UsageError(f"{what} is not a regular file", f"check {path}")
    with os.fdopen(handle, "rb") as file:
        content = file.read(_FILE_LIMIT + 1)
    word = content.removesuffix(b"\n").removesuffix(b"\r")
    if len(content) > _FILE_LIMIT or not word.isascii() or b"\n" in word:
        raise UsageError(f"{what} is not a file with one line of ASCII text", f"check {path}")
    return word.decode("ascii")


def _hook_fault(url: str) -> str:
    """Say what is wrong with a hook's URL without repeating any of it; empty when nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "does not hold a URL"
    if not _PRINTABLE.fullmatch(url) or parts.scheme not in ("https", "http") or not host:
        return "does not hold a URL"
    if "@" in parts.netloc or "#" in url or port == 0:
        return "holds a URL with a user, a fragment or no port"
    if parts.scheme == "http" and not loopback(host):
        return "holds an http:// URL, which would carry what people are told in clear"
    return ""


def _telling_parts(url: str) -> list[str]:
    """Return what of a hook's URL gives it away by itself, however it is logged."""
    parts = urlsplit(url)
    longer = [piece for piece in parts.path.split("/") if len(piece) >= _SHORTEST_KEY]
    return [part for part in (parts.path, parts.query, *longer) if len(part) > 1]


# ── requests ─────────────────────────────────────────────────────────────────────────────────


def webhook_document(delivery: Delivery, label: str) -> dict[str, Any]:
    """Return the body of a webhook; a digest has its messages in `items`."""
    document: dict[str, Any] = {"formatVersion": FORMAT, "id": delivery.id, "controller": label}
    if len(delivery.messages) == 1:
        return (
            document | _facts(delivery.messages[0]) | {"text": delivery.text, "lost": delivery.lost}
        )
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
        "items": [{"id": message.id} | _facts(message) for message in delivery.messages],
    }


def _facts(message: Message) -> dict[str, Any]:
    names = ("topic", "subject", "state", "severity", "text", "owner", "reminder")
    return {name: getattr(message, name) for name in names} | {"at": _moment(message.at)}


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def signature(key: Secret, timestamp: str, body: bytes) -> str:
    """Return what a receiver compares with its own: HMAC-SHA256 of `TIMESTAMP.BODY`."""
    signed = timestamp.encode() + b"." + body
    return f"v1={hmac.new(key.reveal().encode(), signed, hashlib.sha256).hexdigest()}"


def chat_text(delivery: Delivery, label: str) -> str:
    """Return what people read in a chat."""
    owner = f" (owner: {delivery.owner})" if delivery.owner else ""
    return f"[{label}] {delivery.severity}{owner}: {delivery.text}"


def slack_document(delivery: Delivery, label: str) -> dict[str, Any]:
    """Return the body of a Slack-compatible hook: plain text that mentions and links nobody."""
    text = _cut(chat_text(delivery, label), SLACK_LIMIT)
    for sign, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, escape)
    # Slack needs a `<!channel>` to call everybody, which is escaped; others take a bare @all, and
    # Markdown's links and pictures.  What follows the zero-width space stays readable.
    text = re.sub(r"@(?=\w)", "@\u200b", text).replace("](", "] (")
    return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def telegram_document(delivery: Delivery, label: str, chat: str) -> dict[str, Any]:
    """Return the body of `sendMessage`: plain text, because no `parse_mode` is named."""
    return {
        "chat_id": chat,
        "text": _cut(chat_text(delivery, label), TELEGRAM_LIMIT),
        "link_preview_options": {"is_disabled": True},
    }


def _cut(text: str, most: int) -> str:
    """Return at most so many UTF-16 units of *text*: never half of a pair."""
    data = text.encode("utf-16-le", "replace")
    if len(data) <= 2 * most:
        return text
    return data[: 2 * (most - 1)].decode("utf-16-le", "ignore") + "…"


# ── sending ──────────────────────────────────────────────────────────────────────────────────


class Sender:
    """One target's way out.  Made and used on the event loop; `close` it."""

    def __init__(self, target: Target, label: str, deadline: float) -> None:
        self._target = target
        self._label = label
        self._deadline = deadline
        # A connection a message: weeks may lie between two, and a stale one would cost a try.
        connector = aiohttp.TCPConnector(
            ssl=target.context or True, limit=1, force_close=True, use_dns_cache=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": "jt-reconciler", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Give back its connection."""
        await self._session.close()

    async def send(self, delivery: Delivery, now: float) -> Answer:
        """Send a delivery once.  Raises nothing but cancellation."""
        settings = self._target.settings
        headers = {"Content-Type": "application/json", "Idempotency-Key": delivery.id}
        match settings.kind:
            case Kind.WEBHOOK:
                document = webhook_document(delivery, self._label)
            case Kind.SLACK:
                document = slack_document(delivery, self._label)
            case Kind.TELEGRAM:
                document = telegram_document(delivery, self._label, settings.chat_id or "")
        body = json.dumps(document).encode()
        if self._target.key is not None:
            timestamp = str(int(now))
            headers["X-JTR-Timestamp"] = timestamp
            headers["X-JTR-Signature"] = signature(self._target.key, timestamp, body)
        try:
            async with asyncio.timeout(self._deadline):
                return await self._post(body, headers)
        except TimeoutError:
            return Answer(f"no answer within {self._deadline:g} s", again=True)
        except (aiohttp.ClientSSLError, ssl.SSLError):
            return Answer("its certificate is not accepted, or it speaks no TLS", again=True)
        except aiohttp.ClientConnectorError:
            return Answer("it cannot be reached", again=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The class alone: the texts of these errors hold the URL.
            return Answer(f"the request failed ({type(error).__name__})", again=True)

    async def _post(self, body: bytes, headers: dict[str, str]) -> Answer:
        url = self._target.url.reveal()
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False
        ) as response:
            status = response.status
            if status in _SUCCESS:
                return Answer()
            if status in _REDIRECT:
                return Answer(f"it answered {status}: redirects are not followed")
            if status not in _AGAIN:
                return Answer(f"it answered {status}")
            pause = _whole(response.headers.get("Retry-After"))
            if status == _TOO_MANY and not pause and self._target.settings.kind is Kind.TELEGRAM:
                pause = _retry_after(await _start_of(response))
            return Answer(f"it answered {status}", again=True, pause=min(pause, LONGEST_PAUSE))


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    data = b""
    while len(data) < ANSWER_LIMIT and (piece := await response.content.read(4096)):
        data += piece
    return data[:ANSWER_LIMIT]


def _retry_after(body: bytes) -> float:
    """Read Telegram's own word for it: core.telegram.org/bots/api#responseparameters."""
    try:
        found = json.loads(body)["parameters"]["retry_after"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0.0
    return _whole(str(found))


def _whole(text: str | None) -> float:
    return float(text) if text and re.fullmatch(r"[0-9]{1,6}", text) else 0.0
