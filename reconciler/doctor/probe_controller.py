"""What `jtr doctor` finds out about a controller: whether it lives, acts, and holds connections."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any, Final

from reconciler.doctor.findings import Finding, first, of_error, ok, skipped
from reconciler.drivers.connection.failures import explained
from reconciler.errors import JtrError
from reconciler.model.target import Target, normalised
from reconciler.settings.model import Settings
from reconciler.system.http import aiohttp

_MOST: Final = 32 * 2**20  # bytes of a status page
_OK: Final = 200
_UNAUTHORIZED: Final = (401, 403)

Held = dict[Target, str]  # the servers that a controller is connected to, and its address


async def look_at_controller(settings: Settings) -> tuple[list[Finding], Held]:
    held: Held = {}
    if settings.controller.url is None:
        found = [skipped("controller.reachable", "the settings name none (controller.url)")]
    else:
        url = settings.controller.url.rstrip("/")
        try:
            status, held = await _asked(url, settings)
            found = [ok("controller.reachable", f"{url} is alive"), status]
        except JtrError as error:
            found = [of_error("controller.reachable", error)]
    role = f"this host's role is {settings.role}" if settings.role else "no role is set here"
    return [*found, ok("controller.role", role)], held


async def _asked(url: str, settings: Settings) -> tuple[Finding, Held]:
    """Return what its status page says.  Raises JtrError for a controller that is not alive."""
    remedy = "check controller.url, and that it runs"
    ca_file = settings.controller.ca_file
    try:
        trust = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError):
        raise JtrError(f"the CA file {ca_file} cannot be used", remedy) from None
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
                    raise JtrError(why, remedy)
            return await _status(http, url, settings.controller.token_file)
    except (aiohttp.ClientConnectionError, OSError) as error:
        raise JtrError(explained(url, error).what, remedy) from None
    except (aiohttp.ClientError, ValueError):
        raise JtrError(f"what answers at {url} is no controller", remedy) from None


async def _status(
    http: aiohttp.ClientSession, url: str, token_file: str | None
) -> tuple[Finding, Held]:
    try:
        page = await _page(http, url, token_file)
    except JtrError as error:
        return of_error("controller.status", error), {}
    controller = page.get("controller")
    told = controller if isinstance(controller, dict) else {}
    words = [told.get(key) for key in ("waiting", "rival", "documents", "secrets", "ledger")]
    waits = "; ".join(text for text in words if isinstance(text, str) and text)
    acting = told.get("acting") is True
    acts = "it acts" if acting else "it does not act"
    complaint = f"{acts}: {waits}" if waits else acts
    status = first("controller.status", acts, (waits or not acting, complaint, "see: jtr status"))
    servers = page.get("servers")
    return status, {
        Target(normalised(str(row["url"])), str(row.get("account"))): url
        for row in (servers if isinstance(servers, list) else [])
        if isinstance(row, dict) and row.get("connected") is True and row.get("url")
    }


async def _page(http: aiohttp.ClientSession, url: str, token_file: str | None) -> dict[str, Any]:
    """Return the status page.  Raises JtrError for one that is not for us, or that is none."""
    try:
        token = await asyncio.to_thread(_token, token_file) if token_file is not None else ""
    except (OSError, ValueError):
        raise JtrError(
            "its status was not asked for: the token cannot be read",
            f"check {token_file}, its rights, and that it holds one token",
        ) from None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.get(f"{url}/v1/status", headers=headers, allow_redirects=False) as answer:
        if answer.status in _UNAUTHORIZED:
            raise JtrError(
                "it does not accept the token",
                "controller.tokenFile holds the token that the controller was given",
            )
        content = bytearray()
        if answer.status == _OK:
            async for chunk in answer.content.iter_any():
                content += chunk
                if len(content) > _MOST:
                    content.clear()
                    break
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not found or not isinstance(found, dict):
        raise JtrError(
            f"its status page cannot be understood ({answer.status})",
            "check that controller.url is a jtr controller of this version",
        )
    return found


def _token(path: str) -> str:
    """Return the token in a file.  Raises OSError, and ValueError for what is no token."""
    text = Path(path).read_text("ascii").strip()
    if not text.isprintable() or " " in text:
        raise ValueError
    return text
