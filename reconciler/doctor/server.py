"""
What `jtr doctor` makes of one trading server: clock, version, log, supervisor, robots.  Pure.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from reconciler.doctor.findings import (
    Finding,
    all_or,
    apart,
    failed,
    first,
    length,
    listed,
    of_error,
    ok,
    skipped,
    warning,
)
from reconciler.errors import (
    DriverError,
    Exit,
    JtrError,
    ServerUnreachable,
    TlsRefused,
    Unauthorized,
    WrongAccount,
)
from reconciler.model.desired import DesiredServer, Presence
from reconciler.model.observed import ClockReading, Logbook, ObservedServer
from reconciler.model.timestamps import spelled
from reconciler.model.wording import counted
from reconciler.plan.boot_proof import MARGIN, plausible

SOON: Final = timedelta(days=21)  # before a certificate ends somebody has to know
VISITED: Final = ("account", "version", "log", "supervisor", "exchanges", "robots")
_RESTARTS: Final = (
    "make sure that it is started again after exit code 0 (systemd: Restart=always, not "
    "on-failure; Docker: restart: unless-stopped)"
)
_REGISTER: Final = (
    "open the server's page and leave it open, or let a controller connect anew; --no-visit leaves "
    "it as it is"
)
_NEVER_INSIDE: Final = (ServerUnreachable, TlsRefused, Unauthorized)


def left_out(why: str, *names: str) -> list[Finding]:
    return [skipped(f"server.{name}", why) for name in names]


# ── the way there ────────────────────────────────────────────────────────────────────────────


def certificate_finding(server: DesiredServer, until: datetime | None, now: datetime) -> Finding:
    """Judge the end of its certificate; None says that there is no TLS."""
    if until is None and server.insecure_transport:
        return skipped("server.tls", "none (insecureTransport)")
    if until is None:
        return ok("server.tls", "none is needed: the address ends on this host")
    left = until - now
    text = f"its certificate is trusted, and ends {spelled(until)} (in {left.days} d)"
    return first("server.tls", text, (left < SOON, text, "renew it: without it nobody connects"))


def clock_finding(clock: ClockReading | None, log: Logbook, now: datetime) -> Finding:
    """Judge the clock of its web page, None where that is silent, beside its system log."""
    if clock is None:
        return warning(
            "server.clock",
            "its web page tells no time: a reboot by somebody else never satisfies a request",
            "let `GET /` with its Date header through the proxy",
        )
    return first(
        "server.clock",
        f"agrees with ours (to {MARGIN.total_seconds():.0f} s)",
        (
            not plausible(clock, log, now),
            "its web page tells an earlier time than its system log: that is another clock",
            "see to NTP on the proxy in front of it and on the server",
        ),
        (
            abs(clock.ahead) > MARGIN.total_seconds() + clock.uncertainty,
            f"{apart(clock.ahead)}; times in its log are its own",
            "see to NTP on both machines",
        ),
    )


# ── the visit ────────────────────────────────────────────────────────────────────────────────


def login_findings(server: DesiredServer, failure: JtrError | None) -> list[Finding]:
    """Say how the login of a visit went, and whether it met the right account."""
    secret = server.access_secret
    match failure:
        case None:
            return [ok("server.login", f"accepted, with {secret}" if secret else "accepted")]
        case WrongAccount():
            return [ok("server.login", "accepted"), of_error("server.account", failure)]
        case Unauthorized():
            where = f"compare it with {secret}: " if secret else "declare spec.accessSecret: "
            remedy = where + failure.remedy
            return [failed("server.login", failure.what, remedy, failure.exit_code)]
        case _:
            return [of_error("server.login", failure)]


def visit_findings(
    server: DesiredServer,
    seen: ObservedServer,
    clock: ClockReading | None,
    now: datetime,
    *,
    tested: bool,
    accepted: bool,
) -> Iterator[Finding]:
    """
    Judge what a visit saw.

    *tested* says that writes to its version were tested, *accepted* that the operator takes them
    on himself.
    """
    yield ok("server.account", f"{seen.account!a}, as declared")
    fine = f"JT-Trader {seen.version}, {'tested' if tested else 'accepted by the settings'}"
    yield first(
        "server.version",
        fine,
        (
            not (tested or accepted),
            f"JT-Trader {seen.version} is outside the tested range: nothing is written to it",
            "an operator who tried it adds it to acceptVersions in the settings",
        ),
    )
    yield log_finding(seen.log)
    yield supervisor_finding(seen.log, clock, now, declared=server.supervised)
    yield from _exchanges(server, seen)
    robots = counted(len(seen.robots), "robot")
    yield ok("server.robots", f"{len(seen.running())} of {robots} running")


def log_finding(log: Logbook) -> Finding:
    unread = "its system log cannot be read: nobody could tell whether it rebooted"
    noted = f"it noted a fatal error at {_moment(log.alarm or 0)} (its clock)"
    return first(
        "server.log",
        f"readable, {counted(len(log.boots), 'boot line')}",
        (
            not log.readable,
            f"{unread}, so no reboot is done",
            "see why on its Config page (System logs); the next rotation heals a broken line",
        ),
        (
            log.strangers,
            "its system log holds entries of several processes at once, so it proves nothing",
            "see whether two processes of JT-Trader share one log",
        ),
        (
            log.alarm is not None and (log.boot is None or log.alarm > log.boot),
            f"{noted}, which stops all robots",
            "compare with the robots that should run; `jtr logs` shows what was before it",
        ),
    )


def _moment(milliseconds: int) -> str:
    try:
        return spelled(datetime.fromtimestamp(milliseconds // 1000, UTC))
    except (ValueError, OverflowError, OSError):  # a server may claim any number
        return "a time that cannot be"


def supervisor_finding(
    log: Logbook, clock: ClockReading | None, now: datetime, *, declared: bool
) -> Finding:
    """Say whether the log bears out that something starts the server again."""
    code = "server.supervisor"
    if not declared:
        return ok(code, "none is declared, so a reboot is refused")
    if not log.readable:
        return skipped(code, "declared; its log, which could bear it out, is silent")
    if not log.boots:
        text = "declared (supervised: true), and its log holds no start that could bear it out"
        return warning(code, text, _RESTARTS)
    up = now.timestamp() - log.boots[-1].time / 1000 + (clock.ahead if clock is not None else 0)
    since = f"up for {length(max(up, 0.0))}"
    if len(log.boots) == 1:
        return warning(
            code,
            f"declared (supervised: true), but its log shows one start only ({since}): nothing "
            "bears out that something starts it again",
            _RESTARTS,
        )
    return ok(
        code,
        f"declared; its log shows {len(log.boots)} starts ({since}); whether something or somebody "
        "started it cannot be seen from here",
    )


def _exchanges(server: DesiredServer, seen: ObservedServer) -> list[Finding]:
    declared = [e.code for e in server.exchanges if e.presence is Presence.PRESENT]
    listing = [(code, seen.exchange(code)) for code in declared]
    unknown = [
        failed(
            "server.exchanges",
            f"{code} is declared, but the server lists no such exchange",
            "correct its code: see the exchanges on its Config page",
            Exit.BLOCKED,
        )
        for code, found in listing
        if found is None
    ]
    odd = [
        failed(
            "server.exchanges",
            f"{code} cannot be written safely: {found.trouble}",
            "report the server's version and that exchange to jt-reconciler",
            Exit.BLOCKED,
        )
        for code, found in listing
        if found is not None and found.trouble
    ]
    fine = f"{counted(len(declared), 'declared exchange')} listed there"
    return all_or([*unknown, *odd], "server.exchanges", fine)


def registration_finding(
    seen: ObservedServer | None, failure: JtrError | None, *, connected: bool
) -> Finding:
    """
    Say who hears of a robot's failure now; *connected* says that a controller did before.

    With nobody registered a failed start, or a robot's own stop, stops all robots of the account.
    Source: docs/protocol.md, 6.
    """
    code = "server.registration"
    if seen is None and isinstance(failure, DriverError) and not isinstance(failure, _NEVER_INSIDE):
        return warning(
            code,
            "our visit ended halfway, and perhaps it left nobody registered there: then all "
            "robots stop if one of them stops itself, or a start fails",
            _REGISTER,
        )
    if seen is None and connected:
        return ok(code, "a controller holds a connection to it")
    if seen is None:
        return skipped(code, "no visit: who is registered there cannot be seen")
    running = [robot.name for robot in seen.running()]
    was = "the controller is registered no more" if connected else "nobody is registered"
    if not running:
        return ok(code, "our visit left nobody registered; no robot runs")
    return warning(
        code,
        f"our visit has ended and {was}: if one of its running robots ({listed(running)}) stops "
        "itself, or a start fails, all of them stop",
        _REGISTER,
    )
