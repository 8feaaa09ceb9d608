"""
What end-to-end tests stand on: OpenBao, stand-in servers, documents, settings, and `jtr`.

`jtr` runs in this process, through the same `run` that the command calls, so that a test costs
milliseconds; `process` runs the real command.
"""

import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from reconciler.cli.app import run
from reconciler.sandbox.jt_trader.memory import MemoryServer
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.support.durations import DURATIONS, SILENCE
from tests.support.leaks import PRIVATE, Watch

OPEN_POLICY: Mapping[str, Any] = {
    "apiVersion": "jtr/v1",
    "kind": "Policy",
    "rules": [
        {"name": "all", "servers": {"urls": ["**"]}, "secrets": ["**"], "actions": ["all"]},
    ],
}
QUICK: Mapping[str, Any] = {"reboot_drop": 0.02, "reboot_down": 0.05, "log_lag": (0.005, 0.03)}
ROBOTS = (Robot(id=1, name="grid-btc", exchange="bybit"), Robot(id=2, name="arb", exchange="okx"))
FIELDS = {"okx": ("password",), "kucoin": ("password",), "gateio": ("uid",)}
LEDGERS = ("sqlite", "vault")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run of `jtr` ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both outputs."""
        return self.out + self.err


def dumped(document: object, *, sort_keys: bool = True) -> str:
    """Return YAML, by libyaml: thousands of small files are a part of what the tests cost."""
    return str(yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=sort_keys))


class Rig:
    """See the module; one per test, entered by the fixture `rig`."""

    def __init__(
        self,
        home: Path,
        bao: OpenBao,
        watch: Watch,
        monkeypatch: pytest.MonkeyPatch,
        *,
        silence: bool = False,
    ) -> None:
        self.home = home
        self.bao = bao
        self.watch = watch
        self.docs = home / "docs"
        self.team = uuid.uuid4().hex[:12]  # the tests of a worker share one OpenBao
        self.servers: dict[str, StandInThread] = {}
        self._limits = SILENCE if silence else {}
        self._stack = ExitStack()
        self._monkeypatch = monkeypatch
        self.settings_file = home / "settings" / "settings.yaml"
        self.docs.mkdir()
        (home / PRIVATE).mkdir()
        # Some commands look for documents where they are typed: here are none, and this is no tree
        # of thousands of files either.
        (home / "nothing-here").mkdir()
        monkeypatch.chdir(home / "nothing-here")
        self.settings()
        watch.guard(bao.root_token.reveal(), "root token")
        for name in [key for key in os.environ if key.startswith(("VAULT_", "BAO_", "JTR_"))]:
            monkeypatch.delenv(name)
        self.environment = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "VAULT_ADDR": bao.address,
            "VAULT_TOKEN": bao.root_token.reveal(),
            "JTR_SETTINGS": str(self.settings_file),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # ── what there is ────────────────────────────────────────────────────────────────────

    def settings(self, **changes: Any) -> None:
        """
        Write the operator's settings; durations are DURATIONS unless a change says otherwise, and
        in a test with the mark `silence` SILENCE ends what nobody answers.

        A policy allows everything, so that nobody is asked about new recipients; `policy=None` is
        for none.
        """
        self.settings_file.parent.mkdir(exist_ok=True)
        document = {"durations": DURATIONS} | changes
        document["durations"] = {**document["durations"], **self._limits}
        if not document.keys() & {"allow", "policy"}:
            document["policy"] = self.policy()
        if document.get("policy") is None:
            document.pop("policy", None)
        self.settings_file.write_text(dumped(document), "utf-8")

    def policy(self, **changes: Any) -> str:
        """Write a policy, by default one that allows everything; returns its path."""
        path = self.settings_file.parent / "policy.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dumped({**OPEN_POLICY, **changes}), "utf-8")
        return str(path)

    def ledger(self, kind: str) -> dict[str, Any]:
        """
        Return the settings of a ledger of one of LEDGERS.

        One in Vault lies in a mount of its own that insists on check-and-set, as in production.
        """
        if kind == "sqlite":
            return {"soleWriter": True}
        mount = f"ledger-{self.team}"
        self.bao.mount_kv2(mount)
        self.bao.request("POST", f"{mount}/config", {"cas_required": True})
        key = f"{self.reference('fingerprint')}#key"
        return {"ledger": f"vault:{mount}/ledger", "fingerprintKey": key}

    def server(self, name: str = "tokyo-1", **options: Any) -> StandInThread:
        """Start a stand-in with two running robots, and put its access secret into OpenBao."""
        secret = self.watch.secret("base62")
        self.put(f"{name}", access_secret=secret)
        options = {"robots": [_copied(robot) for robot in ROBOTS]} | options
        server = StandInThread(access_secret=secret, **options)
        self._stack.enter_context(server)
        self.servers[name] = server
        return server

    def path(self, name: str) -> str:
        """The path of a secret of this test below its mount."""
        return f"jt/{self.team}/{name}"

    def put(self, name: str, **fields: Any) -> int:
        """Write a version of a secret as given; returns its number."""
        return self.bao.put(self.path(name), fields)

    def rotate(
        self, server: str = "tokyo-1", exchange: str = "bybit", shape: str = "base62", **kept: str
    ) -> dict[str, str]:
        """Write new made-up credentials of an exchange; returns them."""
        names = ("apiKey", "secret", *FIELDS.get(exchange, ()))
        fields = {name: kept.get(name) or self.watch.secret(shape) for name in names}
        self.put(f"{server}/{exchange}", **fields)
        return fields

    def reference(self, name: str) -> str:
        """The reference to a secret of this test."""
        return f"vault:secret/{self.path(name)}"

    def document(
        self, name: str = "tokyo-1", *exchanges: str, rotate: bool = True, **spec: Any
    ) -> Path:
        """
        Write the document of a server with these exchanges, and credentials for each.

        *spec* adds to or replaces keys of the document's `spec`.
        """
        exchanges = exchanges or ("bybit",)
        if rotate:
            for exchange in exchanges:
                self.rotate(name, exchange)
        body: dict[str, Any] = {
            "url": self.servers[name].url if name in self.servers else "https://nowhere.internal",
            "accessSecret": f"{self.reference(name)}#access_secret",
            "exchanges": {
                code: {"credentials": self.reference(f"{name}/{code}")} for code in exchanges
            },
        }
        extra = spec.pop("exchanges", {})
        body |= spec
        body["exchanges"] = {**body["exchanges"], **extra}
        document = {
            "apiVersion": "jtr/v1",
            "kind": "TradingServer",
            "metadata": {"name": name},
            "spec": body,
        }
        return self.write(f"{name}.yaml", dumped(document, sort_keys=False))

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file among the documents."""
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
        path.write_bytes(data)
        return path

    # ── what is done ─────────────────────────────────────────────────────────────────────

    def jtr(self, *args: str, environment: Mapping[str, str] | None = None) -> Ran:
        """Run a command in this process."""
        for key, value in {**self.environment, **(environment or {})}.items():
            self._monkeypatch.setenv(key, value)
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(args)
        return self._searched(Ran(int(code), out.getvalue(), err.getvalue()), args)

    def process(
        self, *args: str, environment: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Ran:
        """Run the real command in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", *args],
            env={"PATH": os.defpath, **self.environment, **(environment or {})},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            input=stdin,
            text=True,
            timeout=60,
            check=False,
        )
        return self._searched(Ran(done.returncode, done.stdout, done.stderr), args)

    def apply(self, *args: str, **options: Any) -> Ran:
        """Run `jtr apply` on all documents without being asked."""
        return self.jtr("apply", str(self.docs), "--auto-approve", *args, **options)

    def plan(self, *args: str, **options: Any) -> Ran:
        """Run `jtr plan` on all documents."""
        return self.jtr("plan", str(self.docs), *args, **options)

    def begin(self) -> None:
        """Begin the ledger."""
        done = self.jtr("ledger", "init")
        assert done.code == 0, done

    def _searched(self, ran: Ran, args: tuple[str, ...]) -> Ran:
        command = f"jtr {args[0] if args else ''}"
        self.watch.search(f"standard output of {command}", ran.out)
        self.watch.search(f"standard error of {command}", ran.err)
        return ran


def hurry(server: StandIn) -> None:
    """
    Make restarts and the log of a stand-in on real time as quick as QUICK.

    With what is usual for a real server `tests/e2e/test_requests.py` alone takes 316 s instead of
    43 s.  A log that lags longer than a look takes, and shorter than `logLag`, is what matters, and
    that it does here too; `tests/sandbox` sees the usual ones.  What a test has set is left as it
    is, and in memory, where time costs nothing, all of it is as usual.
    """
    if isinstance(server, MemoryServer):
        return
    usual = Behaviour()
    for name, value in QUICK.items():
        if getattr(server.behaviour, name) == getattr(usual, name):
            setattr(server.behaviour, name, value)


def _copied(robot: Robot) -> Robot:
    return Robot(id=robot.id, name=robot.name, exchange=robot.exchange, running=robot.running)
