"""Git is asked about commits, and whatever a repository holds starts nothing."""

from pathlib import Path

import pytest

from reconciler.errors import UsageError
from reconciler.system.git import GitError, WorkTree
from tests.support.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path)
    repository.commit("Begin")
    return repository


def test_head_and_what_was_merged(repository: Repository) -> None:
    first = repository.head()
    repository.branch("merged")
    merged = repository.commit("Merged")
    repository.branch("open")
    never = repository.commit("Never merged")
    head = repository.merge("merged")
    tree = WorkTree(repository.work)

    assert tree.head() == head
    assert tree.merged([first, merged, never, head, "f" * 40]) == {first, merged, head}
    assert not tree.shallow()


def test_which_repository_it_is_and_what_is_older(repository: Repository) -> None:
    begin = repository.head()
    repository.branch("more")
    more = repository.commit("More")
    repository.git("checkout", "--quiet", "--orphan", "other")
    repository.commit("Another beginning")
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--allow-unrelated-histories", "-m", "Both", "other")
    newest = repository.head()
    tree = WorkTree(repository.work)
    (repository.work / "servers").mkdir()

    assert tree.first() == begin
    assert tree.below(repository.work / "servers" / "..") == "."
    assert tree.below(repository.work / "servers") == "servers"
    assert tree.below(repository.work.parent / "elsewhere") == "../elsewhere"
    assert not tree.older(newest)
    repository.git("checkout", "--quiet", begin)
    assert (tree.older(newest), tree.older(more), tree.older(begin)) == (True, True, False)
    assert not tree.older("f" * 40)


@pytest.mark.parametrize(
    "word", ["HEAD", "main", "--help", "--upload-pack=x", "-", "", "main..HEAD", "a" * 39]
)
def test_a_word_is_no_commit(repository: Repository, word: str) -> None:
    repository.git("update-ref", "refs/heads/--help", repository.head())

    assert WorkTree(repository.work).merged([word]) == set()


def test_what_a_repository_would_start_is_not_started(repository: Repository) -> None:
    ran = repository.work.parent / "ran"
    script = repository.work / ".git" / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n", "utf-8")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "gpg.program"):
        repository.git("config", key, str(script))
    repository.git("config", "core.hooksPath", str(script.parent))
    tree = WorkTree(repository.work)

    assert tree.merged([tree.head()]) == {tree.head()}
    assert not ran.exists()


def test_a_replaced_commit_is_not_believed(repository: Repository) -> None:
    """`git replace` would make any commit an ancestor."""
    first = repository.head()
    repository.branch("open")
    never = repository.commit("Never merged")
    repository.git("checkout", "--quiet", "main")
    fake = repository.git("commit-tree", "-p", never, "-m", "x", "HEAD^{tree}").strip()
    repository.git("replace", first, fake)

    assert WorkTree(repository.work).merged([never]) == set()


def test_a_part_of_the_history_is_said_to_be_one(repository: Repository, tmp_path: Path) -> None:
    first = repository.head()
    repository.commit("Second")
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.hub}", f"{tmp_path}/cut")
    tree = WorkTree(tmp_path / "cut")

    assert tree.shallow()
    assert tree.merged([first]) == set()


def test_without_git_or_a_commit_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Repository(tmp_path)
    with pytest.raises(UsageError, match="nothing was committed"):
        WorkTree(empty.work).head()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(GitError, match="not installed"):
        WorkTree(empty.work).head()
