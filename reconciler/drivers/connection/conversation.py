"""
One Socket.IO conversation: connect, be let in, ask one thing at a time, give up.

Knows JT-Trader's envelope (`message` with `event` and `payload`) and nothing of what is inside.
The dangers that shape it are in docs/protocol.md, 1, 2 and 4: a request that is sent too early or
twice can stop every robot of the server, so a conversation that failed in any way is over for good,
and there is no reconnecting in here.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import engineio.base_client
import socketio
import socketio.packet

from reconciler.drivers import Trust
from reconciler.drivers.connection.failures import (
    ended,
    explained,
    of_opening,
    of_request,
    refused_login,
    timed_out,
    unreachable,
)
from reconciler.drivers.connection.question import Ends, Question, first
from reconciler.drivers.connection.transport import (
    ENDED,
    EXCEPTION,
    MESSAGE,
    UNREADABLE,
    Made,
    Packet,
    new_client,
    new_http,
    tls_context,
)
from reconciler.drivers.jt_trader.requests import ONLY_ASKED, Request, refuse_payload
from reconciler.errors import (
    AnswerTooLong,
    ConnectionLost,
    DriverError,
    LoginSilent,
    ServerRefused,
    UnknownAnswer,
    WrongAccount,
)
from reconciler.system.timeouts import Timeouts

FRAME_LIMIT: Final = 1_000_000
"""Bytes; the server drops the connection at a longer frame."""

LONGEST_PATIENCE: Final = 120.0
"""
Seconds, those of a boot; a server that announces rarer pings is not believed.

We wait that long for it, with its turn in our hands.  JT-Trader announces 45 s.
"""

_T = TypeVar("_T")

_LOG: Final = logging.getLogger(__name__)  # never a payload: events and addresses only


class Conversation:
    """
    A connection on which the server has said that it accepts us, as the expected account.

    `ask` never has more than one request in flight.  After the first failure of any kind the
    connection is dropped and every later `ask` raises ConnectionLost without sending.
    """

    def __init__(
        self,
        *,
        url: str,
        account: str,
        may_send: frozenset[str],
        timeouts: Timeouts,
        message_limit: int,
        log: str = "",
    ) -> None:
        """Only the answer *log* may be as long as *message_limit*."""
        self._log: Final = log
        self._url: Final = url
        self._account: Final = account
        self._may_send: Final = may_send
        self._timeouts: Final = timeouts
        self._turn: Final = asyncio.Lock()
        # Created before connecting: `authenticated` may arrive before `connect` returns.
        loop = asyncio.get_running_loop()
        self._joined: Final[asyncio.Future[None]] = loop.create_future()
        self._admitted: Final[asyncio.Future[None]] = loop.create_future()
        self._question: Question | None = None
        self._failure: DriverError | None = None
        self._closing = False
        self._stray = False
        self._over: Final = asyncio.Event()
        self._patience = 0.0
        self._made: Final = Made()
        self._http: aiohttp.ClientSession | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._message_limit: Final = message_limit
        self._client: socketio.AsyncClient | None = None

    @property
    def account(self) -> str:
        """The account id that the server reported and that was expected."""
        return self._account

    @property
    def patience(self) -> float:
        """Seconds after which the server has dropped a peer that it no longer hears."""
        return self._patience

    async def open(self, login: Mapping[str, str], *, trust: Trust, agent: str) -> None:
        """
        Connect with *login* as the handshake and wait to be let in as the expected account.

        Raises ServerUnreachable, TlsRefused, LoginSilent, Unauthorized or WrongAccount; nothing
        stays open then.
        """
        try:
            await self._connect(login, trust, agent)
            if not 0 < self._patience <= LONGEST_PATIENCE:
                raise unreachable(self._url, "it announces pings that jtr does not believe in")  # noqa: TRY301  - dropped below
            await self._await_admission()
        except BaseException:
            await self._drop()
            raise

    async def ask(
        self,
        request: Request,
        read: Callable[[object], _T],
        payload: object = None,
        *,
        within: float | None = None,
        ends: Ends = first,
    ) -> _T:
        """
        Send *request* and return what *read* makes of the payload of its answer.

        *within* are the seconds that the answer may take, where it is not those of any request.
        *ends* tells ours from answers that go to others, too.
        Raises ServerRefused and ConnectionLost when nothing was sent; for a read ConnectionLost,
        AnswerTooLong, UnknownAnswer, Unauthorized or WrongAccount; for a write NoAnswer or
        UnknownAnswer, when it cannot be told whether the server acted.
        """
        body = self._body(request, payload)
        seconds = self._timeouts.request if within is None else within
        async with self._turn:
            try:
                answer = await self._send(request, body, seconds, ends)
                if answer is not None:
                    return read(answer.get("payload"))
            except UnknownAnswer as error:
                self._fail(error)
            await self._drop()
            raise self._failed(request)

    async def tell(self, request: Request) -> None:
        """
        Send *request*, to which no answer comes, and return when the system has taken it.

        The conversation goes on.  Raises ServerRefused and ConnectionLost when nothing was sent,
        NoAnswer when that cannot be told.
        """
        body = self._body(request, None)
        async with self._turn:
            if await self._send(request, body, self._timeouts.request, first) is None:
                await self._drop()
                raise self._failed(request)

    async def ended(self, within: float) -> bool:
        """Wait up to *within* seconds for the end of the connection; True when it has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._over.wait()
        return self._over.is_set()

    async def close(self) -> None:
        """Say goodbye, in bounded time, and give everything back; never raises."""
        if self._question is not None:
            self._fail(
                ended(self._url, "the conversation was closed while a request was in flight")
            )
        politely = self._failure is None and not self._closing
        self._closing = True
        try:
            if politely and self._client is not None:
                with contextlib.suppress(Exception):  # we are leaving; what is left is cut below
                    async with asyncio.timeout(self._timeouts.close):
                        await self._client.disconnect()
        finally:
            await self._drop()

    # ── asking ───────────────────────────────────────────────────────────────────────────────

    def _body(self, request: Request, payload: object) -> dict[str, object]:
        """Return the envelope of *request*.  Raises ServerRefused for what must not be sent."""
        if request.event not in self._may_send:
            raise ServerRefused(
                f"this command must not send {request.event}; nothing was sent",
                "report this as a bug",
            )
        refuse_payload(request, payload)
        body: dict[str, object] = {"event": request.event}
        if payload is None:  # a null payload makes some requests fail inside the server
            return body
        body["payload"] = payload
        packet = Packet(socketio.packet.EVENT, data=[MESSAGE, body])
        if 1 + len(packet.encode().encode()) > FRAME_LIMIT:
            raise ServerRefused(
                f"{request.event} would be longer than the {FRAME_LIMIT:,} bytes that the server"
                " takes; nothing was sent",
                "shorten the values",
            )
        return body

    async def _send(
        self,
        request: Request,
        body: Mapping[str, object],
        seconds: float,
        ends: Ends,
    ) -> Mapping[str, object] | None:
        """Send once and wait for the answer, or for the sending; None after a failure."""
        self._refuse_dead(request)
        loop = asyncio.get_running_loop()
        question = self._question = Question(request.answer, loop.create_future(), ends)
        try:
            async with asyncio.timeout(seconds):
                await self._emit(request, body)
                return await question.reply
        except TimeoutError:
            self._fail(timed_out(self._url, request, seconds))
        except socketio.exceptions.SocketIOError as error:
            self._fail(ended(self._url, "the connection ended before the request was sent"))
            raise self._unsent() from error
        except asyncio.CancelledError:
            # A late answer would be taken for the next one's.
            self._fail(ended(self._url, "the request was given up"))
            raise
        finally:
            self._question = None
        return None

    def _refuse_dead(self, request: Request) -> None:
        if self._stray and request.writes:
            self._fail(ended(self._url, "the server sent an answer that nobody had asked for"))
        if self._failure is None and not self._closing and self._connected():
            return
        self._fail(ended(self._url, "the connection was lost"))
        raise self._unsent()

    # ── the connection; with servers in memory there is another one ──────────────────────────

    def _connected(self) -> bool:
        # The engine drops what it is given after its end without a word.
        client = self._client
        return client is not None and client.connected and client.eio.state == "connected"

    async def _emit(self, request: Request, body: Mapping[str, object]) -> None:
        """Send once; of a request without an answer `_on_written` is told what became of it."""
        client: Any = self._client
        _LOG.debug("asks %s: %s", self._url, request.event)
        if not request.answer:
            client.eio.ws.watch(request.event, self._on_written)
        await client.emit(MESSAGE, body)

    def _cut(self) -> None:
        """Abandon the connection at once: nothing that is still queued may arrive later."""
        self._made.cut()

    async def _connect(self, login: Mapping[str, str], trust: Trust, agent: str) -> None:
        parts = urlsplit(self._url)
        try:
            async with asyncio.timeout(self._timeouts.connect):
                secure = parts.scheme == "https"
                context = await asyncio.to_thread(tls_context, trust) if secure else None
                client = self._client = self._new_client(context)
                await client.connect(
                    self._url,
                    headers={"User-Agent": agent},
                    auth=dict(login),
                    transports=["websocket"],
                    socketio_path=f"{parts.path}/socket.io",
                    wait=False,  # it would not notice that the connection ends meanwhile
                )
                socket = client.eio.ws
                socket.wanted, socket.deliver, socket.log = self._wanted, self._on_large, self._log
                client.connection_auth = None  # it was sent, and holds the access secret
                self._patience = client.eio.ping_interval + client.eio.ping_timeout
                self._watch_loops(client)
                await self._joined
        except DriverError:
            raise
        except Exception as error:
            raise explained(self._url, error) from error

    def _new_client(self, context: ssl.SSLContext | None) -> socketio.AsyncClient:
        self._http = new_http(self._made, context, patience=self._timeouts.request)
        client = new_client(
            self._http, close=self._timeouts.close, message_limit=self._message_limit
        )
        client.on(MESSAGE, self._on_message)
        client.on(EXCEPTION, self._on_exception)
        client.on("connect", self._on_joined)
        client.on("connect_error", self._on_ended)
        client.on(ENDED, self._on_ended)
        client.on(UNREADABLE, self._on_unreadable)
        return client

    async def _await_admission(self) -> None:
        try:
            async with asyncio.timeout(self._timeouts.authenticate):
                await self._admitted
        except TimeoutError:
            raise LoginSilent(
                f"{self._url} is connected, but did not say whether it accepts us"
                f" within {self._timeouts.authenticate:g} s",
                "its own call to the vendor's site may hang; look at the server's network",
            ) from None
        if self._failure is not None:
            raise of_opening(self._url, self._failure)

    def _watch_loops(self, client: socketio.AsyncClient) -> None:
        """Learn of every end of the connection: the client tells only of some."""
        self._tasks = (client.eio.read_loop_task, client.eio.write_loop_task)
        for task in self._tasks:
            task.add_done_callback(self._on_loop_end)

    # ── what the server says ─────────────────────────────────────────────────────────────────

    def _on_message(self, *args: object) -> None:
        body = args[0] if args else None
        if not isinstance(body, dict):
            return
        match body.get("event"):
            case "authenticated":
                self._on_authenticated(body.get("payload"))
            case "unauthorized":
                self._on_unauthorized(body.get("payload"))
            case str(event) if event:
                heard = self._question is not None and self._question.hear(event, body)
                if event in ONLY_ASKED and not heard:
                    self._stray = True  # the next one might be taken for a write's answer

    def _wanted(self, event: str, large: bool) -> bool:  # noqa: FBT001  - a callback's facts
        return self._question is not None and self._question.wants(event, large=large)

    def _on_large(self, body: object) -> None:
        self._on_unreadable() if body is None else self._on_message(body)

    def _on_authenticated(self, payload: object) -> None:
        account = payload.get("id") if isinstance(payload, dict) else None
        if account == self._account:
            self._settle(self._admitted)
            return  # repeated: the server logs in anew now and then
        # A standalone server falls back to account "0" when its vendor's site does not answer.
        who = f"account {account[:40]!a}" if isinstance(account, str) else "no account id"
        self._fail(
            WrongAccount(
                f"{self._url} reports {who} instead of {self._account!a}",
                "check spec.account and spec.accessToken; the server's site may be unreachable",
            )
        )

    def _on_unauthorized(self, payload: object) -> None:
        # On a refused socket requests are still executed, and some of them stop all robots.
        self._fail(refused_login(self._url, payload))

    def _on_exception(self, *_: object) -> None:
        if self._question is not None:
            self._fail(
                UnknownAnswer(
                    f"{self._url} answered with an internal error", "look at the server's log"
                )
            )

    def _on_written(self, handed_over: bool) -> None:  # noqa: FBT001  - a callback's one fact
        """Note that the request was written: *handed_over* to the system, or into a dead end."""
        if handed_over:
            self._reply({})
        else:
            self._fail(ended(self._url, "the connection ended while the request was being sent"))

    def _reply(self, answer: Mapping[str, object] | None) -> None:
        if self._question is not None:
            self._question.settle(answer)

    def _on_joined(self, *_: object) -> None:
        self._settle(self._joined)

    def _on_ended(self, *_: object) -> None:
        self._fail(ended(self._url, "the server ended the conversation"))

    def _on_unreadable(self, *_: object) -> None:
        self._fail(
            UnknownAnswer(
                f"{self._url} sent a message that cannot be read",
                "check that the address is a JT-Trader server of a tested version",
            )
        )

    def _on_loop_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # seen: else asyncio would log it, with whatever it holds
        if self._closing or self._client is None:
            return
        ws = self._client.eio.ws
        if getattr(ws, "too_much", False):
            self._fail(ended(self._url, "the server says too much that nobody asked for"))
        elif getattr(ws, "too_long", False):
            self._fail(
                AnswerTooLong(
                    f"{self._url} sent a message over {self._message_limit:,} bytes, or of more "
                    "parts than such an answer has",
                    "if its system log is that long, rotate it; else see what answers there",
                )
            )
        else:
            self._fail(ended(self._url, "the connection was lost"))

    @staticmethod
    def _settle(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)

    # ── giving up ────────────────────────────────────────────────────────────────────────────

    def _fail(self, failure: DriverError) -> None:
        """Remember the first failure, wake who waits, and cut the connection."""
        if self._failure is None:
            self._failure = failure
        self._settle(self._joined)
        self._settle(self._admitted)
        self._reply(None)
        self._over.set()
        self._cut()

    async def _drop(self) -> None:
        """Close what is left, by force, in bounded time."""
        self._closing = True
        self._over.set()
        self._cut()
        try:
            if self._http is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timeouts.close):
                        await self._http.close()
        finally:
            if self._tasks:
                _, left = await asyncio.wait(self._tasks, timeout=self._timeouts.close)
                for task in left:
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)
            if self._client is not None:
                if self._client.eio.ws is not None:  # left open when the server fell silent
                    await self._client.eio.ws.close()
                with contextlib.suppress(ValueError):  # the engine keeps a list for its signals
                    engineio.base_client.connected_clients.remove(self._client.eio)
            self._made.give_back()

    def _unsent(self) -> ConnectionLost:
        return ended(self._url, "this connection is over; nothing was sent")

    def _failed(self, request: Request) -> DriverError:
        """Return what a request that was sent, or may have been, ended with."""
        return of_request(request, self._failure or self._unsent())
