"""
Starts the stand-in fleet (`bench/standin/fleet.mjs`) and asks its counters.
"""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

FOLDER: Final = Path(__file__).parents[1] / "standin"
_SPARE: Final = 300  # descriptors that a process needs besides
_PATIENCE: Final = 60.0


class Unavailable(Exception):
    """What a measurement needs is not on this machine; the text says what to do."""


def found(tool: str) -> str:
    """Return where *tool* is.  Raises Unavailable."""
    path = shutil.which(tool)
    if path is None:
        raise Unavailable(f"the stand-in fleet needs {tool}: install Node.js 18 or newer with npm")
    return path


def prepare() -> None:
    """Install npm's socket.io in the locked version, unless it is there.  Raises Unavailable."""
    npm = found("npm")
    found("node")
    wanted = (FOLDER / "package-lock.json").read_bytes()
    stamp = FOLDER / "node_modules" / ".installed"
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return
    done = subprocess.run([npm, "ci"], cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"npm ci in {FOLDER} failed:\n{done.stderr[-1000:]}")
    stamp.write_bytes(wanted)


def raise_descriptors() -> int:
    """Raise the limit of open files as far as it goes and return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class Standins:
    """*count* servers while it is entered, in as many processes as descriptors demand."""

    def __init__(self, count: int, **options: Any) -> None:
        self.count: Final = count
        self.places: Final[list[tuple[str, int]]] = []
        self._options: Final = options
        self._processes: Final[list[subprocess.Popen[bytes]]] = []
        self._controls: Final[list[int]] = []
        self._sizes: Final[list[int]] = []

    def __enter__(self) -> Self:
        prepare()
        # Each server needs one for its address and one for whoever is connected.
        most = (raise_descriptors() - _SPARE) // 2
        try:
            for first in range(0, self.count, most):
                self._start(first, min(most, self.count - first))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()  # it ends then
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [process.pid for process in self._processes]

    def each(self) -> list[dict[str, float]]:
        """Return the counters of every server, in their order."""
        return [one for port in self._controls for one in _ask(port, "/each")]

    def totals(self) -> dict[str, int]:
        """Return the counters of all servers together."""
        answers = [_ask(port, "/totals") for port in self._controls]
        return {
            key: sum(one[key] for one in answers)
            for key, value in answers[0].items()
            if isinstance(value, int)
        }

    def rows(self) -> list[dict[str, str]]:
        """Return what is stored in each server."""
        return [one for port in self._controls for one in _ask(port, "/rows")]

    def reset(self) -> None:
        """Begin to count anew."""
        for port in self._controls:
            _ask(port, "/reset")

    def set(self, what: Sequence[Mapping[str, object]]) -> None:
        """Tell each server its `secret`, its `rows`, or both."""
        begin = 0
        for port, size in zip(self._controls, self._sizes, strict=True):
            _ask(port, "/set", {n: what[n] for n in range(begin, begin + size)})
            begin += size

    def _start(self, first: int, count: int) -> None:
        options = {"first": first, "count": count, **self._options}
        process = subprocess.Popen(
            [found("node"), "fleet.mjs", json.dumps(options)],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        said = process.stdout.readline() if process.stdout is not None else b""
        if not said:
            raise Unavailable(f"the stand-in fleet did not start (exit code {process.wait()})")
        answer = json.loads(said)
        self._controls.append(answer["control"])
        self._sizes.append(count)
        self.places.extend(
            (f"127.1.{number // 250}.{number % 250 + 1}", answer["port"])
            for number in range(first, first + count)
        )


def _ask(port: int, path: str, body: object = None) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("POST", path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"{path}: {answer.status}")
        return json.loads(data)
    finally:
        connection.close()


if __name__ == "__main__":  # `make bench` compares it with the tests' stand-in before it measures
    try:
        prepare()
    except Unavailable as missing:
        print(f"bench: {missing}", file=sys.stderr)
        sys.exit(69)
