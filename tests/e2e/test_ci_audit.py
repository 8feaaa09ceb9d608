"""
What a pull request says of keys: remembered facts, judged by its own documents, with nobody asked.

Exchanges and the server count who asked them; OpenBao's audit log says what was read.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked
from tests.e2e.test_audit import SECURITY, Market, answers, bybit
from tests.e2e.test_ci import Team
from tests.exchanges.counting_exchange import BYBIT
from tests.support.forge import US, ForgeStandIn
from tests.support.rig import Ran, Rig

LINE = "Keys, as exchanges answered last (nobody was asked now): "


class AuditedTeam(Team):
    """A team whose documents declare `security`, and exchanges that know its keys."""

    def __init__(self, rig: Rig, forge: ForgeStandIn, stack: ExitStack) -> None:
        super().__init__(rig, forge)
        self.market = Market(rig, stack)

    def open(self) -> dict[str, str]:
        """Begin with one good key, which the server has; return it."""
        self.rig.server()
        self.declare("bybit")
        self.repository.commit("Begin")
        key = self.market.key(BYBIT)
        self.rig.begin()
        assert self.rig.apply().code == 0
        return key

    def declare(self, *exchanges: str, **more: Any) -> None:
        self.rig.document("tokyo-1", *exchanges, rotate=False, security={**SECURITY, **more})

    def propose(self, name: str, *exchanges: str, **more: Any) -> None:
        self.repository.branch(name)
        self.declare(*exchanges, **more)
        self.repository.commit(f"Change: {name}")

    def audit(self, *args: str) -> int:
        """Ask the exchanges about the keys of main, as a job on a timer does."""
        self.repository.git("checkout", "--quiet", "main")
        return self.market.audit(*args).code

    def comment(self) -> str:
        return next(one.body for one in self.forge.told.comments if one.author == US)


@pytest.fixture
def team(rig: Rig) -> Iterator[AuditedTeam]:
    with ForgeStandIn() as forge, ExitStack() as stack:
        yield AuditedTeam(rig, forge, stack)


def quietly(team: AuditedTeam, bao: OpenBao, number: int, branch: str) -> Ran:
    """Run the job of a pull request; see that it asks no exchange, no server, and for no value."""
    greeted, calls = len(team.rig.servers["tokyo-1"].record.handshakes), team.market.calls()
    with asked(bao, team.rig) as paths:
        ran = team.pull_request(number, branch, "--out", str(team.rig.home / "out"))
    assert len(team.rig.servers["tokyo-1"].record.handshakes) == greeted
    assert team.market.calls() == calls
    assert not [path for path in paths if path.startswith("secret/data/")]
    return ran


def test_what_was_answered_last_stands_in_the_comment(team: AuditedTeam, bao: OpenBao) -> None:
    key = team.open()
    team.rig.rotate(exchange="okx")
    team.propose("more", "bybit", "okx")

    nothing = quietly(team, bao, 1, "more")
    untold = team.comment()
    assert team.audit() == 0
    good = quietly(team, bao, 1, "more")
    told = team.comment()
    answers(team.market, BYBIT, key, bybit(key, permissions={"Wallet": ["Withdraw"]}))
    assert team.audit("--fresh") == 4
    bad = quietly(team, bao, 1, "more")
    worse = team.comment()

    assert (nothing.code, good.code, bad.code) == (0, 0, 0), nothing.text + bad.text
    assert "Keys: no answer of an exchange is remembered; `jtr audit`" in untold
    assert "What the exchanges say" not in untold
    assert f"{LINE}2 keys: 1 ok, 1 attention, 0 blocked" in told
    okx = told.index("~ tokyo-1/okx")
    assert f"no exchange was asked about {team.rig.reference('tokyo-1/okx')}@1 yet" in (
        told[okx:].replace("\n", " ").replace("  ", " ")
    )
    assert okx < told.index("✓ tokyo-1/bybit")
    assert f"{LINE}2 keys: 0 ok, 1 attention, 1 blocked" in worse
    assert worse.index("! tokyo-1/bybit") < worse.index("~ tokyo-1/okx")
    assert "PERM_WITHDRAW" in worse
    # It is a word of warning: what may be wrong by now ends no job.
    assert "::warning file=" in bad.out
    assert "PERM_WITHDRAW" in bad.out
    assert "::error" not in bad.out
    out = team.rig.home / "out"
    assert json.loads((out / "plan.json").read_text("utf-8"))["audit"]["summary"]["blocked"] == 1
    assert "PERM_WITHDRAW" in (out / "jtr.sarif").read_text("utf-8")


def test_facts_are_judged_by_the_documents_of_the_pull_request(
    team: AuditedTeam, bao: OpenBao
) -> None:
    team.open()
    assert team.audit() == 0
    team.propose("stricter", "bybit", ipWhitelist=["198.51.100.7/32"])

    ran = quietly(team, bao, 1, "stricter")

    # Nothing is to be written, and the key is unwell by the new document.
    assert ran.code == 0, ran.text
    assert f"{LINE}1 key: 0 ok, 0 attention, 1 blocked" in team.comment()
    assert "IP_MISSING_SERVER" in team.comment()


def test_what_was_said_of_other_values_counts_for_nothing(team: AuditedTeam, bao: OpenBao) -> None:
    team.open()
    assert team.audit() == 0
    team.market.key(BYBIT)
    team.propose("rotated", "bybit")

    assert quietly(team, bao, 1, "rotated").code == 0
    words = " ".join(team.comment().split())

    assert f"{LINE}1 key: 0 ok, 1 attention, 0 blocked" in team.comment()
    where = team.rig.reference("tokyo-1/bybit")
    assert f"no exchange was asked about {where}@2 yet; what was said of {where}@1 counts" in words
    assert "✓ tokyo-1/bybit" not in words


def test_good_keys_that_nothing_is_about_have_no_row(team: AuditedTeam, bao: OpenBao) -> None:
    team.open()
    assert team.audit() == 0
    team.propose("nothing", "bybit")

    assert quietly(team, bao, 1, "nothing").code == 0

    assert f"{LINE}1 key: 1 ok, 0 attention, 0 blocked" in team.comment()
    assert "What the exchanges say" not in team.comment()


def test_what_says_nothing_new_is_written_once(team: AuditedTeam) -> None:
    team.open()
    assert (team.audit(), team.audit()) == (0, 0)

    with closing(sqlite3.connect(team.rig.home / "state/jtr/ledger.db")) as ledger:
        rows = "SELECT revision FROM documents WHERE key LIKE 'server/%/audits'"
        assert ledger.execute(rows).fetchall() == [(1,)]


def test_a_row_that_nobody_understands_is_said_and_stops_nothing(
    team: AuditedTeam, bao: OpenBao
) -> None:
    team.open()
    assert team.audit() == 0
    with closing(sqlite3.connect(team.rig.home / "state/jtr/ledger.db")) as ledger, ledger:
        where = "UPDATE documents SET text = ? WHERE key LIKE 'server/%/audits'"
        assert ledger.execute(where, ('{"kind":"audits"}',)).rowcount == 1
    team.propose("more", "bybit")

    ran = quietly(team, bao, 1, "more")

    assert ran.code == 0, ran.text
    assert "what exchanges said of keys is not shown: the ledger's row server/" in ran.err
    assert "Keys: what exchanges said of them could not be read" in team.comment()
