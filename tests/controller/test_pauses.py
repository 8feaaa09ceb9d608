"""What operators pause: put over the documents, found again in the ledger, and over in the end."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from reconciler.controller.pauses import Noted, PauseChange, Pauses
from reconciler.errors import Blocked, LedgerError
from reconciler.ledger import Stored
from reconciler.ledger.codec.rows import PAUSES
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.desired import DesiredServer, DesiredState, Suspension
from reconciler.model.pauses import heeded, paused
from reconciler.model.recorded import HistoryEntry, Pause
from reconciler.model.source import NOWHERE
from reconciler.model.target import Target
from reconciler.model.timestamps import stamp
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.policy.model import asks
from reconciler.system.clocks import SteadyClock
from reconciler.system.timeouts import Timeouts

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SERVER = DesiredServer("tokyo-1", "https://tokyo-1.internal", NOWHERE)
OTHER = DesiredServer("osaka-1", "https://osaka-1.internal", NOWHERE)


def pause(until: datetime = NOW + HOUR, reason: str = "maintenance") -> Pause:
    return Pause(SERVER.target, reason, "ann (page)", stamp(NOW), until)


def clocked(
    ledger: Ledger,
    now: Callable[[], datetime] = lambda: NOW,
    jumped: Callable[[], timedelta] = timedelta,
) -> PassContext:
    """What a controller works with, of which only its clock matters here."""
    nothing = cast(Any, None)
    return PassContext(
        nothing, nothing, nothing, Timeouts(), ledger, "controller", now=now, jumped=jumped
    )


def over(server: DesiredServer, *pauses: Pause) -> DesiredServer:
    (first, second) = paused(DesiredState((server, OTHER)), pauses, NOW).servers
    assert second is OTHER
    return first


def test_a_pause_is_a_suspension_that_stands_in_no_document() -> None:
    assert over(SERVER, pause()).suspend == Suspension(
        "maintenance", "ann (page)", NOW + HOUR, operator=True
    )


def test_a_pause_that_is_over_changes_nothing() -> None:
    assert over(SERVER, pause(NOW)) is SERVER
    assert over(SERVER) is SERVER


@pytest.mark.parametrize(
    ("own", "wins"),
    [(None, "theirs"), (NOW + 2 * HOUR, "theirs"), (NOW + HOUR / 2, "both"), (NOW - HOUR, "ours")],
)
def test_what_a_document_says_itself_stays(own: datetime | None, wins: str) -> None:
    server = replace(SERVER, suspend=Suspension("theirs", "bob", own))
    found = over(server, pause()).suspend
    assert found is not None
    if wins == "theirs":
        assert found == server.suspend
    else:
        assert found.until == NOW + HOUR
        assert ("theirs" in found.reason) == (wins == "both")


def test_a_pause_is_known_to_the_other_accounts_of_its_process_and_holds_none_of_them() -> None:
    site = replace(SERVER, name="tokyo-1-site", account="42")
    (server, other, elsewhere) = paused(
        DesiredState((SERVER, site, OTHER)), [pause(), replace(pause(NOW), target=site.target)], NOW
    ).servers
    said = Suspension("maintenance", "ann (page)", NOW + HOUR, operator=True)

    assert (server.suspend, server.suspended_accounts) == (said, ())
    assert (other.suspend, other.suspended_accounts) == (None, (("0", said),))
    assert elsewhere is OTHER


def test_a_pause_beside_a_suspended_account_hides_neither() -> None:
    theirs = "7", Suspension("audit", "bob", None)
    site = replace(SERVER, name="tokyo-1-site", account="42", suspended_accounts=(theirs,))
    (_, other) = paused(DesiredState((SERVER, site)), [pause()], NOW).servers
    said = Suspension("maintenance", "ann (page)", NOW + HOUR, operator=True)
    assert other.suspended_accounts == (theirs, ("0", said))

    later = heeded(other, [pause(NOW + 2 * HOUR)], NOW).suspended_accounts
    assert later == (theirs, ("0", replace(said, until=NOW + 2 * HOUR)))


def test_the_policy_of_documents_does_not_judge_an_operator() -> None:
    kinds = [str(one.action) for one in asks(over(SERVER, pause()))]
    control = [str(one.action) for one in asks(replace(SERVER, suspend=Suspension("x", "b", None)))]

    assert "suspend" not in kinds
    assert "suspend" in control


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    store = MemoryStore()
    yield Ledger(store, now=lambda: NOW, timeouts=Timeouts(), writer="controller")
    store.close()


def test_a_pause_is_in_the_ledger_with_who_said_it(ledger: Ledger) -> None:
    uid = ledger.pin(SERVER.target, SERVER.name).uid

    async def story() -> None:
        told: list[str] = []
        mine = Pauses(clocked(ledger), ledger, lambda: told.append("mine"))
        theirs = Pauses(clocked(ledger), ledger, lambda: told.append("theirs"))
        await mine.look()
        await mine.look()
        assert told == ["mine"]
        await mine.note(PauseChange(SERVER.target, SERVER.name, "ann (page)", pause()))
        assert told == ["mine", "mine"]
        await theirs.look()  # another controller of this ledger
        assert told[2:] == ["theirs"]
        assert theirs.over(DesiredState((SERVER,))).servers[0].suspend is not None

        await theirs.note(PauseChange(SERVER.target, SERVER.name, "bob (page)", None))
        await mine.look()
        assert mine.known == ()
        assert told[3:] == ["theirs", "mine"]

    asyncio.run(story())
    told = [(deed.by, deed.what, deed.result) for deed in ledger.history(uid)]
    assert told == [("ann (page)", "pause", "begun"), ("bob (page)", "pause", "ended")]


class SlowOnce(MemoryStore):
    """Its first answer about pauses comes late: when *go* is set, or after a second."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def get(self, key: str) -> Stored | None:
        found = super().get(key)
        if key == PAUSES and not self.asked.is_set():
            self.asked.set()
            self.go.wait(1.0)
        return found


def test_a_late_answer_does_not_cover_a_newer_pause() -> None:
    store = SlowOnce()
    ledger = Ledger(store, now=lambda: NOW, timeouts=Timeouts(), writer="controller")

    async def story() -> None:
        pauses = Pauses(clocked(ledger), ledger, lambda: None)
        late = asyncio.create_task(pauses.look())
        await asyncio.to_thread(store.asked.wait)
        noting = asyncio.create_task(
            pauses.note(PauseChange(SERVER.target, SERVER.name, "ann (page)", pause()))
        )
        noting.add_done_callback(lambda _: store.go.set())
        await asyncio.gather(late, noting)
        assert pauses.known == (pause(),)

    asyncio.run(story())
    store.close()


def test_nobody_shortens_a_pause_without_knowing_of_it(ledger: Ledger) -> None:
    longer = replace(pause(NOW + 72 * HOUR), by="bob (page)")
    ledger.pauses.begin(longer, NOW)

    with pytest.raises(Blocked, match=r"bob \(page\) paused it already, until 2026-11-25"):
        ledger.pauses.begin(pause(), NOW)
    assert ledger.pauses.all() == (longer,)
    ledger.pauses.begin(pause(NOW + 73 * HOUR), NOW)
    assert ledger.pauses.all() == (pause(NOW + 73 * HOUR),)


# ── servers that move, and names that do ─────────────────────────────────────────────────────

ELSEWHERE = replace(SERVER, url="https://tokyo-9.internal")


def at(ledger: Ledger) -> list[tuple[Target, str]]:
    return [(one.target, one.name) for one in ledger.pauses.all()]


@pytest.mark.parametrize("order", ["known before", "met afterwards"])
def test_a_pause_goes_where_its_server_goes(ledger: Ledger, order: str) -> None:
    if order == "known before":
        ledger.pin(SERVER.target, SERVER.name)
    ledger.pauses.begin(replace(pause(), name=SERVER.name), NOW)
    ledger.pin(SERVER.target, SERVER.name)
    ledger.pin(ELSEWHERE.target, SERVER.name, move=True)

    assert at(ledger) == [(ELSEWHERE.target, SERVER.name)]
    ledger.pin(ELSEWHERE.target, "tokyo-new")
    assert at(ledger) == [(ELSEWHERE.target, "tokyo-new")]
    ledger.pin(OTHER.target, "tokyo-new", move=True)
    assert at(ledger) == [(OTHER.target, "tokyo-new")]

    with pytest.raises(Blocked, match="paused it already"):
        ledger.pauses.begin(replace(pause(NOW + HOUR / 2), target=OTHER.target), NOW)
    assert not ledger.pauses.end(SERVER.target, NOW)
    assert ledger.pauses.end(OTHER.target, NOW)
    assert ledger.pauses.all() == ()


def test_whoever_comes_to_the_address_afterwards_is_not_paused(ledger: Ledger) -> None:
    ledger.pin(SERVER.target, SERVER.name)
    ledger.pauses.begin(pause(), NOW)
    ledger.pin(ELSEWHERE.target, SERVER.name, move=True)
    ledger.pin(SERVER.target, "tokyo-2", new=True)

    assert at(ledger) == [(ELSEWHERE.target, SERVER.name)]


def test_a_name_alone_makes_no_pause_another_servers(ledger: Ledger) -> None:
    """One that has the name by the ledger, at another address: perhaps it was given away."""
    ledger.pin(SERVER.target, SERVER.name)
    ledger.pauses.begin(replace(pause(), target=ELSEWHERE.target, name=SERVER.name), NOW)

    assert at(ledger) == [(ELSEWHERE.target, SERVER.name)]
    assert ledger.pauses.all()[0].uid == ""


def test_a_server_whose_new_address_waits_for_a_yes_is_paused_by_its_name() -> None:
    held = replace(pause(), name=SERVER.name)
    state = DesiredState((OTHER, ELSEWHERE))

    other, moving = paused(state, [held], NOW).servers
    assert other is OTHER
    assert moving.suspend is not None
    assert heeded(ELSEWHERE, [held], NOW) is ELSEWHERE, "what is sent goes by the ledger alone"


def test_a_name_that_another_server_got_is_not_paused_with_it() -> None:
    held = replace(pause(), name=SERVER.name)
    renamed = replace(SERVER, name="tokyo-old")

    old, new = paused(DesiredState((renamed, ELSEWHERE)), [held], NOW).servers
    assert old.suspend is not None
    assert new is ELSEWHERE
    (alone,) = paused(DesiredState((ELSEWHERE,), others=(renamed,)), [held], NOW).servers
    assert alone is ELSEWHERE, "who is who is judged over all documents"


def test_of_two_pauses_of_one_server_the_longer_holds() -> None:
    longer = replace(pause(NOW + 2 * HOUR), name=SERVER.name)
    here = replace(pause(), target=ELSEWHERE.target)
    for both in ([longer, here], [here, longer]):
        (found,) = paused(DesiredState((ELSEWHERE,)), both, NOW).servers
        assert found.suspend is not None
        assert found.suspend.until == NOW + 2 * HOUR


def test_the_other_accounts_wait_at_both_addresses_of_a_server_that_is_to_move() -> None:
    held = replace(pause(), name=SERVER.name)
    there = replace(ELSEWHERE, name="b", account="42")
    state = DesiredState((replace(SERVER, name="a", account="42"), there, ELSEWHERE))

    found = paused(state, [held], NOW).servers
    assert [bool(one.suspended_accounts) for one in found] == [True, True, False]


def test_going_on_ends_the_pause_of_a_server_that_is_to_move(ledger: Ledger) -> None:
    ledger.pin(SERVER.target, SERVER.name)
    ledger.pauses.begin(pause(), NOW)
    pauses = Pauses(clocked(ledger), ledger, lambda: None)

    async def story() -> Noted:
        await pauses.look()
        (moving,) = pauses.over(DesiredState((ELSEWHERE,))).servers
        assert moving.suspend is not None
        return await pauses.note(replace(change(None), target=ELSEWHERE.target))

    assert asyncio.run(story()) == Noted(changed=True)
    assert ledger.pauses.all() == ()


def change(what: Pause | None) -> PauseChange:
    return PauseChange(SERVER.target, SERVER.name, "ann (page)", what)


def test_going_on_without_a_pause_notes_nothing(ledger: Ledger) -> None:
    uid = ledger.pin(SERVER.target, SERVER.name).uid

    noted = asyncio.run(Pauses(clocked(ledger), ledger, lambda: None).note(change(None)))

    assert noted == Noted(changed=False)
    assert ledger.history(uid) == ()


def test_a_pause_holds_although_the_history_could_not_have_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "record", full)
    ledger.pin(SERVER.target, SERVER.name)
    pauses = Pauses(clocked(ledger), ledger, lambda: None)

    noted = asyncio.run(pauses.note(change(pause())))

    assert noted.changed
    assert "the history does not have it: the disk is full" in noted.trouble
    assert [replace(one, uid="", name="") for one in pauses.known or ()] == [pause()]


def full(_uid: str, _deeds: Sequence[HistoryEntry]) -> None:
    raise LedgerError("the disk is full")


def test_a_pause_that_was_written_without_an_answer_holds(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = ledger.pauses.begin

    def lost(one: Pause, now: datetime) -> None:
        begin(one, now)
        raise LedgerError("no answer")

    monkeypatch.setattr(ledger.pauses, "begin", lost)
    pauses = Pauses(clocked(ledger), ledger, lambda: None)

    noted = asyncio.run(pauses.note(change(pause())))

    assert noted == Noted(changed=True, trouble="no answer")
    monkeypatch.setattr(ledger.pauses, "begin", failing)
    with pytest.raises(LedgerError, match="away"):
        asyncio.run(pauses.note(change(pause(NOW + 2 * HOUR))))


def failing(_one: Pause, _now: datetime) -> None:
    raise LedgerError("the ledger is away")


def test_what_was_over_long_ago_is_forgotten_with_the_next(ledger: Ledger) -> None:
    """Not sooner: the clock of whoever writes the next may be wrong."""
    ledger.pauses.begin(pause(), NOW)
    other = replace(pause(NOW + 30 * DAY), target=OTHER.target)
    ledger.pauses.begin(other, NOW + 6 * DAY)
    assert ledger.pauses.all() == (pause(), other)
    ledger.pauses.begin(replace(other, reason="again"), NOW + 8 * DAY)
    assert [one.reason for one in ledger.pauses.all()] == ["again"]


def test_what_is_over_is_in_nobodys_way(ledger: Ledger) -> None:
    """It neither holds nor is ended, and gives its place to the next of its server."""
    ledger.pauses.begin(pause(), NOW)
    assert not ledger.pauses.end(SERVER.target, NOW + DAY)
    ledger.pauses.begin(pause(), NOW)
    ledger.pauses.begin(replace(pause(), reason="again"), NOW + DAY)
    assert [one.reason for one in ledger.pauses.all()] == ["again"]


@pytest.mark.parametrize("jump", [DAY, 365 * DAY])
def test_a_pause_by_a_clock_that_jumped_erases_no_other(ledger: Ledger, jump: timedelta) -> None:
    seconds, ahead = 0.0, timedelta()

    def now() -> datetime:
        return NOW + timedelta(seconds=seconds) + ahead

    context = clocked(ledger, now, SteadyClock(now, lambda: seconds).jumped)
    pauses = Pauses(context, ledger, lambda: None)
    other = replace(pause(NOW + jump + HOUR), target=OTHER.target)

    async def story() -> None:
        nonlocal ahead
        await pauses.note(change(pause()))
        ahead = jump
        assert pauses.over(DesiredState((SERVER,))).servers[0].suspend is not None
        await pauses.note(PauseChange(OTHER.target, OTHER.name, "bob (page)", other))
        ahead = timedelta()
        assert pauses.known == (pause(), other)
        assert await pauses.note(change(None)) == Noted(changed=True), "and it can be ended"

    asyncio.run(story())
