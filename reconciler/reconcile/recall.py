"""
A pass that contacts no trading server: `jtr plan --recorded`.
"""

import asyncio
from datetime import datetime
from typing import Final

from reconciler.errors import JtrError
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.terms import known_terms, refusal
from reconciler.observe.visit import Visit, blank_plan
from reconciler.plan.fleet import limit_actions
from reconciler.plan.inputs import Consents
from reconciler.plan.recipients import new_recipient
from reconciler.plan.server import aged, plan_server, unseen_writes
from reconciler.reconcile.survey import asked_for, failed, freeze, heeding, moved, remember

AT_ONCE: Final = 16  # nobody is disturbed by it; as many as Vault is asked at once


async def recall(state: DesiredState, consents: Consents, context: PassContext) -> list[Visit]:
    """
    Plan from the ledger's last observations and Vault's metadata alone.

    Contacts no trading server and reads no value.  A server without an observation is not compared.
    """
    state = await heeding(state, context)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(server: DesiredServer) -> Visit:
        async with gate:
            return await _recalled(server, state, consents, context)

    await context.resolver.prepare(asked_for(state, context))
    try:
        visits = await asyncio.gather(*map(one, state.servers))
    finally:
        context.resolver.forget()
    fleet = len(state.servers) + len(state.others)
    plans = limit_actions([visit.plan for visit in visits], context.policy.limits, fleet)
    for visit, plan in zip(visits, plans, strict=True):
        visit.plan = plan
    return list(visits)


async def _recalled(
    server: DesiredServer, state: DesiredState, consents: Consents, context: PassContext
) -> Visit:
    visit = Visit(server, blank_plan(server))
    try:
        await remember(visit, state, context)
        observation = visit.recorded.observation
        if elsewhere := moved(visit):
            visit.plan = elsewhere
        elif observation is None:
            facts = await freeze(visit, context)
            visit.plan = replace(
                visit.plan,
                unseen=unseen_writes(server, facts),
                hold=Condition(
                    Code.NEVER_SEEN,
                    "not compared: the ledger holds no observation of it",
                    "`jtr apply` or a controller on the same ledger makes one",
                ),
            )
        else:
            facts = replace(await freeze(visit, context), live=False)
            refuses = refusal(visit, observation.version, context, await context.recent_brakes())
            terms = await known_terms(visit, context)
            facts = replace(facts, refuses=refuses, terms=terms)
            visit.facts = facts
            plan = plan_server(server, observation, visit.recorded, facts, consents)
            age = (context.now() - datetime.fromisoformat(observation.at)).total_seconds()
            visit.plan = aged(plan, age, context.timeouts.stale)
    except JtrError as error:
        visit.plan = failed(server, error)
    visit.plan = replace(
        visit.plan,
        new_recipient=new_recipient(server, visit.recorded),
        violations=visit.violations,
    )
    return visit
