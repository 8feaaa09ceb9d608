"""Asking a person about new recipients, before these are contacted."""

from reconciler.cli import output
from reconciler.cli.prompt import confirm
from reconciler.errors import JtrError
from reconciler.model.desired import DesiredState
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.visit import agree, first_visit
from reconciler.plan.inputs import Consents
from reconciler.plan.recipients import new_recipient
from reconciler.reconcile.survey import moved, remember
from reconciler.render.escape import plain
from reconciler.render.server_text import recipient_rows


async def agreed(
    state: DesiredState, consents: Consents, context: PassContext, later: str = ""
) -> Consents:
    """
    Ask about each new recipient of *state*; return the consents with who was agreed to.

    *later* says in words what else such a yes covers.
    """
    names = set(consents.recipients)
    for server in state.servers:
        visit = first_visit(server)
        try:
            await remember(visit, state, context)
            if moved(visit) is None:
                await agree(visit, consents, context.policy, context.resolver)
        except JtrError:
            continue  # the look at it says so
        if visit.withheld:
            rows = [f"{server.name} is new", *recipient_rows(new_recipient(server, visit.recorded))]
            if later:
                rows.append(f"    » {plain(later, 600)}")
            output.show("\n".join(rows) + "\n")
            if await confirm(f"Is it right that {server.name} gets this?"):
                names.add(server.name)
    return replace(consents, recipients=frozenset(names))
