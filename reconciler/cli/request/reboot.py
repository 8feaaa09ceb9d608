"""`jtr request reboot`: write one into the server's document."""

from typing import Any

import click

from reconciler.cli import options
from reconciler.cli.request.edit import ask, asking
from reconciler.errors import UsageError
from reconciler.model.desired import Afterwards, RequestKind


@click.command("reboot")
@asking
@click.option(
    "--robots",
    required=True,
    type=click.Choice([one.value for one in Afterwards]),
    help="Start the robots that ran again afterwards, or leave them stopped.",
)
@click.option(
    "--resume-within",
    metavar="DURATION",
    help="How long after the boot robots may still be started (10m; at most 1d).",
)
@options.output
def command(*, robots: str, resume_within: str | None, **asked: Any) -> int:
    """
    Ask for one reboot of SERVER: of the JT-Trader process, not of the machine.

    Only edits the server's document, for you to commit; contacts nothing.  A request that stands
    there is replaced, with the comments inside of it.
    """
    if resume_within is not None and robots == Afterwards.LEAVE:
        raise UsageError(
            "--resume-within says when robots may be started, but --robots leave starts none",
            "drop one of the two",
        )
    return ask(RequestKind.REBOOT, robots=Afterwards(robots), resume_within=resume_within, **asked)
