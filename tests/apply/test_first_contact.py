"""Two processes meet a server at the same time that neither knows; there is nothing to do."""

from collections.abc import Callable

from reconciler.ledger.stores.memory import MemoryStore
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.harness import Passed
from tests.crash.request_scenarios import SERVER, Trading, settled


class Overtaken(MemoryStore):
    """A store in which another process is quicker by a hair, once."""

    def __init__(self) -> None:
        super().__init__()
        self.other: Callable[[], object] | None = None

    def put(self, key: str, text: str, *, expect: int) -> int:
        other, self.other = self.other, None
        if other is not None:
            other()
        return super().put(key, text, expect=expect)


def test_the_later_one_goes_on_with_what_the_first_one_noted() -> None:
    async def story(clock: VirtualClock) -> tuple[Trading, Passed]:
        harness = await settled(clock)
        for code in ("bybit", "kucoin"):
            harness.undeclare(SERVER, code)
        harness.store = store = Overtaken()
        harness.begin()
        (server,) = harness.state().servers
        store.other = lambda: harness.ledger().pin(server.target, server.name, new=True)
        return harness, await harness.apply()

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        harness, passed = runner.run(story(clock))
    ((report,), (server,)) = passed.reports, harness.ledger().servers()
    known = harness.ledger().load(server.target, server.name)
    assert (report.failure, report.exit_code, server.name) == (None, 0, SERVER)
    assert known.received is not None, "what it gets was noted by the later one alone"
