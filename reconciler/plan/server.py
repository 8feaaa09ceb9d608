"""
Decide what is to be done on one server.  Pure: values in, a value out.

`compare` says how each exchange compares, `exchange` what follows from it, `consequences` what it
means for the robots; this module puts a server's plan together and decides what is not touched.

No credential change, drift or error ever plans an invalidation or a reboot: the modules that
decide on credentials cannot even name them, and `requests` sees nothing of credentials.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler.errors import Exit, JtrError
from reconciler.model.actions import RebootServer, WriteExchange
from reconciler.model.desired import DesiredServer, Mode, Presence, RequestKind, Suspension
from reconciler.model.observed import Robot
from reconciler.model.plan import Disruption, Line, ServerPlan, Standing, Status
from reconciler.model.policy import PolicyAction
from reconciler.model.recorded import ExchangeRecord, Observation, Purpose, Recorded
from reconciler.model.timestamps import spelled
from reconciler.plan.compare import Shown, explained, is_ours, needs_values
from reconciler.plan.consequences import open_debts
from reconciler.plan.exchange import ExchangePlan, obstacle
from reconciler.plan.inputs import DENIED, Consents, Facts, Terms
from reconciler.plan.requests import left_owed, request_lines, unsettled
from reconciler.plan.robots import halt_line, restart_lines, started
from reconciler.plan.windows import standing


def wanted_values(
    desired: DesiredServer,
    observation: Observation,
    recorded: Recorded,
    facts: Facts,
    consents: Consents,
) -> tuple[str, ...]:
    """Return the exchanges whose values must be read before `plan_server` can decide."""
    wanted = []
    for exchange in desired.exchanges:
        sources = facts.sources.get(exchange.code)
        if (
            exchange.presence is Presence.ABSENT
            or sources is None
            or isinstance(sources, JtrError)
            or obstacle(exchange, observation)
        ):
            continue
        record = recorded.exchanges.get(exchange.code, ExchangeRecord(exchange.code))
        forced = consents.covers(consents.rewrite, desired.name, exchange.code)
        if forced or needs_values(Shown.of(observation, exchange.code), record, sources):
            wanted.append(exchange.code)
    return tuple(wanted)


def plan_server(
    desired: DesiredServer,
    observation: Observation,
    recorded: Recorded,
    facts: Facts,
    consents: Consents,
) -> ServerPlan:
    """List what brings the server to *desired*, in the order in which it must happen."""
    lines = [
        ExchangePlan(desired, exchange, observation, recorded, facts, consents).line()
        for exchange in sorted(desired.exchanges, key=lambda e: e.code)
    ]
    lines += _not_ours(desired, observation, recorded)
    disruptions = _disruptions(
        desired, observation, recorded, lines=lines, facts=facts, consents=consents
    )
    hold = _hold(desired, observation, recorded, facts, consents)
    return ServerPlan(
        server=desired.name,
        target=desired.target,
        owner=desired.owner,
        version=observation.version,
        lines=tuple(lines),
        disruptions=tuple(disruptions),
        debts=open_debts(recorded, observation),
        robots=observation.robots,
        notes=tuple(_notes(desired, facts)),
        observed_at=observation.at,
        held=hold.why,
        held_remedy=hold.remedy,
        held_code=hold.code,
    )


def unseen_lines(desired: DesiredServer, recorded: Recorded, terms: Terms) -> Iterator[Disruption]:
    """
    Say what is still open on a server that was not seen: by the ledger, it is so in any case.

    Nothing is to be done about it before somebody looks, so no line has an action.
    """
    known, seen = recorded.requests, recorded.observation
    if known.halt is not None:
        yield halt_line(known.halt, desired.name, seen.robots if seen else (), terms)
    if known.open is not None:
        yield unsettled(known.open, terms)


def unseen_writes(desired: DesiredServer, facts: Facts) -> tuple[WriteExchange, ...]:
    """
    Return what a server that nobody has seen yet gets if it is found empty, as `plan_server` would.

    What it calls its fields is not known; nothing in a plan's id depends on it.
    """
    if facts.suspended or desired.mode is Mode.OBSERVE:
        return ()
    return tuple(
        WriteExchange(exchange.code, (), tuple(sorted(sources.items())), Purpose.CHANGE)
        for exchange in desired.exchanges
        if exchange.presence is Presence.PRESENT
        if not facts.denied(PolicyAction.WRITE, exchange.code)
        if (sources := facts.sources.get(exchange.code)) is not None
        if not isinstance(sources, JtrError)
    )


# ── the server as a whole ────────────────────────────────────────────────────────────────────


def _not_ours(
    desired: DesiredServer, observation: Observation, recorded: Recorded
) -> Iterator[Line]:
    declared = {exchange.code for exchange in desired.exchanges}
    for code in sorted(observation.masks.keys() - declared):
        if not Shown.of(observation, code).present:
            continue
        record = recorded.exchanges.get(code)
        if record is not None and is_ours(record):
            yield Line(
                code,
                Status.LEFT_ON_SERVER,
                why="we wrote it once; it is no longer in the file",
                remedy=f"declare `{code}: {{state: absent}}` to delete it",
            )
        else:
            yield Line(code, Status.NOT_MANAGED, why="not in the file, untouched")


def _disruptions(
    desired: DesiredServer,
    observation: Observation,
    recorded: Recorded,
    *,
    lines: Sequence[Line],
    facts: Facts,
    consents: Consents,
) -> Iterator[Disruption]:
    robots: Sequence[Robot] = observation.robots
    terms = facts.terms
    refuses = (facts.refuses_writes, facts.refuses_remedy)
    known = recorded.requests
    if known.halt is None and known.open is not None:
        # What is noted first when this is applied; nothing but what is named here is started.
        known = replace(known, halt=left_owed(known.open, terms))
    settled = known
    if known.halt is not None:
        line = halt_line(known.halt, desired.name, robots, terms)
        if line.standing is Standing.FOUND_OUT:
            known = replace(known, halt=None)
        if line.ready is not None and refuses[0]:
            line = replace(
                line,
                standing=Standing.BLOCKED,
                why=f"{line.why}: {refuses[0]}",
                remedy=refuses[1],
                error=Exit.BLOCKED,
                action=None,
            )
        elif line.ready is not None and consents.quiet:
            line = replace(line, standing=Standing.HELD, why=consents.quiet, action=None)
        yield line
        if line.ready is not None or line.standing is Standing.FOUND_OUT:
            # They get their start before anything else is done; if one fails, no more is done.
            settled = replace(known, halt=None)
            robots = started(line.robots, robots)
    requests = tuple(
        request_lines(
            desired,
            settled,
            robots,
            terms,
            quiet=consents.quiet,
            refuses=refuses,
        )
    )
    held = refuses[0] or (DENIED if facts.denied(PolicyAction.RESTART) else "")
    if known.halt is not None or known.open is not None:
        held = "something of an earlier pass is still open"
    elif consents.quiet:
        held = consents.quiet
    elif desired.windows:
        held = terms.unsteady or standing(desired.windows, terms.now).why
    requests = tuple(_permitted(line, facts) for line in requests)
    debts = open_debts(recorded, observation)
    rebooting = any(isinstance(line.ready, RebootServer) for line in requests)
    yield from restart_lines(
        desired, lines, debts, observation.robots, held=held, rebooting=rebooting
    )
    yield from requests


def _permitted(line: Disruption, facts: Facts) -> Disruption:
    """Block a request of the documents that the policy does not allow, due or scheduled."""
    action = PolicyAction.REBOOT if line.kind is RequestKind.REBOOT else PolicyAction.INVALIDATE
    if line.action is None or not facts.denied(action):
        return line
    return replace(
        line, standing=Standing.BLOCKED, why=DENIED, remedy="", action=None, error=Exit.BLOCKED
    )


def _notes(desired: DesiredServer, facts: Facts) -> Iterator[str]:
    for what, source in desired.borrowed:
        yield f"{what} is given by {source}"
    if desired.has_security:
        yield "`security` is declared: a changed key is audited at its exchange before it is sent"
    if desired.insecure_transport:
        yield f"keys travel in clear: insecureTransport: {desired.insecure_transport}"
    if not facts.live:
        yield "from the ledger's last observation; the server was not visited"


@dataclass(frozen=True, slots=True)
class _Hold:
    why: str
    remedy: str = ""
    code: Exit = Exit.DONE


def _hold(
    desired: DesiredServer,
    observation: Observation,
    recorded: Recorded,
    facts: Facts,
    consents: Consents,
) -> _Hold:
    swapped = another_server(observation, recorded)
    if swapped and desired.name not in consents.targets:
        return _Hold(
            f"another server behind this address? {swapped}",
            f"look at it; if it is the right one: --approve-target-change {desired.name}",
            Exit.BLOCKED,
        )
    if desired.suspend is not None and facts.suspended:
        return _Hold(_suspended(desired.suspend))
    if desired.mode is Mode.OBSERVE:
        return _Hold("mode: observe", "set mode: enforce to apply")
    return _Hold("")


def _suspended(suspension: Suspension) -> str:
    until = f" until {spelled(suspension.until)}" if suspension.until else ""
    return f"suspended by {suspension.by}{until}: {suspension.reason}"


def another_server(observation: Observation, recorded: Recorded) -> str:
    """
    Say why the server may not be the one we know: tunnels get swapped.

    True when every field that we wrote is changed or empty at once, or when no robot that we knew
    is left.
    """
    ours = {
        code: record
        for code, record in recorded.exchanges.items()
        if record.written is not None and not record.deleting
    }
    if ours and not any(
        recognised(Shown.of(observation, code), record) for code, record in ours.items()
    ):
        return "nothing that we wrote is there as we wrote it"
    known = {robot.id for robot in recorded.observation.robots} if recorded.observation else ()
    if known and not any(robot.id in known for robot in observation.robots):
        return "none of the robots that we knew is there"
    return ""


def recognised(shown: Shown, record: ExchangeRecord) -> bool:
    """Whether what is shown may be what we wrote; True where that cannot be told."""
    if record.written is None or record.written.key_id != shown.key_id:
        return True  # cannot tell, so it is no ground for suspicion
    return bool(explained(shown, record) | shown.like(record.found))
