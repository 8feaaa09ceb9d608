"""Two processes meet a server at the same time that neither knows."""

from collections.abc import Callable

import pytest

from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.target import Target
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.harness import Passed
from tests.crash.request_scenarios import SERVER, URL, Trading, settled


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


@pytest.mark.parametrize("where", [URL, "https://osaka-1.test"], ids=["there", "elsewhere"])
@pytest.mark.parametrize("gone", [("bybit", "kucoin"), ()], ids=["nothing", "writes"])
def test_another_process_was_quicker_with_its_name(where: str, gone: tuple[str, ...]) -> None:
    async def story(clock: VirtualClock) -> tuple[Trading, Passed]:
        harness = await settled(clock)
        for code in gone:
            harness.undeclare(SERVER, code)
        harness.store = store = Overtaken()
        harness.begin()
        store.other = lambda: harness.ledger().pin(Target(where, "0"), SERVER, new=True)
        return harness, await harness.apply()

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        harness, passed = runner.run(story(clock))
    (report,) = passed.reports
    found = harness.ledger().servers()
    assert (report.failure, report.exit_code) == (None, 0)
    assert {one.target.url for one in found} == {URL, where}
    assert harness.ledger().load(Target(URL, "0"), SERVER).received is not None, "noted by us alone"
