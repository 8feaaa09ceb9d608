"""`jtr show-plan`: print a saved plan for people.  Contacts nothing, needs no settings."""

from pathlib import Path

import click

from reconciler.cli import options, output
from reconciler.documents.schema import PLAN, valid
from reconciler.errors import UsageError
from reconciler.model.codec import Malformed
from reconciler.render.escape import plain
from reconciler.render.layout import View
from reconciler.render.plan_json import FILE_LIMIT, PlanJson, printed, read_sealed
from reconciler.render.registry import plan_renderer
from reconciler.render.saved_plan import saved_plan
from reconciler.system.files import reason


@click.command("show-plan")
@click.argument("path", metavar="FILE")
@options.plan_output
@options.viewing
def command(path: str, form: str, view: View) -> int:
    """
    Print the plan in FILE, which `jtr plan -o json` or `jtr apply -o json` wrote.

    Shows an old plan as well: whether it still holds, only `jtr plan` tells.  Ends with 0 whatever
    the plan says.
    """
    try:
        with Path(path).open("rb") as file:
            document = read_sealed(file.read(FILE_LIMIT + 1))
        if not valid(document, PLAN):
            raise Malformed("it is no plan of this version of jtr")  # noqa: TRY301  - said below
        saved = saved_plan(document)
    except OSError as error:
        raise UsageError(f"{plain(path)} cannot be read: {reason(error)}", "name a plan") from None
    except Malformed as problem:
        raise UsageError(
            f"{plain(path)} is not what `jtr plan -o json` or `jtr apply -o json` wrote: {problem}",
            "save a new one, with this version of jtr",
        ) from None
    renderer = plan_renderer(form).seen(view)
    if isinstance(renderer, PlanJson):
        output.show(printed(document))  # all of it, also what no other form shows
        return 0
    if renderer.live or not saved.reports:
        output.show(renderer.plan(saved.plan, saved.code, recorded=saved.recorded))
    if saved.reports:
        output.show(renderer.done(saved.plan, saved.reports, saved.code, at=saved.at))
    return 0
