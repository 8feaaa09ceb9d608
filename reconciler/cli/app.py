"""
The group of commands, and what becomes of exceptions.
"""

import errno
import os
from collections.abc import Sequence
from io import StringIO
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from reconciler import __version__
from reconciler.cli.commands import Commands
from reconciler.errors import Exit, InvalidConfig, JtrError
from reconciler.system import console

COMMANDS: Final = {
    "init": "Write settings and a first document, by flags or by questions.",
    "validate": "Check documents; contacts nothing.",
    "show": "Print the effective document of a server and where each value is from.",
    "plan": "Show what apply would do, and what it means for trading.",
    "show-plan": "Print the file of a plan, or of what was applied, for people.",
    "apply": "Make the servers as the documents say.",
    "ci": "Do what a CI job does: plan for a pull request, apply what was merged.",
    "adopt": "Make documents of servers that were configured by hand.",
    "controller": "Keep the servers as the documents say, until told to stop.",
    "as-service": "Run a command as the controller's service runs, on its host.",
    "audit": "Ask the exchanges what each key may do; changes nothing.",
    "policy": "Judge documents by the operator's policy; contacts nothing.",
    "status": "Show what was last seen of each server, and what is owed.",
    "logs": "Print a server's system log, or follow it.",
    "request": "Ask for a reboot or a cache invalidation; see what became of it.",
    "explain": "Say why a line is in the plan, why nothing is done, or what a code means.",
    "history": "Show what was done on servers, and by whom.",
    "forget": "Let the ledger forget a server that is gone.",
    "doctor": "Check Vault, rights, ledger and every server, and say what to mend.",
    "schema": "Print the JSON Schema of documents, settings, policies or plans.",
    "ledger": "Begin, copy, restore or move a ledger, or release a brake.",
    "sandbox": "Run a real OpenBao and a stand-in JT-Trader to play with.",
    "demo": "Run the whole story in a sandbox and prove each step.",
    "help": "Print the help of a command, or a page about a topic.",
    "completion": "Print the line that switches on shell completion.",
}
ALIASES: Final = {"diff": "plan"}
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class Jtr(Commands):
    """The commands and their aliases; a mistyped one is met with a guess."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Click's own would import every command for its help text.
        found = [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = [*COMMANDS, *ALIASES]
        if args and args[0] not in known and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415  - only for a mistyped command

            close = difflib.get_close_matches(args[0], known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Jtr,
    package=__package__,
    helps=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 error, 2 changes or drift (--detailed-exitcode), 3 invalid file, "
    "4 blocked, 5 secrets backend, 6 trading server, 7 request in doubt, 8 harm, 64 usage.",
)
@click.option("--debug", is_flag=True, help="Log everything (secrets redacted), show tracebacks.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli(*, debug: bool) -> None:
    """Run crypto trading servers from Git: credentials from Vault, plans first, no harm done."""
    if debug:
        from reconciler.system import log_setup  # noqa: PLC0415  - logging is imported only when used

        log_setup.set_up(debug=True)


def run(args: Sequence[str]) -> int:
    """Run one command and return its exit code; says what went wrong on standard error."""
    debug = "--debug" in args
    try:
        result: Any = cli.main(args=list(args), prog_name="jtr", standalone_mode=False)
    except click.UsageError as error:
        _show(error)
        return Exit.USAGE
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return Exit.INTERRUPTED
    except JtrError as error:
        _explain(error, debug=debug)
        return error.exit_code
    except BrokenPipeError:  # whoever reads us has gone
        return Exit.ERROR
    except Exception as error:  # noqa: BLE001  - the last net: no traceback without --debug
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            _explain(_not_written(error), debug=debug)
            return Exit.ERROR
        _say(f"internal error ({type(error).__name__}); this is a mistake in jt-reconciler")
        _frames(error, debug=debug)
        return Exit.ERROR
    return int(result) if isinstance(result, int) else Exit.DONE


def _not_written(error: OSError) -> JtrError:
    return JtrError(
        f"what there is to say could not be written: {os.strerror(error.errno or 0)}",
        "see where standard output leads; what was done on servers is told by: jtr history",
    ).with_traceback(error.__traceback__)


def _show(error: click.ClickException) -> None:
    text = StringIO()
    error.show(file=text)
    _write(text.getvalue().rstrip("\n"))


def _write(text: str) -> None:
    console.write(text, console.Priority.ERROR)


def _say(text: str) -> None:
    _write(f"jtr: {text}")


def _explain(error: JtrError, *, debug: bool) -> None:
    if isinstance(error, InvalidConfig):
        for problem in error.problems:
            _write(str(problem))
        _say(f"{error.total} problem{'' if error.total == 1 else 's'}; nothing was done")
    else:
        _say(error.what)
        if error.remedy:
            _write(f"     {error.remedy}")
    _frames(error, debug=debug)


def _frames(error: BaseException, *, debug: bool) -> None:
    """Print where an error came from: frames only, texts of foreign exceptions may hold secrets."""
    if debug:
        import traceback  # noqa: PLC0415  - only for who debugs

        for frame in traceback.extract_tb(error.__traceback__):
            _write(f"  {frame.filename}:{frame.lineno} in {frame.name}")
        _write(f"  {type(error).__name__}")
    elif not isinstance(error, JtrError):
        _write("     run it with --debug before the command to see where")
