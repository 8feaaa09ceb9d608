"""
`jtr ci` from the branch to what became of the merge: a real repository, a forge on loopback.

The server and OpenBao's audit log say what was done; the forge says what people could read.
"""

from collections.abc import Iterator

import pytest

from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked
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

    def main(self) -> Ran:
        self.repository.git("checkout", "--quiet", "main")
        job = github(self.forge, self.rig.home, "push", self.repository.head())
        return self.rig.jtr("ci", str(self.rig.docs), environment=job)


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
