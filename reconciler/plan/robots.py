"""
Which robots are restarted after a changed credential, and which are owed a start.  Pure.

Starting a robot is trading.  One is started again only if we stopped it, soon afterwards, on the
process on which we stopped it, and while nobody else changed robots; else people are asked.
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from reconciler.model.actions import Need, RestartRobots, ResumeRobots, WriteExchange
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.desired import Afterwards, DesiredServer, OnCredentialChange, RequestKind
from reconciler.model.observed import Robot
from reconciler.model.plan import Disruption, Line, Standing
from reconciler.model.recorded import Debt, Owed, PendingStarts, Purpose
from reconciler.model.values import replace
from reconciler.plan.inputs import Terms
from reconciler.plan.requests import how_to_ask


def halt_line(
    halt: PendingStarts, server: str, robots: Sequence[Robot], terms: Terms
) -> Disruption:
    """Say what becomes of the robots that we stopped and that do not all run again."""
    base = Disruption(f"robots owed a start ({halt.origin})", Standing.DUE, robots=halt.robots)
    running = {robot.id for robot in robots if robot.running}
    left = tuple(robot for robot in halt.robots if robot.id not in running)
    if not left:
        run = Condition(Code.FOUND_OUT, f"they run: {names(halt.robots)}")
        return replace(base, standing=Standing.FOUND_OUT, condition=run)
    if why := unresumable(halt, robots, terms, restored=restored(halt, robots)):
        return replace(
            base,
            standing=Standing.BLOCKED,
            condition=blocked(
                Code.ROBOTS_LEFT_STOPPED,
                why if halt.finding else f"{names(left)}: {why}",  # a finding names them
                f"`jtr request resume {server}` starts them, or start them on the server's page",
            ),
            robots=left,
        )
    owed = Condition(Code.ROBOTS_OWED, names(left))
    return replace(base, condition=owed, robots=left, action=ResumeRobots(left, halt.at))


def restored(halt: PendingStarts, robots: Iterable[Robot]) -> frozenset[int]:
    """
    Return which of the robots that are owed run at the first look, though we did not start them.

    After a stop that threw or hung, the marks of the others survive in the server, and the boot of
    the second try starts those before the port opens (docs/protocol.md, 5).  A robot that ran
    before our reboot and runs after it is where it was promised to be: no reason to leave the rest
    stopped.
    """
    owed = {robot.id for robot in halt.robots} - set(halt.begun)
    return frozenset(robot.id for robot in robots if robot.running and robot.id in owed)


def unresumable(
    halt: PendingStarts,
    robots: Sequence[Robot],
    terms: Terms,
    *,
    restored: AbstractSet[int],
    failed: AbstractSet[int] = frozenset(),
) -> str:
    """
    Say why the robots that are owed must not be started without being asked; empty when fine.

    *restored* is what `restored` said at the first look.  *failed* are robots that were started
    and seen to stop: what became of those is known.
    """
    if halt.finding:
        return halt.finding
    return _too_late(halt, terms) or _meddled(halt, robots, restored, failed)


def _too_late(halt: PendingStarts, terms: Terms) -> str:
    if terms.log is None or not terms.log.readable:
        return "its system log does not tell whether the server booted again"
    if terms.since_halt is None or not 0 <= terms.since_halt <= halt.within:
        return f"not within {halt.within:g} s, or it cannot be told how long ago it was"
    if halt.boot is None:
        return "it is not known on which process they were stopped"
    if not terms.log.boots or terms.log.boots[-1] != halt.boot:
        return "the server booted again since, or its log does not tell"
    # A reboot's robots, by the server's own clock as well: ours may have been set back.
    lately = terms.log.newest is None or terms.log.newest - halt.boot.time <= halt.within * 1000
    if not halt.exchange and not lately:
        return f"by the server's own clock it is more than {halt.within:g} s ago"
    return ""


def _meddled(
    halt: PendingStarts,
    robots: Sequence[Robot],
    restored: AbstractSet[int],
    failed: AbstractSet[int],
) -> str:
    """
    Say what shows that robots were changed, and not by us; empty when nothing does.

    A robot that runs and did not run before our reboot was started by a person, or by the server
    because of a mark that is older than our request.  Nobody can tell which, and it trades though
    neither the plan nor a document named it: people look first.  One that is owed and begins to run
    after the first look was started by a person who is at work on it: we step aside.
    """
    running = {robot.id for robot in robots if robot.running}
    begun, others = set(halt.begun), set(halt.others)
    if strange := running - others - begun - restored:
        started = [robot for robot in robots if robot.id in strange]
        return f"robots run that we did not start: {names(started)}"
    if others - running:
        return "other robots stopped meanwhile"
    if begun - running - failed:
        return "a start was sent and it is not known what became of it"
    if {robot.id for robot in halt.robots} - {robot.id for robot in robots}:
        return "one of them is not on the server any more"
    return ""


def started(chosen: Iterable[Robot], robots: Iterable[Robot]) -> tuple[Robot, ...]:
    """Return *robots* as they are once those that were *chosen* run."""
    ids = {robot.id for robot in chosen}
    return tuple(replace(robot, running=robot.running or robot.id in ids) for robot in robots)


def restart_lines(
    desired: DesiredServer,
    lines: Iterable[Line],
    debts: Iterable[Debt],
    robots: Sequence[Robot],
    *,
    held: Condition | None,
    rebooting: bool,
) -> Iterator[Disruption]:
    """
    Say which robots are restarted because they hold an old credential.

    Where the server's client cache makes a reboot necessary nothing is restarted: it would not
    help.  With *rebooting* the reboot of this pass does it.  *held* says why no robot is touched.
    """
    if not restarting(desired):
        return
    running = {robot.id: robot for robot in robots if robot.running}
    owed, cached = _owed(lines, debts)
    for exchange in sorted(owed):
        chosen = tuple(sorted(running[i] for i in owed[exchange] if i in running))
        if not chosen:
            continue
        title, which = f"restart robots on {exchange}", names(chosen)
        if rebooting:
            why = Condition(Code.REBOOT_DOES_IT, f"{which}: the reboot below does it")
        elif exchange in cached:
            why = Condition(
                Code.REBOOT_NEEDED,
                f"a restart does not suffice for {which}: the server caches its client by API key",
                how_to_ask(RequestKind.REBOOT, desired.name, robots=Afterwards.RESUME),
            )
        elif held is not None:
            why = Condition(held.code, f"{which}: {held.what}")
        else:
            why = Condition(Code.DUE, which)
            action = RestartRobots(exchange, chosen)
            yield Disruption(title, Standing.DUE, why, action, robots=chosen)
            continue
        yield Disruption(title, Standing.HELD, why, robots=chosen)


def restarting(desired: DesiredServer) -> bool:
    """Whether the document wants robots restarted after a changed key."""
    return desired.on_credential_change is OnCredentialChange.RESTART


def _owed(lines: Iterable[Line], debts: Iterable[Debt]) -> tuple[dict[str, set[int]], set[str]]:
    """Return which robots hold old keys, by exchange, and where only a reboot helps."""
    owed: dict[str, set[int]] = {}
    cached: set[str] = set()
    for debt in debts:
        if debt.owed is Owed.REBOOT:
            cached.add(debt.exchange)
        elif debt.robot_id is not None:
            owed.setdefault(debt.exchange, set()).add(debt.robot_id)
    for line in lines:
        action, consequence = line.ready, line.consequence
        changes = isinstance(action, WriteExchange) and action.purpose is Purpose.CHANGE
        if not changes or consequence is None:
            continue
        if consequence.need is Need.REBOOT:
            cached.add(line.exchange)
        owed.setdefault(line.exchange, set()).update(robot.id for robot in consequence.robots)
    return owed, cached


def names(robots: Iterable[Robot]) -> str:
    return ", ".join(robot.name for robot in robots)
