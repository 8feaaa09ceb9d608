"""
Decide what is to be done on one server.  Pure: values in, a value out.

`diff` says how each exchange compares, `lines` what follows from it, `consequences` what it means
for the robots; this module puts a server's plan together and decides what must not be touched.

No credential change, drift or error ever plans an invalidation or a reboot: these modules cannot
even name them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler.actions import Action, Line, ServerPlan, Status, WriteExchange
from reconciler.consequences import open_debts
from reconciler.diff import Shown, explained, is_ours, needs_values
from reconciler.errors import Exit, JtrError
from reconciler.lines import Consents, Facts, Judge, obstacle
from reconciler.model import DesiredServer, Mode, OnCredentialChange, Presence, Suspension
from reconciler.remembered import ExchangeRecord, Observation, Remembered


def wanted_values(
    desired: DesiredServer,
    observation: Observation,
    remembered: Remembered,
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
        record = remembered.exchanges.get(exchange.code, ExchangeRecord(exchange.code))
        forced = consents.covers(consents.rewrite, desired.name, exchange.code)
        if forced or needs_values(Shown.of(observation, exchange.code), record, sources):
            wanted.append(exchange.code)
    return tuple(wanted)


def plan_server(
    desired: DesiredServer,
    observation: Observation,
    remembered: Remembered,
    facts: Facts,
    consents: Consents,
) -> ServerPlan:
    """List what brings the server to *desired*, in the order in which it must happen."""
    lines = [
        Judge(desired, exchange, observation, remembered, facts, consents).line()
        for exchange in sorted(desired.exchanges, key=lambda e: e.code)
    ]
    lines += _not_ours(desired, observation, remembered)
    lines += _not_yet(desired)
    hold = _hold(desired, observation, remembered, facts, consents)
    return ServerPlan(
        server=desired.name,
        target=desired.target,
        owner=desired.owner,
        version=observation.version,
        lines=tuple(lines),
        debts=open_debts(remembered, observation),
        robots=observation.robots,
        notes=tuple(_notes(desired, facts)),
        observed_at=observation.at,
        held=hold.why,
        held_remedy=hold.remedy,
        held_code=hold.code,
    )


# ── the server as a whole ────────────────────────────────────────────────────────────────────


def _not_ours(
    desired: DesiredServer, observation: Observation, remembered: Remembered
) -> Iterator[Line]:
    declared = {exchange.code for exchange in desired.exchanges}
    for code in sorted(observation.masks.keys() - declared):
        if not Shown.of(observation, code).present:
            continue
        record = remembered.exchanges.get(code)
        if record is not None and is_ours(record):
            yield Line(
                code,
                Status.LEFT_ON_SERVER,
                why="we wrote it once; it is no longer in the file",
                remedy=f"declare `{code}: {{state: absent}}` to delete it",
            )
        else:
            yield Line(code, Status.NOT_MANAGED, why="not in the file, untouched")


def _not_yet(desired: DesiredServer) -> Iterator[Line]:
    asked = [
        ("reboot", desired.reboot is not None, desired.reboot and desired.reboot.source),
        ("cache invalidation", desired.cache is not None, desired.cache and desired.cache.source),
        (
            "robots.onCredentialChange: restart",
            desired.on_credential_change is OnCredentialChange.RESTART,
            desired.source,
        ),
    ]
    for what, present, source in asked:
        if present:
            yield Line(
                "",
                Status.NOT_YET,
                why=what,
                remedy="remove it, or do it by hand on the Config page",
                source=source or desired.source,
                error=Exit.BLOCKED,
            )


def _notes(desired: DesiredServer, facts: Facts) -> Iterator[str]:
    if desired.has_security:
        yield "`security` is declared; this release does not verify it at the exchange yet"
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
    remembered: Remembered,
    facts: Facts,
    consents: Consents,
) -> _Hold:
    swapped = another_server(observation, remembered)
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
    until = f" until {suspension.until.isoformat()}" if suspension.until else ""
    return f"suspended by {suspension.by}{until}: {suspension.reason}"


def another_server(observation: Observation, remembered: Remembered) -> str:
    """
    Say why the server may not be the one we know: tunnels get swapped.

    True when every field that we wrote is changed or empty at once, or when no robot that we knew
    is left.
    """
    ours = {
        code: record
        for code, record in remembered.exchanges.items()
        if record.written is not None and not record.deleting
    }
    if ours and not any(
        recognised(Shown.of(observation, code), record) for code, record in ours.items()
    ):
        return "nothing that we wrote is there as we wrote it"
    known = {robot.id for robot in remembered.observation.robots} if remembered.observation else ()
    if known and not any(robot.id in known for robot in observation.robots):
        return "none of the robots that we knew is there"
    return ""


def recognised(shown: Shown, record: ExchangeRecord) -> bool:
    """Whether what is shown may be what we wrote; True where that cannot be told."""
    if record.written is None or record.written.key_id != shown.key_id:
        return True  # cannot tell, so it is no ground for suspicion
    return bool(explained(shown, record) | shown.like(record.found))


def limit_unverified(plans: Sequence[ServerPlan], most: int) -> tuple[ServerPlan, ...]:
    """Hold back the writes of unknown verdicts on all servers after the first *most*."""
    limited, counted = [], 0
    for plan in plans:
        if any(_unverified(action) for action in plan.actions):
            counted += 1
        if counted > most:
            limited.append(replace(plan, lines=tuple(_held_back(plan.lines, most))))
        else:
            limited.append(plan)
    return tuple(limited)


def _unverified(action: Action | None) -> bool:
    return isinstance(action, WriteExchange) and action.unverified


def _held_back(lines: Iterable[Line], most: int) -> Iterator[Line]:
    for line in lines:
        if _unverified(line.ready):
            yield replace(
                line,
                status=Status.BLOCKED,
                action=None,
                error=Exit.BLOCKED,
                why=f"{line.why}; more than {most} servers have such writes in this pass",
                remedy="apply again for the next ones, or raise maxUnknownWrites in the settings",
            )
        else:
            yield line
