"""Where a document stands for a policy: from the root of its tree, and no link changes that."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.documents.load import load

TEXT = """
apiVersion: jtr/v1
kind: TradingServer
metadata: {name: tokyo-1}
spec: {url: "https://tokyo-1.internal", exchanges: {bybit: {state: absent}}}
"""


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT, "utf-8")
    return path


def place(*named: Path, tree: Path | None = None) -> str:
    """The place of the only document below what was named."""
    state = load([str(one) for one in named], tree=None if tree is None else str(tree)).state
    (server,) = state.servers
    return server.place


def in_a_work_tree(top: Path) -> str:
    (top / ".git").mkdir()
    put(top / "servers" / "asia" / "a.yaml")
    return place(top / "servers")


def in_a_work_tree_of_git_worktree(top: Path) -> str:
    (top / ".git").write_text("gitdir: elsewhere\n", "utf-8")
    put(top / "asia" / "a.yaml")
    return place(top)


def without_one(top: Path) -> str:
    put(top / "asia" / "a.yaml")
    return place(top)


def a_file_that_is_named(top: Path) -> str:
    return place(put(top / "asia" / "a.yaml"))


def a_file_that_is_named_in_a_work_tree(top: Path) -> str:
    (top / ".git").mkdir()
    return place(put(top / "asia" / "a.yaml"))


def a_git_directory_further_down(top: Path) -> str:
    """A pull request could bring one, and make a place look like another team's."""
    (top / ".git").mkdir()
    (top / "asia" / ".git").mkdir(parents=True)
    put(top / "asia" / "europe" / "a.yaml")
    return place(top)


def a_link_to_a_file(top: Path) -> str:
    put(top / "asia" / "a.yaml")
    (top / "a.yaml").symlink_to(top / "asia" / "a.yaml")
    return place(top)


def a_link_to_a_directory(top: Path) -> str:
    put(top / "asia" / "a.yaml")
    (top / "Z").symlink_to(top / "asia")
    return place(top)


def a_directory_that_is_a_link(top: Path) -> str:
    put(top / "real" / "asia" / "a.yaml")
    (top / "link").symlink_to(top / "real")
    return place(top / "link")


def a_configmap(top: Path) -> str:
    put(top / "..2026_11_22_09_00_00.123" / "a.yaml")
    (top / "..data").symlink_to("..2026_11_22_09_00_00.123")
    (top / "a.yaml").symlink_to("..data/a.yaml")
    return place(top)


def a_root_that_is_given(top: Path) -> str:
    (top / ".git").mkdir()
    put(top / "cases" / "one" / "documents" / "asia" / "a.yaml")
    documents = top / "cases" / "one" / "documents"
    return place(documents, tree=documents)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (in_a_work_tree, "servers/asia/a.yaml"),
        (in_a_work_tree_of_git_worktree, "asia/a.yaml"),
        (without_one, "asia/a.yaml"),
        (a_file_that_is_named, "a.yaml"),
        (a_file_that_is_named_in_a_work_tree, "asia/a.yaml"),
        (a_git_directory_further_down, "asia/europe/a.yaml"),
        (a_link_to_a_file, "asia/a.yaml"),
        (a_link_to_a_directory, "asia/a.yaml"),
        (a_directory_that_is_a_link, "asia/a.yaml"),
        (a_configmap, "a.yaml"),
        (a_root_that_is_given, "asia/a.yaml"),
    ],
)
def test_the_place_of_a_document(
    layout: Callable[[Path], str], expected: str, tmp_path: Path
) -> None:
    assert layout(tmp_path) == expected


def test_a_file_outside_of_the_tree_has_its_whole_path(tmp_path: Path) -> None:
    file = put(tmp_path / "elsewhere" / "a.yaml")
    (tmp_path / "tree").mkdir()

    assert place(file, tree=tmp_path / "tree") == str(file)
