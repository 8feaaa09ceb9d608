"""How servers are, for commands that change nothing: a look at them, or what a controller knows."""

from reconciler import bootstrap
from reconciler.cli import output
from reconciler.errors import JtrError
from reconciler.model.desired import DesiredState
from reconciler.model.wording import counted
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.survey import survey
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.descriptors import make_room_for


async def look(
    state: DesiredState,
    context: PassContext,
    consents: Consents | None = None,
    *,
    brief: bool = False,
    quiet: bool = False,
) -> list[Visit]:
    """Look at every server; *brief* as `survey`."""
    make_room_for(min(context.parallelism, len(state.servers)))
    number = len(state.servers)
    text = f"looking at {counted(number, 'server')}"
    with output.progress(text, number, quiet=quiet) as watch:
        consents = consents or Consents()
        return await survey(state, consents, context, keep=False, brief=brief, watch=watch)


def served_ledger(
    settings: Settings, command: str
) -> tuple[bootstrap.Recalled | None, JtrError | None]:
    """Return the ledger of the controller that the settings name, or why it does not tell."""
    if settings.controller.url is None:
        return None, None
    from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

    try:
        return client.recalled(settings, command), None
    except client.ControllerAway as error:
        say(f"{error.what}; comparing with the ledger of the settings, if there is one")
        return None, error
