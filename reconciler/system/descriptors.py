"""
How many connections this process may hold open.

Systems give a process 256 to 1,024 descriptors at first and far more to whoever asks.  One that has
none left fails anywhere: in DNS, in the ledger, in TLS.
"""

import resource
from contextlib import suppress
from typing import Final

from reconciler.errors import JtrError
from reconciler.model.wording import counted

SPARE: Final = 100  # files, the ledger, Vault, pages, the event loop


def make_room_for(servers: int) -> None:
    """
    Let this process hold a connection to so many *servers* at once.

    Raises JtrError where the system forbids it, before anything is connected.
    """
    needed = servers + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with suppress(OSError, ValueError):  # macOS has a limit of its own below its hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft < needed:
        raise JtrError(
            f"{counted(servers, 'connection')} at once need about {needed} open files, and the "
            f"limit of this process is {soft}",
            f"raise it (ulimit -n {needed}; for a service: LimitNOFILE={needed}), or name fewer "
            "servers (--selector)",
        )
