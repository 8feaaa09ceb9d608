"""A request goes into a document, and nothing else of the file changes by one byte."""

import json
import os
import random
import re
import resource
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from reconciler.documents import edit
from reconciler.documents.edit import Proposal, difference, propose, write
from reconciler.documents.edit_position import RequestBlock, TextEdit, located
from reconciler.documents.load import load
from reconciler.errors import Exit, InvalidConfig, JtrError
from reconciler.model.desired import DEFAULT_EXPIRY, Afterwards, OneShot, RequestKind
from reconciler.model.source import SourceLine
from reconciler.model.values import replace
from tests.support.strategies_config import fleets

NOW = datetime(2099, 12, 31, tzinfo=UTC)
AT = datetime(2100, 1, 1, tzinfo=UTC)
WISHES = {
    "reboot": RequestBlock(RequestKind.REBOOT, AT, 'say "é": #1', Afterwards.RESUME, "2h", "5m"),
    "cache": RequestBlock(RequestKind.CACHE, AT, "true"),
}
FOREIGN = "apiVersion: v1\nkind: TradingServer\na: &x [1]\n? !t b\n: *x # &c\nspec: |+\n  a\n\n"


def proposed(folder: Path, data: bytes, name: str, key: str) -> Proposal:
    """Edit one file in a directory of its own."""
    (folder / "a.yaml").write_bytes(data)
    return propose(str(folder), name, WISHES[key], NOW)


def names(folder: Path) -> list[str]:
    """What lies in a directory, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


# ── properties ───────────────────────────────────────────────────────────────────────────────

BEGIN, END = "\x01", "\x02"  # around what the edit may replace
WORDS = ("true", "false", "null")
PLAIN = re.compile(r"[a-z][a-z0-9/:.#-]*[a-z0-9]")


class Writer:
    """Writes JSON values as YAML in any style by *chance*; *marked* is the key to be edited."""

    def __init__(self, chance: random.Random, marked: str) -> None:
        self._chance = chance
        self._marked = marked
        self._comments = 0

    def one_of(self, *choices: Any) -> Any:
        return self._chance.choice(choices)

    def comment(self) -> str:
        """A comment behind a value, or none."""
        self._comments += 1
        return str(self.one_of("", "", f" # c{self._comments}", f"   # {{é: '{self._comments}"))

    def between(self, pad: str) -> str:
        """Lines between two entries; deeper ones could belong to a text above them."""
        self._comments += 1
        note = f"{self.one_of('', pad)}# between: {self._comments} \U0001f600\n"
        return str(self.one_of("", "", "", "\n", "\n\n", note, f"\n{note}\n"))

    def key(self, key: str) -> str:
        plain = PLAIN.fullmatch(key.lower()) and key not in WORDS
        return str(self.one_of(key, json.dumps(key))) if plain else json.dumps(key)

    def scalar(self, value: Any, pad: str | None) -> str:
        """Any style that says *value*; *pad* is the indentation of a block, None inside braces."""
        if not isinstance(value, str):
            return json.dumps(value)
        styles = [json.dumps(value, ensure_ascii=False), "'" + value.replace("'", "''") + "'"]
        if PLAIN.fullmatch(value) and value not in WORDS:
            styles.append(value)
        if pad is not None:
            tail = self.one_of("", "\n", "\n\n")
            styles += [f"|- # why\n{pad} {value}{tail}", f">-\n{pad}   {value}{tail}"]
        return str(self.one_of(*styles))

    def flow(self, value: Any, pad: str, *, quote: bool) -> str:
        if isinstance(value, list):
            return "[" + ", ".join(self.flow(one, pad, quote=quote) for one in value) + "]"
        if not isinstance(value, dict):
            return json.dumps(value) if quote else self.scalar(value, None)
        gap = f"\n{pad} " if self.one_of(True, False) else ""
        parts = []
        for key, child in value.items():
            inner = self.flow(child, pad + " ", quote=quote)
            inner = f"{BEGIN}{inner}{END}" if key == self._marked else inner
            parts.append(f"{gap}{json.dumps(key) if quote else self.key(key)}: {inner}")
        comma = self.one_of(", ", f", # c{self._comments}") if gap else ", "
        last = self.one_of("", ",") if value and not quote else ""
        return "{" + comma.join(parts) + last + (f"\n{pad}" if gap else "") + "}"

    def block(self, value: dict[str, Any], pad: str, *, request: bool = False) -> str:
        """Return a mapping in lines, each ended."""
        text = ""
        for number, (key, child) in enumerate(value.items(), 1):
            begin = BEGIN if request and number == 1 else ""
            end = END if request and number == len(value) else ""
            text += f"{self.between(pad)}{pad}{begin}{self.key(key)}:"
            if isinstance(child, dict) and child and self.one_of(True, True, False):
                step = " " * self.one_of(1, 2, 2, 4)
                inner = self.block(child, pad + step, request=key == self._marked)
                text += f"{self.comment()}\n{inner}"
            elif isinstance(child, dict | list):
                inner = self.flow(child, pad + "  ", quote=self.one_of(True, False))
                inner = f"{BEGIN}{inner}{END}" if key == self._marked else inner
                text += f" {inner}{self.comment()}\n"
            else:
                written = self.scalar(child, pad)
                bare = written.rstrip("\n")
                comment = "" if "\n" in written else self.comment()
                text += f" {bare}{comment}{end}{written[len(bare) :]}\n"
        return text

    def document(self, value: dict[str, Any]) -> str:
        style = self.one_of("block", "block", "block", "json", "flow spec")
        if style == "json":
            return self.flow(value, "", quote=True) + "\n"
        if style == "flow spec":
            spec = self.flow(value["spec"], "  ", quote=self.one_of(True, False))
            rest = {key: child for key, child in value.items() if key != "spec"}
            return self.block(rest, "") + f"spec: {spec}{self.comment()}\n"
        return self.block(value, "")


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]], int, str]:
    """A marked text, what its documents say, and which document and key are to be edited."""
    values = draw(fleets())
    chosen, key = draw(st.integers(0, len(values) - 1)), draw(st.sampled_from(["reboot", "cache"]))
    if draw(st.booleans()):
        values[chosen]["spec"].pop(key, None)
    for value in values:
        value["spec"].pop("suspend", None)
        if value is values[chosen]:
            value["spec"].setdefault("supervised", True)
        keys = draw(st.permutations(list(value["spec"])))
        value["spec"] = {key: value["spec"][key] for key in keys}
    # Not drawn one by one, which costs half of the test: nothing is made smaller here.
    chance = random.Random(draw(st.integers(0, 2**64)))
    writers = [Writer(chance, key if value is values[chosen] else "") for value in values]
    texts = [writer.document(value) for writer, value in zip(writers, values, strict=True)]
    if draw(st.booleans()):
        texts.insert(draw(st.integers(0, len(texts))), FOREIGN)
    text = draw(st.sampled_from(["", "---\n", "# first\n--- # é\n"]))
    text += draw(st.sampled_from(["---\n", "...\n---\n", "--- # next\n\n"])).join(texts)
    text = text.rstrip("\n") if draw(st.booleans()) else text
    text = text.replace("\n", "\r\n") if draw(st.booleans()) else text
    return draw(st.sampled_from(["", "", "\ufeff"])) + text, values, chosen, key


class Lenient(yaml.SafeLoader):
    """Reads the other program's document, too."""


Lenient.add_constructor("!t", lambda _, node: node.value)


def said(data: bytes) -> list[Any]:
    """What another parser reads in all documents."""
    return list(yaml.load_all(data.decode("utf-8-sig"), Lenient))


@settings(
    max_examples=120,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # making one smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=files())
def test_all_but_the_request_stays_byte_for_byte(
    case: tuple[str, list[dict[str, Any]], int, str], tmp_path: Path
) -> None:
    marked, values, chosen, key = case
    data = marked.replace(BEGIN, "").replace(END, "").encode()
    name = values[chosen]["metadata"]["name"]
    event(f"{key} {'replaced' if BEGIN in marked else 'added'}")

    proposal = proposed(tmp_path, data, name, key)

    wanted = said(data)
    ours = next(one for one in wanted if one.get("metadata", {}).get("name") == name)
    ours["spec"][key] = WISHES[key].values()
    assert said(proposal.after) == wanted
    if BEGIN in marked:
        before, _, rest = marked.partition(BEGIN)
        after = rest.partition(END)[2]
        assert proposal.after.startswith(before.encode())
        assert proposal.after.endswith(after.encode())
        removed = len(data) - len(before.encode()) - len(after.encode())
        assert removed > 0
    else:
        added = len(proposal.after) - len(data)
        assert any(
            proposal.after[:place] + proposal.after[place + added :] == data
            for place in range(len(data) + 1)
        ), "something was removed"
    breaks = set(re.findall(rb"\r?\n", data)) or {b"\n"}
    assert set(re.findall(rb"\r?\n", proposal.after)) <= breaks
    assert (tmp_path / "a.yaml").read_bytes() == data, "nothing is written yet"
    write(proposal)
    assert (tmp_path / "a.yaml").read_bytes() == proposal.after
    assert names(tmp_path) == ["a.yaml"]


# ── places, one by one ───────────────────────────────────────────────────────────────────────

HEAD = "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {name: tokyo-1}\n"
SPEC = f"{HEAD}spec:\n  url: https://a.test\n  supervised: true\n"
FLOW = '{invalidatedAfter: "2100-01-01T00:00:00Z", reason: "true"}'
BLOCK = 'cache:\n    invalidatedAfter: "2100-01-01T00:00:00Z"\n    reason: "true"'
OLD = '{invalidatedAfter: "2020-01-01T00:00:00Z", reason: old}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SPEC, f"{SPEC}  {BLOCK}\n"),
        (SPEC.rstrip("\n"), f"{SPEC}  {BLOCK}"),
        (f"{SPEC}  # the end\n", f"{SPEC}  {BLOCK}\n  # the end\n"),
        (f"{SPEC}\n\n", f"{SPEC}  {BLOCK}\n\n\n"),
        (
            f"spec:\n  url: https://a.test # c\n{HEAD}",
            f"spec:\n  url: https://a.test # c\n  {BLOCK}\n{HEAD}",
        ),
        (
            f"{HEAD}spec:\n url: https://a.test\n",
            f"{HEAD}spec:\n url: https://a.test\n {BLOCK}\n".replace("\n    ", "\n  "),
        ),
        (
            f"{SPEC}  insecureTransport: >-\n    lab\n\n\n# c\n",
            f"{SPEC}  insecureTransport: >-\n    lab\n  {BLOCK}\n\n\n# c\n",
        ),
        (f"{SPEC}  cache: {OLD}  # why\n", f"{SPEC}  cache: {FLOW}  # why\n"),
        (
            (
                f"{SPEC}  cache: # why\n    # here\n    invalidatedAfter: 2020-01-01T00:00:00Z #\n"
                "    # gone\n    reason: >-\n      two\n      lines\n\n  # stays\n  mode: observe\n"
            ),
            (
                f"{SPEC}  cache: # why\n    # here\n    invalidatedAfter: "
                '"2100-01-01T00:00:00Z"\n    reason: "true"\n\n  # stays\n  mode: observe\n'
            ),
        ),
        (
            f"{HEAD}spec: {{url: https://a.test, }} # c\n",
            f"{HEAD}spec: {{url: https://a.test, cache: {FLOW}, }} # c\n",
        ),
        (
            f"{HEAD}spec: {{url: https://a.test}} # c\n",
            f"{HEAD}spec: {{url: https://a.test, cache: {FLOW}}} # c\n",
        ),
        (
            f'{HEAD}spec: {{\n  "url": "https://a.test"\n}}\n',
            (
                f'{HEAD}spec: {{\n  "url": "https://a.test",\n  "cache": '
                '{"invalidatedAfter": "2100-01-01T00:00:00Z", "reason": "true"}\n}\n'
            ),
        ),
        (
            f"{HEAD}spec: {{\n  url: https://a.test # c\n}}\n",
            f"{HEAD}spec: {{\n  url: https://a.test, cache: {FLOW} # c\n}}\n",
        ),
    ],
    ids=(
        *("added", "no final line break", "before comments", "before empty lines", "spec is first"),
        *(
            "one space",
            "behind a text of its own lines",
            "flow in place",
            "block in place",
            "flow with a comma",
        ),
        *("flow spec", "flow spec in lines", "flow spec with a comment"),
    ),
)
def test_where_it_goes(before: str, after: str, tmp_path: Path) -> None:
    for newline in ("\n", "\r\n"):
        data = before.replace("\n", newline).encode()

        assert proposed(tmp_path, data, "tokyo-1", "cache").after.decode() == after.replace(
            "\n", newline
        )


def test_empty_lines_that_belong_to_a_text_stay_its_own() -> None:
    """The schema wants one line here; the place must be right all the same."""
    data = f"{SPEC}  insecureTransport: |+\n    text\n\n\n# c\n".encode()

    edited = located(data, "tokyo-1", WISHES["cache"]).applied(data).decode()

    assert edited == data.decode().replace("# c\n", f"  {BLOCK}\n# c\n")


@pytest.mark.parametrize("key", ["reboot", "cache"])
def test_the_edited_document_asks_for_exactly_this(key: str, tmp_path: Path) -> None:
    proposal = proposed(tmp_path, SPEC.encode(), "tokyo-1", key)
    write(proposal)

    server = load([str(tmp_path)]).state.servers[0]
    source = SourceLine(str(tmp_path / "a.yaml"), 8, 5)
    wanted = {
        "reboot": OneShot(
            RequestKind.REBOOT,
            AT,
            'say "é": #1',
            source,
            expires_after=timedelta(hours=2),
            robots=Afterwards.RESUME,
            resume_within=timedelta(minutes=5),
        ),
        "cache": OneShot(RequestKind.CACHE, AT, "true", source, expires_after=DEFAULT_EXPIRY),
    }
    assert server.one_shots == (wanted[key],)
    assert (proposal.server, proposal.wish, proposal.replaced) == (server, wanted[key], None)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{HEAD}spec:\n  url: https://a.test\n", "4:1"),
        (f"--- # c\n{HEAD}spec:\n  url: https://a.test\n---\n{SPEC.replace('-1', '-2')}", "5:1"),
    ],
)
def test_what_is_wrong_is_shown_where_the_file_has_it(
    text: str, place: str, tmp_path: Path
) -> None:
    text = text.replace("tokyo-2}\nspec:\n  url: https://a", "tokyo-2}\nspec:\n  url: https://b")
    with pytest.raises(InvalidConfig) as raised:
        proposed(tmp_path, text.encode(), "tokyo-1", "reboot")

    assert [str(problem) for problem in raised.value.problems] == [
        (
            f"{tmp_path}/a.yaml:{place}: a reboot needs something that starts the process again; "
            "write supervised: true if something restarts it after exit code 0"
        )
    ]
    assert (tmp_path / "a.yaml").read_text("utf-8") == text


def test_a_problem_behind_the_new_lines_is_shown_where_the_file_has_it(tmp_path: Path) -> None:
    other = SPEC.replace("tokyo-1", "tokyo-2") + '  account: "7"\n  cache: ' + OLD + "\n"
    with pytest.raises(InvalidConfig) as raised:
        proposed(tmp_path, f"{SPEC}---\n{other}".encode(), "tokyo-1", "reboot")

    assert [
        str(problem).partition(f"{tmp_path}/a.yaml:")[2][:5] for problem in raised.value.problems
    ] == ["15:3:"]


def test_anchors_and_pieces_that_look_like_a_request_are_not_confused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="anchors"):
        proposed(tmp_path, f"{SPEC}  cache: &a {OLD}\n".encode(), "tokyo-1", "cache")

    text = f"# cache: {OLD}\n{SPEC.replace('1}', '1, owner: cache}')}"
    assert proposed(tmp_path, text.encode(), "tokyo-1", "cache").after.decode() == (
        f"{text}  {BLOCK}\n"
    )


def test_keys_with_a_question_mark_are_edited_too(tmp_path: Path) -> None:
    text = f"{HEAD}? spec\n: url: https://a.test\n"
    old = '  ? cache\n  : invalidatedAfter: "2020-01-01T00:00:00Z"\n    reason: old\n'
    new = old.replace("2020", "2100").replace("old", '"true"')

    assert proposed(tmp_path, text.encode(), "tokyo-1", "cache").after.decode() == (
        f"{text}  {BLOCK}\n"
    )
    assert proposed(tmp_path, (text + old).encode(), "tokyo-1", "cache").after.decode() == (
        text + new
    )


def test_a_place_that_is_not_found_is_said() -> None:
    with pytest.raises(JtrError, match="was not found") as raised:
        located(SPEC.encode(), "tokyo-2", WISHES["cache"])
    assert "by hand" in raised.value.remedy
    with pytest.raises(JtrError, match="was not found"):
        located(b"a: [", "tokyo-1", WISHES["cache"])


def test_an_edit_that_says_anything_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def astray(data: bytes, *_: object) -> TextEdit:
        right = located(data, "tokyo-1", WISHES["cache"])
        return replace(right, text=f"{right.text}\n  selfHeal: true")

    monkeypatch.setattr(edit, "located", astray)
    with pytest.raises(JtrError, match="cannot be edited safely") as raised:
        proposed(tmp_path, SPEC.encode(), "tokyo-1", "cache")

    assert raised.value.exit_code is Exit.ERROR
    assert (tmp_path / "a.yaml").read_text("utf-8") == SPEC


# ── the file ─────────────────────────────────────────────────────────────────────────────────


def test_the_mode_of_the_file_stays(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, SPEC.encode(), "tokyo-1", "cache")
    (tmp_path / "a.yaml").chmod(0o640)
    write(proposal)

    assert stat.S_IMODE((tmp_path / "a.yaml").stat().st_mode) == 0o640


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, SPEC.encode(), "tokyo-1", "cache")
    (tmp_path / "a.yaml").write_text(f"{SPEC}# mine\n", "utf-8")

    with pytest.raises(JtrError, match="changed while it was edited") as raised:
        write(proposal)

    assert raised.value.exit_code is Exit.ERROR
    assert (tmp_path / "a.yaml").read_text("utf-8") == f"{SPEC}# mine\n"
    assert names(tmp_path) == ["a.yaml"]


def test_a_file_that_became_a_link_is_left_alone(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, SPEC.encode(), "tokyo-1", "cache")
    (tmp_path / "a.yaml").rename(tmp_path / "b")
    (tmp_path / "a.yaml").symlink_to("b")

    with pytest.raises(JtrError, match="changed while it was edited"):
        write(proposal)

    assert (tmp_path / "b").read_text("utf-8") == SPEC
    assert names(tmp_path) == ["a.yaml", "b"]


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, SPEC.encode(), "tokyo-1", "cache")

    with room(len(SPEC)), pytest.raises(JtrError, match="it is as it was") as raised:
        write(proposal)

    assert raised.value.exit_code is Exit.ERROR
    assert (tmp_path / "a.yaml").read_text("utf-8") == SPEC
    assert names(tmp_path) == ["a.yaml"]


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size*."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    proposal = proposed(folder, SPEC.encode(), "tokyo-1", "cache")
    (folder / "a.yaml").unlink()
    folder.rmdir()

    with pytest.raises(JtrError, match="No such file or directory"):
        write(proposal)


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_git_takes_the_difference(ending: str, tmp_path: Path) -> None:
    data = (SPEC.rstrip("\n") + (ending or "\n")).replace("\n", ending or "\n").encode()
    data = data.rstrip(b"\n") if not ending else data.replace(b"\r\r", b"\r")
    proposal = proposed(tmp_path, data, "tokyo-1", "reboot")
    change = difference(proposal, "a.yaml")
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"],
        cwd=tmp_path,
        input=change.encode(),
        check=False,
        capture_output=True,
        env={"PATH": os.defpath, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.yaml").read_bytes() == proposal.after
    assert change.startswith("--- a/a.yaml\n+++ b/a.yaml\n@@ ")
