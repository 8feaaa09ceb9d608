"""`jtr controller`: keep the servers of PATH... as the documents say, until told to stop."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click

from reconciler.cli import commands, options
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.controller.wiring import ControllerOptions, dependencies
from reconciler.documents.load import load
from reconciler.errors import UsageError
from reconciler.plan.inputs import NO_DISRUPTIVE
from reconciler.settings.git import GitSettings
from reconciler.settings.model import Role, Settings
from reconciler.system import log_setup
from reconciler.system.allocator import share_arenas
from reconciler.system.git import Git
from reconciler.system.who import who

LOG: Final = logging.getLogger("reconciler.controller")
FAREWELL: Final = 0.5  # seconds for all threads to end; idle ones do so at once
THREADS: Final = 32  # for Vault, ledger and files; a slow one must not keep the others waiting


@click.command("controller")
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option(
    "--git",
    "url",
    metavar="URL",
    default="",
    help="Follow a branch of this repository instead of PATHs (else git.url of the settings).",
)
@click.option(
    "--branch", metavar="BRANCH", default="", help="The branch (else git.branch; main by default)."
)
@click.option(
    "--path",
    metavar="PATH",
    default="",
    help="Where documents lie in the repository (else git.path; everywhere by default).",
)
@click.option(
    "--allow-rollback",
    is_flag=True,
    help="Let the first commit that is found come into force although the branch went back, or "
    "was rewritten.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Where to serve health, metrics and status (else controller.listen of the settings).",
)
@options.visiting
@commands.max_disruptive
@click.option(
    "--no-disruptive",
    is_flag=True,
    help="Restart no robots, do no requests: credentials only.",
)
@click.option("--polling", is_flag=True, help="Do not wait for file events: look now and then.")
@click.option(
    "--check",
    is_flag=True,
    help="Ask the controller that runs on this host whether it is alive, and exit with 0 or 1.",
)
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    paths: tuple[str, ...],
    url: str,
    branch: str,
    path: str,
    allow_rollback: bool,
    listen: str | None,
    parallelism: int,
    max_disruptive: int,
    no_disruptive: bool,
    polling: bool,
    check: bool,
    source: SettingsSource,
) -> int:
    """
    Keep the servers of PATH... as the documents say, until SIGTERM or SIGINT.

    Instead of files it can follow a branch: --git, or git in the settings.

    Looks at every server each minute and whenever documents or secrets change; logs on standard
    error, JSON lines unless that is a terminal.  SIGHUP looks at everything now.  Exits with 0
    after a stop in which nothing was cut off.
    """
    settings = source.settings(*paths)
    where = listen or settings.controller.listen
    if check:
        from reconciler.controller.api.client import alive  # noqa: PLC0415  - only here

        return alive(where, settings)
    if settings.role is Role.CI:
        raise UsageError(
            "the settings say `role: ci`, and a controller was asked for",
            "give the controller settings of its own with `role: controller`",
        )
    # Until the loop takes signals over, nothing was contacted: the process may simply end.  As an
    # exception an interruption would come up anywhere, inside of libraries, too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    git = _followed(settings, paths, url, branch, path)
    if git is None:
        load(paths)  # what is invalid from the beginning stops the command
    else:
        Git(Path.cwd()).ask("--version")
    debug = bool(click.get_current_context().find_root().params.get("debug"))
    log_setup.set_up(debug=debug, service=who("controller", os.environ))
    wishes = ControllerOptions(
        paths,
        git,
        allow_rollback,
        where,
        parallelism,
        max_disruptive,
        NO_DISRUPTIVE if no_disruptive else None,
        polling=polling,
    )
    return _run(wishes, settings)


def _followed(
    settings: Settings, paths: tuple[str, ...], url: str, branch: str, path: str
) -> GitSettings | None:
    """Return the branch to follow, None for files.  Raises UsageError unless it is one of them."""
    asked = bool(url or branch or path)
    if paths and asked:
        raise UsageError("both PATH and a branch were given", "give one of them")
    if paths and settings.git is not None:
        raise UsageError("the settings name a repository, and PATH was given", "leave PATH out")
    if paths:
        return None
    if settings.git is None and not url:
        raise UsageError(
            "neither PATH nor a repository was given",
            "name the file or directory of the documents, or a repository with --git",
        )
    return (settings.git or GitSettings()).following(url, branch, path)


def _run(wishes: ControllerOptions, settings: Settings) -> int:
    share_arenas()
    gc.set_threshold(10_000)  # a process that lasts holds its garbage for as long as it lasts
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="jtr")

    async def main() -> int:
        from reconciler.controller.controller import Controller  # noqa: PLC0415  - heavy

        asyncio.get_running_loop().set_default_executor(pool)
        controller = Controller(dependencies(wishes, settings))
        try:
            return await controller.run()
        finally:
            # Threads cannot be cancelled; the deadline of the stop ends the process if one hangs.
            pool.shutdown(wait=False, cancel_futures=True)
            if not _busy():
                controller.calm()

    with asyncio.Runner() as runner:
        code = runner.run(main())
        sys.stderr.flush()
        return code


def _busy() -> bool:
    """Say whether a thread hangs that Python waits for at its end: at Vault, at an exchange."""
    until = time.monotonic() + FAREWELL
    others = [one for one in threading.enumerate() if one is not threading.current_thread()]
    waited_for = [one for one in others if not one.daemon]
    for thread in waited_for:
        thread.join(max(0.0, until - time.monotonic()))
    return any(thread.is_alive() for thread in waited_for)
