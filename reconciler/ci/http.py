"""
HTTP towards a forge's API: one address, one token, short answers, no redirect, no proxy.
"""

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from reconciler.errors import JtrError
from reconciler.model.secret import Secret
from reconciler.system.http import aiohttp

if TYPE_CHECKING:
    from yarl import URL

DEADLINE: Final = 20.0  # seconds for one request
ANSWER_LIMIT: Final = 16 * 1024 * 1024  # bytes; a hundred comments of full length
_GOOD: Final = range(200, 300)
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")


class ForgeAway(JtrError):
    """The forge could not be told.  What became of servers does not depend on it."""


class Api:
    """Made and used on the event loop, with `async with`."""

    def __init__(
        self, address: str, token: Secret, header: str, *, deadline: float = DEADLINE
    ) -> None:
        """*header* is the one that carries the token: `Authorization` or `PRIVATE-TOKEN`."""
        self._address: Final = address
        self._token: Final = token
        self._header: Final = header
        self._deadline: Final = deadline

    async def __aenter__(self) -> Self:
        trust = await asyncio.to_thread(ssl.create_default_context)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={
                "User-Agent": "jt-reconciler",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def get(self, path: str, **query: str) -> Any:
        return await self._ask("GET", path, None, query)

    async def send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Send once: who is not answered tells nobody twice."""
        return await self._ask(method, path, body, {})

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str]
    ) -> Any:
        url = self._prepared(path)
        prefix = "Bearer " if self._header == "Authorization" else ""
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._session.request(
                    method,
                    url,
                    params=dict(query),
                    json=body,
                    headers={self._header: f"{prefix}{self._token.reveal()}"},
                    allow_redirects=False,
                ) as response,
            ):
                if response.status not in _GOOD:
                    raise Refused(response.status)
                return json.loads(await _limited(response) or b"null")
        except TimeoutError:
            raise ForgeAway(f"the forge's API did not answer within {self._deadline:g} s") from None
        except (aiohttp.ClientSSLError, ssl.SSLError):
            raise ForgeAway("the certificate of the forge's API is not accepted") from None
        except (aiohttp.ClientError, OSError) as error:
            # The class alone: the texts of these errors hold what was sent.
            raise ForgeAway(f"the forge's API fails ({type(error).__name__})") from None
        except (ValueError, RecursionError):
            raise ForgeAway("the forge's API answers with something else") from None

    def _prepared(self, path: str) -> "URL":
        from yarl import URL  # noqa: PLC0415  - slow to import

        home = URL(self._address).raw_path.rstrip("/")
        # A library that collapses `..` would do something else with our token (tried out).
        if _PATH.fullmatch(path) and (url := URL(f"{self._address}{path}")).raw_path == home + path:
            return url
        raise ForgeAway("refused to ask the forge: the request would go to another path")


class Refused(ForgeAway):
    """An answer that is no yes."""

    def __init__(self, status: int) -> None:
        remedy = "check what the job's token may" if status in (401, 403, 404) else ""
        super().__init__(f"the forge's API answered {status}", remedy)
        self.status: Final = status


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    data = b""
    while piece := await response.content.read(65536):
        data += piece
        if len(data) > ANSWER_LIMIT:
            raise ForgeAway("the forge's API answers with more than anybody asked for")
    return data
