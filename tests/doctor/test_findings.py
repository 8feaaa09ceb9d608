"""What `jtr doctor` makes of facts that no test world has: other clocks, full disks, old logs."""

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.doctor import findings, ledger, server, vault
from reconciler.doctor.findings import Finding, Grade
from reconciler.doctor.ledger import DiskFacts
from reconciler.doctor.report import checkup_document, checkup_text
from reconciler.doctor.server import RouteFacts, ServerFacts
from reconciler.doctor.vault import TokenLook, VaultFacts
from reconciler.errors import Exit, InvalidConfig, WrongAccount
from reconciler.model.desired import DesiredServer, DesiredState, Suspension
from reconciler.model.observed import BootLine, ClockReading, Logbook, ObservedServer, Robot
from reconciler.model.references import SecretPath
from reconciler.model.source import NOWHERE

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MS = int(NOW.timestamp() * 1000)
AT = SecretPath("secret", "jt/a")


def desired(**changes: object) -> DesiredServer:
    return DesiredServer("a", "http://127.0.0.1:1", NOWHERE, **changes)  # type: ignore[arg-type]


def seen(log: Logbook, *robots: Robot) -> ObservedServer:
    return ObservedServer("0", "0.24.19", (), robots, log)


def look(log: Logbook, *, ahead: float = 0.0, **changes: object) -> dict[str, Finding]:
    route = RouteFacts("127.0.0.1:1", clock=ClockReading(ahead, 0.5))
    facts = ServerFacts(
        desired(supervised=True),
        NOW,
        route=route,
        observed=seen(log),
        **changes,  # type: ignore[arg-type]
    )
    return {f.code: f for f in server.server_findings(facts)}


@pytest.mark.parametrize(
    ("ahead", "newest", "grade", "text"),
    [
        (0.0, MS, Grade.OK, "agrees with ours"),
        (-600.0, MS - 600_000, Grade.WARNING, "10 min behind ours"),
        (90_000.0, MS, Grade.WARNING, "25 h ahead of ours"),
        (0.0, MS + 60_000, Grade.WARNING, "that is another clock"),
    ],
)
def test_the_clock_of_a_server(ahead: float, newest: int, grade: Grade, text: str) -> None:
    found = look(Logbook(readable=True, newest=newest), ahead=ahead)["server.clock"]

    assert found.grade is grade
    assert text in found.what


@pytest.mark.parametrize(
    ("log", "grade", "text"),
    [
        (Logbook(), Grade.WARNING, "cannot be read"),
        (Logbook(readable=True, strangers=True), Grade.WARNING, "several processes"),
        (Logbook(readable=True, boot=MS, alarm=MS - 1), Grade.OK, "readable"),
        (Logbook(readable=True, boot=MS - 1, alarm=MS), Grade.WARNING, "2026-11-22T12:00:00Z"),
        (Logbook(readable=True, alarm=2**53 - 1), Grade.WARNING, "a time that cannot be"),
    ],
)
def test_the_log_of_a_server(log: Logbook, grade: Grade, text: str) -> None:
    found = look(log)["server.log"]

    assert found.grade is grade
    assert text in found.what


def test_how_long_a_server_is_up_goes_by_its_own_clock() -> None:
    boots = tuple(BootLine(MS + ms, 1) for ms in (0, 3_600_000))

    found = look(Logbook(readable=True, boots=boots), ahead=10_800.0)["server.supervisor"]

    assert found.grade is Grade.OK
    assert "2 starts (up for 2 h)" in found.what


def test_a_visit_that_found_another_account_may_have_left_it_unregistered() -> None:
    facts = ServerFacts(
        desired(), NOW, route=RouteFacts("127.0.0.1:1"), failure=WrongAccount("other", "look")
    )

    found = {f.code: f.grade for f in server.server_findings(facts)}

    assert found["server.account"] is Grade.FAILED
    assert found["server.registration"] is Grade.WARNING


def test_names_of_robots_cannot_drive_a_terminal() -> None:
    log = Logbook(readable=True)
    facts = ServerFacts(desired(), NOW, observed=seen(log, Robot(1, "\x1b[2J", "okx", True)))

    text = checkup_text(list(server.server_findings(facts)))

    assert "\\u001b[2J" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("token", "grade"),
    [
        (TokenLook(("a",), 599.0, False, "service", "token", own=False), Grade.WARNING),
        (TokenLook(("a",), 599.0, True, "service", "approle", own=True), Grade.OK),
        (TokenLook(("a",), 601.0, False, "batch", "token-file", own=False), Grade.OK),
        (TokenLook(("a",), None, False, "service", "token", own=False), Grade.WARNING),
    ],
)
def test_the_time_of_a_token(token: TokenLook, grade: Grade) -> None:
    found = {f.code: f.grade for f in vault.token_findings(token)}

    assert found["vault.token"] is grade


@pytest.mark.parametrize(
    ("ahead", "grade"), [(None, Grade.WARNING), (60.9, Grade.OK), (-61.6, Grade.WARNING)]
)
def test_the_clock_of_vault(ahead: float | None, grade: Grade) -> None:
    facts = VaultFacts("https://v", "1.17", False, True, ahead, 1.5 if ahead == 60.9 else 1.0)

    assert {f.code: f.grade for f in vault.vault_findings(facts)}["vault.clock"] is grade


@pytest.mark.parametrize("right", ["create", "update", "patch", "delete", "sudo"])
def test_every_right_to_change_a_secret_is_told(right: str) -> None:
    rights = {"secret/data/jt/a": ("read", right), "secret/metadata/jt/a": ("read",)}

    found = {f.code: f for f in vault.rights_findings(rights, [AT], None)}

    assert found["vault.can-read"].grade is Grade.OK
    assert found["vault.cannot-write"].grade is Grade.WARNING
    assert f"`{right}`" in found["vault.cannot-write"].what


def test_whoever_begins_a_ledger_may_create_the_key_and_do_nothing_else_to_it() -> None:
    rights = {"secret/data/jt/a": ("read", "create"), "secret/metadata/jt/a": ("read", "create")}

    found = [
        f.what for f in vault.rights_findings(rights, [AT], AT) if f.code == "vault.cannot-write"
    ]

    assert found == ["the token has `create on metadata` for vault:secret/jt/a"]


@pytest.mark.parametrize("path", sorted(vault.POWERS))
def test_every_power_is_told_and_reading_is_none(path: str) -> None:
    one = list(vault.rights_findings({path: ("update",)}, [], None))
    none = list(vault.rights_findings({path: ("read", "list", "deny")}, [], None))

    assert [(f.code, f.grade) for f in one] == [("vault.powers", Grade.WARNING)]
    assert vault.POWERS[path] in one[0].what
    assert [f.grade for f in none] == [Grade.OK]


@pytest.mark.parametrize(
    ("facts", "grade", "text"),
    [
        (DiskFacts(True, True, True, 2**30), Grade.OK, "can be written"),
        (DiskFacts(False, True, True, 2**30), Grade.FAILED, "its file is read-only"),
        (DiskFacts(True, False, True, 2**30), Grade.FAILED, "its directory"),
        (DiskFacts(True, True, False, 2**30), Grade.FAILED, "mounted read-only"),
        (DiskFacts(True, True, True, 2**20), Grade.WARNING, "only 1 MiB"),
    ],
)
def test_the_disk_of_a_ledger(facts: DiskFacts, grade: Grade, text: str) -> None:
    found = ledger.disk_finding(facts)

    assert found.grade is grade
    assert text in found.what


def test_documents_that_weaken_something() -> None:
    later = Suspension("exam", "alice", NOW + timedelta(hours=1))
    over = Suspension("exam", "alice", NOW)
    state = DesiredState((desired(suspend=later, insecure_transport="lab"), desired(suspend=over)))

    found = list(findings.document_findings(state, None, ["Mars/Base"], NOW))

    assert [(f.code, f.grade) for f in found] == [
        ("documents.valid", Grade.OK),
        ("documents.transport", Grade.WARNING),
        ("documents.suspended", Grade.WARNING),
        ("documents.windows", Grade.FAILED),
    ]
    assert "until 2026-11-22T13:00:00Z" in found[2].what


def test_of_very_many_problems_the_first_are_told() -> None:
    trouble = InvalidConfig([f"a.yaml:{n}:1: wrong" for n in range(50)], total=90)

    found = list(findings.document_findings(None, trouble, [], NOW))

    assert len(found) == 11
    assert found[-1].what == "80 more problems"
    assert findings.conclusion(found) is Exit.INVALID


def test_the_worst_failure_counts_and_warnings_do_not() -> None:
    grave = [findings.failed("ledger.open", "x", "y", Exit.IN_DOUBT)]
    plain = [findings.failed("vault.login", "x", "y", Exit.SECRETS)]
    usage = [findings.failed("settings.file", "x", "y", Exit.USAGE)]
    light = [findings.warning("vault.clock", "x", "y"), findings.skipped("server.log", "x")]

    codes = [findings.conclusion(found) for found in (light, plain + light, plain + grave, usage)]

    assert codes == [Exit.DONE, Exit.SECRETS, Exit.IN_DOUBT, Exit.USAGE]
    assert checkup_document(plain + light, Exit.SECRETS)["summary"] == {
        "ok": 0,
        "warning": 1,
        "failed": 1,
        "skipped": 1,
    }
