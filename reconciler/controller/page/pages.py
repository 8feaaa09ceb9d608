"""
Each page by itself: what it reads, and what its template gets.
"""

import asyncio
import fnmatch
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from reconciler.controller.api.listener import lasts
from reconciler.controller.page import actions, export, lists
from reconciler.controller.page.access import ASKING, Access, Visitor
from reconciler.controller.page.answers import HEADERS, html, query, said, text
from reconciler.controller.page.fleet import Filter, Fleet
from reconciler.controller.page.live import Channel, Hub, next_event
from reconciler.controller.page.log import Excerpt, excerpt
from reconciler.controller.page.sources import SERVERS, Source
from reconciler.controller.page.templating import page
from reconciler.controller.page.views import Views
from reconciler.controller.status import ServerStatus
from reconciler.errors import JtrError
from reconciler.model.observed import LogEntry
from reconciler.render import logs as rendering

LOG: Final = logging.getLogger("reconciler.controller.page")
LOGS: Final = 4  # servers whose logs are read at once: each may be 64 MiB
LOG_AGE: Final = 4.0  # seconds for which one reading of a log serves everybody
DEEDS: Final = 200  # that a page of the history shows
WORD: Final = 100  # characters of a search


class Pages:
    """The pages of one source, each the answer to a request.  Event loop only."""

    def __init__(self, source: Source, access: Access, fleet: Fleet, hub: Hub) -> None:
        self._source: Final = source
        self._access: Final = access
        self._fleet: Final = fleet
        self._views: Final = Views(source, fleet)
        self._hub: Final = hub
        self._logs: Final[dict[str, tuple[float, asyncio.Future[Any]]]] = {}
        self._reading: Final = asyncio.Semaphore(LOGS)
        self._reader: Final = ThreadPoolExecutor(1, thread_name_prefix="jtr-log")

    async def look(self) -> None:
        """Take over what changed."""
        await self._source.refresh()
        await self._fleet.refresh()

    # ── the fleet, and one server ────────────────────────────────────────────────────────────

    async def fleet(self, request: web.Request) -> web.Response:
        wanted = Filter.of(request.query.items())
        channel = await self._hub.channel(wanted, partial(self._views.fleet, wanted))
        parts = {name: _made(text) for name, text in channel.parts.items()}
        rows = [(name, text) for name, text in parts.items() if name.startswith("row-")]
        return self._shown(
            "fleet",
            self._views.title(),
            here="/",
            live=(f"/events{wanted.query()}", channel.id),
            parts=parts,
            rows=rows,
            wanted=wanted,
            nothing_asked=Filter(),
            chips=lists.chips(wanted),
            columns=self._fleet.columns,
            more=self._fleet.more,
            exchanges=sorted(self._fleet.exchanges),
        )

    async def server(self, request: web.Request) -> web.Response:
        name = await self._known(request)
        channel = await self._server_channel(name, ASKING.get())
        return self._shown(
            "server",
            f"{name} - jtr",
            live=(f"/events?{query(server=name)}", channel.id),
            name=name,
            parts={part: _made(text) for part, text in channel.parts.items()},
        )

    async def _server_channel(self, name: str, visitor: Visitor) -> Channel:
        key = ("server", name, visitor.operator)
        view = partial(self._views.server, name, operator=visitor.operator)
        return await self._hub.channel(key, view)

    async def events(self, request: web.Request, patience: float) -> web.StreamResponse:
        """Tell what changes, for as long as somebody looks and takes it."""
        name = request.query.get("server")
        if name is None:
            wanted = Filter.of(request.query.items())
            channel = await self._hub.channel(wanted, partial(self._views.fleet, wanted))
        elif name in self._source.store.servers:
            channel = await self._server_channel(name, ASKING.get())
        else:
            raise web.HTTPNotFound
        known = request.headers.get("Last-Event-ID") or request.query.get("since", "")
        response = web.StreamResponse(headers={**HEADERS, "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        response.force_close()
        holds = partial(self._access.sessions.holds, ASKING.get())
        with self._hub.viewer(channel, holds) as viewer:
            missed = b"".join(channel.since(known))
            try:
                await response.prepare(request)
                lasts(request)
                await viewer.unless_left(response.write(b"retry: 2000\n\n" + missed))
                event = self._hub.sign_of_life()
                while not viewer.left.is_set() and viewer.may():
                    await viewer.unless_left(response.write(event))
                    event = await next_event(viewer, patience) or self._hub.sign_of_life()
            except ConnectionError:
                return response
        if request.transport is not None:
            request.transport.abort()  # it takes nothing: there is no use in waiting for that
        return response

    # ── a log ────────────────────────────────────────────────────────────────────────────────

    async def log(self, request: web.Request) -> web.Response:
        name = await self._known(request)
        level, words = request.query.get("level", "info"), request.query.get("q", "")[:WORD]
        level = level if level in rendering.LEVELS else "info"
        found, trouble = Excerpt(), ""
        try:
            entries = await self._entries(name) or ()
            work = partial(excerpt, entries, level, words)
            found = await asyncio.get_running_loop().run_in_executor(self._reader, work)
        except JtrError as error:
            trouble = _told(error)
        follow = request.query.get("follow") == "1"
        again = query(level=level, q=words, follow="1")
        return self._shown(
            "log",
            f"Log of {name} - jtr",
            live=("", ""),
            name=name,
            levels=rendering.LEVELS,
            level=level,
            text=words,
            follow=follow,
            again=f"/servers/{name}/log?{again}",
            trouble=trouble,
            found=found,
        )

    async def _entries(self, name: str) -> tuple[LogEntry, ...] | None:
        """Read a log once for all who ask within seconds: each reading costs the server."""
        clock = asyncio.get_running_loop().time()
        at, task = self._logs.get(name, (float("-inf"), None))
        if task is None or (task.done() and clock - at > LOG_AGE):
            for old in [n for n, (_, one) in self._logs.items() if one.done()]:
                del self._logs[old]
            task = asyncio.ensure_future(self._read(name))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._logs[name] = clock, task
        return await asyncio.shield(task)

    async def _read(self, name: str) -> tuple[LogEntry, ...] | None:
        async with self._reading:
            return await self._source.entries(name)

    # ── lists ────────────────────────────────────────────────────────────────────────────────

    async def requests(self, _: web.Request) -> web.Response:
        groups = await lists.requests(self._source.store)
        return self._list("requests", "Requests", groups=groups)

    async def history(self, request: web.Request) -> web.Response:
        words = request.query.get("server", "")[:WORD]
        try:
            (deeds, capped), trouble = await self._deeds(words), ""
        except JtrError as error:
            deeds, capped, trouble = [], 0, _told(error)
        return self._list(
            "history",
            "History",
            deeds=deeds[::-1][:DEEDS],
            total=len(deeds),
            text=words,
            capped=capped,
            trouble=trouble,
        )

    async def _deeds(self, pattern: str) -> tuple[lists.Deeds, int]:
        """Return what was done on servers, and on how many if there are more of them."""
        await self.look()
        known = sorted(self._source.store.servers)
        names = [one for one in known if fnmatch.fnmatchcase(one, pattern or "*")]
        found = await self._source.histories(names[:SERVERS])
        return found, SERVERS if len(names) > SERVERS else 0

    async def history_csv(self, request: web.Request) -> web.Response:
        found, _ = await self._deeds(request.query.get("server", "")[:WORD])
        response = web.Response(text=export.as_csv(found), content_type="text/csv")
        response.headers["Content-Disposition"] = 'attachment; filename="jtr-history.csv"'
        return response

    async def history_json(self, request: web.Request) -> web.Response:
        found, _ = await self._deeds(request.query.get("server", "")[:WORD])
        return web.json_response(export.as_json(found))

    async def windows(self, _: web.Request) -> web.Response:
        groups = await lists.windows(self._source.declared(), datetime.now(UTC))
        return self._list("windows", "Windows: the next seven days", groups=groups)

    async def audit(self, request: web.Request) -> web.Response:
        await self.look()
        show = request.query.getall("show", [])
        found = await lists.keys(self._source.store, show, request.query.get("page", "1"))
        return self._list("audit", "Audit of keys", **found)

    async def controller(self, _: web.Request) -> web.Response:
        await self.look()
        clock = asyncio.get_running_loop().time()
        found = lists.controller(self._source, clock, self._hub)
        return self._list("controller", "Controller", **found)

    def _list(self, kind: str, heading: str, **values: object) -> web.Response:
        given = {"trouble": "", "kind": kind, "heading": heading} | values
        return self._shown("list", f"{heading} - jtr", here=f"/{kind}", **given)

    # ── actions ──────────────────────────────────────────────────────────────────────────────

    async def ask(self, request: web.Request) -> web.Response:
        """Show what an action would do, and ask for what it needs."""
        what = self._allowed(request)
        return self._form(what, await self._known(request), "", {})

    async def act(self, request: web.Request) -> web.Response:
        """Do what was confirmed, or show what was prepared."""
        what = self._allowed(request)
        name = await self._known(request)
        posted = await request.post()
        given = {one.name: text(posted, one.name) for one in actions.FORMS[what].fields}
        visitor, status = ASKING.get(), self._source.store.servers[name]
        try:
            if what in actions.PREPARED:
                if text(posted, "at"):
                    sent = {one: text(posted, one) for one in actions.SENT} | given
                    return await self._proposed(what, status, sent, visitor)
                return await self._prepared(what, status, given)
            done = await actions.perform(self._source, what, status, given, visitor)
        except JtrError as error:
            return self._form(what, name, _told(error), given)
        fields = {"server": name, "what": what, "by": visitor.name or given.get("who", "")}
        LOG.info("an operator asked for something", extra={"fields": fields})
        heading = actions.FORMS[what].heading
        back = f"/servers/{name}"
        return html(page("said", title=f"{name} - jtr", heading=heading, text=done, back=back))

    def _allowed(self, request: web.Request) -> str:
        what: str = request.match_info["what"]
        if what not in actions.FORMS or not self._access.actions:
            raise web.HTTPNotFound
        if not ASKING.get().operator:
            raise web.HTTPForbidden
        return what

    def _form(self, what: str, name: str, wrong: str, given: Mapping[str, str]) -> web.Response:
        form = actions.FORMS[what]
        visitor = ASKING.get()
        # The server that is shown now; who goes on after a refusal was told of it.
        shown = str(actions.target_of(self._source.store.servers[name]))
        values = {"who": visitor.name} | dict(given) | {"target": shown}
        fields = [
            {
                "name": one.name,
                "label": one.label,
                "most": one.most,
                "options": one.options,
                "hidden": one.hidden,
                "value": values.get(one.name) or one.value,
            }
            for one in form.fields
            if not (one.name == "who" and visitor.proven)
        ]
        return self._action(what, name, button=form.button, what=what, fields=fields, wrong=wrong)

    async def _prepared(
        self, what: str, status: ServerStatus, given: Mapping[str, str]
    ) -> web.Response:
        name = status.server
        desired = self._views.desired(name)
        place = "" if desired is None else desired.source.file
        made = await actions.prepare(self._source, what, status, given, place)
        kinds = {"+": "plus", "-": "minus"}
        diff = [
            {"text": line, "kind": kinds.get(line[:1], "same")} for line in made.diff.splitlines()
        ]
        send = {**given, **made.send} if made.send else {}
        visitor = ASKING.get()
        who = "" if visitor.proven else visitor.name
        shown = {"diff": diff, "lines": made.lines, "send": send, "who": who}
        return self._action(what, name, what=what, proven=visitor.proven, wrong="", **shown)

    async def _proposed(
        self, what: str, status: ServerStatus, given: Mapping[str, str], visitor: Visitor
    ) -> web.Response:
        opened = await actions.open_pull(self._source, what, status, given, visitor)
        name = status.server
        by = visitor.name or given["who"]
        fields = {"server": name, "what": what, "by": by, "branch": opened.branch}
        LOG.info("an operator opened a pull request", extra={"fields": fields})
        heading, back = "It waits for its review", f"/servers/{name}"
        words = f"The branch {opened.branch} asks for it. Nothing happens before it is merged."
        title = f"{name} - jtr"
        return html(
            page("said", title=title, heading=heading, text=words, back=back, link=opened.page)
        )

    def _action(self, action: str, server: str, **values: object) -> web.Response:
        form = actions.FORMS[action]
        given = {"name": server, "heading": form.heading, "words": form.words} | values
        return self._shown("act", f"{form.heading}: {server} - jtr", **given)

    # ── below ────────────────────────────────────────────────────────────────────────────────

    def _shown(
        self,
        template: str,
        title: str,
        /,
        here: object = "",
        live: object = None,
        **values: object,
    ) -> web.Response:
        visitor = ASKING.get()
        given = {"here": here, "visitor": visitor, "now": f"{datetime.now(UTC):%H:%M:%S}Z"}
        if isinstance(live, tuple):
            given["live"] = {"path": live[0], "since": live[1]}
        may_log_in = self._access.form and not visitor.operator
        return html(page(template, title=title, may_log_in=may_log_in, **given, **values))

    async def _known(self, request: web.Request) -> str:
        name: str = request.match_info["name"]
        await self.look()
        if name not in self._source.store.servers:
            raise web.HTTPNotFound
        return name


def _made(text: str) -> Markup:
    return Markup(text)  # noqa: S704  - a template of ours made it


def _told(error: JtrError) -> str:
    return f"{error.what}; {error.remedy}" if error.remedy else error.what


def failed(request: web.Request, status: HTTPStatus, heading: str, words: str) -> web.Response:
    """Return what is said where there is no page: a line for programs, a page for people."""
    if for_programs(request.path):
        return said(status, words)
    shown = page("said", title=f"{heading} - jtr", heading=heading, text=words, back="/")
    return html(shown, status)


def for_programs(path: str) -> bool:
    return path == "/events" or path.endswith((".csv", ".json")) or path.startswith("/static/")
