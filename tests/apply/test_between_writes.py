"""What was read after one write serves the next one; what changed since is seen all the same."""

from collections.abc import Callable

import pytest

from reconciler.errors import Exit
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.outcomes import Outcome
from reconciler.sandbox.jt_trader.memory import MemoryServer
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.harness import Harness
from tests.crash.scenarios import desk_in_memory

SERVER = "tokyo-1"


class Meanwhile(MemoryStore):
    """Lets something happen just before an exchange is written, after *skip* other times."""

    def __init__(self, code: str, skip: int, happens: Callable[[], None]) -> None:
        super().__init__()
        self._code, self._left, self._happens = code, skip, happens

    def put(self, key: str, text: str, *, expect: int) -> int:
        if key.endswith(f"/exchange/{self._code}"):
            self._left -= 1
            if self._left == -1:
                self._happens()
        return super().put(key, text, expect=expect)


BEFORE_INTENT = ("kucoin", 0)
AFTER_WRITE = ("bybit", 1)


async def two_writes(
    clock: VirtualClock, happens: str, moment: tuple[str, int]
) -> tuple[list[Outcome], MemoryServer]:
    harness: Harness = await desk_in_memory(1)
    server = harness.handles[SERVER].server
    assert isinstance(server, MemoryServer)

    def lost() -> None:
        assert server.open is not None
        server.open.drop(None)

    def another_server() -> None:
        for robot in server.robots:
            robot.id += 100
        lost()

    def long_ago() -> None:
        for robot in server.robots_running():
            server.set_running(robot, running=False)
        clock.sleep(60.0)

    deeds = {
        "nothing": lambda: None,
        "lost": lost,
        "another server": another_server,
        "a hand": lambda: harness.edit(SERVER, "kucoin", "all"),
        "robots stopped": long_ago,
    }
    harness.store = Meanwhile(*moment, deeds[happens])
    harness.begin()
    for code in ("bybit", "kucoin"):
        harness.rotate(SERVER, code)
        harness.declare(SERVER, code)
    passed = await harness.apply()
    return [outcome for report in passed.reports for outcome in report.outcomes], server


@pytest.mark.parametrize(
    ("happens", "moment", "codes", "saves"),
    [
        ("nothing", BEFORE_INTENT, [Exit.DONE, Exit.DONE], 2),
        ("lost", BEFORE_INTENT, [Exit.DONE, Exit.DONE], 2),
        ("another server", BEFORE_INTENT, [Exit.DONE, Exit.BLOCKED], 1),
        ("another server", AFTER_WRITE, [Exit.DONE, Exit.BLOCKED], 1),
        ("a hand", BEFORE_INTENT, [Exit.DONE, Exit.BLOCKED], 1),
        ("a hand", AFTER_WRITE, [Exit.DONE, Exit.BLOCKED], 1),
        ("robots stopped", AFTER_WRITE, [Exit.DONE, Exit.DONE], 2),
    ],
)
def test_the_second_write_sees_what_came_after_the_first(
    happens: str, moment: tuple[str, int], codes: list[Exit], saves: int
) -> None:
    clock = VirtualClock()
    with virtual_time(clock) as runner:
        outcomes, server = runner.run(two_writes(clock, happens, moment))

    assert [outcome.code for outcome in outcomes] == codes
    assert server.record.saves == saves
