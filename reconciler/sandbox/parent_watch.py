"""Ends a process of the sandbox when this process ends, however it ends: kill -9 included."""

import os
import subprocess
import sys
from typing import Final

# Kills the process when our end of the pipe closes, however this process ended.  A process handle
# instead of a number where the system has one: a number may belong to somebody else by then.
_SOURCE: Final = """
import os, signal, sys
pid = int(sys.argv[1])
handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
os.write(1, b".")
os.read(0, 1)
try:
    if handle is None:
        os.kill(pid, signal.SIGKILL)
    else:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


class Watchdog:
    """
    A process that kills the child *pid* of this one when this one has gone.

    Make it before anybody waits for that child, and `close` it after somebody did.
    """

    def __init__(self, pid: int) -> None:
        self._process: Final = subprocess.Popen(  # noqa: S603  - our own interpreter and text
            [sys.executable, "-I", "-S", "-c", _SOURCE, str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath},
            start_new_session=True,
        )
        if self._process.stdout is not None:
            # Not before it holds the process may that process be waited for and its number reused.
            self._process.stdout.read(1)

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End it without harm to the process that it watched."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
