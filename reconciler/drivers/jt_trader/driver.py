"""
The driver for JT-Trader: its events on one side, our nouns on the other.

Decides nothing but one thing: whether a request could fail inside the server, and then it is not
sent.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

from reconciler import __version__
from reconciler.drivers import Login, Trust, WriteAnswer
from reconciler.drivers.connection.clock import read_clock
from reconciler.drivers.connection.conversation import Conversation
from reconciler.drivers.jt_trader import masks
from reconciler.drivers.jt_trader.requests import (
    DELETE,
    ENGINE,
    EXCHANGES,
    INVALIDATE,
    LOG,
    MAY_SEND,
    REBOOT,
    ROBOTS,
    SAVE,
    START,
    STOP,
    TESTED,
    Request,
    accepts,
    delete_names,
    save_rows,
    start_id,
    stop_id,
)
from reconciler.drivers.jt_trader.responses import (
    SYSTEM_LOG,
    read_entries,
    read_exchanges,
    read_log,
    read_nothing,
    read_robots,
    read_version,
)
from reconciler.drivers.jt_trader.robot_answers import Turned
from reconciler.drivers.jt_trader.session_limits import SessionLimits
from reconciler.drivers.jt_trader.untested_reads import UntestedReads
from reconciler.model.observed import (
    ClockReading,
    Logbook,
    LogEntry,
    Mask,
    ObservedExchange,
    ObservedServer,
    Robot,
)
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts

__all__ = ["MAY_SEND", "TESTED", "JtTraderDriver", "JtTraderSession"]

MESSAGE_LIMIT: Final = 64 * 2**20


class JtTraderSession:
    """One authenticated conversation; see `reconciler.drivers.Session`."""

    def __init__(
        self,
        conversation: Conversation,
        target: Target,
        timeouts: Timeouts,
        untested: UntestedReads,
    ) -> None:
        self.target: Final = target
        self._untested: Final = untested
        self._wire: Final = conversation
        self._timeouts: Final = timeouts
        self._writing: Final = asyncio.Lock()
        self._session_limits: Final = SessionLimits()
        self._listed: tuple[ObservedExchange, ...] | None = None
        self._robots: tuple[Robot, ...] | None = None
        self._version = ""

    @property
    def patience(self) -> float:
        return self._wire.patience

    async def observe(self) -> ObservedServer:
        """
        Read everything; the log last, because one over the limit ends the session.

        The version first: asking for it runs nothing that could fail in there.  Once is enough: a
        connection leads to one process for as long as it lasts.
        """
        version = self._version = self._version or await self._wire.ask(ENGINE, read_version)
        with self._untested.asking(self.target, version):
            exchanges = await self.exchanges()
            robots = await self.robots()
            log = await self.log()
        return ObservedServer(self._wire.account, version, exchanges, robots, log)

    async def unchanged(self) -> bool:
        exchanges, robots = self._listed, self._robots
        with self._untested.asking(self.target, self._version):
            return await self.exchanges() == exchanges and await self.robots() == robots

    async def exchanges(self) -> tuple[ObservedExchange, ...]:
        self._listed = await self._wire.ask(EXCHANGES, read_exchanges)
        return self._listed

    async def robots(self) -> tuple[Robot, ...]:
        self._robots = await self._wire.ask(ROBOTS, read_robots)
        return self._robots

    async def log(self) -> Logbook:
        # Never another name: the server creates a file for it, or leaves its folder.
        return await self._wire.ask(LOG, read_log, SYSTEM_LOG)

    async def entries(self) -> tuple[LogEntry, ...] | None:
        return await self._wire.ask(LOG, read_entries, SYSTEM_LOG)

    async def save(self, exchange: str, values: Mapping[str, Secret]) -> WriteAnswer:
        async with self._writing:
            rows = save_rows(self._listed, exchange, values)
            self._session_limits.take(SAVE)
            self._listed = await self._wire.ask(SAVE, read_exchanges, rows)
            return WriteAnswer(_find(self._listed, exchange))

    async def delete(
        self, exchange: str, name: str, still: Callable[[], None] = lambda: None
    ) -> WriteAnswer:
        """Delete one field, after reading once more that it is stored as it was last shown."""
        async with self._writing:
            known = self._listed
            # Refuse what was never seen stored before asking anything.
            delete_names(known, known or (), exchange, name)
            # An old list that a broken link repeats must not be taken for the fresh one: it comes
            # before the answer to this, and then the conversation writes nothing more.
            await self._wire.ask(ENGINE, read_version)
            names = delete_names(known, await self.exchanges(), exchange, name)
            self._session_limits.take(DELETE)
            still()
            self._listed = await self._wire.ask(DELETE, read_exchanges, names)
            return WriteAnswer(_find(self._listed, exchange))

    async def stop(self, robot: int) -> tuple[Robot, ...]:
        return await self._turn(STOP, stop_id, robot, running=False)

    async def start(self, robot: int) -> tuple[Robot, ...]:
        return await self._turn(START, start_id, robot, running=True)

    async def _turn(
        self, request: Request, id_of: Callable[..., int], robot: int, *, running: bool
    ) -> tuple[Robot, ...]:
        async with self._writing:
            number = id_of(self._robots, robot)
            self._session_limits.take(request)
            self._robots = await self._wire.ask(
                request,
                read_robots,
                number,
                within=self._timeouts.robot,
                ends=Turned(self._robots or (), number, running=running),
            )
            return self._robots

    async def invalidate(self) -> None:
        async with self._writing:
            self._session_limits.take(INVALIDATE)
            await self._wire.ask(INVALIDATE, read_nothing, within=self._timeouts.invalidate)

    async def reboot(self) -> None:
        async with self._writing:
            self._session_limits.take(REBOOT)
            await self._wire.tell(REBOOT)

    async def ended(self, within: float) -> bool:
        return await self._wire.ended(within)

    async def close(self) -> None:
        await self._wire.close()


class JtTraderDriver:
    """
    Opens sessions with JT-Trader servers for one command; see `reconciler.drivers.Driver`.

    *command* decides which events may be sent (`MAY_SEND`).  *accept_versions* are versions whose
    writes the operator takes on himself, exact (`0.25.1`) or a whole line (`0.25.*`).  *converse*
    makes what it speaks through.
    """

    def __init__(
        self,
        *,
        command: str,
        timeouts: Timeouts,
        accept_versions: Collection[str] = (),
        message_limit: int = MESSAGE_LIMIT,
        converse: Callable[..., Conversation] = Conversation,
    ) -> None:
        self._may_send: Final = MAY_SEND[command]
        self._agent: Final = f"jt-reconciler/{__version__} ({command})"
        self._timeouts: Final = timeouts
        self._accepted: Final = TESTED.union(accept_versions)
        self._message_limit: Final = message_limit
        self._converse: Final = converse
        self._untested: Final = UntestedReads(self.tested)

    async def open(self, target: Target, login: Login, trust: Trust) -> JtTraderSession:
        conversation = self._converse(
            url=target.url,
            account=target.account,
            may_send=self._may_send,
            timeouts=self._timeouts,
            message_limit=self._message_limit,
            log=LOG.answer,
        )
        shown = {
            "accessToken": _revealed(login.access_token),
            "accessSecret": _revealed(login.access_secret),
        }
        await conversation.open(shown, trust=trust, agent=self._agent)
        return JtTraderSession(conversation, target, self._timeouts, self._untested)

    async def clock(self, target: Target, trust: Trust) -> ClockReading | None:
        return await read_clock(target.url, trust=trust, agent=self._agent, timeouts=self._timeouts)

    def mask(self, value: Secret) -> Mask:
        return Mask(masks.mask_text(value.reveal()))

    def refusal(self, value: Secret) -> str:
        return masks.refusal(value.reveal())

    def mask_bits(self, value: Secret) -> float:
        return masks.mask_bits(value.reveal())

    def tested(self, version: str) -> bool:
        return accepts(self._accepted, version)


DRIVER: Final = JtTraderDriver


def _find(exchanges: tuple[ObservedExchange, ...], code: str) -> ObservedExchange | None:
    return next((exchange for exchange in exchanges if exchange.code == code), None)


def _revealed(secret: Secret | None) -> str:
    # The web page sends empty text for what it does not have.
    return "" if secret is None else secret.reveal()
