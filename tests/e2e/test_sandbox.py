"""`jtr sandbox` as a user meets it: what it writes, obeys, and leaves behind."""

import json
import re
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leaks import PRIVATE, Watch
from tests.support.processes import ROOT, Running

SANDBOX = (sys.executable, "-m", "reconciler", "sandbox")
READY = "quit                 end all servers"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder for what may hold secrets."""
    folder = tmp_path / PRIVATE
    folder.mkdir()
    return folder


def environment(private: Path) -> dict[str, str]:
    """Put temporary files where the test can count them."""
    (private / "tmp").mkdir(exist_ok=True)
    return {"TMPDIR": str(private / "tmp"), "HOME": "/nonexistent"}


def left(private: Path) -> list[str]:
    """The names of temporary files that are still there."""
    return sorted(path.name for path in (private / "tmp").iterdir())


class Shell:
    """Another terminal, in which somebody sources the sandbox's file."""

    def __init__(self, folder: Path, watch: Watch) -> None:
        self.folder = folder
        self._watch = watch
        self.variables = dict(
            line.split("=", 1)
            for line in self.run(". ./env.sh && env", "").splitlines()
            if "=" in line
        )
        header = (folder / "writer.header").read_text().strip()
        self.writer = watch.guard(header.removeprefix("X-Vault-Token: "), "writer token")
        watch.guard(self.variables["VAULT_TOKEN"], "token of jtr")
        for path in ("tokyo-1", "tokyo-1/bybit", "tokyo-1/okx", "tokyo-1/gateio"):
            for value in self.read(path).values():
                watch.guard(value, f"at {path}")

    def run(self, script: str, *words: str, code: int = 0) -> str:
        """Run a script of the shell; return what it printed."""
        done = subprocess.run(
            ["sh", "-euc", script, "sh", *words],
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "BAO_ADDR": "http://wrong"},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jtr(self, *args: str, code: int = 0) -> str:
        """Run jtr as this shell would."""
        script = '. ./env.sh; python=$1; cd "$2"; shift 2; exec "$python" -m reconciler "$@"'
        text = self.run(script, sys.executable, str(ROOT), *args, code=code)
        self._watch.search(f"jtr {args[0]}", text)
        return text

    def ask(self, token: str, path: str, body: object = None) -> int | dict[str, dict[str, str]]:
        """Ask OpenBao; return the data, or the status of a refusal."""
        request = urllib.request.Request(
            f"{self.variables['VAULT_ADDR']}/v1/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": token},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=10) as answer:
                data: dict[str, dict[str, str]] = json.load(answer)["data"]
                return data
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def read(self, path: str) -> dict[str, str]:
        """Read a secret with the token that may also write."""
        data = self.ask(self.writer, f"secret/data/jt/{path}")
        assert isinstance(data, dict)
        return data["data"]


@pytest.fixture
def sandbox(private: Path) -> Iterator[Running]:
    """A sandbox without a terminal or any input, in a directory of the test's choice."""
    args = [*SANDBOX, "--dir", str(private / "my box")]
    with Running(args, environment(private)) as sandbox:
        sandbox.until(READY)
        yield sandbox


def test_another_process_plans_and_applies(sandbox: Running, private: Path, watch: Watch) -> None:
    box = private / "my box"
    shell = Shell(box, watch)
    docs = str(box / "repository" / "servers")

    assert "3 to write" in shell.jtr("plan", docs)
    assert "began a ledger" in shell.jtr("ledger", "init")
    assert "Applied: 3 done" in shell.jtr("apply", docs, "--auto-approve")
    assert "Nothing to do" in shell.jtr("apply", docs, "--auto-approve")
    assert {path.name for path in box.iterdir()} == {
        *("repository", "config", "state", "cache", "settings.yaml", "policy.yaml"),
        *("env.sh", "writer.header", ".jtr-sandbox"),
    }
    for name in ("env.sh", "writer.header"):
        assert stat.S_IMODE((box / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(box.stat().st_mode) == 0o700
    # What is meant to be looked at holds no secret, neither does what jtr remembers.
    for path in box.rglob("*"):
        if path.is_file() and path.name not in {"env.sh", "writer.header"}:
            watch.search(path.name, path.read_bytes())

    sandbox.send(signal.SIGTERM)
    assert sandbox.end() == 143
    watch.search("the sandbox's output", sandbox.text)
    assert sandbox.survivors() == []
    assert left(private) == []
    assert (box / "repository" / "servers" / "tokyo-1.yaml").is_file(), "--dir is kept"


def test_the_token_of_jtr_may_only_read_below_jt(
    sandbox: Running, private: Path, watch: Watch
) -> None:
    del sandbox
    shell = Shell(private / "my box", watch)
    token = shell.variables["VAULT_TOKEN"]
    body = {"data": {"apiKey": "x", "secret": "y"}}
    path = "secret/data/jt/tokyo-1/bybit"

    assert isinstance(shell.ask(token, path), dict), "positive control"
    assert shell.ask(token, path, body) == 403
    assert shell.ask(token, "secret/data/elsewhere") == 403
    assert shell.ask(token, "auth/token/lookup-self") == 403
    assert isinstance(shell.ask(shell.writer, path, body), dict), "positive control"
    assert shell.ask(shell.writer, "secret/data/elsewhere", body) == 403


def test_the_line_for_curl_rotates_a_secret(sandbox: Running, private: Path, watch: Watch) -> None:
    shell = Shell(private / "my box", watch)
    line = re.search(r"^ +(curl .*\\\n.*\\\n.*)$", sandbox.text, re.MULTILINE)
    assert line is not None
    if not Path("/usr/bin/curl").exists():
        pytest.skip("there is no curl here")

    answer = shell.run(f". ./env.sh; {line[1]}")

    assert '"version":2' in answer
    assert shell.read("tokyo-1/bybit")["apiKey"] == "any-key-of-yours-1"


def test_typed_lines_are_obeyed(private: Path, watch: Watch) -> None:
    with Running(SANDBOX, environment(private), typed=True) as sandbox:
        text = sandbox.until(READY)
        found = re.search(r"^Files +(\S+)$", text, re.MULTILINE)
        assert found is not None
        shell = Shell(Path(found[1]), watch)
        docs = f"{found[1]}/repository/servers"
        shell.jtr("ledger", "init")
        shell.jtr("apply", docs, "--auto-approve")

        typed = watch.secret()
        sandbox.type(f"set okx_api_secret {typed}")
        sandbox.until("okx_api_secret changed on the server")
        sandbox.type("rotate bybit")
        sandbox.until("bybit is now version 2 in OpenBao")
        sandbox.type("stop-robot 2")
        sandbox.until("arb (2) on okx: stopped")
        plan = shell.jtr("plan", docs)
        sandbox.type("record")
        sandbox.until("3 saves, 8 fields written")
        sandbox.type("rotate gateio unbound")
        sandbox.until("gateio is now version 2 in OpenBao")
        audit = shell.jtr("audit", docs, code=4)
        sandbox.type("mend gateio")
        sandbox.until("the key of gateio is a good one now")
        mended = shell.jtr("audit", docs, "--fresh")
        sandbox.type("record")
        sandbox.until("6 requests to exchanges")
        sandbox.type("mend kucoin")
        sandbox.type("rotate okx badly")
        for bad in ("jump", "set", "set a b c", "robots 1"):
            sandbox.type(bad)
        sandbox.type("set nonsense x")
        sandbox.type("rotate nonsense")
        sandbox.type("stop-robot ²")
        sandbox.type("start-robot 2")
        sandbox.until("arb (2) on okx: running")
        sandbox.type("")
        sandbox.type("quit")
        assert sandbox.end() == 0

        watch.search("the sandbox's output", sandbox.text)
        assert "≠ okx" in plan
        assert "~ bybit" in plan
        assert "grid-btc (1) keeps the old key" in plan
        assert sandbox.text.count("not understood") == 4
        assert sandbox.text.count("no such") == 5
        assert "error IP_UNBOUND" in audit
        assert "3 keys: 0 ok, 3 attention, 0 blocked" in mended, "the server's address is unknown"
        assert sandbox.survivors() == []
        assert left(private) == []


def test_an_impatient_interrupt_leaves_nothing(private: Path) -> None:
    with Running(SANDBOX, environment(private)) as sandbox:
        sandbox.until(READY)
        for _ in range(5):
            sandbox.process.send_signal(signal.SIGINT)

        assert sandbox.end() == 130
        assert "Traceback" not in sandbox.text
        assert sandbox.survivors() == []
        assert left(private) == []


def test_an_interrupt_while_it_starts_leaves_nothing(private: Path) -> None:
    with Running(SANDBOX, environment(private)) as sandbox:
        # The server's own folder is made just before its process.
        while not left(private) and sandbox.process.poll() is None:
            pass
        sandbox.process.send_signal(signal.SIGTERM)

        assert sandbox.end() == 143, sandbox.text
        assert left(private) == []


def test_keep_leaves_the_directory_and_says_where(private: Path) -> None:
    with Running([*SANDBOX, "--keep"], environment(private), typed=True) as sandbox:
        sandbox.until(READY)
        sandbox.type("quit")

        assert sandbox.end() == 0
        (kept,) = left(private)
        assert f"jtr: kept: {private / 'tmp' / kept}" in sandbox.text
        assert (private / "tmp" / kept / "repository" / "servers" / "tokyo-1.yaml").is_file()


@pytest.mark.volume
def test_several_servers_and_again_in_the_same_directory(private: Path, watch: Watch) -> None:
    box = private / "box"
    args = [*SANDBOX, "--dir", str(box), "--servers", "3"]
    for again in (False, True):
        with Running(args, environment(private), typed=True) as sandbox:
            sandbox.until(READY)
            shell = Shell(box, watch)
            assert ("begins anew" in sandbox.text) is again
            assert "and 2 servers more like it" in sandbox.text
            plan = shell.jtr("plan", str(box / "repository" / "servers"))
            assert "9 to write" in plan
            shell.jtr("ledger", "init")
            assert "9 done" in shell.jtr(
                "apply", str(box / "repository" / "servers"), "--auto-approve"
            )
            if not again:
                (box / "repository" / "servers" / "mine.yaml").write_text(
                    "apiVersion: jtr/v1\nkind: Defaults\nspec: {mode: enforce}\n", "utf-8"
                )
                with Running(args, environment(private)) as rival:
                    assert rival.end() == 64
                    assert "a sandbox runs in" in rival.text
            else:
                doctor = shell.jtr("doctor", str(box / "repository" / "servers"), "--no-visit")
                assert "Vault Agent" not in doctor
            sandbox.type("rotate bybit")
            sandbox.until("bybit is now version 2")
            sandbox.type("quit")
            assert sandbox.end() == 0
    assert (box / "repository" / "servers" / "mine.yaml").is_file()


def test_a_directory_that_will_not_do_is_refused(private: Path) -> None:
    full, work_tree = private / "full", private / "tree"
    (full / "mine").mkdir(parents=True)
    (work_tree / ".git").mkdir(parents=True)

    for directory, says in (
        (full, "is not empty"),
        (work_tree / "box", "lies in a Git work tree"),
        (Path("/proc/box"), "cannot be used as a directory"),
    ):
        with Running([*SANDBOX, "--dir", str(directory)], environment(private)) as sandbox:
            assert sandbox.end() == 64
            assert says in sandbox.text

    assert not (work_tree / "box").exists()
    assert left(private) == []
