"""What `jtr doctor` finds out about a controller: whether it lives, acts, and holds connections."""

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from reconciler.doctor.findings import ControllerFacts
from reconciler.drivers.connection.failures import explained
from reconciler.model.target import Target, normalised
from reconciler.settings.model import ControllerSettings, Settings

_MOST: Final = 32 * 2**20  # bytes of a status page
_OK: Final = 200
_UNAUTHORIZED: Final = (401, 403)


@dataclass(frozen=True, slots=True)
class ControllerLook:
    """What was found: `held` are the servers that it holds a connection to, by their target."""

    facts: ControllerFacts | None = None
    held: dict[Target, str] = field(default_factory=dict)


async def look_at_controller(settings: Settings) -> ControllerLook:
    """Ask the controller that the settings name."""
    named = settings.controller
    if named.url is None:
        return ControllerLook()
    url = named.url.rstrip("/")
    try:
        trust = ssl.create_default_context(cafile=named.ca_file) if named.ca_file else True
    except (OSError, ValueError):
        return ControllerLook(ControllerFacts(url, f"the CA file {named.ca_file} cannot be used"))
    try:
        async with (
            asyncio.timeout(settings.timeouts.request),
            aiohttp.ClientSession(
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(force_close=True, ssl=trust),
            ) as http,
        ):
            async with http.get(f"{url}/healthz", allow_redirects=False) as answer:
                if answer.status != _OK:
                    why = f"{url}/healthz answers {answer.status}: it is not alive"
                    return ControllerLook(ControllerFacts(url, why))
            return await _status(http, url, named)
    except (aiohttp.ClientConnectionError, OSError) as error:
        return ControllerLook(ControllerFacts(url, explained(url, error).what))
    except (aiohttp.ClientError, ValueError):
        return ControllerLook(ControllerFacts(url, f"what answers at {url} is no controller"))


async def _status(
    http: aiohttp.ClientSession, url: str, named: ControllerSettings
) -> ControllerLook:
    token = ""
    if named.token_file is not None:
        try:
            token = await asyncio.to_thread(_read, named.token_file)
        except (OSError, ValueError):
            return ControllerLook(
                ControllerFacts(
                    url,
                    status="its status was not asked for: the token cannot be read",
                    remedy=f"check {named.token_file}, its rights, and that it holds one token",
                )
            )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.get(f"{url}/v1/status", headers=headers, allow_redirects=False) as answer:
        if answer.status in _UNAUTHORIZED:
            return ControllerLook(
                ControllerFacts(
                    url,
                    status="it does not accept the token",
                    remedy="controller.tokenFile holds the token that the controller was given",
                )
            )
        content = await _whole(answer.content) if answer.status == _OK else b""
    found = _object(content)
    if not found:
        return ControllerLook(
            ControllerFacts(
                url,
                status=f"its status page cannot be understood ({answer.status})",
                remedy="check that controller.url is a jtr controller of this version",
            )
        )
    return ControllerLook(_facts(url, found), _held(url, found))


async def _whole(stream: aiohttp.StreamReader) -> bytes:
    """Return all of a page; of one that is too long nothing."""
    content = bytearray()
    async for chunk in stream.iter_any():
        content += chunk
        if len(content) > _MOST:
            return b""
    return bytes(content)


def _read(path: str) -> str:
    """Return the token in a file.  Raises OSError, and ValueError for what is no token."""
    text = Path(path).read_text("ascii").strip()
    if not text.isprintable() or " " in text:
        raise ValueError
    return text


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _facts(url: str, found: dict[str, Any]) -> ControllerFacts:
    controller = found.get("controller")
    told = controller if isinstance(controller, dict) else {}
    waits = [told.get(key) for key in ("waiting", "rival", "documents", "secrets", "ledger")]
    return ControllerFacts(
        url,
        acting=told.get("acting") is True,
        waits="; ".join(text for text in waits if isinstance(text, str) and text),
    )


def _held(url: str, found: dict[str, Any]) -> dict[Target, str]:
    servers = found.get("servers")
    rows = servers if isinstance(servers, list) else []
    return {
        Target(normalised(str(row["url"])), str(row.get("account"))): url
        for row in rows
        if isinstance(row, dict) and row.get("connected") is True and row.get("url")
    }
