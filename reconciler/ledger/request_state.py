"""
How the requests of one server change: pure functions from one state to the next.

All of a server's requests lie in one document, so that one compare-and-set decides every race: at
most one process may send a one-shot for an instant, and none while another one is open.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from reconciler.errors import Blocked, LedgerError
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.observed import Robot
from reconciler.model.recorded import Attempt, PendingStarts, Request, Requests, Stage
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace

KEPT: Final = 50  # closed requests that stay readable; what was handled is known for ever
MOST_ATTEMPTS: Final = 2


def opened(requests: Requests, request: Request) -> Requests:
    """
    Add the intent of a request that was never sent.

    Raises Blocked when it was handled already, or while another one is open or robots are owed.
    """
    if requests.open is not None:
        raise Blocked(
            f"{_named(requests.open)} is still open on this server",
            "see: jtr request list",
        )
    if requests.halt is not None:
        raise Blocked(
            "robots of this server are still to be started again", "see: jtr request list"
        )
    if not newer(requests.handled, request.kind, request.instant):
        raise Blocked(
            f"{_named(request)}, or a later one, was handled already", "ask with a new instant"
        )
    return replace(requests, open=request)


def retried(requests: Requests, attempt: Attempt, ran: tuple[Robot, ...]) -> Requests:
    """Add the intent of the second and last attempt, and what it stops; only a reboot has one."""
    request = _open(requests)
    if request.kind is not RequestKind.REBOOT or len(request.attempts) >= MOST_ATTEMPTS:
        raise Blocked(f"{_named(request)} was tried as often as it may be", "see: jtr request list")
    return replace(requests, open=replace(request, attempts=(*request.attempts, attempt), ran=ran))


def unsent(requests: Requests, nonce: str) -> Requests:
    """Take back the newest attempt, which is our own: nothing of it was sent."""
    request = _open(requests)
    if not request.attempts or request.attempts[-1].nonce != nonce:
        raise LedgerError(f"this process intends no {_named(request)}", "plan again")
    rest = request.attempts[:-1]
    return replace(requests, open=replace(request, attempts=rest) if rest else None)


def closed(requests: Requests, request: Request) -> Requests:
    """
    Close the open request as *request* says.

    A reboot of our own that is done leaves its robots owed, if they are to be resumed.
    """
    after = dismissed(requests, request)
    halt = owed(request) if request.stage is Stage.DONE else None
    return replace(after, halt=halt or after.halt)


def owed(request: Request) -> PendingStarts | None:
    """Return the robots that a reboot of ours leaves owed once it is done, if it leaves any."""
    if request.robots is not Afterwards.RESUME or not request.ran or not request.attempts:
        return None
    last = request.attempts[-1]
    return PendingStarts(
        f"reboot {spelled(request.instant)}",
        request.ran,
        at=last.at,
        by=last.by,
        within=request.resume_within,
        boot=request.boot,
        host_boot=last.host_boot,
        elapsed=last.elapsed,
    )


def pending(requests: Requests) -> PendingStarts | None:
    """Return the robots that are owed, or that the open reboot leaves owed once it is done."""
    return requests.halt or (owed(requests.open) if requests.open is not None else None)


def dismissed(requests: Requests, request: Request) -> Requests:
    """Close the open request as *request* says, and start no robots because of it."""
    old = _open(requests)
    if (old.kind, old.instant) != (request.kind, request.instant):
        raise LedgerError(f"{_named(request)} is not open", "plan again")
    return replace(_handled(requests, request), open=None)


def noted(requests: Requests, request: Request) -> Requests:
    """Close a request that was never sent: satisfied, or older than the ledger."""
    if not newer(requests.handled, request.kind, request.instant):
        return requests
    return _handled(requests, request)


def halted(requests: Requests, halt: PendingStarts) -> Requests:
    """Note the robots that are about to be stopped; raises Blocked while others are owed."""
    if requests.open is not None or requests.halt is not None:
        raise Blocked(
            "something of an earlier pass is still open on this server", "see: jtr request list"
        )
    return replace(requests, halt=halt)


def beginning(requests: Requests, robot: int) -> Requests:
    """Note that the start of one robot is about to be sent: it is never started again by itself."""
    halt = _owed(requests)
    if halt.finding or robot in halt.begun or robot not in {r.id for r in halt.robots}:
        raise Blocked("this robot must not be started by itself any more", "see: jtr request list")
    return replace(requests, halt=replace(halt, begun=(*halt.begun, robot)))


def reopened(requests: Requests) -> Requests:
    """Take a finding back because a person asked for the robots to be started."""
    halt = _owed(requests)
    return replace(requests, halt=replace(halt, begun=(), finding=""))


def not_begun(requests: Requests, robot: int) -> Requests:
    """Take a start back: nothing of it was sent."""
    halt = _owed(requests)
    return replace(requests, halt=replace(halt, begun=tuple(r for r in halt.begun if r != robot)))


def released(requests: Requests) -> Requests:
    """Owe no robots any more."""
    return replace(requests, halt=None)


def left(requests: Requests, finding: str) -> Requests:
    """Leave the robots that are still stopped to people."""
    return replace(requests, halt=replace(_owed(requests), finding=finding))


def newer(handled: Mapping[RequestKind, datetime], kind: RequestKind, instant: datetime) -> bool:
    last = handled.get(kind)
    return last is None or instant > last


def _handled(requests: Requests, request: Request) -> Requests:
    handled = dict(requests.handled)
    if newer(handled, request.kind, request.instant):
        handled[request.kind] = request.instant
    return replace(requests, handled=handled, past=(*requests.past, _brief(request))[-KEPT:])


def _brief(request: Request) -> Request:
    """Leave out what only an open request needs: the boot lines that a new one is told by."""
    # They are the server's whole log of boots once per attempt; every pass reads this document.
    attempts = tuple(replace(attempt, boots=()) for attempt in request.attempts)
    return replace(request, attempts=attempts)


def _open(requests: Requests) -> Request:
    if requests.open is None:
        raise LedgerError("no request is open on this server", "plan again")
    return requests.open


def _owed(requests: Requests) -> PendingStarts:
    if requests.halt is None:
        raise LedgerError("no robots are owed on this server", "plan again")
    return requests.halt


def _named(request: Request) -> str:
    return f"{request.kind} {spelled(request.instant)}"
