"""What a shell offers: names from the documents here and from the ledger of this host."""

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from reconciler.cli.app import cli
from tests.e2e.test_requests import ask, moment, ready
from tests.support.rig import Rig


def offered(*words: str) -> list[str]:
    """What is offered for the last of *words*."""
    shell = ShellComplete(cli, {}, "jtr", "_JTR_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def here(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Two servers that are as declared; the document of the second goes away."""
    for name in ("tokyo-1", "osaka-1"):
        rig.server(name, robots=[])
        rig.document(name)
    rig.begin()
    assert rig.apply().code == 0
    (rig.docs / "osaka-1.yaml").unlink()
    rig.document("tokyo-2", "okx")
    for name, value in rig.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(rig.docs)
    return rig


def test_names_come_from_documents_and_from_the_ledger(here: Rig) -> None:
    before = {name: len(server.record.handshakes) for name, server in here.servers.items()}
    assert offered("status", "") == ["osaka-1", "tokyo-1", "tokyo-2"]
    assert offered("plan", "--server", "tok") == ["tokyo-1", "tokyo-2"]
    assert offered("forget", "os") == ["osaka-1"]
    assert offered("apply", "--take-over", "tokyo-2") == ["tokyo-2"]
    assert offered("apply", "--rewrite", "tokyo-2/") == ["tokyo-2/okx"]
    assert offered("apply", "--rewrite", "osaka-1/b") == ["osaka-1/bybit"]
    assert before == {name: len(one.record.handshakes) for name, one in here.servers.items()}


def test_whatever_is_wrong_is_silence(
    here: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here.write("broken.yaml", "apiVersion: jtr/v1\nkind: [\n")
    assert offered("status", "") == ["osaka-1", "tokyo-1"]

    monkeypatch.setenv("JTR_SETTINGS", str(tmp_path / "nowhere.yaml"))
    assert offered("status", "") == []


@pytest.mark.silence
def test_a_request_in_doubt_is_offered_by_its_instant(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.invalidate = "silent after effect"
    ask(rig, cache={"invalidatedAfter": moment()})
    assert rig.apply().code == 7
    for name, value in rig.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(rig.docs)

    (instant,) = offered("request", "resolve", "tokyo-1", "invalidate-cache", "20")

    assert offered("request", "resolve", "tokyo-1", "re") == ["reboot"]
    assert offered("request", "resolve", "tokyo-1", "reboot", "20") == []
    because = ("--not-done", "--because", "seen on its page")
    assert rig.jtr("request", "resolve", "tokyo-1", "invalidate-cache", instant, *because).code == 0
