"""
More situations of `tests.golden.cases`: requests, robots that are owed a start, and their lists.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from reconciler.errors import Exit
from reconciler.ledger import request_state
from reconciler.model.actions import InvalidateCache, RebootServer, RestartRobots, ResumeRobots
from reconciler.model.conditions import Code, blocked
from reconciler.model.desired import Afterwards, OnCredentialChange, RequestKind
from reconciler.model.observed import BootLine, Logbook, Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import ServerPlan
from reconciler.model.recorded import (
    NO_REQUESTS,
    Attempt,
    Debt,
    Owed,
    PendingStarts,
    Request,
    Requests,
    Stage,
)
from reconciler.model.values import replace
from reconciler.plan.inputs import NO_DISRUPTIVE, Consents
from reconciler.plan.requests import request_lines
from reconciler.render.requests import Listed
from tests.golden.cases import (
    BOOT,
    HOSTILE,
    LOG,
    NEW,
    NOW,
    ONES,
    SINCE,
    TERMS,
    Shown,
    alone,
    named,
    one,
    wish,
)
from tests.support import factories as f

ASLEEP = (replace(f.GRID, running=False), replace(f.ARB, running=False))
BY = "apply 812@ci-7"


def sent(kind: RequestKind, hour: int = 9, tries: int = 1, **changes: Any) -> Request:
    """A request that was sent at that hour."""
    attempts = tuple(Attempt(f"n{n}", SINCE, BY, (BOOT,), LOG.newest) for n in range(tries))
    instant = NOW.replace(hour=hour, minute=0)
    ran = (f.GRID, f.ARB) if kind is RequestKind.REBOOT else ()
    base = Request(kind, instant, "okx moved", Stage.OPEN, attempts, Afterwards.RESUME, ran=ran)
    return replace(base, **changes)


def owed(**changes: Any) -> PendingStarts:
    """Robots that a reboot of ours left stopped."""
    base = PendingStarts(
        "reboot 2026-11-22T09:00:00+00:00", (f.GRID, f.ARB), SINCE, BY, 600, boot=BOOT
    )
    return replace(base, **changes)


def asked(
    requests: Requests = NO_REQUESTS,
    *,
    robots: tuple[Robot, ...] = (f.GRID, f.ARB),
    consents: Consents | None = None,
    terms: Any = TERMS,
    **changes: Any,
) -> ServerPlan:
    """Plan a server that has requests and no exchange."""
    known = replace(f.recorded(), requests=requests)
    desired = f.server(supervised=True, **changes)
    given = consents or Consents()
    return one(desired, f.observed(robots=robots), known, given, terms=terms)


# ── plans ────────────────────────────────────────────────────────────────────────────────────


def scheduled_and_expired() -> Shown:
    old = replace(wish(RequestKind.CACHE, 9), instant=NOW - timedelta(hours=25))
    return alone(asked(reboot=wish(RequestKind.REBOOT, 23, robots=Afterwards.RESUME), cache=old))


def invalidation_in_doubt() -> Shown:
    requests = Requests(open=sent(RequestKind.CACHE))
    return alone(
        asked(requests, cache=wish(RequestKind.CACHE, 9), reboot=wish(RequestKind.REBOOT, 9))
    )


def reboot_in_doubt() -> Shown:
    silent = replace(TERMS, log=Logbook())
    return alone(asked(Requests(open=sent(RequestKind.REBOOT)), terms=silent, robots=ASLEEP))


def found_out() -> Shown:
    newer = BootLine(BOOT.time + 60_000, BOOT.pid)
    log = replace(LOG, boot=newer.time, boots=(BOOT, newer), newest=newer.time)
    requests = Requests(open=sent(RequestKind.REBOOT))
    terms = replace(TERMS, log=log)
    return alone(asked(requests, terms=terms, reboot=wish(RequestKind.REBOOT, 9), robots=ASLEEP))


def second_try() -> Shown:
    requests = Requests(open=sent(RequestKind.REBOOT))
    return alone(asked(requests, reboot=wish(RequestKind.REBOOT, 9, robots=Afterwards.RESUME)))


def handled() -> Shown:
    requests = request_state.opened(NO_REQUESTS, sent(RequestKind.REBOOT))
    failed = sent(RequestKind.REBOOT, stage=Stage.NOT_DONE, evidence="asked 2 x, and it still runs")
    requests = request_state.closed(requests, failed)
    satisfied = Request(RequestKind.CACHE, NOW, "", Stage.DONE, evidence="a person said so: looked")
    requests = request_state.noted(requests, satisfied)
    return alone(
        asked(requests, reboot=wish(RequestKind.REBOOT, 9), cache=wish(RequestKind.CACHE, 8))
    )


def robots_owed() -> Shown:
    due = asked(Requests(halt=owed()), terms=replace(TERMS, since_halt=120.0), robots=ASLEEP)
    return alone(due)


def robots_left() -> Shown:
    halt = owed(finding="arb-eth: it did not start")
    robots = (f.GRID, ASLEEP[1])
    return alone(asked(Requests(halt=halt), robots=robots, reboot=wish(RequestKind.REBOOT, 9)))


def restarts_held() -> Shown:
    owes = (
        Debt(Owed.RESTART, "bybit", SINCE, 1_000, 1, "grid-btc"),
        Debt(Owed.REBOOT, "bybit", SINCE, 1_000),
    )
    desired = f.server(f.exchange(), on_credential_change=OnCredentialChange.RESTART)
    known = f.recorded(replace(ONES, debts=owes))
    sources: dict[str, Any] = {"sources": {"bybit": f.sources(1)}}
    seen = f.observed({"bybit": NEW}, (f.GRID,))
    return alone(one(desired, seen, known, terms=TERMS, **sources))


def refused_requests() -> Shown:
    refused = replace(
        TERMS,
        refused=blocked(
            Code.LEDGER_CANNOT_TELL, "another ledger might know of it", "write soleWriter: true"
        ),
    )
    return alone(
        asked(
            terms=replace(refused, log=Logbook()),
            cache=wish(RequestKind.CACHE, 9),
            reboot=wish(RequestKind.REBOOT, 23),
        )
    )


def not_disruptive() -> Shown:
    consents = Consents(quiet=NO_DISRUPTIVE)
    return alone(
        asked(
            consents=consents, cache=wish(RequestKind.CACHE, 9), reboot=wish(RequestKind.REBOOT, 9)
        )
    )


def waiting() -> Shown:
    windows = (
        f.window("allow", "0 2 * * 1-5", "Europe/Berlin", hours=2),
        f.window("deny", "0 0 24 12 *", "UTC", days=3),
    )
    owes = (Debt(Owed.RESTART, "bybit", SINCE, 1_000, 1, "grid-btc"),)
    desired = f.server(
        f.exchange(),
        on_credential_change=OnCredentialChange.RESTART,
        supervised=True,
        windows=windows,
        cache=wish(RequestKind.CACHE, 9, expires_after=timedelta(hours=2)),
        reboot=wish(RequestKind.REBOOT, 9, robots=Afterwards.RESUME),
    )
    known = f.recorded(replace(ONES, debts=owes))
    sources: dict[str, Any] = {"sources": {"bybit": f.sources(1)}}
    seen = f.observed({"bybit": NEW}, (f.GRID,))
    return alone(one(desired, seen, known, terms=TERMS, **sources))


PLANS: dict[str, Callable[[], Shown]] = {
    "022-scheduled-and-expired": scheduled_and_expired,
    "023-invalidation-in-doubt": invalidation_in_doubt,
    "024-reboot-in-doubt": reboot_in_doubt,
    "025-reboot-found-out": found_out,
    "026-reboot-second-try": second_try,
    "027-handled": handled,
    "028-robots-owed-a-start": robots_owed,
    "029-robots-left-stopped": robots_left,
    "030-restart-does-not-suffice": restarts_held,
    "031-the-ledger-allows-none": refused_requests,
    "032-no-disruptive": not_disruptive,
    "033-waiting-for-a-window": waiting,
}


# ── reports ──────────────────────────────────────────────────────────────────────────────────

CACHE = InvalidateCache(NOW, "okx moved")
REBOOT = RebootServer(NOW, "okx moved", Afterwards.RESUME, 600.0)


def requests_done() -> list[Report]:
    restarted = RestartRobots("bybit", (f.GRID,))
    evidence = "boot line 1763800060000 of process 4121; started again: grid-btc, arb-eth"
    return [
        Report(
            asked(),
            (
                Outcome(restarted, Result.DONE, "restarted grid-btc"),
                Outcome(CACHE, Result.DONE),
                Outcome(REBOOT, Result.DONE, evidence),
            ),
        )
    ]


def requests_in_doubt() -> list[Report]:
    doubt = Outcome(
        CACHE,
        Result.IN_DOUBT,
        "the server did not answer: it is not known whether it took effect, and it is not repeated",
        "find out on the server, then `jtr request resolve tokyo-1 invalidate-cache "
        "2026-11-22T09:30:00+00:00 --done|--not-done --because TEXT`",
        Exit.IN_DOUBT,
    )
    why = "stopped: tokyo-1: in doubt"
    rest = Outcome(REBOOT, Result.NOT_ATTEMPTED, why, code=Exit.BLOCKED)
    osaka = one(named("osaka-1", reboot=wish(RequestKind.REBOOT, 9)), f.observed(), terms=TERMS)
    return [
        Report(asked(), (doubt, Outcome(REBOOT, Result.NOT_ATTEMPTED))),
        Report(osaka, (rest,)),
    ]


def robots_left_stopped() -> list[Report]:
    left = Outcome(
        ResumeRobots((f.GRID, f.ARB), asked=True),
        Result.LEFT_STOPPED,
        "arb-eth: it did not start",
        "`jtr request resume tokyo-1` starts them, or start them on the server's page",
        Exit.SERVER,
        (f.ARB,),
    )
    not_done = Outcome(
        REBOOT,
        Result.NOT_DONE,
        "asked 2 x, and the process from before still runs",
        "a robot's stop may hang: see the server's log; start the robots on its page",
        Exit.SERVER,
        (f.GRID,),
    )
    return [Report(asked(), (left,)), Report(asked(), (not_done,))]


REPORTS: dict[str, Callable[[], list[Report]]] = {
    "009-requests-done": requests_done,
    "010-request-in-doubt": requests_in_doubt,
    "011-robots-left-stopped": robots_left_stopped,
}


# ── lists of requests ────────────────────────────────────────────────────────────────────────


def listing(requests: Requests, **changes: Any) -> Listed:
    """List a server as `jtr request list` does."""
    desired = f.server(supervised=True, **changes)
    terms = replace(TERMS, log=None)
    lines = request_lines(desired, requests, (f.GRID, f.ARB), terms, quiet=None, refuses=None)
    return Listed(desired.name, desired.target, requests, tuple(lines))


def list_of_everything() -> list[Listed]:
    done = sent(
        RequestKind.CACHE,
        8,
        stage=Stage.DONE,
        evidence="the server answered",
        closed_by=BY,
        closed_at=SINCE,
    )
    doubt = replace(request_state.noted(NO_REQUESTS, done), open=sent(RequestKind.REBOOT))
    left = Requests(halt=owed(finding="arb-eth: it did not start"))
    return [
        listing(doubt, reboot=wish(RequestKind.REBOOT, 9), cache=wish(RequestKind.CACHE, 8)),
        replace(
            listing(left, reboot=wish(RequestKind.REBOOT, 23)),
            server="osaka-1",
            held="mode: observe",
        ),
        replace(listing(Requests(halt=owed())), server="kyoto-1", declared=False),
        replace(listing(NO_REQUESTS), server="nara-1"),
        replace(
            listing(
                NO_REQUESTS,
                reboot=wish(RequestKind.REBOOT, 9),
                windows=(f.window("deny", "0 0 * * *", days=1, hours=-1),),
            ),
            server="nagoya-1",
        ),
    ]


def hostile_list() -> list[Listed]:
    robot = Robot(1, HOSTILE, "bybit", running=True)
    doubt = Requests(open=sent(RequestKind.REBOOT, ran=(robot,), reason=HOSTILE))
    left = owed(robots=(robot,), finding=HOSTILE, origin=HOSTILE, by=HOSTILE)
    closed = sent(RequestKind.CACHE, stage=Stage.DONE, evidence=HOSTILE, closed_by=HOSTILE)
    everything = replace(doubt, halt=left, past=(closed,))
    return [replace(listing(everything), held=HOSTILE)]


LISTS: dict[str, Callable[[], list[Listed]]] = {
    "001-everything": list_of_everything,
    "002-hostile-names": hostile_list,
    "003-nothing": lambda: [listing(NO_REQUESTS)],
}
