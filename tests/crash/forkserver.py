"""
Starts `jtr` quickly and often: a process with everything imported that forks for each run.

Run as a program it is the server; `Forks` is its client.  It has neither threads nor a loop, so
forking is safe.  A run may be told to end itself, as `kill -9` would, at one of its writes to the
ledger.
"""

import gc
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds until a run that takes less than one hangs
VOLUME = 3600
"""Seconds for tests of so many runs that only a machine decides how long they take together; what
hangs is noticed by run."""

MANY = int(os.environ.get("JTR_KILLS", "") or 1000)
"""Processes that a long test kills on each ledger."""


class Forks:
    """The server's client; every process that it starts is waited for by `wait`."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
            text=True,
        )

    def run(
        self,
        args: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        *,
        moment: int | None = None,
        folder: Path = ROOT,
    ) -> int:
        """
        Start `jtr ARGS` in *folder* and return its process id, which stays valid until `wait`.

        An *output* that is a terminal is its input, too.  At *moment* it kills itself: just before
        and just after each write to the ledger, counted from 0.
        """
        order = {
            "args": args,
            "env": dict(environment),
            "out": str(output),
            "moment": moment,
            "folder": str(folder),
        }
        return int(self._ask(order))

    def wait(self, pid: int) -> int:
        """Wait for a run to end; return its exit code, or -9 when it was killed."""
        return int(self._ask({"wait": pid}))

    def _ask(self, order: Mapping[str, Any]) -> str:
        if self._server.stdin is None or self._server.stdout is None:
            raise AssertionError
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        answers, _, _ = select.select([self._server.stdout], [], [], PATIENCE)
        assert answers, f"hangs: {order}"
        return self._server.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in (self._server.stdin, self._server.stdout):
            if pipe is not None:
                pipe.close()
        self._server.wait(10)


def main() -> None:
    """Serve until the client closes the pipe."""
    import concurrent.futures.thread  # noqa: F401, PLC0415  - what a run imports late
    import encodings.utf_8_sig  # noqa: PLC0415
    import encodings.utf_16_le  # noqa: F401, PLC0415

    import hvac.api.auth_methods  # noqa: F401, PLC0415
    import jsonschema_rs  # noqa: F401, PLC0415

    import reconciler.cli.apply  # noqa: PLC0415
    import reconciler.cli.plan  # noqa: PLC0415
    import reconciler.ledger.stores.sqlite  # noqa: PLC0415
    import reconciler.ledger.stores.vault_kv  # noqa: F401, PLC0415

    # A collection in a child would write to every object, and so copy all that is shared.
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            status = os.waitpid(order["wait"], 0)[1]
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                _child(order)
        os.write(1, f"{answer}\n".encode())


def _child(order: Mapping[str, Any]) -> None:
    """Be one run of `jtr`; never returns."""
    from reconciler.cli.app import run  # noqa: PLC0415  - imported already

    code = 1
    try:
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["folder"])
        os.setsid()  # so that a terminal which is opened now is its own
        output = os.open(order["out"], os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output if os.isatty(output) else os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if order["moment"] is not None:
            _die_at(order["moment"])
        code = run(order["args"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _die_at(moment: int) -> None:
    """Kill this process just before or just after one of its writes to the ledger."""
    from reconciler.ledger.stores.sqlite import SqliteStore  # noqa: PLC0415  - imported already
    from reconciler.ledger.stores.vault_kv import VaultStore  # noqa: PLC0415

    passed = 0

    def step() -> None:
        nonlocal passed
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    def dying(put: Callable[..., T]) -> Callable[..., T]:
        def stepping(*args: Any, **more: Any) -> T:
            step()
            done = put(*args, **more)
            step()
            return done

        return stepping

    # Only in this short-lived process: where each of them makes something durable.
    SqliteStore.put_all = dying(SqliteStore.put_all)  # type: ignore[method-assign]
    VaultStore.put = dying(VaultStore.put)  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
