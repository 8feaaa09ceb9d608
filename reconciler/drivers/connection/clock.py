"""
A server's clock, from the `Date` of its web page: no login, no socket that stays.

Whoever writes down a time of the server's log beside one of ours must know how far the two clocks
are apart.  `Date` has whole seconds and is cut, so the true time is half a second later on average.
"""

import asyncio
import contextlib
import time
from email.utils import parsedate_to_datetime
from typing import Final

from reconciler.drivers import Trust
from reconciler.drivers.connection.failures import Redirected
from reconciler.drivers.connection.transport import Made, new_http, tls_context
from reconciler.errors import TlsRefused
from reconciler.model.observed import ClockReading
from reconciler.system.http import aiohttp
from reconciler.system.timeouts import Timeouts

_HALF: Final = 0.5  # seconds; what `Date` leaves out, on average and at most on either side


async def read_clock(
    url: str, *, trust: Trust, agent: str, timeouts: Timeouts
) -> ClockReading | None:
    """Return how far the clock of the server at *url* is ahead; None when that cannot be told."""
    made = Made()
    http: aiohttp.ClientSession | None = None
    try:
        async with asyncio.timeout(timeouts.connect):
            secure = url.startswith("https:")
            context = await asyncio.to_thread(tls_context, trust) if secure else None
            http = new_http(made, context, patience=timeouts.connect)
            return await _ask(http, url, agent)
    except (aiohttp.ClientError, Redirected, TlsRefused, OSError, ValueError, OverflowError):
        return None  # TimeoutError is an OSError
    finally:
        made.cut()
        if http is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeouts.close):
                    await http.close()


async def _ask(http: aiohttp.ClientSession, url: str, agent: str) -> ClockReading | None:
    asked, began = time.time(), time.monotonic()
    async with http.get(
        f"{url.rstrip('/')}/", headers={"User-Agent": agent}, allow_redirects=False
    ) as response:
        trip = time.monotonic() - began
        date = response.headers.get("Date")
        response.close()  # the page itself does not matter
    if date is None or response.status != 200:  # noqa: PLR2004  - what the web page has
        return None
    told = parsedate_to_datetime(date).timestamp()
    return ClockReading(ahead=told + _HALF - (asked + trip / 2), uncertainty=_HALF + trip / 2)
