"""
The first half of a pass: look at every server and plan.  Changes nothing anywhere.

`plan` and `apply` share every line up to the Plan; `apply` keeps the sessions that were opened
here and goes on in `reconciler.reconcile.apply`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from reconciler.drivers import Driver, Login, Session, Trust
from reconciler.errors import Blocked, DriverError, Exit, JtrError, NotSettled
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.passing import passed
from reconciler.ledger.unrecorded import Emergencies
from reconciler.model.desired import (
    DesiredExchange,
    DesiredServer,
    DesiredState,
    FrozenRef,
    Kind,
    Presence,
    SecretPath,
    SecretRef,
)
from reconciler.model.observed import BootLine, Logbook, ObservedServer
from reconciler.model.plan import Plan, ServerPlan
from reconciler.model.recorded import NOTHING_REMEMBERED, ExchangeRecord, Observation, Remembered
from reconciler.observe.resolver import Resolver, Values, remembered_view
from reconciler.plan.compare import Evidence
from reconciler.plan.exchange import Consents, Facts
from reconciler.plan.requests import MARGIN, Terms, plausible
from reconciler.plan.server import hold_twins, limit_unverified, plan_server, wanted_values
from reconciler.secrets.fingerprint_key import Fingerprints
from reconciler.system.timeouts import Durations

if TYPE_CHECKING:
    from reconciler.exchanges.auditor import KeyToAsk  # only who audits pays for it
    from reconciler.model.key_audits import Egress, Results


class Audit(Protocol):
    """Asks exchanges about keys; see `reconciler.exchanges.auditor`."""

    def __call__(
        self, keys: Sequence["KeyToAsk"], *, within: timedelta | None = None
    ) -> Awaitable["Results"]:
        """Answers that are older than *within* are asked for again; by default than a day."""
        ...


def _anything(_subject: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which addresses and secrets desired state may name at all; the operator's settings say."""

    url: Callable[[str], bool] = _anything
    path: Callable[[SecretPath], bool] = _anything

    def check(self, server: DesiredServer) -> None:
        """Raise Blocked when *server* names something outside the operator's lists."""
        if not self.url(server.target.url):
            raise Blocked(
                f"{server.target.url} is not among the addresses that the settings allow",
                "the operator adds it to allow.urls",
            )
        for ref in _references(server):
            if not self.path(ref.at):
                raise Blocked(
                    f"{ref.at} is not among the secrets that the settings allow",
                    "the operator adds it to allow.paths",
                )


def _references(server: DesiredServer) -> list[SecretRef]:
    login = [ref for ref in (server.access_secret, server.access_token) if ref is not None]
    return login + [ref for exchange in server.exchanges for ref in exchange.references]


@dataclass(frozen=True, slots=True)
class Means:
    """Everything that a pass works with; made once per command."""

    driver: Driver
    resolver: Resolver
    fingerprints: Fingerprints
    durations: Durations
    ledger: Ledger | None
    label: str
    allowed: Allowed = Allowed()
    trust: Callable[[str], Trust] = lambda _url: Trust()
    max_unknown_writes: int = 20
    parallelism: int = 4
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    unsteady: Callable[[], str] = lambda: ""
    emergencies: Emergencies | None = None
    ledger_suspect: str = ""  # why the ledger may have forgotten what was done
    sole_writer: bool = False  # the operator's word that no other ledger knows these servers
    ledger_shared: bool = False  # everybody uses this one
    audit: Audit | None = None  # asks exchanges about keys before they are pushed
    egress_of: Callable[[str, str], "Egress"] | None = None  # from where, by server's name and URL
    remember_every: float = 0.0  # seconds for which an unchanged sight is not written down again

    def stamp(self) -> str:
        """Return the present moment as RFC 3339 text."""
        return self.now().astimezone(UTC).isoformat(timespec="milliseconds")


@dataclass(slots=True)
class Visit:
    """One server in one pass: what was seen of it and what is planned."""

    desired: DesiredServer
    plan: ServerPlan
    session: Session | None = None
    observed: ObservedServer | None = None
    seen_at: str = ""  # when that was
    remembered: Remembered = NOTHING_REMEMBERED
    values: dict[str, Values] = field(default_factory=dict)
    sources: dict[str, Mapping[str, FrozenRef]] = field(default_factory=dict)
    again_in: float = 0.0  # seconds after which a secret has settled; 0: none has to

    @property
    def uid(self) -> str:
        """The ledger's name for the server; empty before first contact."""
        return self.remembered.identity.uid if self.remembered.identity else ""

    async def close(self) -> None:
        """Leave the server."""
        if self.session is not None:
            session, self.session = self.session, None
            await session.close()


async def survey(state: DesiredState, consents: Consents, means: Means) -> list[Visit]:
    """
    Visit every server of *state* and plan it; failures become part of the plans.

    Sessions stay open: whoever calls closes the visits.
    """
    gate = asyncio.Semaphore(means.parallelism)
    visits: list[Visit] = []

    async def one(server: DesiredServer) -> Visit:
        visit = first_visit(server)
        visits.append(visit)
        async with gate:
            await look(visit, state, consents, means)
        return visit

    try:
        ordered = await asyncio.gather(*(one(server) for server in state.servers))
    except BaseException:
        await asyncio.shield(asyncio.gather(*(visit.close() for visit in visits)))
        raise
    limited = limit_unverified([visit.plan for visit in ordered], means.max_unknown_writes)
    for visit, plan in zip(ordered, hold_twins(limited, _boots(ordered)), strict=True):
        visit.plan = plan
    return list(ordered)


async def look(visit: Visit, state: DesiredState, consents: Consents, means: Means) -> None:
    """
    Visit one server of *state* and plan it; a failure becomes part of its plan.

    Uses the session that the visit has, and leaves one open.  What holds for several servers
    together (`limit_unverified`, `hold_twins`) is up to whoever calls.
    """
    try:
        await _load(visit, state, means)
        await _look(visit, consents, means)
    except JtrError as error:
        visit.plan = _failed(visit.desired, error)


def first_visit(server: DesiredServer) -> Visit:
    """Return a visit that has not begun."""
    return Visit(server, _blank(server))


def _boots(visits: Sequence[Visit]) -> list[BootLine | None]:
    logs = [visit.observed.log if visit.observed else Logbook() for visit in visits]
    return [log.boots[-1] if log.boots else None for log in logs]


def plan_of(visits: Sequence[Visit], state: DesiredState, *, skip_unreachable: bool) -> Plan:
    """Put the visits together; servers that could not be reached may be set aside, named."""
    apart = [
        visit
        for visit in visits
        if skip_unreachable and isinstance(visit.plan.failure, DriverError)
        if visit.plan.failure.transient
    ]
    return Plan(
        tuple(visit.plan for visit in visits if visit not in apart),
        skipped=state.skipped,
        not_visited=tuple(f"{v.desired.name}: {v.plan.failure}" for v in apart),
    )


async def _load(visit: Visit, state: DesiredState, means: Means) -> None:
    """Look the server up in the ledger, if the settings allow it at all."""
    server = visit.desired
    means.allowed.check(server)
    if means.ledger is None:
        return
    found = await asyncio.to_thread(means.ledger.load, server.target, server.name)
    if means.emergencies is not None:
        found = await asyncio.to_thread(means.emergencies.known, means.ledger.ledger_uid, found)
    known = found.identity
    others = {other.target for other in state.servers} - {server.target}
    # A name that was given to another server: the one that had it is still there, renamed.
    if known is None or known.target not in others:
        visit.remembered = found


async def _look(visit: Visit, consents: Consents, means: Means) -> None:
    server = visit.desired
    if (moved := _moved(visit)) and server.name not in consents.targets:
        visit.plan = moved
        return
    if visit.session is None:
        await enter(visit, means)
    facts = await _freeze(visit, means)
    await see(visit, means)
    await _judge(visit, facts, consents, means)


def _moved(visit: Visit) -> ServerPlan | None:
    """Say that the address changed: checked before any handshake, tunnels and typos lead astray."""
    identity, server = visit.remembered.identity, visit.desired
    if identity is None or identity.target == server.target:
        return None
    return replace(
        _blank(server),
        held=f"its address changed: it was {identity.target}",
        held_code=Exit.BLOCKED,
        held_remedy=f"make sure that the old server is off (it still holds keys and robots), then "
        f"--approve-target-change {server.name}",
    )


async def enter(visit: Visit, means: Means) -> None:
    """Open a session on the visit's server.  Raises SecretsError or DriverError."""
    server = visit.desired
    login = Login(
        await means.resolver.newest(server.access_secret) if server.access_secret else None,
        await means.resolver.newest(server.access_token) if server.access_token else None,
    )
    visit.session = await means.driver.open(server.target, login, means.trust(server.target.url))


async def see(visit: Visit, means: Means) -> Observation:
    """Read the server anew.  Raises DriverError."""
    if visit.session is None:
        await enter(visit, means)
    if visit.session is None:
        raise AssertionError
    visit.observed = await visit.session.observe()
    visit.seen_at = means.stamp()
    return view(visit, means)


def view(visit: Visit, means: Means) -> Observation:
    """Return what was seen last as it may be remembered."""
    if visit.observed is None:
        raise AssertionError
    return remembered_view(
        visit.observed, means.fingerprints, visit.uid, at=visit.seen_at, by=means.label
    )


async def _freeze(visit: Visit, means: Means) -> Facts:
    frozen: dict[str, Mapping[str, FrozenRef] | JtrError] = {}
    for exchange in visit.desired.exchanges:
        if exchange.presence is Presence.PRESENT:
            try:
                frozen[exchange.code] = await means.resolver.freeze(exchange)
            except JtrError as error:
                frozen[exchange.code] = error
                if isinstance(error, NotSettled):
                    visit.again_in = min(visit.again_in or error.after, error.after)
    visit.sources = {
        code: sources for code, sources in frozen.items() if not isinstance(sources, JtrError)
    }
    return Facts(sources=frozen, suspended=_suspended(visit.desired, means.now()))


async def _judge(visit: Visit, facts: Facts, consents: Consents, means: Means) -> None:
    observation = view(visit, means)
    wanted = wanted_values(visit.desired, observation, visit.remembered, facts, consents)
    evidence: dict[str, Evidence | JtrError] = {}
    for exchange in visit.desired.exchanges:
        if exchange.code in wanted:
            try:
                evidence[exchange.code] = await _evidence(visit, exchange, means)
            except JtrError as error:
                evidence[exchange.code] = error
    why, remedy = await refusal(observation.version, means)
    facts = replace(
        facts,
        evidence=evidence,
        refuses_writes=why,
        refuses_remedy=remedy,
        terms=await live_terms(visit, means),
    )
    visit.plan = plan_server(visit.desired, observation, visit.remembered, facts, consents)


async def _evidence(visit: Visit, exchange: DesiredExchange, means: Means) -> Evidence:
    code = exchange.code
    observed = visit.observed.exchange(code) if visit.observed else None
    if observed is None:
        raise AssertionError
    values = await means.resolver.values(exchange, visit.sources[code], observed)
    visit.values[code] = values
    record = visit.remembered.exchanges.get(code, ExchangeRecord(code))
    return means.resolver.evidence(values, observed, record, means.fingerprints, visit.uid)


async def refusal(version: str, means: Means) -> tuple[str, str]:
    """Say why a server of this version must not be written to."""
    if not means.driver.tested(version):
        return (
            f"JT-Trader {version} is outside the tested range",
            "an operator who tried it adds it to acceptVersions in the settings",
        )
    if means.ledger is not None:
        brakes = await asyncio.to_thread(means.ledger.brakes)
        if brake := brakes.get(version):
            return (
                f"the brake is on for JT-Trader {version}: {brake.why}",
                f"look at {brake.server}, then `jtr ledger release-brake {version} --because TEXT`",
            )
    return "", ""


async def live_terms(visit: Visit, means: Means) -> Terms:
    """
    Return what governs disruptive actions on a server that was just seen.

    Its clock is read only where a reboot by somebody else may have met a request.
    """
    terms = await asyncio.to_thread(_terms, visit.remembered, means)
    if visit.observed is None:
        raise AssertionError
    log = visit.observed.log
    clock = None
    wish, handled = visit.desired.reboot, visit.remembered.requests.handled.get(Kind.REBOOT)
    if wish is not None and wish.instant <= terms.now and (not handled or handled < wish.instant):
        target = visit.desired.target
        clock = await means.driver.clock(target, means.trust(target.url))
        if clock is not None and not plausible(clock, log, means.now()):
            clock = None
    return replace(terms, log=log, clock=clock)


def _terms(remembered: Remembered, means: Means) -> Terms:
    return remembered_terms(
        remembered,
        means.ledger,
        means.now(),
        suspect=means.ledger_suspect,
        only=means.ledger_shared or means.sole_writer,
        unsteady=means.unsteady(),
    )


def remembered_terms(
    remembered: Remembered,
    ledger: Ledger | None,
    now: datetime,
    *,
    suspect: str,
    only: bool,
    unsteady: str = "",
) -> Terms:
    """
    Return what governs disruptive actions as far as it is known without a visit.

    *suspect* says why the ledger may have forgotten something; *only* that no other one knows the
    server.
    """
    baseline = ledger.baseline() if ledger is not None else None
    why, remedy = _no_one_shots(ledger, suspect, only=only)
    halt, seen = remembered.requests.halt, remembered.observation
    if not unsteady and seen is not None:
        ahead = datetime.fromisoformat(seen.at) - now
        if ahead > MARGIN:
            unsteady = f"our clock is {ahead.total_seconds():.0f} s behind what the ledger noted"
    return Terms(
        now=now,
        baseline=baseline,
        refused=why,
        remedy=remedy,
        unsteady=unsteady,
        since_halt=None if halt is None else passed(halt, now),
    )


def _no_one_shots(ledger: Ledger | None, suspect: str, *, only: bool) -> tuple[str, str]:
    """Say why the ledger allows no one-shots: it might not know what was done already."""
    if ledger is None:
        return "there is no ledger that would remember it", "`jtr ledger init`, then ask anew"
    if ledger.born_now:
        return "this ledger began just now and knows nothing of earlier ones", "ask anew"
    if suspect:
        return (
            suspect,
            "look at what was done, then `jtr ledger accept-restore`; ask anew afterwards",
        )
    if not only:
        remedy = (
            "if no other one knows these servers, the operator writes soleWriter: true into the "
            "settings; else use one ledger in Vault"
        )
        return "another ledger might know of it", remedy
    return "", ""


async def recall(state: DesiredState, consents: Consents, means: Means) -> list[Visit]:
    """
    Plan from the ledger's last observations and Vault's metadata alone.

    Contacts no trading server and reads no value.  A server without an observation is not compared.
    """
    return [await _recalled(server, state, consents, means) for server in state.servers]


async def _recalled(
    server: DesiredServer, state: DesiredState, consents: Consents, means: Means
) -> Visit:
    visit = Visit(server, _blank(server))
    try:
        await _load(visit, state, means)
        observation = visit.remembered.observation
        if moved := _moved(visit):
            visit.plan = moved
        elif observation is None:
            visit.plan = replace(
                visit.plan,
                held="not compared: the ledger holds no observation of it",
                held_remedy="`jtr apply` or a controller on the same ledger makes one",
            )
        else:
            facts = replace(await _freeze(visit, means), live=False)
            why, remedy = await refusal(observation.version, means)
            terms = await asyncio.to_thread(_terms, visit.remembered, means)
            facts = replace(facts, refuses_writes=why, refuses_remedy=remedy, terms=terms)
            plan = plan_server(server, observation, visit.remembered, facts, consents)
            age = (means.now() - datetime.fromisoformat(observation.at)).total_seconds()
            visit.plan = replace(plan, age=age)
    except JtrError as error:
        visit.plan = _failed(server, error)
    return visit


def _suspended(server: DesiredServer, now: datetime) -> bool:
    suspension = server.suspend
    return suspension is not None and (suspension.until is None or now < suspension.until)


def _blank(server: DesiredServer) -> ServerPlan:
    return ServerPlan(server.name, server.target, server.owner)


def _failed(server: DesiredServer, error: JtrError) -> ServerPlan:
    return replace(_blank(server), failure=error)
