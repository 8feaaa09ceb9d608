"""What is explained is what is planned: nothing is done that a condition forbids, and no non-action
is without a condition that says why."""

from hypothesis import given, settings

from reconciler.model.desired import RequestKind
from reconciler.model.explanation import Check, Explanation, Holds
from reconciler.plan.explain.exchange import explain_exchange
from reconciler.plan.explain.inputs import Known
from reconciler.plan.explain.request import explain_request
from reconciler.plan.server import plan_server
from tests.support.counts import drawn
from tests.support.strategies import QUICK, PlannerInput, planner_inputs


def leaves(found: Explanation) -> list[Check]:
    """All conditions that have none below."""

    def of(check: Check) -> list[Check]:
        return [leaf for one in check.below for leaf in of(one)] if check.below else [check]

    return [leaf for check in found.checks for leaf in of(check)]


@settings(QUICK, max_examples=drawn(60))
@given(made=planner_inputs())
def test_what_is_done_has_nothing_against_it_and_what_is_not_has_something(
    made: PlannerInput,
) -> None:
    plan = plan_server(made.desired, made.observation, made.recorded, made.facts, made.consents)
    known = Known(
        made.desired,
        made.observation,
        made.recorded,
        made.facts,
        made.consents,
        plan,
        made.facts.terms.now,
    )
    explained = [explain_exchange(known, line.exchange) for line in plan.lines]
    explained += [explain_request(known, kind) for kind in RequestKind]

    for one in explained:
        against = [leaf for leaf in leaves(one) if leaf.holds is Holds.NO]
        unknown = [leaf for leaf in leaves(one) if leaf.holds is Holds.UNKNOWN]
        if one.does:
            assert against == []
        else:
            assert against or unknown
            why = {one.condition.code, one.held.code if one.held else ""}
            assert why & {leaf.code for leaf in (*against, *unknown)}
        assert all(leaf.code for leaf in (*against, *unknown))
        assert one.against == tuple(leaf for leaf in leaves(one) if leaf.holds is not Holds.YES)
