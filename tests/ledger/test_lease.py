"""One process at a time applies to a server; a dead one's lease ends, on nobody's wall clock."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.errors import LeaseHeld, LedgerError
from reconciler.ledger import Conflict
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import Holder, LeaseRow, lease_key
from reconciler.ledger.lease import Held, ended, held, this_process
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.system.timeouts import Timeouts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOME = Target("https://tokyo-1.internal:8443", "0")


class Machine:
    """A host with clocks of its own; `sleep` makes its time pass, and *meanwhile* happens."""

    def __init__(self, store: MemoryStore, name: str, wall: datetime = NOON) -> None:
        self.steady = 1000.0
        self.wall = wall
        self.slept = 0.0
        self.meanwhile: Callable[[], None] = lambda: None
        self.ledger = Ledger(
            store,
            now=lambda: self.wall,
            timeouts=Timeouts(),
            writer=f"apply 1@{name}",
            clock=lambda: self.steady,
            sleep=self.sleep,
        )
        self.uid = self.ledger.pin(HOME, "tokyo-1").uid

    def sleep(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += timedelta(seconds=seconds)
        self.slept += seconds
        self.meanwhile()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def ours(store: MemoryStore) -> Machine:
    return Machine(store, "ours")


@pytest.fixture
def theirs(store: MemoryStore) -> Machine:
    return Machine(store, "theirs")


def test_a_second_holder_waits_and_is_told_who_has_it(ours: Machine, theirs: Machine) -> None:
    with ours.ledger.lease(ours.uid) as lease:
        assert lease.held()
        with pytest.raises(LeaseHeld) as caught, theirs.ledger.lease(theirs.uid):
            pytest.fail("two holders")
    assert str(caught.value) == (
        "apply 1@ours is applying to tokyo-1 since 2026-11-22T12:00:00.000000Z;"
        " wait until it has finished"
    )
    assert theirs.slept == pytest.approx(Timeouts().lease_wait, abs=0.5)


def test_no_wait_means_no_wait(ours: Machine, theirs: Machine) -> None:
    with ours.ledger.lease(ours.uid), pytest.raises(LeaseHeld):
        theirs.ledger.lease(theirs.uid, wait=0).__enter__()
    assert theirs.slept == 0


def test_a_released_lease_is_free_at_once(ours: Machine, theirs: Machine) -> None:
    with ours.ledger.lease(ours.uid) as lease:
        pass
    assert not lease.held()
    with theirs.ledger.lease(theirs.uid, wait=0):
        assert theirs.slept == 0


def test_a_lease_is_released_after_a_failure_too(ours: Machine, theirs: Machine) -> None:
    with pytest.raises(ZeroDivisionError), ours.ledger.lease(ours.uid):
        raise ZeroDivisionError
    with theirs.ledger.lease(theirs.uid, wait=0) as lease:
        assert lease.held()


def test_a_waiting_process_gets_it_when_the_other_one_ends(ours: Machine, theirs: Machine) -> None:
    lease = ours.ledger.lease(ours.uid)
    lease.__enter__()
    calls = 0

    def release() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            lease.__exit__(None, None, None)

    theirs.meanwhile = release
    with theirs.ledger.lease(theirs.uid):
        assert calls == 3


def test_servers_are_leased_one_by_one(ours: Machine, theirs: Machine) -> None:
    other = ours.ledger.pin(Target("https://b.internal", "0"), "b").uid
    with ours.ledger.lease(ours.uid), theirs.ledger.lease(other, wait=0) as lease:
        assert lease.held()


def test_one_process_cannot_hold_it_twice(ours: Machine) -> None:
    with ours.ledger.lease(ours.uid), pytest.raises(LeaseHeld):
        ours.ledger.lease(ours.uid, wait=0).__enter__()


def crash(machine: Machine, store: MemoryStore) -> None:
    """Leave the lease of a process that died on a host which nobody can look at."""
    machine.ledger.lease(machine.uid).__enter__()
    key = lease_key(machine.uid)
    stored = store.get(key)
    assert stored is not None
    row = read(LeaseRow, key, stored.text)
    far_away = replace(row, holder=Holder(row.holder.nonce, row.holder.by, boot="another host"))
    store.put(key, write(far_away), expect=stored.revision)


def test_a_crashed_holder_elsewhere_is_waited_out(
    ours: Machine, theirs: Machine, store: MemoryStore
) -> None:
    crash(ours, store)
    theirs.wall += timedelta(seconds=31)  # its time seems over: worth proving
    with theirs.ledger.lease(theirs.uid):
        assert theirs.slept == pytest.approx(30, abs=1.5)


def test_what_was_watched_before_counts(ours: Machine, theirs: Machine, store: MemoryStore) -> None:
    crash(ours, store)
    with pytest.raises(LeaseHeld):
        theirs.ledger.lease(theirs.uid, wait=0).__enter__()
    theirs.steady += 31
    with theirs.ledger.lease(theirs.uid, wait=0):
        assert theirs.slept == 0


@pytest.mark.parametrize("years", [-1, 1])
def test_a_jump_of_the_wall_clock_ends_no_lease(ours: Machine, theirs: Machine, years: int) -> None:
    theirs.wall += timedelta(days=365 * years)
    with ours.ledger.lease(ours.uid) as lease:
        # Whoever waits sees it renewed, whatever the wall clocks say.
        theirs.meanwhile = lease.renew
        ours.wall += timedelta(days=365 * years)
        with pytest.raises(LeaseHeld):
            theirs.ledger.lease(theirs.uid).__enter__()
        assert lease.held()


def test_a_holder_whose_clock_is_far_ahead_is_waited_out_as_well(
    ours: Machine, theirs: Machine, store: MemoryStore
) -> None:
    ours.wall += timedelta(days=3650)
    crash(ours, store)
    waits = 0
    while True:
        try:
            with theirs.ledger.lease(theirs.uid):
                break
        except LeaseHeld:
            waits += 1
            assert waits < 4
    assert theirs.slept == pytest.approx(30, abs=1.5)


def test_a_holder_that_slept_too_long_knows_it(ours: Machine, theirs: Machine) -> None:
    lease = ours.ledger.lease(ours.uid)
    lease.__enter__()
    ours.steady += 29
    assert lease.held()
    lease.renew()
    ours.steady += 29
    assert lease.held()
    ours.steady += 2
    assert not lease.held()

    with pytest.raises(LeaseHeld):
        theirs.ledger.lease(theirs.uid, wait=0).__enter__()
    theirs.steady += 31
    with theirs.ledger.lease(theirs.uid, wait=0) as taken:
        with pytest.raises(LeaseHeld, match="silent for too long"):
            lease.renew()
        lease.__exit__(None, None, None)
        assert taken.held()
        taken.renew()


def test_of_two_that_take_over_one_wins(ours: Machine, theirs: Machine, store: MemoryStore) -> None:
    crash(ours, store)
    third = Machine(store, "third")
    for machine in (theirs, third):
        with pytest.raises(LeaseHeld):
            machine.ledger.lease(machine.uid, wait=0).__enter__()
        machine.steady += 31
    with theirs.ledger.lease(theirs.uid, wait=0), pytest.raises(LeaseHeld, match="theirs"):
        third.ledger.lease(third.uid, wait=0).__enter__()


def test_a_lease_that_came_to_nothing_gives_back_nobody_elses(
    ours: Machine, theirs: Machine
) -> None:
    """It was taken with other notes, and another process was quicker with all of them."""
    with ours.ledger.lease(ours.uid):
        pass  # there is a row
    taken = theirs.ledger.lease(theirs.uid, wait=0)

    def overtaken() -> None:
        with ExitStack() as undo, ours.ledger.together():
            undo.enter_context(ours.ledger.lease(ours.uid))
            taken.__enter__()

    with pytest.raises(Conflict):
        overtaken()

    assert taken.held()
    taken.renew()
    with pytest.raises(LeaseHeld, match="theirs"):
        ours.ledger.lease(ours.uid, wait=0).__enter__()


def test_what_is_given_back_with_other_notes_is_not_taken_from_who_came_meanwhile(
    ours: Machine, theirs: Machine, store: MemoryStore
) -> None:
    lease = ours.ledger.lease(ours.uid)
    lease.__enter__()
    with pytest.raises(LeaseHeld):
        theirs.ledger.lease(theirs.uid, wait=0).__enter__()
    theirs.steady += 31  # and ours was silent
    taken = theirs.ledger.lease(theirs.uid, wait=0)

    def overtaken() -> None:
        with ours.ledger.together():
            lease.__exit__(None, None, None)
            taken.__enter__()

    with pytest.raises(Conflict):
        overtaken()
    lease.__exit__(None, None, None)

    taken.renew()
    with pytest.raises(LeaseHeld, match="theirs"):
        Machine(store, "third").ledger.lease(ours.uid, wait=0).__enter__()


def test_many_threads_have_one_holder_at_a_time(store: MemoryStore) -> None:
    ledger = Ledger(
        store, now=lambda: NOON, timeouts=Timeouts().scaled(50), writer="t", clock=lambda: 0.0
    )
    uid = ledger.pin(HOME, "tokyo-1").uid
    inside, worst, done = 0, 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, worst, done
        for _ in range(5):
            with ledger.lease(uid):
                with lock:
                    inside += 1
                    worst = max(worst, inside)
                with lock:
                    inside -= 1
                    done += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (worst, done) == (1, 40)


def test_a_lease_that_cannot_be_given_back_hides_no_failure(ours: Machine) -> None:
    lease = ours.ledger.lease(ours.uid)
    lease.__enter__()
    lease._store.put = failing  # type: ignore[method-assign]  # only this store, only now
    lease.__exit__(None, None, None)
    assert not lease.held()


def test_a_renewal_whose_answer_was_lost_is_ours_all_the_same(
    ours: Machine, theirs: Machine, store: MemoryStore
) -> None:
    """Or one lost answer would cost the lease, and whoever holds it would stop in the middle."""
    with ours.ledger.lease(ours.uid) as lease:
        unanswered(store, lease.renew)
        lease.renew()
        assert lease.held()
        unanswered(store, lease.renew)
    with theirs.ledger.lease(theirs.uid, wait=0):
        pass  # it was given back, too


def unanswered(store: MemoryStore, call: Callable[[], None]) -> None:
    """Let what *call* writes take effect without an answer."""
    put = store.put

    def lost(key: str, text: str, *, expect: int) -> int:
        put(key, text, expect=expect)
        raise LedgerError("no answer", "wait")

    store.put = lost  # type: ignore[method-assign]  # only this store, only now
    try:
        with pytest.raises(LedgerError, match="no answer"):
            call()
    finally:
        del store.put


def test_a_lease_that_this_process_could_not_give_back_is_free_for_it_at_once(
    ours: Machine, theirs: Machine, store: MemoryStore
) -> None:
    lease = ours.ledger.lease(ours.uid)
    lease.__enter__()
    with pytest.raises(LeaseHeld):  # as long as somebody in this process holds it
        ours.ledger.lease(ours.uid, wait=0).__enter__()
    store.put = failing  # type: ignore[method-assign]  # only this store, only now
    lease.__exit__(None, None, None)
    del store.put

    with theirs.ledger.lease(theirs.uid, wait=0) as taken:
        assert taken.held()


def failing(*_: object, **__: object) -> int:
    raise LedgerError("disk", "free it")


# ── held in the background ───────────────────────────────────────────────────────────────────


class Slow(MemoryStore):
    """Answers nothing from the call on that it is told to begin with, until it is told to end."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = threading.Event()
        self.flows.set()
        self.waits = threading.Event()
        self.fails = False

    def put(self, key: str, text: str, *, expect: int) -> int:
        if not self.flows.is_set():
            self.waits.set()
            self.flows.wait(30)
        if self.fails:
            raise LedgerError("502", "wait")
        return super().put(key, text, expect=expect)


def lease_on(store: MemoryStore, seconds: float) -> Ledger:
    return Ledger(
        store,
        now=lambda: datetime.now(UTC),
        timeouts=replace(Timeouts(), lease=seconds, lease_wait=0.0),
        writer="apply 1@here",
    )


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  - time itself is what is waited for
            await asyncio.sleep(0.001)


def test_a_lease_is_not_asked_of_the_ledger_and_never_raises_a_cancellation() -> None:
    """While a hanging ledger kept a lease from its end, asking it ended whoever asked."""

    async def story() -> None:
        store = Slow()
        ledger = lease_on(store, 0.3)
        uid = ledger.pin(HOME, "tokyo-1").uid
        over = asyncio.Event()
        checks: list[Held] = []

        async def work() -> None:
            async with held(ledger.lease(uid), 0.3) as check:
                checks.append(check)
                await over.wait()

        working = asyncio.create_task(work())
        await until(lambda: bool(checks))
        store.flows.clear()
        await until(store.waits.is_set)
        over.set()
        await asyncio.sleep(0.4)
        with pytest.raises(LeaseHeld, match="ran out"):
            checks[0]()
        store.flows.set()
        await working
        with ledger.lease(uid):
            pass  # given back, although it was being renewed

    asyncio.run(story())


def test_one_renewal_that_fails_costs_nothing_while_the_lease_lasts() -> None:
    async def story() -> None:
        store = Slow()
        ledger = lease_on(store, 3.0)
        uid = ledger.pin(HOME, "tokyo-1").uid
        async with held(ledger.lease(uid), 0.3) as check:
            store.fails = True
            sequence = store.sequence()
            await asyncio.sleep(0.3)
            check()
            store.fails = False
            await until(lambda: store.sequence() > sequence)
            check()

    asyncio.run(story())


def test_a_lease_that_ran_out_while_the_ledger_hung_is_taken_up_again() -> None:
    async def story() -> None:
        store = Slow()
        ledger = lease_on(store, 0.2)
        uid = ledger.pin(HOME, "tokyo-1").uid
        async with held(ledger.lease(uid), 0.2) as check:
            store.flows.clear()
            await asyncio.sleep(0.4)
            with pytest.raises(LeaseHeld, match="ran out"):
                check()
            store.flows.set()
            await until(check._lease.held)
            check()

    asyncio.run(story())


# ── the processes of this host ───────────────────────────────────────────────────────────────

linux = pytest.mark.skipif(not this_process("").boot, reason="this system does not tell")


@linux
def test_this_process_lives() -> None:
    assert not ended(this_process("me"))
    assert not ended(replace(this_process("me"), started=0))


@linux
def test_a_dead_neighbour_is_known_at_once(ours: Machine, store: MemoryStore) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me = this_process("apply 2@here")
    stat = Path(f"/proc/{child.pid}/stat").read_text("ascii", "replace")
    holder = replace(me, pid=child.pid, started=int(stat.rpartition(")")[2].split()[19]))
    assert not ended(holder)
    with ours.ledger.lease(ours.uid):
        pass
    key = lease_key(ours.uid)
    stored = store.get(key)
    assert stored is not None
    row = replace(read(LeaseRow, key, stored.text), holder=holder, released=False)
    store.put(key, write(row), expect=stored.revision)
    with pytest.raises(LeaseHeld, match="apply 2@here"):
        ours.ledger.lease(ours.uid, wait=0).__enter__()

    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert ended(holder)  # a zombie sends nothing any more
    child.communicate()
    assert ended(holder)
    with ours.ledger.lease(ours.uid, wait=0) as lease:
        assert lease.held()


@linux
def test_another_process_under_the_same_number_is_not_the_holder() -> None:
    me = this_process("me")
    assert ended(replace(me, started=me.started - 1))


@linux
def test_nothing_is_concluded_about_other_hosts_and_namespaces() -> None:
    gone = replace(this_process("me"), pid=2**22 + 1)
    assert ended(gone)
    assert not ended(replace(gone, boot="elsewhere"))
    assert not ended(replace(gone, namespace="pid:[1]"))
    assert not ended(replace(gone, boot=""))
