"""
What one session may still change, by what it has changed already.

Pure but for what it remembers.  A robot is started only on a connection that was opened for it and
did nothing else, and on one whose server was asked to reboot nothing is changed any more
(docs/protocol.md, 5 and 6).
"""

from reconciler.drivers.jt_trader.requests import REBOOT, START, Request
from reconciler.errors import ServerRefused

_ANEW = "open a new connection first"


class SessionLimits:
    """Remembers the requests that changed the server on one connection."""

    def __init__(self) -> None:
        self._taken: list[Request] = []

    def take(self, request: Request) -> None:
        """
        Note that *request* is about to be sent.

        Raises ServerRefused when it must not follow on what was sent before; nothing is noted then.
        """
        if REBOOT in self._taken:
            # It may be lost without any sign while the server goes down.
            raise ServerRefused(
                f"the server was asked to reboot on this connection, so {request.event} was not"
                " sent",
                _ANEW,
            )
        if request is START and self._taken:
            # Only who connected last, and has not left, is told of a failing start: with nobody
            # there it stops all robots.
            raise ServerRefused(
                f"this connection was used to change something, so {request.event} was not sent",
                _ANEW,
            )
        self._taken.append(request)
