"""
Hyperliquid: whose key a private key is, and that it never leaves the process.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import ccxt
import pytest

from reconciler.exchanges.adapters.hyperliquid import ADAPTERS
from reconciler.exchanges.ccxt_client import opened
from reconciler.model.key_facts import Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.model.secret import Secret
from reconciler.testing import exchange_server, through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, spoilt
from reconciler.testing.documented_answers import (
    WALLET,
    check,
    findings,
    mangled,
)
from reconciler.testing.exchange_server import Call, HangUp, Reply
from tests.exchanges import signing_more
from tests.exchanges.contract import WatchedContract
from tests.support.leaks import Watch

ADAPTER = ADAPTERS[0]
PATH = "/info"
AGENT = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
STRANGER = "0x0000000000000000000000000000000000000017"
ENDS_MS = 1_765_000_000_000  # 2025-12-06, two weeks after the tables' day
LATER_MS = 1_775_000_000_000


def listed(address: str = AGENT, ends: Any = LATER_MS) -> dict[str, Any]:
    """Return an agent as an account lists it."""
    return {"name": "robots", "address": address, "validUntil": ends}


def documented(
    role: Any = None,
    agents: Any = None,
    address: str = AGENT,
    user: str = WALLET,
    owner: Any = None,
) -> dict[str, Any]:
    """Return what `fetch` brings of an agent that the wallet approves."""
    return {
        "address": address,
        "role": {"role": "agent", "data": {"user": user}} if role is None else role,
        "agents": [listed(STRANGER, ENDS_MS), listed()] if agents is None else agents,
        "owner": owner,
    }


# Within the account and its sub-accounts an agent moves funds, too.
TRADES = Grant("agent", frozenset({Cap.SPOT, Cap.PERPETUAL, Cap.TRANSFER}), separable=False)
OWNS = Grant(
    "owner",
    frozenset({Cap.SPOT, Cap.PERPETUAL, Cap.WITHDRAW, Cap.TRANSFER, Cap.SUBACCOUNT}),
    separable=False,
)


def facts(**fields: Any) -> KeyFacts:
    """Return what is known of the agent, with other fields; no key is bound to addresses."""
    told: dict[str, Any] = {
        "grants": (TRADES,),
        "ip": IpRule(bound=False, listed=True, offered=False),
        "read_only": False,
        "expires_at": datetime.fromtimestamp(LATER_MS / 1000, UTC),
        "environment": Environment.LIVE,
        "owner": False,
        "same_key": True,
    }
    return KeyFacts(**{**told, **fields})


def owned(**fields: Any) -> KeyFacts:
    """Return what is known of a key that can move funds."""
    told = {"grants": (OWNS,), "owner": True, "never_expires": True}
    return facts(expires_at=None, same_key=None, **{**told, **fields})


OWNER_FINDINGS = ["CRITICAL OWNER_KEY", "CRITICAL PERM_WITHDRAW", "WARNING IP_NOT_OFFERED"]
MISMATCH = ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"]

USUAL = ["WARNING IP_NOT_OFFERED", "INFO PERM_COARSE"]

ROWS = [
    pytest.param(documented(), facts(), USUAL, id="good; always unbound"),
    pytest.param(
        documented(user=STRANGER, owner=STRANGER),
        facts(),
        USUAL,
        id="the wallet is a sub-account or a vault of whom the agent serves",
    ),
    pytest.param(
        documented(user=STRANGER, owner=AGENT),
        facts(same_key=False),
        MISMATCH,
        id="the wallet is a sub-account of somebody else",
    ),
    pytest.param(
        documented(user=WALLET.upper().replace("0X", "0x")),
        facts(),
        USUAL,
        id="the wallet with a checksum",
    ),
    pytest.param(
        documented(agents=[listed(ends=ENDS_MS)]),
        facts(expires_at=datetime.fromtimestamp(ENDS_MS / 1000, UTC)),
        ["WARNING EXPIRES_SOON", *USUAL],
        id="expiring",
    ),
    pytest.param(
        documented(agents=[listed(ends=1_763_000_000_000)]),
        facts(expires_at=datetime.fromtimestamp(1_763_000_000, UTC)),
        ["ERROR KEY_EXPIRED", *USUAL],
        id="expired",
    ),
    pytest.param(
        documented(agents=[listed(STRANGER)]),
        facts(expires_at=None),
        ["WARNING IP_NOT_OFFERED", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="agent without a name: its end is not knowable",
    ),
    pytest.param(
        documented({"role": "user"}, address=WALLET),
        owned(),
        OWNER_FINDINGS,
        id="excess: the owner's own key",
    ),
    pytest.param(
        documented({"role": "missing"}, address=WALLET),
        owned(),
        OWNER_FINDINGS,
        id="excess: the owner's own key, of an account that was never used",
    ),
    pytest.param(
        documented({"role": "user"}),
        owned(),
        OWNER_FINDINGS,
        id="excess: the owner's key of another account, or of the wallet's main account",
    ),
    pytest.param(
        documented(user=STRANGER), facts(same_key=False), MISMATCH, id="agent of another account"
    ),
    pytest.param(
        documented(address=WALLET, user=STRANGER, agents=[]),
        facts(same_key=False, expires_at=None),
        MISMATCH,
        id="the agent's own address for the wallet's",
    ),
    pytest.param(
        documented({"role": "subAccount", "data": {"master": STRANGER}}),
        facts(grants=None, same_key=False, expires_at=None),
        MISMATCH,
        id="a sub-account",
    ),
    pytest.param(
        documented({"role": "vault"}),
        facts(grants=None, same_key=False, expires_at=None),
        MISMATCH,
        id="a vault",
    ),
    pytest.param(
        documented({"role": "missing"}),
        facts(
            grants=(),
            same_key=None,
            expires_at=None,
            frozen="no account approves of it as an agent, or does so any longer",
        ),
        [
            "ERROR KEY_FROZEN",
            "ERROR PERM_MISSING",
            "WARNING IP_NOT_OFFERED",
            "INFO EXPIRY_NOT_SHOWN",
        ],
        id="missing: revoked, expired, or of the other network",
    ),
]


def test_read_only_age_and_main_account_are_not_knowable() -> None:
    told = facts()  # an agent always trades, for whichever account it is of

    assert (told.read_only, told.created_at, told.master) == (False, None, None)


def test_an_agent_of_the_test_network_belongs_there() -> None:
    told = facts(environment=Environment.TEST)
    check(ADAPTER, documented(), told, Environment.TEST)

    assert findings(ADAPTER, told, Environment.TEST) == USUAL


HOSTILE = spoilt(
    documented(),
    ("role", ...),
    ("role", None),
    ("role", []),
    ("role", "hostile"),
    ("role.role", ...),
    ("role.role", None),
    ("role.role", "hostile"),
    ("role.role", ["user"]),
    ("role.data", ...),
    ("role.data", "hostile"),
    ("role.data.user", ...),
    ("role.data.user", None),
    ("role.data.user", "0xhostile"),
    ("agents", ...),
    ("agents", None),
    ("agents", "hostile"),
    ("agents", ["hostile"]),
    ("agents.0.address", "hostile"),
    ("agents.1.validUntil", "hostile"),
    ("agents.1.validUntil", 10**16),
    ("address", ...),
    ("address", "hostile"),
)


@pytest.fixture
def private_key(watch: Watch) -> str:
    """A made-up private key."""
    return watch.secret("hex")


@pytest.fixture
def credentials(private_key: str) -> dict[str, str]:
    """The key of an agent, in the usual form, with the wallet that it trades for."""
    return of_agent(private_key)


def of_agent(private_key: str) -> dict[str, str]:
    """Return the credentials of an agent of the wallet."""
    return {"privateKey": f"0x{private_key}", "walletAddress": WALLET}


def address_of(private_key: str) -> str:
    """Return the address of a key."""
    address: str = ccxt.hyperliquid.eth_get_address_from_private_key(private_key)
    return address


def agent_of(credentials: Mapping[str, str], user: str = WALLET) -> exchange_server.Check:
    """Return an exchange at which this key is that of an agent."""
    address = address_of(credentials["privateKey"])
    role = {"role": "agent", "data": {"user": user}}
    return signing_more.hyperliquid({address: role}, {WALLET: [listed(address)]})


def approving(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """Answer as an exchange at which the known key is that of an agent of the wallet."""
    return agent_of(known)(call, known, environment)


def test_an_address_is_the_known_one() -> None:
    assert address_of("0x" + "1" * 64) == AGENT


@pytest.mark.parametrize("form", ["0x{}", "{}"])
@pytest.mark.parametrize("spelt", [str.lower, lambda text: text[:2] + text[2:].upper()])
def test_real_ccxt_is_understood_after_two_requests(
    private_key: str, credentials: dict[str, str], form: str, spelt: Callable[[str], str]
) -> None:
    ours = {"privateKey": form.format(private_key), "walletAddress": spelt(WALLET)}
    address = address_of(credentials["privateKey"])
    exchange = signing_more.hyperliquid(
        {address: {"role": "agent", "data": {"user": WALLET}}},
        {spelt(WALLET): [listed(address)]},
    )
    with exchange_server.serving(exchange, {}, {}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, ours)

    assert (asked.status, asked.facts) == (Status.VALID, facts())
    assert [(call.method, call.path) for call in server.calls] == [("POST", PATH)] * 2


def test_the_private_key_is_in_no_request_and_no_answer(
    private_key: str, credentials: dict[str, str]
) -> None:
    secrets = {name: Secret(value) for name, value in credentials.items()}
    with (
        exchange_server.serving(agent_of(credentials), {}, {}) as server,
        opened(
            "hyperliquid", secrets, environment=Environment.LIVE, timeout=5, base=server.url
        ) as ours,
    ):
        answers = ADAPTER.fetch(ours, Environment.LIVE)

    sent = "".join(f"{call.target}{call.headers}{call.body!r}" for call in server.calls)
    assert private_key not in sent.lower()
    assert private_key not in repr(answers).lower()


def test_an_owners_key_is_known_by_one_request(private_key: str) -> None:
    wallet = address_of(private_key)
    ours = {"privateKey": private_key, "walletAddress": wallet}
    exchange = signing_more.hyperliquid({wallet: {"role": "user"}}, {})
    with exchange_server.serving(exchange, {}, {}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, ours)

    assert (asked.status, asked.facts) == (Status.VALID, owned())
    assert server.paths() == [PATH]


@pytest.mark.parametrize("reply", [HangUp(), Reply(b"<html>slow</html>", 504)])
def test_an_owners_key_is_known_without_any_answer(private_key: str, reply: Any) -> None:
    ours = {"privateKey": private_key, "walletAddress": address_of(private_key).upper()}
    with exchange_server.serving(signing_more.hyperliquid({}, {}), {}, {}) as server:
        server.script.append(reply)
        asked = through_ccxt.ask(ADAPTER, server.url, ours)

    assert (asked.status, asked.facts) == (Status.VALID, owned())


def test_a_key_that_nobody_approves_is_no_agent(credentials: dict[str, str]) -> None:
    with exchange_server.serving(signing_more.hyperliquid({}, {}), {}, {}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert asked.status is Status.VALID
    assert asked.facts is not None
    assert asked.facts.frozen
    assert server.paths() == [PATH]


@pytest.mark.parametrize("role", ["subAccount", "vault"])
@pytest.mark.parametrize("owner", [WALLET, STRANGER])
def test_a_wallet_below_the_agents_account_is_served_by_it(
    credentials: dict[str, str], role: str, owner: str
) -> None:
    below = "0x00000000000000000000000000000000000000aa"
    address = address_of(credentials["privateKey"])
    of_wallet = {"role": role, **({"data": {"master": owner}} if role == "subAccount" else {})}
    exchange = signing_more.hyperliquid(
        {address: {"role": "agent", "data": {"user": WALLET}}, below: of_wallet},
        {WALLET: [listed(address)]},
        {below: owner},
    )
    with exchange_server.serving(exchange, {}, {}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, {**credentials, "walletAddress": below})

    assert asked.facts is not None
    assert asked.facts.same_key is (owner == WALLET)
    assert asked.facts.expires_at is not None


def test_an_agent_of_somebody_else_is_another_key(credentials: dict[str, str]) -> None:
    with exchange_server.serving(agent_of(credentials, STRANGER), {}, {}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert asked.facts is not None
    assert asked.facts.same_key is False


def refused(words: str) -> Reply:
    """Return an error in the shape of signed actions; `/info` documents none of its own."""
    return Reply({"status": "err", "response": words})


ERRORS = [
    # Only signed actions say so; of a public question it says nothing about the key.
    pytest.param(
        refused(f"User or API Wallet {AGENT} does not exist."),
        "",
        Status.INDETERMINATE,
        id="no such wallet",
    ),
    pytest.param(
        refused("Too many cumulative requests sent (3 > 2)"),
        "",
        Status.RATE_LIMITED,
        id="too many requests",
    ),
    pytest.param(refused("novel words"), "", Status.INDETERMINATE, id="novel words"),
    pytest.param(
        Reply(b"Failed to deserialize the JSON body", 422),
        "HTTP 422",
        Status.INDETERMINATE,
        id="422",
    ),
    pytest.param(Reply(b"null", 429), "HTTP 429", Status.RATE_LIMITED, id="429"),
]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (HangUp(), Status.UNREACHABLE),
        (Reply(b"<html>not you</html>", 401), Status.INDETERMINATE),
        (Reply({"status": "err"}), Status.INDETERMINATE),
    ],
)
def test_neither_is_trouble_with_the_second_request(
    credentials: dict[str, str], reply: Any, status: Status
) -> None:
    with exchange_server.serving(agent_of(credentials), {}, {}) as server:
        server.script += [Reply({"role": "agent", "data": {"user": WALLET}}), reply]
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert asked.status is status
    assert len(server.calls) == 2


EXCHANGE = Exchange(
    malformed=(
        *(("privateKey", spoil.format) for spoil in ("{}0", "{}zz", "0X{}")),
        ("walletAddress", lambda address: address[:-1]),
        ("walletAddress", lambda address: address[2:]),
    ),
    adapters=ADAPTERS,
    check=approving,
    made_up=lambda secret: of_agent(secret("hex")),
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=tuple(
        GoodKey(
            ADAPTER,
            host,
            (PATH, PATH),
            lambda _key: {},
            facts(environment=environment),
            environment,
            method="POST",
        )
        for environment, host in (
            (Environment.LIVE, "api.hyperliquid.xyz"),
            (Environment.TEST, "api.hyperliquid-testnet.xyz"),
        )
    ),
    wrong={},  # nobody signs anything: another key is another agent's, which rows tell
    errors=ERRORS,
    sent=frozenset({"walletAddress"}),
)


class TestHyperliquid(WatchedContract):
    exchange = EXCHANGE
