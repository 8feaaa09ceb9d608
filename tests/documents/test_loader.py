"""Reading the same files again: the same result, at the price of what changed."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.documents.build import build_server
from reconciler.documents.load import Loader, load
from reconciler.documents.yaml_reader import scan
from reconciler.errors import InvalidConfig, UsageError
from reconciler.model.desired import DesiredState
from reconciler.model.references import SecretPath
from tests.support.counts import drawn

SERVER = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: s-{0}, labels: {{env: prod}}}}
spec:
  url: https://s-{0}.test
  accessSecret: vault:secret/s-{0}#token
  exchanges: {{bybit: {{credentials: "vault:secret/s-{0}/bybit"}}}}
"""
DEFAULTS = "apiVersion: jtr/v1\nkind: Defaults\nspec: {{mode: {0}}}\n"


def contents(folder: Path) -> dict[str, bytes]:
    return {os.path.realpath(path): path.read_bytes() for path in folder.rglob("*.yaml")}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were parsed."""
    names: list[str] = []

    def counted(data: bytes, file: str) -> Any:
        names.append(Path(file).name)
        return scan(data, file)

    monkeypatch.setattr("reconciler.documents.files.scan", counted)
    return names


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the servers that were built."""
    names: list[str] = []

    def counted(result: Any) -> Any:
        server = build_server(result)
        names.append(server.name)
        return server

    monkeypatch.setattr("reconciler.documents.judge.build_server", counted)
    return names


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    for number in range(50):
        (tmp_path / f"{number}.yaml").write_text(SERVER.format(number), "utf-8")
    (tmp_path / "shared.yaml").write_text(DEFAULTS.format("observe"), "utf-8")
    return tmp_path


def test_one_changed_file_is_parsed_and_one_server_is_built(
    fleet: Path, parsed: list[str], built: list[str]
) -> None:
    loader = Loader()
    first = loader.load([str(fleet)], contents(fleet))
    (fleet / "7.yaml").write_text(SERVER.format(7).replace("/bybit", "/other"), "utf-8")
    parsed.clear()
    built.clear()
    second = loader.load([str(fleet)], contents(fleet))

    assert (parsed, built) == (["7.yaml"], ["s-7"])
    assert second == load([str(fleet)]).state
    assert second != first


def test_the_fleets_secrets_are_compared_without_another_look_at_each(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[SecretPath] = []
    real = SecretPath.__hash__

    def counted(self: SecretPath) -> int:
        looked.append(self)
        return real(self)

    loader = Loader()
    loader.load([str(fleet)], contents(fleet))
    (fleet / "7.yaml").write_text(SERVER.format(7).replace("prod", "test"))
    monkeypatch.setattr(SecretPath, "__hash__", counted)

    loader.load([str(fleet)], contents(fleet))

    assert looked, "positive control"
    assert {one.path.partition("/")[0] for one in looked} == {"s-7"}


def test_what_did_not_change_costs_nothing(fleet: Path, parsed: list[str]) -> None:
    loader = Loader()
    first = loader.load([str(fleet)], contents(fleet))
    parsed.clear()

    assert loader.load([str(fleet)], contents(fleet)) == first
    assert parsed == []


def test_only_the_files_of_the_last_reading_are_known(fleet: Path, parsed: list[str]) -> None:
    loader = Loader()
    loader.load([str(fleet)], contents(fleet))
    gone = (fleet / "7.yaml").read_bytes()
    (fleet / "7.yaml").unlink()
    loader.load([str(fleet)], contents(fleet))
    (fleet / "7.yaml").write_bytes(gone)
    parsed.clear()
    loader.load([str(fleet)], contents(fleet))

    assert parsed == ["7.yaml"]


def test_a_broken_file_makes_nobody_forget_the_others(fleet: Path, parsed: list[str]) -> None:
    loader = Loader()
    loader.load([str(fleet)], contents(fleet))
    (fleet / "7.yaml").write_text("spec: [\n", "utf-8")
    for _ in range(2):
        parsed.clear()
        with pytest.raises(InvalidConfig):
            loader.load([str(fleet)], contents(fleet))

        assert parsed == ["7.yaml"]


def test_what_servers_share_is_never_what_it_was(fleet: Path) -> None:
    loader = Loader()
    loader.load([str(fleet)], contents(fleet))
    (fleet / "shared.yaml").write_text(DEFAULTS.format("enforce"), "utf-8")
    changed = loader.load([str(fleet)], contents(fleet))
    (fleet / "shared.yaml").unlink()

    assert {server.mode for server in changed.servers} == {"enforce"}
    assert loader.load([str(fleet)], contents(fleet)) == load([str(fleet)]).state


def test_two_files_that_swap_their_contents_have_their_places_anew(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(SERVER.format(1), "utf-8")
    two.write_text(SERVER.format(2), "utf-8")
    loader = Loader()
    loader.load([str(tmp_path)], contents(tmp_path))
    one.write_text(SERVER.format(2), "utf-8")
    two.write_text(SERVER.format(1), "utf-8")
    state = loader.load([str(tmp_path)], contents(tmp_path))

    assert [Path(server.source.file).name for server in state.servers] == ["two.yaml", "one.yaml"]


# ── with and without what is known ───────────────────────────────────────────────────────────

EXCHANGE = "exchanges: {okx: {state: absent}}"
CONTENTS = [
    *(SERVER.format(number) for number in (1, 2)),
    SERVER.format(1).replace("https://s-1", "https://s-2"),  # the same address as another
    SERVER.format(2).replace("s-2/bybit", "s-1"),  # another's login as its credentials
    SERVER.format(3) + f"---\n{SERVER.format(4)}",
    SERVER.format(5) + "  mode: &a observe\n",
    SERVER.format(6) + "  reboot: {bootedAfter: 2026-11-22T09:30:00Z, reason: x}\n",
    SERVER.format(7).replace("exchanges: ", "windows: "),
    DEFAULTS.format("observe"),
    DEFAULTS.format("enforce"),
    DEFAULTS.format("enforce").replace("spec:", "selector: {env: prod}\nspec:"),
    DEFAULTS.format("observe").replace("spec:", "selector: {env: prod}\nspec:"),
    DEFAULTS.format("wrong"),
    f"apiVersion: jtr/v1\nkind: Defaults\nspec: {{{EXCHANGE}}}\n",
    "apiVersion: v1\nkind: Other\n",
    "apiVersion: v1\nkind: Other\n--- }\n",
    "a: [\n",
    "",
]
PLACES = ["a.yaml", "b.yaml", "c.yaml", "team/a.yaml", "team/b.yaml", "team/deep/a.yaml"]


def outcome(read: Callable[[], DesiredState]) -> DesiredState | tuple[str, ...]:
    try:
        return read()
    except (InvalidConfig, UsageError) as error:
        return type(error).__name__, str(error)


def first(paths: list[str]) -> DesiredState:
    return load(paths).state


@settings(
    deadline=None,
    max_examples=drawn(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from([*CONTENTS, None])),
        min_size=2,
        max_size=12,
    )
)
def test_a_tree_read_again_is_judged_as_if_it_were_read_first(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str | None]]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    loader = Loader()
    for place, content in steps:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(content, "utf-8")
        paths, held = [str(folder)], contents(folder)

        again = outcome(functools.partial(loader.load, paths, held))
        assert again == outcome(functools.partial(first, paths))


def test_each_account_of_a_process_knows_which_others_are_suspended(tmp_path: Path) -> None:
    def document(name: str, account: str, url: str, suspend: str = "") -> None:
        text = SERVER.format(name).replace(f"https://s-{name}.test", url)
        text = text.replace("spec:", f'spec:\n  account: "{account}"{suspend}')
        (tmp_path / f"{name}.yaml").write_text(text)

    word = "\n  suspend: {reason: audit, by: bob}"
    document("a", "0", "https://one.test", word)
    document("b", "42", "https://ONE.test:443/")
    document("c", "43", "https://one.test", word)
    document("d", "0", "https://two.test")

    known = {
        server.name: [(account, one.by) for account, one in server.suspended_accounts]
        for server in load([str(tmp_path)]).state.servers
    }
    bob = {account: (account, "bob") for account in ("0", "43")}
    assert known == {
        "s-a": [bob["43"]],
        "s-b": [bob["0"], bob["43"]],
        "s-c": [bob["0"]],
        "s-d": [],
    }
