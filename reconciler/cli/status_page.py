"""`jtr status --web`: the page for people, from the ledger, on this host only."""

import asyncio
import signal
from contextlib import closing
from typing import TYPE_CHECKING

from reconciler import __version__, bootstrap
from reconciler.cli import output
from reconciler.documents.load import load
from reconciler.errors import JtrError
from reconciler.model.desired import DesiredState
from reconciler.settings.model import Settings
from reconciler.system.console import say

if TYPE_CHECKING:
    from reconciler.controller.page.site import Site


def serve(settings: Settings, path: str | None) -> int:
    """Serve the page until SIGINT or SIGTERM.  Raises JtrError."""
    with closing(bootstrap.open_ledger(settings, "status")) as ledger:
        from reconciler.controller.page.access import Access  # noqa: PLC0415  - heavy
        from reconciler.controller.page.site import Site  # noqa: PLC0415  - heavy
        from reconciler.controller.page.sources import FromLedger  # noqa: PLC0415  - heavy

        if settings.controller.url is not None or ledger.controller():
            say("a controller knows more than its ledger: settings, controller.page")
        paths = (path or ".",)
        source = FromLedger(
            ledger, bootstrap.unrecorded(), _declared(path), paths, version=__version__
        )
        site = Site(source, Access(None), listen="127.0.0.1:0")
        asyncio.run(_until_stopped(site))
    return 0


async def _until_stopped(site: "Site") -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await site.start()
    try:
        output.show(f"{site.url}/\n")
        say("only on this host; ends with Ctrl-C")
        await stopped.wait()
    finally:
        await site.stop()


def _declared(path: str | None) -> DesiredState:
    """Return the documents; without *path* nobody said that there are any."""
    if path is not None:
        return load((path,)).state
    try:
        return load((".",)).state
    except (JtrError, OSError):
        return DesiredState(())
