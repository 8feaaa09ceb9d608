"""
From statuses and reports to the states that notifications are about.  Pure.
"""

from collections.abc import Iterator
from typing import Final

from reconciler.controller.conditions import DAILY, named, words
from reconciler.controller.guidance import (
    AUDIT,
    BRAKE,
    CLOCK,
    CONTESTED,
    DEGRADED,
    DOCUMENTS,
    DOCUMENTS_AWAY,
    DOCUMENTS_UNSIGNED,
    DOCUMENTS_WENT_BACK,
    DONE,
    DRIFT,
    FAILED,
    HARM,
    IN_DOUBT,
    LEDGER,
    REBOOT_OWED,
    RIVAL,
    ROBOTS,
    SUSPENDED,
    UNREACHABLE,
    VAULT,
)
from reconciler.controller.status import ControllerStatus, Health, Refusal, ServerStatus
from reconciler.errors import Exit
from reconciler.model.actions import told
from reconciler.model.desired import DesiredServer
from reconciler.model.key_policy import Severity
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.recorded import Owed
from reconciler.notifications.events import UNKNOWN, AlertSeverity, Guide, News, Topic

_REFUSED: Final = {
    Refusal.INVALID: DOCUMENTS,
    Refusal.AWAY: DOCUMENTS_AWAY,
    Refusal.UNSIGNED: DOCUMENTS_UNSIGNED,
    Refusal.WENT_BACK: DOCUMENTS_WENT_BACK,
}
_SUSPICIOUS: Final = (Refusal.UNSIGNED, Refusal.WENT_BACK)
"""Somebody may try to change what servers trade."""


def server_news(status: ServerStatus, *, vault_away: bool) -> Iterator[News]:
    """Yield the states of one server; an empty one means that all is well with that topic."""
    name, owner = status.server, status.owner

    def news(
        topic: Topic,
        severity: AlertSeverity,
        guide: Guide,
        *,
        state: str,
        text: str,
        well: str,
        remind: float = 0.0,
    ) -> News:
        if state:
            return News(topic, name, state, severity, f"{name}: {text}", owner, remind, guide)
        return News(topic, name, "", AlertSeverity.INFO, f"{name}: {well}", owner, 0.0, over(guide))

    well = status.well
    # What is done or paused there meanwhile mends nothing, and is no trouble by itself.
    between = not well and status.health in (Health.PROGRESSING, Health.SUSPENDED)
    away = status.health is Health.UNREACHABLE
    # One Vault that is away must not ring once for every server, nor end what was told before.
    if well or away or between or not vault_away:
        yield news(
            Topic.HEALTH,
            AlertSeverity.CRITICAL if away else AlertSeverity.WARNING,
            UNREACHABLE if away else DEGRADED,
            state=UNKNOWN if between else "" if well else str(status.health),
            text=f"{status.health}: {status.reason}",
            well=f"{Health.HEALTHY} again, and looked after as before",
        )
    drifting = ", ".join(status.drifting)
    yield news(
        Topic.DRIFT,
        AlertSeverity.WARNING,
        DRIFT,
        state=drifting,
        text=f"{drifting} changed on the server by another hand",
        well="holds what its document says again",
    )
    contested = ", ".join(status.contested)
    yield news(
        Topic.CONTESTED,
        AlertSeverity.CRITICAL,
        CONTESTED,
        state=contested,
        text=f"{contested} was corrected, and somebody keeps changing it back",
        well="nobody changes it back any more",
    )
    owed = ", ".join(sorted({debt.exchange for debt in status.debts if debt.owed is Owed.REBOOT}))
    yield news(
        Topic.REBOOT_OWED,
        AlertSeverity.WARNING,
        REBOOT_OWED,
        state=owed,
        text=f"{owed}: a reboot is owed, robots use the old secret until then",
        well="owes no reboot any more: its robots use the newest secrets",
        remind=DAILY,
    )
    yield news(
        Topic.IN_DOUBT,
        AlertSeverity.CRITICAL,
        IN_DOUBT,
        state="in doubt" if status.in_doubt else "",
        text="a request was sent, and nobody knows what became of it",
        well="nothing is in doubt any more",
        remind=DAILY,
    )
    stopped = status.stopped_robots
    yield news(
        Topic.ROBOTS,
        AlertSeverity.CRITICAL,
        ROBOTS,
        state=",".join(str(robot.id) for robot in stopped),
        text=f"robots stopped without our asking: {named(stopped)}",
        well="the robots that had stopped run again, or are on it no more",
    )
    yield news(
        Topic.SUSPENDED,
        AlertSeverity.INFO,
        SUSPENDED,
        state="suspended" if status.suspended else "",
        text=f"suspended by {status.suspended_by}: {status.suspended}",
        well="not suspended any more",
        remind=DAILY,
    )
    yield _audit_news(status)


def over(guide: Guide) -> Guide:
    """Return what is to be said once it is well again: the page still says how one can tell."""
    return Guide(f"over: {guide.title}", "as usual again", "nothing", guide.runbook)


def _audit_news(status: ServerStatus) -> News:
    """Return what exchanges say of a server's keys, as far as somebody should look at it."""
    found = [
        (exchange, finding)
        for exchange, key in sorted(status.keys.items())
        for finding in key.findings
        if finding.severity >= Severity.WARNING and not finding.accepted
    ]
    blocked = any(finding.stops for _, finding in found)
    text = "; ".join(f"{exchange}: {finding.what}" for exchange, finding in found)
    return News(
        Topic.AUDIT,
        status.server,
        ",".join(f"{exchange}:{finding.code}" for exchange, finding in found),
        AlertSeverity.CRITICAL if blocked else AlertSeverity.WARNING,
        f"{status.server}: {text or 'its keys are as they should be again'}",
        status.owner,
        guide=AUDIT if found else over(AUDIT),
    )


def applied_news(desired: DesiredServer, report: Report, at: str) -> Iterator[News]:
    """Yield what was done on a server in this pass, and harm above all."""
    harm = [o for o in report.outcomes if o.code is Exit.HARM]
    done = [o for o in report.outcomes if o.result is not Result.NOT_ATTEMPTED]
    if harm:
        text = "; ".join(words(outcome.detail, outcome.remedy) for outcome in harm)
        yield News(
            Topic.HARM,
            desired.name,
            at,
            AlertSeverity.CRITICAL,
            f"{desired.name}: HARM: {text}",
            desired.owner,
            guide=HARM,
        )
    elif done:
        bad = any(outcome.code for outcome in done)
        text = "; ".join(_told(outcome) for outcome in done)
        yield News(
            Topic.APPLIED,
            desired.name,
            at,
            AlertSeverity.WARNING if bad else AlertSeverity.INFO,
            f"{desired.name}: {text}",
            desired.owner,
            guide=FAILED if bad else DONE,
        )


def controller_news(status: ControllerStatus) -> Iterator[News]:
    def news(
        topic: Topic, severity: AlertSeverity, guide: Guide, *, state: str, text: str, well: str
    ) -> News:
        if state:
            return News(topic, "", state, severity, text, guide=guide)
        return News(topic, "", "", AlertSeverity.INFO, well, guide=over(guide))

    refusal = status.refusal
    # A branch may be away only because Vault or the ledger is, which is told by itself.
    follows = refusal is Refusal.AWAY and (status.secrets or status.ledger)
    yield news(
        Topic.DOCUMENTS,
        AlertSeverity.CRITICAL if refusal in _SUSPICIOUS else AlertSeverity.WARNING,
        _REFUSED[refusal],
        state=UNKNOWN if follows else str(refusal) if status.documents else "",
        text=f"the newest documents are not in force: {status.documents}",
        well="the newest documents are in force again",
    )
    yield news(
        Topic.SECRETS,
        AlertSeverity.CRITICAL,
        VAULT,
        state="away" if status.secrets else "",
        text=f"Vault is away: {status.secrets}",
        well="Vault is back",
    )
    held = ", ".join(f"{one.subject}: {one.brake.why}" for one in status.brakes)
    yield news(
        Topic.BRAKE,
        AlertSeverity.CRITICAL,
        BRAKE,
        state=",".join(one.over for one in status.brakes),
        text=f"the brake is on, nothing is written to {held}",
        well="no brake is on any more: writes go on",
    )
    # The ledger may lie in that Vault: one that is away must not ring twice.
    hidden = UNKNOWN if status.secrets else ""
    severity, guide, state, text = _hindered(status)
    yield news(
        Topic.CONTROLLER,
        severity,
        guide,
        state=hidden or state,
        text=text,
        well="this controller works as it should again",
    )


def _hindered(status: ControllerStatus) -> tuple[AlertSeverity, Guide, str, str]:
    """What keeps the controller from acting, the worst of it."""
    if status.ledger:
        return AlertSeverity.CRITICAL, LEDGER, "ledger", f"nothing is sent: {status.ledger}"
    if status.rival:
        return AlertSeverity.INFO, RIVAL, "waiting", f"waiting: {status.rival}"
    if status.clock:
        return AlertSeverity.WARNING, CLOCK, "clock", f"requests wait: {status.clock}"
    return AlertSeverity.INFO, RIVAL, "", ""


def _told(outcome: Outcome) -> str:
    text = f"{told(outcome.action)}: {outcome.result}"
    return f"{text} ({outcome.detail})" if outcome.detail and outcome.code else text
