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
from tests.e2e.test_forget import forget
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


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_was_applied_agrees_to_no_recipient(
    rig: Rig, forge: ForgeStandIn, *, by_hand: bool
) -> None:
    """Its server was given back; then somebody put the documents back, which nobody reviewed."""
    rig.settings(policy=None)
    team = Team(rig, forge)
    rig.server()
    rig.document("tokyo-1", "bybit")
    team.repository.commit("Begin")
    rig.begin()
    assert rig.apply("--approve-recipient", "tokyo-1").code == 0
    osaka = rig.server("osaka-1", robots=[]).record
    team.repository.branch("osaka")
    path = rig.document("osaka-1", "bybit")
    team.repository.commit("Add osaka-1")
    added = team.pull_request(1, "osaka")
    team.repository.merge("osaka")
    reviewed = team.main()
    greeted = len(osaka.handshakes)
    team.repository.branch("gone")
    path.unlink()
    team.repository.commit("Give osaka-1 back")
    removed = team.pull_request(2, "gone")
    team.repository.merge("gone")
    assert [one.code for one in (added, reviewed, removed, team.main())] == [0] * 4
    assert greeted
    assert forget(rig).code == 0
    team.repository.revert()
    words = ("apply", str(rig.docs), "--expect-proposed")

    ran = rig.jtr(*words) if by_hand else team.main()

    assert ran.code == 4, ran.text
    assert "--approve-recipient osaka-1" in ran.text
    assert len(osaka.handshakes) == greeted

    # Whoever says so himself is heard as ever.
    agreed = rig.jtr(*words, "--approve-recipient", "osaka-1")

    assert "--approve-recipient osaka-1" not in agreed.text
    assert len(osaka.handshakes) > greeted
