"""
How long ago something was, whatever the clock on the wall did meanwhile.

Within one boot of one machine a clock that never jumps tells; between machines only the wall does.
"""

from datetime import datetime
from typing import Protocol

from reconciler.ledger.lease import elapsed, this_boot


class Mark(Protocol):
    """A remembered moment: our clock on the wall, our machine's boot and its seconds since."""

    @property
    def at(self) -> str: ...

    @property
    def host_boot(self) -> str: ...

    @property
    def elapsed(self) -> float: ...


def here() -> tuple[str, float]:
    """Return our machine's boot id (empty where there is none) and its seconds since that boot."""
    return this_boot(), elapsed()


def passed(mark: Mark, now: datetime) -> float | None:
    """Return the seconds since *mark*; None when the clocks contradict one another."""
    boot, seconds = here()
    if mark.host_boot and mark.host_boot == boot:
        since = seconds - mark.elapsed
    else:
        since = (now - datetime.fromisoformat(mark.at)).total_seconds()
    return since if since >= 0 else None
