"""`jtr as-service`: a command as the controller's service runs: its user, settings and memory."""

import os
import sys

import click

from reconciler.errors import UsageError


@click.command(
    "as-service",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--unit",
    default="jtr-controller.service",
    show_default=True,
    metavar="NAME",
    help="The controller's service.",
)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
def command(unit: str, words: tuple[str, ...]) -> int:
    """
    Run `jtr COMMAND...` as the controller's service of systemd runs, whether it runs or not.

    It gets the service's user, settings, state directories and credentials, so that it opens the
    same ledger and has the same memory of it; for root on the controller's host.  Paths are
    absolute, and as the service sees them.  In a container no such thing is needed: run the command
    there.
    """
    if words[0] in ("controller", "as-service"):
        raise UsageError(f"{words[0]} is not run so", "systemctl starts and stops the controller")
    if os.geteuid() != 0:
        raise UsageError("only root may run commands as a service", "sudo jtr as-service ...")
    from reconciler.system import systemd_service  # noqa: PLC0415  - only here

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return systemd_service.run_beside(systemd_service.find(unit), words, terminal=terminal)
