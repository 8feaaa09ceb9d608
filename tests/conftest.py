"""
What holds for every test: no fatal path, no event outside the table, no trace of a secret.
"""

import gc
import itertools
import logging
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from reconciler.sandbox.jt_trader import record
from reconciler.sandbox.jt_trader import server as jt_trader
from reconciler.sandbox.jt_trader.server import StandIn
from reconciler.sandbox.openbao import OpenBao
from tests.deploy.tools import not_run
from tests.support import counts, guards
from tests.support.leaks import Watch
from tests.support.quick import forbid_starts, is_quick
from tests.support.rig import Rig, hurry

_watch = pytest.StashKey[Watch]()
_events: set[tuple[str, str]] = set()
_tests = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are written anew on demand, see `tests/golden`; quick tests are chosen."""
    parser.addoption(
        "--quick",
        action="store_true",
        help="only tests that can start neither a server nor a process: tests/support/quick.py",
    )
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write the files of tests/golden as the code has it now; read the difference",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect, over the whole run, which command sent which event to a stand-in."""
    counts.FULL = "not long" not in config.option.markexpr
    hypothesis.settings.register_profile("ours", deadline=None)  # or it would judge the machine
    hypothesis.settings.load_profile("ours")
    record.SINK = lambda command, event: _events.add((command, event))
    # A shell starts what is in the background deaf to it, and so would all processes of tests be.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what is not quick where only that was asked for."""
    chosen = config.getoption("--quick") and collection_path.name.startswith("test_")
    return True if chosen and not is_quick(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Let every worker begin with its share of the tests that may take long.

    Workers get equal runs of the list: in one run the long ones would follow one another, and the
    last of them would keep all others waiting.
    """

    def limit(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker is not None and marker.args else 0.0

    long = sorted(filter(limit, items), key=limit, reverse=True)
    short = [item for item in items if not limit(item)]
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    share = len(items) / workers
    ordered: list[pytest.Item] = []
    for number in range(workers):
        ordered += long[number::workers]
        room = round(share * (number + 1)) - len(ordered)
        ordered += short[:room]
        del short[:room]
    items[:] = ordered + short


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave the garbage collector alone meanwhile: nothing of all that is made is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the garbage collector pass over what lives as long as the run: half of all time."""
    if session.config.getoption("--quick") and hasattr(session.config, "workerinput"):
        forbid_starts()  # not where the workers are started from
    gc.set_threshold(20_000, 20, 20)
    _freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Do so again now and then, for libraries keep much."""
    if next(_tests) % 250 == 0:
        _freeze()
    return (yield)


def _freeze() -> None:
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line which programs were missed."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    if said := not_run(reasons):
        terminalreporter.write_line(said, yellow=True, bold=True)


@pytest.fixture(autouse=True)
def stand_ins(request: pytest.FixtureRequest) -> Iterator[list[StandIn]]:
    """
    Count the fatal paths of every stand-in that a test makes, and judge what was sent.

    Its restarts and its log are quick, unless the test says how they are.
    """
    made: list[StandIn] = []

    def created(server: StandIn) -> None:
        made.append(server)
        hurry(server)

    jt_trader.on_created = created
    _events.clear()
    yield made
    jt_trader.on_created = None
    guards.check_fatal_paths(request.node, [server.record.fatal_paths for server in made])
    guards.check_events(request.node, set(_events))


@pytest.fixture(autouse=True)
def watch(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    """Give a test its secrets; what it leaves behind is searched for traces of them."""
    caplog.set_level(logging.DEBUG)
    watch = Watch(request.node.nodeid)
    request.node.stash[_watch] = watch
    yield watch
    folder = request.node.funcargs.get("tmp_path")
    if folder is not None:
        watch.search_folder(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Search everything that a test printed, logged or raised."""
    report = yield
    watch = item.stash.get(_watch, None)
    if watch is not None:
        watch.search("what it raised", report.longreprtext)
    if call.when == "teardown" and watch is not None:
        del item.stash[_watch]  # items live as long as the run, and a search is megabytes
        for name, text in report.sections:
            watch.search(name, text)
        if watch.found:
            report.outcome = "failed"
            report.longrepr = "\n".join(["a secret leaked:", *watch.found, f"seed {watch.seed}"])
    return report


@pytest.fixture(scope="session")
def bao() -> Iterator[OpenBao]:
    """One real OpenBao for all tests of a worker; each uses paths of its own."""
    with OpenBao() as server:
        yield server


@pytest.fixture
def rig(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    bao: OpenBao,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rig]:
    """A home directory, Vault, and as many stand-in servers as the test asks for."""
    silence = any(map(request.node.get_closest_marker, ("silence", "fatal_paths")))
    with Rig(tmp_path, bao, watch, monkeypatch, silence=silence) as rig:
        yield rig
