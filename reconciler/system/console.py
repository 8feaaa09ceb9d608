"""
Words for people that are not the result, on standard error.
"""

import click


def say(text: str) -> None:
    """Tell people something that is not the result."""
    click.echo(f"jtr: {text}", err=True)
