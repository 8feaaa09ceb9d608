"""Which proposals were merged, what they allow, and what is forgotten."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.ledger.proposals import ROOM, Proposals
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.actions import Action, RebootServer, RestartRobots, WriteExchange
from reconciler.model.desired import Afterwards, DesiredState
from reconciler.model.observed import Robot
from reconciler.model.plan import Disruption, Line, Plan, ServerPlan, Standing, Status
from reconciler.model.proposals import (
    KEPT,
    TEXT,
    Proposal,
    ProposedRow,
    PullRequest,
    action_rows,
    begun,
    documents_digest,
    merged,
    noted,
    say_the_same,
    settled,
)
from reconciler.model.recorded import Purpose
from reconciler.model.source import SourceLine
from reconciler.model.values import replace
from tests.support import factories

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
HALF = "a" * 40


def write(exchange: str, version: int = 1) -> WriteExchange:
    sources = tuple(factories.sources(version, exchange).items())
    return WriteExchange(exchange, ((f"{exchange}_key", "apiKey"),), sources, Purpose.CHANGE)


def plan(*actions: Action) -> Plan:
    lines = tuple(
        Line(one.exchange, Status.WRITE, action=one)
        for one in actions
        if isinstance(one, WriteExchange)
    )
    requests = tuple(
        Disruption("reboot", Standing.DUE, action=one)
        for one in actions
        if isinstance(one, RebootServer)
    )
    return Plan((ServerPlan("tokyo-1", factories.TARGET, lines=lines, disruptions=requests),))


def proposal(
    name: str, *actions: Action, commit: str = "", documents: str = "", half: str = HALF
) -> Proposal:
    shown = plan(*actions)
    return Proposal(
        f"sha256:{half}-{shown.id.partition('-')[2]}",
        commit or name * 40,
        documents or f"documents of {name}",
        NOW,
        "test",
        PullRequest(branch=name),
        action_rows(shown),
        (),
    )


REBOOT = RebootServer(NOW, "because", Afterwards.RESUME, 60.0)


@pytest.mark.parametrize(
    "number", ["../../user", "7/../8", "7?x", "7#", "-1", "0", "07", " 7", "7\n", "٣", "9" * 13]
)
def test_a_number_that_is_none_names_no_pull_request(number: str) -> None:
    assert PullRequest(number=number) == PullRequest()
    assert PullRequest(number="12").number == "12"


def looked_up(known: Sequence[Proposal], *commits: str, documents: str = "") -> Sequence[str]:
    found = merged(known, commits, documents, HALF)
    return [] if found is None else [one.pull.branch for one in found.proposals]


def test_a_proposal_is_merged_by_its_commit_or_by_its_documents_and_not_otherwise() -> None:
    known = [proposal("a"), proposal("b"), proposal("c")]

    assert looked_up(known, "b" * 40) == ["b"]
    assert looked_up(known, documents="documents of c") == ["c"]
    assert looked_up(known, "a" * 40, "c" * 40) == ["a", "c"]
    assert looked_up(known, "d" * 40) == []
    assert looked_up([], "a" * 40) == []


def unreviewed(known: Sequence[Proposal], *actions: Action) -> list[str]:
    found = merged(known, [one.commit for one in known], "", HALF)
    assert found is not None
    return [row.text for row in found.unreviewed(plan(*actions))]


def test_what_was_proposed_may_be_done_and_so_may_what_is_left_of_it() -> None:
    known = [proposal("a", write("bybit"), write("okx"))]

    assert unreviewed(known, write("bybit"), write("okx")) == []
    assert unreviewed(known, write("okx")) == []
    assert unreviewed(known) == []


@pytest.mark.parametrize("more", [write("okx", 2), write("gateio"), REBOOT], ids=str)
def test_nothing_else_may_be_done(more: Action) -> None:
    known = [proposal("a", write("bybit"), write("okx"))]

    assert len(unreviewed(known, write("bybit"), more)) == 1


def test_several_that_wait_allow_what_all_of_them_said() -> None:
    known = [proposal("a", write("bybit")), proposal("b", REBOOT)]

    assert unreviewed(known, write("bybit"), REBOOT) == []


def test_a_merge_queue_of_three_is_applied_one_by_one_or_at_once() -> None:
    """Each entry was planned with those before it, before any of them was applied."""
    steps: tuple[Action, ...] = (write("bybit"), write("okx"), REBOOT)
    queue = [proposal(name, *steps[: n + 1]) for n, name in enumerate("abc")]

    known: Sequence[Proposal] = queue
    for number, step in enumerate(steps):
        found = merged(known, [one.commit for one in queue[: number + 1]], "", HALF)
        assert found is not None
        assert found.unreviewed(plan(step)) == []
        assert found.unreviewed(plan(step, *steps[number + 1 :])) != [] or number == 2
        known = settled(known, found.proposals)
    assert unreviewed(queue, *steps) == []


def test_what_was_applied_once_allows_nothing_more() -> None:
    known = settled([proposal("a", write("bybit"))], [proposal("a", write("bybit"))])

    assert len(unreviewed(known, write("bybit"))) == 1
    assert unreviewed(known) == []


def test_what_was_merged_before_is_over_once_what_came_after_it_was_applied() -> None:
    """Both squashed.  The third is no earlier merge but a pull request that is still open."""
    first, open_one = proposal("a", write("bybit")), proposal("c", write("okx"))
    known: Sequence[Proposal] = [first, open_one, proposal("b", write("bybit", 2))]

    earlier = merged(known, [], "documents of a", HALF)
    assert earlier is not None
    known = begun(known, earlier.proposals, "1" * 40)
    known = begun(known, earlier.proposals, "2" * 40)
    later = merged(known, ["1" * 40], "documents of b", HALF)
    assert later is not None
    known = settled(known, (*later.proposals, *later.past))

    assert [one.pull.branch for one in later.proposals] == ["b"]
    assert [one.merged for one in known] == ["1" * 40, "", ""]
    assert [one.settled for one in known] == [True, False, True]


def test_head_is_about_what_was_merged_and_not_about_what_means_the_same() -> None:
    asks = proposal("a", REBOOT, documents="now")
    readme = proposal("b", REBOOT, documents="now")  # not merged, and touches no document
    later = proposal("c", REBOOT, write("okx"), documents="now")

    def about(*known: Proposal, commits: str) -> list[str]:
        found = merged(known, [name * 40 for name in commits], "now", HALF)
        assert found is not None
        asked = [one.pull.branch for one in found.asked(plan(REBOOT))]
        return [found.newest.pull.branch, *asked]

    assert about(asks, readme, commits="a") == ["a", "a"]
    assert about(readme, asks, commits="a") == ["a", "a"]
    assert about(asks, readme, commits="") == ["a", "a"]  # squashed
    assert about(asks, readme, later, commits="ac") == ["c", "a"]
    assert about(replace(asks, documents="then"), later, commits="a") == ["c", "a"]
    assert about(replace(asks, settled=True), readme, commits="a") == ["b", "b"]


def test_everybody_is_told_whose_wish_is_done_and_nobody_besides() -> None:
    known = [proposal("a", write("bybit")), proposal("b", write("okx")), proposal("c", REBOOT)]
    found = merged(known, [one.commit for one in known], "", HALF)
    many = replace(known[0], plan=plan(write("bybit")).id, actions=())  # too many to be kept
    whole = merged([many], [many.commit], "", HALF)

    assert found is not None
    assert whole is not None
    assert [one.pull.branch for one in found.asked(plan(write("bybit"), REBOOT))] == ["a", "c"]
    assert found.asked(plan()) == ()
    assert [one.pull.branch for one in whole.asked(plan(write("bybit")))] == ["a"]


def test_robots_are_restarted_where_a_proposal_that_is_open_says_so() -> None:
    def restarting(*names: str, written: bool, wished: bool = True) -> Plan:
        lines = (Line("bybit", Status.WRITE, action=write("bybit")),) if written else ()
        action = RestartRobots(
            "bybit", tuple(Robot(1, name, "bybit", running=True) for name in names)
        )
        disruptions = (Disruption("restart", Standing.DUE, action=action),) if names else ()
        one = ServerPlan("tokyo-1", factories.TARGET, lines=lines, disruptions=disruptions)
        return Plan((replace(one, restarts=wished),))

    seen = replace(proposal("a"), actions=action_rows(restarting("grid", written=True)))
    left = replace(proposal("b"), actions=action_rows(restarting(written=True, wished=False)))

    def refused(known: Proposal, now: Plan) -> list[str]:
        found = merged([known], [known.commit], "", HALF)
        assert found is not None
        return [row.text for row in found.unreviewed(now)]

    assert refused(seen, restarting("other", written=True)) == []
    assert refused(seen, restarting("grid", written=False)) == []
    assert refused(left, restarting(written=True, wished=False)) == []
    for now in (restarting("grid", written=False), restarting(written=True)):
        assert refused(left, now) == ["tokyo-1: restart robots on bybit"]
        assert refused(replace(seen, settled=True), now) != []


def test_an_older_word_of_the_same_pull_request_allows_nothing() -> None:
    older, newer = proposal("a", write("bybit"), REBOOT), proposal("a", write("bybit"))
    known = noted(noted([], older), newer)

    assert known == (newer,)
    assert len(unreviewed(known, write("bybit"), REBOOT)) == 1


def test_said_twice_is_said_once_and_keeps_its_place() -> None:
    first, second = proposal("a", write("bybit")), proposal("b")
    known = noted(noted([], first), second)

    assert noted(known, replace(first, at=NOW + timedelta(hours=1))) == known


def test_whose_reviewers_saw_other_recipients_does_not_fit() -> None:
    other = proposal("a", half="b" * 40)
    found = merged([other], [other.commit], "", HALF)
    both = merged([proposal("b"), other], ["b" * 40, other.commit], "", HALF)

    assert found is not None
    assert both is not None
    assert found.fitting is None
    assert both.newest.pull.branch == "b"


def test_the_lines_that_moved_are_those_of_both_sides() -> None:
    known = [proposal("a", write("bybit"), write("okx"))]
    found = merged(known, [known[0].commit], "", HALF)

    assert found is not None
    assert [line[:20] for line in found.moved(plan(write("bybit"), write("okx", 2)))] == [
        "- tokyo-1: write okx",
        "+ tokyo-1: write okx",
    ]


def test_the_documents_digest_is_of_what_they_mean() -> None:
    state = DesiredState((factories.server(factories.exchange()),))
    moved = replace(factories.exchange(), source=factories.SOURCE._replace(line=99))
    elsewhere = DesiredState((factories.server(moved),))
    other = DesiredState((factories.server(factories.exchange("okx")),))
    selected = DesiredState((), others=state.servers)

    assert documents_digest(state) == documents_digest(elsewhere) == documents_digest(selected)
    assert documents_digest(state) != documents_digest(other)
    for change in (
        {"place": "other/x.yaml"},
        {"supervised": True},
        {"labels": {"a": "b"}},
        {"owner": "x"},
    ):
        changed = DesiredState((factories.server(factories.exchange(), **change),))
        assert documents_digest(changed) != documents_digest(state), change


def test_a_store_keeps_a_bounded_number_and_the_newest_in_any_case() -> None:
    proposals = Proposals(MemoryStore())
    rows = tuple(ProposedRow(f"{n:040x}", "x" * TEXT) for n in range(400))

    for number in range(KEPT + 5):
        proposals.note(replace(proposal(f"{number}"), actions=()))
    assert len(proposals.all()) == KEPT
    for number in range(5):
        proposals.note(replace(proposal(f"big-{number}"), actions=rows))
    kept = proposals.all()
    assert kept[-1].pull.branch == "big-4"
    assert sum(len(one.actions) for one in kept) * TEXT < ROOM


def test_two_that_note_at_once_are_both_noted() -> None:
    store = MemoryStore()
    one, two = Proposals(store), Proposals(store)
    one.note(proposal("a"))
    two.note(proposal("b"))
    one.settle([proposal("a")])

    assert [(p.pull.branch, p.settled) for p in two.all()] == [("a", True), ("b", False)]


def test_what_was_not_read_anew_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten thousand servers one document changes: that one is compared."""
    looked: list[object] = []

    def meaning(value: object) -> object:
        looked.append(value)
        return value

    one, two = factories.server(name="a"), factories.server(name="b")
    moved = replace(two, source=SourceLine("b.yaml", 99))
    monkeypatch.setattr("reconciler.model.proposals._meaning", meaning)

    assert say_the_same(DesiredState((one, two)), DesiredState((one, two)))
    assert looked == []
    assert not say_the_same(DesiredState((one, two)), DesiredState((one, moved)))
    assert looked == [two, moved]
    monkeypatch.undo()
    assert say_the_same(DesiredState((one, two)), DesiredState((one, moved)))
    assert not say_the_same(DesiredState((one, two)), DesiredState((one,)))
    assert not say_the_same(DesiredState((one, two)), DesiredState((one, replace(two, name="c"))))
