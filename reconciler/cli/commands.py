"""
What groups of commands share: each command is imported only when it runs.  Options of several, too.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Final

import click


class Commands(click.Group):
    """
    A group whose commands are imported when they are called, never to be listed.

    *helps* has a line for each; it is `command` in the module of its name, in *package*.
    """

    def __init__(self, *args: Any, package: str, helps: Mapping[str, str], **named: Any) -> None:
        super().__init__(*args, **named)
        self.package: Final = package
        self.helps: Final = helps

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.helps)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in self.helps:
            return None
        module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        command = module.command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.helps.items()))


paths = click.argument(
    "paths", nargs=-1, metavar="[PATH...]", callback=lambda _, __, given: given or (".",)
)
"""Where documents are; the current directory unless given."""

documents = click.option(
    "--from", "path", default=".", show_default=True, metavar="PATH", help="Where documents are."
)

max_disruptive = click.option(
    "--max-disruptive",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many servers at once may have robots restarted, a cache invalidated or a reboot.",
)
