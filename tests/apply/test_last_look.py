"""The last look before a send: one rule each, and what it forbids."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.apply.circuit_breaker import CircuitBreaker, CircuitOpen, _Engaged
from reconciler.apply.execution import Execution
from reconciler.apply.send import Unanswered, invalidate, may_still
from reconciler.drivers import Session
from reconciler.errors import (
    Blocked,
    ConnectionLost,
    DriverError,
    LeaseHeld,
    NoAnswer,
    ServerRefused,
    WindowClosed,
)
from reconciler.ledger.ledger import Ledger
from reconciler.model.actions import (
    Action,
    DeleteExchange,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.desired import (
    DEFAULT_RESUME,
    Afterwards,
    DesiredExchange,
    DesiredServer,
    Mode,
    OnCredentialChange,
    OneShot,
    Presence,
    RequestKind,
    Suspension,
    Window,
    WindowKind,
)
from reconciler.model.observed import (
    Logbook,
    Mask,
    ObservedExchange,
    ObservedField,
    ObservedServer,
    Robot,
)
from reconciler.model.policy import PolicyAction
from reconciler.model.recipients import NOTHING_FRESH, Fresh
from reconciler.model.recorded import Pause, Purpose
from reconciler.model.references import FrozenRef, SecretPath, SecretRef
from reconciler.model.source import SourceLine
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit, blank_plan
from reconciler.policy.model import ANYTHING, Policy, Rule

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
SOON, LATER = NOW + timedelta(hours=1), timedelta(hours=22)
HERE = SourceLine("tokyo-1.yaml", 1)
GRID, ARB = Robot(1, "grid", "bybit", True), Robot(2, "arb", "okx", True)
SOURCE = FrozenRef(SecretPath("secret", "jt/tokyo-1/bybit"), 1, "2026-11-22T08:00:00Z")
WRITE = WriteExchange("bybit", (("bybit_api_key", "apiKey"),), (("", SOURCE),), Purpose.CHANGE)
DELETE = DeleteExchange("kucoin", ("kucoin_api_key",))
RESTART = RestartRobots("bybit", (GRID,))
CACHE = InvalidateCache(NOW - timedelta(hours=1), "stale")
REBOOT = RebootServer(
    NOW - timedelta(hours=1), "quarterly", Afterwards.LEAVE, DEFAULT_RESUME.total_seconds()
)
ALL: dict[str, Action] = {
    "write": WRITE,
    "delete": DELETE,
    "stop": RESTART,
    "invalidate": CACHE,
    "reboot": REBOOT,
}


def field(code: str, mask: str) -> ObservedExchange:
    return ObservedExchange(
        code, (ObservedField(f"{code}_api_key", "apiKey", "string", Mask(mask)),)
    )


def wish(kind: RequestKind) -> OneShot:
    return OneShot(kind, NOW - timedelta(hours=1), "because", HERE)


DESIRED = DesiredServer(
    "tokyo-1",
    "https://tokyo-1.internal",
    HERE,
    exchanges=(
        DesiredExchange("bybit", HERE, secret=SecretRef(SOURCE.at)),
        DesiredExchange("kucoin", HERE, presence=Presence.ABSENT),
    ),
    on_credential_change=OnCredentialChange.RESTART,
    cache=wish(RequestKind.CACHE),
    reboot=wish(RequestKind.REBOOT),
)
SEEN = ObservedServer(
    "0", "0.24.19", (field("bybit", "a"), field("kucoin", "b")), (GRID, ARB), Logbook()
)


def only(action: PolicyAction) -> Policy:
    """A policy that allows one action, everywhere."""
    rule = Rule(1, "only", urls=("**",), secrets=("**",), actions=frozenset({action}))
    return Policy((rule,), source="a policy")


class Moment:
    """An action that may be sent, until a test spoils something."""

    def __init__(self) -> None:
        self.in_force: DesiredServer | None = DESIRED
        self.now = NOW
        self.jumped = timedelta()
        self.target = DESIRED.target
        self.policy = ANYTHING
        self.withheld: Fresh | None = NOTHING_FRESH
        self.brake = CircuitBreaker()
        self.desired = DESIRED
        self.seen = SEEN
        self.noted = SEEN.running()
        self.lost = False
        self.pauses: tuple[Pause, ...] = ()
        self.outrun: Blocked | None = None
        self.uncovered = ""

    def may(self, name: str) -> None:
        """Ask for the action of this name, or for `start` of a robot that this pass stopped."""
        session = cast(Session, type("Connected", (), {"target": self.target})())
        execution = self.execution(session)
        owed = replace(GRID, id=7)
        action = ResumeRobots((owed,)) if name == "resume" else ALL.get(name)
        robot = {"stop": GRID, "start": owed, "resume": owed}.get(name)
        may_still(execution, action, uncovered=self.uncovered, robot=robot)

    def execution(self, session: Session) -> Execution:
        visit = Visit(
            self.desired,
            blank_plan(self.desired),
            session=session,
            observed=SEEN,
            withheld=self.withheld,
        )
        context = PassContext(
            driver=cast(Any, None),
            resolver=cast(Any, None),
            fingerprints=cast(Any, None),
            timeouts=cast(Any, None),
            ledger=None,
            label="apply",
            policy=self.policy,
            now=lambda: self.now,
            jumped=lambda: self.jumped,
            in_force=lambda _: self.in_force,
        )
        execution = Execution(visit, context, self.brake, cast(Ledger, None))
        execution.check_lease = self.lease
        execution.to_stop = self.noted
        execution.pauses = self.pauses
        execution.outrun = self.outrun
        visit.observed = self.seen
        return execution

    def lease(self) -> None:
        if self.lost:
            raise LeaseHeld("the lease on the server ran out", "run it again")

    def document(self, **changes: Any) -> None:
        self.in_force = replace(DESIRED, **changes)

    def jump(self, pauses: tuple[Pause, ...] = (), **changes: Any) -> None:
        """Set our clock ahead, which is not believed, with something that it calls over."""
        self.now, self.jumped, self.pauses = NOW + LATER, LATER, pauses
        self.document(**changes)


def pause(target: Target) -> Pause:
    return Pause(target, "maintenance", "ann", "2026-11-22T08:00:00Z", NOW + timedelta(hours=1))


def over(target: Target) -> Pause:
    return replace(pause(target), until=NOW)


def engaged(brake: CircuitBreaker, scope: str) -> None:
    brake._engaged[scope] = _Engaged("harm", SEEN.version)


def doubtful(brake: CircuitBreaker, version: str) -> None:
    brake._doubts[version] += 1


EVERY = (*ALL, "start", "resume")
DISRUPTIVE = ("stop", "invalidate", "reboot")
ASKED = tuple(ALL)
WISHED = (*ASKED, "resume")
CLOSED = Window(WindowKind.ALLOW, "0 3 * * *", timedelta(hours=1), "UTC", HERE)
RULES: list[tuple[str, tuple[str, ...], Callable[[Moment], Any], type[Exception], str]] = [
    (
        "another server",
        EVERY,
        lambda s: setattr(s, "target", Target("https://osaka-1.internal", "0")),
        Blocked,
        "leads to",
    ),
    (
        "another account",
        EVERY,
        lambda s: setattr(s, "target", replace(DESIRED.target, account="42")),
        Blocked,
        "leads to",
    ),
    (
        "an address that the operator took off the list",
        EVERY,
        lambda s: setattr(s, "policy", Policy.of_lists(("https://other.internal",), ())),
        Blocked,
        "not among",
    ),
    (
        "an action that the policy denies",
        ("write",),
        lambda s: setattr(s, "policy", only(PolicyAction.DELETE)),
        Blocked,
        "may not get",
    ),
    (
        "a reboot that the policy denies",
        ("reboot",),
        lambda s: setattr(s, "policy", only(PolicyAction.INVALIDATE)),
        Blocked,
        "may not ask for reboot",
    ),
    (
        "a login that nobody agreed to",
        EVERY,
        lambda s: setattr(s, "withheld", Fresh(contact=True)),
        Blocked,
        "nobody agreed",
    ),
    (
        "that nobody looked into who may get what",
        EVERY,
        lambda s: setattr(s, "withheld", None),
        Blocked,
        "nobody agreed",
    ),
    (
        "values that nobody agreed to",
        ("write",),
        lambda s: setattr(s, "withheld", Fresh(paths=frozenset({SOURCE.at}))),
        Blocked,
        "nobody agreed",
    ),
    (
        "another version",
        ASKED,
        lambda s: setattr(s, "seen", replace(SEEN, version="0.25.0")),
        Blocked,
        "version changed",
    ),
    (
        "the brake",
        EVERY,
        lambda s: engaged(s.brake, DESIRED.url),
        CircuitOpen,
        "harm",
    ),
    (
        "the version's brake",
        EVERY,
        lambda s: engaged(s.brake, SEEN.version),
        CircuitOpen,
        "harm",
    ),
    ("a doubt", ASKED, lambda s: doubtful(s.brake, SEEN.version), CircuitOpen, "not answered"),
    ("an end", ASKED, lambda s: setattr(s.brake, "_ending", "stopping"), CircuitOpen, "stopping"),
    ("a lost lease", EVERY, lambda s: setattr(s, "lost", True), LeaseHeld, "ran out"),
    (
        "a document that is gone",
        WISHED,
        lambda s: setattr(s, "in_force", None),
        Blocked,
        "document was removed",
    ),
    (
        "a suspension",
        WISHED,
        lambda s: s.document(suspend=Suspension("maintenance", "desk", None)),
        Blocked,
        "suspended meanwhile by desk",
    ),
    (
        "mode: observe",
        WISHED,
        lambda s: s.document(mode=Mode.OBSERVE),
        Blocked,
        "mode: observe",
    ),
    (
        "a pause",
        WISHED,
        lambda s: setattr(s, "pauses", (pause(DESIRED.target),)),
        Blocked,
        "suspended meanwhile by ann",
    ),
    (
        "a pause of another account of the same process",
        ("invalidate", "reboot"),
        lambda s: setattr(s, "pauses", (pause(replace(DESIRED.target, account="42")),)),
        Blocked,
        "account 42 of the same server is paused by ann",
    ),
    (
        "a suspension that only a jump of our clock ended",
        WISHED,
        lambda s: s.jump(suspend=Suspension("maintenance", "desk", SOON)),
        Blocked,
        "suspended meanwhile by desk",
    ),
    (
        "a pause that only a jump of our clock ended",
        WISHED,
        lambda s: s.jump((pause(DESIRED.target),)),
        Blocked,
        "suspended meanwhile by ann",
    ),
    (
        "a suspension of another account that only a jump of our clock ended",
        ("invalidate", "reboot"),
        lambda s: s.jump(suspended_accounts=(("42", Suspension("maintenance", "desk", SOON)),)),
        Blocked,
        "account 42 of the same server is suspended by desk",
    ),
    (
        "a newer commit that is applied by somebody else",
        tuple(ALL),
        lambda s: setattr(s, "outrun", Blocked("another commit was applied", "")),
        Blocked,
        "another commit",
    ),
    (
        "a request that was removed",
        ("invalidate", "reboot"),
        lambda s: s.document(cache=None, reboot=None),
        Blocked,
        "document changed",
    ),
    (
        "a request after which robots are to be started again",
        ("reboot",),
        lambda s: s.document(reboot=replace(wish(RequestKind.REBOOT), robots=Afterwards.RESUME)),
        Blocked,
        "document changed",
    ),
    (
        "a request after which robots have another time to start",
        ("reboot",),
        lambda s: s.document(
            reboot=replace(wish(RequestKind.REBOOT), resume_within=timedelta(hours=9))
        ),
        Blocked,
        "document changed",
    ),
    (
        "an exchange that is declared otherwise",
        ("write", "delete"),
        lambda s: s.document(
            exchanges=(
                DesiredExchange("bybit", HERE, take_over=True),
                DesiredExchange("kucoin", HERE),
            )
        ),
        Blocked,
        "document changed",
    ),
    (
        "robots that are to be left alone",
        ("stop",),
        lambda s: s.document(on_credential_change=OnCredentialChange.LEAVE),
        Blocked,
        "document changed",
    ),
    (
        "a request that expired",
        ("invalidate", "reboot"),
        lambda s: setattr(s, "now", NOW + timedelta(hours=24)),
        Blocked,
        "expired while it waited",
    ),
    (
        "a closed window",
        DISRUPTIVE,
        lambda s: s.document(windows=(CLOSED,)),
        WindowClosed,
        "window closed",
    ),
    (
        "a key that another hand wrote",
        ("write",),
        lambda s: setattr(
            s, "seen", replace(SEEN, exchanges=(field("bybit", "x"), field("kucoin", "b")))
        ),
        Blocked,
        "bybit changed",
    ),
    (
        "a robot that runs on what is deleted",
        ("delete",),
        lambda s: setattr(s, "seen", replace(SEEN, robots=(replace(GRID, exchange="kucoin"), ARB))),
        Blocked,
        "robots run on it",
    ),
    (
        "a robot that does not run any more",
        ("stop",),
        lambda s: setattr(s, "seen", replace(SEEN, robots=(replace(GRID, running=False), ARB))),
        Blocked,
        "does not run any more",
    ),
    (
        "a robot that runs already",
        ("start", "resume"),
        lambda s: setattr(s, "seen", replace(SEEN, robots=(GRID, ARB, replace(GRID, id=7)))),
        Blocked,
        "runs already",
    ),
    (
        "a robot that nobody was told of",
        ("reboot",),
        lambda s: setattr(
            s, "seen", replace(SEEN, robots=(GRID, ARB, Robot(3, "new", "okx", True)))
        ),
        Blocked,
        "did not name: new",
    ),
    (
        "a robot that stopped while it was prepared",
        ("reboot",),
        lambda s: setattr(s, "seen", replace(SEEN, robots=(GRID,))),
        Blocked,
        "while it was prepared: arb",
    ),
    (
        "a robot that started while it was prepared",
        ("reboot",),
        lambda s: setattr(s, "noted", (GRID,)),
        Blocked,
        "while it was prepared: arb",
    ),
]
ROWS = [
    pytest.param(name, spoil, error, words, id=f"{name}-{rule}")
    for rule, names, spoil, error, words in RULES
    for name in names
]


@pytest.mark.parametrize("name", EVERY)
def test_positive_control_what_was_planned_may_be_sent(name: str) -> None:
    Moment().may(name)


@pytest.mark.parametrize(("name", "spoil", "error", "words"), ROWS)
def test_it_may_not(
    name: str, spoil: Callable[[Moment], Any], error: type[Exception], words: str
) -> None:
    moment = Moment()
    spoil(moment)

    with pytest.raises(error, match=words):
        moment.may(name)


def test_a_line_that_moved_in_its_file_is_the_same_wish() -> None:
    moment = Moment()
    moved = tuple(replace(one, source=SourceLine("a.yaml", 99)) for one in DESIRED.exchanges)
    moment.document(exchanges=moved)

    moment.may("write")


def test_another_exchange_may_change_meanwhile() -> None:
    moment = Moment()
    moment.seen = replace(SEEN, exchanges=(field("bybit", "a"), field("kucoin", "x")))

    moment.may("write")


def test_a_field_that_another_hand_wrote_is_not_deleted() -> None:
    moment = Moment()
    moment.seen = replace(SEEN, exchanges=(field("bybit", "a"), field("kucoin", "x")))

    with pytest.raises(Blocked, match="kucoin changed"):
        moment.may("delete")


def test_neither_a_doubt_elsewhere_nor_a_new_version_leaves_our_robots_stopped() -> None:
    """The version may be what our own reboot brought; whether it is tested was looked at before."""
    moment = Moment()
    doubtful(moment.brake, SEEN.version)
    moment.seen = replace(SEEN, version="0.25.0")

    moment.may("start")


@pytest.mark.parametrize("name", EVERY)
def test_harm_and_doubt_elsewhere_are_not_ours(name: str) -> None:
    """Of another server, and of another version: one broken server stops no fleet."""
    moment = Moment()
    engaged(moment.brake, "https://osaka-1.internal")
    engaged(moment.brake, "0.25.0")
    doubtful(moment.brake, "0.25.0")

    moment.may(name)


@pytest.mark.parametrize("name", EVERY)
def test_a_pause_that_is_over_or_elsewhere_holds_nothing(name: str) -> None:
    moment = Moment()
    moment.pauses = (over(DESIRED.target), pause(Target("https://osaka-1.internal", "0")))

    moment.may(name)


def test_a_pause_that_comes_while_a_doubt_is_settled_is_seen() -> None:
    found: list[Pause] = []

    async def steady() -> None:
        found.append(pause(DESIRED.target))

    class Connected:
        target = DESIRED.target

        async def exchanges(self) -> tuple[ObservedExchange, ...]:
            return SEEN.exchanges

        async def robots(self) -> tuple[Robot, ...]:
            return SEEN.robots

    moment = Moment()
    execution = moment.execution(cast(Session, Connected()))
    execution.ledger = cast(Any, SimpleNamespace(pauses=SimpleNamespace(all=lambda: tuple(found))))
    execution.brake = cast(Any, SimpleNamespace(steady=steady, doubtful=False))

    asyncio.run(execution.last_look())

    assert execution.pauses == tuple(found) != ()


def test_robots_that_we_stopped_are_started_whatever_is_applied_meanwhile() -> None:
    moment = Moment()
    moment.outrun = Blocked("another commit was applied", "")

    for name in ("start", "resume"):
        moment.may(name)


def test_what_is_applied_meanwhile_is_asked_at_each_last_look() -> None:
    class Connected:
        target = DESIRED.target

        async def exchanges(self) -> tuple[ObservedExchange, ...]:
            return SEEN.exchanges

        async def robots(self) -> tuple[Robot, ...]:
            return SEEN.robots

    async def steady() -> None:
        """Nothing is in doubt."""

    answers = iter([None, newer := Blocked("another commit was applied", "")])
    execution = Moment().execution(cast(Session, Connected()))
    execution.context = replace(execution.context, outrun=lambda: next(answers))
    execution.ledger = cast(Any, SimpleNamespace(pauses=SimpleNamespace(all=tuple)))
    execution.brake = cast(Any, SimpleNamespace(steady=steady, doubtful=False))

    found = []
    for _ in range(2):
        asyncio.run(execution.last_look())
        found.append(execution.outrun)

    assert found == [None, newer]


def test_a_pause_of_another_account_leaves_this_ones_keys_and_robots_alone() -> None:
    moment = Moment()
    moment.pauses = (pause(replace(DESIRED.target, account="42")),)

    for name in ("write", "delete", "stop", "start", "resume"):
        moment.may(name)


def test_what_stands_under_a_deleted_field_may_be_its_second_row() -> None:
    moment = Moment()
    moment.uncovered = "kucoin_api_key"
    moment.seen = replace(SEEN, exchanges=(field("bybit", "a"), field("kucoin", "x")))

    moment.may("delete")


@pytest.mark.parametrize(
    ("error", "raised", "sends"),
    [
        (ConnectionLost("it ended"), ConnectionLost, 0),
        (ServerRefused("not listed"), ServerRefused, 0),
        (NoAnswer("silence"), Unanswered, 1),
    ],
)
def test_what_never_left_this_machine_does_not_count_as_sent(
    error: DriverError, raised: type[Exception], sends: int
) -> None:
    class Connected:
        target = DESIRED.target

        async def invalidate(self) -> None:
            raise error

    execution = Moment().execution(cast(Session, Connected()))

    with pytest.raises(raised):
        asyncio.run(invalidate(execution, CACHE))
    assert execution.sends == sends
