"""What is said of a commit, and when there is something to say."""

import pytest

from reconciler.controller.commit_status import Word, word_of
from reconciler.controller.status import ControllerStatus, Health, ServerStatus, Sync
from reconciler.model.values import replace

OLD, NEW = "a" * 40, "b" * 40
CONTROLLER = ControllerStatus(
    "1",
    "controller",
    "now",
    acting=True,
    revision=NEW,
    attempted=NEW,
)
WELL = ServerStatus(
    "tokyo-1",
    "https://a",
    "0",
    sync=Sync.SYNCED,
    health=Health.HEALTHY,
    judged=True,
)


def test_a_commit_is_good_once_every_server_had_a_pass_and_is_well() -> None:
    assert word_of(CONTROLLER, [WELL]) == Word(NEW, True, "in force on 1 server")


@pytest.mark.parametrize(
    "server",
    [
        replace(WELL, judged=False),
        replace(WELL, sync=Sync.OUT_OF_SYNC, health=Health.PROGRESSING),
    ],
    ids=["not-judged", "settling"],
)
def test_nothing_is_said_before_every_server_had_a_pass(server: ServerStatus) -> None:
    assert word_of(CONTROLLER, [WELL, server]) is None


def test_nothing_is_said_before_the_servers_are_known() -> None:
    assert word_of(CONTROLLER, []) is None


@pytest.mark.parametrize(
    "server",
    [
        replace(WELL, sync=Sync.OUT_OF_SYNC),
        replace(WELL, health=Health.DEGRADED),
        replace(WELL, health=Health.UNREACHABLE),
    ],
)
def test_a_server_that_is_not_well_is_named(server: ServerStatus) -> None:
    found = word_of(CONTROLLER, [WELL, server])

    assert found == Word(NEW, False, "needs a look: tokyo-1; see jtr status")


def test_a_refused_commit_is_told_why() -> None:
    status = replace(CONTROLLER, revision=OLD, documents=f"commit {NEW[:12]}: it is not signed")

    assert word_of(status, []) == Word(NEW, False, "not in force: it is not signed")


@pytest.mark.parametrize(
    "status",
    [
        replace(CONTROLLER, acting=False),
        replace(CONTROLLER, revision="0" * 64 + "x", attempted=""),
        replace(CONTROLLER, revision="", attempted="", documents="there is no branch"),
    ],
    ids=["another-acts", "files", "nothing-yet"],
)
def test_who_does_not_act_and_who_follows_files_says_nothing(status: ControllerStatus) -> None:
    assert word_of(status, [WELL]) is None
