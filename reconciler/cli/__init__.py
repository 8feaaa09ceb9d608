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
from contextlib import suppress
from typing import Any, NoReturn, TextIO, cast

from reconciler import __version__

_STDOUT, _STDERR = 1, 2


def main() -> NoReturn:
    """Run the command of this process and exit with its code."""
    gc.set_threshold(100_000)  # what is imported is no garbage, and looked through again and again
    _fill_streams()
    sys.stderr = cast("TextIO", _Lossy(sys.stderr))
    args = sys.argv[1:]
    if args == ["--version"]:
        _answer(f"jtr {__version__}\n")
    if args[:1] == ["validate"] and args[1:] and not any(arg.startswith("-") for arg in args):
        _validate(args[1:])
    from reconciler.cli.app import run  # noqa: PLC0415  - click costs more than the answers above

    _end(run(args))


def _fill_streams() -> None:
    """Let a closed stream lead nowhere: the next file, a ledger say, would be in its place."""
    while (place := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(place, True)  # or the next file of a git that we start would
    os.close(place)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  - as long as we


class _Lossy:
    """
    Standard error: words that nobody can take are lost, and the work goes on.

    On a full disk, or a terminal that is gone, they would end a command between two deeds.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _end(code: int) -> NoReturn:
    """Leave; without taking the interpreter down, a tenth of a plan, where nobody needs that."""
    import threading  # noqa: PLC0415  - not needed for the answers above

    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # or what is left of it fails again and changes the code
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
    sys.stderr.flush()
    if threading.active_count() == 1:  # what another one has in hand, it may finish
        os._exit(code)
    gc.freeze()
    sys.exit(code)


def _validate(paths: Sequence[str]) -> None:
    """Say that *paths* are valid and exit; return when there is anything else to say."""
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
    _answer(text)


def _answer(text: str) -> None:
    """Print *text* and exit; return where it cannot be printed: the ordinary road says so."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        return
    os._exit(0)  # nothing was opened that needs an end; taking down the interpreter costs a tenth
