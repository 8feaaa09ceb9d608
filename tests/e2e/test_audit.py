"""`jtr audit`: keys from Vault, held against `security`, asked at exchanges on loopback."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.sandbox.exchanges import signing
from reconciler.sandbox.jt_trader.faults import Behaviour
from tests.exchanges.adapters import test_bybit, test_okx
from tests.exchanges.counting_exchange import BYBIT, OKX, Crowd, Kind
from tests.support.rig import Ran, Rig

SECURITY = {"ipWhitelist": ["203.0.113.10/32"], "permissions": {"require": ["spot"]}}


class Market:
    """Exchanges on loopback that know the keys of a rig."""

    def __init__(self, rig: Rig, stack: ExitStack) -> None:
        self.rig = rig
        self.exchanges: dict[str, Crowd] = {}
        for kind in (BYBIT, OKX):
            self.exchanges[kind.code] = stack.enter_context(Crowd(kind, []))
        self.settings()

    def settings(self, proxies: list[Any] | None = None, **changes: Any) -> None:
        bases = {crowd.kind.ccxt_id: crowd.url for crowd in self.exchanges.values()}
        self.rig.settings(
            audit={"bases": bases, "proxies": proxies or []},
            durations={"settle": "1ms", "auditRequest": "3s"},
            **changes,
        )

    def key(
        self, kind: Kind, server: str = "tokyo-1", answer: Any = None, **given: str
    ) -> dict[str, str]:
        """Put a new key into Vault that the exchange knows, and answers so about."""
        credentials = self.rig.rotate(server, kind.code, **given)
        self.exchanges[kind.code].keys[credentials["apiKey"]] = credentials
        if answer is not None:
            self.exchanges[kind.code].own[credentials["apiKey"]] = answer
        return credentials

    def calls(self) -> int:
        return sum(len(crowd.calls) for crowd in self.exchanges.values())

    def audit(self, *args: str, **options: Any) -> Ran:
        return self.rig.jtr("audit", str(self.rig.docs), *args, **options)

    def document(self, *args: str) -> tuple[Ran, dict[str, Any]]:
        ran = self.audit("-o", "json", *args)
        return ran, {
            f"{row['server']}/{row['exchange']}": row for row in json.loads(ran.out)["keys"]
        }


@pytest.fixture
def market(rig: Rig) -> Iterator[Market]:
    with ExitStack() as stack:
        yield Market(rig, stack)


def codes(row: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in row["findings"]}


def bybit(key: dict[str, str], **result: Any) -> dict[str, Any]:
    return test_bybit.documented(key["apiKey"], **result)


def answers(market: Market, kind: Kind, key: dict[str, str], answer: Any) -> None:
    market.exchanges[kind.code].own[key["apiKey"]] = answer


def test_a_key_as_it_should_be_is_asked_about_once(market: Market) -> None:
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    market.key(BYBIT)
    market.rig.begin()
    first, second = market.audit(), market.audit()
    calls = market.calls()
    fresh = market.audit("--fresh")

    assert (first.code, second.code, fresh.code) == (0, 0, 0), first.text
    assert "✓ tokyo-1/bybit  ok      delivery, perpetual, spot  203.0.113.10  never" in first.out
    assert first.out.endswith("1 key: 1 ok, 0 attention, 0 blocked\n")
    assert second.out == first.out
    assert (calls, market.calls()) == (1, 2)


def test_the_evidence_is_told_to_whoever_does_not_believe_us(market: Market) -> None:
    market.rig.document("tokyo-1", "bybit", "okx", rotate=False, security=SECURITY)
    key = market.key(BYBIT)
    answers(market, BYBIT, key, bybit(key, ips=["*"]))
    market.rig.rotate("tokyo-1", "okx")  # no exchange knows it
    market.exchanges.setdefault("okx", market.exchanges["bybit"])
    market.rig.begin()
    text = market.audit("--explain")
    remembered = market.audit("--explain", "-o", "json")

    url = market.exchanges["bybit"].url
    lines = [
        line.strip().removeprefix("| ") for line in text.out.splitlines() if "      | " in line
    ]
    assert f"asked: GET {url}/v5/user/query-api: answered" in lines
    assert "told: Spot.SpotTrade = spot (writes, reported)" in lines
    assert "told: bound to no address" in lines
    assert "wanted: require spot" in lines
    assert "verdict: blocked, because of IP_UNBOUND (error)" in lines
    rows = {row["exchange"]: row for row in json.loads(remembered.out)["keys"]}
    evidence = rows["bybit"]["evidence"]
    assert evidence["requests"] == []
    assert evidence["explanation"][0].startswith("asked: nobody now, the answer is remembered from")
    assert {*evidence["explanation"][1:]} <= {*lines}
    assert "evidence" not in json.loads(market.audit("-o", "json").out)["keys"][0]


def test_no_trading_server_is_contacted(market: Market) -> None:
    server = market.rig.server()
    market.rig.document("tokyo-1", "bybit", rotate=False)
    market.key(BYBIT)
    ran = market.audit()

    assert ran.code == 0
    assert server.record.handshakes == []


def test_a_key_that_must_not_be_used_blocks(market: Market) -> None:
    market.rig.document("tokyo-1", "bybit", "okx", rotate=False, security=SECURITY)
    key = market.key(BYBIT)
    answers(market, BYBIT, key, bybit(key, ips=["*"]))
    market.key(OKX, answer=test_okx.documented(perm="read_only,trade,withdraw"))
    ran, rows = market.document()
    text = market.audit()

    assert (ran.code, text.code) == (4, 4)
    assert {name: row["light"] for name, row in rows.items()} == {
        "tokyo-1/bybit": "blocked",
        "tokyo-1/okx": "blocked",
    }
    assert "IP_UNBOUND" in codes(rows["tokyo-1/bybit"])
    assert "PERM_WITHDRAW" in codes(rows["tokyo-1/okx"])
    assert "      critical PERM_WITHDRAW: it may withdraw funds (withdraw)\n" in text.out
    assert "! tokyo-1/okx" in text.out


def test_a_rejected_key_is_told_apart_from_an_exchange_that_is_away(market: Market) -> None:
    market.rig.document("tokyo-1", "bybit", "okx", rotate=False)
    market.rig.rotate("tokyo-1", "bybit")  # no exchange knows it
    market.key(OKX)
    market.exchanges["okx"].__exit__()
    ran, rows = market.document()

    assert ran.code == 4
    assert (rows["tokyo-1/bybit"]["status"], rows["tokyo-1/bybit"]["light"]) == (
        "rejected",
        "blocked",
    )
    assert (rows["tokyo-1/okx"]["status"], rows["tokyo-1/okx"]["light"]) == (
        "unreachable",
        "attention",
    )


def test_markdown_has_the_same_in_a_table(market: Market) -> None:
    market.rig.document("tokyo-1", "bybit", "okx", "bitmex", rotate=False, security=SECURITY)
    market.key(BYBIT)
    market.key(OKX, answer=test_okx.documented(perm="read_only,trade,withdraw"))
    market.rig.rotate("tokyo-1", "bitmex")
    rows = [line for line in market.audit("-o", "markdown").out.splitlines() if "tokyo" in line]

    assert [row.split(" | ")[:2] for row in rows] == [
        ["| 🟠 attention", "tokyo-1/bitmex"],
        ["| 🟢 ok", "tokyo-1/bybit"],
        ["| 🔴 blocked", "tokyo-1/okx"],
    ]
    assert "**critical** `PERM_WITHDRAW`" in rows[2]


def test_an_accepted_finding_stops_nothing_and_is_shown(market: Market) -> None:
    def accepted(until: str) -> tuple[Ran, dict[str, Any]]:
        exception = {"finding": "IP_UNBOUND", "reason": "moves next week", "until": until}
        market.rig.document(
            "tokyo-1", "bybit", rotate=False, security={**SECURITY, "exceptions": [exception]}
        )
        return market.document()

    market.rig.begin()
    key = market.key(BYBIT)
    answers(market, BYBIT, key, bybit(key, ips=["*"]))
    ran, rows = accepted("2199-01-01T00:00:00Z")
    past, _ = accepted("2020-01-01T00:00:00Z")

    assert (ran.code, past.code) == (0, 4)
    assert rows["tokyo-1/bybit"]["light"] == "attention"
    (finding,) = [f for f in rows["tokyo-1/bybit"]["findings"] if f["code"] == "IP_UNBOUND"]
    assert (finding["accepted"], finding["stops"]) == ("moves next week", False)
    assert market.calls() == 1  # another policy needs no other answer


def test_an_exchange_overrides_what_its_server_wants(market: Market) -> None:
    own = {"security": {"permissions": {"require": ["margin"], "allow": ["spot", "margin"]}}}
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    reference = market.rig.reference("tokyo-1/bybit")
    market.rig.document(
        "tokyo-1",
        "bybit",
        rotate=False,
        security=SECURITY,
        exchanges={"bybit": {"credentials": reference, **own}},
    )
    market.key(BYBIT)
    ran, rows = market.document()

    assert ran.code == 4
    assert {"PERM_MISSING", "PERM_FORBIDDEN"} & codes(rows["tokyo-1/bybit"])


def test_the_same_key_on_two_servers_is_a_finding_and_one_question(market: Market) -> None:
    key = market.key(BYBIT, "tokyo-1")
    market.rig.put("osaka-1/bybit", **key)
    for name in ("tokyo-1", "osaka-1"):
        market.rig.document(name, "bybit", rotate=False, url=f"https://{name}.internal")
    _, rows = market.document()
    one, _ = market.document("--server", "osaka-1")

    assert all("SAME_KEY_TWICE" in codes(row) for row in rows.values())
    assert "SAME_KEY_TWICE" not in one.out
    assert len(rows) == 2


# ── what can go wrong on the way ─────────────────────────────────────────────────────────────


def test_a_key_that_cannot_be_read_is_told_and_the_others_are_asked(market: Market) -> None:
    market.rig.document("tokyo-1", "bybit", "okx", rotate=False, security=SECURITY)
    market.key(BYBIT)
    ran, rows = market.document()

    assert ran.code == 5
    assert rows["tokyo-1/bybit"]["light"] == "ok"
    assert rows["tokyo-1/okx"]["status"] is None
    assert "tokyo-1/okx" in rows["tokyo-1/okx"]["failure"]["what"]
    assert "1 key could not be read" in market.audit().out


def test_a_secret_without_a_field_that_the_exchange_needs(market: Market) -> None:
    market.rig.document("tokyo-1", "okx", rotate=False)
    market.rig.put("tokyo-1/okx", apiKey=market.rig.watch.secret(), secret="x" * 20)
    ran = market.audit()

    assert ran.code == 5
    assert "has no field password" in ran.out
    assert "the exchange needs password" in ran.out
    assert market.calls() == 0


def test_a_pinned_version_is_the_one_that_is_asked_about(market: Market) -> None:
    first = market.key(BYBIT)
    reference = market.rig.reference("tokyo-1/bybit")
    market.rig.rotate("tokyo-1", "bybit")  # the newest one is not known to the exchange
    market.rig.document(
        "tokyo-1", "bybit", rotate=False, exchanges={"bybit": {"credentials": f"{reference}@1"}}
    )
    ran, rows = market.document()

    assert ran.code == 0
    assert rows["tokyo-1/bybit"]["sources"] == [f"{reference}@1"]
    assert first["apiKey"] in {
        call.headers["x-bapi-api-key"] for call in market.exchanges["bybit"].calls
    }


def test_a_secret_that_the_settings_do_not_allow_is_not_read(market: Market) -> None:
    market.settings(allow={"paths": ["secret/other/**"]})
    market.rig.document("tokyo-1", "bybit", rotate=False)
    market.key(BYBIT)
    ran = market.audit()

    assert ran.code == 4
    assert "not among the secrets that the settings allow" in ran.out
    assert market.calls() == 0


def test_without_a_fingerprint_key_it_says_that_nothing_is_remembered(market: Market) -> None:
    market.rig.document("tokyo-1", "bybit", rotate=False)
    market.key(BYBIT)
    first, second = market.audit(), market.audit()

    assert "no answer of an exchange is remembered" in first.err
    assert (first.code, second.code, market.calls()) == (0, 0, 2)
    assert not (market.rig.home / "state" / "jtr" / "audit.json").exists()


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("--server", "osaka-9"), "no server is called osaka-9"),
        (("--expiring", "soon"), "is not a duration"),
        (("--selector", "env=none"), "no server has the labels"),
    ],
)
def test_mistakes_on_the_command_line(market: Market, args: tuple[str, ...], what: str) -> None:
    market.rig.document("tokyo-1", "bybit", rotate=False)
    ran = market.audit(*args)

    assert ran.code == 64
    assert what in ran.err


def test_an_invalid_document_stops_before_anything_is_asked(market: Market) -> None:
    market.rig.document("tokyo-1", "bybit", rotate=False, security={"permissions": {"allow": 1}})
    market.key(BYBIT)

    assert market.audit().code == 3
    assert market.calls() == 0


# ── what only some want to see ───────────────────────────────────────────────────────────────


def test_only_keys_that_expire_soon(market: Market) -> None:
    ends = (datetime.now(UTC) + timedelta(days=20)).strftime("%Y-%m-%dT%H:%M:%SZ")
    market.rig.document("tokyo-1", "bybit", "okx", rotate=False)
    market.rig.document("osaka-1", "bybit", rotate=False, url="https://osaka-1.internal")
    key = market.key(BYBIT)
    answers(market, BYBIT, key, bybit(key, expiredAt=ends, deadlineDay=20))
    market.key(OKX)
    market.key(BYBIT, "osaka-1")
    ran = market.audit("--expiring", "30d")

    assert "tokyo-1/bybit" in ran.out
    assert "osaka-1/bybit" not in ran.out
    assert "EXPIRES_SOON" in ran.out
    assert "1 key without a known end\n1 key: " in ran.out  # okx does not tell
    assert "tokyo-1/bybit" not in market.audit("--expiring", "10d").out


def test_with_a_visit_the_servers_own_address_is_compared(market: Market) -> None:
    market.rig.server(behaviour=Behaviour(proxy=(("a", "203.0.113.99"),)))
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    market.key(BYBIT)
    without, rows = market.document()
    visited, seen = market.document("--visit")

    assert (without.code, rows["tokyo-1/bybit"]["light"]) == (0, "ok")
    assert visited.code == 4
    assert "IP_MISSING_SERVER" in codes(seen["tokyo-1/bybit"])


def test_a_key_that_is_bound_to_its_server_is_asked_about_from_there(market: Market) -> None:
    """The exchange refuses this host; through the server's proxy it answers."""
    market.rig.document("tokyo-1", "bybit", rotate=False, security=SECURITY)
    market.rig.begin()
    key = market.key(BYBIT)
    with Crowd(BYBIT, [key]) as there:
        market.settings(proxies=[{"servers": ["tokyo-*"], "proxy": there.url}])
        through, _ = market.document()
        calls = len(there.calls)
    answers(market, BYBIT, key, signing.bybit_error("10010").body)
    market.settings()
    text, (_, rows) = market.audit(), market.document()
    (market.rig.home / "state" / "jtr" / "audit.json").unlink()
    nothing_known = market.audit("--fresh")

    assert (through.code, calls) == (0, 1)
    assert there.url in through.out
    assert {"IP_REFUSED_HERE", "FACTS_FROM_SERVER"} <= codes(rows["tokyo-1/bybit"])
    assert "delivery, perpetual, spot" in text.out
    assert "PERM_NOT_KNOWABLE" in nothing_known.out
    assert "~ tokyo-1/bybit" in nothing_known.out


def test_a_server_that_cannot_be_visited_is_said_and_its_keys_are_asked(market: Market) -> None:
    market.rig.document(
        "tokyo-1", "bybit", rotate=False, url="https://127.0.0.1:1", security=SECURITY
    )
    market.rig.put("tokyo-1", access_secret=market.rig.watch.secret())
    market.key(BYBIT)
    ran = market.audit("--visit")

    assert ran.code == 6
    assert "where tokyo-1 leaves from is not known" in ran.err
    assert "✓ tokyo-1/bybit" in ran.out


def test_the_real_command_keeps_keys_to_itself_also_when_it_logs_everything(
    market: Market,
) -> None:
    """Every output is searched for traces of the keys by the suite."""
    market.rig.document("tokyo-1", "bybit", "okx", rotate=False, security=SECURITY)
    market.rig.begin()
    market.key(BYBIT)
    market.key(OKX, answer={"code": "50110", "data": [], "msg": "words"})
    ran = market.rig.process("--debug", "audit", str(market.rig.docs))

    assert ran.code == 0, ran.text
    assert "IP_REFUSED_HERE" in ran.out
    assert "tokyo-1/bybit  ok" in ran.out
