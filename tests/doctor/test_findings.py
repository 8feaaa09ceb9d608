"""What `jtr doctor` makes of facts that no test world has: other clocks, full disks, old logs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.doctor import findings, ledger, server, vault
from reconciler.doctor.findings import Grade
from reconciler.doctor.report import checkup_document, checkup_text
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
    log = Logbook(readable=True, newest=newest)

    found = server.clock_finding(ClockReading(ahead, 0.5), log, NOW)

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
    found = server.log_finding(log)

    assert found.grade is grade
    assert text in found.what


def test_how_long_a_server_is_up_goes_by_its_own_clock() -> None:
    boots = tuple(BootLine(MS + ms, 1) for ms in (0, 3_600_000))

    log = Logbook(readable=True, boots=boots)

    found = server.supervisor_finding(log, ClockReading(10_800.0, 0.5), NOW, declared=True)

    assert found.grade is Grade.OK
    assert "2 starts (up for 2 h)" in found.what


def test_a_visit_that_found_another_account_may_have_left_it_unregistered() -> None:
    other = WrongAccount("other", "look")

    login = {f.code: f.grade for f in server.login_findings(desired(), other)}
    registration = server.registration_finding(None, other, connected=False)

    assert login == {"server.login": Grade.OK, "server.account": Grade.FAILED}
    assert registration.grade is Grade.WARNING


def test_names_of_robots_cannot_drive_a_terminal() -> None:
    robot = Robot(1, "\x1b[2J", "okx", True)
    seen = ObservedServer("0", "0.24.19", (), (robot,), Logbook(readable=True))

    text = checkup_text([server.registration_finding(seen, None, connected=False)])

    assert "\\u001b[2J" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("left", "own", "grade"),
    [
        (599.0, False, Grade.WARNING),
        (599.0, True, Grade.OK),
        (601.0, False, Grade.OK),
        (None, False, Grade.WARNING),
    ],
)
def test_the_time_of_a_token(left: float | None, own: bool, grade: Grade) -> None:  # noqa: FBT001
    assert vault.token_finding(left, "service", renewable=False, own=own).grade is grade


@pytest.mark.parametrize(
    ("ahead", "grade"), [(None, Grade.WARNING), (60.9, Grade.OK), (-61.6, Grade.WARNING)]
)
def test_the_clock_of_vault(ahead: float | None, grade: Grade) -> None:
    assert vault.clock_finding(ahead, 1.5 if ahead == 60.9 else 1.0).grade is grade


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
    ("other", "grade", "text"),
    [
        ({}, Grade.OK, "can be written"),
        ({"file": False}, Grade.FAILED, "its file is read-only"),
        ({"directory": False}, Grade.FAILED, "its directory"),
        ({"disk": False}, Grade.FAILED, "mounted read-only"),
        ({"free": 2**20}, Grade.WARNING, "only 1 MiB"),
    ],
)
def test_the_disk_of_a_ledger(other: dict[str, Any], grade: Grade, text: str) -> None:
    fine: dict[str, Any] = {"file": True, "directory": True, "disk": True, "free": 2**30}

    found = ledger.disk_finding(**fine | other)

    assert found.grade is grade
    assert text in found.what


def test_documents_that_weaken_something() -> None:
    later = Suspension("exam", "alice", NOW + timedelta(hours=1))
    over = Suspension("exam", "alice", NOW)
    state = DesiredState((desired(suspend=later, insecure_transport="lab"), desired(suspend=over)))

    found = list(findings.document_findings(state, ["Mars/Base"], NOW))

    assert [(f.code, f.grade) for f in found] == [
        ("documents.valid", Grade.OK),
        ("documents.transport", Grade.WARNING),
        ("documents.suspended", Grade.WARNING),
        ("documents.windows", Grade.FAILED),
    ]
    assert "until 2026-11-22T13:00:00Z" in found[2].what


def test_of_very_many_problems_the_first_are_told() -> None:
    trouble = InvalidConfig([f"a.yaml:{n}:1: wrong" for n in range(50)], total=90)

    found = list(findings.of_problems("documents.valid", trouble, findings.MOST_PROBLEMS))

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


def test_secrets_without_a_word_of_their_owner_fail_where_one_is_required() -> None:
    unbound = [SecretPath("secret", "jt/a"), SecretPath("secret", "jt/b")]

    required = vault.binding_finding(unbound, all_of=3, required=True)
    told = vault.binding_finding(unbound, all_of=3, required=False)
    bound = vault.binding_finding([], all_of=3, required=True)

    assert (required.grade, told.grade, bound.grade) == (Grade.FAILED, Grade.OK, Grade.OK)
    assert "vault:secret/jt/a, vault:secret/jt/b" in required.what
    assert "requireBinding" in required.what
