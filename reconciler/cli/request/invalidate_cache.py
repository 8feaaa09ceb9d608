"""`jtr request invalidate-cache`: write one into the server's document."""

from typing import Any

import click

from reconciler.cli import options
from reconciler.cli.request.edit import ask, asking
from reconciler.model.desired import RequestKind


@click.command("invalidate-cache")
@asking
@options.output
def command(**asked: Any) -> int:
    """
    Ask for one invalidation of SERVER's cache.  Robots store data in it: be careful.

    Only edits the server's document, for you to commit; contacts nothing.  A request that stands
    there is replaced, with the comments inside of it.
    """
    return ask(RequestKind.CACHE, **asked)
