"""
The row of proposals, which whoever pushes a branch can write: what it decides for the main job.
"""

import json
from collections.abc import Iterator

import pytest

from reconciler.ledger.codec.rows import PROPOSALS
from reconciler.ledger.compare_and_set import update
from reconciler.ledger.stores.sqlite import SqliteStore
from tests.e2e.test_ci import Team
from tests.support.forge import PROJECT, ForgeStandIn
from tests.support.rig import Rig

pytestmark = pytest.mark.usefixtures("bao")


@pytest.fixture
def forge() -> Iterator[ForgeStandIn]:
    with ForgeStandIn() as forge:
        yield forge


def test_the_number_of_a_pull_request_leads_to_no_other_path(rig: Rig, forge: ForgeStandIn) -> None:
    team = Team(rig, forge)
    team.begin("bybit")
    rig.rotate(exchange="okx")
    team.branch("more", "bybit", "okx")
    assert team.pull_request(1, "more").code == 0
    evil = "../../../user/keys?title=x&key=y&z="
    store = SqliteStore.open(rig.home / "state" / "jtr" / "ledger.db")
    before = '"number":"1"'
    update(
        store,
        PROPOSALS,
        lambda text: str(text).replace(before, f'"number":{json.dumps(evil)}'),
    )
    store.close()
    head = team.repository.merge("more")
    forge.told.paths.clear()

    ran = team.main()

    assert ran.code == 0, ran.text
    assert forge.told.paths == [f"POST /repos/{PROJECT}/statuses/{head}"]
    assert evil not in rig.jtr("history").out
