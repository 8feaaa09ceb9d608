"""`jtr schema --install`: a line for the editor in every document, and nothing else is touched."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reconciler.cli.app import cli
from reconciler.documents import schema
from reconciler.documents.load import load
from reconciler.errors import InvalidConfig, JtrError, UsageError

LINE = "# yaml-language-server: $schema={}.jtr/config.schema.json"
SERVER = "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {{name: {0}}} # kept\nspec: {{url: https://{0}.test}}\n"
DEFAULTS = "apiVersion: jtr/v1\nkind: Defaults\nspec: {mode: observe}\n"


def install(*paths: Path, expect: type[BaseException] | None = None) -> Result:
    done = CliRunner().invoke(cli, ["schema", "--install", *map(str, paths)])
    if expect is None:
        assert done.exit_code == 0, done.output
    else:
        assert isinstance(done.exception, expect), done
    return done


def test_every_document_of_every_file_names_the_schema(tmp_path: Path) -> None:
    one = tmp_path / "a.yaml"
    one.write_text(f"# first\n{SERVER.format('a')}---\n# second\n{SERVER.format('b')}", "utf-8")
    deep = tmp_path / "deep" / "d.yaml"
    deep.parent.mkdir()
    deep.write_text(f"--- # defaults\n{DEFAULTS}", "utf-8")
    other = tmp_path / "k8s.yaml"
    other.write_text("apiVersion: v1\nkind: Pod\n", "utf-8")

    done = install(tmp_path)

    here, below = LINE.format(""), LINE.format("../")
    assert one.read_text("utf-8") == (
        f"{here}\n# first\n{SERVER.format('a')}---\n{here}\n# second\n{SERVER.format('b')}"
    )
    assert deep.read_text("utf-8") == f"--- # defaults\n{below}\n{DEFAULTS}"
    assert other.read_text("utf-8") == "apiVersion: v1\nkind: Pod\n"
    assert (tmp_path / ".jtr" / "config.schema.json").read_text("utf-8") == schema.text("config")
    assert done.output.count("wrote ") == 3
    assert len(load([str(tmp_path)]).state.servers) == 2


def test_a_second_time_changes_nothing_and_an_older_schema_is_renewed(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{SERVER.format('a')}---\n{SERVER.format('b')}", "utf-8")
    install(tmp_path)
    before = file.read_bytes()

    assert install(tmp_path).output == "every document names its schema already\n"
    (tmp_path / ".jtr" / "config.schema.json").write_text("{}", "utf-8")
    again = install(tmp_path)

    assert file.read_bytes() == before
    assert again.output.startswith("wrote ")
    assert (tmp_path / ".jtr" / "config.schema.json").read_text("utf-8") == schema.text("config")


def test_our_old_line_is_renewed_in_its_place_and_another_schema_stays(tmp_path: Path) -> None:
    old = "# yaml-language-server: $schema=../schemas/config.schema.json"
    theirs = "# yaml-language-server: $schema=https://example.test/jtr.json"
    file = tmp_path / "a.yaml"
    file.write_text(f"# x\n{old}\n{SERVER.format('a')}---\n{theirs}\n{SERVER.format('b')}", "utf-8")

    done = install(file)

    text = file.read_text("utf-8")
    assert (
        text == f"# x\n{LINE.format('')}\n{SERVER.format('a')}---\n{theirs}\n{SERVER.format('b')}"
    )
    assert "1 document with another schema, left alone" in done.output


def test_line_ends_and_rights_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(SERVER.format("a").replace("\n", "\r\n").encode())
    file.chmod(0o640)

    install(file)

    data = file.read_bytes()
    assert data.startswith(LINE.format("").encode() + b"\r\n")
    assert data.count(b"\n") == data.count(b"\r\n")
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("apiVersion: v1\nkind: Pod\n", None),  # named: it must be ours, and the schema says so
        ("services: {}\n", InvalidConfig),
        ("- a list\n", InvalidConfig),
        ("apiVersion: [\n", InvalidConfig),
        ("--- {apiVersion: jtr/v1, kind: Defaults, spec: {mode: observe}}\n", JtrError),
        ("", InvalidConfig),
    ],
)
def test_what_is_not_ours_or_has_no_room_stays_as_it_is(
    tmp_path: Path, text: str, error: type[BaseException] | None
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text, "utf-8")

    install(file, expect=error or InvalidConfig)

    assert file.read_text("utf-8") == text
    assert [one.name for one in tmp_path.iterdir()] == ["a.yaml"]


@pytest.mark.parametrize("words", [["--install", "nowhere"], ["nonsense"], ["config", "plan"]])
def test_bad_input_is_a_clear_error(words: list[str]) -> None:
    done = CliRunner().invoke(cli, ["schema", *words])

    assert isinstance(done.exception, UsageError)


def test_the_schema_is_always_called_the_same() -> None:
    # Editors and programs refer to it: a change of this name is a change of the format.
    assert schema.document("config")["$id"] == "urn:jt-reconciler:schema:config:v1"
