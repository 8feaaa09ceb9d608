"""
What `jtr doctor` makes of one trading server: address, login, version, clock, log, robots.  Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from reconciler.doctor.findings import (
    Finding,
    counted,
    failed,
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
from reconciler.plan.boot_proof import MARGIN, plausible

SOON: Final = timedelta(days=21)  # before a certificate ends somebody has to know
_RESTARTS: Final = (
    "make sure that it is started again after exit code 0 (systemd: Restart=always, not "
    "on-failure; Docker: restart: unless-stopped)"
)
_REGISTER: Final = (
    "open the server's page and leave it open, or let a controller connect anew; --no-visit leaves "
    "it as it is"
)
_NEVER_INSIDE: Final = (ServerUnreachable, TlsRefused, Unauthorized)
_VISITED: Final = ("account", "version", "log", "supervisor", "exchanges", "robots")


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """
    The way to a server, without logging in.

    `address` is what its name led to, `until` when its certificate ends (None: no TLS), `trouble`
    why there is no way.  `clock` is None where the server does not tell.
    """

    address: str = ""
    until: datetime | None = None
    trouble: JtrError | None = None
    clock: ClockReading | None = None


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """
    What was found out about one server at `now`.

    `refused` says why it must not even be contacted.  `unvisited` says why nobody logged in on
    purpose; `failure` why a visit failed.  `observed` is None unless it succeeded.  `tested` says
    that writes to its version were tested, `accepted` that the operator takes them on himself.
    `connected` says that a controller holds a connection to it.
    """

    desired: DesiredServer
    now: datetime
    refused: JtrError | None = None
    route: RouteFacts | None = None
    unvisited: str = ""
    failure: JtrError | None = None
    observed: ObservedServer | None = None
    tested: bool = False
    accepted: bool = False
    connected: bool = False


def server_findings(facts: ServerFacts) -> Iterator[Finding]:
    """Judge one server, in the order in which one thing rests on another."""
    for finding in _findings(facts):
        yield replace(finding, server=facts.desired.name)


def _findings(facts: ServerFacts) -> Iterator[Finding]:
    if facts.refused is not None:
        yield of_error("server.allowed", facts.refused)
        for name in ("address", "clock", "login", *_VISITED, "registration"):
            yield skipped(f"server.{name}", "it must not be contacted")
        return
    yield from _route(facts)
    yield from _login(facts)
    seen = facts.observed
    if seen is None:
        why = facts.unvisited or "there was no visit"
        for name in _VISITED:
            if name != "account" or not isinstance(facts.failure, WrongAccount):
                yield skipped(f"server.{name}", why)
    else:
        yield ok("server.account", f"{seen.account!a}, as declared")
        yield _version(facts, seen)
        yield _log(seen.log)
        yield _supervisor(facts, seen.log)
        yield from _exchanges(facts, seen)
        running = seen.running()
        yield ok("server.robots", f"{len(running)} of {counted(len(seen.robots), 'robot')} running")
    yield _registration(facts)


# ── the way there ────────────────────────────────────────────────────────────────────────────


def _route(facts: ServerFacts) -> Iterator[Finding]:
    route = facts.route
    if route is None:
        yield skipped("server.address", "nobody looked")
        return
    if route.trouble is not None:
        code = "server.tls" if isinstance(route.trouble, TlsRefused) else "server.address"
        yield of_error(code, route.trouble)
        yield skipped("server.clock", "there is no way to it")
        return
    yield ok("server.address", f"{facts.desired.target.url} answers at {route.address}")
    if route.until is not None:
        yield _certificate(route.until, facts.now)
    elif facts.desired.insecure_transport:
        yield skipped("server.tls", "none (insecureTransport)")
    else:
        yield ok("server.tls", "none is needed: the address ends on this host")
    yield _clock(facts, route.clock)


def _certificate(until: datetime, now: datetime) -> Finding:
    left = until - now
    text = f"its certificate is trusted, and ends {spelled(until)} (in {left.days} d)"
    if left < SOON:
        return warning("server.tls", text, "renew it: without it nobody connects")
    return ok("server.tls", text)


def _clock(facts: ServerFacts, clock: ClockReading | None) -> Finding:
    if clock is None:
        return warning(
            "server.clock",
            "its web page tells no time: a reboot by somebody else never satisfies a request",
            "let `GET /` with its Date header through the proxy",
        )
    log = facts.observed.log if facts.observed is not None else Logbook()
    if not plausible(clock, log, facts.now):
        return warning(
            "server.clock",
            "its web page tells an earlier time than its system log: that is another clock",
            "see to NTP on the proxy in front of it and on the server",
        )
    if abs(clock.ahead) > MARGIN.total_seconds() + clock.uncertainty:
        side = "ahead of" if clock.ahead > 0 else "behind"
        return warning(
            "server.clock",
            f"its clock is {length(abs(clock.ahead))} {side} ours; times in its log are its own",
            "see to NTP on both machines",
        )
    return ok("server.clock", f"agrees with ours (to {MARGIN.total_seconds():.0f} s)")


# ── the visit ────────────────────────────────────────────────────────────────────────────────


def _login(facts: ServerFacts) -> Iterator[Finding]:
    error = facts.failure
    if facts.observed is not None:
        secret = facts.desired.access_secret
        yield ok("server.login", f"accepted, with {secret}" if secret else "accepted")
    elif isinstance(error, WrongAccount):
        yield ok("server.login", "accepted")
        yield of_error("server.account", error)
    elif isinstance(error, Unauthorized):
        secret = facts.desired.access_secret
        where = f"compare it with {secret}: " if secret else "declare spec.accessSecret: "
        yield failed("server.login", error.what, where + error.remedy, error.exit_code)
    elif error is not None:
        yield of_error("server.login", error)
    else:
        yield skipped("server.login", facts.unvisited or "there was no visit")


def _version(facts: ServerFacts, seen: ObservedServer) -> Finding:
    if facts.tested:
        return ok("server.version", f"JT-Trader {seen.version}, tested")
    if facts.accepted:
        return ok("server.version", f"JT-Trader {seen.version}, accepted by the settings")
    return warning(
        "server.version",
        f"JT-Trader {seen.version} is outside the tested range: nothing is written to it",
        "an operator who tried it adds it to acceptVersions in the settings",
    )


def _log(log: Logbook) -> Finding:
    if not log.readable:
        return warning(
            "server.log",
            "its system log cannot be read: nobody could tell whether it rebooted, so no reboot "
            "is done",
            "see why on its Config page (System logs); the next rotation heals a broken line",
        )
    if log.strangers:
        return warning(
            "server.log",
            "its system log holds entries of several processes at once, so it proves nothing",
            "see whether two processes of JT-Trader share one log",
        )
    if log.alarm is not None and (log.boot is None or log.alarm > log.boot):
        return warning(
            "server.log",
            f"it noted a fatal error at {_moment(log.alarm)} (its clock), which stops all robots",
            "compare with the robots that should run; `jtr logs` shows what was before it",
        )
    return ok("server.log", f"readable, {counted(len(log.boots), 'boot line')}")


def _supervisor(facts: ServerFacts, log: Logbook) -> Finding:
    if not facts.desired.supervised:
        return ok("server.supervisor", "none is declared, so a reboot is refused")
    if not log.readable:
        return skipped("server.supervisor", "declared; its log, which could bear it out, is silent")
    if not log.boots:
        return warning(
            "server.supervisor",
            "declared (supervised: true), and its log holds no start that could bear it out",
            _RESTARTS,
        )
    up = facts.now.timestamp() - log.boots[-1].time / 1000
    if facts.route is not None and facts.route.clock is not None:
        up += facts.route.clock.ahead
    since = f"up for {length(max(up, 0.0))}"
    if len(log.boots) == 1:
        return warning(
            "server.supervisor",
            f"declared (supervised: true), but its log shows one start only ({since}): nothing "
            "bears out that something starts it again",
            _RESTARTS,
        )
    return ok(
        "server.supervisor",
        f"declared; its log shows {len(log.boots)} starts ({since}); whether something or somebody "
        "started it cannot be seen from here",
    )


def _exchanges(facts: ServerFacts, seen: ObservedServer) -> Iterator[Finding]:
    declared = [e for e in facts.desired.exchanges if e.presence is Presence.PRESENT]
    unknown = [e.code for e in declared if seen.exchange(e.code) is None]
    for code in unknown:
        yield failed(
            "server.exchanges",
            f"{code} is declared, but the server lists no such exchange",
            "correct its code: see the exchanges on its Config page",
            Exit.BLOCKED,
        )
    odd = [
        (e.code, found.trouble)
        for e in declared
        if (found := seen.exchange(e.code)) is not None and found.trouble
    ]
    for code, trouble in odd:
        yield failed(
            "server.exchanges",
            f"{code} cannot be written safely: {trouble}",
            "report the server's version and that exchange to jt-reconciler",
            Exit.BLOCKED,
        )
    if not unknown and not odd:
        yield ok("server.exchanges", f"{counted(len(declared), 'declared exchange')} listed there")


def _registration(facts: ServerFacts) -> Finding:
    """
    Say who hears of a robot's failure now.

    With nobody registered a failed start, or a robot's own stop, stops all robots of the account.
    Source: docs/protocol.md, 6.
    """
    if facts.observed is None:
        halfway = isinstance(facts.failure, DriverError)
        if halfway and not isinstance(facts.failure, _NEVER_INSIDE):
            return warning(
                "server.registration",
                "our visit ended halfway, and perhaps it left nobody registered there: then all "
                "robots stop if one of them stops itself, or a start fails",
                _REGISTER,
            )
        if facts.connected:
            return ok("server.registration", "a controller holds a connection to it")
        return skipped("server.registration", "no visit: who is registered there cannot be seen")
    running = [robot.name for robot in facts.observed.running()]
    if not running:
        return ok("server.registration", "our visit left nobody registered; no robot runs")
    was = "the controller is registered no more" if facts.connected else "nobody is registered"
    return warning(
        "server.registration",
        f"our visit has ended and {was}: if one of its running robots ({listed(running)}) stops "
        "itself, or a start fails, all of them stop",
        _REGISTER,
    )


def _moment(milliseconds: int) -> str:
    try:
        return spelled(datetime.fromtimestamp(milliseconds // 1000, UTC))
    except (ValueError, OverflowError, OSError):  # a server may claim any number
        return "a time that cannot be"
