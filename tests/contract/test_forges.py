"""Every forge opens a pull request once, and finds it again, as its API is documented."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from reconciler.ci.forges import Draft, Forge, forge
from reconciler.ci.http import Api, ForgeAway, Refused
from reconciler.ci.job import Event, Job, System
from reconciler.model.secret import Secret
from tests.support.forge import NUMBER, PROJECT, PULL_TOKEN, ForgeStandIn, Pull

DRAFT = Draft("jtr/reboot-tokyo-1", "main", "Ask for a reboot", "Why: `stale`")
Story = Callable[[Forge, Job], Awaitable[None]]


@pytest.fixture
def stand_in() -> Iterator[ForgeStandIn]:
    with ForgeStandIn() as found:
        yield found


@pytest.fixture(params=[System.GITHUB, System.GITEA, System.GITLAB], ids=lambda one: one.name)
def system(request: pytest.FixtureRequest) -> System:
    found: System = request.param
    return found


def told(stand_in: ForgeStandIn, system: System, story: Story, token: str = PULL_TOKEN) -> None:
    """Tell *story* of the forge of a system at its stand-in."""
    gitlab = system is System.GITLAB
    api = {System.GITHUB: stand_in.api, System.GITEA: stand_in.forgejo}
    address = api.get(system, stand_in.gitlab)
    job = Job(system, Event.MAIN, project=NUMBER if gitlab else PROJECT, api=address)

    async def work() -> None:
        header = "PRIVATE-TOKEN" if gitlab else "Authorization"
        async with Api(job.api, Secret(token), header) as http:
            await story(forge(system, http), job)

    asyncio.run(work())


def test_one_is_opened_and_found_again_whatever_became_of_it(
    stand_in: ForgeStandIn, system: System
) -> None:
    async def story(there: Forge, job: Job) -> None:
        assert await there.pull(job, DRAFT.branch, DRAFT.base) is None
        page = await there.open_pull(job, DRAFT)
        (one,) = stand_in.told.pulls
        assert (one.branch, one.base, one.title, one.body) == (
            DRAFT.branch,
            DRAFT.base,
            DRAFT.title,
            DRAFT.body,
        )
        assert page == stand_in.page_of(one)
        for state in ("open", "closed", "merged"):
            one.state = state
            assert await there.pull(job, DRAFT.branch, DRAFT.base) == page
        one.state = "open"
        with pytest.raises(Refused):
            await there.open_pull(job, DRAFT)
        assert len(stand_in.told.pulls) == 1

    told(stand_in, system, story)


def test_another_branch_base_or_repository_is_another_one(
    stand_in: ForgeStandIn, system: System
) -> None:
    branch, base = DRAFT.branch, DRAFT.base
    stand_in.told.pulls += [
        Pull("other", base, "", ""),
        Pull(branch, "release", "", ""),
        Pull(branch, base, "", "", repository="mallory/servers"),
        *(Pull(f"branch-{n}", base, "", "") for n in range(120)),  # more than one page
    ]

    async def story(there: Forge, job: Job) -> None:
        assert await there.pull(job, branch, base) is None
        stand_in.told.pulls.insert(0, ours := Pull(branch, base, "", ""))
        assert await there.pull(job, branch, base) == stand_in.page_of(ours)

    told(stand_in, system, story)


def test_an_answer_that_leads_nowhere_leads_nobody_there(
    stand_in: ForgeStandIn, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "page_of", lambda _: "javascript:alert(1)")

    async def story(there: Forge, job: Job) -> None:
        assert await there.open_pull(job, DRAFT) == ""
        assert await there.pull(job, DRAFT.branch, DRAFT.base) == ""

    told(stand_in, system, story)


def test_a_token_that_may_not_is_refused_and_in_no_words(
    stand_in: ForgeStandIn, system: System
) -> None:
    async def story(there: Forge, job: Job) -> None:
        for ask in (there.pull(job, DRAFT.branch, DRAFT.base), there.open_pull(job, DRAFT)):
            with pytest.raises(ForgeAway) as caught:
                await ask
            assert "401" in str(caught.value)
            assert "another-token" not in str(caught.value)

    told(stand_in, system, story, token="another-token-of-somebody")
    assert stand_in.told.pulls == []


@pytest.mark.parametrize(
    "path",
    [
        f"/repos/{PROJECT}/issues/../../../user/keys?title=x&key=y&z=/comments",
        f"/repos/{PROJECT}/issues/%2e%2e/%2e%2e/x",
        f"/repos/{PROJECT}/issues/./1",
        "/user/keys?title=x",
        "/user#x",
        "/user%2Fkeys",
        "//user",
        "/user/",
        "/us\\er",
        "/us\ner",
        "/üser",
        "user",
        "@user.test/x",
        "",
    ],
)
def test_a_path_that_would_be_another_one_is_not_asked(stand_in: ForgeStandIn, path: str) -> None:
    async def story(_: Forge, job: Job) -> None:
        async with Api(job.api, Secret(PULL_TOKEN), "Authorization") as http:
            with pytest.raises(ForgeAway, match="another path"):
                await http.get(path)
            with pytest.raises(ForgeAway, match="another path"):
                await http.send("POST", path, {})

    told(stand_in, System.GITHUB, story)
    assert stand_in.told.paths == []
