"""Pausing a server as the controller's page does."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

from reconciler.bootstrap import load_settings, now, open_ledger
from reconciler.ledger.ledger import Ledger
from reconciler.model.recorded import Pause
from reconciler.model.target import Target
from reconciler.model.timestamps import spelled, stamp
from reconciler.sandbox.jt_trader.server import StandInThread
from tests.support.rig import Rig

UNTIL = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
_WHO = f"by ann (page) until {spelled(UNTIL)}: exchange maintenance"
TOLD = f"suspended {_WHO}"
OTHER_TOLD = f"account 42 of the same server is paused {_WHO}"


@contextmanager
def _ledger(rig: Rig) -> Iterator[Ledger]:
    settings = load_settings(None, rig.environment, [str(rig.docs)])
    with closing(open_ledger(settings, "a page")) as found:
        yield found


def pause(rig: Rig, server: StandInThread, account: str = "0") -> None:
    at = Target(server.url, account)
    with _ledger(rig) as found:
        one = Pause(at, "exchange maintenance", "ann (page)", stamp(now()), UNTIL)
        found.pauses.begin(one, now())


def go_on(rig: Rig, server: StandInThread, account: str = "0", url: str = "") -> None:
    with _ledger(rig) as found:
        assert found.pauses.end(Target(url or server.url, account), now())
