"""
Strategies for whole worlds, and for the planner's inputs, also those that should not occur.

A world is a list of steps: what people, servers and our own processes do one after another.  It is
carried out on a `tests.crash.harness.Harness`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from reconciler.errors import DriverError, JtrError, SecretMissing
from reconciler.model.conditions import Code, blocked
from reconciler.model.desired import (
    Afterwards,
    DesiredExchange,
    DesiredServer,
    Mode,
    OnCredentialChange,
    Presence,
    RequestKind,
    Suspension,
)
from reconciler.model.evidence import Evidence
from reconciler.model.observed import BootLine, ClockReading, Logbook, Robot
from reconciler.model.recorded import (
    Attempt,
    Debt,
    ExchangeRecord,
    Identity,
    Observation,
    Owed,
    PendingStarts,
    Recorded,
    Request,
    Requests,
    Stage,
    Write,
)
from reconciler.model.references import FrozenRef, SecretPath, SecretRef
from reconciler.model.source import SourceLine
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.plan.inputs import Consents, Facts, Terms
from reconciler.sandbox.jt_trader.faults import Write as Fault
from tests.crash.harness import CODES, FIELDS, SHAPES

QUICK: Final = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""For all properties of this kind: an example is many passes, and a failure prints its seed."""

SERVERS: Final = ("tokyo-1", "tokyo-2", "tokyo-3")


# ── worlds ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens; which fields count depends on *deed*."""

    deed: str
    server: str = SERVERS[0]
    code: str = CODES[0]
    how: str = ""
    shape: str = "key"
    back: int = 0
    drift: bool = False
    faults: tuple[Fault, ...] = ()
    dies_at: int | None = None


QUIET_FAULTS: Final[tuple[Fault, ...]] = (
    "silent-after",
    "drop-before",
    "drop-after",
    "unknown-answer",
)
_DEATHS: Final = st.none() | st.integers(0, 25)


@dataclass(frozen=True, slots=True)
class Story:
    """The exchanges that each server has from the start, and what happens then."""

    servers: int
    declared: tuple[tuple[str, str, str, str], ...]  # server, code, form, shape
    steps: tuple[Step, ...]


@st.composite
def stories(
    draw: st.DrawFn,
    *,
    by_hand: bool = True,
    deaths: bool = True,
    faults: tuple[Fault, ...] = QUIET_FAULTS,
    most_servers: int = 2,
    most_steps: int = 12,
) -> Story:
    """Worlds; *by_hand* lets people change servers, *deaths* lets processes die."""
    servers = draw(st.integers(1, most_servers))
    # Few exchanges a story, so that its steps meet each other.
    codes = draw(st.lists(st.sampled_from(CODES), unique=True, min_size=1, max_size=3))
    place = st.tuples(st.sampled_from(SERVERS[:servers]), st.sampled_from(codes))
    declared = tuple(
        (
            *where,
            draw(st.sampled_from(("secret", "secret", "fields", "pinned", "absent"))),
            draw(st.sampled_from(SHAPES)),
        )
        for where in draw(st.lists(place, unique=True, min_size=1, max_size=4))
    )

    def step(deed: str, **more: st.SearchStrategy[object]) -> st.SearchStrategy[Step]:
        server, code = st.sampled_from(SERVERS[:servers]), st.sampled_from(codes)
        return st.builds(Step, deed=st.just(deed), server=server, code=code, **more)

    rotate = step(
        "rotate",
        how=st.sampled_from(("all", "all", "rest", "key", "back")),
        shape=st.sampled_from(SHAPES),
    )
    forms = ("secret", "secret", "fields", "pinned", "absent", "undeclared")
    declare = step("declare", how=st.sampled_from(forms), back=st.integers(0, 2))
    apply = step(
        "apply",
        drift=st.booleans(),
        faults=st.lists(st.sampled_from(faults), max_size=2).map(tuple) if faults else st.just(()),
        dies_at=_DEATHS if deaths else st.none(),
    )
    deeds = [rotate, rotate, declare, apply, apply, apply]
    deeds += [step("robot", how=st.sampled_from(("start", "stop"))), step("boot")]
    if by_hand:
        deeds += [
            step("edit", how=st.sampled_from(("all", "one", "desired"))),
            step("remove", how=st.sampled_from(("all", "one"))),
            step("tune", how=st.sampled_from(("observe", "self-heal", "suspend", ""))),
            step("new key"),
        ]
    return Story(servers, declared, tuple(draw(st.lists(st.one_of(deeds), max_size=most_steps))))


SUSPENDED: Final = Suspension("maintenance", "desk", None)
TUNINGS: Final[dict[str, dict[str, Any]]] = {
    "observe": {"mode": Mode.OBSERVE},
    "self-heal": {"self_heal": True},
    "suspend": {"suspend": SUSPENDED},
    "": {},
}

# ── the planner's inputs, sensible or not ────────────────────────────────────────────────────

_KEYS: Final = ("key-1", "key-2")
_URL: Final = "https://tokyo-1.internal:8443"
_TARGET: Final = Target(_URL, "0")
_SOURCE: Final = SourceLine("desired.yaml", 1)
_MOMENT: Final = "2026-11-22T09:00:00.000+00:00"
_LOGS: Final = st.none() | st.integers(1_000, 1_003)


def _refs(code: str) -> st.SearchStrategy[FrozenRef]:
    path = st.sampled_from((code, "other")).map(lambda name: SecretPath("secret", f"jt/{name}"))
    return st.builds(FrozenRef, path, st.integers(1, 3), st.sampled_from(("t1", "t2")), st.none())


@st.composite
def sources(draw: st.DrawFn, code: str) -> dict[str, FrozenRef]:
    """Frozen references of one exchange: one for all fields, or one for each."""
    if draw(st.booleans()):
        return {"": draw(_refs(code))}
    return {name: replace(draw(_refs(code)), field=name) for name in FIELDS[code].values()}


def _marks(code: str, what: str) -> st.SearchStrategy[dict[str, str]]:
    """Fingerprints by field, few enough to be equal now and then."""
    return st.fixed_dictionaries(
        {name: st.sampled_from((f"{what}-1", f"{what}-2", f"{what}-3")) for name in FIELDS[code]}
    )


@st.composite
def writes(draw: st.DrawFn, code: str) -> Write:
    """What a ledger may hold of a write."""
    return Write(
        sources=draw(sources(code)),
        values=draw(_marks(code, "value")),
        masks=draw(_marks(code, "mask")),
        key_id=draw(st.sampled_from(_KEYS)),
        at=_MOMENT,
        weak=draw(st.booleans()),
        api_key=draw(st.sampled_from(("", "api-1", "api-2"))),
        companions=draw(st.sampled_from(("rest-1", "rest-2"))),
    )


@st.composite
def _debts(draw: st.DrawFn, code: str) -> Debt:
    owed = draw(st.sampled_from(Owed))
    robot = draw(st.integers(1, 3)) if owed is Owed.RESTART else None
    return Debt(owed, code, _MOMENT, draw(_LOGS), robot, f"robot {robot}" if robot else "")


@st.composite
def records(draw: st.DrawFn, code: str) -> ExchangeRecord:
    """What a ledger may hold of an exchange."""
    maybe = st.none() | writes(code)
    return ExchangeRecord(
        code,
        written=draw(maybe),
        intent=draw(maybe),
        found=draw(maybe),
        deleting=draw(st.booleans()),
        debts=tuple(draw(st.lists(_debts(code), max_size=2))),
        past_keys=tuple(draw(st.lists(st.just(("api-1", "rest-1")), max_size=1))),
        past_boot=draw(_LOGS),
        ever=draw(st.booleans()),
    )


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """What a server may show: fingerprints of masks, robots, log lines."""
    shown = {}
    for code in draw(st.sets(st.sampled_from(CODES), min_size=1)):
        shown[code] = {
            name: draw(st.sampled_from(("", "mask-1", "mask-2", "mask-3"))) for name in FIELDS[code]
        }
    robots = draw(
        st.lists(
            st.builds(
                Robot,
                st.integers(1, 3),
                st.just("robot"),
                st.sampled_from(CODES),
                running=st.booleans(),
            ),
            max_size=3,
            unique_by=lambda robot: robot.id,
        )
    )
    return Observation(
        at=_MOMENT,
        by="test",
        version="0.24.19",
        masks=shown,
        credentials={code: FIELDS[code] for code in shown},
        robots=tuple(robots),
        boot=draw(_LOGS),
        key_id=draw(st.sampled_from(_KEYS)),
        troubles=draw(st.dictionaries(st.sampled_from(CODES), st.just("trouble"), max_size=1)),
        alarm=draw(_LOGS),
    )


@st.composite
def _wishes(draw: st.DrawFn, code: str) -> DesiredExchange:
    take_over = draw(st.booleans())
    match draw(st.sampled_from(("absent", "secret", "fields"))):
        case "absent":
            return DesiredExchange(code, _SOURCE, Presence.ABSENT, take_over=take_over)
        case "secret":
            ref = SecretRef(SecretPath("secret", code), None, draw(st.none() | st.integers(1, 3)))
            return DesiredExchange(code, _SOURCE, secret=ref, take_over=take_over)
    names = draw(st.sampled_from((tuple(FIELDS[code].values()), ("apiKey", "secret"))))
    refs = {name: SecretRef(SecretPath("secret", code), name) for name in names}
    return DesiredExchange(code, _SOURCE, fields=refs, take_over=take_over)


@st.composite
def _evidence(draw: st.DrawFn, code: str) -> Evidence:
    return Evidence(
        matches=frozenset(draw(st.sets(st.sampled_from(sorted(FIELDS[code]))))),
        weak=draw(st.booleans()),
        unchanged=draw(st.booleans()),
        api_key=draw(st.sampled_from(("api-1", "api-2"))),
        companions=draw(st.sampled_from(("rest-1", "rest-2"))),
        same_api_key=draw(st.booleans()),
    )


_NOON: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
_INSTANTS: Final = st.integers(-60, 60).map(lambda hours: _NOON + timedelta(hours=hours))
_ANOTHER_LEDGER: Final = blocked(Code.LEDGER_CANNOT_TELL, "another ledger might know", "")
_BOOTS: Final = tuple(BootLine(time, 7) for time in (1_000, 1_001, 1_002))


def _boots() -> st.SearchStrategy[tuple[BootLine, ...]]:
    return st.integers(0, len(_BOOTS)).map(lambda number: _BOOTS[:number])


@st.composite
def _one_request(draw: st.DrawFn, stages: tuple[Stage, ...]) -> Request:
    kind = draw(st.sampled_from(RequestKind))
    attempts = draw(st.lists(_boots(), min_size=1, max_size=2 if kind is RequestKind.REBOOT else 1))
    return Request(
        kind,
        draw(_INSTANTS),
        "asked",
        draw(st.sampled_from(stages)),
        tuple(Attempt(f"nonce-{n}", _MOMENT, "test", b, None) for n, b in enumerate(attempts)),
        robots=draw(st.sampled_from(Afterwards)),
        ran=tuple(draw(st.lists(st.sampled_from(_THREE), unique=True))),
    )


_THREE: Final = tuple(Robot(number, "robot", CODES[0], running=True) for number in (1, 2, 3))


@st.composite
def requests(draw: st.DrawFn) -> Requests:
    """What a ledger may hold of one-shots: handled, open, closed, robots owed a start."""
    closed = tuple(stage for stage in Stage if stage is not Stage.OPEN)
    halt = st.builds(
        PendingStarts,
        st.just("reboot"),
        st.lists(st.sampled_from(_THREE), min_size=1, unique=True).map(tuple),
        at=st.just(_MOMENT),
        by=st.just("test"),
        within=st.just(600.0),
        boot=st.none() | st.sampled_from(_BOOTS),
        finding=st.sampled_from(("", "", "it did not start")),
    )
    return Requests(
        handled=draw(st.dictionaries(st.sampled_from(RequestKind), _INSTANTS)),
        open=draw(st.none() | _one_request((Stage.OPEN,))),
        past=tuple(draw(st.lists(_one_request(closed), max_size=2))),
        halt=draw(st.none() | halt),
    )


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    """What may govern disruptive actions; mostly nothing stands against them."""
    boots = draw(_boots())
    log = Logbook(
        readable=draw(st.sampled_from((True, True, False))),
        boot=boots[-1].time if boots else None,
        boots=boots,
        newest=draw(_LOGS),
        strangers=draw(st.sampled_from((False, False, True))),
    )
    return Terms(
        _NOON,
        log=draw(st.none() | st.just(log)),
        clock=draw(st.none() | st.just(ClockReading(0.0, 1.0))),
        baseline=draw(st.none() | _INSTANTS),
        refused=draw(st.sampled_from((None, None, _ANOTHER_LEDGER))),
        unsteady=draw(st.sampled_from(("", "", "our clock jumped"))),
        since_halt=draw(st.none() | st.sampled_from((1.0, 900.0))),
    )


_ENTRIES: Final = st.sets(
    st.sampled_from(("tokyo-1", "tokyo-9", *(f"tokyo-1/{code}" for code in CODES))), max_size=2
).map(frozenset)


@dataclass(frozen=True, slots=True)
class PlannerInput:
    """All that `plan_server` takes."""

    desired: DesiredServer
    observation: Observation
    recorded: Recorded
    facts: Facts
    consents: Consents


@st.composite
def planner_inputs(draw: st.DrawFn) -> PlannerInput:
    """Any input of the planner, also combinations that no history leads to."""
    codes = draw(st.lists(st.sampled_from(CODES), unique=True, max_size=4))
    exchanges = tuple(draw(_wishes(code)) for code in codes)
    desired = DesiredServer(
        "tokyo-1",
        _URL,
        _SOURCE,
        exchanges=exchanges,
        mode=draw(st.sampled_from(Mode)),
        self_heal=draw(st.booleans()),
        suspend=draw(st.none() | st.just(SUSPENDED)),
        on_credential_change=draw(st.sampled_from(OnCredentialChange)),
    )
    failure: st.SearchStrategy[JtrError] = st.sampled_from(
        (SecretMissing("no such secret"), DriverError("no answer"))
    )
    frozen = {
        e.code: draw(failure) if draw(st.integers(0, 4)) == 0 else draw(sources(e.code))
        for e in exchanges
        if e.presence is Presence.PRESENT
    }
    read: dict[str, Evidence | JtrError] = {}
    for code in frozen:
        kind = draw(st.integers(0, 5))
        if kind:  # values may also not have been read at all: that is `plan --recorded`
            read[code] = draw(failure) if kind == 1 else draw(_evidence(code))
    known = draw(st.sets(st.sampled_from(CODES)))
    return PlannerInput(
        desired,
        draw(observations()),
        Recorded(
            Identity("uid-1", _TARGET, "tokyo-1"),
            {code: draw(records(code)) for code in sorted(known)},
            draw(st.none() | observations()),
            requests=draw(requests()),
        ),
        Facts(
            sources=frozen,
            evidence=read,
            refuses=draw(st.sampled_from((None, None, blocked(Code.BRAKE, "the brake is on", "")))),
            suspended=draw(st.booleans()),
            terms=draw(terms()),
        ),
        Consents(
            drift=draw(st.booleans()),
            take_over=draw(_ENTRIES),
            rewrite=draw(_ENTRIES),
            targets=frozenset(draw(st.sets(st.just("tokyo-1")))),
        ),
    )
