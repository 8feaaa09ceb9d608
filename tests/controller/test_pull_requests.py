"""What an operator prepared becomes one branch and one pull request, and nothing else."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.controller.pull_requests import Opened
from reconciler.documents.edit_position import RequestBlock
from reconciler.errors import Blocked, JtrError, UsageError
from reconciler.model.values import replace
from reconciler.system.git import GitError
from tests.controller.pull_office import ASK, AT, DOCUMENT, NOW, WISH, Office
from tests.support.forge import ForgeStandIn


@pytest.fixture(params=["github", "gitea", "gitlab"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    with ForgeStandIn() as forge:
        yield Office(tmp_path, forge, request.param)


def test_it_is_one_commit_on_a_new_branch_that_keeps_every_other_byte(office: Office) -> None:
    before = office.branches()
    opened = office.open()
    assert opened.branch.startswith("jtr/reboot-tokyo-1-20261122-093000-")
    after = office.branches()
    assert after.keys() - before.keys() == {opened.branch}
    assert after["main"] == office.revision
    commit = after[opened.branch]
    shown = office.in_hub("show", "--no-patch", "--format=%P%n%an%n%cn%n%B", commit).splitlines()
    assert shown[:3] == [office.revision, "jt-reconciler", "jt-reconciler"]
    message = "\n".join(shown[3:])
    assert message.startswith(
        "Ask for reboot of tokyo-1\n\nstale @cache\n\nAsked for by ann (page)"
    )
    assert office.in_hub("diff", "--name-only", "main", commit).split() == ["servers/tokyo-1.yaml"]
    assert office.in_hub("show", f"{commit}:servers/tokyo-1.yaml") == (
        f"{DOCUMENT}"
        "  reboot:\n"
        '    bootedAfter: "2026-11-22T09:30:00.500Z"\n'
        "    robots: leave\n"
        '    reason: "stale @cache"\n'
    )
    (one,) = office.forge.told.pulls
    assert (one.branch, one.base, one.title) == (opened.branch, "main", "Ask for reboot of tokyo-1")
    assert opened.page == office.forge.page_of(one)
    assert "- Asked for by: `ann (page)`" in one.body
    assert "- Reason: `stale @cache`" in one.body  # as code it calls nobody


def test_preparing_pushes_nothing(office: Office) -> None:
    before, asked = office.branches(), office.forge.told.asked
    found = asyncio.run(office.pulls.prepared(ASK, NOW))
    assert (found.path, found.before) == ("servers/tokyo-1.yaml", DOCUMENT.encode())
    assert (office.branches(), office.forge.told.asked) == (before, asked)


def test_pressed_twice_it_is_one_branch_and_one_pull_request(office: Office) -> None:
    first = office.open()
    once = office.branches()
    assert office.open() == first
    another = office.controller("state-of-another")

    async def together() -> set[Opened]:
        asked = (one.open(ASK, "ann (page)", NOW) for one in (office.pulls, another) * 2)
        return set(await asyncio.gather(*asked))

    assert asyncio.run(together()) == {first}
    assert office.branches() == once
    assert len(office.forge.told.pulls) == 1
    for state in ("closed", "merged"):  # a review that said no is not asked again
        office.forge.told.pulls[0].state = state
        assert office.open() == first
    assert len(office.forge.told.pulls) == 1


def test_two_controllers_at_once_open_one(office: Office) -> None:
    another = office.controller("state-of-another")

    async def together() -> set[Opened]:
        asked = (one.open(ASK, "ann (page)", NOW) for one in (office.pulls, another))
        return set(await asyncio.gather(*asked))

    (opened,) = asyncio.run(together())
    assert office.branches().keys() == {"main", opened.branch}
    assert len(office.forge.told.pulls) == 1


def test_another_reason_is_another_request(office: Office) -> None:
    assert office.open().branch != office.open(replace(WISH, reason="another")).branch
    assert len(office.forge.told.pulls) == 2


def test_a_commit_that_came_into_force_meanwhile_moves_no_branch(office: Office) -> None:
    office.forge.told.shut = True
    with pytest.raises(JtrError):
        office.open()
    once = office.branches()
    (office.repository.work / "README").write_text("more", "utf-8")
    office.revision = office.repository.commit("Go on")
    office.pulls = office.controller("state")
    office.forge.told.shut = False
    opened = office.open()
    assert office.branches() == once | {"main": office.revision}
    assert office.forge.told.pulls[0].branch == opened.branch


def test_a_branch_that_is_there_is_never_moved(office: Office) -> None:
    branch = office.open().branch
    office.forge.told.pulls.clear()
    office.repository.git("checkout", "--quiet", "-B", branch, "main")
    (office.repository.work / "README").write_text("by somebody else", "utf-8")
    theirs = office.repository.commit("Something else")
    assert office.open().branch == branch
    assert office.branches()[branch] == theirs


def test_the_followed_branch_is_never_pushed_to(office: Office) -> None:
    with office.mirror.held():
        made = office.mirror.commit(office.revision, "servers/tokyo-1.yaml", b"x", "Forge it", AT)
        with pytest.raises(GitError, match="ever pushed to the branch that is followed"):
            office.mirror.push(made, "main")
    assert office.branches() == {"main": office.revision}


def test_a_forge_that_is_away_gets_no_branch(office: Office) -> None:
    office.forge.told.down = True
    with pytest.raises(JtrError, match=r"nothing was pushed: the forge's API answered 503"):
        office.open()
    assert office.branches() == {"main": office.revision}


def test_what_a_forge_refuses_is_said_and_mended_by_pressing_again(office: Office) -> None:
    office.forge.told.shut = True
    with pytest.raises(
        JtrError, match=r"the branch \S+ is there, but no pull request of it: .* 403"
    ):
        office.open()
    office.forge.told.shut = False
    opened = office.open()
    assert office.branches().keys() == {"main", opened.branch}
    assert len(office.forge.told.pulls) == 1


def test_an_answer_that_was_lost_opens_no_second_one(office: Office) -> None:
    office.forge.told.forgetful = True
    assert office.open().page
    assert len(office.forge.told.pulls) == 1


def test_a_repository_that_takes_nothing_says_so_in_words(office: Office) -> None:
    office.repository._git(office.repository.hub, "config", "transfer.hideRefs", "refs/heads/jtr")
    with pytest.raises(GitError, match="the repository takes no branch: its rules refuse"):
        office.open()
    assert office.branches() == {"main": office.revision}
    assert office.forge.told.pulls == []


@pytest.mark.parametrize(
    ("wish", "name", "kind", "words"),
    [
        (WISH, "osaka-1", UsageError, "no server is called"),
        (replace(WISH, instant=AT - timedelta(days=30)), "tokyo-1", UsageError, "expired already"),
    ],
    ids=["unknown", "expired"],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_is_pushed(
    office: Office, wish: RequestBlock, name: str, kind: type[JtrError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        asyncio.run(office.pulls.open(replace(ASK, name=name, wish=wish), "ann (page)", NOW))
    assert office.branches() == {"main": office.revision}
    assert office.forge.told.pulls == []


def test_what_is_merged_already_is_not_asked_for_again(office: Office) -> None:
    branch = office.open().branch
    office.in_hub("fetch", "--quiet", "origin", f"{branch}:{branch}")
    office.revision = office.repository.merge(branch)
    office.forge.told.pulls.clear()  # the forge forgot about it
    office.pulls = office.controller("state")
    with pytest.raises(Blocked, match="carries a request"):
        office.open()


def test_before_documents_are_in_force_nothing_is_prepared(office: Office) -> None:
    for revision in ("", "0" * 40):
        office.revision = revision
        with pytest.raises(JtrError, match=r"in force|not in the mirror"):
            office.open()


def test_the_token_is_in_no_words_and_in_no_file(office: Office) -> None:
    token = "a-token-that-may-not-push"
    office.pulls = office.controller("state", token)
    with pytest.raises(JtrError) as caught:
        office.open()
    assert token not in f"{caught.value!r}{caught.value}{caught.value.remedy}"
    for path in office.home.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes()
