"""How plans and statuses are shown to who sits at a terminal, and what is said beside them."""

import re
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.cli import output, told_costs
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.model.plan import Plan, ServerPlan
from reconciler.model.target import Target
from reconciler.render.layout import View
from reconciler.system.timeouts import Timeouts
from tests.e2e.terminal import Command
from tests.support.rig import Ran, Rig

NAMES = [f"tokyo-{n}" for n in range(1, 6)]
COST = "This look has a cost"


def at_terminal(rig: Rig, *args: str) -> tuple[str, str]:
    """Run the command at a terminal of 60 columns; return all, and what was left standing there."""
    narrow = {"COLUMNS": "60", "XDG_CACHE_HOME": str(rig.home / "cache")}
    with Command(rig, *args, terminal=True, environment=narrow) as command:
        assert command.ended() == 0, command.text
        text = command.text
    bare = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r\n", "\n"))
    return bare, "\n".join(row.rpartition("\r")[2] for row in bare.split("\n"))


def test_progress_says_how_many_are_done_and_who_is_waited_for() -> None:
    shown: list[str] = []
    steps = output.Steps("looking at 3 servers", 3, shown.append)

    for name in ("tokyo-1", "tokyo-2", "osaka-1"):
        steps(name, True)
    for name in ("tokyo-1", "osaka-1", "tokyo-2"):
        steps(name, False)

    assert shown[0] == "looking at 3 servers: 0/3, waiting for tokyo-1"
    assert shown[3] == "looking at 3 servers: 1/3, waiting for osaka-1, tokyo-2"
    assert shown[-1] == "looking at 3 servers: 3/3"


def test_a_narrow_terminal_gets_groups_and_progress_and_the_cost_once_a_day(rig: Rig) -> None:
    for name in NAMES:
        rig.server(name)
        rig.document(name)

    everything, first = at_terminal(rig, "plan", str(rig.docs))
    _, second = at_terminal(rig, "plan", str(rig.docs), "--changes-only")
    elsewhere = rig.plan()

    assert "looking at 5 servers: 5/5" in everything
    assert "  + bybit@1 -> 5 servers: tokyo-1 .. tokyo-5" in first
    assert COST in first
    assert COST not in second
    assert COST in elsewhere.out
    plan_id = re.compile(r"^Plan id:.*$", re.MULTILINE)
    shown = plan_id.sub("", first[first.index("Changes") :])
    assert max(len(row) for row in shown.split("\n") if "vault:" not in row) <= 60
    assert plan_id.search(first) is not None
    assert plan_id.findall(first) == plan_id.findall(second) == plan_id.findall(elsewhere.out)


def test_status_says_who_is_only_in_the_ledger_and_who_knows_more(rig: Rig) -> None:
    for name in NAMES[:2]:
        rig.server(name)
        rig.document(name)
    rig.begin()
    assert rig.apply().code == 0
    (rig.docs / "tokyo-2.yaml").unlink()

    def status(*args: str) -> Ran:
        return rig.jtr("status", "--from", str(rig.docs), *args)

    alone = status()
    store = SqliteStore.open(rig.home / "state" / "jtr" / "ledger.db")
    ledger = Ledger(
        store, now=lambda: datetime.now(UTC), timeouts=Timeouts(), writer="controller 1@host"
    )
    with closing(store), ledger.leadership():
        beside = status()

    assert alone.out.startswith("tokyo-1  http://")
    assert alone.out.endswith("1 more server is only in the ledger: tokyo-2; jtr forget SERVER\n")
    assert alone.err == ""
    assert "controller 1@host is the controller of this ledger and knows more" in beside.err
    assert "controller.url" in beside.err
    assert "tokyo-2  http://" in status("tokyo-2").out
    assert "tokyo-2  http://" in status("--wide").out


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{", b"null", b"[" * 9000, b"\xff", b'{"day": "2026-11-22"}'),
        *(b'{"day": "2026-11-22", "targets": 7}', b'{"day": "2026-11-21", "targets": ["%s"]}'),
    ],
)
def test_whatever_the_cache_holds_people_are_told_again(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    target, today = Target("https://tokyo-1.test", "0"), date(2026, 11, 22)
    plan = Plan((ServerPlan("tokyo-1", target, observed_at="2026-11-22T09:00:00Z"),))
    (tmp_path / "jtr").mkdir()
    (tmp_path / "jtr" / "told.json").write_bytes(content.replace(b"%s", str(target).encode()))
    (tmp_path / "jtr" / "told.json").chmod(0o600)

    said = [told_costs.said_once(View(), plan, today).cost for _ in range(2)]

    assert said == [True, False]
    assert told_costs.said_once(View(), plan, today + timedelta(days=1)).cost
    (tmp_path / "jtr" / "told.json").chmod(0o644)  # somebody else may have written it
    assert told_costs.said_once(View(), plan, today + timedelta(days=1)).cost
