"""
Bad input and dead dependencies: a clear message, the right exit code, no harm, nothing lost.

Every row spoils one thing in a fleet that is in good order and has something new to write.  The
judge is what the servers really saw.  Afterwards the thing is put in order, and one apply must
bring everybody to the desired state, with every robot still running.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import pytest

from reconciler.errors import Exit
from reconciler.sandbox.jt_trader.server import StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.bad_input_documents import COMMAND_LINES, DOCUMENTS, FILES, HARMLESS
from tests.e2e.bad_input_messages import (
    foreign_words,
    messages,
    parsed,
    without_remedy,
    without_remedy_in,
)
from tests.e2e.bad_input_row import PLAN, Row, Scope
from tests.e2e.bad_input_secrets import SECRETS, VAULTS
from tests.e2e.bad_input_servers import BEHAVING, FITTING, REACHING
from tests.e2e.bad_input_settings import LEDGERS, LIMITS, SETTINGS
from tests.e2e.bad_input_setup import Setup
from tests.support.leaks import Watch
from tests.support.rig import Ran, Rig

TABLE = (
    *DOCUMENTS,
    *FILES,
    *COMMAND_LINES,
    *SETTINGS,
    *LEDGERS,
    *LIMITS,
    *VAULTS,
    *SECRETS,
    *FITTING,
    *REACHING,
    *BEHAVING,
)
"""All that was ever found worth trying; the names are what people call it."""

ALONE = [
    row
    for row in (*DOCUMENTS, *FILES, *COMMAND_LINES, *SETTINGS, *VAULTS)
    if row.scope is Scope.ALL
]
"""The rows that leave servers and ledger alone, so that they can share a scene."""


NEVER_MISSING = (
    *("unknown key", "wrong type", "duplicate key", "alias bomb", "tags", "deep nesting", "tabs"),
    *("2 MB file", "non-UTF-8", "empty file", "missing file", "directory without YAML"),
    *("bad reference", "pasted secret", "two documents for one target", "changed URL"),
    *("unknown exchange on that server", "missing field", "surplus field"),
    *("secret with surrounding whitespace", "secret empty", "secret with •"),
    *("secret that is a number", "Vault down", "Vault sealed", "Vault forbids"),
    *("Vault token expired", "secret deleted", "secret destroyed", "secret pruned"),
    *("secret missing", "wrong mount", "KV v1", "settings inside the repository"),
    *("server down", "TLS wrong", "wrong secret", "wrong account", "silent login"),
    *("dropped in mid-save", "unknown answer", "over-long answer"),
    *("version outside the tested range", "missing ledger", "both key spellings"),
)
"""What the first release promised to withstand: how the names of rows begin."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a server has seen and stores at one moment."""

    values: Mapping[str, str] = field(repr=False)
    saves: int
    deletes: int
    rows: int
    connections: int
    messages: int

    @classmethod
    def of(cls, server: StandInThread) -> Self:
        record = server.record
        return cls(
            dict(server.values()),
            record.saves,
            record.deletes,
            record.rows_written,
            len(record.handshakes),
            len(record.received),
        )

    def unwritten(self, server: StandInThread) -> bool:
        """Whether nothing was written since: not even the attempt was made."""
        now = Seen.of(server)
        return (self.saves, self.deletes, self.rows) == (now.saves, now.deletes, now.rows) and (
            # Compared in here: a failing assertion would print the values.
            self.values == now.values
        )


@pytest.fixture(scope="module")
def sealed() -> Iterator[OpenBao]:
    with OpenBao() as server:
        server.seal()
        yield server


@pytest.fixture(scope="module")
def standing(
    tmp_path_factory: pytest.TempPathFactory, bao: OpenBao, sealed: OpenBao
) -> Iterator[Setup]:
    """One scene for all rows that never come to a server: the servers are the witnesses."""
    watch, home = Watch("bad input"), tmp_path_factory.mktemp("standing")
    with pytest.MonkeyPatch.context() as patch, Rig(home, bao, watch, patch) as rig:
        yield Setup(rig, sealed)
    watch.search_folder(home)
    assert watch.found == []


@pytest.fixture
def setup(row: Row, request: pytest.FixtureRequest, watch: Watch, sealed: OpenBao) -> Setup:
    if row not in ALONE:
        return Setup(request.getfixturevalue("rig"), sealed, tls=row.tls)
    setup: Setup = request.getfixturevalue("standing")
    watch._search = setup.rig.watch._search  # what this test prints and logs is searched for them
    return setup


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_bad_input(row: Row, setup: Setup) -> None:
    if row.scope is Scope.ALL and not setup.planned:
        setup.planned = planned_by(setup)  # where rows share a scene, it stays so for all of them
    row.spoil(setup)
    try:
        for line, code in row.ends.items():
            bad, good = Seen.of(setup.bad), Seen.of(setup.good)
            ran = setup.run(line.split())
            check_message(ran, code, row, setup)
            check_servers(line, row, setup, bad, good)
        if PLAN in row.ends:
            check_json(setup.run(f"{PLAN} -o json".split()), row)
        robots = setup.bad.robots_running(), setup.good.robots_running()
    finally:
        setup.mend()

    assert robots == ({1, 2}, {1, 2})
    check_memory(setup, row)
    if row.scope is Scope.ALL:
        assert planned_by(setup) == setup.planned
    if row not in ALONE:
        check_recovery(setup)
    assert setup.rig.watch.found == []


def test_no_row_is_missing() -> None:
    names = [row.name for row in TABLE]

    assert len(set(names)) == len(names)
    assert [n for n in NEVER_MISSING if not any(name.startswith(n) for name in names)] == []


@pytest.mark.parametrize("row", HARMLESS, ids=lambda row: row.name)
def test_what_looks_odd_but_is_right(row: Row, standing: Setup) -> None:
    planned = planned_by(standing)
    row.spoil(standing)
    try:
        ran = [(standing.run(line.split()), code) for line, code in row.ends.items()]
        same = planned_by(standing) == planned
    finally:
        standing.mend()

    assert [(done.code, done.err) for done, _ in ran] == [(code, "") for _, code in ran]
    assert all(standing.filled(row.what) in done.out for done, _ in ran)
    assert same


def check_message(ran: Ran, code: Exit, row: Row, setup: Setup) -> None:
    print(ran.text)  # noqa: T201  - shown when the row fails, or with -rP
    what, remedy = setup.filled(row.what), setup.filled(row.remedy)

    assert ran.code == code
    assert foreign_words(ran.text) == []
    assert without_remedy(ran.text) == []
    if remedy:
        assert any(said.says(what, remedy) for said in messages(ran.text)), (what, remedy)
    else:
        assert what in ran.text


def check_servers(line: str, row: Row, setup: Setup, bad: Seen, good: Seen) -> None:
    """Compare what the servers saw of one command with what they were to see."""
    applies = line.startswith("apply")
    new_connections = len(setup.bad.record.handshakes) - bad.connections
    asked = len(setup.bad.record.received) - bad.messages
    if row.scope is Scope.ALL:
        assert new_connections == asked == 0
        assert len(setup.good.record.handshakes) == good.connections
        assert bad.unwritten(setup.bad)
        assert good.unwritten(setup.good)
        return
    if row.scope is Scope.NOTHING:
        assert bad.unwritten(setup.bad)
        assert good.unwritten(setup.good)
        return
    assert new_connections == row.connections
    assert bool(asked) is (row.asks and row.connections > 0)
    assert setup.holds_newest("osaka-1", "bybit") is (applies or good.saves > 1)
    match row.scope:
        case Scope.SERVER:
            assert bad.unwritten(setup.bad)
        case Scope.EXCHANGE:
            written = {name for name in ("bybit", "okx") if setup.holds_newest("tokyo-1", name)}
            spared = "okx" if row.what.startswith("okx") else "bybit"
            assert (spared in written) is (applies and row.what.startswith("kucoin"))
            assert ({"bybit", "okx"} - {spared} <= written) is applies
        case Scope.WRITE:
            assert setup.bad.record.saves - bad.saves == row.saves
            assert setup.bad.record.rows_written - bad.rows == row.rows


def check_json(ran: Ran, row: Row) -> None:
    """The same for programs: the code, and a remedy with every error."""
    assert ran.code == row.ends[PLAN]
    assert foreign_words(ran.err) == []
    if row.scope is Scope.ALL and not ran.out:
        assert without_remedy(ran.err) == []
        return
    document = parsed(ran.out)

    assert document["exitCode"] == ran.code
    assert without_remedy_in(document) == []


def check_memory(setup: Setup, row: Row) -> None:
    """The ledger opens and remembers what was really done."""
    status = setup.run(["status"])

    assert status.code == 0, status.text
    assert setup.filled(row.remembers) in status.out, status.text


def planned_by(setup: Setup) -> str:
    """Return the name of what is to be done: it stays the same when nothing has changed."""
    ran = setup.run(f"{PLAN} -o json".split())
    assert ran.code == 0, ran.text
    return str(parsed(ran.out)["planId"])


def check_recovery(setup: Setup) -> None:
    """One apply brings everybody to the desired state, and the next one has nothing to do."""
    setup.news()
    apply = setup.rig.apply()
    saves = setup.bad.record.saves, setup.good.record.saves

    assert apply.code == 0, apply.text
    again = setup.rig.apply()
    assert again.code == 0, again.text
    assert (setup.bad.record.saves, setup.good.record.saves) == saves
    assert all(
        setup.holds_newest(*place)
        for place in (("tokyo-1", "bybit"), ("tokyo-1", "okx"), ("osaka-1", "bybit"))
    )
    assert (setup.bad.robots_running(), setup.good.robots_running()) == ({1, 2}, {1, 2})
