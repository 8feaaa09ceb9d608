"""What `jtr doctor` finds out about trading servers: each on its own, whatever the others do."""

import asyncio
from collections.abc import Mapping, Sequence

from msgspec import Struct

from reconciler import bootstrap
from reconciler.doctor import server as judge
from reconciler.doctor.findings import Finding, of_error, ok
from reconciler.drivers import Login
from reconciler.drivers.connection.reachability import find_route
from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.drivers.jt_trader.requests import accepts
from reconciler.errors import Blocked, DriverError, JtrError, TlsRefused, WrongAccount
from reconciler.ledger.ledger import Ledger
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.observed import Logbook, ObservedServer
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.observe.resolver import Resolver
from reconciler.observe.visit import Visit, agree, first_visit, unknown_recipient
from reconciler.plan.inputs import Consents
from reconciler.settings.model import Settings


class Rounds(Struct, frozen=True):
    """
    What a look at servers works with.

    `secrets` is None where Vault cannot be asked; `why` says why nobody can tell whether an address
    is the one that the ledger knows.  `visit` says whether to log in: to none, to all (True), or to
    those that no controller holds (None); `held` goes from servers that one holds to its address.
    `consents` say what may be contacted for the first time.
    """

    settings: Settings
    ledger: Ledger | None
    secrets: Resolver | None
    why: str
    visit: bool | None
    held: Mapping[Target, str]
    parallelism: int
    consents: Consents


def driver(settings: Settings) -> JtTraderDriver:
    """Return the driver of this command: it may only read."""
    return JtTraderDriver(command="doctor", timeouts=settings.timeouts)


async def look_at_servers(
    state: DesiredState, servers: Sequence[DesiredServer], rounds: Rounds
) -> list[Finding]:
    """Look at *servers*, some of those of *state*, a few at a time."""
    gate = asyncio.Semaphore(rounds.parallelism)

    async def one(server: DesiredServer) -> list[Finding]:
        async with gate:
            found = await _look(server, state, rounds)
        return [replace(finding, server=server.name) for finding in found]

    return [finding for found in await asyncio.gather(*map(one, servers)) for finding in found]


async def _look(server: DesiredServer, state: DesiredState, rounds: Rounds) -> list[Finding]:
    """Look at one server, in the order in which one thing rests on another."""
    try:
        visit = await asyncio.to_thread(_refuse, server, state, rounds)
        if rounds.secrets is not None:
            await agree(visit, rounds.consents, rounds.settings.policy, rounds.secrets)
    except JtrError as error:
        unasked = ("address", "clock", "login", *judge.VISITED, "registration")
        return [
            of_error("server.allowed", error),
            *judge.left_out("it must not be contacted", *unasked),
        ]
    settings, url = rounds.settings, server.target.url
    trust = bootstrap.trust(settings, url)
    connected = server.target in rounds.held
    try:
        route = await find_route(url, trust=trust, timeouts=settings.timeouts)
    except DriverError as error:
        code = "server.tls" if isinstance(error, TlsRefused) else "server.address"
        return [
            of_error(code, error),
            *judge.left_out("there is no way to it", "clock", "login", *judge.VISITED),
            judge.registration_finding(None, None, connected=connected),
        ]
    clock = await driver(settings).clock(server.target, trust)
    why = _unvisited(server, rounds)
    if not why and visit.withheld is not None and visit.withheld.hides:
        why = f"{unknown_recipient(server.name)[0]} (--approve-recipient {server.name})"
    seen, failure = None, None
    if not why:
        try:
            seen = await _visit(server, rounds)
        except JtrError as error:
            failure = error
    now = bootstrap.now()
    found = [
        ok("server.address", f"{url} answers at {route.address}"),
        judge.certificate_finding(server, route.until, now),
        judge.clock_finding(clock, seen.log if seen is not None else Logbook(), now),
    ]
    if why:
        found += judge.left_out(why, "login", *judge.VISITED)
    else:
        found += judge.login_findings(server, failure)
    if seen is not None:
        found += judge.visit_findings(
            server,
            seen,
            clock,
            now,
            tested=driver(settings).tested(seen.version),
            accepted=accepts(settings.accept_versions, seen.version),
        )
    elif not why:
        told = isinstance(failure, WrongAccount)
        found += judge.left_out("there was no visit", *judge.VISITED[told:])
    return [*found, judge.registration_finding(seen, failure, connected=connected)]


def _refuse(server: DesiredServer, state: DesiredState, rounds: Rounds) -> Visit:
    """Raise why nothing may be sent to the address of *server*: as `jtr plan` judges it."""
    rounds.settings.policy.check(server)
    visit = first_visit(server)
    if rounds.ledger is not None:
        found = rounds.ledger.look(server.target, server.name)
        others = {other.target for other in state.servers} - {server.target}
        known = found.identity
        if known is None or known.target == server.target:
            visit.recorded = found
        elif known.target not in others:
            raise Blocked(
                f"its address changed: it was {known.target}",
                "`jtr plan` says what that means, and how to agree to it",
            )
    return visit


def _unvisited(server: DesiredServer, rounds: Rounds) -> str:
    """Say why nobody logs in to *server*; empty when somebody does."""
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
            await newest(server.access_secret, server.target) if server.access_secret else None,
            await newest(server.access_token, server.target) if server.access_token else None,
        )
    trust = bootstrap.trust(rounds.settings, server.target.url)
    session = await driver(rounds.settings).open(server.target, login, trust)
    try:
        return await session.observe()
    finally:
        await session.close()
