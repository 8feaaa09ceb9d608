"""
One exchange of one server: its comparison, what people agreed to -> one line of the plan.  Pure.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from reconciler.errors import Exit, JtrError, NotSettled
from reconciler.model.actions import Consequence, DeleteExchange, Need, Reason, WriteExchange
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.desired import DesiredExchange, DesiredServer, Presence
from reconciler.model.evidence import Evidence
from reconciler.model.observed import Robot
from reconciler.model.plan import ASK_RECIPIENT, Category, Line, Status, Verdict
from reconciler.model.policy import PolicyAction
from reconciler.model.recorded import ExchangeRecord, Observation, Purpose, Recorded
from reconciler.model.values import replace
from reconciler.model.wording import close_to
from reconciler.plan.compare import Comparison, ComparisonKind, Shown, compare, explained, is_ours
from reconciler.plan.consequences import needed, running_on
from reconciler.plan.inputs import DENIED, Consents, Facts, Sources

ASK_DRIFT = "--correct-drift"
ASK_TAKE_OVER = "--take-over"

_WRITTEN: Final[Mapping[Reason, Code]] = {
    Reason.ABSENT: Code.ABSENT,
    Reason.NEW_VERSION: Code.NEW_VERSION,
    Reason.PIN_MOVED: Code.PIN_MOVED,
    Reason.PATH_MOVED: Code.PATH_MOVED,
    Reason.NOT_VERIFIABLE: Code.NOT_VERIFIABLE,
    Reason.UNFINISHED: Code.UNFINISHED,
    Reason.NONE: Code.IN_SYNC,
}
_OTHERWISE: Final[Mapping[ComparisonKind, Code]] = {
    ComparisonKind.FOUND: Code.FOUND,
    ComparisonKind.UNREAD: Code.NOT_READ,
    ComparisonKind.DRIFT: Code.DRIFT_CORRECTED,
    ComparisonKind.FOREIGN: Code.TAKE_OVER,
}
"""Why a line is as it is, by what was found; what is written has the reason of the write."""


class ExchangePlan(Struct, frozen=True):
    """Decides the line of one exchange; every field is an input."""

    desired: DesiredServer
    exchange: DesiredExchange
    observation: Observation
    recorded: Recorded
    facts: Facts
    consents: Consents

    @property
    def code(self) -> str:
        return self.exchange.code

    @property
    def record(self) -> ExchangeRecord:
        return self.recorded.exchanges.get(self.code, ExchangeRecord(self.code))

    @property
    def shown(self) -> Shown:
        return Shown.of(self.observation, self.code)

    @property
    def running(self) -> tuple[Robot, ...]:
        return running_on(self.observation.robots, self.code)

    def line(self) -> Line:
        absent = self.exchange.presence is Presence.ABSENT
        if self.facts.denied(PolicyAction.DELETE if absent else PolicyAction.WRITE, self.code):
            return self._blocked(DENIED)
        if absent:
            return self._absent()
        sources = self.facts.sources.get(self.code)
        if isinstance(sources, JtrError):
            return self._failed(sources)
        if sources is None:
            raise ValueError(self.code)
        if found_obstacle := obstacle(self.exchange, self.observation):
            return self._blocked(found_obstacle)
        evidence = self.facts.evidence.get(self.code)
        if isinstance(evidence, JtrError):
            return self._failed(evidence)
        found = compare(self.shown, self.record, sources, evidence)
        line = self._present(found, sources, evidence)
        if line.action is not None and self._withheld(sources):
            return self._ask_recipient(line, sources)
        if line.action is not None and not line.asks and self.facts.refuses is not None:
            return replace(
                self._blocked(self.facts.refuses),
                verdict=line.verdict,
                sources=line.sources,
            )
        return line

    def _present(self, found: Comparison, sources: Sources, evidence: Evidence | None) -> Line:
        base = Line(
            self.code,
            Status.IN_SYNC,
            found.verdict,
            reason=found.reason,
            condition=Condition(_OTHERWISE.get(found.kind) or _WRITTEN[found.reason], found.why),
            sources=tuple(sorted({str(replace(ref, field=None)) for ref in sources.values()})),
            source=self.exchange.source,
            note=_ignored(evidence),
        )
        if found.reason is Reason.NEW_VERSION and all(r.version for r in self.exchange.references):
            moved = Condition(Code.PIN_MOVED, found.why)
            base = replace(base, reason=Reason.PIN_MOVED, condition=moved)
        match found.kind:
            case ComparisonKind.SAME:
                return self._rewritten(base, sources, evidence) or base
            case ComparisonKind.FOUND:
                return self._rewritten(base, sources, evidence) or replace(
                    base, status=Status.FOUND
                )
            case ComparisonKind.UNREAD:
                unread = base.condition.says("only reading its value could tell")
                return replace(base, status=Status.NOT_COMPARED, condition=unread)
            case ComparisonKind.WRITE:
                purpose = Purpose.CORRECTION if found.unverified else Purpose.CHANGE
                return self._write(base, sources, evidence, purpose, unverified=found.unverified)
            case ComparisonKind.DRIFT:
                return self._drift(base, sources, evidence)
            case ComparisonKind.FOREIGN:
                return self._foreign(base, sources, evidence, unverified=found.unverified)

    def _rewritten(self, base: Line, sources: Sources, evidence: Evidence | None) -> Line | None:
        if not self.consents.covers(self.consents.rewrite, self.desired.name, self.code):
            return None
        why = Condition(Code.REWRITE, "--rewrite")
        asked = replace(base, reason=Reason.ASKED, condition=why)
        return self._write(asked, sources, evidence, Purpose.CORRECTION, unverified=False)

    def _drift(self, base: Line, sources: Sources, evidence: Evidence | None) -> Line:
        drift = replace(base, category=Category.DRIFT)
        again = self.record.wrote_last(sources)  # else Vault moved too: robots need the new key
        purpose = Purpose.CORRECTION if again else Purpose.CHANGE
        line = self._write(drift, sources, evidence, purpose, unverified=False)
        forced = self.consents.covers(self.consents.rewrite, self.desired.name, self.code)
        if self._heals() or forced:
            return line
        return self._left_alone(line, "`jtr apply --correct-drift` puts the desired one back")

    def _withheld(self, sources: Sources) -> list[str]:
        return sorted({str(ref.at) for ref in sources.values() if ref.at in self.facts.withheld})

    def _ask_recipient(self, line: Line, sources: Sources) -> Line:
        if line.asks:  # what else it waits for comes first, and may be never given
            return replace(line, action=None)
        return replace(
            line,
            status=Status.BLOCKED,
            asks=ASK_RECIPIENT,
            condition=blocked(
                Code.NEW_RECIPIENT,
                f"nobody agreed yet that this server gets {', '.join(self._withheld(sources))}",
                f"if that is right: {ASK_RECIPIENT} {self.desired.name} (`jtr apply` asks on a "
                "terminal), a policy, or the owner of the secret: jtr_targets",
            ),
        )

    def _heals(self) -> bool:
        heals = self.desired.self_heal and not self.facts.denied(PolicyAction.SELF_HEAL)
        return self.consents.drift or (heals and not self._rests())

    def _rests(self) -> str:
        """Say why a document's `selfHeal` does not count now."""
        if not self.desired.self_heal:
            return ""
        return self.consents.resting.get(f"{self.desired.name}/{self.code}", "")

    def _foreign(
        self, base: Line, sources: Sources, evidence: Evidence | None, *, unverified: bool
    ) -> Line:
        purpose = Purpose.CORRECTION if unverified else Purpose.CHANGE
        line = self._write(base, sources, evidence, purpose, unverified=unverified)
        if self._takes_over():
            return line
        return self._take_over_first(line, "replaces")

    def _takes_over(self) -> bool:
        denied = self.facts.denied(PolicyAction.TAKE_OVER, self.code)
        declared = self.exchange.take_over and not self.record.ever and not denied
        return declared or self.consents.covers(
            self.consents.take_over, self.desired.name, self.code
        )

    def _take_over_first(self, line: Line, does: str) -> Line:
        remedy = f"`jtr apply --take-over {self.desired.name}/{self.code}` {does}"
        return replace(
            line,
            status=Status.BLOCKED,
            asks=ASK_TAKE_OVER,
            condition=blocked(Code.FOREIGN, line.why, f"{remedy} what exists only there"),
        )

    def _write(
        self,
        base: Line,
        sources: Sources,
        evidence: Evidence | None,
        purpose: Purpose,
        *,
        unverified: bool,
    ) -> Line:
        names = self.observation.credentials.get(self.code, {})
        action = WriteExchange(
            self.code,
            tuple(sorted(names.items())),
            tuple(sorted(sources.items())),
            purpose,
            unverified,
        )
        need = needed(self.record, self.shown, evidence, self.observation.boot)
        consequence = Consequence(self.running, need) if need is not Need.NOTHING else None
        return replace(base, status=Status.WRITE, action=action, consequence=consequence)

    def _absent(self) -> Line:
        base = Line(
            self.code,
            Status.IN_SYNC,
            source=self.exchange.source,
            condition=Condition(Code.IN_SYNC, "absent, as desired"),
        )
        present = self.shown.present
        if not present:
            return base
        wanted = replace(
            base,
            status=Status.DELETE,
            verdict=Verdict.DIFFERENT,
            reason=Reason.ASKED,
            condition=Condition(Code.DELETE, "state: absent"),
            action=DeleteExchange(self.code, tuple(sorted(present))),
        )
        if self.running:
            names = ", ".join(robot.name for robot in self.running)
            run = f"robots run on it: {names}"
            stop = blocked(Code.ROBOTS_RUN, run, "stop them, then apply again")
            return replace(self._blocked(stop), verdict=Verdict.DIFFERENT)
        if self.facts.refuses is not None:
            return self._blocked(self.facts.refuses)
        if not is_ours(self.record):
            why = Condition(Code.TAKE_OVER, "somebody else connected it")
            foreign = replace(wanted, condition=why)
            return foreign if self._takes_over() else self._take_over_first(foreign, "deletes")
        if explained(self.shown, self.record) == present:
            return wanted
        changed = "state: absent, but somebody else changed it"
        drift = replace(
            wanted,
            category=Category.DRIFT,
            condition=Condition(Code.DRIFT_CORRECTED, changed),
        )
        if self._heals():
            return drift
        return self._left_alone(drift, "`jtr apply --correct-drift` deletes it")

    def _left_alone(self, line: Line, remedy: str) -> Line:
        return replace(
            line,
            status=Status.LEFT_ALONE,
            asks=ASK_DRIFT,
            condition=Condition(Code.DRIFT_LEFT_ALONE, line.why, remedy),
            note=self._rests(),
        )

    def _failed(self, error: JtrError) -> Line:
        if isinstance(error, NotSettled):
            return Line(
                self.code,
                Status.SETTLING,
                Verdict.UNKNOWN,
                condition=replace(Condition.of(error), remedy="", exit=Exit.DONE),
                source=self.exchange.source,
            )
        return Line(
            self.code,
            Status.FAILED,
            Verdict.UNKNOWN,
            condition=Condition.of(error),
            source=self.exchange.source,
        )

    def _blocked(self, condition: Condition) -> Line:
        return Line(
            self.code,
            Status.BLOCKED,
            Verdict.UNKNOWN,
            condition=condition,
            source=self.exchange.source,
        )


_ADD_IT = (
    "add it to the server's exchanges.conf, which it reads when it boots (a boot stops its "
    "robots), or remove it here"
)


def obstacle(exchange: DesiredExchange, observation: Observation) -> Condition | None:
    """Say why the exchange cannot be written to this server; None when it can."""
    code = exchange.code
    if code not in observation.masks:
        unknown = f"this server does not know the exchange {code}"
        near = close_to(code, observation.masks)
        hint = f"did you mean {' or '.join(near)}? Else " if near else ""
        return blocked(Code.EXCHANGE_UNKNOWN, unknown, f"{hint}{_ADD_IT}")
    if trouble := observation.troubles.get(code):
        by_hand = "it cannot be written safely; connect it by hand"
        return blocked(Code.EXCHANGE_UNSAFE, trouble, by_hand)
    if exchange.secret is not None:
        return None
    asked = set(observation.credentials.get(code, {}).values())
    if missing := sorted(asked - exchange.fields.keys()):
        return blocked(
            Code.FIELDS_MISSING,
            f"the server also asks for {', '.join(missing)}",
            "add it under credentials: an exchange is written whole or not at all",
        )
    if surplus := sorted(exchange.fields.keys() - asked):
        asks = f"the server does not ask for {', '.join(surplus)}"
        return blocked(Code.FIELDS_SURPLUS, asks, "remove it")
    return None


def _ignored(evidence: Evidence | None) -> str:
    if evidence is None or not evidence.ignored:
        return ""
    return f"not asked for by the server, ignored: {', '.join(evidence.ignored)}"
