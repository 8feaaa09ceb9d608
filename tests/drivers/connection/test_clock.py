"""The server's clock, from a page that may say anything."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from reconciler.drivers import Trust
from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.model.observed import ClockReading
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts
from reconciler.testing.drivers_rig import HASTY, NO_PATIENCE, QUICK
from tests.drivers.scripted import Authority, served, told

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def read(
    handler: Handler,
    *,
    timeouts: Timeouts = QUICK,
    path: str = "",
    authority: Authority | None = None,
    trust: Trust | None = None,
) -> ClockReading | None:
    """Return what is read from a server that answers everything with *handler*."""
    found: list[ClockReading | None] = []

    async def story() -> None:
        app = web.Application()
        app.router.add_route("*", "/{page:.*}", handler)
        context = authority.server_context() if authority else None
        async with served(app, context) as port:
            url = f"{'https' if authority else 'http'}://127.0.0.1:{port}{path}"
            driver = JtTraderDriver(command="plan", timeouts=timeouts)
            found.append(await driver.clock(Target(url, "0"), trust or Trust()))

    told(story)
    return found[0]


def dated(date: str, status: int = 200) -> Handler:
    """Return what answers with this `Date`."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Date": date})

    return handler


@pytest.mark.parametrize("ahead", [0, 86_400, -86_400, 3 * 365 * 86_400])
def test_how_far_the_clock_is_ahead(ahead: int) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Date": formatdate(time.time() + ahead, usegmt=True)})

    found = read(handler)
    assert found is not None
    assert abs(found.ahead - ahead) <= found.uncertainty
    assert 0.5 <= found.uncertainty < 1.5


@pytest.mark.parametrize(
    "date",
    ["", "now", "0", "Sun, 99 Nov 2026 00:00:00 GMT", "x" * 5000, "-1 Jan 0000 00:00:00 +9999"],
)
def test_a_date_that_is_none(date: str) -> None:
    assert read(dated(date)) is None


@pytest.mark.parametrize("status", [404, 500, 502])
def test_a_page_of_something_in_between(status: int) -> None:
    assert read(dated(formatdate(usegmt=True), status)) is None


def test_nothing_of_ours_is_shown_and_no_redirect_is_followed() -> None:
    seen: list[tuple[str, str, set[str]]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path_qs, {name.lower() for name in request.headers}))
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    assert read(handler, path="/behind/a/proxy") is None
    ((method, path, headers),) = seen
    assert (method, path) == ("GET", "/behind/a/proxy/")
    assert headers <= {"host", "user-agent", "accept", "accept-encoding", "connection"}


def test_a_page_that_never_comes_costs_no_more_than_a_connection() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(2 * NO_PATIENCE.connect)
        return web.Response(headers={"Date": formatdate(usegmt=True)})

    assert read(handler, timeouts=NO_PATIENCE) is None  # who waited would have the time


def test_through_tls_only_with_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    handler = dated(formatdate(usegmt=True))
    assert read(handler, authority=authority) is None
    assert read(handler, authority=authority, trust=Trust(ca_file="/nowhere.pem")) is None
    found = read(handler, authority=authority, trust=Trust(ca_file=str(authority.ca_file)))
    assert found is not None


def test_a_server_that_is_not_there() -> None:
    async def story() -> None:
        driver = JtTraderDriver(command="plan", timeouts=HASTY)
        for url in ("http://127.0.0.1:9", "http://no-such-host.invalid"):
            assert await driver.clock(Target(url, "0"), Trust()) is None

    told(story)
