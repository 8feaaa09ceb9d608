"""
Rows as they were written before the codec was made generic: they still read, and are still written.

Each file under `stored/` is the text of one document, byte for byte.
"""

from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import pytest

from reconciler.ledger.codec import records, rows
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.key_facts import (
    Answered,
    Cap,
    Environment,
    Grant,
    IpRule,
    KeyFacts,
    Status,
)
from reconciler.model.observed import BootLine, Robot
from reconciler.model.origin import Origin
from reconciler.model.proposals import Proposal, ProposedRow, PullRequest
from reconciler.model.recorded import (
    NO_REQUESTS,
    Attempt,
    Brake,
    Debt,
    ExchangeRecord,
    HistoryEntry,
    Identity,
    Observation,
    Owed,
    Pause,
    PendingStarts,
    Received,
    RecordedAudit,
    Request,
    Requests,
    Stage,
    Write,
)
from reconciler.model.references import FrozenRef, SecretPath, SecretRef
from reconciler.model.target import Target

FOLDER: Final = Path(__file__).parent / "stored"
AT: Final = datetime(2026, 11, 22, 12, 0, 0, 5, UTC)
ELSEWHERE: Final = datetime(2026, 11, 22, 21, 30, tzinfo=timezone(timedelta(hours=9)))
TEXT: Final = "2026-11-22T12:00:00.000005Z"
ROBOT: Final = Robot(7, 'schräg \ud83d "x"', "bybit", running=True)
WRITE: Final = Write(
    {
        "secret": FrozenRef(SecretPath("team/kv", "a/b"), 3, TEXT, "apiSecret"),
        "": FrozenRef(SecretPath("secret", "whole"), 1, TEXT),
    },
    {"secret": "v2", "key": "v1"},
    {"secret": "m2", "key": ""},
    "k1",
    TEXT,
    weak=True,
    api_key="h1",
    companions="h2",
)
RECORD: Final = ExchangeRecord(
    "bybit",
    written=WRITE,
    intent=WRITE,
    earlier=(WRITE, WRITE),
    found=WRITE,
    deleting=True,
    debts=(
        Debt(Owed.RESTART, "bybit", TEXT, 1795348800000, 7, "röbot"),
        Debt(Owed.REBOOT, "bybit", TEXT, None),
    ),
    past_keys=(("h1", "h2"), ("h3", "")),
    past_boot=1795348800000,
    ever=True,
)
ATTEMPT: Final = Attempt(
    "n1", TEXT, "apply 1@host", (BootLine(1795348800000, 12), BootLine(5, 1)), 6, "boot-id", 12.5
)
OPEN: Final = Request(
    RequestKind.REBOOT,
    ELSEWHERE,
    "because",
    Stage.OPEN,
    attempts=(ATTEMPT, Attempt("n2", TEXT, "b", (), None)),
    robots=Afterwards.RESUME,
    resume_within=90.25,
    ran=(ROBOT,),
    evidence="",
    boot=BootLine(1, 2),
    closed_at=TEXT,
    closed_by="apply 1@host",
)
HALT: Final = PendingStarts(
    "reboot of 12:00",
    (ROBOT,),
    at=TEXT,
    by="b",
    within=600,
    exchange="okx",
    others=(1, 2),
    begun=(7,),
    boot=BootLine(3, 4),
    finding="gone",
    host_boot="boot-id",
    elapsed=3,
)
CLOSED: Final = tuple(Request(RequestKind.CACHE, AT, "r", stage) for stage in Stage)

# By the name of the file: the key under which the row lies, and the row.
STORED: Final[dict[str, tuple[str, object]]] = {
    "birth": (rows.BIRTH, rows.Birth("uid", AT, "ledger init 1@host")),
    "identity": (
        rows.identity_key("u1"),
        rows.IdentityRow(
            Identity("u1", Target("https://a.test", "0"), "tokyo-1"),
            3,
            (Target("https://b.test", "1"), Target("https://c.test", "é")),
        ),
    ),
    "forgotten": (
        rows.identity_key("u1"),
        rows.ForgottenRow(
            Identity("u1", Target("https://a.test", "0"), "tokyo-1"),
            AT,
            "given back",
            "forget 1@host",
            (Target("https://b.test", "1"),),
        ),
    ),
    "hint": (rows.name_hint_key("tokyo-1"), rows.Hint(("u1", "u2"))),
    "exchange": (
        rows.exchange_key("u1", "bybit"),
        rows.ExchangeRow(RECORD, "n1", "apply 1@host", RECORD),
    ),
    "exchange-new": (
        rows.exchange_key("u1", "okx"),
        rows.ExchangeRow(ExchangeRecord("okx")),
    ),
    "observation": (
        rows.observation_key("u1"),
        Observation(
            TEXT,
            "plan 1@host",
            "0.24.19",
            {"okx": {"key": "m1", "": "\udc00"}, "bybit": {}},
            {"okx": {"key": "apiKey"}},
            (ROBOT, Robot(8, "", "", running=False)),
            1795348800000,
            "k1",
            {"okx": "no answer"},
            5,
        ),
    ),
    "observation-bare": (
        rows.observation_key("u1"),
        Observation(TEXT, "", "", {}, {}, (), None, ""),
    ),
    "brake": (rows.brake_key("0.24.19"), Brake("0.24.19", "tokyo-1", "harm", TEXT, "b")),
    "brake-released": (
        rows.brake_key("0.24.19"),
        Brake("0.24.19", "tokyo-1", "harm", TEXT, "b", ("seen", TEXT, "me")),
    ),
    "version": (
        rows.brake_key("0.24.19"),
        rows.VersionRow(
            "0.24.19",
            (Identity("u2", Target("https://b.test", "0"), "osaka-1"),),
            (
                rows.HarmedServer(
                    Identity("u1", Target("https://a.test", "0"), "tokyo-1"),
                    Brake("0.24.19", "tokyo-1", "harm", TEXT, "b", ("seen", TEXT, "me")),
                ),
            ),
            Brake("0.24.19", "tokyo-1", "harm", TEXT, "b"),
        ),
    ),
    "version-bare": (rows.brake_key("0.25.0"), rows.VersionRow("0.25.0")),
    "lease": (
        rows.lease_key("u1"),
        rows.LeaseRow(
            rows.Holder("n", "apply 1@host", "boot-id", "pid:[4026531836]", 12, 345),
            TEXT,
            TEXT,
            30.0,
        ),
    ),
    "lease-released": (
        rows.CONTROLLER,
        rows.LeaseRow(rows.Holder("n", "b"), "s", "u", 30, released=True),
    ),
    "requests": (
        rows.requests_key("u1"),
        Requests({RequestKind.REBOOT: AT, RequestKind.CACHE: ELSEWHERE}, OPEN, CLOSED, HALT),
    ),
    "requests-none": (rows.requests_key("u1"), NO_REQUESTS),
    "history": (
        rows.history_key("u1"),
        rows.History(
            (HistoryEntry(TEXT, "b", "wrote bybit", "done", "ü"), HistoryEntry(TEXT, "", "", ""))
        ),
    ),
    "history-with-origins": (
        rows.history_key("u1"),
        rows.History((HistoryEntry(TEXT, "b", "w", "done", "", Origin("c0ffee", "#7", "ann")),)),
    ),
    "revisions": (
        rows.REVISIONS,
        rows.RevisionsRow((rows.FollowedBranch("https://forge.test/x.git#main", "c0ffee"),)),
    ),
    "revisions-of-jobs": (
        rows.revisions_key("applied 0ff1ce:desks"),
        rows.RevisionsRow(
            (
                rows.FollowedBranch("applied 0ff1ce:desks", "c0ffee"),
                rows.FollowedBranch("applied 0ff1ce:more", "decade"),
            )
        ),
    ),
    "revisions-of-a-branch": (
        rows.revisions_key("https://forge.test/x.git#main"),
        rows.RevisionsRow((rows.FollowedBranch("https://forge.test/x.git#main", "c0ffee"),)),
    ),
    "proposals-begun": (
        rows.PROPOSALS,
        rows.ProposalsRow(
            (
                Proposal(
                    f"sha256:{'a' * 40}-{'b' * 40}",
                    "c" * 40,
                    f"sha256:{'d' * 40}",
                    AT,
                    "plan 1@host",
                    PullRequest(number="12"),
                    (),
                    (),
                    merged="e" * 40,
                ),
            )
        ),
    ),
    "proposals": (
        rows.PROPOSALS,
        rows.ProposalsRow(
            (
                Proposal(
                    f"sha256:{'a' * 40}-{'b' * 40}",
                    "c" * 40,
                    f"sha256:{'d' * 40}",
                    AT,
                    "plan 1@host",
                    PullRequest("möre", "12", "https://forge.test/desk/servers/pull/12", "ann"),
                    (ProposedRow("e" * 40, "tokyo-1: write bybit from vault:secret/a@2"),),
                    ("f" * 16,),
                    settled=True,
                ),
            )
        ),
    ),
    "received": (
        rows.received_key("u1"),
        Received(
            SecretRef(SecretPath("secret", "jt/a"), "access_secret", 3),
            None,
            (SecretPath("secret", "jt/a/bybit"), SecretPath("team/kv", "a/b")),
        ),
    ),
    "pauses": (
        rows.PAUSES,
        rows.PausesRow(
            (
                Pause(
                    Target("https://tokyo-1.internal:8443", "0"),
                    "exchange maintenance",
                    "ann (page)",
                    "2026-11-22T09:00:00Z",
                    AT,
                ),
            )
        ),
    ),
    "pauses-of-known-servers": (
        rows.PAUSES,
        rows.PausesRow(
            (
                Pause(
                    Target("https://tokyo-2.internal:8443", "0"),
                    "exchange maintenance",
                    "ann (page)",
                    "2026-11-22T09:00:00Z",
                    AT,
                    uid="u2",
                    name="tokyo-2",
                ),
            )
        ),
    ),
    "audits": (
        rows.audits_key("u1"),
        rows.AuditsRow(
            {
                "bybit": RecordedAudit(
                    WRITE.sources,
                    Answered(
                        Status.VALID,
                        AT,
                        KeyFacts(
                            grants=(Grant("Spot.SpotTrade", frozenset({Cap.SPOT})),),
                            ip=IpRule(
                                bound=True,
                                networks=(
                                    ip_network("203.0.113.10/32"),
                                    ip_network("2001:db8::/48"),
                                ),
                                listed=True,
                            ),
                            unproven=frozenset({Cap.WITHDRAW}),
                            read_only=False,
                            expires_at=AT,
                            environment=Environment.LIVE,
                            traits={"lapses": "söon"},
                        ),
                        adapter="bybit",
                        adapter_version=2,
                        egress="here",
                    ),
                    from_server=True,
                    outgoing=("203.0.113.10",),
                    twins=("osaka-1/bybit",),
                ),
                "okx": RecordedAudit(
                    {}, Answered(Status.IP_REFUSED, AT, None, code="50110", facts_at=AT)
                ),
            }
        ),
    ),
    "applied": (rows.APPLIED, rows.Applied((f"sha256:{'a' * 40}-{'b' * 40}",))),
    "moved": (
        rows.BIRTH,
        rows.Moved(rows.Birth("a" * 32, AT, "me"), "vault:jtr/ledger", AT, "ledger move 1@host"),
    ),
    "restored": (rows.RESTORED, rows.Restored(AT, "yesterday's backup", "me")),
}


@pytest.mark.parametrize("name", STORED, ids=str)
def test_what_was_stored_is_read(name: str) -> None:
    key, row = STORED[name]

    assert records.read(type(row), key, text_of(name)) == row


@pytest.mark.parametrize("name", STORED, ids=str)
def test_it_is_still_written_byte_for_byte(name: str) -> None:
    assert records.write(STORED[name][1]) == text_of(name)


def test_every_kind_of_row_was_stored() -> None:
    assert {type(row) for _, row in STORED.values()} == set(records.KINDS)


def test_a_history_with_empty_origins_is_read() -> None:
    key, row = STORED["history"]

    assert records.read(rows.History, key, text_of("history-with-empty-origins")) == row


def test_deeds_with_and_without_an_origin_stand_in_one_history() -> None:
    (key, old), (_, new) = STORED["history"], STORED["history-with-origins"]
    assert isinstance(old, rows.History)
    assert isinstance(new, rows.History)
    both = rows.History((*old.deeds, *new.deeds))

    assert records.read(rows.History, key, records.write(both)) == both


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text("ascii")
