"""kill -9 at any moment: nothing acknowledged is lost, nothing half-done is ever seen."""

import os
import random
import select
import signal
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.model.recorded import Debt, Owed, Write
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts

KILLS = 60
HOME = Target("https://tokyo-1.internal:8443", "0")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def write(number: int) -> Write:
    return Write({}, {"key": "v" * (number % 3000)}, {}, "k1", str(number))


def debt(number: int) -> Debt:
    return Debt(Owed.RESTART, "bybit", str(number), number, number, "r")


def ledger_on(store: SqliteStore) -> Ledger:
    return Ledger(store, now=lambda: NOON, timeouts=Timeouts(), writer="child")


def work(path: Path, first: int, acknowledged: int) -> None:
    """Intend and commit numbered writes until killed, saying so after each."""
    store = SqliteStore.open(path)
    ledger = ledger_on(store)
    uid = ledger.pin(HOME, "tokyo-1").uid
    ledger.load(HOME, "tokyo-1")
    for number in range(first, first + 100_000):
        ledger.intend(uid, "bybit", write(number), [debt(number)])
        os.write(acknowledged, f"i{number}\n".encode())
        ledger.commit(uid, "bybit")
        os.write(acknowledged, f"c{number}\n".encode())
        ledger.settle_debts(uid, "bybit", ())


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"REPRO: seed {seed}")  # noqa: T201  - pytest shows it when the test fails
    chance = random.Random(seed)
    path = tmp_path / "ledger.db"
    store = SqliteStore.create(path)
    ledger_on(store).pin(HOME, "tokyo-1")
    store.close()
    state, open_intents, sequence = (0, 0), 0, 0

    for _ in range(KILLS):
        first = max(state) + 1
        reports = killed(path, first, chance.uniform(0, 0.03))

        store = SqliteStore.open(path)  # checks the whole file
        try:
            record = ledger_on(store).load(HOME, "tokyo-1").exchanges.get("bybit")
            assert store.sequence() >= sequence + len(reports)
            sequence = store.sequence()
        finally:
            store.close()
        written = int(record.written.at) if record and record.written else 0
        intent = int(record.intent.at) if record and record.intent else 0
        # What was said is there, and at most one step more.
        number = int(reports[-1][1:]) if reports else 0
        if not reports:
            allowed = {state, (state[0], first)}
        elif reports[-1].startswith("i"):
            before = number - 1 if number > first else state[0]
            allowed = {(before, number), (number, 0)}
        else:
            allowed = {(number, 0), (number, number + 1)}
        assert (written, intent) in allowed
        if intent:  # an intent and its debt are one write
            assert record is not None
            assert debt(intent) in record.debts
        open_intents += bool(intent)
        state = written, intent

    assert max(state) > KILLS
    assert open_intents > 0, "no kill fell between intend and commit: the test proves nothing"


def killed(path: Path, first: int, after: float) -> list[str]:
    """Start a child, kill it *after* seconds of work, and return what it acknowledged."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test process may have threads
        pid = os.fork()
    if pid == 0:
        try:
            work(path, first, writing)
        finally:
            os._exit(1)
    os.close(writing)
    # Sometimes from its first word on, sometimes while it still opens the file.
    if after > 0.005:
        select.select([reading], [], [], 10)
    time.sleep(after)  # the random moment is the point
    os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    with os.fdopen(reading) as lines:
        return [line.strip() for line in lines if line.endswith("\n")]
