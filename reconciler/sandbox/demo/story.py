"""
The story of `jtr demo`: what people do, the command that follows, and what must come of it.

From the first document to the last key; the exchange is asked what a key may do before it is used;
reboots and invalidations happen once, whatever crashes; a controller keeps the server while people
do things; what must be refused is refused with words that help.  The exchanges count their
requests, too: a pass in which nothing changed asks none of them.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

from reconciler.sandbox.demo.controller import Beside
from reconciler.sandbox.demo.steps import (
    APPLY,
    CACHE,
    CREDENTIALS,
    REBOOT,
    RESTARTS,
    STARTS,
    THAT_INSTANT,
    THAT_PLAN,
    Step,
)
from reconciler.sandbox.exchanges.server import EXPIRED, GOOD, UNBOUND, WITHDRAWS
from reconciler.sandbox.playground import DECLARED, DOCUMENTS, ROWS, SERVER, Playground

_PLAN: Final = f"plan {DOCUMENTS}"
_AUDIT: Final = f"audit {DOCUMENTS}"
_CONTROLLER: Final = f"controller {DOCUMENTS} --listen 127.0.0.1:0"
_REBOOT: Final = f"request reboot {SERVER} --from {DOCUMENTS} --robots resume --reason"
_INVALIDATE: Final = f"request invalidate-cache {SERVER} --from {DOCUMENTS} --reason"
_RESOLVE: Final = f"request resolve {SERVER} invalidate-cache {THAT_INSTANT}"

_SECURITY: Final = "security: {ipWhitelist: [127.0.0.1], permissions: {require: [spot, perpetual]}}"
_RESTART: Final = "robots: {onCredentialChange: restart}"
_BROKEN: Final = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: osaka-1}}
spec:
  url: https://osaka-1.internal
  url: https://osaka-2.internal
  exchanges:
    bybit: {{credentials: {pasted}}}
"""

_NOTHING: Final = ("^Nothing to do",)
_OWED: Final = (
    r"owed: restart of robot grid-btc \(1\): it holds the bybit key",
    r"owed: restart of robot arb \(2\): it holds the okx key",
)
_CHANGED: Final = (r"okx  write .*somebody changed it",)
_GOOD: Final = (
    r"^✓ tokyo-1/bybit +ok +delivery, perpetual, spot +127\.0\.0\.1 +never ",
    r"^~ tokyo-1/gateio +attention (.|\n)*MASTER_KEY(.|\n)*^✓ tokyo-1/okx +ok ",
    "^3 keys: 2 ok, 1 attention, 0 blocked$",
)
_HELD: Final = "a restart does not suffice for arb: the server caches its client by API key"
_STARTED: Final = "started robot 1, started robot 2"
_BOTH: Final = frozenset({"bybit", "okx"})
_NONE: Final = frozenset[str]()
_offline: Final = partial(Step, connections=0)
_stopped: Final = partial(Step, code=4, planned="~ bybit", calls=1)  # others are remembered
_beside: Final = partial(Step, command="status", connections=0, held=1, watched=True, sends=_NONE)


@dataclass(slots=True)
class Hands:
    """What people do by hand, and what the server must store because of it."""

    ground: Playground
    beside: Beside
    expected: dict[str, str] = field(default_factory=dict)
    reboots: int = 0  # that the server had counted when another one was asked for

    def type(self, *rows: str) -> None:
        """Change values as somebody does on the server's Config page."""
        for row in rows:
            self.expected[row] = self.ground.made_up()
            self.ground.server.set_value(row, self.expected[row])

    def connect(self) -> None:
        self.type(*ROWS["kucoin"].values())
        self.ground.rotate("kucoin")
        self.ground.declare(*DECLARED, "kucoin")

    def let_robots_restart(self) -> None:
        self.ground.declare(*DECLARED, more=(_RESTART,))
        self.ground.rotate("bybit")

    def ask_later(self) -> None:
        """Wait for another second: an instant has nothing finer, and must be a later one."""
        time.sleep(1 - datetime.now(UTC).microsecond / 1e6)
        self.reboots = self.ground.server.record.reboots

    def rebooted_since(self) -> bool:
        return self.ground.server.record.reboots > self.reboots

    def behave(self, **how: str) -> None:
        for request, fault in how.items():
            setattr(self.ground.server.behaviour, request, fault)

    def come_back(self) -> None:
        self.behave(reboot="normal")
        self.ground.server.come_back()

    def rotate_beside(self) -> None:
        server, vault = self.ground.server, self.ground.in_vault
        self.ground.rotate("bybit")
        self.beside.until(lambda: server.robot_credentials(1) == vault["bybit"])
        self.beside.look()

    def seen(self, act: Callable[..., object], *args: object, **named: object) -> None:
        """Do it, and wait until the controller has looked."""
        act(*args, **named)
        self.beside.look()

    def paste_a_key(self) -> None:
        self.ground.spoil_access(back=True)
        broken = _BROKEN.format(pasted=self.ground.made_up())
        (self.ground.documents / "broken.yaml").write_text(broken, "utf-8")


def story(hands: Hands) -> tuple[Step, ...]:
    ground, server, beside = hands.ground, hands.ground.server, hands.beside
    return (
        # ── how credentials get onto a server, and how they stay there ───────────────────────
        _offline(
            "check the documents",
            "valid",
            command=f"validate {DOCUMENTS}",
            says=("^valid: 1 server, 3 exchanges",),
        ),
        Step(
            "plan",
            "3 exchanges to write",
            command=_PLAN,
            planned="+ bybit, + gateio, + okx",
            says=("^Blast radius: 1 server, 3 exchanges, 2 robots",),
        ),
        _offline("begin a ledger", "begun", command="ledger init"),
        Step("apply", "3 done", planned="+ bybit, + gateio, + okx", stores=DECLARED),
        Step("plan again", "no action; both robots are owed a restart", command=_PLAN, says=_OWED),
        Step("apply again", "no action", says=_NOTHING),
        Step(
            "bybit rotated in Vault; plan",
            "exactly bybit; robot grid-btc keeps the old key",
            command=_PLAN,
            prepare=lambda: ground.rotate("bybit"),
            planned="~ bybit",
            says=(r"robot grid-btc \(1\) keeps the old key until restarted$",),
        ),
        Step(
            "apply that plan and no other",
            "1 done",
            command=f"apply {DOCUMENTS} --expect {THAT_PLAN}",
            planned="~ bybit",
            stores=("bybit",),
        ),
        Step(
            "okx changed by hand on the server; plan",
            "shown as drift",
            command=_PLAN,
            prepare=lambda: hands.type("okx_api_secret"),
            planned="≠ okx",
            says=_CHANGED,
        ),
        Step("apply", "drift left alone", planned="≠ okx", says=("left alone",)),
        Step(
            "correct it",
            "1 done",
            command=f"{APPLY} --correct-drift",
            planned="≠ okx",
            says=_CHANGED,
            stores=("okx",),
        ),
        Step(
            "kucoin connected by hand, declared with another key; apply",
            "blocked",
            prepare=hands.connect,
            code=4,
            planned="! kucoin",
            says=("blocked: somebody else connected it with another key",),
        ),
        Step(
            "take it over",
            "1 done",
            command=f"{APPLY} --take-over {SERVER}/kucoin",
            planned="~ kucoin",
            stores=("kucoin",),
        ),
        Step(
            "kucoin `state: absent`; apply",
            "deleted, nothing else touched",
            prepare=lambda: ground.declare(*DECLARED, absent=["kucoin"]),
            planned="- kucoin",
            removes=("kucoin",),
        ),
        # ── what a key may do ────────────────────────────────────────────────────────────────
        _offline(
            "`security` declared; audit",
            "no key is blocked, one belongs to a main account",
            command=_AUDIT,
            prepare=lambda: ground.declare(*DECLARED, more=(_SECURITY,)),
            says=_GOOD,
            calls=len(DECLARED),
        ),
        Step("apply", "no action, so no exchange is asked", says=_NOTHING),
        _stopped(
            "bybit rotated, and the new key may withdraw; apply",
            "stopped before it reaches the server",
            prepare=lambda: ground.rotate("bybit", WITHDRAWS),
            says=("the audit stops it: PERM_WITHDRAW: it may withdraw funds",),
        ),
        _stopped(
            "rotated to one that has expired; plan --audit",
            "shown beforehand",
            command=f"{_PLAN} --audit",
            prepare=lambda: ground.rotate("bybit", EXPIRED),
            says=("^! tokyo-1/bybit +blocked +rejected ", "critical KEY_REJECTED: .* has expired"),
        ),
        _stopped(
            "rotated to one that is bound to no address; apply",
            "stopped",
            prepare=lambda: ground.rotate("bybit", UNBOUND),
            says=("the audit stops it: IP_UNBOUND: ",),
        ),
        _offline(
            "bound to the server's address at the exchange; audit --fresh",
            "asked anew: good",
            command=f"{_AUDIT} --fresh",
            prepare=lambda: ground.change("bybit", GOOD),
            says=_GOOD,
            calls=len(DECLARED),
        ),
        Step(
            "apply",
            "1 done; that answer is young enough",
            planned="~ bybit",
            stores=("bybit",),
        ),
        # ── robots, reboots and invalidations: each once, whatever crashes ───────────────────
        Step(
            "bybit rotated, and robots may be restarted; apply",
            "each robot restarted; both trade with their new keys",
            prepare=hands.let_robots_restart,
            planned="~ bybit",
            says=(r"↻ restart robots on bybit  due$", r"↻ restart robots on okx  due$"),
            connections=1 + 2,  # a new one before every start
            sends=CREDENTIALS | RESTARTS,
            stores=("bybit",),
            did="stopped robot 1, started robot 1, stopped robot 2, started robot 2",
            trades=_BOTH,
        ),
        Step(
            "okx: a new secret under the same API key; apply",
            "written; arb is not restarted, it would not help",
            prepare=lambda: ground.rotate_secret("okx"),
            planned="~ okx",
            says=(_HELD, f"jtr request reboot {SERVER} --robots resume --reason TEXT"),
            stores=("okx",),
            trades=frozenset({"bybit"}),
        ),
        _offline(
            "ask for a reboot",
            "stands in the document",
            command=f"{_REBOOT} 'new okx secret under the same API key'",
            says=(r"^\+ +bootedAfter: ", "nothing is sent by this"),
        ),
        _offline(
            "and for an invalidation",
            "likewise",
            command=f"{_INVALIDATE} 'stale strategy cache'",
            says=(r"^\+ +invalidatedAfter: ",),
        ),
        Step(
            "apply",
            "in this order; arb trades with the new secret",
            says=(r"∅ invalidate-cache \S+Z  due$", r"⏻ reboot \S+Z  due$"),
            connections=1 + 1 + 2,
            sends=CACHE | REBOOT | STARTS,
            asked=2,
            did=f"cache invalidated, rebooted, {_STARTED}",
            trades=_BOTH,
        ),
        Step("apply again", "no action", says=_NOTHING),
        _offline(
            "ask for another reboot",
            "stands in the document",
            command=f"{_REBOOT} 'kill -9 in the middle'",
            prepare=hands.ask_later,
        ),
        Step(
            "apply, killed (-9) once the server went down",
            "nobody noted what became of it",
            # Or the command might be through before it can be killed.
            prepare=lambda: hands.behave(reboot="never comes back"),
            kills=hands.rebooted_since,
            afterwards=hands.come_back,
            code=-signal.SIGKILL,
            sends=REBOOT,
            asked=1,
            did="rebooted",
            running=frozenset(),
            trades=_NONE,
        ),
        Step(
            "apply again",
            "its log proves the reboot: not repeated, robots started",
            says=("the server booted since: done", r"reboot \S+Z: done"),
            connections=1 + 2,
            sends=STARTS,
            did=_STARTED,
            trades=_BOTH,
        ),
        _offline(
            "ask for another invalidation",
            "stands in the document",
            command=f"{_INVALIDATE} 'lost on its way'",
            prepare=hands.ask_later,
        ),
        Step(
            "its request gets lost; apply",
            "in doubt: nobody can know whether it was done",
            prepare=lambda: hands.behave(invalidate="lost before effect"),
            afterwards=lambda: hands.behave(invalidate="answer"),
            code=7,
            says=(r"invalidate-cache \S+Z: in doubt",),
            connections=1 + 1,
            sends=CACHE,
            asked=1,
        ),
        Step(
            "apply again",
            "in doubt, not repeated",
            code=7,
            says=(r"\? invalidate-cache \S+Z  in doubt$", _RESOLVE.removesuffix(THAT_INSTANT)),
        ),
        _offline(
            "somebody looked; resolve it by hand",
            "noted; only a new request is done",
            command=f"{_RESOLVE} --not-done --because 'what the robots stored is there'",
            says=("^noted: .* is NOT done$",),
        ),
        _offline(
            "what was done",
            "2 reboots, 1 invalidation, 1 that was not done",
            command=f"history {SERVER}",
            says=(r"reboot \S+Z  done", r"invalidate-cache \S+Z  NOT done"),
        ),
        # ── a controller keeps the server while people do things ─────────────────────────────
        Step(
            "requests removed from the document; a controller takes over",
            "one connection, which it keeps, and only reads",
            command=_CONTROLLER,
            prepare=lambda: ground.declare(*DECLARED, more=(_RESTART,)),
            runs=beside.start,
            code=None,
            says=("listening", "pass healthy"),
            held=1,
            sends=_NONE,
        ),
        Step(
            "bybit rotated in Vault, nobody asks; status",
            "written, its robot restarted",
            command="status",
            prepare=hands.rotate_beside,
            says=("^  synced, healthy",),
            connections=1,  # a new one before the start
            held=1,
            watched=True,
            sends=CREDENTIALS | RESTARTS,
            stores=("bybit",),
            did="stopped robot 1, started robot 1",
        ),
        _beside(
            "okx changed by hand; status",
            "reported as drift, left alone",
            prepare=lambda: hands.seen(hands.type, "okx_api_secret"),
            says=("drift on 1 exchange",),
        ),
        _beside(
            "robot grid-btc stops by itself; status",
            "named; arb runs on, for somebody is connected",
            prepare=lambda: hands.seen(server.force_stop, 1),
            says=(r"robots stopped without our asking: grid-btc \(bybit\)",),
            did="stopped by itself: robot 1",
            running=frozenset({2}),
            trades=frozenset({"okx"}),
        ),
        Step(
            "somebody starts it again; SIGTERM to the controller",
            "ended with 0, no connection left",
            command=_CONTROLLER,
            prepare=lambda: hands.seen(server.set_running, 1, running=True),
            runs=beside.stop,
            says=(r'stopped without our asking(.|\n)*pass healthy(.|\n)*"message": "stopped"',),
            connections=0,
            watched=True,
            sends=_NONE,
            trades=_BOTH,
        ),
        # ── what must be refused, with words that help ───────────────────────────────────────
        Step(
            "a wrong access secret; plan",
            "a clear error",
            command=_PLAN,
            prepare=ground.spoil_access,
            code=6,
            says=("the server did not accept the access secret", "spec.accessSecret"),
            refused=True,
        ),
        _offline(
            "broken YAML and a pasted key; apply",
            "refused, with positions",
            prepare=hands.paste_a_key,
            code=3,
            says=(
                rf"^{DOCUMENTS}/broken\.yaml:6:3: .*line 5, column 3",
                rf"^{DOCUMENTS}/broken\.yaml:8:\d+: ",
            ),
        ),
    )
