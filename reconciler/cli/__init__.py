"""
The command line: parses, calls, prints, returns a code.

Two things are answered here, before the parser of arguments is imported, because they are called
oftenest and would cost twice as long: `jtr --version`, and `jtr validate PATH...` of valid files.
Whatever is not that simple takes the ordinary road, with all its messages.

Never decides about a server: that is the plan's.
"""

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from reconciler import __version__


def main() -> NoReturn:
    """Run the command of this process and exit with its code."""
    gc.set_threshold(10_000)  # what is imported is no garbage, and looked through again and again
    args = sys.argv[1:]
    if args == ["--version"]:
        sys.stdout.write(f"jtr {__version__}\n")
        sys.exit(0)
    if args[:1] == ["validate"] and args[1:] and not any(arg.startswith("-") for arg in args):
        _validate(args[1:])
    from reconciler.cli.app import run  # noqa: PLC0415  - click costs more than the answers above

    code = run(args)
    gc.freeze()  # looking through all of it once more at the end costs a tenth as well
    sys.exit(code)


def _validate(paths: Sequence[str]) -> None:
    """Say that *paths* are valid and exit; return when there is anything to complain about."""
    from reconciler.cli.exchange_hints import hints  # noqa: PLC0415
    from reconciler.documents.load import load  # noqa: PLC0415  - not needed for the version
    from reconciler.errors import JtrError  # noqa: PLC0415

    gc.disable()  # loading makes no garbage, and looking for some afterwards costs a tenth
    try:
        found = load(paths)
        text = found.summary()
    except JtrError:
        gc.enable()
        return
    for hint in hints(found.state, paths):
        sys.stderr.write(f"{hint}\n")
    sys.stdout.write(text)
    sys.stdout.flush()
    os._exit(0)  # nothing was opened that needs an end; taking down the interpreter costs a tenth
