"""
A night on call: a controller under a stand-in `systemctl`, somebody whom it tells, and a terminal.

The log goes to a file that the controller takes for the journal, so that the stand-in `journalctl`
filters by the priorities that it really writes.
"""

import json
import os
import re
import shlex
import signal
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reconciler.testing.receiver import receiving
from tests.deploy.ports import free_ports
from tests.e2e.terminal import Shell
from tests.house.pages import commands, shell
from tests.support.durations import BRISK, SILENCE
from tests.support.leaks import PRIVATE
from tests.support.loops import LoopThread
from tests.support.rig import Rig

PATIENCE = 90.0  # seconds; generous, for a machine that others use, too
RUNBOOKS = "https://ops.internal/runbooks"
# At night somebody is away sooner or later, and is told of soon.
TROUBLED = BRISK | SILENCE
TROUBLED |= {"robot": "2s", "drop": "2s", "ready": "5s", "lease": "1s", "toldAfter": "300ms"}
SYSTEMCTL = """#!/bin/bash
set -eu
unit=@UNIT@
gone() {  # as systemd has it: also what ended and was not waited for
  [ ! -e $unit/pid ] || ! grep -qs '^State:.[^ZX]' "/proc/$(cat $unit/pid)/status"
}
begin() {  # as systemd: in no session of a terminal, with no variable of whoever asks for it
  cd @HOME@
  touch $unit/log
  stream=$(stat -c %d:%i $unit/log)
  setsid env -i JOURNAL_STREAM=$stream bash -c '. "$0"; exec jtr controller servers' @VARIABLES@ \
    >>$unit/log 2>&1 </dev/null &
  echo $! > $unit/pid
}
end() { gone || kill -TERM "$(cat $unit/pid)"; until gone; do sleep 0.05; done; rm -f $unit/pid; }
[ "${2:-}" = jtr-controller ] || { echo "Unit ${2:-} could not be found." >&2; exit 4; }
case "$1" in
  start) gone || exit 0; begin ;;
  stop) [ ! -e $unit/pid ] || end ;;
  restart) [ ! -e $unit/pid ] || end; begin ;;
  reload) kill -HUP "$(cat $unit/pid)" ;;
  status) if gone; then echo "Active: failed"; exit 3; else echo "Active: active (running)"; fi ;;
  *) exit 1 ;;
esac
"""
JOURNALCTL = """#!/bin/bash
set -eu
most=7
while [ $# -gt 0 ]; do
  case "$1" in -p) most=4; shift ;; -u|-n|--since) shift ;; esac
  shift
done
grep -E "^<[0-$most]>" @UNIT@/log | sed 's/^<[0-9]>//' | tail -n 50
"""


class Served:
    """What a controller serves at its address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def asks(self, path: str) -> tuple[int, str]:
        """A page of the controller; 0 where nobody answers within five seconds."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def status(self) -> dict[str, Any]:
        """What `/v1/status` says."""
        found: dict[str, Any] = json.loads(self.asks("/v1/status")[1] or "{}")
        return found

    def server(self, name: str = "tokyo-1") -> dict[str, Any]:
        """What it says of one server."""
        servers = self.status().get("servers", ())
        return next((one for one in servers if one["server"] == name), {})

    def metrics(self) -> dict[str, float]:
        """The metrics, by name and labels."""
        lines = self.asks("/metrics")[1].splitlines()
        rows = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in rows}

    def until(self, holds: Callable[[], object], what: str, patience: float = PATIENCE) -> float:
        """Wait until something holds; returns how long it took."""
        began = time.monotonic()
        while not holds():
            passed = time.monotonic() - began
            assert passed < patience, f"never: {what}\n{self._seen()}"
            time.sleep(0.02)
        return time.monotonic() - began

    def _seen(self) -> str:
        """What is said of a wait in vain."""
        return str(self.server())


class Night(Served):
    """
    Enter it; then declare servers and documents in the rig, and `start`.

    The person is where the documents lie in `servers`: in the rig's home, or where those of the
    sandbox are.
    """

    def __init__(self, rig: Rig, **durations: str) -> None:
        self.rig = rig
        self.durations = TROUBLED | durations
        if rig.docs.name != "servers":
            rig.docs = rig.home / "servers"
            rig.docs.mkdir()
        self.folder = rig.docs.parent
        self._unit = rig.home / "unit"
        self._unit.mkdir()
        self._stack = ExitStack()
        (self._port,) = free_ports(1)
        super().__init__(f"http://127.0.0.1:{self._port}")
        self.environment = commands(rig.home / PRIVATE / "person") | rig.environment
        folder = rig.home / PRIVATE / "person" / "bin"
        self._variables = folder.parent / "unit-variables"
        places = {"UNIT": self._unit, "HOME": self.folder, "VARIABLES": self._variables}
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
            for place, path in places.items():
                text = text.replace(f"@{place}@", shlex.quote(str(path)))  # noqa: PLW2901
            script = folder / name
            script.write_text(text)
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        self._person: Shell | None = None

    def __enter__(self) -> Self:
        self._loop = self._stack.enter_context(LoopThread("receiver"))
        self._receiving = receiving()
        self.receiver = self._loop.run(self._receiving.__aenter__())
        self.settings()
        self.unit()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        if self._person is not None:
            self._person.__exit__(None, None, None)
        self.shell("systemctl stop jtr-controller")
        self._loop.run(self._receiving.__aexit__(None, None, None))
        self._stack.close()
        if (self._unit / "log").exists():
            self.rig.watch.search("the controller's log", (self._unit / "log").read_bytes())

    def settings(self, **changes: Any) -> None:
        """Write settings: short durations, a webhook to us, a name for the fleet."""
        key = self.rig.home / PRIVATE / "webhook-key"
        if not key.exists():
            key.write_text(self.rig.watch.secret("hex"))
        target = {"kind": "webhook", "name": "pager", "severity": "info", "secretFile": str(key)}
        controller = {"listen": f"127.0.0.1:{self._port}", "url": self.url, "fleet": "desk-asia"}
        controller["runbooks"] = RUNBOOKS
        usual = {
            "soleWriter": True,
            "durations": self.durations,
            "controller": controller | changes.pop("controller", {}),
            "notifications": [target | {"url": f"{self.receiver.url}/jtr"}],
        }
        self.rig.settings(**(usual | changes))

    def start(self, **more: str) -> None:
        """Begin the ledger where there is none, and start the controller; *more* are variables."""
        if not list(Path(self.environment["XDG_STATE_HOME"]).rglob("ledger.db")):
            self.rig.begin()
        self.unit(**more)
        self.shell("systemctl start jtr-controller", private=False)
        self.until(lambda: self.asks("/readyz")[0] == 200, "ready")
        self.unit()

    def unit(self, **more: str) -> None:
        """Write the variables of the service, which it has from its next start on."""
        found = self.environment | more
        lines = [f"export {name}={shlex.quote(text)}" for name, text in found.items()]
        self._variables.write_text("\n".join((*lines, "")))

    @property
    def person(self) -> Shell:
        """The terminal of the person who is on call, the same to the end of the night."""
        if self._person is None:
            self._person = Shell(self.rig.watch, self.folder, self.environment)
            self._person.__enter__()
        return self._person

    def kill(self) -> None:
        """End the controller by force, and wait until it has gone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        status = Path(f"/proc/{pid}/status")
        self.until(
            lambda: not status.exists() or "State:\tZ" in status.read_text(), "the process ended"
        )

    def shell(self, script: str, *, private: bool = False, **more: str) -> str:
        """
        Run commands without a terminal, as whoever sets the scene; returns what they printed.

        With *private* where files may hold secrets: nobody looks for traces there.
        """
        folder = self.rig.home / PRIVATE if private else self.folder
        printed = shell(script, folder, self.environment | more)
        self.rig.watch.search("what a command printed", printed)
        return printed

    # ── what can be seen ─────────────────────────────────────────────────────────────────

    @property
    def pid(self) -> int:
        """The controller's process."""
        return int((self._unit / "pid").read_text())

    def log(self, begin: int = 0) -> list[dict[str, Any]]:
        """Lines of the log from an offset, with their priority as `priority`."""
        text = (self._unit / "log").read_bytes()[begin:].decode()
        found = re.findall(r"^<(\d)>(\{.*\})$", text, re.MULTILINE)
        return [json.loads(line) | {"priority": int(number)} for number, line in found]

    def log_end(self) -> int:
        """Where the log ends now."""
        return (self._unit / "log").stat().st_size

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was told, digests taken apart."""
        bodies = [json.loads(request.body) for request in list(self.receiver.requests)]
        return [one for body in bodies for one in body.get("items", [body])]

    def told(self, topic: str, *, over: bool = False, begin: int = 0) -> dict[str, Any]:
        """Wait for news of a topic, or for its end."""

        def found() -> list[dict[str, Any]]:
            news = self.messages[begin:]
            return [one for one in news if one["topic"] == topic and bool(one["state"]) is not over]

        self.until(lambda: bool(found()), f"{topic}: {'over' if over else 'told'}")
        return found()[0]

    def _seen(self) -> str:
        log = (self._unit / "log").read_text()[-2000:] if (self._unit / "log").exists() else ""
        told = [one["text"] for one in self.messages]
        return f"{self.server()}\n{told}\n{log}"
