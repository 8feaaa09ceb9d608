"""How a stand-in JT-Trader behaves: what tests switch on, most of it while it runs."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Write = Literal[
    "answer",
    "fatal",  # nothing is changed, the fatal path runs, no answer
    "drop-before",  # nothing is changed, the connection ends
    "drop-midway",  # the first half of the rows, rounded down but at least one; then it ends
    "drop-after",  # everything is done, the connection ends without an answer
    "crash-midway",  # as many rows as of drop-midway; then the process dies, and comes back
    "silent-before",  # nothing is changed, no answer, no fatal path
    "silent-after",  # everything is done, no answer
    "unknown-answer",  # everything is done, the answer has an unexpected shape
    "lose-last-row",  # a normal answer, but the last row was not touched
]

Effect = Literal[
    "answer",
    "silent after effect",  # it is done, no answer
    "lost before effect",  # nothing is done, the connection ends
    "dropped after effect",  # it is done, the connection ends without an answer
    "late",  # it is done and answered `effect_late` seconds later
]


Span = float | tuple[float, float]
"""Seconds: always so many, or each time anew something between the two."""


def drawn(span: Span, chance: random.Random) -> float:
    return chance.uniform(*span) if isinstance(span, tuple) else span


@dataclass(slots=True)
class Behaviour:
    """
    The default is a healthy server with everything that makes the real one hard to talk to, as late
    as the real one.  Tests on real time make its restarts and its log quick: `tests/support/rig`.

    `ping_interval`, `ping_timeout` and `max_payload` are read when the server starts, everything
    else at each use; `login_delay` and `answer_delay` also while they last.  Durations are seconds.
    """

    login: Literal["answer", "silent"] = "answer"
    """`silent`: the server's own login call hangs; a wrong secret is refused all the same."""
    login_delay: float = 0.0
    standalone: bool = True
    """False: a token that is not known is refused with code 4001."""

    save: Write = "answer"
    delete: Write = "answer"
    read: Literal["answer", "silent", "drop", "unknown-answer"] = "answer"
    invalidate: Effect = "answer"
    run: Effect = "answer"
    """What becomes of requests to start a robot; the robots have behaviour of their own too."""
    halt: Effect = "answer"
    """Likewise of requests to stop one."""
    effect_late: float = 0.2

    reboot: Literal["normal", "ignored", "lost", "late", "never comes back"] = "normal"
    """`ignored`: received, and nothing happens.  `lost`: likewise, and the connection ends.
    `late`: it begins `reboot_late` seconds later.  `never comes back`: the process ends and stays
    away until `come_back`."""
    reboot_late: float = 0.2
    reboot_drop: Span = (0.25, 2.1)
    """From the robots' stop to the end of the process; as observed."""
    reboot_down: Span = (2.0, 10.0)
    """Connections are refused for so long after a reboot, or a crash in mid-save; observed 2.0 to
    2.5 s, and more in a container."""
    pid_changes: bool = False
    """True: each start has another process id; inside a container it tends to be the same."""
    log: Literal["normal", "unreadable"] = "normal"
    """`unreadable`: the system log's answer has no `data`, as with one line that is no JSON."""

    log_lag: Span = (0.054, 0.39)
    """Until an entry of the log can be read; as observed.  The first boot's is written long ago."""

    next_writes: list[Write] = field(default_factory=list)
    """What becomes of the next saves and deletes, one each; then `save` and `delete` hold."""
    silent: frozenset[str] = field(default_factory=frozenset)
    """Events that are received, recorded and then ignored."""
    unknown: frozenset[str] = field(default_factory=frozenset)
    """Answer events, such as `background-jobs-list-response`, that get an unexpected payload."""
    answer_delay: float = 0.0
    """Every answer comes so much later: late answers of requests that were given up."""
    answer_padding: int = 0
    """Bytes of an extra key in the exchange list: over-long answers."""
    log_padding: int = 0
    """Bytes of an extra entry in the system log's answer; the real log reaches 10 MB."""

    row_delay: tuple[float, float] = (0.0, 0.003)
    """Random pause before each look-up and each change of a row: reordering, duplicates."""
    synchronous: bool = False
    """Nothing comes between the look-up and the change of a row: no duplicates, as with the
    database driver under which most transcripts were taken."""
    sprinkle: bool = True
    """Unsolicited messages around answers: all those that the real server was seen to send."""

    version: str = "0.24.19"
    proxy: tuple[tuple[str, str], ...] = ()
    """(url, ip) pairs of the status entry: the server's outgoing address as others saw it."""
    status_interval: float = 300.0
    """0: it writes no status entries."""
    clock_offset: float = 0.0
    """Added to the server's clock: log times and the HTTP `Date`."""

    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    max_payload: int = 1_000_000


async def lasting(seconds: Callable[[], float]) -> None:
    """Wait for so long; whoever sets it to less meanwhile ends the wait sooner."""
    clock = asyncio.get_running_loop().time
    began = clock()
    while (left := began + seconds() - clock()) > 0:  # noqa: ASYNC110  - no event: it may be set anywhere
        await asyncio.sleep(min(left, 0.01))
