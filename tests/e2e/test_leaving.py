"""How a command leaves: at once, but not before another thread has done what it has in hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/config.yaml"
JTR = f"{sys.executable} -m reconciler"
NOTES = """
import threading, sys, time
from pathlib import Path
from reconciler.cli import app, main

def note():
    time.sleep(0.5)
    Path(sys.argv[2]).write_text("all of it")

app.run = lambda _: threading.Thread(target=note).start() or 4
main()
"""
LEAVES = """
import atexit, sys
from reconciler.cli import app, main

atexit.register(print, "taken down")
app.run = lambda _: sys.stdout.write("said") and 4
main()
"""
OPENS = """
import os; from reconciler.cli import app, main
app.run = lambda _: os.open(os.devnull, os.O_RDONLY)
main()
"""
STARTS = """
import subprocess; from reconciler.cli import app, main
held = [f'test -e /proc/self/fd/{n}' for n in range(3)]
app.run = lambda _: subprocess.run(['sh', '-c', ' && '.join(held)]).returncode
main()
"""


def ran(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.defpath},
        timeout=60,
    )


def test_what_another_thread_has_in_hand_is_done(tmp_path: Path) -> None:
    file = tmp_path / "noted"

    assert ran(sys.executable, "-c", NOTES, "plan", str(file)).returncode == 4
    assert file.read_text() == "all of it"


def test_else_it_leaves_at_once_and_all_that_it_said_is_out() -> None:
    done = ran(sys.executable, "-c", LEAVES, "plan")

    assert (done.returncode, done.stdout, done.stderr) == (4, "said", "")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--version", 0),
        (f"validate {EXAMPLE}", 0),
        ("validate nothing-here.yaml", 64),
        ("explain in-doubt", 0),
        ("init", 64),  # has questions, and nobody to ask
    ],
)
def test_streams_that_were_closed_before_it_began(words: str, code: int, closed: str) -> None:
    done = ran("bash", "-c", f"{JTR} {words} {closed}")

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


def test_no_file_takes_the_place_of_a_closed_stream() -> None:
    done = ran("bash", "-c", f'{sys.executable} -c "{OPENS}" plan 0<&- 1>&- 2>&-')

    assert done.returncode > 2, "its exit code is the first descriptor that is free"


def test_nor_does_one_of_a_program_that_we_start() -> None:
    done = ran("bash", "-c", f'{sys.executable} -c "{STARTS}" plan 0<&- 1>&- 2>&-')

    assert done.returncode == 0


def test_nobody_reads_what_is_valid() -> None:
    done = ran("bash", "-c", f"set -o pipefail; {{ sleep 0.2; {JTR} validate {EXAMPLE}; }} | true")

    assert (done.returncode, done.stderr) == (1, "")
