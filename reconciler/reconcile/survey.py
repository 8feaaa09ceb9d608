"""
The first half of a pass: look at every server and plan.  Changes nothing anywhere.

`plan` and `apply` share every line up to the Plan; `apply` keeps the sessions that were opened
here and goes on in `reconciler.reconcile.apply`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from reconciler.errors import (
    Blocked,
    DriverError,
    InternalError,
    JtrError,
    LedgerError,
    NotSettled,
)
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.conditions import Code, blocked
from reconciler.model.desired import DesiredExchange, DesiredServer, DesiredState, Presence
from reconciler.model.evidence import Evidence
from reconciler.model.observed import BootLine
from reconciler.model.pauses import paused
from reconciler.model.plan import Plan, ServerPlan
from reconciler.model.policy import PolicyAction, against
from reconciler.model.recipients import Recipient
from reconciler.model.recorded import ExchangeRecord, Recorded
from reconciler.model.references import FrozenRef, SecretPath
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.evidence import evidence_of
from reconciler.observe.terms import known_terms, live_terms, refusal
from reconciler.observe.visit import (
    Visit,
    agree,
    blank_plan,
    enter,
    first_visit,
    see,
    unknown_recipient,
    view,
)
from reconciler.plan.fleet import LINES, hold_twins, limit_actions, limit_unverified
from reconciler.plan.inputs import Consents, Facts
from reconciler.plan.recipients import new_recipient
from reconciler.plan.requests import as_wished
from reconciler.plan.server import plan_server, unseen_lines, wanted_values
from reconciler.reconcile.watch import Watch, nobody


async def survey(
    state: DesiredState,
    consents: Consents,
    context: PassContext,
    *,
    keep: bool = True,
    brief: bool = False,
    watch: Watch = nobody,
) -> list[Visit]:
    """
    Visit every server of *state* and plan it; failures become part of the plans.

    With *keep* sessions stay open, and whoever calls closes the visits; else each is closed as soon
    as its server is planned.  With *brief* no more than `Visit.shorten` leaves is returned: of a
    large fleet the rest is most of the memory.  *watch* is told of each server when it is begun,
    and when it is done.
    """
    state = await heeding(state, context)
    gate = asyncio.Semaphore(context.parallelism)
    visits: list[Visit] = []

    async def one(server: DesiredServer) -> Visit:
        visit = first_visit(server)
        visits.append(visit)
        async with gate:
            watch(server.name, True)
            try:
                await look(visit, state, consents, context)
            except Exception as error:  # noqa: BLE001  - the others are looked at all the same
                visit.plan = failed(server, InternalError(error))
            if not keep:
                await visit.close()
            if brief:
                visit.shorten()
            watch(server.name, False)
        return visit

    await context.resolver.prepare(asked_for(state, context))
    looking = [asyncio.create_task(one(server)) for server in state.servers]
    try:
        ordered = await asyncio.gather(*looking)
    except BaseException:
        await asyncio.shield(_given_up(looking, visits))
        raise
    finally:
        context.resolver.forget()  # whoever acts on the plan looks anew
    limited = limit_unverified([visit.plan for visit in ordered], context.max_unknown_writes)
    fleet = len(state.servers) + len(state.others)
    limited = limit_actions(limited, context.policy.limits, fleet)
    boots = [(visit.desired.target, visit.boots) for visit in ordered]
    if any(line.ready for plan in limited for line in plan.disruptions):
        boots += await context.asked(partial(_remembered, state.others, ordered, context))
    for visit, plan in zip(ordered, hold_twins(limited, boots), strict=True):
        visit.plan = plan
    return list(ordered)


async def _given_up(looking: Sequence[asyncio.Task[Visit]], visits: Sequence[Visit]) -> None:
    """Close what was opened, once nobody opens anything any more."""
    for one in looking:
        if not one.cancelling():  # a second time would end what gives back after the first
            one.cancel()
    if looking:
        await asyncio.wait(looking)
    await asyncio.gather(*(visit.close() for visit in visits))


async def heeding(state: DesiredState, context: PassContext) -> DesiredState:
    """Return *state* with what operators paused, by the ledger.  Raises LedgerError."""
    if context.ledger is None:
        return state
    return paused(state, await context.asked(context.ledger.pauses.all), context.over_by())


async def look(visit: Visit, state: DesiredState, consents: Consents, context: PassContext) -> None:
    """
    Visit one server of *state* and plan it; a failure becomes part of its plan.

    Uses the session that the visit has, and leaves one open.  What holds for several servers
    together (`limit_unverified`, `hold_twins`) is up to whoever calls.
    """
    try:
        await remember(visit, state, context)
        await _look(visit, consents, context)
    except JtrError as error:
        visit.plan = failed(visit.desired, error)
        with suppress(LedgerError):  # which may be what failed
            terms = await known_terms(visit, context)
            open_lines = unseen_lines(visit.desired, visit.recorded, terms)
            visit.plan = replace(visit.plan, disruptions=tuple(open_lines))
    new = new_recipient(visit.desired, visit.recorded)
    visit.plan = replace(visit.plan, new_recipient=new, violations=visit.violations)


def asked_for(state: DesiredState, context: PassContext) -> set[SecretPath]:
    """Return the secrets whose versions this survey will ask for, by what the policy allows."""
    found = set()
    for server in state.servers:
        violations = context.policy.violations(server)
        if against(violations, None) is not None:
            continue
        logins = (server.access_secret, server.access_token)
        found |= {ref.at for ref in logins if ref is not None}
        for exchange in server.exchanges:
            if exchange.presence is Presence.PRESENT and not against(
                violations, PolicyAction.WRITE, exchange.code
            ):
                found |= {ref.at for ref in exchange.references}
    return found


def _remembered(
    servers: Sequence[DesiredServer], visits: Sequence[Visit], context: PassContext
) -> list[tuple[Target, tuple[BootLine, ...]]]:
    """Return which servers that are not visited last showed a boot of one that is."""
    if context.ledger is None:
        return []
    here = {line.time: (visit, line) for visit in visits for line in visit.boots[-LINES:]}
    found: list[tuple[Target, tuple[BootLine, ...]]] = []
    for server in servers:
        known = context.ledger.look(server.target, server.name)
        seen = known.observation
        if seen is None or known.identity is None or known.identity.target != server.target:
            continue
        visit, line = here.get(seen.boot or 0, (None, None))
        # Many servers of a fleet may boot within one millisecond; what the ledger has is no more.
        if visit is not None and line is not None and visit.observed is not None:
            robots = {(robot.id, robot.name) for robot in visit.observed.robots}
            if not robots or not seen.robots or any((r.id, r.name) in robots for r in seen.robots):
                found.append((server.target, (line,)))
    return found


def plan_of(visits: Sequence[Visit], state: DesiredState, *, skip_unreachable: bool) -> Plan:
    """
    Put the visits together; servers that could not be reached may be set aside, named.

    One with something open is not: what is in doubt there does not wait for its network.
    """
    apart = [
        visit
        for visit in visits
        if skip_unreachable and isinstance(visit.plan.failure, DriverError)
        if visit.plan.failure.transient and not visit.plan.disruptions
    ]
    return Plan(
        tuple(visit.plan for visit in visits if visit not in apart),
        tuple(map(Recipient.of, state.servers)),
        skipped=state.skipped,
        not_visited=tuple(f"{v.desired.name}: {v.plan.failure}" for v in apart),
    )


async def remember(visit: Visit, state: DesiredState, context: PassContext) -> None:
    """Look the server up in the ledger, if the policy allows it at all."""
    server = visit.desired
    visit.violations = context.policy.violations(server)
    if (contact := against(visit.violations, None)) is not None:
        raise Blocked(contact.what, contact.remedy)
    if context.ledger is None:
        return
    found = await context.asked(partial(_known, server, context.ledger, context.unrecorded))
    known = found.identity
    # A name that was given to another server: the one that had it is still there, renamed.
    if known is None or known.target == server.target or known.target not in state.targets:
        visit.recorded = found
        if (request := found.requests.open) is not None:
            newest = replace(found.requests, open=as_wished(request, server))
            visit.recorded = replace(found, requests=newest)
    else:
        visit.recorded = Recorded(since=found.since)


def _known(
    server: DesiredServer, ledger: Ledger, unrecorded: UnrecordedOutcomes | None
) -> Recorded:
    found = ledger.load(server.target, server.name)
    return found if unrecorded is None else unrecorded.known(ledger.ledger_uid, found)


async def _look(visit: Visit, consents: Consents, context: PassContext) -> None:
    server = visit.desired
    if (elsewhere := moved(visit)) and server.name not in consents.targets:
        visit.plan = elsewhere
        return
    await agree(visit, consents, context.policy, context.resolver)
    if visit.withheld is not None and visit.withheld.hides:
        why = blocked(Code.NEW_RECIPIENT, *unknown_recipient(server.name))
        visit.plan = replace(blank_plan(server), hold=why)
        return
    if visit.session is None:
        await enter(visit, context)
    facts = await freeze(visit, context)
    await see(visit, context)
    await _judge(visit, facts, consents, context)


def moved(visit: Visit) -> ServerPlan | None:
    """Say that the address changed: checked before any handshake, tunnels and typos lead astray."""
    identity, server = visit.recorded.identity, visit.desired
    if identity is None or identity.target == server.target:
        return None
    return replace(
        blank_plan(server),
        hold=blocked(
            Code.ADDRESS_CHANGED,
            f"its address changed: it was {identity.target}",
            "make sure that the old server is off (it still holds keys and robots), then "
            f"--approve-target-change {server.name}",
        ),
    )


async def freeze(visit: Visit, context: PassContext) -> Facts:
    frozen: dict[str, Mapping[str, FrozenRef] | JtrError] = {}
    for exchange in visit.desired.exchanges:
        if exchange.presence is Presence.PRESENT and not against(
            visit.violations, PolicyAction.WRITE, exchange.code
        ):
            try:
                frozen[exchange.code] = await context.resolver.freeze(
                    exchange, visit.desired.target
                )
            except JtrError as error:
                frozen[exchange.code] = error
                if isinstance(error, NotSettled):
                    visit.again_in = min(visit.again_in or error.after, error.after)
    visit.sources = {
        code: sources for code, sources in frozen.items() if not isinstance(sources, JtrError)
    }
    return Facts(
        sources=frozen,
        suspended=_suspended(visit.desired, context.over_by()),
        violations=visit.violations,
        withheld=visit.withheld.paths if visit.withheld is not None else frozenset(),
    )


async def _judge(visit: Visit, facts: Facts, consents: Consents, context: PassContext) -> None:
    observation = view(visit, context)
    wanted = wanted_values(visit.desired, observation, visit.recorded, facts, consents)
    evidence: dict[str, Evidence | JtrError] = {}
    for exchange in visit.desired.exchanges:
        if exchange.code in wanted:
            try:
                evidence[exchange.code] = await _evidence(visit, exchange, context)
            except JtrError as error:
                evidence[exchange.code] = error
    refuses = refusal(visit, observation.version, context, await context.recent_brakes())
    facts = replace(
        facts,
        evidence=evidence,
        refuses=refuses,
        terms=await live_terms(visit, context),
    )
    visit.facts = facts
    visit.plan = plan_server(visit.desired, observation, visit.recorded, facts, consents)


async def _evidence(visit: Visit, exchange: DesiredExchange, context: PassContext) -> Evidence:
    code = exchange.code
    observed = visit.observed.exchange(code) if visit.observed else None
    if observed is None:
        raise AssertionError
    values = await context.resolver.values(exchange, visit.sources[code], observed)
    visit.values[code] = values
    record = visit.recorded.exchanges.get(code, ExchangeRecord(code))
    return evidence_of(
        context.driver, context.fingerprints, values, observed, record, uid=visit.uid
    )


def _suspended(server: DesiredServer, over_by: datetime) -> bool:
    return server.suspend is not None and server.suspend.holds(over_by)


def failed(server: DesiredServer, error: JtrError) -> ServerPlan:
    return replace(blank_plan(server), failure=error)
