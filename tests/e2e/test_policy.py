"""The operator's policy, end to end: what it denies is a line of the plan, and is not done."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import asked, document, line, results, server, statuses
from tests.e2e.test_requests import ask
from tests.support.rig import Rig

REBOOT = {"bootedAfter": "2026-11-22T09:30:00Z", "robots": "resume", "reason": "why not"}


def rule(name: str = "all", **changes: Any) -> dict[str, Any]:
    usual = {"name": name, "servers": {"urls": ["**"]}, "secrets": ["**"], "actions": ["all"]}
    return {**usual, **changes}


def deny(name: str, *actions: str, **changes: Any) -> dict[str, Any]:
    usual = {"name": name, "effect": "deny", "servers": {"urls": ["**"]}, "actions": list(actions)}
    return {**usual, **changes}


def ruled(rig: Rig, *rules: dict[str, Any], **more: Any) -> None:
    rig.settings(policy=rig.policy(rules=list(rules), **more))


def violations(rig: Rig) -> list[tuple[str | None, str, str]]:
    """Action, exchange and rule of everything that the plan says is against the policy."""
    ran = rig.plan("-o", "json")
    found = server(ran)["violations"]
    assert ran.code == (4 if found else 0)
    return [(one["action"], one["exchange"], one["rule"]) for one in found]


# ── in plan and apply ────────────────────────────────────────────────────────────────────────


def test_one_exchange_is_denied_and_the_other_goes_on(rig: Rig, bao: OpenBao) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    ruled(rig, deny("no-okx", "write", exchanges=["okx"]), rule())

    with asked(bao, rig) as paths:
        ran = rig.apply("-o", "json")
    text = rig.plan().out

    assert ran.code == 4
    assert results(ran) == {"bybit": "done"}
    assert line(ran, "okx")["status"] == "blocked"
    assert not [path for path in paths if path.endswith("/okx")]
    assert "okx_api_key" not in stand_in.values()
    assert "  POLICY\n    ! policy: " in text
    assert "for okx: rule 1 (no-okx) denies it" in text
    assert "`jtr policy explain tokyo-1`" in text


def test_a_secret_of_another_team_is_not_even_looked_at(rig: Rig, bao: OpenBao) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.put("other/bybit", apiKey="a" * 24, secret="b" * 24)
    rig.document(
        "tokyo-1",
        rotate=False,
        exchanges={"bybit": {"credentials": rig.reference("other/bybit")}},
    )
    rig.begin()
    mine = [f"secret/{rig.path('tokyo-1')}", f"secret/{rig.path('tokyo-1')}/**"]
    ruled(rig, rule(secrets=mine))

    with asked(bao, rig) as paths:
        ran = rig.apply()

    assert ran.code == 4
    assert not [path for path in paths if "other" in path]
    assert stand_in.record.saves == 0


def test_a_server_that_no_rule_is_about_is_not_contacted(rig: Rig, bao: OpenBao) -> None:
    good, bad = rig.server(), rig.server("osaka-1")
    rig.document()
    rig.document("osaka-1")
    rig.begin()
    ruled(rig, rule(servers={"urls": [good.url]}))

    with asked(bao, rig) as paths:
        ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert "may not name" in server(ran, "osaka-1")["failure"]["what"]
    assert bad.record.handshakes == []
    assert not [path for path in paths if "osaka" in path]
    assert good.record.saves == 1


def test_a_directory_decides(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document().rename(rig.docs / "x.yaml")
    (rig.docs / "desk-asia").mkdir()
    (rig.docs / "x.yaml").rename(rig.docs / "desk-asia" / "x.yaml")
    rig.begin()
    ruled(rig, rule(servers={"urls": ["**"], "files": ["desk-asia/**"]}))
    allowed = rig.plan()
    ruled(rig, rule(servers={"urls": ["**"], "files": ["desk-europe/**"]}))
    refused = rig.plan()

    assert allowed.code == 0
    assert refused.code == 4
    assert "is about any of 1 server" in refused.err
    assert len(stand_in.record.handshakes) == 1


def test_a_request_that_is_denied_is_not_done_and_one_that_is_allowed_is(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1")
    rig.begin()
    rig.settings(policy=rig.policy(), soleWriter=True)
    assert rig.apply().code == 0
    ask(rig, reboot={"robots": "leave"})
    rig.settings(policy=rig.policy(rules=[deny("calm", "reboot"), rule()]), soleWriter=True)

    denied = rig.apply("-o", "json")
    before = stand_in.record.reboot_requests
    rig.settings(policy=rig.policy(), soleWriter=True)
    allowed = rig.apply()

    assert denied.code == 4
    assert [one["standing"] for one in server(denied)["disruptions"]] == ["blocked"]
    assert [one["rule"] for one in server(denied)["violations"]] == ["1 calm"]
    assert before == 0
    assert allowed.code == 0, allowed
    assert stand_in.record.reboots == 1


def test_a_request_that_is_scheduled_is_blocked(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1")
    rig.begin()
    rig.settings(policy=rig.policy(), soleWriter=True)
    assert rig.apply().code == 0
    soon = {"bootedAfter": "2126-11-22T09:30:00Z", "robots": "leave", "reason": "later"}
    rig.document("tokyo-1", rotate=False, supervised=True, reboot=soon)
    scheduled = rig.plan("-o", "json")
    rig.settings(policy=rig.policy(rules=[deny("calm", "reboot"), rule()]), soleWriter=True)
    blocked = rig.plan("-o", "json")

    assert [one["standing"] for one in server(scheduled)["disruptions"]] == ["scheduled"]
    assert [one["standing"] for one in server(blocked)["disruptions"]] == ["blocked"]
    assert blocked.code == 4
    assert stand_in.record.reboots == 0


def test_robots_are_not_restarted_where_that_is_denied(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", robots={"onCredentialChange": "restart"})
    rig.begin()
    ruled(rig, deny("calm", "restart"), rule())

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert results_of(ran.out) == ["write"]
    assert stand_in.record.robot_stops_asked == []


def results_of(text: str) -> list[str]:
    """The kinds of what was done."""
    (one,) = json.loads(text)["servers"]
    return [outcome["action"]["kind"] for outcome in one["outcomes"]]


def test_drift_does_not_heal_itself_where_that_is_denied(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", "bybit", "okx", selfHeal=True)
    rig.begin()
    rig.apply()
    stand_in.set_value("bybit_api_key", "somebody-elses-key")
    ruled(rig, deny("calm", "self-heal"), rule())

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert line(ran, "bybit")["status"] == "left alone"
    assert stand_in.values()["bybit_api_key"] == "somebody-elses-key"


def test_a_document_does_not_take_over_where_that_is_denied(rig: Rig) -> None:
    stand_in = rig.server()
    stand_in.set_value("bybit_api_key", "somebody-elses-key")
    stand_in.set_value("bybit_api_secret", "somebody-elses-secret")
    rig.document("tokyo-1")
    credentials = rig.reference("tokyo-1/bybit")
    rig.document("tokyo-1", exchanges={"bybit": {"credentials": credentials, "takeOver": True}})
    rig.begin()
    ruled(rig, deny("calm", "take-over"), rule())

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert line(ran, "bybit")["status"] == "blocked"
    assert stand_in.values()["bybit_api_key"] == "somebody-elses-key"


def test_a_suspension_that_is_denied_holds_and_is_told(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", suspend={"reason": "mine", "by": "me"})
    rig.begin()
    ruled(rig, deny("calm", "suspend"), rule())

    ran = rig.apply("-o", "json")

    assert ran.code == 4
    assert [one["action"] for one in server(ran)["violations"]] == ["suspend"]
    assert stand_in.record.saves == 0


def test_windows_and_audits_that_are_required(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1", robots={"onCredentialChange": "restart"})
    rig.begin()
    ruled(rig, rule(require={"windows": True, "audit": True}))

    assert violations(rig) == [("write", "bybit", "1 all"), ("restart", "", "1 all")]
    text = rig.plan().out
    assert "without security: rule 1 (all) wants it" in text
    assert "declare spec.windows" in text


def test_limits_hold_back_all_of_a_kind(rig: Rig) -> None:
    names = ("tokyo-1", "osaka-1", "kyoto-1")
    servers = [rig.server(name, robots=[]) for name in names]
    for name in rig.servers:
        rig.document(name)
    rig.begin()
    rig.apply()
    for name in rig.servers:
        rig.document(name, rotate=False, exchanges={"bybit": {"state": "absent"}})
    ruled(rig, rule(), limits={"deletes": 2})

    ran = rig.apply("-o", "json")
    one = rig.apply("--server", "tokyo-1")

    assert ran.code == 4
    assert [statuses(ran, name)["bybit"] for name in rig.servers] == ["blocked"] * 3
    assert "3 deletes in this pass" in line(ran, "bybit")["why"]
    assert one.code == 0
    assert [bool(each.values()) for each in servers] == [False, True, True]


def test_a_share_of_servers(rig: Rig) -> None:
    for name in ("tokyo-1", "osaka-1", "kyoto-1"):
        rig.server(name)
        rig.document(name)
    rig.begin()
    ruled(rig, rule(), limits={"serversChanged": 50})

    ran = rig.apply()

    assert ran.code == 4
    assert "3 of 3 servers would change in this pass" in ran.out
    assert [each.record.saves for each in rig.servers.values()] == [0, 0, 0]


def test_a_secret_must_be_bound(rig: Rig, bao: OpenBao) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    ruled(rig, rule(), requireBinding=True)
    first = rig.apply()
    rig.bao.bind(rig.path("tokyo-1"), stand_in.url)
    rig.bao.bind(rig.path("tokyo-1/okx"), stand_in.url)
    with asked(bao, rig) as paths:
        second = rig.apply()

    assert first.code == 4
    assert "requireBinding" in first.out
    assert second.code == 4
    assert {name.partition("_")[0] for name in stand_in.values()} == {"okx"}
    assert f"secret/data/{rig.path('tokyo-1/bybit')}" not in paths


# ── a policy that cannot be used ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "code", "words"),
    [
        ("rules: [", 3, "policy.yaml:"),
        ("apiVersion: jtr/v1\nkind: Policy\nrules: []\n", 3, "rules is empty"),
        (None, 3, "there is no policy"),
        (
            yaml.safe_dump(
                {
                    "apiVersion": "jtr/v1",
                    "kind": "Policy",
                    "rules": [rule(servers={"urls": ["https://elsewhere.internal"]})],
                }
            ),
            4,
            "is about any of 1 server",
        ),
    ],
)
@pytest.mark.parametrize("command", ["plan", "apply"])
def test_nothing_is_contacted(
    rig: Rig, bao: OpenBao, policy: str | None, code: int, words: str, command: str
) -> None:
    stand_in = rig.server()
    rig.document()
    rig.begin()
    path = Path(rig.policy())
    rig.settings(policy=str(path))
    path.unlink() if policy is None else path.write_text(policy, "utf-8")

    with asked(bao, rig) as paths:
        ran = rig.apply() if command == "apply" else rig.plan()

    assert ran.code == code, ran
    assert words in ran.err
    assert stand_in.record.handshakes == []
    assert paths == []


def test_a_policy_with_the_documents_is_refused(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.begin()
    inside = rig.docs / ".policy.yaml"
    Path(rig.policy()).rename(inside)
    rig.settings(policy=str(inside))

    ran = rig.plan()
    judged = rig.jtr("policy", "check", str(rig.docs), "--policy", str(inside))

    assert (ran.code, judged.code) == (64, 64)
    assert "lies with the desired state" in ran.err


# ── jtr policy ───────────────────────────────────────────────────────────────────────────────


def test_check_contacts_nothing_and_says_what_is_denied(rig: Rig, bao: OpenBao) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", selfHeal=True)
    ruled(rig, deny("calm", "self-heal"), rule())

    with asked(bao, rig) as paths:
        ran = rig.jtr("policy", "check", str(rig.docs))
        data = rig.jtr("policy", "check", str(rig.docs), "-o", "json")
    ruled(rig, rule())
    good = rig.jtr("policy", "check", str(rig.docs))

    assert (ran.code, data.code, good.code) == (4, 4, 0)
    assert "tokyo-1.yaml may not ask for self-heal: rule 1 (calm) denies it" in ran.out
    assert "Policy: 1 server, 3 allowed, 1 denied." in ran.out
    (one,) = json.loads(data.out)["servers"]
    assert [found["rule"] for found in one["violations"]] == ["1 calm"]
    assert "4 allowed, 0 denied" in good.out
    assert stand_in.record.handshakes == []
    assert paths == []


def test_check_without_a_policy(rig: Rig) -> None:
    rig.document()
    rig.settings(policy=None)

    ran = rig.jtr("policy", "check", str(rig.docs))

    assert ran.code == 64
    assert "no policy is named" in ran.err


def test_explain_says_which_rule_decides_and_why_no_other(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1", selfHeal=True)
    ruled(rig, rule(actions=["write"]), rule("other", servers={"urls": ["https://x.internal"]}))

    ran = rig.jtr("policy", "explain", "tokyo-1", "--from", str(rig.docs))
    data = rig.jtr("policy", "explain", "tokyo-1", "--from", str(rig.docs), "-o", "json")
    unknown = rig.jtr("policy", "explain", "osaka-1", "--from", str(rig.docs))

    assert (ran.code, data.code, unknown.code) == (4, 4, 64)
    assert f"+ write bybit {rig.reference('tokyo-1/bybit')}: allowed by rule 1 (all)" in ran.out
    assert "! self-heal: no rule allows it" in ran.out
    assert "rule 1 (all): it is about write" in ran.out
    assert "is not https://x.internal" in ran.out
    decisions = json.loads(data.out)["decisions"]
    assert [one["action"] for one in decisions] == ["contact", "login", "write", "self-heal"]
    assert [one["allowed"] for one in decisions] == [True, True, True, False]


def test_cases_that_hold_and_cases_that_do_not(rig: Rig) -> None:
    case = rig.home / "cases" / "own"
    rig.server()
    rig.document()
    (case / "documents").mkdir(parents=True)
    (rig.docs / "tokyo-1.yaml").rename(case / "documents" / "tokyo-1.yaml")
    expected = case / "expected.yaml"
    expected.write_text(
        "- {server: tokyo-1, action: write, verdict: allowed, rule: all}\n", "utf-8"
    )
    ruled(rig, rule())
    good = rig.jtr("policy", "test", str(rig.home / "cases"))
    expected.write_text("- {server: tokyo-1, action: write, verdict: denied}\n", "utf-8")
    bad = rig.jtr("policy", "test", str(rig.home / "cases"))
    data = rig.jtr("policy", "test", str(rig.home / "cases"), "-o", "json")
    none = rig.jtr("policy", "test", str(rig.docs))

    assert (good.code, bad.code, data.code, none.code) == (0, 1, 1, 64)
    assert "✓ own  1 row" in good.out
    assert "expected denied, allowed by rule 1 (all)" in bad.out
    assert json.loads(data.out)["cases"][0]["failures"]


def test_t1_a_document_cannot_have_another_teams_secret_sent_to_its_own_server(
    rig: Rig, bao: OpenBao
) -> None:
    """Somebody points at a secret of team B in his document; B's binding holds in any case."""
    mine, theirs = rig.server(), rig.server("osaka-1")
    rig.document()
    rig.rotate("osaka-1", "bybit")
    rig.bao.bind(rig.path("osaka-1/bybit"), theirs.url)
    rig.document(
        "tokyo-1",
        rotate=False,
        exchanges={"bybit": {"credentials": rig.reference("osaka-1/bybit")}},
    )
    rig.begin()
    runs = []
    with asked(bao, rig) as paths:
        for policy in (None, rig.policy(), rig.policy(requireBinding=True)):
            rig.settings(policy=policy)
            runs.append(rig.apply("--approve-recipient", "tokyo-1"))

    assert {ran.code for ran in runs} == {4}
    assert f"secret/data/{rig.path('osaka-1/bybit')}" not in paths
    assert mine.record.saves == 0


def test_t20_a_reboot_in_a_file_of_people_who_may_not_ask_for_one(rig: Rig) -> None:
    """Only documents below on-call/ may stop robots."""
    stand_in = rig.server()
    rig.document("tokyo-1", supervised=True, reboot=REBOOT)
    ruled(
        rig,
        rule("stops", servers={"urls": ["**"], "files": ["on-call/**"]}),
        rule("desk", actions=["write"]),
    )
    outside = rig.jtr("policy", "check", str(rig.docs))
    (rig.docs / "on-call").mkdir()
    (rig.docs / "tokyo-1.yaml").rename(rig.docs / "on-call" / "tokyo-1.yaml")
    inside = rig.jtr("policy", "check", str(rig.docs))

    assert (outside.code, inside.code) == (4, 0)
    assert "may not ask for reboot: no rule allows it" in outside.out
    assert stand_in.record.handshakes == []


def test_the_plans_document_fits_its_schema(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1", selfHeal=True)
    ruled(rig, deny("calm", "self-heal"), rule())

    assert document(rig.plan("-o", "json"))["servers"][0]["violations"]
