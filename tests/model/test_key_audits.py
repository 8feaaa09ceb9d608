"""The light of a key, and what people read about it: nothing unverified is ever green."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.errors import Exit, SecretMissing
from reconciler.model.key_audits import Audited, KeyId, Light, light
from reconciler.model.key_facts import Access, Answered, Cap, Grant, IpRule, KeyFacts, Status
from reconciler.model.key_policy import KeyFinding, Severity
from reconciler.model.values import replace
from reconciler.render.audit import (
    audit_document,
    audit_markdown,
    audit_text,
    recalled_line,
    recalled_text,
)

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SPOT = Grant("spot", frozenset({Cap.SPOT}))
GOOD = KeyFacts(grants=(SPOT,))
HOSTILE = "a|b`c\x1b[31m\u202e<b>[x](y)\nnext"


def answered(status: Status = Status.VALID, facts: KeyFacts | None = GOOD, **more: Any) -> Answered:
    return Answered(status, more.pop("at", NOW), facts, **more)


def finding(severity: Severity, accepted: str = "") -> KeyFinding:
    return KeyFinding("SOME_CODE", severity, "what", "remedy", accepted=accepted)


@pytest.mark.parametrize(
    ("said", "findings", "expected"),
    [
        (answered(), [], Light.OK),
        (answered(), [finding(Severity.INFO)], Light.OK),
        (answered(), [finding(Severity.WARNING)], Light.ATTENTION),
        (answered(), [finding(Severity.WARNING, "agreed")], Light.OK),
        (answered(), [finding(Severity.ERROR)], Light.BLOCKED),
        (answered(), [finding(Severity.INFO), finding(Severity.CRITICAL)], Light.BLOCKED),
        (answered(), [finding(Severity.ERROR, "agreed")], Light.ATTENTION),
        # Not verified: never green, whatever was found or left out.
        (answered(facts=KeyFacts()), [], Light.ATTENTION),
        (answered(facts=replace(GOOD, unproven=frozenset({Cap.WITHDRAW}))), [], Light.ATTENTION),
        (answered(facts=replace(GOOD, unproven=frozenset({Cap.TAX}))), [], Light.OK),
        (answered(facts=replace(GOOD, traits={"lacks": "isMaster"})), [], Light.ATTENTION),
        *((answered(status, None), [], Light.ATTENTION) for status in Status),
    ],
)
def test_the_light_of_a_key(said: Answered, findings: list[KeyFinding], expected: Light) -> None:
    assert light(said, findings) is expected
    assert Audited(KeyId("s", "x"), said, tuple(findings)).light is expected


def test_a_key_that_was_not_read_needs_attention() -> None:
    row = Audited(KeyId("s", "x"), failure=SecretMissing("it is gone", "write it"))

    assert row.light is Light.ATTENTION
    assert "not read: it is gone\n" in audit_text([row], NOW)
    assert "not read: it is gone; write it" in audit_markdown([row], NOW)
    (shown,) = audit_document([row], NOW, Exit.SECRETS)["keys"]
    assert (shown["failure"]["what"], shown["status"]) == ("it is gone", None)


@pytest.mark.parametrize(
    ("facts", "may", "bound", "ends"),
    [
        (KeyFacts(), "not told", "not told", "not told"),
        (KeyFacts(grants=()), "nothing", "not told", "not told"),
        (
            KeyFacts(
                grants=(SPOT, Grant("r", frozenset({Cap.SPOT, Cap.EARN}), access=Access.READ)),
                ip=IpRule(bound=True, networks=(ip_network("203.0.113.10"), ip_network("::/64"))),
                expires_at=NOW + timedelta(days=3),
            ),
            "spot, earn (read)",
            "203.0.113.10, ::/64",
            "2026-11-25",
        ),
        (
            KeyFacts(grants=(SPOT,), ip=IpRule(bound=False), never_expires=True),
            "spot",
            "nothing: any address",
            "never",
        ),
        (
            KeyFacts(grants=(SPOT,), ip=IpRule(bound=True)),
            "spot",
            "addresses that are not shown",
            "not told",
        ),
    ],
)
def test_what_a_key_may_in_words(facts: KeyFacts, may: str, bound: str, ends: str) -> None:
    row = Audited(KeyId("s", "x"), answered(facts=facts))
    cells = audit_markdown([row], NOW).splitlines()[4].split(" | ")

    assert cells[2:5] == [may, bound, ends]


def test_when_and_from_where_it_was_asked() -> None:
    proxy = "socks5h://127.0.0.1:1080"
    rows = [
        Audited(KeyId("s", "a"), answered(egress="here")),
        Audited(KeyId("s", "b"), answered(at=NOW - timedelta(hours=5), egress=proxy)),
        Audited(KeyId("s", "c"), answered(Status.UNSUPPORTED, None)),
    ]
    lines = audit_text(rows, NOW).splitlines()

    assert lines[1].endswith("  just now")
    assert lines[2].endswith(f"  5 h ago through {proxy}")
    assert lines[3].endswith("  never")


def test_nothing_that_was_read_drives_a_terminal_or_ends_a_cell() -> None:
    row = Audited(
        KeyId("s", "x"),
        answered(),
        (KeyFinding("CODE", Severity.WARNING, HOSTILE, HOSTILE, accepted=HOSTILE),),
    )
    text, table = audit_text([row], NOW), audit_markdown([row], NOW)

    assert not {"\x1b", "\u202e"} & {*text, *table}
    assert len(text.splitlines()) == 5
    line = next(line for line in table.splitlines() if "s/x" in line)
    assert line.replace("\\|", "").count("|") == 8
    assert "<b>" not in line
    assert "[x]" not in line


def test_nothing_to_audit_is_said() -> None:
    assert audit_text([], NOW) == "0 keys: 0 ok, 0 attention, 0 blocked\n"
    assert audit_document([], NOW, Exit.DONE)["keys"] == []


# ── as it is remembered ──────────────────────────────────────────────────────────────────────


def recalled(server: str, *severities: Severity, asked: bool = True) -> Audited:
    found = tuple(map(finding, severities))
    return Audited(KeyId(server, "x"), answered() if asked else None, found)


def names(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines()[1:] if line[0] in "✓~!"]


def test_of_what_is_remembered_the_worst_is_first_and_the_well_elsewhere_are_left_out() -> None:
    rows = [
        recalled("elsewhere"),
        recalled("here"),
        recalled("never-asked", Severity.INFO, asked=False),
        recalled("soon", Severity.WARNING),
        recalled("bad", Severity.ERROR),
    ]

    assert names(recalled_text(rows, {"here"}, NOW)) == [
        *("bad/x", "soon/x", "never-asked/x", "here/x")
    ]
    assert recalled_text(rows[:1], {"here"}, NOW) == ""
    line = recalled_line(rows, known=True, whole=True)
    assert line.endswith("5 keys: 2 ok, 2 attention, 1 blocked.")


def test_of_many_keys_a_comment_has_the_worst_and_a_count() -> None:
    rows = [recalled(f"s{number:02}", Severity.WARNING) for number in range(40)]
    rows.append(recalled("zz", Severity.ERROR))
    text = recalled_text(rows, (), NOW)

    assert names(text)[0] == "zz/x"
    assert len(names(text)) == 30
    assert text.endswith("\nand 11 more keys: 0 ok, 11 attention, 0 blocked\n")


@pytest.mark.parametrize(
    ("known", "whole", "words"),
    [(False, True, "no answer of an exchange is remembered"), (True, False, "could not be read")],
)
def test_what_is_not_known_is_said_in_one_line(words: str, *, known: bool, whole: bool) -> None:
    line = recalled_line((), known=known, whole=whole)

    assert words in line
    assert "\n" not in line
    assert "ok" not in line
