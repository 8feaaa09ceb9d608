"""
When a version that nobody tested is not read any more.

A request that fails inside the server is answered by silence and stops every robot there
(docs/protocol.md, 4).  Of a tested version that is known of no read; of another one it may be true
of any, and a pass that comes again and again would stop the robots again and again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from reconciler.errors import ReadSilent, ServerRefused
from reconciler.model.target import Target

MOST: Final = 2  # silent reads; one may be the network's


class UntestedReads:
    """Counts silent reads of servers whose version is not *tested*, for one process."""

    def __init__(self, tested: Callable[[str], bool]) -> None:
        self._tested: Final = tested
        self._silent: Final[dict[Target, tuple[str, int]]] = {}

    @contextmanager
    def asking(self, target: Target, version: str) -> Iterator[None]:
        """Take note of what becomes of the block's reads.  Raises ServerRefused instead."""
        known, silent = self._silent.get(target, (version, 0))
        if known != version or self._tested(version):
            silent = 0
        if silent >= MOST:
            raise ServerRefused(
                f"JT-Trader {version} left {silent} reads unanswered, and is outside the tested "
                "range: it may stop its robots at each, so it is not read any more",
                "look at its robots and its log; with another version, or with this one in "
                "acceptVersions, a new process reads it again",
            )
        try:
            yield
        except ReadSilent:
            if not self._tested(version):
                self._silent[target] = version, silent + 1
            raise
        self._silent.pop(target, None)
