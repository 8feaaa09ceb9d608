"""
Memory that holds secrets stays with this process.
"""

import ctypes
import resource
from typing import Final

_SET_DUMPABLE: Final = 4  # PR_SET_DUMPABLE of <linux/prctl.h>


def keep_memory_private() -> None:
    """
    Leave no core behind, and let no other process of this user look into the memory.

    A core that is piped to a program ignores the limit, so the process is marked as well.  Neither
    can fail the caller: where the system has no such mark the limit still holds.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_SET_DUMPABLE, 0, 0, 0, 0)
