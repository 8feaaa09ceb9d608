"""`jtr policy`: judge documents by the operator's policy.  Contacts nothing."""

from typing import Final

import click

from reconciler.cli.commands import Commands

SUBCOMMANDS: Final = {
    "check": "Say what documents ask for and the policy does not allow.",
    "explain": "Say who may send what where on one server, and why.",
    "test": "Judge a team's own cases for its policy.",
}


@click.group("policy", cls=Commands, package=__name__, helps=SUBCOMMANDS)
def command() -> None:
    """
    Judge documents by the operator's policy, which the settings name (`policy: FILE`).

    Contacts nothing, neither Vault nor a server.
    """
