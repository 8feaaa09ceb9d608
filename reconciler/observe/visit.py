"""
One server in one pass: opened, looked at, and left.  Nothing here changes it.
"""

from collections.abc import Mapping

from msgspec import Struct, field

from reconciler.drivers import Login, Session
from reconciler.errors import Blocked, Unauthorized
from reconciler.model.desired import DesiredServer
from reconciler.model.observed import BootLine, ObservedServer
from reconciler.model.plan import ServerPlan, Status
from reconciler.model.policy import Violation
from reconciler.model.recipients import NOTHING_FRESH, Fresh
from reconciler.model.recorded import NOTHING_RECORDED, Observation, Recorded
from reconciler.model.references import FrozenRef, SecretPath
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.evidence import Values, recorded_view
from reconciler.observe.resolver import Resolver
from reconciler.plan.inputs import Consents, Facts
from reconciler.plan.recipients import new_recipient
from reconciler.plan.robots import restarting
from reconciler.plan.windows import spelled_windows
from reconciler.policy.model import Policy
from reconciler.system.clocks import elapsed


class Visit(Struct, eq=False):
    """One server in one pass: what was seen of it and what is planned."""

    desired: DesiredServer
    plan: ServerPlan
    session: Session | None = None
    observed: ObservedServer | None = None
    seen_at: str = ""  # when that was
    viewed: tuple[tuple[ObservedServer, str, str], Observation] | None = None  # see `view`
    recorded: Recorded = NOTHING_RECORDED
    values: dict[str, Values] = field(default_factory=dict)
    sources: dict[str, Mapping[str, FrozenRef]] = field(default_factory=dict)
    opened_at: float = 0.0  # when the session was, on this machine's clock since its boot
    login: Login | None = None  # with which it was opened
    # What the server may not get before somebody agreed; None: nobody has looked into that yet.
    withheld: Fresh | None = None
    violations: tuple[Violation, ...] = ()  # of its document against the policy
    facts: Facts | None = None  # what it was planned by; None where nothing was compared
    again_in: float = 0.0  # seconds after which a secret has settled; 0: none has to

    def __repr__(self) -> str:
        return f"Visit({self.desired.name})"  # secrets hide themselves; what a server says does not

    @property
    def uid(self) -> str:
        """The ledger's name for the server; empty before first contact."""
        return self.recorded.identity.uid if self.recorded.identity else ""

    @property
    def boots(self) -> tuple[BootLine, ...]:
        """The boot lines that were seen, oldest first."""
        return self.observed.log.boots if self.observed is not None else ()

    @property
    def agreed_finds(self) -> set[SecretPath]:
        """The secrets whose values were found here, and which the server may get."""
        found = {line.exchange for line in self.plan.lines if line.status is Status.FOUND}
        paths = {ref.at for code in found for ref in self.sources.get(code, {}).values()}
        return paths - self.withheld.paths if self.withheld is not None else set()

    def shorten(self) -> None:
        """Let go of what the plan was made from, but who it is, its sources, robots and boots."""
        self.forget_values()
        self.viewed = self.facts = None
        self.recorded = Recorded(identity=self.recorded.identity)
        if self.observed is not None:
            self.observed = replace(self.observed, exchanges=())

    def forget_values(self) -> None:
        """Hold no secret any more."""
        self.values.clear()
        self.login = None

    async def close(self) -> None:
        if self.session is not None:
            session, self.session = self.session, None
            await session.close()


def unknown_recipient(server: str) -> tuple[str, str]:
    """Say that nobody agreed to what *server* would get, and how to."""
    remedy = (
        f"see whether each line is right; then --approve-recipient {server} (`jtr apply` asks on a "
        "terminal), a policy, or the owner of the secret: jtr_targets"
    )
    return "nobody agreed yet that it gets this: it was not contacted", remedy


def first_visit(server: DesiredServer) -> Visit:
    return Visit(server, blank_plan(server))


async def agree(visit: Visit, consents: Consents, policy: Policy, resolver: Resolver) -> None:
    """
    Find out what the server may not get before a person agreed to it.

    Nobody need be asked where the operator's policy says who may have what, where the owner of a
    secret names the server, or where the server had it before.  Raises SecretsError.
    """
    fresh = Fresh.of(new_recipient(visit.desired, visit.recorded))
    known, target = visit.recorded.identity, visit.desired.target
    moves = known is not None and known.target != target
    if policy.speaks or consents.may_receive(visit.desired.name, moves=moves):
        fresh = NOTHING_FRESH
    elif fresh:
        fresh = fresh.without(await resolver.bound(fresh.login | fresh.paths, target))
    visit.withheld = fresh


async def enter(visit: Visit, context: PassContext) -> None:
    """
    Open a session on the visit's server: this is where a login is sent.

    A visit has one login: while robots are stopped, or the server boots, Vault may be away.
    Raises SecretsError, DriverError, and Blocked where nobody agreed that the server may get it.
    """
    server = visit.desired
    if visit.withheld is None or visit.withheld.hides:
        raise Blocked(*unknown_recipient(server.name))
    if visit.login is None:
        newest, secret, token = context.resolver.newest, server.access_secret, server.access_token
        visit.login = Login(
            await newest(secret, server.target) if secret else None,
            await newest(token, server.target) if token else None,
        )
    try:
        visit.session = await context.driver.open(
            server.target, visit.login, context.trust(server.target.url)
        )
    except Unauthorized:
        visit.login = None  # there may be a newer one
        raise
    visit.opened_at = elapsed()


async def see(visit: Visit, context: PassContext) -> None:
    """Read the server anew.  Raises DriverError."""
    if visit.session is None:
        await enter(visit, context)
    if visit.session is None:
        raise AssertionError
    visit.observed = await visit.session.observe()
    visit.seen_at = context.stamp()


def view(visit: Visit, context: PassContext) -> Observation:
    """Return what was seen last as it may be remembered."""
    if visit.observed is None:
        raise AssertionError
    of = visit.observed, visit.uid, visit.seen_at
    if visit.viewed is None or visit.viewed[0] != of:
        made = recorded_view(
            visit.observed,
            context.fingerprints,
            visit.uid,
            at=visit.seen_at,
            by=context.label,
            before=visit.recorded.observation,
        )
        visit.viewed = of, made
    return visit.viewed[1]


def blank_plan(server: DesiredServer) -> ServerPlan:
    return ServerPlan(
        server.name,
        server.target,
        server.owner,
        restarts=restarting(server),
        windows=spelled_windows(server.windows),
    )
