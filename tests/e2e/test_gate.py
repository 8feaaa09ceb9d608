"""The audit before a push: what must not be used reaches no server; a quiet pass asks nobody."""

import json
from datetime import timedelta

import pytest

from reconciler.apply import audit_gate
from reconciler.testing.exchange_server import HangUp
from tests.e2e.test_audit import SECURITY, Market, answers, bybit, market
from tests.exchanges.adapters import test_bybit
from tests.exchanges.counting_exchange import BYBIT

__all__ = ["market"]


def test_a_good_key_is_asked_about_once_and_written(market: Market) -> None:
    server = market.rig.server()
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    key = market.key(BYBIT)
    market.rig.begin()

    first = market.rig.apply()
    calls = market.calls()
    second = market.rig.apply()

    assert (first.code, second.code) == (0, 0), first.text
    assert server.values()["bybit_api_key"] == key["apiKey"]
    assert (server.record.saves, calls, market.calls()) == (1, 1, 1)


def test_a_key_that_may_withdraw_reaches_no_server(market: Market) -> None:
    server = market.rig.server()
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    key = market.key(BYBIT)
    permissions = test_bybit.documented(key["apiKey"])["result"]["permissions"]
    wallet = {**permissions, "Wallet": ["AccountTransfer", "Withdraw"]}
    answers(market, BYBIT, key, bybit(key, permissions=wallet))
    market.rig.begin()

    ran = market.rig.apply()

    assert ran.code == 4
    assert "PERM_WITHDRAW" in ran.out
    assert server.record.saves == 0
    assert server.values().get("bybit_api_key", "") == ""


@pytest.mark.parametrize(("minutes", "code", "calls"), [(1, 4, 1), (0, 0, 2)])
def test_a_key_that_was_put_right_is_asked_about_again(
    market: Market, monkeypatch: pytest.MonkeyPatch, minutes: int, code: int, calls: int
) -> None:
    """Not within the minute: whoever tries and tries again must not get banned."""
    server = market.rig.server()
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    key = market.key(BYBIT)
    answers(market, BYBIT, key, bybit(key, ips=["*"]))
    market.rig.begin()
    assert market.rig.apply().code == 4
    assert market.calls() == 1
    answers(market, BYBIT, key, bybit(key))
    monkeypatch.setattr(audit_gate, "AGAIN", timedelta(minutes=minutes))

    assert market.rig.apply().code == code
    assert market.calls() == calls
    assert server.record.saves == (not code)


def test_a_rejected_key_is_not_tried_again_at_once(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exchanges lock out who tries a wrong key again and again."""
    server = market.rig.server()
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    key = market.key(BYBIT)
    market.exchanges["bybit"].keys[key["apiKey"]] = {**key, "secret": market.rig.watch.secret()}
    monkeypatch.setattr(audit_gate, "AGAIN", timedelta(0))
    market.rig.begin()

    assert [market.rig.apply().code for _ in range(3)] == [4, 4, 4]
    assert (server.record.saves, market.calls()) == (0, 1)


def test_without_security_nobody_is_asked(market: Market) -> None:
    server = market.rig.server()
    market.rig.document("tokyo-1", "bybit", rotate=False)
    market.key(BYBIT)
    market.rig.begin()

    assert market.rig.apply().code == 0
    assert (server.record.saves, market.calls()) == (1, 0)


def test_drift_is_put_back_without_asking(market: Market) -> None:
    server = market.rig.server()
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    market.key(BYBIT)
    market.rig.begin()
    assert market.rig.apply().code == 0
    server.set_value("bybit_api_key", market.rig.watch.secret("hex"))
    for recorded in market.rig.home.rglob("audit.json"):
        recorded.unlink()  # what it remembers needs no call, either
    calls = market.calls()

    ran = market.rig.apply("--correct-drift")

    assert (ran.code, server.record.saves, market.calls()) == (0, 2, calls)


@pytest.mark.parametrize("self_heal", [False, True])
def test_a_new_version_is_asked_about_where_drift_is_corrected_too(
    market: Market, *, self_heal: bool
) -> None:
    """Else who edits one field on the server's page gets any key past the audit."""
    server = market.rig.server()
    healing = {"selfHeal": True} if self_heal else {}
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY, **healing)
    market.key(BYBIT)
    market.rig.begin()
    assert market.rig.apply().code == 0
    key = market.key(BYBIT)
    answers(market, BYBIT, key, bybit(key, ips=["*"]))
    server.set_value("bybit_api_secret", market.rig.watch.secret())
    calls = market.calls()

    ran = market.rig.apply(*([] if self_heal else ["--correct-drift"]))

    assert (ran.code, server.record.saves, market.calls()) == (4, 1, calls + 1), ran.text
    assert "IP_UNBOUND" in ran.out
    assert server.values()["bybit_api_key"] != key["apiKey"]


def test_a_key_that_takes_over_what_proves_too_little_is_asked_about(market: Market) -> None:
    server = market.rig.server()
    secret = market.rig.watch.secret
    server.set_value("bybit_api_key", secret())
    server.set_value("bybit_api_secret", secret()[:10])
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    key = market.key(BYBIT, secret=secret()[:10])
    answers(market, BYBIT, key, bybit(key, ips=["*"]))
    market.rig.begin()

    ran = market.rig.apply("--take-over", "tokyo-1/bybit")

    assert (ran.code, server.record.saves, market.calls()) == (4, 0, 1), ran.text


@pytest.mark.parametrize(
    ("unverifiable", "code", "saves"),
    [("warn", 0, 1), ("block", 4, 0), ("ignore", 0, 1)],
)
def test_an_exchange_that_is_away_does_as_the_document_says(
    market: Market, unverifiable: str, code: int, saves: int
) -> None:
    server = market.rig.server()
    security = SECURITY | {"onUnverifiable": unverifiable}
    market.rig.document("tokyo-1", "bybit", rotate=False, security=security)
    market.key(BYBIT)
    market.rig.begin()
    market.exchanges["bybit"].script.extend([HangUp()] * 4)

    ran = market.rig.apply()

    assert (ran.code, server.record.saves) == (code, saves), ran.text


def test_plan_with_audit_says_what_the_exchange_says(market: Market) -> None:
    server = market.rig.server()
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    key = market.key(BYBIT)
    answers(market, BYBIT, key, bybit(key, ips=["*"]))
    market.rig.begin()

    plain = market.rig.plan()
    calls = market.calls()
    audited = market.rig.plan("--audit")
    document = market.rig.plan("--audit", "-o", "json")

    assert (plain.code, calls) == (0, 0)
    assert (audited.code, document.code) == (4, 4)
    assert "IP_UNBOUND" in audited.out
    keys = json.loads(document.out)["audit"]["keys"]
    assert [row["light"] for row in keys] == ["blocked"]
    assert server.record.saves == 0
