"""
Decide what is to be done on one server.  Pure: values in, a value out.

`compare` says how each exchange compares, `exchange` what follows from it, `consequences` what it
means for the robots; this module puts a server's plan together and decides what is not touched.

No credential change, drift or error ever plans an invalidation or a reboot: the modules that
decide on credentials cannot even name them, and `requests` sees nothing of credentials.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from reconciler.errors import JtrError
from reconciler.model.actions import RebootServer, WriteExchange
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.desired import DesiredServer, Mode, Presence, RequestKind, Suspension
from reconciler.model.observed import Robot
from reconciler.model.plan import Disruption, Line, ServerPlan, Standing, Status, Verdict
from reconciler.model.policy import PolicyAction
from reconciler.model.recorded import (
    ExchangeRecord,
    Observation,
    Purpose,
    Recorded,
    Requests,
)
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace
from reconciler.plan.compare import Shown, explained, is_ours, needs_values
from reconciler.plan.consequences import open_debts
from reconciler.plan.exchange import ExchangePlan, obstacle
from reconciler.plan.inputs import DENIED, Consents, Facts, Terms
from reconciler.plan.requests import left_owed, request_lines, unsettled
from reconciler.plan.robots import halt_line, restart_lines, restarting, started
from reconciler.plan.windows import spelled_windows, standing


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
    found = [
        ExchangePlan(desired, exchange, observation, recorded, facts, consents).line()
        for exchange in sorted(desired.exchanges, key=lambda e: e.code)
    ]
    found += _not_ours(desired, observation, recorded)
    lines = [replace(line, since=observation.since.get(line.exchange, "")) for line in found]
    disruptions = _disruptions(
        desired, observation, recorded, lines=lines, facts=facts, consents=consents
    )
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
        hold=_hold(desired, observation, recorded, facts, consents),
        restarts=restarting(desired),
        windows=spelled_windows(desired.windows),
    )


def aged(plan: ServerPlan, age: float, believed: float) -> ServerPlan:
    """
    Return the plan of an observation that is *age* seconds old.

    What was as desired longer ago than *believed* seconds is not said to be so any more.
    """
    if age <= believed:
        return replace(plan, age=age)
    lines = (
        replace(line, status=Status.STALE, verdict=Verdict.UNKNOWN, condition=STALE)
        if line.status in (Status.IN_SYNC, Status.FOUND)
        else line
        for line in plan.lines
    )
    return replace(plan, age=age, lines=tuple(lines))


STALE: Final = Condition(
    Code.STALE,
    "as desired when it was last seen, too long ago to say so now (durations.stale)",
    "have it looked at: jtr plan without --recorded, jtr apply, or a controller",
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
        yield unsettled(known.open, terms, ())


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
                condition=Condition(
                    Code.LEFT_ON_SERVER,
                    "we wrote it once; it is no longer in the file",
                    f"declare `{code}: {{state: absent}}` to delete it",
                ),
            )
        else:
            untouched = Condition(Code.NOT_MANAGED, "not in the file, untouched")
            yield Line(code, Status.NOT_MANAGED, condition=untouched)


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
    known = recorded.requests
    if known.halt is None and known.open is not None:
        # What is noted first when this is applied; nothing but what is named here is started.
        known = replace(known, halt=left_owed(known.open, terms))
    settled = known
    if known.halt is not None:
        line = halt_line(known.halt, desired.name, robots, terms)
        if line.standing is Standing.FOUND_OUT:
            known = replace(known, halt=None)
        if line.ready is not None and (refuses := facts.refuses) is not None:
            why = refuses.says(f"{line.why}: {refuses.what}")
            line = replace(line, standing=Standing.BLOCKED, condition=why, action=None)
        elif line.ready is not None and (quiet := consents.quiet) is not None:
            line = replace(line, standing=Standing.HELD, condition=quiet, action=None)
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
            refuses=facts.refuses,
        )
    )
    requests = tuple(_permitted(line, facts) for line in requests)
    debts = open_debts(recorded, observation)
    rebooting = any(isinstance(line.ready, RebootServer) for line in requests)
    yield from restart_lines(
        desired,
        lines,
        debts,
        observation.robots,
        held=_holds_restarts(desired, known, facts, consents),
        rebooting=rebooting,
    )
    yield from requests


def _holds_restarts(
    desired: DesiredServer, known: Requests, facts: Facts, consents: Consents
) -> Condition | None:
    """Say why no robot is restarted after a changed key; None when they may be."""
    if known.halt is not None or known.open is not None:
        return Condition(Code.EARLIER_OPEN, "something of an earlier pass is still open")
    if consents.quiet is not None:
        return consents.quiet
    if facts.terms.unsteady:
        return Condition(Code.CLOCK_UNSTEADY, facts.terms.unsteady)
    if desired.windows and not (opening := standing(desired.windows, facts.terms.now)).open:
        return Condition(Code.WINDOW_CLOSED, opening.why)
    return facts.refuses or (DENIED if facts.denied(PolicyAction.RESTART) else None)


def _permitted(line: Disruption, facts: Facts) -> Disruption:
    """Block a request of the documents that the policy does not allow, due or scheduled."""
    action = PolicyAction.REBOOT if line.kind is RequestKind.REBOOT else PolicyAction.INVALIDATE
    if line.action is None or not facts.denied(action):
        return line
    return replace(line, standing=Standing.BLOCKED, condition=DENIED, action=None)


def _notes(desired: DesiredServer, facts: Facts) -> Iterator[str]:
    for what, source in desired.borrowed:
        yield f"{what} is given by {source}"
    if desired.has_security:
        yield "`security` is declared: a changed key is audited at its exchange before it is sent"
    if desired.insecure_transport:
        yield f"keys travel in clear: insecureTransport: {desired.insecure_transport}"
    if not facts.live:
        yield "from the ledger's last observation; the server was not visited"


def _hold(
    desired: DesiredServer,
    observation: Observation,
    recorded: Recorded,
    facts: Facts,
    consents: Consents,
) -> Condition | None:
    swapped = another_server(observation, recorded)
    if swapped and desired.name not in consents.targets:
        return blocked(
            Code.ANOTHER_SERVER,
            f"another server behind this address? {swapped}",
            f"look at it; if it is the right one: --approve-target-change {desired.name}",
        )
    if desired.suspend is not None and facts.suspended:
        return Condition(Code.SUSPENDED, _suspended(desired.suspend))
    if desired.mode is Mode.OBSERVE:
        return OBSERVED_ONLY
    return None


OBSERVED_ONLY: Final = Condition(Code.OBSERVE_ONLY, "mode: observe", "set mode: enforce to apply")


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
