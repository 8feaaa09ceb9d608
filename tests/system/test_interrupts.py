"""How a command ends when it is asked to."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal, sys
from reconciler.errors import JtrError
from reconciler.system.interrupts import run

class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number={number}):
        kill(pid, number)

last = Last()  # goes when the interpreter is taken down, and its signal handlers with it

async def work(interruption):
    os.kill(os.getpid(), {number})
    await asyncio.sleep(3600)

try:
    run(work)
except JtrError as error:
    sys.exit(int(error.exit_code))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_at_the_very_end_changes_no_exit_code(number: signal.Signals) -> None:
    program = PROGRAM.format(number=int(number))
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)

    assert done.returncode == 128 + number
