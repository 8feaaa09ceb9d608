"""
SIGTERM at random moments of a controller that invalidates, reboots and starts robots again.

The judge is that of the kills: nothing done twice, nothing forgotten, no send without its record.
"""

import os
import signal
import time
from typing import Final

import pytest

from reconciler.model.desired import RequestKind
from tests.crash.forkserver import VOLUME
from tests.crash.test_one_shot_kills import BRISK, Rounds, rounds

__all__ = ["rounds"]

PARTS: Final = 2  # of the long test, a worker each
ENDS: Final = ("nothing", "both")
SOME: Final = 2
STOPS: Final = BRISK | {
    "interval": "1s",
    "rescan": "1s",
    "quiet": "10ms",
    "backoff": "50ms",
    "connect": "500ms",
    "stop": "4s",
    "lease": "3s",
}


def stopped_at_random(rounds: Rounds, stops: int) -> None:
    """
    Stop so many controllers at moments drawn by chance, some of them by a second signal.

    And more of them until some were stopped before they did anything and some after all was done:
    how long they need for it is the machine's.
    """
    rig = rounds.rig
    rig.settings(durations=STOPS, soleWriter=True)
    args = ["controller", str(rig.docs), "--listen", "127.0.0.1:0"]
    longest, latest, done = 0.0, 0.5, 0
    while done < stops or min(rounds.counts[f"{what} done when it ended"] for what in ENDS) < SOME:
        done += 1
        assert done < 10 * stops, rounds.counts
        rounds.ask()
        pid = rounds.forks.run(args, rig.environment, rig.home / "apply.log")
        time.sleep(latest * rounds.chance.uniform(0.2, 1))  # the random moment is the point
        began = time.monotonic()
        first = rounds.chance.choice((signal.SIGTERM, signal.SIGINT))
        os.kill(pid, first)
        if hasty := rounds.chance.random() < 0.2:
            time.sleep(rounds.chance.uniform(0, 0.05))
            os.kill(pid, signal.SIGTERM)  # not waited for yet, so the id is still its own
        code = rounds.forks.wait(pid)
        longest = max(longest, time.monotonic() - began)
        # How long that takes is the machine's; that a deadline ends what hangs, and the process
        # with it, is shown by `test_a_stop_does_not_wait_for_an_exchange_that_hangs`.
        assert code in {0, 130, 143, -signal.SIGTERM, -signal.SIGINT}, rounds.text()
        assert "Traceback" not in rounds.text()
        rounds.counts["hasty" if hasty else f"exit {code}"] += 1
        did = sum(rounds.did(kind) for kind in RequestKind)
        rounds.counts[("nothing", "one of two", "both")[did] + " done when it ended"] += 1
        # Around the moments in which it acts, on a machine of any speed.
        latest *= (1.12, 1.0, 0.9)[did]
        rounds.judge()
    counts = dict(sorted(rounds.counts.items()))
    print(f"FIGURES: {done} stops, the longest took {longest:.2f} s: {counts}")  # noqa: T201  - shown with -rP


@pytest.mark.timeout(VOLUME)
def test_stopped_at_random_moments(rounds: Rounds) -> None:
    stopped_at_random(rounds, 20)

    assert rounds.counts["exit 0"] > 3


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_stopped_at_random_moments_for_long(rounds: Rounds, part: int) -> None:
    del part  # one of several
    stopped_at_random(rounds, 200 // PARTS)
