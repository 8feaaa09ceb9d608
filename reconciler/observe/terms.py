"""
What governs writes and disruptive actions on a server: version, brake, ledger, clocks.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from reconciler.ledger.ledger import Ledger
from reconciler.ledger.request_state import pending
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.desired import RequestKind
from reconciler.model.recorded import HeldBrake, Recorded
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.boot_proof import MARGIN, plausible
from reconciler.plan.inputs import Terms
from reconciler.system.clocks import passed


def refusal(
    visit: Visit, version: str, context: PassContext, held: Iterable[HeldBrake]
) -> Condition | None:
    """
    Say why a server must not be written to; it showed this version a moment ago.

    *held* are the brakes that hold: of a moment ago for plans, which send nothing, and for whoever
    sends read after everything else that takes time.
    """
    if not context.driver.tested(version):
        return blocked(
            Code.UNTESTED_VERSION,
            f"JT-Trader {version} is outside the tested range",
            "an operator who tried it adds it to acceptVersions in the settings",
        )
    for one in held:
        if one.holds(visit.desired.target, visit.uid, version):
            release = f"`jtr ledger release-brake {one.over} --because TEXT`"
            return blocked(
                Code.BRAKE,
                f"the brake is on for {one.subject}: {one.brake.why}",
                f"look at {one.brake.server}, then {release}",
            )
    return None


async def live_terms(visit: Visit, context: PassContext) -> Terms:
    """
    Return what governs disruptive actions on a server that was just seen.

    Its clock is read only where a reboot by somebody else may have met a request.
    """
    terms = await known_terms(visit, context)
    if visit.observed is None:
        raise AssertionError
    log = visit.observed.log
    clock = None
    wish, handled = visit.desired.reboot, visit.recorded.requests.handled.get(RequestKind.REBOOT)
    if wish is not None and wish.instant <= terms.now and (not handled or handled < wish.instant):
        target = visit.desired.target
        clock = await context.driver.clock(target, context.trust(target.url))
        if clock is not None and not plausible(clock, log, context.now()):
            clock = None
    return replace(terms, log=log, clock=clock)


async def known_terms(visit: Visit, context: PassContext) -> Terms:
    """
    Return what governs disruptive actions as far as it is known without a visit.

    The ledger's baseline is read where a document asks for something, and after the server's own
    row: of a ledger that is restored in between, an older baseline would let a request pass that
    the row has forgotten.
    """
    ledger, baseline = context.ledger, None
    if ledger is not None and visit.desired.one_shots:
        baseline = await context.asked(ledger.baseline)
    return recorded_terms(
        visit.recorded,
        ledger,
        context.now(),
        baseline=baseline,
        suspect=context.ledger_suspect,
        only=context.ledger_shared or context.sole_writer,
        unsteady=context.unsteady(),
        jumped=context.jumped(),
    )


def recorded_terms(
    recorded: Recorded,
    ledger: Ledger | None,
    now: datetime,
    *,
    baseline: datetime | None,
    suspect: str,
    only: bool,
    unsteady: str = "",
    jumped: timedelta = timedelta(),
) -> Terms:
    """
    Return what governs disruptive actions on a server of which *recorded* is known.

    *baseline* is that of the ledger.  *suspect* says why the ledger may have forgotten something;
    *only* that no other one knows the server.
    """
    if baseline is not None and recorded.since is not None:
        baseline = max(baseline, recorded.since)
    requests, seen = recorded.requests, recorded.observation
    halt = pending(requests)
    if not unsteady and seen is not None:
        ahead = datetime.fromisoformat(seen.at) - now
        if ahead > MARGIN:
            unsteady = f"our clock is {ahead.total_seconds():.0f} s behind what the ledger noted"
    return Terms(
        now=now,
        baseline=baseline,
        refused=_no_one_shots(ledger, suspect, only=only),
        unsteady=unsteady,
        jumped=jumped,
        since_halt=None if halt is None else passed(halt, now),
        seen_boot=seen.boot if seen is not None else None,
        seen_at=datetime.fromisoformat(seen.at) if seen is not None else None,
    )


def _no_one_shots(ledger: Ledger | None, suspect: str, *, only: bool) -> Condition | None:
    """Say why the ledger allows no one-shots: it might not know what was done already."""
    if ledger is None:
        return _untold(
            "there is no ledger that would remember it", "`jtr ledger init`, then ask anew"
        )
    if ledger.born_now:
        return _untold("this ledger began just now and knows nothing of earlier ones", "ask anew")
    if suspect:
        return _untold(
            suspect,
            "look at what was done, then `jtr ledger accept-restore`; ask anew afterwards",
        )
    if not only:
        remedy = (
            "if no other one knows these servers, the operator writes soleWriter: true into the "
            "settings; else use one ledger in Vault"
        )
        return _untold("another ledger might know of it", remedy)
    return None


def _untold(why: str, remedy: str) -> Condition:
    return blocked(Code.LEDGER_CANNOT_TELL, why, remedy)
