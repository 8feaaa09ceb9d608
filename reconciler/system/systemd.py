"""
Tells systemd how the service is: ready, alive, stopping.  Without systemd it does nothing.

The protocol is one datagram of `KEY=value` lines to the socket that NOTIFY_SOCKET names
(sd_notify(3)).
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

PATIENCE: Final = 2.0  # seconds for a manager whose queue is full: ten messages of all services
ALIVE: Final = "WATCHDOG=1"


class Systemd:
    """Speaks to the service manager that started this process, if one did."""

    def __init__(
        self, environ: Mapping[str, str] = os.environ, *, patience: float = PATIENCE
    ) -> None:
        self._patience: Final = patience
        self._address = environ.get("NOTIFY_SOCKET", "")
        watched = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(watched) / 1e6 if watched.isdecimal() and mine else 0.0
        """Seconds within which a sign of life is expected; 0 when nobody waits for one."""

    def tell(self, *lines: str) -> None:
        """
        Send lines such as READY=1; a manager that is gone is nobody's trouble.

        Waits a moment for one that is busy, unless another sign of life follows soon.
        """
        if not self._address.startswith(("/", "@")):
            return
        address = self._address
        if address.startswith("@"):  # an abstract socket
            address = f"\0{address[1:]}"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
                handle.settimeout(0.0 if lines == (ALIVE,) else self._patience)
                handle.connect(address)
                handle.send("\n".join(lines).encode())
        except OSError:
            return
