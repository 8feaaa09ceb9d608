"""What people are told of documents that are not in force, one kind of trouble after another."""

from reconciler.controller.events import controller_news
from reconciler.controller.status import ControllerStatus, Refusal
from reconciler.model.values import replace
from reconciler.notifications.deduplicate import Deduplicator
from reconciler.notifications.events import AlertSeverity

WELL = ControllerStatus("1.2.3", "controller 1@host", "then", acting=True)
AWAY = replace(WELL, documents="the repository cannot be fetched", refusal=Refusal.AWAY)


def told(*statuses: ControllerStatus) -> list[tuple[str, AlertSeverity]]:
    """Let each of these last for two minutes; returns what is told of documents."""
    deduplicator = Deduplicator("desk")
    found = []
    for number, status in enumerate(statuses):
        for news in controller_news(status):
            deduplicator.hear(news, 120.0 * number)
        found += deduplicator.due(120.0 * number + 119)
    return [(one.state, one.severity) for one in found if one.topic == "documents"]


def test_a_branch_that_is_away_hides_no_commit_that_somebody_else_signed() -> None:
    eve = replace(WELL, documents="commit 1: signed by somebody else", refusal=Refusal.UNSIGNED)
    moved = replace(WELL, documents="the branch went back", refusal=Refusal.WENT_BACK)

    assert told(AWAY, eve, moved, WELL) == [
        ("away", AlertSeverity.WARNING),
        ("not signed", AlertSeverity.CRITICAL),
        ("went back", AlertSeverity.CRITICAL),
        ("", AlertSeverity.INFO),
    ]


def test_a_ledger_that_is_away_does_not_ring_twice() -> None:
    assert told(replace(AWAY, ledger="the ledger is away")) == []
    assert told(replace(AWAY, secrets="Vault is away")) == []
