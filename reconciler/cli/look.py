"""A look at servers, for commands that change nothing."""

import asyncio

from reconciler.cli import output
from reconciler.model.desired import DesiredState
from reconciler.model.wording import counted
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.survey import survey


async def look(
    state: DesiredState, context: PassContext, consents: Consents | None = None
) -> list[Visit]:
    with output.progress(f"looking at {counted(len(state.servers), 'server')}"):
        visits = await survey(state, consents or Consents(), context)
    await asyncio.gather(*(visit.close() for visit in visits))
    return visits
