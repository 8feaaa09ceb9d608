"""Which files and documents are read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.documents import files
from reconciler.documents.load import load
from reconciler.documents.yaml_reader import scan
from reconciler.errors import Exit, InvalidConfig, UsageError

Write = Callable[[str, str], Path]
ONE = "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {{name: {0}}}\nspec: {{url: https://{0}.test}}\n"
OTHER = "apiVersion: apps/v1\nkind: Deployment\nspec: &a {x: !t y, z: *a}\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def names(*paths: object) -> list[str]:
    return [server.name for server in load([str(path) for path in paths]).state.servers]


def test_directories_are_read_whole(write: Write, tmp_path: Path) -> None:
    write("b.yaml", ONE.format("b"))
    write("deep/er/a.yml", ONE.format("a") + "---\n" + ONE.format("c"))
    for ignored in (".hidden.yaml", ".git/x.yaml", "note.txt", "x.yaml.orig", "y.json"):
        write(ignored, "[not: ours")

    assert names(tmp_path) == ["a", "b", "c"]


def test_documents_of_others_are_skipped_and_counted(write: Write, tmp_path: Path) -> None:
    write("a.yaml", f"{OTHER}---\n{ONE.format('a')}---\n{OTHER}")
    write("b.yaml", OTHER)

    state = load([str(tmp_path)]).state

    assert [server.name for server in state.servers] == ["a"]
    assert state.skipped == 3


def test_a_problem_beside_a_document_of_others_is_still_told(write: Write, tmp_path: Path) -> None:
    write("a.yaml", f"{OTHER}---\n{ONE.format('a')}mode: &a x\n")

    with pytest.raises(InvalidConfig) as raised:
        load([str(tmp_path)])

    assert {problem.source.line for problem in raised.value.problems} == {9}  # all are Problems


def test_a_named_file_must_be_ours(write: Write) -> None:
    with pytest.raises(InvalidConfig, match="apiVersion must be jtr/v1"):
        names(write("a.yaml", "apiVersion: v1\nkind: Pod\n"))


def test_a_slip_in_our_own_version_is_never_skipped(write: Write, tmp_path: Path) -> None:
    write("a.yaml", ONE.format("a"))
    write("b.yaml", ONE.format("b").replace("jtr/v1", "JTR/V1"))

    with pytest.raises(InvalidConfig, match="apiVersion must be jtr/v1"):
        names(tmp_path)


def test_a_document_without_api_version_is_an_error(write: Write, tmp_path: Path) -> None:
    write("a.yaml", ONE.format("a"))
    write("values.yaml", "replicas: 3\n")

    with pytest.raises(InvalidConfig, match="without apiVersion"):
        names(tmp_path)


def test_a_missing_path_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file") as raised:
        names(tmp_path / "no", tmp_path / "nothing")

    assert raised.value.exit_code is Exit.USAGE
    assert "nothing" in str(raised.value)


@pytest.mark.parametrize("text", ["", "# only words\n", "---\n---\n"])
def test_an_empty_file_is_nothing_in_a_directory_but_an_error_when_named(
    write: Write, tmp_path: Path, text: str
) -> None:
    path = write("a.yaml", text)

    with pytest.raises(InvalidConfig, match="is empty"):
        names(path)
    with pytest.raises(UsageError, match="holds no document"):
        names(tmp_path)


def test_each_directory_must_hold_something(write: Write, tmp_path: Path) -> None:
    full = write("full/a.yaml", ONE.format("a")).parent
    (tmp_path / "bare").mkdir()
    write("foreign/b.yaml", OTHER)

    with pytest.raises(UsageError, match="bare holds no document"):
        names(full, tmp_path / "bare")
    with pytest.raises(
        UsageError, match=r"foreign holds no document.*1 document of another apiVersion"
    ):
        names(tmp_path / "foreign")


def test_one_file_counts_once(write: Write, tmp_path: Path) -> None:
    path = write("a.yaml", ONE.format("a"))
    (tmp_path / "again.yaml").symlink_to(path)

    assert names(path, tmp_path, tmp_path) == ["a"]


def test_links_that_turn_in_a_circle_end(write: Write, tmp_path: Path) -> None:
    write("sub/a.yaml", ONE.format("a"))
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.yaml").symlink_to(tmp_path / "sub" / "a.yaml")

    assert names(tmp_path) == ["a"]


def test_a_mounted_config_map_is_read(write: Write, tmp_path: Path) -> None:
    write("..2026_11_22/a.yaml", ONE.format("a"))
    (tmp_path / "..data").symlink_to("..2026_11_22")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")

    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_link_out_of_the_tree_is_refused(write: Write, tmp_path: Path, kind: str) -> None:
    write("tree/a.yaml", ONE.format("a"))
    outside = write("outside/b.yaml", ONE.format("b"))
    target = outside if kind == "file" else outside.parent
    (tmp_path / "tree" / ("b.yaml" if kind == "file" else "b")).symlink_to(target)

    with pytest.raises(InvalidConfig, match="leads out of the directory"):
        names(tmp_path / "tree")


def test_a_fifo_does_not_make_us_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")

    with pytest.raises(UsageError, match="no regular file"):
        names(tmp_path / "a.yaml")
    with pytest.raises(UsageError, match="no regular file"):
        names(tmp_path)


def test_a_dangling_link_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("gone.yaml")

    with pytest.raises(UsageError):
        names(tmp_path)


def test_a_large_file_is_an_error(write: Write) -> None:
    with pytest.raises(InvalidConfig, match="larger than"):
        names(write("a.yaml", ONE.format("a") + "#" * 2_000_000))


def test_a_file_name_cannot_write_on_the_terminal(write: Write, tmp_path: Path) -> None:
    write("a\x1b[31m\n::error::x.yaml", "")
    with pytest.raises(InvalidConfig) as raised:
        names(tmp_path / "a\x1b[31m\n::error::x.yaml")

    assert "\x1b" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_problems_of_all_files_come_at_once_and_in_order(write: Write, tmp_path: Path) -> None:
    write("c.yaml", ONE.format("c") + "kinds: x\n")
    write("a.yaml", "a: [\n")
    write("b.yaml", ONE.format("B"))

    with pytest.raises(InvalidConfig) as raised:
        names(tmp_path)

    files = [
        Path(problem.source.file).name for problem in raised.value.problems
    ]  # all are Problems
    assert files == ["a.yaml", "b.yaml", "c.yaml"]


def test_a_broken_file_lets_nobody_conclude_that_defaults_are_absent(
    write: Write, tmp_path: Path
) -> None:
    write("a.yaml", ONE.format("a") + "  # no more\n")
    write(
        "b.yaml",
        "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {name: b}\n"
        "spec: {url: https://b.test, exchanges: {okx: {}}}\n",
    )
    write("defaults.yaml", "apiVersion: jtr/v1\nkind: Defaults\nspec: {modes: x}\n")

    with pytest.raises(InvalidConfig) as raised:
        names(tmp_path)

    assert "no credentials" not in str(raised.value)
    assert "did you mean mode?" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "limit", "what"),
    [
        ("FILES_LIMIT", 2, "files"),
        ("TOTAL_BYTES_LIMIT", 80, "bytes"),
        ("TOTAL_VALUES_LIMIT", 10, "values"),
    ],
)
def test_files_that_are_in_order_each_may_be_too_much_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int, what: str
) -> None:
    monkeypatch.setattr(files, name, limit)
    for number in range(3):
        (tmp_path / f"{number}.yaml").write_text("apiVersion: other/v1\nkind: Other\n", "utf-8")

    with pytest.raises(InvalidConfig) as refused:
        files.read_documents([str(tmp_path)])

    (problem,) = refused.value.problems
    assert str(problem).startswith(f"{tmp_path / '2.yaml'}:1")
    assert f"more than {limit} {what} in all" in str(problem)


def test_only_links_are_asked_where_they_lead(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write(f"team-{number % 2}/{number}.yaml", ONE.format(f"s-{number}"))
    (tmp_path / "again.yaml").symlink_to(tmp_path / "team-0" / "0.yaml")
    asked: list[str] = []
    realpath = os.path.realpath

    def counted(path: str) -> str:
        asked.append(os.path.relpath(path, tmp_path))
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", counted)

    assert len(names(tmp_path)) == 20
    assert set(asked) == {".", "again.yaml"}
    assert len(asked) <= 4


def test_a_file_that_becomes_a_link_while_its_directory_is_read_is_not_followed(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = write("outside.yaml", ONE.format("foreign"))
    write("tree/a.yaml", ONE.format("a"))
    second = write("tree/b.yaml", ONE.format("b"))

    def meanwhile(data: bytes, file: str) -> object:
        if second.exists() and not second.is_symlink():
            second.unlink()
            second.symlink_to(outside)
        return scan(data, file)

    monkeypatch.setattr(files, "scan", meanwhile)

    with pytest.raises(UsageError, match=r"b\.yaml cannot be read"):
        names(tmp_path / "tree")


def test_a_file_that_breaks_off_where_a_foreign_document_ends_is_an_error(
    write: Write, tmp_path: Path
) -> None:
    """It was passed over in silence, and with it every server of every file."""
    write("a.yaml", ONE.format("a"))
    write("b.yaml", "apiVersion: v1\nkind: Other\n--- }\n")

    with pytest.raises(InvalidConfig, match=r"b\.yaml:3:5"):
        names(tmp_path)
