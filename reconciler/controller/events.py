"""
From statuses and reports to the states that notifications are about.  Pure.
"""

from collections.abc import Iterator

from reconciler.controller.conditions import DAILY, robot_names, words
from reconciler.controller.status import ControllerStatus, Health, ServerStatus
from reconciler.errors import Exit
from reconciler.model.actions import told
from reconciler.model.desired import DesiredServer
from reconciler.model.key_policy import Severity
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.recorded import Owed
from reconciler.notifications.events import AlertSeverity, News, Topic


def server_news(status: ServerStatus, *, vault_away: bool) -> Iterator[News]:
    """Yield the states of one server; an empty one means that all is well with that topic."""
    name, owner = status.server, status.owner

    def news(
        topic: Topic, severity: AlertSeverity, text: str, *, state: str = "", remind: float = 0.0
    ) -> News:
        said = f"{name}: {text}" if text else f"{name}: well again ({topic})"
        return News(topic, name, state, severity, said, owner, remind)

    well = status.health in (Health.HEALTHY, Health.PROGRESSING, Health.SUSPENDED)
    severity = (
        AlertSeverity.CRITICAL if status.health is Health.UNREACHABLE else AlertSeverity.WARNING
    )
    # One Vault that is away must not ring once for every server, nor end what was told before.
    if well or not vault_away:
        yield news(
            Topic.HEALTH,
            AlertSeverity.INFO if well else severity,
            "" if well else f"{status.health}: {status.reason}",
            state="" if well else str(status.health),
        )
    drifting = bool(status.drift)
    yield news(
        Topic.DRIFT,
        AlertSeverity.WARNING,
        f"{status.drift} exchange(s) changed on the server by another hand" if drifting else "",
        state="drift" if drifting else "",
    )
    yield news(
        Topic.CONTESTED,
        AlertSeverity.CRITICAL,
        f"contested: {', '.join(status.contested)}" if status.contested else "",
        state=",".join(status.contested),
    )
    owed = sorted({debt.exchange for debt in status.debts if debt.owed is Owed.REBOOT})
    yield news(
        Topic.REBOOT_OWED,
        AlertSeverity.WARNING,
        f"{', '.join(owed)}: robots use the old credential until the server reboots: "
        f"jtr request reboot {name} --robots resume --reason TEXT"
        if owed
        else "",
        state=",".join(owed),
        remind=DAILY,
    )
    yield news(
        Topic.IN_DOUBT,
        AlertSeverity.CRITICAL,
        "a request was sent and nobody knows what became of it: jtr request list"
        if status.in_doubt
        else "",
        state="in doubt" if status.in_doubt else "",
        remind=DAILY,
    )
    stopped = status.stopped_robots
    yield news(
        Topic.ROBOTS,
        AlertSeverity.CRITICAL,
        robot_names(stopped) if stopped else "",
        state=",".join(str(robot.id) for robot in stopped),
    )
    yield news(
        Topic.SUSPENDED,
        AlertSeverity.INFO,
        f"suspended by {status.suspended_by}: {status.suspended}" if status.suspended else "",
        state="suspended" if status.suspended else "",
        remind=DAILY,
    )
    yield _audit_news(status)


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
        f"{status.server}: {text or f'well again ({Topic.AUDIT})'}",
        status.owner,
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
        )


def controller_news(status: ControllerStatus) -> Iterator[News]:
    def news(topic: Topic, severity: AlertSeverity, state: str, text: str) -> News:
        return News(topic, "", state, severity, text or f"controller: well again ({topic})")

    yield news(
        Topic.DOCUMENTS,
        AlertSeverity.WARNING,
        "not in force" if status.documents else "",
        f"the newest documents are not in force: {status.documents}" if status.documents else "",
    )
    yield news(
        Topic.SECRETS,
        AlertSeverity.CRITICAL,
        "away" if status.secrets else "",
        f"Vault: {status.secrets}" if status.secrets else "",
    )
    held = ", ".join(f"{one.subject}: {one.brake.why}" for one in status.brakes)
    yield news(
        Topic.BRAKE,
        AlertSeverity.CRITICAL,
        ",".join(one.over for one in status.brakes),
        f"the brake is on, nothing is written to {held}" if held else "",
    )
    trouble = status.ledger or status.rival
    yield news(
        Topic.CONTROLLER,
        AlertSeverity.WARNING,
        trouble and ("ledger" if status.ledger else "waiting"),
        f"controller: {trouble}" if trouble else "",
    )


def _told(outcome: Outcome) -> str:
    text = f"{told(outcome.action)}: {outcome.result}"
    return f"{text} ({outcome.detail})" if outcome.detail and outcome.code else text
