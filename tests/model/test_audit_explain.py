"""The evidence of an audit: nothing of it is better than what was told."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.errors import Exit, SecretMissing
from reconciler.model.key_audits import Audited, KeyId
from reconciler.model.key_facts import (
    Access,
    Answered,
    Cap,
    Environment,
    Grant,
    IpRule,
    KeyFacts,
    Status,
)
from reconciler.model.key_policy import Accepted, KeyFinding, Security, Severity
from reconciler.model.values import replace
from reconciler.render.audit import audit_document, audit_text
from reconciler.render.audit_explain import explanation

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
FACTS = KeyFacts(
    grants=(
        Grant("trade", frozenset({Cap.SPOT, Cap.MARGIN}), separable=False),
        Grant("look", frozenset({Cap.ACCOUNT_READ}), access=Access.READ),
    ),
    ip=IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True),
    unproven=frozenset({Cap.WITHDRAW}),
    created_at=NOW - timedelta(days=3),
    expires_at=NOW + timedelta(days=3),
    environment=Environment.LIVE,
    master=True,
    same_key=True,
    frozen="locked",
    traits={"lacks": "isMaster"},
)
ASKED = Answered(
    Status.VALID,
    NOW,
    FACTS,
    adapter="x",
    adapter_version=3,
    requests=("GET https://x.test/key: answered",),
)
WANTED = Security(
    require=frozenset({Cap.SPOT}),
    ip_whitelist=(ip_network("203.0.113.10"),),
    exceptions=(Accepted("PERM_FORBIDDEN", "agreed", NOW.date(), "wallet"),),
    declared=True,
)

FINE = "everything that matters was told, and nothing is worse than an information"


def lines(answered: Answered | None, *found: KeyFinding, **more: Any) -> list[str]:
    """Return the evidence for a key."""
    return [*explanation(Audited(KeyId("s", "x"), answered, found, **more))]


def test_everything_that_was_asked_told_and_wanted_is_said() -> None:
    assert lines(ASKED, security=WANTED) == [
        "asked: GET https://x.test/key: answered",
        "read as: x, version 3 of its meaning",
        "told: valid",
        "told: trade = margin, spot (writes, reported, not granted apart)",
        "told: look = account_read (reads, reported)",
        "not told: whether it may withdraw",
        "told: bound to 203.0.113.10/32",
        "told: ends on 2026-11-25",
        "told: made on 2026-11-19",
        "told: a live key",
        "told: of the main account",
        "told: about this very key",
        "told: stopped, locked",
        "told: lacks: isMaster",
        "wanted: allow account_read, delivery, perpetual, spot",
        "wanted: require spot",
        "wanted: addresses 203.0.113.10/32",
        "wanted: what cannot be verified, warn",
        "wanted: PERM_FORBIDDEN of wallet is accepted until 2026-11-22: agreed",
        "verdict: attention, because nothing proves that it may not withdraw",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"facts": KeyFacts(grants=())}, "told: no permission at all"),
        ({"facts": KeyFacts()}, "told: nothing of what it may do"),
        ({"facts": KeyFacts()}, "told: nothing of its addresses"),
        ({"facts": KeyFacts()}, "told: nothing of its end"),
        ({"facts": KeyFacts()}, "not told: about which key"),
        ({"facts": KeyFacts()}, "verdict: attention, because what it may do was not told"),
        ({"facts": KeyFacts(ip=IpRule(bound=False))}, "told: bound to no address"),
        (
            {"facts": KeyFacts(ip=IpRule(bound=False, offered=False))},
            "told: bound to no address, none can be",
        ),
        ({"facts": KeyFacts(ip=IpRule(bound=True))}, "told: bound, not to which addresses"),
        ({"facts": KeyFacts(never_expires=True)}, "told: it never ends"),
        ({"facts": KeyFacts(master=False, same_key=False)}, "told: of a sub-account"),
        ({"facts": KeyFacts(master=False, same_key=False)}, "told: about another key"),
        ({"status": Status.MALFORMED, "requests": (), "facts": None}, "asked: nobody"),
        ({"status": Status.REJECTED, "code": "17", "facts": None}, "told: rejected (17)"),
        (
            {"requests": ()},
            f"asked: nobody now, the answer is remembered from {NOW.isoformat()} (--fresh asks)",
        ),
        (
            {"facts": KeyFacts(grants=())},
            f"verdict: ok, because {FINE}",
        ),
    ],
)
def test_what_is_not_told_is_called_so(changes: dict[str, Any], expected: str) -> None:
    assert expected in lines(replace(ASKED, **changes))


def test_a_verdict_names_what_it_comes_from() -> None:
    worse = KeyFinding("PERM_WITHDRAW", Severity.CRITICAL, "what")
    bad = KeyFinding("IP_UNBOUND", Severity.ERROR, "what")
    worth = KeyFinding("MASTER_KEY", Severity.WARNING, "what")

    assert lines(ASKED, worse, bad, worth)[-1] == (
        "verdict: blocked, because of PERM_WITHDRAW (critical), IP_UNBOUND (error)"
    )
    assert lines(replace(ASKED, facts=KeyFacts(grants=())), worth)[-1] == (
        "verdict: attention, because of MASTER_KEY (warning)"
    )


def test_a_key_that_was_not_read_was_not_asked_about() -> None:
    row = Audited(KeyId("s", "x"), failure=SecretMissing("it is gone", "write it"))

    assert "      | asked: nobody, for the key could not be read\n" in audit_text(
        [row], NOW, explain=True
    )


def test_the_json_has_the_lines_of_the_text_and_no_foreign_signs() -> None:
    facts = replace(FACTS, traits={"x": "\x1b[31mred"})
    row = Audited(KeyId("s", "x"), replace(ASKED, facts=facts), security=WANTED)
    (shown,) = audit_document([row], NOW, Exit.DONE, explain=True)["keys"]
    text = audit_text([row], NOW, explain=True)

    assert shown["evidence"]["requests"] == ["GET https://x.test/key: answered"]
    for line in shown["evidence"]["explanation"]:
        assert f"      | {line}\n" in text
    assert "\x1b" not in text
