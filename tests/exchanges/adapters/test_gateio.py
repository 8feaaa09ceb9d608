"""
Gate: what its documented answers and our probes mean, and what real ccxt is answered.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import strategies as st

from reconciler.exchanges.adapters.gateio import ADAPTERS
from reconciler.model.key_facts import (
    Access,
    Cap,
    Environment,
    Grant,
    GrantEvidence,
    IpRule,
    KeyFacts,
    Status,
)
from reconciler.sandbox.exchanges.signing import gate, gate_error
from reconciler.testing import exchange_server, through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, errors
from reconciler.testing.documented_answers import (
    CREDENTIALS,
    KEY,
    changed,
    findings,
    grant,
    mangled,
    refuse,
    without_fields,
)
from reconciler.testing.exchange_server import Reply
from tests.exchanges.contract import WatchedContract, made_of
from tests.support.leaks import Watch

ADAPTER = ADAPTERS[0]
PREFIX = "/api/v4"
LIST = f"{PREFIX}/account/main_keys"


def perm(name: str, *, read_only: bool = False) -> dict[str, Any]:
    """Return one permission as the list shows it."""
    return {"name": name, "read_only": read_only}


SHOWN = 12  # characters of a key, as in the example of the documentation


def masked(key: str) -> str:
    """Return a key as the list shows it."""
    return f"{key[:SHOWN]}*****"


def documented(key: str = masked(KEY), **fields: Any) -> list[dict[str, Any]]:
    """Return the list of main keys: another key, and ours, which may trade and is bound."""
    ours = {
        "state": 1,
        "mode": 1,
        "name": "robots",
        "currency_pairs": [],
        "user_id": 100042,
        "ip_whitelist": ["203.0.113.10"],
        "perms": [perm("spot"), perm("futures"), perm("delivery")],
        "key": key,
        "created_at": 1750126481,
        "update_at": 1750126481,
        "last_access": 1763800000,
        **fields,
    }
    other = {
        **ours,
        "key": masked("someone-elses-key"),
        "perms": [perm("withdraw")],
        "ip_whitelist": [],
    }
    return [other, ours]


SPOT = grant("spot", Cap.SPOT, Cap.MARGIN)
FUTURES = grant("futures", Cap.PERPETUAL)
DELIVERY = grant("delivery", Cap.DELIVERY)
BOUND = IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True)
LAPSES = {"lapses": "90 days after it was made (not bound to addresses)"}
# None of the documented names says withdraw: whether a key may is never known.
UNKNOWN = ["WARNING MASTER_KEY", "WARNING PERM_NOT_KNOWABLE"]
USUAL = [*UNKNOWN, "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"]


def facts(**fields: Any) -> KeyFacts:
    """Return what the documented list means, with other fields."""
    told: dict[str, Any] = {
        "grants": (SPOT, FUTURES, DELIVERY),
        "ip": BOUND,
        "read_only": False,
        "created_at": datetime.fromtimestamp(1750126481, UTC),
        "environment": Environment.LIVE,
        "master": True,
        "unproven": frozenset({Cap.WITHDRAW}),
    }
    return KeyFacts(**{**told, **fields})


ROWS = [
    pytest.param(documented(), facts(), USUAL, id="good"),
    pytest.param(documented(KEY), facts(same_key=True), USUAL, id="the key in full"),
    pytest.param(documented()[1], facts(), USUAL, id="one key alone"),
    pytest.param(
        {**documented()[1], "key": {"mode": 1}}, facts(), USUAL, id="one key alone, not named"
    ),
    pytest.param(
        documented(perms=[perm("spot"), perm("withdraw")]),
        facts(grants=(SPOT, grant("withdraw", Cap.WITHDRAW))),
        ["CRITICAL PERM_WITHDRAW", "ERROR PERM_MISSING", *USUAL],
        id="it may withdraw, and is shown masked",
    ),
    pytest.param(
        [documented()[1], *documented(perms=[perm("withdraw")], ip_whitelist=[], state=2)[1:]],
        facts(
            grants=(SPOT, FUTURES, DELIVERY, grant("withdraw", Cap.WITHDRAW)),
            ip=IpRule(bound=False, listed=True),
            frozen="locked",
            traits=LAPSES,
        ),
        [
            *("CRITICAL PERM_WITHDRAW", "ERROR IP_UNBOUND", "ERROR KEY_FROZEN"),
            *("WARNING EXPIRES_SOON", *UNKNOWN, "INFO PERM_COARSE"),
        ],
        id="two that look alike: the worst of both",
    ),
    pytest.param(
        [documented(ip_whitelist=None)[1], documented(ip_whitelist=["198.51.100.7"])[1]],
        facts(ip=IpRule()),
        ["WARNING IP_NOT_KNOWABLE", *USUAL],
        id="two that look alike: the addresses of one are not told",
    ),
    pytest.param(
        [documented()[1], documented(ip_whitelist=["198.51.100.7"], created_at=1750000000)[1]],
        facts(
            ip=IpRule(
                bound=True,
                networks=(ip_network("203.0.113.10"), ip_network("198.51.100.7")),
                listed=True,
            ),
            created_at=datetime.fromtimestamp(1750000000, UTC),
        ),
        ["WARNING IP_EXTRA", *USUAL],
        id="two that look alike: all addresses of both, and the elder's age",
    ),
    pytest.param(
        documented(perms=[perm("spot"), perm("futures"), perm("wallet"), perm("withdraw")]),
        facts(
            grants=(SPOT, FUTURES, grant("wallet", Cap.TRANSFER), grant("withdraw", Cap.WITHDRAW))
        ),
        ["CRITICAL PERM_WITHDRAW", "ERROR PERM_FORBIDDEN", *USUAL],
        id="excess: wallet and withdrawal",
    ),
    pytest.param(
        documented(perms=[perm("spot"), perm("futures"), perm("WithdrawalFiat")]),
        facts(grants=(SPOT, FUTURES, grant("WithdrawalFiat", Cap.WITHDRAW))),
        ["CRITICAL PERM_WITHDRAW", *USUAL],
        id="excess: anything called withdrawal",
    ),
    pytest.param(
        documented(
            perms=[
                perm(name)
                for name in (
                    *("spot", "futures", "options", "margin", "loan", "earn", "custody", "copy"),
                    *("pilot", "p2p", "subaccount", "rebate"),
                )
            ]
        ),
        facts(
            grants=(
                SPOT,
                FUTURES,
                grant("options", Cap.OPTION),
                grant("margin", Cap.MARGIN),
                grant("loan", Cap.LOAN),
                grant("earn", Cap.EARN),
                grant("custody", Cap.CUSTODY),
                grant("copy", Cap.COPY),
                grant("pilot", Cap.PILOT),
                grant("p2p", Cap.P2P),
                grant("subaccount", Cap.SUBACCOUNT),
                grant("rebate", Cap.COMMISSION),
            )
        ),
        [*["ERROR PERM_FORBIDDEN"] * 10, *USUAL],
        id="excess: everything else on the form",
    ),
    pytest.param(
        documented(perms=[perm("spot"), perm("futures"), perm("unified"), perm("novel")]),
        facts(grants=(SPOT, FUTURES, grant("unified", Cap.UNIFIED), grant("novel", Cap.OTHER))),
        ["ERROR PERM_FORBIDDEN", "ERROR PERM_FORBIDDEN", *USUAL],
        id="unified, and unknown names",
    ),
    pytest.param(
        documented(perms=[perm("spot"), perm("futures"), perm("account", read_only=True)]),
        facts(
            grants=(SPOT, FUTURES, grant("account", Cap.ACCOUNT_READ, access=Access.READ)),
        ),
        USUAL,
        id="the account, reading",
    ),
    pytest.param(
        documented(perms=[perm("spot"), perm("futures"), perm("account")]),
        facts(grants=(SPOT, FUTURES, grant("account", Cap.ACCOUNT_READ))),
        ["ERROR PERM_FORBIDDEN", *USUAL],
        id="the account, writing: excess",
    ),
    pytest.param(
        documented(perms=[perm("spot")]),
        facts(grants=(SPOT,)),
        ["ERROR PERM_MISSING", *USUAL],
        id="missing: futures",
    ),
    pytest.param(
        documented(perms=None),
        facts(grants=(), read_only=True),
        ["ERROR PERM_MISSING", *UNKNOWN, "INFO EXPIRY_NOT_SHOWN"],
        id="nothing granted at all",
    ),
    pytest.param(
        documented(ip_whitelist=[]),
        facts(ip=IpRule(bound=False, listed=True), traits=LAPSES),
        ["ERROR IP_UNBOUND", "WARNING EXPIRES_SOON", *UNKNOWN, "INFO PERM_COARSE"],
        id="unbound, so it lapses: expiring",
    ),
    pytest.param(
        documented(ip_whitelist=None),
        facts(ip=IpRule()),
        ["WARNING IP_NOT_KNOWABLE", *USUAL],
        id="binding not told: not knowable",
    ),
    pytest.param(
        documented(ip_whitelist=["198.51.100.7"]),
        facts(ip=IpRule(bound=True, networks=(ip_network("198.51.100.7"),), listed=True)),
        ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", *USUAL],
        id="bound elsewhere",
    ),
    pytest.param(
        documented(perms=[perm("spot", read_only=True), perm("futures", read_only=True)]),
        facts(
            grants=(
                grant("spot", Cap.SPOT, Cap.MARGIN, access=Access.READ),
                grant("futures", Cap.PERPETUAL, access=Access.READ),
            ),
            read_only=True,
        ),
        ["ERROR KEY_READ_ONLY", *USUAL],
        id="read-only",
    ),
    pytest.param(
        documented(state=3),
        facts(frozen="frozen"),
        ["ERROR KEY_FROZEN", *USUAL],
        id="frozen",
    ),
    pytest.param(
        documented(created_at="2025-06-17 02:14:41"),
        facts(created_at=None),
        USUAL,
        id="age of another form: not knowable",
    ),
]


ALL_DENIED = dict.fromkeys(
    (
        *("account", "spot", "futures", "delivery", "options", "wallet", "subaccount"),
        *("rebate", "earn", "margin", "unified"),
    ),
    "denied",
)
DETAIL = {"user_id": 100042, "ip_whitelist": ["203.0.113.10"], "key": {"mode": 1}}
# No probe can tell anything of these; least of all that a key may not withdraw.
NEVER_PROVEN = frozenset(
    {Cap.WITHDRAW, Cap.P2P, Cap.CUSTODY, Cap.PILOT, Cap.LOAN, Cap.COPY, Cap.CONVERT, Cap.TAX}
) | {Cap.OTHER}


def probed(raw: str, *caps: Cap) -> Grant:
    """Return what an answered probe proves."""
    return grant(raw, *caps, access=Access.READ, evidence=GrantEvidence.PROBED)


def proved(**fields: Any) -> KeyFacts:
    """Return the facts of probes, with other fields."""
    told: dict[str, Any] = {
        "grants": (),
        "unproven": NEVER_PROVEN,
        "environment": Environment.LIVE,
        "traits": {"probed": "one harmless read per permission"},
    }
    return KeyFacts(**{**told, **fields})


PROBES = [
    pytest.param(None, {}, proved(), id="nothing granted"),
    pytest.param(
        None,
        {"spot": "granted", "margin": "granted", "futures": "granted"},
        proved(grants=(probed("spot", Cap.SPOT, Cap.MARGIN), probed("futures", Cap.PERPETUAL))),
        id="good: one permission answers for spot and margin",
    ),
    pytest.param(
        None,
        {"margin": "granted", "wallet": "granted", "unified": "granted"},
        proved(
            grants=(
                probed("wallet", Cap.TRANSFER),
                probed("margin", Cap.MARGIN),
                probed("unified", Cap.UNIFIED),
            )
        ),
        id="excess",
    ),
    pytest.param(
        DETAIL,
        {"account": "granted"},
        proved(grants=(probed("account", Cap.ACCOUNT_READ),), ip=BOUND),
        id="the account tells its binding",
    ),
    pytest.param(
        {**DETAIL, "ip_whitelist": []},
        {"account": "granted"},
        proved(grants=(probed("account", Cap.ACCOUNT_READ),), ip=IpRule(bound=False, listed=True)),
        id="the account tells that it is not bound",
    ),
    pytest.param(
        None,
        {"earn": "unknown", "margin": "unknown", "spot": "denied"},
        proved(unproven=NEVER_PROVEN | {Cap.EARN, Cap.MARGIN}),
        id="not every probe tells: not knowable",
    ),
]


@pytest.mark.parametrize(("detail", "outcomes", "expected"), PROBES)
def test_probes_prove_exactly_this(
    detail: Any, outcomes: Mapping[str, str], expected: KeyFacts
) -> None:
    answers = [None, detail, {**ALL_DENIED, **outcomes}]

    assert ADAPTER.parse(answers, CREDENTIALS, Environment.LIVE) == expected


def test_a_probed_key_is_never_without_a_finding() -> None:
    told = proved(
        grants=(probed("spot", Cap.SPOT, Cap.MARGIN), probed("futures", Cap.PERPETUAL)), ip=BOUND
    )

    # Neither that it writes, nor that it cannot withdraw; and no severity hides that.
    assert findings(ADAPTER, told) == [
        "WARNING PERM_NOT_KNOWABLE",
        "WARNING PERM_NOT_KNOWABLE",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
        "INFO PROBED",
    ]


HOSTILE = [
    pytest.param([documented()[:1]], id="ours is not in it"),
    *(
        pytest.param(
            [changed({"list": documented()}, f"list.{path}", value)["list"]],
            id=f"{path} {value!a}",
        )
        for path, value in (
            ("1.state", ...),
            ("1.state", 9),
            ("1.state", "hostile"),
            ("1.perms", ...),
            ("1.perms", {"spot": True}),
            ("1.perms", ["spot"]),
            ("1.perms", [{"name": "spot"}]),
            ("1.perms", [{"name": "hostile\x1b[2J", "read_only": False}]),
            ("1.perms", [{"name": "spot", "read_only": 0}]),
            ("1.ip_whitelist", "203.0.113.10"),
            ("1.ip_whitelist", [3405803786]),
            ("1.key", "hostile"),
            ("1.key", None),
            ("1.key", {"mode": 1}),  # of several nobody knows which asks
            ("1.key", ...),
        )
    ),
    pytest.param([["hostile", *documented()]], id="among them what is no key"),
]


@pytest.mark.parametrize(
    "answers",
    [[], [None], [{}], ["hostile"], [None, None], [None, "hostile", {}], [None, None, "hostile"]],
)
def test_neither_is_another_shape(answers: list[Any]) -> None:
    refuse(ADAPTER, answers)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return EXCHANGE.made_up(watch.secret)


READS = {
    f"{PREFIX}/{path}"
    for path in (
        *("account/detail", "spot/accounts", "futures/usdt/accounts", "delivery/usdt/accounts"),
        *("options/accounts", "wallet/total_balance", "sub_accounts", "rebate/user/info"),
        *("earn/uni/lends", "margin/accounts", "unified/accounts"),
    )
}


def test_a_key_that_may_not_see_the_list_is_probed(credentials: dict[str, str]) -> None:
    with exchange_server.serving(gate, credentials, {}) as server:
        server.answers = {path: gate_error("FORBIDDEN", 403) for path in {LIST, *READS}}
        server.answers[f"{PREFIX}/spot/accounts"] = Reply([])
        server.answers[f"{PREFIX}/margin/accounts"] = Reply([])
        server.answers[f"{PREFIX}/futures/usdt/accounts"] = gate_error("USER_NOT_FOUND", 400)
        server.answers[f"{PREFIX}/earn/uni/lends"] = gate_error("NOVEL_LABEL", 400)
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    expected = proved(
        grants=(probed("spot", Cap.SPOT, Cap.MARGIN), probed("futures", Cap.PERPETUAL)),
        unproven=NEVER_PROVEN | {Cap.EARN},
    )
    assert (asked.status, asked.facts) == (Status.VALID, expected)
    assert set(server.paths()) == {LIST, *READS}
    assert len(server.calls) == len(READS) + 1
    assert {call.method for call in server.calls} == {"GET"}


def test_a_sub_accounts_key_that_is_not_in_the_list_is_probed_too(
    credentials: dict[str, str],
) -> None:
    with exchange_server.serving(gate, credentials, {LIST: documented()}) as server:
        server.answers |= {path: Reply([]) for path in READS}
        server.answers[f"{PREFIX}/account/detail"] = Reply(DETAIL)
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert asked.facts is not None
    assert asked.facts.master is None
    assert asked.facts.ip == BOUND
    assert Cap.WITHDRAW in asked.facts.unproven


def test_the_test_network_is_probed_as_far_as_ccxt_knows_it(credentials: dict[str, str]) -> None:
    with exchange_server.serving(gate, credentials, {}, Environment.TEST) as server:
        server.answers = {path: gate_error("FORBIDDEN", 403) for path in {LIST, *READS}}
        asked = through_ccxt.ask(ADAPTER, server.url, credentials, Environment.TEST)

    assert asked.status is Status.VALID
    assert asked.facts is not None
    assert asked.facts.grants == ()
    assert {Cap.EARN, Cap.SUBACCOUNT, Cap.COMMISSION} <= asked.facts.unproven
    assert f"{PREFIX}/earn/uni/lends" not in server.paths()


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (gate_error("TOO_MANY_REQUESTS", 429), Status.RATE_LIMITED),
        (gate_error("IP_FORBIDDEN", 403), Status.IP_REFUSED),
        (Reply(b"<html>oops</html>", 502), Status.UNREACHABLE),
    ],
    ids=["rate", "address", "502"],
)
def test_trouble_in_the_midst_of_probing_is_no_answer(
    credentials: dict[str, str], trouble: Reply, expected: Status
) -> None:
    with exchange_server.serving(gate, credentials, {}) as server:
        server.answers = {path: gate_error("FORBIDDEN", 403) for path in {LIST, *READS}}
        server.answers[f"{PREFIX}/wallet/total_balance"] = trouble
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.facts) == (expected, None)


CODES = {
    "INVALID_KEY": Status.REJECTED,
    "INVALID_SIGNATURE": Status.REJECTED,
    "INVALID_CREDENTIALS": Status.REJECTED,
    "AUTHENTICATION_FAILED": Status.INDETERMINATE,
    "MISSING_REQUIRED_HEADER": Status.INDETERMINATE,
    "IP_FORBIDDEN": Status.IP_REFUSED,
    "REQUEST_EXPIRED": Status.CLOCK,
    "ACCOUNT_LOCKED": Status.INDETERMINATE,
    "SUB_ACCOUNT_LOCKED": Status.INDETERMINATE,
    "TOO_FAST": Status.RATE_LIMITED,
    "TOO_MANY_REQUESTS": Status.RATE_LIMITED,
    "INTERNAL": Status.UNREACHABLE,
    "SERVER_ERROR": Status.UNREACHABLE,
    "TOO_BUSY": Status.UNREACHABLE,
    "NOVEL_LABEL": Status.INDETERMINATE,
}
DENIALS = frozenset({"FORBIDDEN", "READ_ONLY"})


@pytest.mark.parametrize("code", sorted(DENIALS))
def test_a_denial_leads_to_probes(credentials: dict[str, str], code: str) -> None:
    with exchange_server.serving(gate, credentials, {}) as server:
        server.answers = {path: gate_error(code, 403) for path in {LIST, *READS}}
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.facts) == (Status.VALID, proved())


def test_a_read_that_is_gone_proves_nothing(credentials: dict[str, str]) -> None:
    with exchange_server.serving(gate, credentials, {LIST: []}) as server:
        server.answers |= {path: gate_error("FORBIDDEN", 403) for path in READS}
        server.answers[f"{PREFIX}/wallet/total_balance"] = Reply(b"<html>gone</html>", 404)
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert asked.facts == proved(unproven=NEVER_PROVEN | {Cap.TRANSFER})


# An empty list is well-formed: it has no key of ours, and probing follows.
TROUBLE = [row for row in through_ccxt.TROUBLE if row.id != "a list"]


def one_more(answer: Any, name: str) -> Any:
    """Return the list with one more permission of every key."""
    if isinstance(answer, dict):
        return {**answer, "perms": [*(answer["perms"] or ()), perm(name)]}
    return [one_more(row, name) for row in answer]


def less(answer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the list without each field of a key."""
    rows = [answer] if isinstance(answer, dict) else answer
    for number, row in enumerate(rows):
        for path, other in without_fields(row):
            left = [*rows[:number], other, *rows[number + 1 :]]
            yield f"{number}.{path}", left[0] if isinstance(answer, dict) else left


EXCHANGE = Exchange(
    less=less,
    more=one_more,
    adapters=ADAPTERS,
    check=gate,
    made_up=made_of(apiKey="hex", secret="hex"),
    documented=documented(),
    mangled=st.lists(mangled(documented()[1]), max_size=3),
    rows=ROWS,
    hostile=HOSTILE,
    good=tuple(
        GoodKey(
            ADAPTER,
            host,
            (LIST,),
            lambda key: {LIST: documented(masked(key))},
            facts(environment=environment),
            environment,
        )
        for environment, host in (
            (Environment.LIVE, "api.gateio.ws"),
            (Environment.TEST, "api-testnet.gateapi.io"),
        )
    ),
    wrong={"apiKey": "INVALID_KEY", "secret": "INVALID_SIGNATURE"},
    errors=errors(gate_error, CODES, 403),
    told_elsewhere=DENIALS,
    trouble=TROUBLE,
)


class TestGate(WatchedContract):
    exchange = EXCHANGE
