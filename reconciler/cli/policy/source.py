"""The option that names a policy, and the settings that do so otherwise."""

from collections.abc import Callable
from typing import Any

import click

from reconciler.cli.settings_source import settings_options


def policy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--policy`, which the command gets as `file`, and the options of settings."""
    named = click.option(
        "--policy",
        "file",
        metavar="FILE",
        help="Judge by this policy instead of the one that the settings name.",
    )
    return named(settings_options(function))
