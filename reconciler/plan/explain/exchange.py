"""Why an exchange is written, deleted or left as it is."""

from collections.abc import Iterator

from reconciler.errors import JtrError
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import (
    DesiredExchange,
    Presence,
)
from reconciler.model.explanation import Check, Explanation, Source, together
from reconciler.model.plan import Category, Line, Status, Verdict
from reconciler.model.policy import PolicyAction
from reconciler.model.recorded import ExchangeRecord, Write
from reconciler.model.values import replace
from reconciler.plan.compare import Shown, is_ours
from reconciler.plan.exchange import obstacle
from reconciler.plan.explain.inputs import Known, no, observed, unknown, unplanned, with_own, yes
from reconciler.plan.explain.server import server_checks
from reconciler.plan.inputs import DENIED


def explain_exchange(known: Known, code: str) -> Explanation:
    """Say why the exchange is written, deleted or left as it is."""
    line = next((one for one in known.plan.lines if one.exchange == code), None)
    exchange = known.desired.exchange(code)
    checks = [together("the server may be changed", server_checks(known))]
    if exchange is None:
        checks.append(_undeclared(known, code))
    else:
        checks.append(together("it can be brought there", _reachable(known, exchange, line)))
        checks.append(together("there is something to do", _differs(known, exchange, line)))
        checks.append(together("nobody has to agree first", _consented(known, line)))
    return Explanation(
        subject=f"{known.desired.name}/{code}",
        stands=str(line.status) if line is not None else "not planned",
        does=line is not None and line.ready in known.plan.actions and line.ready is not None,
        condition=line.condition if line is not None else unplanned(known),
        held=known.plan.hold,
        checks=with_own(
            checks,
            line.condition if line is not None else None,
            acts=line is not None and line.ready is not None,
        ),
        sources=tuple(_exchange_sources(known, exchange, code)),
        at=known.now.isoformat(),
    )


def _undeclared(known: Known, code: str) -> Check:
    record = known.recorded.exchanges.get(code)
    if record is not None and is_ours(record):
        remedy = f"declare `{code}: {{state: absent}}` to delete it"
        why = Condition(Code.LEFT_ON_SERVER, "we wrote it once; it is no longer there", remedy)
    else:
        why = Condition(Code.NOT_MANAGED, "what no document names is never touched")
    return no("a document declares it", why)


def _reachable(known: Known, exchange: DesiredExchange, line: Line | None) -> Iterator[Check]:
    facts, absent = known.facts, exchange.presence is Presence.ABSENT
    yield yes("a document declares it", str(exchange.source))
    action = PolicyAction.DELETE if absent else PolicyAction.WRITE
    claim = f"the policy allows to {action} it"
    denied = facts.denied(action, exchange.code) if facts is not None else None
    if denied is not None:
        yield no(claim, Condition(DENIED.code, denied.what, denied.remedy))
    elif facts is None:
        yield unknown(claim, Condition(Code.NEVER_SEEN, "it was not asked"))
    else:
        yield yes(claim)
    if not absent:
        yield _secret(known, exchange)
    if line is not None and line.code == Code.ROBOTS_RUN:
        yield no("no robot runs on it", line.condition)
    if known.observation is not None and not absent:
        claim = "the server lists it, with these fields"
        why = obstacle(exchange, known.observation)
        yield yes(claim) if why is None else no(claim, why)


def _secret(known: Known, exchange: DesiredExchange) -> Check:
    claim = "its secret can be used"
    found = known.facts.sources.get(exchange.code) if known.facts is not None else None
    if isinstance(found, JtrError):
        return no(claim, Condition.of(found))
    if found is None:
        return unknown(claim, Condition(Code.NEVER_SEEN, "Vault was not asked"))
    evidence = known.facts.evidence.get(exchange.code) if known.facts is not None else None
    if isinstance(evidence, JtrError):
        return no(claim, Condition.of(evidence))
    told = ", ".join(sorted({str(replace(ref, field=None)) for ref in found.values()}))
    return yes(claim, told, since=max((ref.created for ref in found.values()), default=""))


def _differs(known: Known, exchange: DesiredExchange, line: Line | None) -> Iterator[Check]:
    if known.observation is None or line is None:
        yield unknown("something differs", Condition(Code.NEVER_SEEN, "it was not compared"))
        return
    since = known.observation.since.get(exchange.code, "")
    claim = "something differs"
    if line.action is not None or line.verdict is Verdict.DIFFERENT:
        what = line.why or str(line.reason)
        yield yes(claim, f"{what}; {_written(known, exchange.code)}", since)
    elif line.verdict is Verdict.SAME:
        same = Condition(line.code, line.why or _written(known, exchange.code))
        yield no(claim, same, since)
    else:
        yield replace(unknown(claim, line.condition), since=since)


def _written(known: Known, code: str) -> str:
    """Say how what is shown compares with what we wrote."""
    record = known.recorded.exchanges.get(code, ExchangeRecord(code))
    if known.observation is None or record.written is None:
        return "we never wrote it"
    shown = Shown.of(known.observation, code)
    if record.written.key_id != shown.key_id:
        return "what we wrote is remembered under another fingerprint key"
    if not shown.present:
        return f"it shows nothing, and we wrote {_origin(record.written)}"
    if not shown.is_all(record.written):
        return f"it does not show what we wrote ({_origin(record.written)})"
    sources = known.facts.sources.get(code) if known.facts is not None else None
    newer = ""
    if sources is not None and not isinstance(sources, JtrError):
        moved = not record.written.came_from(sources)
        newer = ", which is not the desired one any more" if moved else ""
    return f"it shows what we wrote: {_origin(record.written)}{newer}"


def _origin(write: Write) -> str:
    return ", ".join(sorted({f"{ref.at}@{ref.version}" for ref in write.sources.values()}))


def _consented(known: Known, line: Line | None) -> Iterator[Check]:
    if line is None or line.action is None or not line.asks:
        if line is not None and line.category is Category.DRIFT:
            yield yes("drift may be corrected", _who_heals(known))
        if line is not None and line.code in (Code.POLICY_LIMIT, Code.UNVERIFIED_LIMIT):
            yield no("this pass does not do too much of its kind", line.condition)
        return
    claims = {
        Code.DRIFT_LEFT_ALONE: "drift may be corrected",
        Code.FOREIGN: "what somebody else connected may be replaced",
        Code.NEW_RECIPIENT: "somebody agreed that it gets this secret",
    }
    found = {str(code): claim for code, claim in claims.items()}
    claim = found.get(line.code, "somebody agreed")
    resting = f"; {line.note}" if line.note and line.status is Status.LEFT_ALONE else ""
    self_heal = f"selfHeal: {str(known.desired.self_heal).lower()}"
    what = (
        f"{self_heal}{resting}, and nobody asked" if line.status is Status.LEFT_ALONE else line.why
    )
    yield no(claim, line.condition.says(what), line.since)


def _who_heals(known: Known) -> str:
    return "somebody asked for it" if known.consents.drift else "selfHeal: true, or --rewrite"


def _exchange_sources(
    known: Known, exchange: DesiredExchange | None, code: str
) -> Iterator[Source]:
    if exchange is not None:
        yield Source("document", str(exchange.source))
        for ref in exchange.references:
            yield Source("secret", str(ref))
    yield from observed(known)
    record = known.recorded.exchanges.get(code)
    if record is None:
        yield Source("ledger", f"nothing about {code}")
        return
    for what, write in (
        ("written", record.written),
        ("intended, outcome unknown", record.intent),
        ("found, of another hand", record.found),
    ):
        if write is not None:
            yield Source("ledger", f"{what}: {_origin(write)}, {write.at}")
    if record.deleting:
        yield Source("ledger", "a delete was begun")
    for debt in record.debts:
        yield Source("ledger", f"{debt.owed} owed since {debt.since}")
