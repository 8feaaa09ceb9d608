"""A look at servers, for commands that change nothing."""

from reconciler.cli import output
from reconciler.model.desired import DesiredState
from reconciler.model.wording import counted
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.survey import survey
from reconciler.system.descriptors import make_room_for


async def look(
    state: DesiredState,
    context: PassContext,
    consents: Consents | None = None,
    *,
    quiet: bool = False,
) -> list[Visit]:
    make_room_for(min(context.parallelism, len(state.servers)))
    number = len(state.servers)
    text = f"looking at {counted(number, 'server')}"
    with output.progress(text, number, quiet=quiet) as watch:
        return await survey(state, consents or Consents(), context, keep=False, watch=watch)
