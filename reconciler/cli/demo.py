"""`jtr demo`: run the whole story in a sandbox and prove each step."""

import tempfile
from pathlib import Path

import click

from reconciler.cli import output
from reconciler.cli.sandbox import Stop
from reconciler.errors import Exit


@click.command("demo")
@click.option("-v", "--verbose", is_flag=True, help="Show each command's output, too.")
def command(*, verbose: bool) -> int:
    """
    Run the whole story in a sandbox and prove each step by the server's own record.

    A real OpenBao and stand-ins of JT-Trader and of exchanges run on loopback meanwhile; nothing
    else is contacted.
    Takes about half a minute; exits with 0 only if every step came out as it must.
    """
    from reconciler.sandbox.demo.runner import Demo, introduction  # noqa: PLC0415  - they import servers
    from reconciler.sandbox.playground import Playground  # noqa: PLC0415

    with Stop() as stop, tempfile.TemporaryDirectory(prefix="jtr-demo-") as folder:
        playground = Playground(Path(folder))
        output.show(introduction(Path(folder)))
        with playground as ground:
            held = Demo(ground, output.show, stop.check, verbose).run()
    return Exit.DONE if held else Exit.ERROR
