"""
The way out to one target: post what its sender says, once, and judge the answer.
"""

import asyncio
import json
import re
import ssl
from typing import Final

from msgspec import Struct

from reconciler.notifications.queue import Delivery
from reconciler.notifications.senders import Endpoint, sender
from reconciler.system.http import aiohttp

ANSWER_LIMIT: Final = 16 * 1024  # bytes of an answer that are read at all
LONGEST_PAUSE: Final = 300.0  # seconds that a target may ask us to wait
_SUCCESS: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_AGAIN: Final = {408, 425, 429, *range(500, 600)}
_TOO_MANY: Final = 429


class Answer(Struct, frozen=True):
    """
    What became of a request: empty `why` means that it arrived.

    `again` says whether another try may help, and `pause` how many seconds the target asked for.
    """

    why: str = ""
    again: bool = False
    pause: float = 0.0


class Transport:
    """Made and used on the event loop; `close` it."""

    def __init__(self, endpoint: Endpoint, label: str, deadline: float) -> None:
        self._endpoint = endpoint  # keeps the parts of its URL known to redaction
        self._sender = sender(endpoint.settings.kind)
        self._label = label
        self._deadline = deadline
        # A connection a message: weeks may lie between two, and a stale one would cost a try.
        connector = aiohttp.TCPConnector(
            ssl=endpoint.context or True, limit=1, force_close=True, use_dns_cache=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": "jt-reconciler", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, delivery: Delivery, now: float) -> Answer:
        """Send a delivery once.  Raises nothing but cancellation."""
        document = self._sender.document(delivery, self._label, self._endpoint)
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": delivery.id}
        headers |= self._sender.headers(self._endpoint, now, body)
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
        url = self._endpoint.url.reveal()
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
            if status == _TOO_MANY and not pause and self._sender.tells_pause:
                pause = _whole(self._sender.pause(await _start_of(response)))
            return Answer(f"it answered {status}", again=True, pause=min(pause, LONGEST_PAUSE))


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    data = b""
    while len(data) < ANSWER_LIMIT and (piece := await response.content.read(4096)):
        data += piece
    return data[:ANSWER_LIMIT]


def _whole(found: object) -> float:
    return float(str(found)) if re.fullmatch(r"[0-9]{1,6}", str(found)) else 0.0
