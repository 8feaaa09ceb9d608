"""
Every command on the way from the README to an own server is run, in its order, in a clean home.

What a reader would replace (addresses of a server and of Vault) is replaced here.
"""

import json
import os
import pty
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.house.pages import BIN, BLOCK, blocks, commands, page, shell
from tests.newcomer.walk import QUESTION
from tests.support.leaks import Watch
from tests.support.processes import until

README = page("README.md")
SANDBOX = page("docs/first-steps.md")
WAY = "\n".join(page(f"docs/{name}.md") for name in ("your-own-server", "in-ci", "requests"))


def clean(home: Path) -> dict[str, str]:
    """The environment of somebody who just logged in, with this checkout's commands."""
    return commands(home) | {
        "GIT_AUTHOR_NAME": "Alice",
        "GIT_AUTHOR_EMAIL": "alice@desk.example",
        "GIT_COMMITTER_NAME": "Alice",
        "GIT_COMMITTER_EMAIL": "alice@desk.example",
    }


def test_every_block_with_commands_is_run_by_a_test() -> None:
    known = {"begin", "go on"}  # tests/newcomer runs them
    by_hand = {"make demo\nmake install        # .venv/bin/jtr, with the sandbox\n"}
    for match in BLOCK.finditer(README):
        if match["kind"] == "sh":
            assert match["run"] in known or match["body"] in by_hand, match["body"]


def test_the_document_on_the_first_screen_is_valid(tmp_path: Path) -> None:
    first = next(m["body"] for m in BLOCK.finditer(README) if m["kind"] == "yaml")
    (tmp_path / "tokyo-1.yaml").write_text(first, "utf-8")

    assert "valid: 1 server" in shell(
        "jtr validate tokyo-1.yaml", tmp_path, clean(tmp_path / "home")
    )


@pytest.mark.skipif(not (BIN / "jtr").exists(), reason="the command is not installed here")
def test_first_steps_on_a_sandbox(tmp_path: Path) -> None:
    environment = clean(tmp_path / "home")
    clone = tmp_path / "clone"
    (clone / ".venv").mkdir(parents=True)
    (clone / ".venv" / "bin").symlink_to(BIN)
    with sandbox(blocks(SANDBOX, "background")[0], clone, environment):
        printed = shell(blocks(SANDBOX, "steps")[0], clone, environment)

    assert "3 to write" in printed
    assert "Applied: 3 done, 0 failed" in printed
    assert "0 to write" in printed.partition("Applied:")[2]


# What a newcomer types besides, from the lists of README.md; without a path it is about here.
ALONE = (
    *("jtr validate", "jtr plan", "jtr doctor --no-visit", "jtr status", "jtr status tokyo-1"),
    *("jtr explain tokyo-1/bybit", "jtr explain tokyo-1/reboot", "jtr show tokyo-1"),
    *("jtr audit .", "jtr policy check servers", "jtr completion bash", "jtr ci", "jtr apply"),
    *("jtr schema --install servers", "jtr ledger check", "jtr help plan"),
)
INIT = next(line for line in blocks(README, "begin")[0].splitlines() if line.startswith("jtr init"))


@pytest.mark.volume
@pytest.mark.skipif(not (BIN / "jtr").exists(), reason="the command is not installed here")
def test_every_command_of_the_first_pages_works_in_a_sandbox(tmp_path: Path) -> None:
    environment = clean(tmp_path / "home")
    clone = tmp_path / "clone"
    (clone / ".venv").mkdir(parents=True)
    (clone / ".venv" / "bin").symlink_to(BIN)
    repository = tmp_path / "home" / "jtr-play" / "repository"
    marked = ((README, "go on"), (WAY, "own"), (WAY, "ci"), (WAY, "ask"))
    lines = [
        line
        for text, what in marked
        for block in blocks(text, what)
        for line in block.splitlines()
        if line.strip()
    ]
    assert len(lines) > 12, "positive control: they are found"
    with sandbox(blocks(SANDBOX, "background")[0], clone, environment):
        shell("git init --quiet servers && git -C servers add --all", repository, environment)
        shell("git -C servers commit --quiet --message begin", repository, environment)
        printed = {
            line: at_terminal(f". ../env.sh; {line}", repository, environment)
            for line in dict.fromkeys((*lines, *ALONE))
        }
        settings = (repository.parent / "settings.yaml").read_text("utf-8")
        refused = at_terminal(f". ../env.sh; {INIT}", repository, environment, code=64)
        unchanged = (repository.parent / "settings.yaml").read_text("utf-8") == settings
        ours = {path.name for path in (tmp_path / "home").iterdir()}

    assert "Applied: 3 done, 0 failed" in printed["jtr apply servers --approve-recipient tokyo-1"]
    assert "robots running: grid-btc (bybit), arb (okx)" in printed["jtr status"]
    assert "settings.yaml is there already, and is not written over" in refused
    assert unchanged
    assert ours == {"bin", "jtr-play"}, "it all lies in the sandbox's directory"


def at_terminal(script: str, cwd: Path, environment: dict[str, str], *, code: int = 0) -> str:
    """Run a script at a terminal, where somebody says yes; return what was to be read."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env=environment | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "200"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen, answered = b"", 0
    with suppress(OSError):  # so ends a terminal that nobody else has open
        while more := os.read(ours, 65536):
            seen += more
            if QUESTION.search(seen[answered:].decode("utf-8", "replace")):
                answered = len(seen)
                os.write(ours, b"y\n")
    os.close(ours)
    text = seen.decode().replace("\r\n", "\n")
    assert process.wait(60) == code, f"{script}\n{text}"
    return text


@contextmanager
def sandbox(command: str, clone: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run the block of the first terminal until the block of the second one is through."""
    with (clone / "sandbox.log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/bash", "-c", f"exec {command}"],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            until((Path(environment["HOME"]) / "jtr-play" / "env.sh").exists)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.mark.volume
@pytest.mark.skipif(not (BIN / "jtr").exists(), reason="the command is not installed here")
def test_the_way_to_your_own_server_and_ci(tmp_path: Path, bao: OpenBao, watch: Watch) -> None:
    environment = clean(tmp_path / "home")
    secret = watch.secret()
    robots = [Robot(id=1, name="grid-btc", exchange="bybit")]
    with StandInThread(access_secret=secret, robots=robots) as server:
        replace = {
            "https://tokyo-1.internal:8443": server.url,
            "https://*.internal:8443": "http://127.0.0.1:*",
            "https://vault.internal:8200": bao.address,
        }
        for match in BLOCK.finditer(WAY):
            if match["run"] and match["run"].startswith("file "):
                path = tmp_path / match["run"].removeprefix("file ")
                path.parent.mkdir(parents=True, exist_ok=True)
                body = match["body"]
                for old, new in replace.items():
                    body = body.replace(old, new)
                path.write_text(body, "utf-8")
        with (tmp_path / "home/.config/jtr/settings.yaml").open("a") as settings:
            settings.write("durations: {settle: 100ms}\n")
        private = tmp_path / "private"
        private.mkdir()
        keys = {"apiKey": watch.secret("hex"), "secret": watch.secret("base64-32")}
        (private / "bybit.json").write_text(json.dumps(keys), "utf-8")
        (private / "server.json").write_text(json.dumps({"access_secret": secret}), "utf-8")
        bao.write_policy(
            "readme", {f"secret/{kind}/jt/tokyo-1*": ["read"] for kind in ("data", "metadata")}
        )
        reading = bao.create_token(["readme"])
        token = tmp_path / "home/.config/jtr/token"
        token.write_text(reading.reveal(), "utf-8")
        token.chmod(stat.S_IRUSR)
        writing = {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.root_token.reveal()}

        shell(blocks(WAY, "vault")[0], private, environment | writing)
        printed = shell(blocks(WAY, "own")[0], tmp_path, environment)
        first = server.values()
        keys = {"apiKey": watch.secret("hex"), "secret": watch.secret("base64-32")}
        bao.put("jt/tokyo-1/bybit", keys)
        for block in blocks(WAY, "ci"):
            printed += shell(block, tmp_path, environment)
        second = server.values()
        saves = server.record.saves
        shell(
            "git init --quiet && git add . && git commit -qm Servers",
            tmp_path / "servers",
            environment,
        )
        asked = [shell(block, tmp_path, environment) for block in blocks(WAY, "ask")]
        reboots, running = server.record.reboots, server.robots_running()

    token.unlink()  # it is the token's place, not a leak
    assert "Applied: 1 done" in printed
    assert first["bybit_api_key"] != second["bybit_api_key"] == keys["apiKey"]
    assert saves == 2
    assert (reboots, running) == (1, {1}), asked
    assert "+    bootedAfter: " in asked[0]
    assert "robots that stop and are started again: grid-btc" in asked[0]
    assert asked[0].rstrip().endswith("Nothing to do.")
    assert "Nest application successfully started" in asked[1]
    watch.search("what the commands of these pages printed", printed + "".join(asked))
    shutil.rmtree(private)
