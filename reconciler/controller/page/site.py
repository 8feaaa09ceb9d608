"""
Serves the page over HTTP: where it listens, who is let in, and which answer belongs to what.

A listener of its own, so that no crowd of viewers takes the place of a health check.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Final

from aiohttp import web

from reconciler.controller.api.listener import Listener, heard
from reconciler.controller.api.server import checked_address
from reconciler.controller.page import lists
from reconciler.controller.page.access import ASKING, COOKIE, LASTS, Access, Visitor
from reconciler.controller.page.answers import (
    HEADERS,
    html,
    inside,
    query,
    refused,
    said,
    text,
    to,
    too_many,
)
from reconciler.controller.page.fleet import Fleet
from reconciler.controller.page.live import PERIOD, PULSE, Full, Hub
from reconciler.controller.page.pages import Pages, failed, for_programs
from reconciler.controller.page.sources import Source
from reconciler.controller.page.templating import page
from reconciler.errors import JtrError

LOG: Final = logging.getLogger("reconciler.controller.page")
PATIENCE: Final = 60.0  # seconds that any answer but a live one may take
CONNECTIONS: Final = 384  # at once: 256 that look, and room for who asks
BODY: Final = 16 * 1024  # bytes of a form
STATIC: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """The page of one source.  `start` and `stop` it on the event loop that writes its status."""

    def __init__(
        self,
        source: Source,
        access: Access,
        *,
        listen: str,
        period: float = PERIOD,
        pulse: float = PULSE,
    ) -> None:
        """
        Raise UsageError for an address that is none, or that needs a login.

        *period* and *pulse* are seconds: between two looks, and between two signs of life.
        """
        self.host, self.port = checked_address(listen)
        access.listens_on(self.host)
        self._source: Final = source
        self._access: Final = access
        self._pulse: Final = pulse
        self.fleet: Final = Fleet(source.store.servers)
        self.hub: Final = Hub(self._look, self._told, period=period)
        self._pages: Final = Pages(source, access, self.fleet, self.hub)
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None
        self.url = ""

    # ── listening ────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen; `port` and `url` are the real ones afterwards.  Raises UsageError."""
        tls = self._access.tls()
        app = web.Application(middlewares=[self._guarded], client_max_size=BODY)
        pages = self._pages
        for path, answer in (
            ("/", pages.fleet),
            ("/servers/{name}", pages.server),
            ("/servers/{name}/log", pages.log),
            ("/servers/{name}/do/{what}", pages.ask),
            ("/requests", pages.requests),
            ("/history", pages.history),
            ("/history.csv", pages.history_csv),
            ("/history.json", pages.history_json),
            ("/windows", pages.windows),
            ("/audit", pages.audit),
            ("/controller", pages.controller),
            ("/events", self._events),
            ("/login", self._login),
            ("/static/{name}", self._static),
        ):
            app.router.add_get(path, answer, allow_head=False)
        app.router.add_post("/login", self._logged_in)
        app.router.add_post("/logout", self._logged_out)
        app.router.add_post("/servers/{name}/do/{what}", pages.act)
        self._listener = Listener(app, patience=PATIENCE, most=CONNECTIONS, refused=refused)
        name = "controller.page.listen"
        self.port = await self._listener.start(self.host, self.port, name, tls)
        self.url = self._listener.url
        self._task = asyncio.create_task(self._follow(), name="page")
        LOG.info("the page listens", extra={"fields": {"url": self.url}})

    async def stop(self) -> None:
        """Stop listening, and let go of everybody.  Calling twice is allowed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.hub.let_go()
        if self._listener is not None:
            await self._listener.stop()

    async def _follow(self) -> None:
        while True:
            try:
                await self.hub.run()
            except Exception as error:
                LOG.exception("the page could not be kept up to date: %s", type(error).__name__)
            await asyncio.sleep(self._pulse)

    async def _look(self) -> None:
        await self._pages.look()

    def _told(self) -> Mapping[str, object]:
        clock = asyncio.get_running_loop().time()
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {"at": at, "trouble": lists.old(self._source.store, clock)}

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._pages.events(request, self._pulse)

    # ── who may ask what ─────────────────────────────────────────────────────────────────────

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        heard(request)
        response = await self._answered(request, handler)
        if not response.prepared:
            response.headers.update(HEADERS)
            response.force_close()
        return response

    async def _answered(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        if not self._access.named(request):
            return said(HTTPStatus.MISDIRECTED_REQUEST, "this name does not lead here")
        if request.method not in ("GET", "POST"):
            what = "this page is read with GET"
            return said(HTTPStatus.METHOD_NOT_ALLOWED, what, Allow="GET, POST")
        if request.method == "POST" and not self._access.ours(request):
            return said(HTTPStatus.FORBIDDEN, "this was not asked from a page of ours")
        visitor = self._access.visitor(request)
        ASKING.set(visitor or Visitor())
        if visitor is None and not _open_to_all(request.path):
            return self._stranger(request)
        try:
            return await answer(request)
        except web.HTTPForbidden:
            words = "This is for operators: log in with their token."
            return failed(request, HTTPStatus.FORBIDDEN, "Not for you", words)
        except web.HTTPException as error:
            status = HTTPStatus(error.status)
            return failed(request, status, status.phrase, "There is no such page here.")
        except Full:
            words = "As many look at this already as there may be; try again later."
            return failed(request, HTTPStatus.SERVICE_UNAVAILABLE, "Not now", words)
        except JtrError as error:
            words = f"{error.what}; {error.remedy}"
            return failed(request, HTTPStatus.SERVICE_UNAVAILABLE, "Not now", words)
        except Exception as error:
            LOG.exception("a page failed: %s", type(error).__name__)
            words = "It is ours; the controller's log says where."
            return failed(request, HTTPStatus.INTERNAL_SERVER_ERROR, "A mistake", words)

    def _stranger(self, request: web.Request) -> web.Response:
        wait = self._access.bearers.wait(self._access.address(request))
        if wait and "Authorization" in request.headers:
            return too_many(wait)
        if not self._access.form or request.method != "GET" or for_programs(request.path):
            what = "nobody is let in without a login"
            return said(HTTPStatus.UNAUTHORIZED, what, WWW_Authenticate='Bearer realm="jtr"')
        back = request.path_qs
        return to("/login" if back == "/" else f"/login?{query(next=back)}")

    # ── logging in ───────────────────────────────────────────────────────────────────────────

    async def _login(self, request: web.Request) -> web.Response:
        return self._form(request.query.get("next", ""))

    def _form(self, back: str, wrong: str = "", status: HTTPStatus = HTTPStatus.OK) -> web.Response:
        if not self._access.form:
            raise web.HTTPNotFound
        return html(page("login", title="Log in - jtr", next=inside(back), wrong=wrong), status)

    async def _logged_in(self, request: web.Request) -> web.Response:
        wait = self._access.attempts.wait(self._access.address(request))
        if wait:
            return too_many(wait)
        given = await request.post()
        back = text(given, "next")
        made = self._access.log_in(request, text(given, "token"), text(given, "name"))
        if made is None:
            return self._form(back, "This token is none of ours.", HTTPStatus.FORBIDDEN)
        self.hub.look_who_may()  # what the browser had before ended
        response = to(inside(back) or "/")
        response.set_cookie(
            COOKIE,
            made,
            httponly=True,
            samesite="Strict",
            path="/",
            max_age=int(LASTS),
            secure=self._access.secure(request),
        )
        return response

    async def _logged_out(self, request: web.Request) -> web.Response:
        self._access.log_out(request)
        self.hub.look_who_may()
        response = to("/login" if self._access.form else "/")
        response.del_cookie(COOKIE, path="/")
        return response

    @staticmethod
    async def _static(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in STATIC:
            raise web.HTTPNotFound
        return web.Response(body=_file(name), content_type=STATIC[name], charset="utf-8")


def _open_to_all(path: str) -> bool:
    return path in ("/login", "/logout") or path.startswith("/static/")


@cache
def _file(name: str) -> bytes:
    return resources.files("reconciler.controller.page").joinpath("static", name).read_bytes()
