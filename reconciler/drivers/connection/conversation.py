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
from collections.abc import Callable, Mapping
from typing import Final, TypeVar, cast
from urllib.parse import urlsplit

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
from reconciler.drivers.connection.question import Answer, Ends, Question, first
from reconciler.drivers.connection.socket_io import (
    Packet,
    Said,
    SocketIo,
    TooLong,
    TooMuch,
    decode,
    encode,
)
from reconciler.drivers.connection.transport import Made, new_http, tls_context
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
from reconciler.system.http import aiohttp
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
        # Created before connecting: `authenticated` may arrive before that is over.
        loop = asyncio.get_running_loop()
        self._joined: Final[asyncio.Future[None]] = loop.create_future()
        self._admitted: Final[asyncio.Future[None]] = loop.create_future()
        self._question: Question | None = None
        # By who read: the digest of the last answer, and what was made of it.
        self._results: dict[Callable[[object], object], tuple[int, object]] = {}
        self._failure: DriverError | None = None
        self._closing = False
        self._stray = False
        self._over: Final = asyncio.Event()
        self._patience = 0.0
        self._made: Final = Made()
        self._http: aiohttp.ClientSession | None = None
        self._message_limit: Final = message_limit
        self._socket: SocketIo | None = None
        self._listener: asyncio.Task[None] | None = None

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
            self._watch()
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
                known, result = self._results.get(read, (None, None))
                answer = await self._send(request, body, seconds, ends, known)
                if answer is not None and answer.same:
                    return cast(_T, result)
                if answer is not None:
                    result = read(answer.payload)
                    if answer.digest is not None and request.answer != self._log:
                        self._results[read] = answer.digest, result
                    return result
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
            if await self._send(request, body, self._timeouts.request) is None:
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
            if politely and self._socket is not None:
                with contextlib.suppress(Exception):  # we are leaving; what is left is cut below
                    async with asyncio.timeout(self._timeouts.close):
                        await self._socket.leave()
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
        if len(encode(body).encode()) > FRAME_LIMIT:
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
        ends: Ends = first,
        known: int | None = None,
    ) -> Answer | None:
        """Send once and wait for the answer, or for the sending; None after a failure."""
        self._refuse_dead(request)
        loop = asyncio.get_running_loop()
        question = self._question = Question(request.answer, loop.create_future(), ends, known)
        try:
            async with asyncio.timeout(seconds):
                await self._emit(request, body)
                return await question.reply
        except TimeoutError:
            self._fail(timed_out(self._url, request, seconds))
        except OSError:  # some of it may have been sent
            self._fail(ended(self._url, "the connection ended while the request was being sent"))
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
        return self._socket is not None and self._socket.connected

    async def _emit(self, request: Request, body: Mapping[str, object]) -> None:
        """Send once; of a request without an answer `_on_written` is told what became of it."""
        _LOG.debug("asks %s: %s", self._url, request.event)
        if self._socket is None:
            raise AssertionError
        handed_over = await self._socket.send(encode(body))
        if not request.answer:
            self._on_written(handed_over)

    def _watch(self) -> None:
        """Let silence end the connection from now on; before, the login has its own deadlines."""
        if self._socket is not None:
            self._socket.watch()

    def _cut(self) -> None:
        """Abandon the connection at once: nothing that is still queued may arrive later."""
        self._made.cut()

    async def _connect(self, login: Mapping[str, str], trust: Trust, agent: str) -> None:
        try:
            async with asyncio.timeout(self._timeouts.connect):
                secure = urlsplit(self._url).scheme == "https"
                context = await asyncio.to_thread(tls_context, trust) if secure else None
                self._http = new_http(self._made, context, patience=self._timeouts.request)
                ws = await self._http.ws_connect(
                    f"{self._url.rstrip('/')}/socket.io/?EIO=4&transport=websocket",
                    headers={"User-Agent": agent},
                    timeout=aiohttp.ClientWSTimeout(ws_close=self._timeouts.close),
                    autoping=False,
                    max_msg_size=self._message_limit,
                )
                socket = SocketIo(ws, wanted=self._wanted, log=self._log)
                await socket.join(login)
                self._socket, self._patience = socket, socket.patience
                self._listener = asyncio.create_task(self._listen(socket))
                await self._joined
        except DriverError:
            raise
        except Exception as error:
            raise explained(self._url, error) from error

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

    # ── what the server says ─────────────────────────────────────────────────────────────────

    async def _listen(self, socket: SocketIo) -> None:
        """Take in what is said until the connection ends, in whatever way."""
        failure: DriverError = ended(self._url, "the connection was lost")
        try:
            while (heard := await socket.receive())[0] is not Said.ENDED:
                self._hear(*heard)
            failure = ended(self._url, "the server ended the conversation")
        except TooMuch:
            failure = ended(self._url, "the server says too much that nobody asked for")
        except TooLong:
            failure = AnswerTooLong(
                f"{self._url} sent a message over {self._message_limit:,} bytes, or of more "
                "parts than such an answer has",
                "if its system log is that long, rotate it; else see what answers there",
            )
        except OSError:  # Lost is one
            pass
        finally:
            if not self._closing:
                self._fail(failure)

    def _hear(self, said: Said, body: object) -> None:
        match said:
            case Said.JOINED:
                self._settle(self._joined)
            case Said.MESSAGE:
                self._on_message(body)
            case Said.PACKET if isinstance(body, Packet):
                self._on_packet(body)
            case Said.EXCEPTION:
                self._on_exception()
            case Said.UNREADABLE:
                self._on_unreadable()

    def _on_packet(self, packet: Packet) -> None:
        """Take what somebody waits for; what is the same as last time is not decoded again."""
        digest = hash(packet.text)  # keyed by the process: no server can aim at it
        if self._question is not None and self._question.hear_again(packet.event, digest):
            return
        said, body = decode(packet.text)
        if said is Said.MESSAGE:
            self._on_message(body, digest)
        else:
            self._hear(said, body)

    def _on_message(self, body: object, digest: int | None = None) -> None:
        if not isinstance(body, dict):
            return
        match body.get("event"):
            case "authenticated":
                self._on_authenticated(body.get("payload"))
            case "unauthorized":
                self._on_unauthorized(body.get("payload"))
            case str(event) if event:
                question, payload = self._question, body.get("payload")
                heard = question is not None and question.hear(event, payload, digest)
                if event in ONLY_ASKED and not heard:
                    self._stray = True  # the next one might be taken for a write's answer

    def _wanted(self, event: str, large: bool) -> bool:  # noqa: FBT001  - a callback's facts
        return self._question is not None and self._question.wants(event, large=large)

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

    def _on_exception(self) -> None:
        if self._question is not None:
            self._fail(
                UnknownAnswer(
                    f"{self._url} answered with an internal error", "look at the server's log"
                )
            )

    def _on_written(self, handed_over: bool) -> None:  # noqa: FBT001  - a callback's one fact
        """Note that the request was written: *handed_over* to the system, or into a dead end."""
        if handed_over:
            self._reply(Answer())
        else:
            self._fail(ended(self._url, "the connection ended while the request was being sent"))

    def _reply(self, answer: Answer | None) -> None:
        if self._question is not None:
            self._question.settle(answer)

    def _on_unreadable(self) -> None:
        self._fail(
            UnknownAnswer(
                f"{self._url} sent a message that cannot be read",
                "check that the address is a JT-Trader server of a tested version",
            )
        )

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
        if self._socket is not None:
            self._socket.unwatch()
        try:
            if self._http is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timeouts.close):
                        await self._http.close()
        finally:
            if self._listener is not None:
                self._listener.cancel()
                await asyncio.gather(self._listener, return_exceptions=True)
            self._made.give_back()
            # What is closed would stay until a collection: of a fleet that is tens of megabytes.
            self._socket = self._http = self._listener = None

    def _unsent(self) -> ConnectionLost:
        return ended(self._url, "this connection is over; nothing was sent")

    def _failed(self, request: Request) -> DriverError:
        """Return what a request that was sent, or may have been, ended with."""
        return of_request(request, self._failure or self._unsent())
