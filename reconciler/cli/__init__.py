"""
The command line: parses, calls, prints, returns a code.

`jtr --version` is answered here, before anything is imported.
"""

import sys
from typing import NoReturn

from reconciler import __version__


def main() -> NoReturn:
    """Run the command of this process and exit with its code."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"jtr {__version__}\n")
        sys.exit(0)
    from reconciler.cli.app import run  # noqa: PLC0415  - click costs more than the answer above

    sys.exit(run(sys.argv[1:]))
