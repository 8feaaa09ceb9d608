"""
`jtr ci` from the branch to what became of the merge: a real repository, a forge on loopback.

The server and OpenBao's audit log say what was done; the forge says what people could read.
"""

from collections.abc import Iterator

import pytest

from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked
from tests.e2e.pausing import go_on, pause
from tests.support.forge import STRANGER, US, ForgeStandIn, github, gitlab
from tests.support.repository import Repository
from tests.support.rig import Ran, Rig

pytestmark = pytest.mark.usefixtures("bao")


@pytest.fixture
def forge() -> Iterator[ForgeStandIn]:
    with ForgeStandIn() as forge:
        yield forge


class Team:
    """A team whose documents lie in a repository, with a job for each event."""

    def __init__(self, rig: Rig, forge: ForgeStandIn) -> None:
        self.rig, self.forge = rig, forge
        self.repository = Repository(rig.home)
        rig.docs = self.repository.work / "servers"
        rig.docs.mkdir()

    def begin(self, *exchanges: str) -> None:
        self.rig.server()
        self.rig.document("tokyo-1", *exchanges)
        self.repository.commit("Begin")
        self.rig.begin()
        assert self.rig.apply().code == 0

    def branch(self, name: str, *exchanges: str) -> None:
        """Push a branch whose document has these exchanges; new ones get credentials."""
        self.repository.branch(name)
        self.rig.document("tokyo-1", *exchanges, rotate=False)
        self.repository.commit(f"Change: {name}")

    def pull_request(self, number: int, branch: str, *args: str) -> Ran:
        self.repository.git("checkout", "--quiet", branch)
        commit = self.repository.head()
        job = github(
            self.forge, self.rig.home, "pull_request", commit, number=number, branch=branch
        )
        return self.rig.jtr("ci", str(self.rig.docs), *args, environment=job)

    def main(self, commit: str = "main", *, event: str = "push") -> Ran:
        """The job of the main branch, or the one of an older *commit* of it once more."""
        self.repository.git("checkout", "--quiet", commit)
        job = github(self.forge, self.rig.home, event, self.repository.head())
        return self.rig.jtr("ci", str(self.rig.docs), environment=job)

    def pinned(self, number: int, version: int) -> None:
        """A pull request that pins bybit's secret to a version, and its job."""
        self.repository.branch(f"pin-{number}")
        path = self.rig.document("tokyo-1", "bybit", rotate=False)
        credentials = self.rig.reference("tokyo-1/bybit")
        text = path.read_text("utf-8").replace(credentials, f"{credentials}@{version}")
        path.write_text(text, "utf-8")
        self.repository.commit(f"Pin version {version}")
        ran = self.pull_request(number, f"pin-{number}")
        assert ran.code == 0, ran.text


def title(text: str) -> str:
    return text.split("\n")[1]


def test_the_story_of_three_pull_requests(  # noqa: PLR0915  - one story, told in its order
    rig: Rig, bao: OpenBao, forge: ForgeStandIn
) -> None:
    team, told = Team(rig, forge), forge.told
    team.begin("bybit", "okx")
    server = rig.servers["tokyo-1"].record
    saves, greeted = server.saves, len(server.handshakes)
    spoof = forge.say("1", STRANGER, "<!-- jtr ci -->\nall is well")

    # A branch, its comment, a secret that is rotated in between, and the comment after that.
    rig.rotate(exchange="kucoin")
    team.branch("more", "bybit", "okx", "kucoin")
    with asked(bao, rig) as paths:
        first = team.pull_request(1, "more")
        again = team.pull_request(1, "more")
    (comment,) = (one for one in told.comments if one.author == US)
    before, edits = comment.body, comment.edits
    rig.rotate(exchange="okx")
    review = team.pull_request(1, "more")

    assert (first.code, again.code, review.code) == (0, 0, 0), first.text + review.text
    assert len(server.handshakes) == greeted
    assert not [path for path in paths if path.startswith("secret/data/")]
    assert "kucoin" in before
    assert edits <= 1
    assert comment.body != before
    assert spoof.body.endswith("all is well")
    assert "::notice file=" in first.out

    # The merge does exactly that, says so in the same comment, and does nothing the second time.
    team.repository.merge("more")
    applied = team.main()
    after = comment.body
    twice = team.main()

    assert (applied.code, twice.code) == (0, 0), applied.text + twice.text
    assert server.saves == saves + 2
    assert "jtr apply: applied, 20" in title(after)
    assert comment.body == after
    assert [one[1:3] for one in told.statuses] == [("success", "jtr")] * 2
    assert told.statuses[0][0] == team.repository.head()
    assert f" done ({team.repository.head()[:12]} #1 by bob)" in rig.jtr("history").out

    # A second one, made stale by a rotation that nobody saw: refused, with the line that moved.
    rig.rotate(exchange="gateio")
    team.branch("gate", "bybit", "okx", "kucoin", "gateio")
    assert team.pull_request(2, "gate").code == 0
    rig.rotate(exchange="bybit")
    team.repository.merge("gate")
    refused = team.main()
    stale = told.comments[-1]

    assert refused.code == 4
    assert f"+ tokyo-1: write bybit from {rig.reference('tokyo-1/bybit')}@2" in refused.err
    assert "gateio" not in refused.err
    assert server.saves == saves + 2
    assert "jtr apply: refused, 20" in title(stale.body)
    assert told.statuses[-1][1] == "failure"

    # Reverted, seen anew and merged: what was done is not repeated, what was refused is not done.
    team.repository.branch("revert")
    team.repository.git("revert", "--no-edit", "-m", "1", "HEAD")
    team.repository.git("push", "--quiet", "--set-upstream", "origin", "HEAD")
    assert team.pull_request(3, "revert").code == 0
    team.repository.merge("revert")
    reverted = team.main()

    assert reverted.code == 0, reverted.text
    written = [names[0].partition("_")[0] for _, _, *names in server.history]
    assert sorted(written) == ["bybit", "bybit", "kucoin", "okx", "okx"]
    assert told.refused == 0
    assert len([one for one in told.comments if one.author == US]) == 3


def test_a_merge_queue_of_three(rig: Rig, bao: OpenBao, forge: ForgeStandIn) -> None:
    """Each group holds those before it; the last one is merged, and one job does what all want."""
    team, names = Team(rig, forge), ("tokyo-1", "tokyo-2", "tokyo-3")
    for name in names:
        rig.server(name)
        rig.document(name, "bybit")
    main = team.repository.commit("Begin")
    rig.begin()
    assert rig.apply().code == 0
    for number, name in enumerate(names, 1):
        rig.rotate(name, "okx")
        team.repository.branch(name)
        rig.document(name, "bybit", "okx", rotate=False)
        team.repository.commit(f"More on {name}")
        assert team.pull_request(number, name).code == 0
    greeted = {name: len(server.record.handshakes) for name, server in rig.servers.items()}
    comments = [one.body for one in forge.told.comments]

    team.repository.branch("queue")
    with asked(bao, rig) as paths:
        for number, name in enumerate(names, 1):
            team.repository.git("merge", "--quiet", "--no-ff", "-m", f"Merge {name}", name)
            head = team.repository.head()
            job = github(forge, rig.home, "merge_group", head, number=number, base=main)
            queued = rig.jtr("ci", str(rig.docs), environment=job)
            assert queued.code == 0, queued.text
            assert f"proposed for #{number} at {head[:12]}" in queued.err
    assert not [path for path in paths if path.startswith("secret/data/")]
    assert {name: len(one.record.handshakes) for name, one in rig.servers.items()} == greeted
    assert [one.body for one in forge.told.comments] == comments

    team.repository.git("checkout", "--quiet", "main")
    team.repository.git("merge", "--quiet", "--ff-only", "queue")
    team.repository.git("push", "--quiet", "origin", "main")
    applied = team.main()
    twice = team.main()

    assert (applied.code, twice.code) == (0, 0), applied.text + twice.text
    assert [server.record.saves for server in rig.servers.values()] == [2, 2, 2]
    told = {one.pull: (title(one.body), one.edits) for one in forge.told.comments}
    assert set(told) == {"1", "2", "3"}
    assert all("jtr apply: applied, 20" in words for words, _ in told.values())
    assert {edits for _, edits in told.values()} == {1}
    assert forge.told.refused == 0


def test_a_fork_is_validated_and_nobody_is_asked(
    rig: Rig, bao: OpenBao, forge: ForgeStandIn
) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    team.branch("theirs", "bybit", "okx")
    greeted = len(rig.servers["tokyo-1"].record.handshakes)
    job = github(
        *(forge, rig.home, "pull_request", team.repository.head()),
        number=5,
        branch="theirs",
        head="mallory/servers",
    )

    with asked(bao, rig) as paths:
        ran = rig.jtr("ci", str(rig.docs), environment=job)

    assert ran.code == 0, ran.text
    assert "a fork gets no login" in ran.err
    assert paths == []
    assert forge.told.asked == 0
    assert len(rig.servers["tokyo-1"].record.handshakes) == greeted


def test_a_mistake_is_told_at_its_line(rig: Rig, forge: ForgeStandIn) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    team.repository.branch("wrong")
    rig.write("b,1.yaml", "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {name: '%0A::x'}\n")
    team.repository.commit("Break it")

    ran = team.pull_request(6, "wrong", "--out", str(rig.home / "out"))

    assert ran.code == 3
    row = next(row for row in ran.out.splitlines() if row.startswith("::error"))
    assert "b%2C1.yaml,line=" in row
    assert "::x" not in row.replace("%0A::x", "").replace("%250A::x", "")
    assert "not valid" in forge.told.comments[-1].body
    assert sorted(path.name for path in (rig.home / "out").iterdir()) == [
        *("code-quality.json", "comment.md", "jtr.sarif", "junit.xml"),
    ]


def test_a_forge_that_is_down_changes_no_verdict(rig: Rig, forge: ForgeStandIn) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    team.branch("more", "bybit")
    forge.told.down = True

    ran = team.pull_request(7, "more")

    assert ran.code == 0, ran.text
    assert "the forge's API answered 503" in ran.err
    assert forge.told.comments == []


def test_gitlab_is_told_in_its_own_way(rig: Rig, forge: ForgeStandIn) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    rig.rotate(exchange="okx")
    team.branch("more", "bybit", "okx")
    commit = team.repository.head()
    merge = {"number": "9", "branch": "more"}
    args = ("ci", str(rig.docs))

    first = rig.jtr(*args, environment=gitlab(forge, "merge_request_event", commit, **merge))
    head = team.repository.merge("more")
    applied = rig.jtr(*args, environment=gitlab(forge, "push", head))

    assert (first.code, applied.code) == (0, 0), first.text + applied.text
    (comment,) = forge.told.comments
    assert comment.pull == "9"
    assert "jtr apply: applied, 20" in title(comment.body)
    assert [one[:2] for one in forge.told.statuses] == [(head, "success")]


def test_a_link_in_the_checkout_leads_no_file_elsewhere(
    rig: Rig, forge: ForgeStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    team.branch("links", "bybit")
    theirs = rig.home / "theirs"
    theirs.mkdir()
    kept = theirs / "kept"
    kept.write_text("kept", "utf-8")
    out = team.repository.work / "out"
    out.mkdir()
    (out / "comment.md").symlink_to(kept)
    (team.repository.work / "away").symlink_to(theirs)
    monkeypatch.chdir(team.repository.work)

    written = team.pull_request(8, "links", "--out", "out")
    refused = team.pull_request(8, "links", "--out", "away")

    assert written.code == 0, written.text
    assert not (out / "comment.md").is_symlink()
    assert "plan.json" in {path.name for path in out.iterdir()}
    assert refused.code == 64
    assert [path.name for path in theirs.iterdir()] == ["kept"]
    assert kept.read_text("utf-8") == "kept"


def test_where_no_ci_system_says_what_for_an_option_does(rig: Rig, forge: ForgeStandIn) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    rig.rotate(exchange="okx")
    team.branch("more", "bybit", "okx")
    args = ("ci", str(rig.docs))
    nowhere = {"GITHUB_ACTIONS": "", "GITHUB_TOKEN": ""}

    unsaid = rig.jtr(*args, environment=nowhere)
    shown = rig.jtr(*args, "--event", "pull-request", environment=nowhere)
    saves = rig.servers["tokyo-1"].record.saves
    team.repository.merge("more")
    applied = rig.jtr(*args, "--event", "main", environment=nowhere)

    assert (unsaid.code, shown.code, applied.code) == (0, 0, 0), shown.text + applied.text
    assert "that is all" in unsaid.err
    assert f"at {team.repository.git('rev-parse', 'more')[:12]}" in shown.err
    assert rig.servers["tokyo-1"].record.saves == saves + 1
    assert forge.told.asked == 0


def test_a_timer_applies_what_was_merged(rig: Rig, forge: ForgeStandIn) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    rig.rotate(exchange="okx")
    team.branch("more", "bybit", "okx")
    assert team.pull_request(1, "more").code == 0
    team.repository.merge("more")
    saves = rig.servers["tokyo-1"].record.saves

    ran = team.main(event="schedule")

    assert ran.code == 0, ran.text
    assert rig.servers["tokyo-1"].record.saves == saves + 1
    assert [one[1] for one in forge.told.statuses] == ["success"]


def test_a_job_that_may_be_of_the_main_branch_does_not_end_well_with_nothing_done(
    rig: Rig, forge: ForgeStandIn
) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    rig.rotate(exchange="okx")
    team.branch("more", "bybit", "okx")
    assert team.pull_request(1, "more").code == 0
    head = team.repository.merge("more")
    saves = rig.servers["tokyo-1"].record.saves
    job = github(forge, rig.home, "push", head) | {"GITHUB_EVENT_PATH": ""}
    words = ("ci", str(rig.docs))

    unsaid = rig.jtr(*words, environment=job)
    said = rig.jtr(*words, "--event", "main", environment=job)

    assert (unsaid.code, said.code) == (64, 0), unsaid.text + said.text
    assert "--event main" in unsaid.err
    assert rig.servers["tokyo-1"].record.saves == saves + 1


def test_names_of_files_break_neither_a_line_nor_the_comment(rig: Rig, forge: ForgeStandIn) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    team.repository.branch("names")
    text = "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {name: x}\n<<<<<<< ours\n"
    names = ["with space.yaml", "line\n::error::break.yaml", "Ünï 東京 @ops <b>.yaml"]
    for name in names:
        rig.write(name, text)
    team.repository.commit("Strange")

    ran = team.pull_request(9, "names")

    assert ran.code == 3
    rows = [row for row in ran.out.splitlines() if row.startswith("::error")]
    assert len(rows) == len(names)
    assert all(row.startswith("::error file=") for row in rows)
    assert "Ünï 東京 @ops <b>.yaml" in "".join(rows)
    body = forge.told.comments[-1].body
    assert body.count("a merge was left unfinished") == len(names)
    # All of it stands in one block of code, where nobody is called and nothing is markup.
    block = body.split("```")[1]
    assert "@ops <b>" in block
    assert "@ops" not in body.replace(block, "")
    assert not any(line.startswith("::error") for line in body.splitlines())


@pytest.mark.parametrize("began", [True, False], ids=["stopped halfway", "cancelled"])
def test_the_job_of_an_older_commit_puts_nothing_back(
    rig: Rig, forge: ForgeStandIn, *, began: bool
) -> None:
    """Squashed, so nobody's ancestor: its proposal stays open when a later one is applied."""
    team = Team(rig, forge)
    team.begin("bybit")
    server = rig.servers["tokyo-1"]
    rig.rotate(exchange="bybit")
    newest = rig.rotate(exchange="bybit")["apiKey"]
    team.pinned(1, 2)
    older = team.repository.squash("pin-1")
    if began:
        server.behaviour.read = "unknown-answer"
        assert team.main().code not in (0, 4)
        server.behaviour.read = "answer"
    team.pinned(2, 3)
    team.repository.squash("pin-2")
    applied = team.main()
    greeted, saves = len(server.record.handshakes), server.record.saves

    again = team.main(older)

    assert applied.code == 0, applied.text
    assert again.code == 4, again.text
    assert "is older than" in again.err
    assert "revert" in again.err
    assert (len(server.record.handshakes), server.record.saves) == (greeted, saves)
    assert server.values()["bybit_api_key"] == newest
    assert forge.told.statuses[-1][1] == "failure"

    # Back to it by a new commit is another matter: reviewers see it.
    team.pinned(3, 2)
    team.repository.squash("pin-3")
    reverted = team.main()

    assert reverted.code == 0, reverted.text
    assert server.record.saves == saves + 1


def test_a_checkout_without_what_was_applied_last_cannot_tell_and_refuses(
    rig: Rig, forge: ForgeStandIn
) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    rig.rotate(exchange="bybit")
    team.pinned(1, 1)
    older = team.repository.squash("pin-1")
    team.pinned(2, 2)
    team.repository.squash("pin-2")
    assert team.main().code == 0
    saves = rig.servers["tokyo-1"].record.saves
    alone = rig.home / "alone"
    team.repository.git("init", "--quiet", str(alone))
    fetch = ("fetch", "--quiet", "--depth", "1", str(team.repository.hub), older)
    for words in (fetch, ("checkout", "--quiet", older)):
        team.repository.git("-C", str(alone), *words)

    shallow = rig.jtr(
        "ci", str(alone / "servers"), environment=github(forge, rig.home, "push", older)
    )
    team.repository.git(
        "-C", str(alone), *fetch[:2], "--unshallow", str(team.repository.hub), older
    )
    whole = rig.jtr(
        "ci", str(alone / "servers"), environment=github(forge, rig.home, "push", older)
    )

    assert (shallow.code, whole.code) == (4, 4), shallow.text + whole.text
    assert "fetch the whole history" in shallow.err
    assert "does not come after" in whole.err
    assert rig.servers["tokyo-1"].record.saves == saves


@pytest.mark.parametrize("squashed", [False, True])
def test_who_asked_for_it_is_told_and_nobody_else(
    rig: Rig, forge: ForgeStandIn, *, squashed: bool
) -> None:
    """It waits; meanwhile a pull request that touches no document means the very same."""
    team, told = Team(rig, forge), forge.told
    team.begin("bybit")
    server = rig.servers["tokyo-1"]
    rig.rotate(exchange="okx")
    team.branch("asks", "bybit", "okx")
    assert team.pull_request(1, "asks").code == 0
    (team.repository.squash if squashed else team.repository.merge)("asks")
    pause(rig, server)
    assert team.main().code == 0
    go_on(rig, server)
    team.repository.branch("readme")
    (team.repository.work / "README.md").write_text("Servers.\n", "utf-8")
    team.repository.commit("Explain it")
    assert team.pull_request(2, "readme").code == 0
    theirs = next(one for one in told.comments if one.pull == "2").body
    saves = server.record.saves

    done = team.main()

    assert done.code == 0, done.text
    assert server.record.saves == saves + 1
    comments = {one.pull: one.body for one in told.comments}
    assert "jtr apply: applied, 20" in title(comments["1"])
    assert "Applied: 1 done" in comments["1"]
    assert comments["2"] == theirs
    history = rig.jtr("history").out
    assert "#1 by bob)" in history
    assert "#2" not in history


def test_everybody_whose_change_was_applied_is_told(rig: Rig, forge: ForgeStandIn) -> None:
    """Two merges, and one job for both: forges keep only the newest that waits."""
    team, told = Team(rig, forge), forge.told
    team.begin("bybit")
    rig.rotate(exchange="okx")
    rig.rotate(exchange="kucoin")
    team.branch("one", "bybit", "okx")
    assert team.pull_request(1, "one").code == 0
    team.repository.branch("two")
    team.repository.git("merge", "--quiet", "one")
    team.rig.document("tokyo-1", "bybit", "okx", "kucoin", rotate=False)
    team.repository.commit("Change: two")
    assert team.pull_request(2, "two").code == 0
    for name in ("one", "two"):
        team.repository.merge(name)

    done = team.main()

    assert done.code == 0, done.text
    titles = {one.pull: title(one.body) for one in told.comments}
    assert {pull: "jtr apply: applied, 20" in text for pull, text in titles.items()} == {
        "1": True,
        "2": True,
    }
    assert len(told.statuses) == 1
