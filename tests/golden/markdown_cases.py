"""
Plans and reports as a reviewer meets them in a comment; the name of a case is that of its file.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

from reconciler.errors import Exit, ServerUnreachable
from reconciler.exchanges.judge.findings import say
from reconciler.model.conditions import Code, Condition
from reconciler.model.key_audits import Audited, KeyId
from reconciler.model.key_facts import Answered, Cap, Grant, IpRule, KeyFacts, Status
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Plan, ServerPlan
from reconciler.model.policy import PolicyAction, Violation
from reconciler.model.recipients import NewRecipient, Novelty
from reconciler.model.recorded import Debt, Owed
from reconciler.model.values import replace
from reconciler.render.audit import recalled_line, recalled_text
from reconciler.render.registry import AuditPart
from tests.golden import cases, request_cases
from tests.golden.cases import Shown, alone, named, one
from tests.support import factories as f

AT = datetime(2026, 11, 22, 9, 31, 7, 250_000, tzinfo=UTC)

# What makes a link, a picture, a mention, markup or another row where somebody takes it for text.
MARKUP = (
    "@acme/ops [x](https://evil.test) ![p](https://evil.test/p.png) <img src=x onerror=alert(1)> "
    "</code></summary></details> ` `` ``` ~~~~ | a | b | **bold** # 1 #12 &lt;b&gt; www.evil.test "
    "x@evil.test <!-- --> \\"
)
FENCE = "``````\n</details>\n\n# approved\n\n@acme/ops\n\x1b[2J\u202e"


def blank(name: str) -> ServerPlan:
    """What `--recorded` says of a server that was never looked at."""
    server = named(name, f.exchange())
    return ServerPlan(
        name,
        server.target,
        hold=Condition(
            Code.NEVER_SEEN,
            "not compared: the ledger holds no observation of it",
            "`jtr apply` or a controller on the same ledger makes one",
        ),
        new_recipient=(
            NewRecipient(Novelty.CONTACT, f"{server.target.url} (account 0)"),
            NewRecipient(Novelty.LOGIN, f"vault:secret/jt/{name}/access"),
            NewRecipient(Novelty.VALUES, f"vault:secret/jt/{name}/bybit"),
        ),
    )


def new_server() -> Shown:
    known = cases.nothing_to_do().plan.servers
    return Shown(Plan((*known, blank("osaka-1"))), recorded=True)


def quiet_server(name: str) -> ServerPlan:
    """A server that is as the documents want it."""
    seen = f.observed({"bybit": cases.NEW}, (f.GRID,))
    known = f.recorded(cases.ONES)
    return one(named(name, f.exchange()), seen, known, sources={"bybit": f.sources(1)})


def rotated(name: str) -> ServerPlan:
    """A server that gets a new key, under robots that run."""
    seen = f.observed({"bybit": cases.NEW}, (f.GRID, f.ARB))
    return one(named(name, f.exchange()), seen, f.recorded(cases.ONES))


def fifty_servers() -> Shown:
    down = ServerUnreachable("no connection: nothing listens there", "check that the server runs")
    (busy,) = cases.requests_due().plan
    (drifted,) = cases.drift_left_alone().plan
    servers = [
        *(rotated(f"tokyo-{number:02}") for number in range(2, 12)),
        *(quiet_server(f"kyoto-{number:02}") for number in range(35)),
        *(cases.failed(f"nagoya-{number}", down) for number in range(2)),
        replace(busy, server="osaka-1"),
        replace(drifted, server="osaka-2"),
        blank("sendai-1"),
    ]
    return Shown(Plan(tuple(sorted(servers, key=lambda server: server.server))))


def hostile_plan() -> ServerPlan:
    """Everything that others name is a trap."""
    robots = (Robot(1, MARKUP, "bybit", running=True), Robot(2, FENCE, "bybit", running=True))
    owed = Debt(Owed.RESTART, "bybit", cases.SINCE, 1_000, 1, MARKUP)
    known = f.recorded(replace(cases.ONES, debts=(owed,)))
    seen = f.observed({"bybit": cases.NEW, MARKUP: cases.OTHER}, robots, version=MARKUP)
    plan = one(f.server(f.exchange(), owner=FENCE, account=MARKUP), seen, known)
    return replace(
        plan,
        notes=(FENCE,),
        new_recipient=(NewRecipient(Novelty.VALUES, MARKUP), NewRecipient(Novelty.LOGIN, FENCE)),
        violations=(Violation(PolicyAction.TAKE_OVER, "", MARKUP, FENCE, FENCE),),
    )


def hostile() -> Shown:
    held = replace(
        blank("osaka-1"),
        server=MARKUP,
        hold=Condition(
            Code.SUSPENDED, FENCE, "`jtr apply` or a controller on the same ledger makes one"
        ),
    )
    return Shown(Plan((hostile_plan(), held), not_visited=(FENCE, MARKUP)))


PLANS: dict[str, Callable[[], Shown]] = {
    "nothing-to-do": cases.nothing_to_do,
    "one-rotation": lambda: alone(rotated("tokyo-1")),
    "one-rotation-recorded": cases.recorded,
    "a-reboot": cases.requests_due,
    "a-reboot-later": request_cases.PLANS["022-scheduled-and-expired"],
    "a-new-server": new_server,
    "fifty-servers": fifty_servers,
    "blocked-by-policy": cases.against_the_policy,
    "in-doubt": request_cases.PLANS["024-reboot-in-doubt"],
    "not-visited": cases.unreachable,
    "owed": cases.debts,
    "hostile": hostile,
}


def nothing_done() -> list[Report]:
    return [Report(server) for server in cases.nothing_to_do().plan]


def hostile_report() -> list[Report]:
    robot = Robot(1, MARKUP, "bybit", running=True)
    outcome = Outcome(cases.write_of("bybit"), Result.DONE, FENCE, MARKUP, stopped=(robot,))
    return [Report(hostile_plan(), (outcome,))]


def refused() -> Shown:
    return alone(rotated("tokyo-1"))


REPORTS: dict[str, Callable[[], list[Report]]] = {
    "applied": cases.done,
    "applied-in-part": cases.a_failure,
    "outcome-unknown": cases.unknown,
    "request-in-doubt": request_cases.REPORTS["010-request-in-doubt"],
    "harm": cases.harm,
    "lease-held": cases.lease,
    "nothing-was-done": nothing_done,
    "hostile": hostile_report,
}


def remembered_keys() -> AuditPart:
    """What a ledger knows of three keys: one is bad, one new, one good; and of one by its name."""
    spot = KeyFacts(
        grants=(Grant("Spot", frozenset({Cap.SPOT})),),
        ip=IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True),
        never_expires=True,
    )
    told = Answered(Status.VALID, AT - timedelta(days=3), spot)
    rows = (
        Audited(
            KeyId("osaka-1", "bybit"),
            findings=(say("NOT_ASKED_YET", "no exchange was asked about it yet"),),
        ),
        Audited(KeyId("osaka-1", "okx"), told),
        Audited(KeyId("tokyo-1", "okx"), told),
        Audited(KeyId("zurich-1", "gateio"), told, (say("PERM_WITHDRAW", "it may withdraw"),)),
        Audited(KeyId(FENCE, "x"), told, (say("KEY_OLD", MARKUP),)),
    )
    text = recalled_text(rows, {"osaka-1"}, AT)
    return AuditPart(Exit.DONE, text, {}, recalled_line(rows, known=True, whole=True))
