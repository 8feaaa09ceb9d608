"""What was put into force last, of branches and of folders: nothing of it is ever forgotten."""

import pytest

from reconciler.ledger import Conflict
from reconciler.ledger.codec.records import read_any, write
from reconciler.ledger.codec.rows import REVISIONS, FollowedBranch, RevisionsRow
from reconciler.ledger.revisions import Revisions, tidy
from reconciler.ledger.stores.memory import MemoryStore

REPOSITORY = "f" * 40
ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
BRANCH = "https://forge.test/x.git#main"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def revisions(store: MemoryStore) -> Revisions:
    return Revisions(store)


def apply(revisions: Revisions, commit: str, *folders: str, after: str = "") -> None:
    """Let a job of *commit* begin that was judged while *after* was applied."""
    revisions.apply(REPOSITORY, folders, commit, after={after} - {""})


def applied(revisions: Revisions, *folders: str) -> set[str]:
    """The commits that a job of these folders must come after."""
    return set(revisions.applied(REPOSITORY, folders))


def former(store: MemoryStore, *entries: tuple[str, str]) -> None:
    """Write what an earlier version kept: one row of all."""
    row = RevisionsRow(tuple(FollowedBranch(*one) for one in entries))
    store.put(REVISIONS, write(row), expect=0)


# ── nothing makes room for anything ──────────────────────────────────────────────────────────


def test_after_hundreds_of_others_the_first_is_still_known(revisions: Revisions) -> None:
    """After fifty others the guard of the first was silently gone."""
    for number in range(300):
        revisions.note(f"{BRANCH}{number}", ONE, after="")
        apply(revisions, ONE, f"desk{number}")

    assert all(revisions.last(f"{BRANCH}{number}") == ONE for number in range(300))
    assert all(applied(revisions, f"desk{number}") == {ONE} for number in range(300))


def test_branches_and_repositories_do_not_know_one_another(revisions: Revisions) -> None:
    revisions.note(BRANCH, ONE, after="")
    apply(revisions, TWO, "desks")

    assert (revisions.last(BRANCH), revisions.last(f"{BRANCH}2")) == (ONE, "")
    assert revisions.applied("e" * 40, ["desks"]) == frozenset()


def test_its_rows_lie_where_they_belong(store: MemoryStore, revisions: Revisions) -> None:
    revisions.note(BRANCH, ONE, after="")
    apply(revisions, ONE, "desks")

    keys = store.keys("")
    assert len(keys) == 2
    for key in keys:
        stored = store.get(key)
        assert stored is not None
        assert isinstance(read_any(key, stored.text), RevisionsRow)
    with pytest.raises(Exception, match="another branch"):
        read_any("revisions/other", write(RevisionsRow((FollowedBranch(BRANCH, ONE),))))


# ── folders, however they are named ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        (["desks"], ("desks",)),
        (["./desks/"], ("desks",)),
        (["b", "a", "b/"], ("a", "b")),
        (["desks/a", "desks", "desks//b/."], ("desks",)),
        (["desks", "desks-2"], ("desks", "desks-2")),
        (["."], (".",)),
        (["./", "desks"], (".",)),
        ([], ()),
    ],
)
def test_a_folder_is_one_however_it_is_spelled(
    spelled: list[str], expected: tuple[str, ...]
) -> None:
    assert tidy(spelled) == expected


@pytest.mark.parametrize(
    ("first", "then", "same"),
    [
        (["desks"], ["./desks/"], True),
        (["desks"], ["desks/a", "desks/b"], True),
        (["desks/a", "desks/b"], ["desks"], True),
        (["desks"], ["."], True),
        (["desks/a"], ["desks/b"], False),
        (["desks"], ["desks-2"], False),
        (["my desks"], ["my desks"], True),
    ],
)
def test_a_job_comes_after_whatever_was_applied_of_its_documents(
    revisions: Revisions, first: list[str], then: list[str], *, same: bool
) -> None:
    apply(revisions, ONE, *first)

    assert applied(revisions, *then) == ({ONE} if same else set())
    if same:
        with pytest.raises(Conflict):
            apply(revisions, TWO, *then)


def test_a_part_that_is_newer_is_known_beside_the_whole_until_that_is_applied(
    store: MemoryStore, revisions: Revisions
) -> None:
    apply(revisions, ONE, "desks", "my desks")
    apply(revisions, TWO, "desks/a", after=ONE)

    assert applied(revisions, "desks") == {ONE, TWO}
    assert applied(revisions, "desks/b") == {ONE}
    revisions.apply(REPOSITORY, ["desks", "my desks"], THREE, after={ONE, TWO})
    assert applied(revisions, ".") == {THREE}
    (row,) = (read_any(key, stored.text) for key in store.keys("") if (stored := store.get(key)))
    assert isinstance(row, RevisionsRow)
    assert len(row.branches) == 2


# ── whoever is quicker ───────────────────────────────────────────────────────────────────────


def test_who_was_judged_before_another_was_applied_does_not_begin(revisions: Revisions) -> None:
    """Also the job that is run again of the commit that was in force when it was judged."""
    apply(revisions, ONE, "desks")
    apply(revisions, TWO, "desks", after=ONE)

    for late in (ONE, THREE):
        with pytest.raises(Conflict):
            apply(revisions, late, "desks", after=ONE)
    assert applied(revisions, "desks") == {TWO}


def test_a_job_may_begin_twice(store: MemoryStore, revisions: Revisions) -> None:
    apply(revisions, ONE, "desks")
    written = store.sequence()

    apply(revisions, ONE, "desks")
    apply(revisions, ONE, "desks", after=ONE)

    assert store.sequence() == written


# ── what an earlier version wrote ────────────────────────────────────────────────────────────


def test_what_an_earlier_version_noted_counts_until_it_is_noted_anew(
    store: MemoryStore, revisions: Revisions
) -> None:
    jobs = f"applied {REPOSITORY}:"
    former(store, (BRANCH, ONE), (f"{jobs}desks", ONE), (f"{jobs}desks/a desks/b", TWO))

    assert revisions.last(BRANCH) == ONE
    assert applied(revisions, "desks/a") == {ONE, TWO}
    assert applied(revisions, "desks/c") == {ONE}
    with pytest.raises(Conflict):
        revisions.note(BRANCH, TWO, after="")
    revisions.note(BRANCH, TWO, after=ONE)
    revisions.apply(REPOSITORY, ["desks/c"], TWO, after={ONE})

    assert revisions.last(BRANCH) == TWO
    assert applied(revisions, "desks/a") == {ONE, TWO}  # carried over, not lost
    assert applied(revisions, "desks/c") == {ONE, TWO}
