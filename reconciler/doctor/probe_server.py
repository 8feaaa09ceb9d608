"""What `jtr doctor` finds out about trading servers: each on its own, whatever the others do."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler import bootstrap
from reconciler.doctor.server import RouteFacts, ServerFacts
from reconciler.drivers import Login
from reconciler.drivers.connection.reachability import find_route
from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.drivers.jt_trader.requests import accepts
from reconciler.errors import Blocked, DriverError, JtrError
from reconciler.ledger.ledger import Ledger
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.observed import ObservedServer
from reconciler.model.target import Target
from reconciler.observe.context import Allowed
from reconciler.observe.resolver import Resolver
from reconciler.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Rounds:
    """
    What a look at servers works with.

    `secrets` is None, with `why`, where Vault cannot be asked.  `visit` says whether to log in: to
    none, to all (True), or to those that no controller holds (None); `held` goes from servers that
    one holds to its address.
    """

    settings: Settings
    ledger: Ledger | None
    secrets: Resolver | None
    why: str
    visit: bool | None
    held: Mapping[Target, str]
    parallelism: int


def driver(settings: Settings) -> JtTraderDriver:
    """Return the driver of this command: it may only read."""
    return JtTraderDriver(command="doctor", timeouts=settings.timeouts)


async def look_at_servers(
    state: DesiredState, servers: Sequence[DesiredServer], rounds: Rounds
) -> list[ServerFacts]:
    """Look at *servers*, some of those of *state*, a few at a time."""
    gate = asyncio.Semaphore(rounds.parallelism)

    async def one(server: DesiredServer) -> ServerFacts:
        async with gate:
            return await _look(server, state, rounds)

    return list(await asyncio.gather(*map(one, servers)))


async def _look(server: DesiredServer, state: DesiredState, rounds: Rounds) -> ServerFacts:
    connected = server.target in rounds.held
    refused = await asyncio.to_thread(_refusal, server, state, rounds)
    facts = ServerFacts(server, bootstrap.now(), refused=refused, connected=connected)
    if refused is not None:
        return facts
    route = await _route(server, rounds)
    facts = replace(facts, route=route, unvisited=_unvisited(server, route, rounds))
    if not facts.unvisited:
        try:
            seen = await _visit(server, rounds)
        except JtrError as error:
            facts = replace(facts, failure=error)
        else:
            accepted = accepts(rounds.settings.accept_versions, seen.version)
            tested = driver(rounds.settings).tested(seen.version)
            facts = replace(facts, observed=seen, tested=tested, accepted=accepted)
    return replace(facts, now=bootstrap.now())


def _refusal(server: DesiredServer, state: DesiredState, rounds: Rounds) -> JtrError | None:
    """Say why nothing may be sent to the address of *server*: as `jtr plan` judges it."""
    target, settings = server.target, rounds.settings
    try:
        Allowed(settings.allows_url, settings.allows_path).check(server)
        known = rounds.ledger.find(target, server.name) if rounds.ledger is not None else None
    except JtrError as error:
        return error
    others = {other.target for other in state.servers} - {target}
    if known is None or known.target == target or known.target in others:
        return None
    return Blocked(
        f"its address changed: it was {known.target}",
        "`jtr plan` says what that means, and how to agree to it",
    )


async def _route(server: DesiredServer, rounds: Rounds) -> RouteFacts:
    settings, url = rounds.settings, server.target.url
    trust = bootstrap.trust(settings, url)
    try:
        route = await find_route(url, trust=trust, timeouts=settings.timeouts)
    except DriverError as error:
        return RouteFacts(trouble=error)
    clock = await driver(settings).clock(server.target, trust)
    return RouteFacts(route.address, route.until, clock=clock)


def _unvisited(server: DesiredServer, route: RouteFacts, rounds: Rounds) -> str:
    """Say why nobody logs in to *server*; empty when somebody does."""
    if route.trouble is not None:
        return "there is no way to it"
    if rounds.visit is False:
        return "not visited (--no-visit)"
    if rounds.visit is None and (holder := rounds.held.get(server.target)):
        return f"not visited: the controller at {holder} holds the connection (--visit does it)"
    if rounds.why:
        return f"not visited: {rounds.why}"
    if rounds.secrets is None and (server.access_secret or server.access_token):
        return "its access secret cannot be read while Vault cannot be asked"
    return ""


async def _visit(server: DesiredServer, rounds: Rounds) -> ObservedServer:
    """Log in, read everything, and leave."""
    login = Login()
    if rounds.secrets is not None:
        newest = rounds.secrets.newest
        login = Login(
            await newest(server.access_secret) if server.access_secret else None,
            await newest(server.access_token) if server.access_token else None,
        )
    trust = bootstrap.trust(rounds.settings, server.target.url)
    session = await driver(rounds.settings).open(server.target, login, trust)
    try:
        return await session.observe()
    finally:
        await session.close()
