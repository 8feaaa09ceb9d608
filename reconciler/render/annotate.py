"""Which lines of which files a result is about: mistakes, policy, audits and plans.  Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from reconciler.errors import InvalidConfig
from reconciler.model.annotations import Annotation, Weight
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.key_audits import Audited, Light
from reconciler.model.key_policy import Severity
from reconciler.model.plan import Line, Plan, ServerPlan, Standing, Status
from reconciler.model.policy import Violation
from reconciler.model.source import NOWHERE, Problem, SourceLine
from reconciler.model.values import replace
from reconciler.render.server_text import recipient_text
from reconciler.render.verdicts import stops

_WEIGHT: Final = {
    Severity.CRITICAL: Weight.ERROR,
    Severity.ERROR: Weight.ERROR,
    Severity.WARNING: Weight.WARNING,
    Severity.INFO: Weight.NOTICE,
}


def of_mistakes(error: InvalidConfig) -> Iterator[Annotation]:
    for one in error.problems:
        if isinstance(one, Problem):
            rule = "invalid-document"
            yield Annotation(Weight.ERROR, rule, one.what, one.remedy, one.source)
        else:
            yield Annotation(Weight.ERROR, "invalid-document", str(one))


def of_violations(
    found: Iterable[tuple[DesiredServer, Sequence[Violation]]],
) -> Iterator[Annotation]:
    for server, violations in found:
        for one in violations:
            exchange = server.exchange(one.exchange) if one.exchange else None
            source = server.source if exchange is None else exchange.source
            yield Annotation(Weight.ERROR, "policy", one.what, one.remedy, source, server.name)


def of_audits(rows: Iterable[Audited], state: DesiredState) -> Iterator[Annotation]:
    servers = {server.name: server for server in state.servers}
    for row in rows:
        server = servers.get(row.key.server)
        exchange = server.exchange(row.key.exchange) if server is not None else None
        source = exchange.source if exchange is not None else NOWHERE
        if row.failure is not None:
            yield Annotation(
                Weight.WARNING, "audit", row.failure.what, row.failure.remedy, source, str(row.key)
            )
        for one in row.findings:
            weight = Weight.NOTICE if one.accepted else _WEIGHT[one.severity]
            if weight is Weight.ERROR and row.light is not Light.BLOCKED:
                weight = Weight.WARNING
            if weight is not Weight.NOTICE:
                what = f"{one.code}: {one.what}"
                yield Annotation(weight, "audit", what, one.remedy, source, str(row.key))


def of_remembered(rows: Iterable[Audited], state: DesiredState) -> Iterator[Annotation]:
    """Yield the same of remembered answers, which may be wrong by now and end no command."""
    for one in of_audits(rows, state):
        yield replace(one, weight=Weight.WARNING)


def of_plan(plan: Plan, state: DesiredState) -> Iterator[Annotation]:
    """Yield what reviewers should see beside the lines of a pull request, and only that."""
    sources = {server.name: server.source for server in (*state.servers, *state.others)}
    for server in plan:
        yield from _of_server(server, sources)


def _of_server(server: ServerPlan, sources: Mapping[str, SourceLine]) -> Iterator[Annotation]:
    here, name = sources.get(server.server, NOWHERE), server.server
    if server.failure is not None:
        error = server.failure
        yield Annotation(Weight.ERROR, "failed", error.what, error.remedy, here, name)
    elif server.held:
        weight = Weight.ERROR if server.held_code else Weight.WARNING
        yield Annotation(weight, "blocked", server.held, server.held_remedy, here, name)
    for new in server.new_recipient:
        yield Annotation(Weight.WARNING, "new-recipient", recipient_text(new), "", here, name)
    for line in server.lines:
        yield from _of_line(line, here, name)
    for entry in server.disruptions:
        if entry.error or entry.standing is Standing.BLOCKED:
            what = f"{entry.what}: {entry.standing}; {entry.why}"
            yield Annotation(
                Weight.ERROR, "blocked", what, entry.remedy, entry.source or here, name
            )
    for stop in stops(server):
        robots = ", ".join(robot.name for robot in stop.robots) or "whatever runs there"
        what = f"{stop.what} stops {robots}"
        yield Annotation(Weight.WARNING, "stops-robots", what, "", here, name)


def _of_line(line: Line, here: SourceLine, server: str) -> Iterator[Annotation]:
    source = line.source or here
    what = f"{line.exchange}: {line.why or line.reason}"
    if line.status is Status.FAILED:
        yield Annotation(Weight.ERROR, "failed", what, line.remedy, source, server)
    elif line.status is Status.BLOCKED:
        yield Annotation(Weight.ERROR, "blocked", what, line.remedy, source, server)
    elif line.ready is not None:
        what = f"{line.status} {line.exchange}: {line.why or line.reason}"
        yield Annotation(Weight.NOTICE, "change", what, "", source, server)
