"""`.jtrignore`: what a directory holds that is not ours."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.documents.ignore import LINES_LIMIT, SIZE_LIMIT, BadLine, Ignored
from reconciler.documents.load import Loaded, load
from reconciler.errors import InvalidConfig, UsageError

Write = Callable[[str, str], Path]
OURS = "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {{name: {0}}}\nspec: {{url: https://{0}.test}}\n"
COMPOSE = "services: {}\n"


def leaves_out(lines: str, *names: str, directory: bool = False) -> bool:
    return Ignored().with_file(lines).leaves_out(names, directory=directory)


@pytest.mark.parametrize(
    ("line", "left_out", "read"),
    [
        ("a.yaml", ["a.yaml", "x/a.yaml", "x/y/a.yaml"], ["b.yaml", "a.yaml.yaml"]),
        ("/a.yaml", ["a.yaml"], ["x/a.yaml"]),
        ("x/a.yaml", ["x/a.yaml"], ["y/x/a.yaml", "a.yaml"]),
        ("*.yml", ["a.yml", "x/b.yml"], ["a.yaml"]),
        ("x/*.yml", ["x/a.yml"], ["x/y/a.yml", "a.yml"]),
        ("?.yaml", ["a.yaml"], ["ab.yaml"]),
        ("[ab].yaml", ["a.yaml", "b.yaml"], ["c.yaml"]),
        ("[!ab].yaml", ["c.yaml"], ["a.yaml"]),
        ("[^ab].yaml", ["c.yaml"], ["a.yaml"]),
        ("**/a.yaml", ["a.yaml", "x/y/a.yaml"], ["b.yaml"]),
        ("x/**/a.yaml", ["x/a.yaml", "x/y/z/a.yaml"], ["a.yaml", "y/x/a.yaml"]),
        ("x/**", ["x/a.yaml", "x/y/a.yaml"], ["x", "y/x/a.yaml"]),
        (r"\#a.yaml", ["#a.yaml"], ["a.yaml"]),
        (r"\!a.yaml", ["!a.yaml"], ["a.yaml"]),
        (r"\*.yaml", ["*.yaml"], ["a.yaml"]),
        ("a.yaml  ", ["a.yaml"], ["a.yaml  "]),
        ("a.yaml\\ ", ["a.yaml "], ["a.yaml"]),
        ("a.yaml\r", ["a.yaml"], []),
        ("\ufeffa.yaml", ["a.yaml"], []),
        ("# a.yaml\n\n", [], ["a.yaml", "# a.yaml"]),
        ("*.yaml\n!a.yaml", ["b.yaml"], ["a.yaml"]),
        ("!a.yaml\n*.yaml", ["a.yaml"], []),
    ],
)
def test_lines_mean_what_they_mean_to_git(line: str, left_out: list[str], read: list[str]) -> None:
    found = [name for name in (*left_out, *read) if leaves_out(line, *name.split("/"))]

    assert found == left_out


def test_a_line_that_ends_with_a_slash_means_directories_alone() -> None:
    assert leaves_out("ci/", "ci", directory=True)
    assert not leaves_out("ci/", "ci")


def test_the_file_of_a_deeper_directory_counts_from_there_and_says_more() -> None:
    above = Ignored().with_file("*.yaml")

    deeper = above.below().with_file("!/a.yaml")

    assert not deeper.leaves_out(("x", "a.yaml"), directory=False)
    assert deeper.leaves_out(("x", "b.yaml"), directory=False)
    assert deeper.below().leaves_out(("x", "y", "a.yaml"), directory=False)


@pytest.mark.parametrize(
    ("text", "number"),
    [("a\n!", 2), ("/", 1), ("a//b", 1), ("a\\", 1), ("a\n" * (LINES_LIMIT + 1), 0)],
)
def test_a_line_that_says_nothing_is_told_by_its_number(text: str, number: int) -> None:
    with pytest.raises(BadLine) as raised:
        Ignored().with_file(text)

    assert raised.value.number == number


@pytest.mark.parametrize(
    ("line", "name"),
    [("*a" * 60 + "b.yaml", "a" * 250), ("/".join(["**", "a"] * 60 + ["b"]), "a/" * 200 + "a")],
)
def test_no_line_holds_anybody_up(line: str, name: str) -> None:
    begun = time.process_time()

    assert not leaves_out(line, *name.split("/"))

    assert time.process_time() - begun < 1  # what backtracks needs longer than the universe lasts


# ── below a PATH ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    write("servers/a.yaml", OURS.format("a"))
    return write


def names(found: Loaded) -> list[str]:
    return [server.name for server in found.state.servers]


def test_other_programs_files_are_left_out_and_counted(write: Write, tmp_path: Path) -> None:
    write("compose.yaml", COMPOSE)
    write("charts/values.yaml", "{{ not yaml")
    write("charts/deep/x.yaml", COMPOSE)
    write("k8s.yaml", "apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\nkind: Pod\n")
    write(".jtrignore", "compose.yaml\ncharts/\n")

    found = load([str(tmp_path)])

    assert names(found) == ["a"]
    assert found.summary().splitlines()[1:] == [
        "2 documents of another apiVersion skipped (apps/v1, v1)",
        "2 files and directories left out by .jtrignore",
    ]


def test_a_file_that_is_named_is_read_whatever_leaves_it_out(write: Write, tmp_path: Path) -> None:
    file = write("servers/b.yaml", OURS.format("b"))
    write("servers/.jtrignore", "b.yaml\n")

    assert names(load([str(tmp_path)])) == ["a"]
    assert names(load([str(tmp_path), str(file)])) == ["a", "b"]


def test_who_has_a_foreign_file_is_told_of_it(write: Write, tmp_path: Path) -> None:
    file = write("compose.yaml", COMPOSE)
    write("play.yaml", "- hosts: all\n")

    with pytest.raises(InvalidConfig) as raised:
        load([str(tmp_path)])
    with pytest.raises(InvalidConfig) as named:
        load([str(file)])

    remedy = "; if the file is another program's, name it in .jtrignore"
    assert all(str(one).endswith(remedy) for one in raised.value.problems)
    assert len(raised.value.problems) == 2
    assert ".jtrignore" not in str(named.value.problems[0])


def test_nothing_is_left_is_said_with_what_was_left_out(write: Write, tmp_path: Path) -> None:
    write(".jtrignore", "servers\n")

    with pytest.raises(UsageError, match=r"jtr/v1: 1 file or directory left out by \.jtrignore"):
        load([str(tmp_path)])


def spoil_line(file: Path) -> None:
    file.write_text("a.yaml\n!\n", "utf-8")


def spoil_bytes(file: Path) -> None:
    file.write_bytes(b"\xff\n")


def spoil_size(file: Path) -> None:
    file.write_text("#" * (SIZE_LIMIT + 1), "utf-8")


def spoil_kind(file: Path) -> None:
    file.mkdir()


def lead_out(file: Path) -> None:
    outside = file.parent.parent / "outside"
    outside.write_text("a.yaml\n", "utf-8")
    file.symlink_to(outside)


@pytest.mark.parametrize(
    ("spoil", "line", "what"),
    [
        (spoil_line, 2, "it names nothing"),
        (spoil_bytes, 1, "it is no UTF-8 text"),
        (spoil_size, 1, "it is longer than"),
        (spoil_kind, 1, "it cannot be read"),
        (lead_out, 1, "it leads out of the directory"),
    ],
)
def test_a_file_of_which_nobody_can_tell_what_it_means_stops_everything(
    write: Write, tmp_path: Path, spoil: Callable[[Path], None], line: int, what: str
) -> None:
    del write
    spoil(tmp_path / "servers" / ".jtrignore")

    with pytest.raises(InvalidConfig) as raised:
        load([str(tmp_path / "servers")])

    (problem,) = raised.value.problems
    assert (problem.source.line, problem.what[: len(what)]) == (line, what)
    assert problem.source.file.endswith("servers/.jtrignore")


def test_a_link_inside_the_directory_is_followed(write: Write, tmp_path: Path) -> None:
    # Kubernetes mounts every file of a ConfigMap as one.
    write("..data/ignore", "b.yaml\n")
    write("b.yaml", COMPOSE)
    (tmp_path / ".jtrignore").symlink_to("..data/ignore")

    assert names(load([str(tmp_path)])) == ["a"]
