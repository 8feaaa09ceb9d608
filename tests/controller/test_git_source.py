"""Pull mode: which commit of a real repository comes into force, and which never does."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from reconciler.controller.document_source import Reading
from reconciler.controller.git_source import GitSource
from reconciler.controller.status import Refusal
from reconciler.errors import LedgerError
from reconciler.ledger.revisions import Revisions
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.system import git_mirror
from reconciler.system.git_mirror import Mirror, Remote, Signers
from reconciler.system.timeouts import Timeouts
from tests.support.repository import Repository
from tests.support.signers import GpgSigner, SshSigner, ssh_signer

SERVER = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: {name}}}
spec:
  url: https://{name}.internal:8443
  exchanges: {{bybit: {{credentials: "vault:secret/jt/{name}/bybit"}}}}
"""


class LedgerMemory:
    """What a ledger remembers, and what happens before it takes the next note."""

    def __init__(self) -> None:
        self._revisions = Revisions(MemoryStore())
        self.before_note: list[Callable[[], object]] = []

    def __getitem__(self, branch: str) -> str:
        return self.last(branch)

    def last(self, branch: str) -> str:
        return self._revisions.last(branch)

    def note(self, branch: str, commit: str, *, after: str) -> None:
        if self.before_note:
            self.before_note.pop()()
        self._revisions.note(branch, commit, after=after)


class Away(LedgerMemory):
    """One that answers no more from a certain question on."""

    def __init__(self, behind: LedgerMemory, asked: int) -> None:
        super().__init__()
        self._behind, self._left = behind, asked

    def last(self, branch: str) -> str:
        self._left -= 1
        if self._left <= 0:
            raise LedgerError("the ledger is away", "wait")
        return self._behind.last(branch)


@dataclass
class Team:
    """A repository, the ledger's memory of it, and a controller's source that may begin anew."""

    home: Path
    ledger: LedgerMemory = field(default_factory=LedgerMemory)
    signers: Signers | None = None
    path: str = ""
    branch: str = "main"
    host: str = "state"

    def __post_init__(self) -> None:
        self.repository = Repository(self.home / "forge")
        self.begin()

    def beside(self) -> Self:
        """Return another controller on this ledger, with a disk of its own."""
        other = copy(self)
        other.host = "state-of-another"
        other.begin()
        return other

    def begin(self, *, allow_rollback: bool = False) -> None:
        """Start the controller anew; what is on its disk is still there."""
        remote = Remote(f"file://{self.repository.hub}", self.branch)
        self.source = GitSource(
            Mirror(remote, self.home / self.host / "git" / "mirror", self.signers),
            "here#main",
            self.path,
            Timeouts(),
            verify=self.signers is not None,
            allow_rollback=allow_rollback,
        )
        self.source.remember(self.ledger)

    def write(self, *names: str, folder: str = "servers") -> None:
        """Let exactly these servers stand in the checkout, each in a file."""
        place = self.repository.work / folder
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name in names:
            (place / f"{name}.yaml").write_text(SERVER.format(name=name), "utf-8")

    def push(self, *names: str, message: str = "Change servers") -> str:
        self.write(*names)
        return self.repository.commit(message)

    def look(self) -> Reading:
        """Look at the branch once, as a poll or a webhook makes it do."""
        return self.source._look()


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


Move = Callable[[Team], str]


def names(reading: Reading) -> list[str]:
    assert reading.state is not None
    return [server.name for server in reading.state.servers]


def test_the_newest_commit_is_in_force_and_says_where_it_comes_from(team: Team) -> None:
    commit = team.push("tokyo-1", "tokyo-2", message="Merge pull request #12 from team/tokyo")

    reading = team.look()

    assert (names(reading), reading.trouble) == (["tokyo-1", "tokyo-2"], "")
    assert (reading.revision, reading.attempted) == (commit, commit)
    assert str(reading.origin) == f"{commit[:12]} #12 by Ann <ann@a.test>"
    assert team.ledger["here#main"] == commit
    assert reading.state is not None
    assert reading.state.servers[0].source.file == "servers/tokyo-1.yaml"


def test_a_commit_that_says_the_same_of_every_server_means_the_same(team: Team) -> None:
    team.push("tokyo-1")
    first = team.look()
    team.write("elsewhere", folder="tests/.more")
    team.repository.commit("Say nothing of servers")
    second = team.look()
    team.push("tokyo-1", "tokyo-2")
    third = team.look()

    assert len({one.revision for one in (first, second, third)}) == 3
    assert first.meaning == second.meaning != third.meaning
    assert first.meaning


def test_only_the_path_that_was_named_counts(tmp_path: Path) -> None:
    team = Team(tmp_path, path="servers/prod")
    team.write("elsewhere", folder="tests")
    team.write("hidden", folder="servers/prod/.old")
    team.write("tokyo-1", folder="servers/prod/asia")
    team.repository.commit("Begin")

    assert names(team.look()) == ["tokyo-1"]


def test_a_jtrignore_leaves_out_what_it_leaves_out_of_files(team: Team) -> None:
    team.write("tokyo-1")
    (team.repository.work / ".jtrignore").write_text("charts/\n*.values.yaml\n", "utf-8")
    (team.repository.work / "servers" / ".jtrignore").write_text("/old.yaml\n", "utf-8")
    (team.repository.work / "charts").mkdir()
    for name in ("charts/app.yaml", "servers/x.values.yaml", "servers/old.yaml"):
        (team.repository.work / name).write_text("{{ template }}\n", "utf-8")
    team.repository.commit("Begin")

    assert (names(team.look()), team.look().trouble) == (["tokyo-1"], "")

    (team.repository.work / ".jtrignore").write_text("[a-\n//\n", "utf-8")
    team.repository.commit("Break it")
    assert ".jtrignore:1:1: nobody can tell what this leaves out" in team.look().trouble


def test_links_and_submodules_that_no_directory_would_show_are_no_trouble(tmp_path: Path) -> None:
    """What is hidden or left out holds no documents, wherever it leads; the top may be hidden."""
    team = Team(tmp_path, path=".jt/servers")
    team.write("tokyo-1", folder=".jt/servers")
    top = team.repository.work / ".jt" / "servers"
    (top / ".jtrignore").write_text("/prod/\n/charts/\n/old.yaml\n", "utf-8")
    head = team.push("tokyo-2")
    for name in (".jt/servers/charts", ".jt/servers/.charts"):
        team.repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},{name}")
        (team.repository.work / name).mkdir()
    for name in ("prod", ".prod", "old.yaml"):
        (top / name).symlink_to("../../servers")
    (top / "notes.txt").write_text("none of a document's names", "utf-8")
    (top / "notes").symlink_to("../servers/notes.txt")
    team.repository.commit("Link what is elsewhere")

    assert (names(team.look()), team.look().trouble) == (["tokyo-1"], "")

    (top / ".jtrignore").unlink()
    team.repository.commit("Leave nothing out")
    for name in ("prod", "charts", "old.yaml"):
        assert f".jt/servers/{name}:1:1: this is a " in team.look().trouble
        assert f"/.{name}" not in team.look().trouble
    assert "notes" not in team.look().trouble


# ── what never comes into force ──────────────────────────────────────────────────────────────


def conflict(team: Team) -> None:
    file = team.repository.work / "servers" / "tokyo-1.yaml"
    text = file.read_text("utf-8")
    file.write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> theirs\n", "utf-8")


def link_out(team: Team) -> None:
    (team.repository.work / "servers" / "passwd.yaml").symlink_to("/etc/passwd")


def link_to_a_directory(team: Team) -> None:
    team.write("osaka-1", folder=".shared/prod")
    (team.repository.work / "servers" / "prod").symlink_to("../.shared/prod")


def submodule(team: Team) -> None:
    head = team.repository.head()
    team.repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},servers/more")
    (team.repository.work / "servers" / "more").mkdir()


def large(team: Team) -> None:
    (team.repository.work / "servers" / "large.yaml").write_text("# " * 2**20, "utf-8")


def nothing(team: Team) -> None:
    shutil.rmtree(team.repository.work / "servers")


def half(team: Team) -> None:
    file = team.repository.work / "servers" / "tokyo-1.yaml"
    file.write_text(file.read_text("utf-8")[:-8], "utf-8")


BAD = [
    (conflict, "servers/tokyo-1.yaml:1:1: a merge was left unfinished"),
    (link_out, "servers/passwd.yaml:1:1: this is a link"),
    (link_to_a_directory, "servers/prod:1:1: this is a link"),
    (submodule, "servers/more:1:1: this is a submodule"),
    (large, "servers/large.yaml:1:1: the file is larger than 1 MiB"),
    (nothing, "it holds no document of jtr/v1"),
    (half, "servers/tokyo-1.yaml:6"),
]


@pytest.mark.parametrize(("harm", "word"), BAD, ids=[harm.__name__ for harm, _ in BAD])
def test_a_commit_that_is_no_good_changes_nothing(
    team: Team, harm: Callable[[Team], None], word: str
) -> None:
    good = team.push("tokyo-1")
    assert team.look().trouble == ""
    harm(team)
    bad = team.repository.commit("Harm")

    reading = team.look()

    assert (names(reading), reading.revision, reading.attempted) == (["tokyo-1"], good, bad)
    assert reading.refusal == Refusal.INVALID
    assert f"commit {bad[:12]}: " in reading.trouble
    assert word in reading.trouble
    assert team.ledger["here#main"] == good


def test_strange_names_of_files_are_read_and_shown_safely(team: Team) -> None:
    team.push("tokyo-1")
    strange = [
        "with space",
        "line\nbreak",
        "Ünïcødé 東京",
        "-rf",
        "--upload-pack=touch x",
        'q"uo\te',
    ]
    for number, name in enumerate(strange):
        text = SERVER.format(name=f"odd-{number}")
        (team.repository.work / "servers" / f"{name}.yaml").write_text(text, "utf-8")
    team.repository.commit("Strange")

    assert names(team.look()) == [f"odd-{n}" for n in range(len(strange))] + ["tokyo-1"]

    (team.repository.work / "servers" / "line\nbreak.yaml").write_text("{", "utf-8")
    team.repository.commit("Strange and wrong")
    trouble = team.look().trouble
    assert "servers/line\ufffdbreak.yaml:2:1: this is not valid YAML" in trouble


@pytest.mark.volume
def test_ten_thousand_files_are_read(team: Team) -> None:
    team.push("tokyo-1")
    note = team.home / "note.yaml"
    note.write_text("apiVersion: other/v1\nkind: Note\n", "utf-8")
    blob = team.repository.git("hash-object", "-w", str(note)).strip()
    rows = "".join(f"M 100644 {blob} notes/{n % 100}/{n}.yaml\n" for n in range(10_000))
    stream = team.home / "stream"
    stream.write_text(
        "commit refs/heads/main\ncommitter Ann <ann@a.test> 1790009999 +0000\ndata 3\nTen\n"
        f"from refs/heads/main^0\n{rows}\n",
        "utf-8",
    )
    with stream.open("rb") as given:
        words = ["git", "-C", str(team.repository.work), "fast-import", "--quiet"]
        subprocess.run(words, stdin=given, check=True, timeout=60)
    team.repository.git("push", "--quiet", "origin", "main")

    reading = team.look()

    assert reading.trouble == ""
    assert reading.state is not None
    assert (names(reading), reading.state.skipped) == (["tokyo-1"], 10_000)


def test_a_branch_that_is_gone_changes_nothing(team: Team) -> None:
    good = team.push("tokyo-1")
    team.look()
    team.repository.git("checkout", "--quiet", "-b", "other")
    team.repository.git("push", "--quiet", "origin", "other")
    (team.repository.hub / "refs" / "heads" / "main").unlink()

    reading = team.look()

    assert (names(reading), reading.revision) == (["tokyo-1"], good)
    assert "it has no such branch" in reading.trouble
    assert f"{good[:12]} stays in force" in reading.trouble


def test_a_tag_is_no_branch(tmp_path: Path) -> None:
    team = Team(tmp_path, branch="v1")
    team.push("tokyo-1")
    team.repository.git("tag", "v1")
    team.repository.git("push", "--quiet", "origin", "v1")

    reading = team.look()

    assert reading.state is None
    assert "no such branch (a tag of that name does not count)" in reading.trouble


def test_a_branch_that_leads_to_a_tag_is_refused(team: Team) -> None:
    """No git pushes that; a server of somebody's own can serve it."""
    team.push("tokyo-1")
    team.repository.git("tag", "-a", "-m", "a tag", "v1")
    team.repository.git("push", "--quiet", "origin", "v1")
    tag = team.repository.git("rev-parse", "v1").strip()
    (team.repository.hub / "refs" / "heads" / "main").write_text(f"{tag}\n", "utf-8")

    reading = team.look()

    assert reading.state is None
    assert reading.trouble != ""


MIXED = ("--allow-unrelated-histories",)


# ── history ──────────────────────────────────────────────────────────────────────────────────


def rewrite(team: Team) -> str:
    """Force-push another commit in place of the newest."""
    team.write("osaka-1")
    team.repository.git("add", "--all")
    team.repository.git("commit", "--quiet", "--amend", "-m", "Rewritten")
    team.repository.git("push", "--quiet", "--force", "origin", "HEAD:main")
    return team.repository.head()


def back(team: Team) -> str:
    """Push the commit before the newest as the newest."""
    team.repository.git("push", "--quiet", "--force", "origin", "HEAD~1:main")
    return team.repository.git("rev-parse", "HEAD~1").strip()


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("lost", [False, True], ids=["", "disk-lost"])
@pytest.mark.parametrize("move", [rewrite, back])
def test_a_branch_that_goes_back_is_refused(
    team: Team, move: Move, *, restarted: bool, lost: bool
) -> None:
    team.push("tokyo-1")
    good = team.push("tokyo-1", "tokyo-2")
    team.look()
    moved = move(team)
    if lost:
        shutil.rmtree(team.home / "state")
    if restarted:
        team.begin()

    for _ in range(2):
        reading = team.look()
        assert "the branch went back or was rewritten" in reading.trouble
        assert (reading.attempted, reading.refusal) == (moved, Refusal.WENT_BACK)
        assert team.ledger["here#main"] == good
        if lost and restarted:
            assert reading.state is None
        else:
            assert (names(reading), reading.revision) == (["tokyo-1", "tokyo-2"], good)


def test_one_rollback_can_be_allowed_and_not_the_next(team: Team) -> None:
    team.push("tokyo-1")
    team.push("tokyo-1", "tokyo-2")
    team.look()
    old = back(team)
    team.begin(allow_rollback=True)

    reading = team.look()

    assert (names(reading), reading.revision, reading.trouble) == (["tokyo-1"], old, "")
    team.push("tokyo-1", "tokyo-2", "tokyo-3")
    assert team.look().trouble == ""
    team.repository.git("push", "--quiet", "--force", "origin", f"{old}:main")
    assert "went back" in team.look().trouble


def test_what_was_refused_comes_into_force_once_it_stands_on_what_is(team: Team) -> None:
    good = team.push("tokyo-1")
    team.look()
    rewrite(team)
    assert "went back" in team.look().trouble
    team.repository.git("merge", "--quiet", "-s", "ours", *MIXED, "-m", "Join", good)
    team.repository.git("push", "--quiet", "origin", "HEAD:main")

    assert (names(team.look()), team.look().trouble) == (["osaka-1"], "")


# ── two controllers on one ledger ────────────────────────────────────────────────────────────


def test_no_second_controller_takes_back_what_the_first_put_into_force(team: Team) -> None:
    old = team.push("tokyo-1")
    other = team.beside()
    assert (team.look().revision, other.look().revision) == (old, old)
    new = team.push("tokyo-1", "tokyo-2")
    assert team.look().revision == new
    back(team)

    for one in (other, team):
        reading = one.look()
        assert "the branch went back or was rewritten" in reading.trouble
        assert team.ledger["here#main"] == new
    assert reading.revision == new
    team.begin()
    assert team.look().revision == new


def test_who_cannot_have_what_another_put_into_force_has_nothing_in_force(team: Team) -> None:
    """A standby whose disk is behind would write the old keys back."""
    team.push("tokyo-1")
    other = team.beside()
    other.look()
    new = team.push("tokyo-1", "tokyo-2")
    team.look()
    hub = team.repository.hub
    hub.rename(hub.with_name("away"))

    reading = other.look()

    assert (reading.state, reading.revision) == (None, "")
    assert reading.trouble.endswith(
        "nothing is in force here, and nothing is sent: by the ledger commit "
        f"{new[:12]} is in force, which cannot be had"
    )
    hub.with_name("away").rename(hub)
    assert (names(other.look()), other.look().trouble) == (["tokyo-1", "tokyo-2"], "")


def test_what_another_put_into_force_is_in_force_here_although_the_head_is_bad(team: Team) -> None:
    team.push("tokyo-1")
    other = team.beside()
    other.look()
    new = team.push("tokyo-1", "tokyo-2")
    team.look()
    half(team)
    bad = team.repository.commit("Harm")

    reading = other.look()

    assert (reading.revision, reading.attempted) == (new, bad)
    assert names(reading) == ["tokyo-1", "tokyo-2"]


def test_a_ledger_that_was_restored_takes_nothing_back(team: Team) -> None:
    old = team.push("tokyo-1")
    team.look()
    team.push("tokyo-1", "tokyo-2")
    new = team.look().revision
    team.ledger.note("here#main", old, after=new)
    back(team)

    reading = team.look()

    assert "went back" in reading.trouble
    assert (reading.state, team.ledger["here#main"]) == (None, old)


def test_who_was_quicker_is_heard_before_anything_comes_into_force(team: Team) -> None:
    """Between our look and our note another controller puts a later commit into force."""
    team.push("tokyo-1")
    other = team.beside()
    other.look()
    team.push("tokyo-2")

    def quicker() -> None:
        team.push("tokyo-3")
        team.look()

    team.ledger.before_note.append(quicker)
    reading = other.look()

    assert names(reading) == ["tokyo-3"]
    assert team.ledger["here#main"] == reading.revision == team.repository.head()


# ── away ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_while_the_repository_is_away_the_last_good_revision_stays(
    team: Team, *, restarted: bool
) -> None:
    good = team.push("tokyo-1")
    team.look()
    hub = team.repository.hub
    hub.rename(hub.with_name("away"))
    if restarted:
        team.begin()

    reading = team.look()

    assert (names(reading), reading.revision) == (["tokyo-1"], good)
    assert reading.refusal == Refusal.AWAY
    assert reading.trouble == (
        "the repository cannot be fetched: there is no repository that we may see; check git.url, "
        f"and who may read it; {good[:12]} stays in force"
    )
    hub.with_name("away").rename(hub)
    assert team.look().trouble == ""


def test_git_that_is_missing_is_said(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.push("tokyo-1")
    monkeypatch.setenv("PATH", str(team.home))

    reading = team.look()

    assert reading.state is None
    assert "git is not installed" in reading.trouble


def test_what_a_killed_git_left_behind_is_cleared(team: Team) -> None:
    team.push("tokyo-1")
    team.look()
    lock = team.home / "state" / "git" / "mirror" / "refs" / "jtr" / "seen.lock"
    lock.write_bytes(b"")
    newest = team.push("tokyo-2")

    assert "in disorder" in team.look().trouble
    reading = team.look()

    assert (names(reading), reading.revision, reading.trouble) == (["tokyo-2"], newest, "")


def test_a_repository_that_is_too_large_is_not_taken(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_mirror, "PACK_LIMIT", 64 * 1024)
    team.push("tokyo-1")
    assert team.look().trouble == ""
    noise = bytes(range(256)) * 4
    for number in range(3):
        text = "".join(f"{hash((number, place, noise))}" for place in range(20_000))
        (team.repository.work / f"noise-{number}").write_text(text, "utf-8")
    team.repository.commit("Noise")

    assert "it sends more than" in team.look().trouble
    files = (team.home / "state").rglob("*")
    assert max(file.stat().st_size for file in files if file.is_file()) <= 64 * 1024


def test_nothing_of_the_repository_runs_or_is_checked_out(team: Team) -> None:
    marker = team.home / "ran"
    attributes = "*.yaml filter=evil diff=evil\n"
    (team.repository.work / ".gitattributes").write_text(attributes, "utf-8")
    (team.repository.work / ".gitmodules").write_text(
        f'[submodule "x"]\n\tpath = x\n\turl = file://{team.repository.hub}\n', "utf-8"
    )
    (team.repository.work / ".lfsconfig").write_text(f"[lfs]\n\turl = {marker}\n", "utf-8")
    team.push("tokyo-1")
    for hook in ("post-update", "reference-transaction", "post-checkout"):
        file = team.repository.hub / "hooks" / hook
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\ntouch {marker}\n", "utf-8")
        file.chmod(0o755)

    assert team.look().trouble == ""
    assert not marker.exists()
    assert not list((team.home / "state").rglob("*.yaml"))
    assert not (team.home / "state" / "git" / "mirror" / "hooks").exists()


# ── who signed ───────────────────────────────────────────────────────────────────────────────


@dataclass
class Signed:
    team: Team
    ann: SshSigner
    eve: SshSigner


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """A team whose newest commit, in force, is signed by ann; nobody knows eve."""
    ann, eve = ssh_signer(tmp_path, "ann@a.test"), ssh_signer(tmp_path, "eve@e.test")
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(ann.line, "utf-8")
    team = Team(tmp_path, signers=Signers(ssh_file=str(allowed)))
    team.repository.signing = ann.config
    team.push("tokyo-1")
    reading = team.look()
    assert (reading.trouble, reading.origin.by) == ("", "ann@a.test")
    return Signed(team, ann, eve)


def unsigned(case: Signed) -> None:
    case.team.repository.signing = ()
    case.team.push("osaka-1")


def wrongly_signed(case: Signed) -> None:
    case.team.repository.signing = case.eve.config
    case.team.push("osaka-1")


def authored_by_ann(case: Signed) -> None:
    """Eve signs, and writes into the commit that ann did it."""
    wrongly_signed(case)


def re_authored(case: Signed) -> None:
    """Take ann's signed commit and change who is said to have written it, signature and all."""
    case.team.push("osaka-1")
    git = case.team.repository.git
    raw = git("cat-file", "commit", "HEAD").replace("author Ann <ann@a.test>", "author Eve <e@e>")
    file = case.team.home / "raw"
    file.write_text(raw, "utf-8")
    forged = git("hash-object", "-t", "commit", "-w", str(file)).strip()
    git("push", "--quiet", "--force", "origin", f"{forged}:main")


def other_tree(case: Signed) -> None:
    """Keep ann's signature and put other documents under it."""
    case.team.push("osaka-1")
    git = case.team.repository.git
    tree = git("rev-parse", "HEAD^{tree}").strip()
    case.team.write("stolen-1")
    git("add", "--all")
    other = git("write-tree").strip()
    file = case.team.home / "raw"
    file.write_text(git("cat-file", "commit", "HEAD").replace(tree, other), "utf-8")
    forged = git("hash-object", "-t", "commit", "-w", str(file)).strip()
    git("push", "--quiet", "--force", "origin", f"{forged}:main")


SIGNATURES = [
    (unsigned, "it is not signed"),
    (wrongly_signed, "not among those whose signature counts"),
    (authored_by_ann, "not among those whose signature counts"),
    (re_authored, "its signature does not belong to it"),
    (other_tree, "its signature does not belong to it"),
]


@pytest.mark.parametrize(("harm", "why"), SIGNATURES, ids=[harm.__name__ for harm, _ in SIGNATURES])
def test_only_a_commit_of_a_known_signer_comes_into_force(
    signed: Signed, harm: Callable[[Signed], None], why: str
) -> None:
    harm(signed)

    reading = signed.team.look()

    assert (names(reading), reading.refusal) == (["tokyo-1"], Refusal.UNSIGNED)
    assert why in reading.trouble


def test_the_signer_counts_and_not_the_author(signed: Signed) -> None:
    signed.team.write("osaka-1")
    git = signed.team.repository.git
    git("add", "--all")
    words = [word for one in signed.ann.config for word in ("-c", one)]
    git(*words, "commit", "--quiet", "-S", "--author", "Bob <bob@b.test>", "-m", "For bob")
    git("push", "--quiet", "origin", "HEAD:main")

    reading = signed.team.look()

    assert (names(reading), reading.trouble) == (["osaka-1"], "")
    assert reading.origin.by == "ann@a.test"


def test_only_the_named_ones_of_all_signers_count(signed: Signed) -> None:
    file = signed.team.home / "allowed_signers"
    file.write_text(signed.ann.line + signed.eve.line, "utf-8")
    signed.team.signers = Signers(ssh_file=str(file), names=("ann@a.test",))
    signed.team.begin()
    wrongly_signed(signed)

    reading = signed.team.look()

    assert (names(reading), reading.refusal) == (["tokyo-1"], Refusal.UNSIGNED)
    assert "signed by somebody else" in reading.trouble


def test_who_is_no_signer_any_more_is_not_believed_after_a_restart(signed: Signed) -> None:
    (signed.team.home / "allowed_signers").write_text(signed.eve.line, "utf-8")
    signed.team.begin()

    reading = signed.team.look()

    assert reading.state is None
    assert "not among those" in reading.trouble


@pytest.fixture
def gpg(tmp_path: Path) -> Iterator[tuple[GpgSigner, GpgSigner]]:
    with GpgSigner(tmp_path, "kim@k.test") as one, GpgSigner(tmp_path, "mal@k.test") as other:
        yield one, other


def test_openpgp_signatures_count_by_the_key_and_never_by_its_name(
    tmp_path: Path, gpg: tuple[GpgSigner, GpgSigner]
) -> None:
    one, other = gpg
    ring = tmp_path / "ring.asc"
    ring.write_text(one.public(), "utf-8")
    team = Team(tmp_path, signers=Signers(gpg_file=str(ring)))
    team.repository.signing = one.config
    team.push("tokyo-1")
    reading = team.look()
    assert (names(reading), reading.trouble) == (["tokyo-1"], "")
    assert reading.origin.by == one.fingerprint

    team.repository.signing = other.config
    team.push("osaka-1")
    assert "cannot be judged" in team.look().trouble

    ring.write_text(one.public() + other.public(), "utf-8")
    team.signers = Signers(gpg_file=str(ring), names=(one.fingerprint, "mal@k.test"))
    team.begin()
    assert "signed by somebody else" in team.look().trouble


def test_no_certificate_of_this_host_makes_a_signature_count(
    signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git would ask gpgsm, which believes whom the host believes, not whom the operator named."""
    tools = signed.team.home / "tools"
    tools.mkdir()
    gpgsm = tools / "gpgsm"
    status = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1 ann@a.test\n[GNUPG:] TRUST_ULTIMATE 0 shell\n"
    gpgsm.write_text(f"#!/bin/sh\nprintf '{status}'\n", "utf-8")
    gpgsm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    unsigned(signed)
    git = signed.team.repository.git
    head, _, message = git("cat-file", "commit", "HEAD").partition("\n\n")
    body = "-----BEGIN SIGNED MESSAGE-----\n AAAA\n -----END SIGNED MESSAGE-----"
    file = signed.team.home / "raw"
    file.write_text(f"{head}\ngpgsig {body}\n\n{message}", "utf-8")
    forged = git("hash-object", "-t", "commit", "-w", str(file)).strip()
    git("push", "--quiet", "--force", "origin", f"{forged}:main")

    reading = signed.team.look()

    assert names(reading) == ["tokyo-1"]
    assert "it is not signed" in reading.trouble


# ── waking ───────────────────────────────────────────────────────────────────────────────────


def test_a_poke_makes_it_look_and_nothing_is_told_twice(team: Team) -> None:
    async def story() -> list[str]:
        first = team.push("tokyo-1")
        async with team.source as source:
            told = [(await source.changed()).revision]
            assert told == [first]
            waiting = asyncio.create_task(source.changed())
            source.poke()  # nothing moved: nothing is told
            second = await asyncio.to_thread(team.push, "tokyo-2")
            while not waiting.done():
                source.poke()
                await asyncio.wait([waiting], timeout=0.05)
            told.append((await waiting).revision)
            assert told == [first, second]
        return told

    assert len(asyncio.run(story())) == 2


# ── taking the place of another ──────────────────────────────────────────────────────────────


def confirmed(team: Team) -> Reading | None:
    return asyncio.run(team.source.confirmed())


def test_who_takes_the_place_looks_again_where_the_ledger_says_more(team: Team) -> None:
    old = team.push("tokyo-1")
    other = team.beside()
    first = other.look()
    same = confirmed(other)
    new = team.push("tokyo-1", "tokyo-2")
    team.look()

    reading = confirmed(other)

    assert same is first
    assert reading is not None
    assert (first.revision, reading.revision) == (old, new)
    assert reading.look > first.look


def test_who_takes_the_place_and_cannot_have_the_newest_has_nothing_in_force(team: Team) -> None:
    team.push("tokyo-1")
    other = team.beside()
    other.look()
    team.push("tokyo-1", "tokyo-2")
    team.look()
    hub = team.repository.hub
    hub.rename(hub.with_name("away"))

    reading = confirmed(other)

    assert reading is not None
    assert (reading.state, reading.revision) == (None, "")


@pytest.mark.parametrize("times", [1, 2])
def test_who_cannot_ask_the_ledger_does_not_take_the_place(team: Team, times: int) -> None:
    """Neither at the question itself, nor at the look that follows it."""
    team.push("tokyo-1")
    other = team.beside()
    other.look()
    team.push("tokyo-1", "tokyo-2")
    team.look()
    other.source.remember(Away(team.ledger, times))

    with pytest.raises(LedgerError):
        confirmed(other)


def test_before_the_first_look_there_is_nothing_to_confirm(team: Team) -> None:
    team.push("tokyo-1")

    assert confirmed(team) is None
