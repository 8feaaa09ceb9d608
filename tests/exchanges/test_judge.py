"""
From facts to findings: tables of what each fact leads to, and properties over all facts.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.exchanges import registry
from reconciler.exchanges.judge import judge
from reconciler.model.key_facts import (
    TRANSIENT,
    Access,
    Answered,
    Cap,
    Environment,
    Grant,
    GrantEvidence,
    IpRule,
    KeyFacts,
    Status,
)
from reconciler.model.key_policy import (
    ABOUT_PERMISSIONS,
    NOTHING_DECLARED,
    Accepted,
    KeyFinding,
    OnUnverifiable,
    Security,
    Severity,
)
from reconciler.model.values import replace

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
INFO, WARNING, ERROR, CRITICAL = Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.CRITICAL

SERVER = ip_address("203.0.113.10")
BOUND = IpRule(bound=True, networks=(ip_network("203.0.113.10/32"),), listed=True)
WANTED = Security(ip_whitelist=(ip_network("203.0.113.10/32"),), declared=True)


def grant(raw: str, *caps: Cap, **fields: Any) -> Grant:
    """Return a grant, coarse with several capabilities."""
    return Grant(raw, frozenset(caps), **{"separable": len(caps) == 1, **fields})


SPOT = grant("spot", Cap.SPOT)
GOOD = KeyFacts(
    grants=(
        SPOT,
        grant("futures", Cap.PERPETUAL),
        grant("read", Cap.ACCOUNT_READ, access=Access.READ),
    ),
    ip=BOUND,
    read_only=False,
    never_expires=True,
    environment=Environment.LIVE,
    master=False,
    same_key=True,
)


def said(facts: KeyFacts | None = None, status: Status = Status.VALID, **fields: Any) -> Answered:
    """Return an answer of today."""
    return Answered(status, **{"at": NOW, "facts": facts, "adapter": "bybit", **fields})


def verdict(
    answered: Answered, security: Security = WANTED, **fields: Any
) -> tuple[KeyFinding, ...]:
    """Return the findings on a key that should be a live one."""
    named: dict[str, Any] = {
        "adapter": registry.entry(answered.adapter).adapter,
        "environment": Environment.LIVE,
        "today": TODAY,
        "server_addresses": (SERVER,),
        "from_server": False,
        **fields,
    }
    return judge(answered, security, **named)


def codes(found: tuple[KeyFinding, ...]) -> list[tuple[str, Severity]]:
    """Return what a table row states of findings."""
    return [(finding.code, finding.severity) for finding in found]


def test_a_good_key_has_no_finding() -> None:
    assert verdict(said(GOOD)) == ()


FACTS: list[tuple[str, Mapping[str, Any], list[tuple[str, Severity]]]] = [
    ("withdraw", {"grants": (SPOT, grant("wd", Cap.WITHDRAW))}, [("PERM_WITHDRAW", CRITICAL)]),
    (
        "withdraw, not apart from a transfer",
        {"grants": (grant("Transfer", Cap.WITHDRAW, Cap.TRANSFER),)},
        [("PERM_WITHDRAW", CRITICAL)],
    ),
    (
        "withdraw beside what is allowed",
        {"grants": (grant("all", Cap.WITHDRAW, Cap.SPOT),)},
        [("PERM_WITHDRAW", CRITICAL)],
    ),
    (
        "the history of withdrawals",
        {"grants": (grant("wr", Cap.WITHDRAW, access=Access.READ),)},
        [("PERM_FORBIDDEN", WARNING)],
    ),
    (
        "withdraw, found by a probe",
        {"grants": (grant("wd", Cap.WITHDRAW, access=Access.READ, evidence=GrantEvidence.PROBED),)},
        [("PERM_WITHDRAW", CRITICAL), ("PROBED", INFO)],
    ),
    ("excess", {"grants": (SPOT, grant("options", Cap.OPTION))}, [("PERM_FORBIDDEN", ERROR)]),
    (
        "excess that reads",
        {"grants": (SPOT, grant("options", Cap.OPTION, access=Access.READ))},
        [("PERM_FORBIDDEN", WARNING)],
    ),
    (
        "excess by a probe: perhaps it writes",
        {"grants": (grant("earn", Cap.EARN, access=Access.READ, evidence=GrantEvidence.PROBED),)},
        [("PERM_FORBIDDEN", ERROR), ("PROBED", INFO)],
    ),
    (
        "coarse",
        {"grants": (grant("trade", Cap.SPOT, Cap.MARGIN, Cap.TRANSFER),)},
        [("PERM_COARSE", INFO)],
    ),
    (
        "coarse, and nothing of it allowed",
        {"grants": (grant("funds", Cap.TRANSFER, Cap.SUBACCOUNT),)},
        [("PERM_FORBIDDEN", ERROR)],
    ),
    ("coarse, all of it allowed", {"grants": (grant("x", Cap.PERPETUAL, Cap.DELIVERY),)}, []),
    ("unknown name", {"grants": (grant("novel", Cap.OTHER),)}, [("PERM_FORBIDDEN", ERROR)]),
    (
        "unknown name within a coarse one",
        {"grants": (grant("novel", Cap.SPOT, Cap.OTHER),)},
        [("PERM_FORBIDDEN", ERROR)],
    ),
    ("a grant that means nothing", {"grants": (grant("novel"),)}, [("PERM_FORBIDDEN", ERROR)]),
    (
        "unknown name that reads",
        {"grants": (grant("novel", Cap.OTHER, access=Access.READ),)},
        [("PERM_UNKNOWN_NAME", WARNING)],
    ),
    (
        "an unknown name that speaks of withdrawing",
        {"grants": (SPOT, grant("flexWITHDRAWals", Cap.OTHER))},
        [("PERM_WITHDRAW", CRITICAL)],
    ),
    (
        "a name that speaks of transfers, taken for something else",
        {"grants": (SPOT, grant("spotTransferAll"))},
        [("PERM_FORBIDDEN", ERROR)],
    ),
    (
        "the account, writing",
        {"grants": (grant("account", Cap.ACCOUNT_READ),)},
        [("PERM_FORBIDDEN", ERROR)],
    ),
    (
        "the account by a probe: perhaps it writes",
        {
            "grants": (
                grant(
                    "account", Cap.ACCOUNT_READ, access=Access.READ, evidence=GrantEvidence.PROBED
                ),
            )
        },
        [("PERM_NOT_KNOWABLE", WARNING), ("PROBED", INFO)],
    ),
    (
        "unproven",
        {"unproven": frozenset({Cap.WITHDRAW, Cap.SPOT})},
        [("PERM_NOT_KNOWABLE", WARNING)],
    ),
    ("unproven, and allowed", {"unproven": frozenset({Cap.ACCOUNT_READ})}, []),
    ("nothing told of permissions", {"grants": None}, [("PERM_NOT_KNOWABLE", WARNING)]),
    ("unbound", {"ip": IpRule(bound=False, listed=True)}, [("IP_UNBOUND", ERROR)]),
    ("cannot be bound", {"ip": IpRule(bound=False, offered=False)}, [("IP_NOT_OFFERED", WARNING)]),
    ("binding not told", {"ip": IpRule()}, [("IP_NOT_KNOWABLE", WARNING)]),
    ("list not shown", {"ip": IpRule(bound=True)}, [("IP_LIST_NOT_SHOWN", WARNING)]),
    (
        "bound to everything",
        {"ip": replace(BOUND, networks=(ip_network("0.0.0.0/0"),))},
        [("IP_UNBOUND", ERROR)],
    ),
    (
        "bound to everything in two halves",
        {"ip": replace(BOUND, networks=(ip_network("0.0.0.0/1"), ip_network("128.0.0.0/1")))},
        [("IP_UNBOUND", ERROR)],
    ),
    (
        "bound to all of the other protocol",
        {"ip": replace(BOUND, networks=(*BOUND.networks, ip_network("::/0")))},
        [("IP_UNBOUND", ERROR)],
    ),
    ("bound, to nothing", {"ip": replace(BOUND, networks=())}, [("IP_UNBOUND", ERROR)]),
    (
        "too wide",
        {"ip": replace(BOUND, networks=(ip_network("203.0.0.0/16"),))},
        [("IP_TOO_WIDE", WARNING)],
    ),
    (
        "too wide, of IPv6",
        {"ip": replace(BOUND, networks=(*BOUND.networks, ip_network("2001:db8::/48")))},
        [("IP_TOO_WIDE", WARNING)],
    ),
    (
        "wider than wanted",
        {"ip": replace(BOUND, networks=(ip_network("203.0.113.0/24"),))},
        [("IP_EXTRA", WARNING)],
    ),
    (
        "bound to more",
        {"ip": replace(BOUND, networks=(*BOUND.networks, ip_network("198.51.100.7")))},
        [("IP_EXTRA", WARNING)],
    ),
    (
        "bound elsewhere",
        {"ip": replace(BOUND, networks=(ip_network("198.51.100.7"),))},
        [("IP_MISSING_SERVER", ERROR), ("IP_EXTRA", WARNING)],
    ),
    (
        "another key",
        {"same_key": False},
        [("KEY_MISMATCH", CRITICAL), ("PERM_NOT_KNOWABLE", WARNING)],
    ),
    ("not known whether another key", {"same_key": None}, []),
    ("owner", {"owner": True}, [("OWNER_KEY", CRITICAL)]),
    ("frozen", {"frozen": "locked"}, [("KEY_FROZEN", ERROR)]),
    ("main account", {"master": True}, [("MASTER_KEY", WARNING)]),
    ("test key", {"environment": Environment.TEST}, [("ENV_MISMATCH", ERROR)]),
    ("expired", {"expires_at": NOW}, [("KEY_EXPIRED", ERROR)]),
    ("expires today", {"expires_at": NOW + timedelta(hours=1)}, [("EXPIRES_SOON", WARNING)]),
    ("expires in 30 days", {"expires_at": NOW + timedelta(days=30)}, [("EXPIRES_SOON", WARNING)]),
    ("expires later", {"expires_at": NOW + timedelta(days=31)}, []),
    ("expiry not told", {"never_expires": None}, [("EXPIRY_NOT_SHOWN", INFO)]),
    (
        "lapses",
        {"never_expires": None, "traits": {"lapses": "14 days without use"}},
        [("EXPIRES_SOON", WARNING)],
    ),
]


@pytest.mark.parametrize(
    ("changes", "expected"), [pytest.param(*row[1:], id=row[0]) for row in FACTS]
)
def test_each_fact_has_its_finding(
    changes: Mapping[str, Any], expected: list[tuple[str, Severity]]
) -> None:
    assert codes(verdict(said(replace(GOOD, **changes)))) == expected


WISHES: list[tuple[str, Mapping[str, Any], Mapping[str, Any], list[tuple[str, Severity]]]] = [
    ("required and there", {}, {"require": {Cap.SPOT, Cap.ACCOUNT_READ}}, []),
    ("missing", {}, {"require": {Cap.DELIVERY}}, [("PERM_MISSING", ERROR)]),
    (
        "only reads",
        {"grants": (grant("spot", Cap.SPOT, access=Access.READ),)},
        {"require": {Cap.SPOT}},
        [("KEY_READ_ONLY", ERROR)],
    ),
    (
        "only reads, what is not told",
        {"grants": None, "read_only": True},
        {"require": {Cap.SPOT}},
        [("KEY_READ_ONLY", ERROR), ("PERM_NOT_KNOWABLE", WARNING)],
    ),
    ("only reads, as it should", {"read_only": True}, {"require": {Cap.ACCOUNT_READ}}, []),
    (
        "the account, writing, is no reading of it",
        {"grants": (grant("account", Cap.ACCOUNT_READ),)},
        {"require": {Cap.ACCOUNT_READ}},
        [("PERM_FORBIDDEN", ERROR), ("PERM_MISSING", ERROR)],
    ),
    (
        "required, and found by a probe",
        {"grants": (grant("spot", Cap.SPOT, access=Access.READ, evidence=GrantEvidence.PROBED),)},
        {"require": {Cap.SPOT}},
        [("PERM_NOT_KNOWABLE", WARNING), ("PROBED", INFO)],
    ),
    (
        "reading the account required, and found by a probe",
        {
            "grants": (
                grant(
                    "account", Cap.ACCOUNT_READ, access=Access.READ, evidence=GrantEvidence.PROBED
                ),
            )
        },
        {"require": {Cap.ACCOUNT_READ}},
        [("PERM_NOT_KNOWABLE", WARNING), ("PERM_NOT_KNOWABLE", WARNING), ("PROBED", INFO)],
    ),
    (
        "required, and only concluded",
        {"grants": (grant("trade", Cap.SPOT, evidence=GrantEvidence.INFERRED),)},
        {"require": {Cap.SPOT}},
        [("PERM_NOT_KNOWABLE", WARNING), ("PROBED", INFO)],
    ),
    (
        "required, not proven",
        {"unproven": frozenset({Cap.DELIVERY})},
        {"require": {Cap.DELIVERY}},
        [("PERM_NOT_KNOWABLE", WARNING)],
    ),
    ("allowed to withdraw", {"grants": (grant("w", Cap.WITHDRAW),)}, {"allow": {Cap.WITHDRAW}}, []),
    (
        "allowed to withdraw, not to transfer",
        {"grants": (grant("Transfer", Cap.WITHDRAW, Cap.TRANSFER),)},
        {"allow": {Cap.WITHDRAW}},
        [("PERM_COARSE", INFO)],
    ),
    (
        "unknown names allowed are still named",
        {"grants": (grant("novel", Cap.OTHER),)},
        {"allow": {Cap.OTHER}},
        [("PERM_UNKNOWN_NAME", INFO)],
    ),
    (
        "unknown names allowed open neither withdrawing nor transfers",
        {"grants": (grant("NovelWithdrawal", Cap.OTHER), grant("novel-transfer", Cap.OTHER))},
        {"allow": {Cap.OTHER}},
        [("PERM_WITHDRAW", CRITICAL), ("PERM_FORBIDDEN", ERROR)],
    ),
    (
        "a unified account allowed by its own name",
        {"grants": (SPOT, grant("uta_mgt", Cap.UNIFIED))},
        {"allow": {Cap.SPOT, Cap.UNIFIED}},
        [],
    ),
    (
        "block what is not knowable",
        {"grants": None, "ip": IpRule()},
        {"on_unverifiable": OnUnverifiable.BLOCK},
        [("IP_NOT_KNOWABLE", ERROR), ("PERM_NOT_KNOWABLE", ERROR)],
    ),
    (
        "ignore what is not knowable",
        {"grants": None, "ip": IpRule()},
        {"on_unverifiable": OnUnverifiable.IGNORE},
        [("IP_NOT_KNOWABLE", INFO), ("PERM_NOT_KNOWABLE", INFO)],
    ),
    (
        "older than wanted",
        {"created_at": NOW - timedelta(days=91)},
        {"age": 90},
        [("KEY_OLD", WARNING)],
    ),
    ("not older", {"created_at": NOW - timedelta(days=90)}, {"age": 90}, []),
    ("age not told", {}, {"age": 90}, [("AGE_NOT_SHOWN", WARNING)]),
    ("a network, and narrower", {}, {"whitelist": ("203.0.113.0/24",)}, []),
    (
        "a network, and elsewhere",
        {},
        {"whitelist": ("198.51.100.0/24",)},
        [("IP_MISSING_SERVER", ERROR), ("IP_NOT_DECLARED", WARNING)],
    ),
    (
        "one of two addresses",
        {},
        {"whitelist": ("203.0.113.10", "203.0.113.11")},
        [("IP_MISSING_SERVER", ERROR)],
    ),
    (
        "a wide network that is wanted",
        {"ip": replace(BOUND, networks=(ip_network("203.0.0.0/16"),))},
        {"whitelist": ("203.0.0.0/16",)},
        [],
    ),
    (
        "two halves of what is wanted",
        {
            "ip": replace(
                BOUND, networks=(ip_network("203.0.113.0/25"), ip_network("203.0.113.128/25"))
            )
        },
        {"whitelist": ("203.0.113.0/24",)},
        [],
    ),
]


@pytest.mark.parametrize(
    ("changes", "wishes", "expected"), [pytest.param(*row[1:], id=row[0]) for row in WISHES]
)
def test_each_wish_is_judged(
    changes: Mapping[str, Any],
    wishes: Mapping[str, Any],
    expected: list[tuple[str, Severity]],
) -> None:
    wanted: dict[str, Any] = {
        key: frozenset(value) if isinstance(value, set) else value for key, value in wishes.items()
    }
    whitelist = wanted.pop("whitelist", None)
    if whitelist is not None:
        wanted["ip_whitelist"] = tuple(map(ip_network, whitelist))
    age = wanted.pop("age", None)
    if age is not None:
        wanted["max_key_age"] = timedelta(days=age)

    assert codes(verdict(said(replace(GOOD, **changes)), replace(WANTED, **wanted))) == expected


STATUSES = [
    (Status.REJECTED, [("KEY_REJECTED", CRITICAL)]),
    (Status.IP_REFUSED, [("IP_REFUSED_HERE", WARNING), ("PERM_NOT_KNOWABLE", WARNING)]),
    (
        Status.DENIED,
        [
            ("IP_NOT_KNOWABLE", WARNING),
            ("PERM_NOT_KNOWABLE", WARNING),
            ("EXPIRY_NOT_SHOWN", INFO),
            ("NOT_TOLD", INFO),
        ],
    ),
    (Status.CLOCK, [("CLOCK_SKEW", WARNING)]),
    (Status.UNREACHABLE, [("UNREACHABLE", WARNING)]),
    (Status.RATE_LIMITED, [("RATE_LIMITED", WARNING)]),
    (Status.MALFORMED, [("KEY_MALFORMED", ERROR)]),
    (Status.UNSUPPORTED, [("NOT_AUDITED", WARNING)]),
    (Status.INDETERMINATE, [("INDETERMINATE", WARNING)]),
]


@pytest.mark.parametrize(("status", "expected"), STATUSES)
def test_each_status_has_its_finding(status: Status, expected: list[tuple[str, Severity]]) -> None:
    assert codes(verdict(said(status=status))) == expected


def test_every_status_is_in_the_table() -> None:
    assert {Status.VALID, *(status for status, _ in STATUSES)} == set(Status)


@pytest.mark.parametrize("status", [*sorted(TRANSIENT), Status.UNSUPPORTED, Status.IP_REFUSED])
def test_who_blocks_what_is_not_verifiable_is_stopped_by_it(status: Status) -> None:
    strict = replace(WANTED, on_unverifiable=OnUnverifiable.BLOCK)

    assert any(finding.stops for finding in verdict(said(status=status), strict))


@pytest.mark.parametrize("status", sorted(TRANSIENT))
def test_trouble_is_said_even_where_the_unverifiable_is_ignored(status: Status) -> None:
    lax = replace(WANTED, on_unverifiable=OnUnverifiable.IGNORE)

    assert [finding.severity for finding in verdict(said(status=status), lax)] == [WARNING]


def test_a_refusal_of_the_servers_own_address_is_an_error() -> None:
    found = verdict(said(status=Status.IP_REFUSED, code="10010"), from_server=True)

    assert codes(found) == [("IP_MISSING_SERVER", ERROR), ("PERM_NOT_KNOWABLE", WARNING)]
    assert found[0].data == {"code": "10010"}


def test_an_answer_at_the_servers_address_proves_a_list_that_is_not_shown() -> None:
    facts = replace(GOOD, ip=IpRule(bound=True))

    assert codes(verdict(said(facts), from_server=True)) == [("IP_LIST_NOT_SHOWN", INFO)]


def test_it_also_proves_a_binding_that_nothing_is_compared_with() -> None:
    here = verdict(said(GOOD), NOTHING_DECLARED, server_addresses=())
    there = verdict(said(GOOD), NOTHING_DECLARED, server_addresses=(), from_server=True)

    assert codes(here) == [("IP_NOT_COMPARED", WARNING)]
    assert there == ()


@pytest.mark.parametrize(
    ("age", "counts"),
    [
        (timedelta(0), True),
        (timedelta(days=7), True),
        (timedelta(days=7, seconds=1), False),
        (timedelta(seconds=-1), False),
    ],
)
def test_facts_from_the_server_count_for_seven_days(age: timedelta, counts: bool) -> None:  # noqa: FBT001  - a column
    earlier = said(replace(GOOD, grants=(grant("w", Cap.WITHDRAW),)), at=NOW - age)

    found = verdict(said(status=Status.IP_REFUSED), earlier=earlier)

    refused = ("IP_REFUSED_HERE", WARNING)
    judged = [("PERM_WITHDRAW", CRITICAL), refused, ("FACTS_FROM_SERVER", INFO)]
    assert codes(found) == (judged if counts else [refused, ("PERM_NOT_KNOWABLE", WARNING)])


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.IP_REFUSED}))
def test_they_count_for_nothing_but_a_refusal_of_our_address(status: Status) -> None:
    earlier = said(replace(GOOD, grants=(grant("w", Cap.WITHDRAW),)))

    answered = said(GOOD if status is Status.VALID else None, status)

    assert verdict(answered, earlier=earlier) == verdict(answered)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.VALID}))
def test_only_a_valid_answer_gives_facts_from_the_server(status: Status) -> None:
    refused = said(status=Status.IP_REFUSED)

    assert verdict(refused, earlier=said(GOOD, status)) == verdict(refused)


def test_a_changed_address_of_the_server_is_found() -> None:
    moved = ip_address("203.0.113.99")

    found = verdict(said(GOOD), server_addresses=(moved,))

    assert codes(found) == [("IP_MISSING_SERVER", ERROR), ("IP_NOT_DECLARED", WARNING)]
    assert [finding.data["addresses"] for finding in found] == ["203.0.113.99"] * 2


def test_so_it_is_where_no_fact_could_be_had() -> None:
    found = verdict(said(status=Status.UNREACHABLE), server_addresses=(ip_address("192.0.2.1"),))

    assert ("IP_NOT_DECLARED", WARNING) in codes(found)


def test_an_address_of_the_other_protocol_is_not_covered() -> None:
    found = verdict(said(GOOD), server_addresses=(SERVER, ip_address("2001:db8::10")))

    assert codes(found) == [("IP_MISSING_SERVER", ERROR), ("IP_NOT_DECLARED", WARNING)]


def test_a_key_in_two_places_is_named() -> None:
    (found,) = verdict(said(GOOD), fingerprint_twins=("tokyo-2/bybit", "tokyo-1/okx"))

    assert (found.code, found.severity) == ("SAME_KEY_TWICE", WARNING)
    assert found.data == {"also": "tokyo-1/okx, tokyo-2/bybit"}


@pytest.mark.parametrize(("adapter", "code"), [("okx", "50101"), ("bitget", "40099")])
def test_some_codes_tell_the_other_environment(adapter: str, code: str) -> None:
    found = verdict(said(status=Status.REJECTED, adapter=adapter, code=code))

    assert codes(found) == [("ENV_MISMATCH", ERROR)]


def test_an_ambiguous_code_is_called_so() -> None:
    (found,) = verdict(said(status=Status.INDETERMINATE, adapter="binance", code="-2015"))

    assert "(-2015); it says so of a wrong key, address or permission alike" in found.what


@pytest.mark.parametrize(
    ("until", "stops"),
    [(None, False), (TODAY + timedelta(days=1), False), (TODAY, True)],
)
def test_an_exception_holds_until_its_day(until: date | None, stops: bool) -> None:  # noqa: FBT001  - a column
    accepted = Accepted("IP_UNBOUND", "the desk moves house", until)
    facts = replace(GOOD, ip=IpRule(bound=False, listed=True))

    (found,) = verdict(said(facts), replace(WANTED, exceptions=(accepted,)))

    assert found.stops is stops
    assert found.accepted == ("" if stops else "the desk moves house")
    assert found.what.endswith(f"; its exception ended on {TODAY}") is stops


def test_an_exception_covers_its_own_finding_only() -> None:
    accepted = Accepted("IP_UNBOUND", "known", None)
    facts = replace(GOOD, ip=IpRule(bound=False), grants=(grant("w", Cap.WITHDRAW),))

    found = verdict(said(facts), replace(WANTED, exceptions=(accepted,)))

    assert [(f.code, f.stops) for f in found] == [("PERM_WITHDRAW", True), ("IP_UNBOUND", False)]


def test_what_was_accepted_for_one_permission_is_not_for_another() -> None:
    accepted = Accepted("PERM_FORBIDDEN", "a portfolio", None, "portfolio")
    facts = replace(
        GOOD,
        grants=(SPOT, grant("portfolio", Cap.UNIFIED), grant("wallet", Cap.TRANSFER)),
    )

    found = verdict(said(facts), replace(WANTED, exceptions=(accepted,)))

    assert [(f.data["permission"], f.stops) for f in found] == [
        ("portfolio", False),
        ("wallet", True),
    ]


def test_for_all_permissions_none_is_accepted() -> None:
    accepted = Accepted("PERM_FORBIDDEN", "whatever it is", None)
    facts = replace(GOOD, grants=(SPOT, grant("wallet", Cap.TRANSFER)))

    (found,) = verdict(said(facts), replace(WANTED, exceptions=(accepted,)))

    assert found.stops


def test_findings_about_one_permission_are_those_that_name_it() -> None:
    several = (
        grant("everything", Cap.SPOT, Cap.TRANSFER),
        *(grant(cap, cap) for cap in Cap),
        *(grant(f"{cap} read", cap, access=Access.READ) for cap in Cap),
    )
    found = verdict(said(replace(GOOD, grants=several)))

    assert {f.code for f in found if "permission" in f.data} == ABOUT_PERMISSIONS
    assert not {f.code for f in found if "permission" not in f.data} & ABOUT_PERMISSIONS


def test_a_kept_answer_expires_with_the_days() -> None:
    facts = replace(GOOD, expires_at=NOW + timedelta(days=2))

    found = verdict(said(facts), today=TODAY + timedelta(days=3))

    assert codes(found) == [("KEY_EXPIRED", ERROR)]


in_any_time = settings(deadline=None)  # they judge the judge, not this machine
caps = st.sampled_from(Cap)
grants = st.builds(
    Grant,
    raw=st.sampled_from(["alpha", "beta", "gamma"]),
    caps=st.frozensets(caps, max_size=3),
    access=st.sampled_from(Access),
    separable=st.booleans(),
    evidence=st.sampled_from(GrantEvidence),
)
networks = st.sampled_from(
    [
        ip_network(text)
        for text in ("203.0.113.10", "203.0.113.0/24", "198.51.100.7", "203.0.0.0/16", "0.0.0.0/0")
    ]
)
maybe = st.none() | st.booleans()
instants = st.none() | st.datetimes(timezones=st.just(UTC))


# Hypothesis reads the hints of a class, and theirs name what checkers alone import.
def ip_rule(**fields: Any) -> IpRule:
    return IpRule(**fields)


def security(**fields: Any) -> Security:
    return Security(**fields)


facts_of_keys = st.builds(
    KeyFacts,
    grants=st.none() | st.lists(grants, max_size=3).map(tuple),
    ip=st.builds(
        ip_rule,
        bound=maybe,
        networks=st.lists(networks, max_size=2).map(tuple),
        listed=st.booleans(),
    ),
    unproven=st.frozensets(caps, max_size=2),
    read_only=maybe,
    created_at=instants,
    expires_at=instants,
    never_expires=maybe,
    environment=st.none() | st.sampled_from(Environment),
    master=maybe,
    owner=maybe,
    same_key=maybe,
    frozen=st.sampled_from(["", "locked"]),
)
securities = st.builds(
    security,
    ip_whitelist=st.lists(networks, max_size=2).map(tuple),
    allow=st.frozensets(caps),
    require=st.frozensets(caps, max_size=2),
    max_key_age=st.none() | st.just(timedelta(days=90)),
    on_unverifiable=st.sampled_from(OnUnverifiable),
)
answers = st.builds(
    Answered,
    status=st.sampled_from(Status),
    at=st.just(NOW),
    facts=st.none() | facts_of_keys,
    code=st.sampled_from(["", "10010"]),
    adapter=st.sampled_from(["bybit", "okx"]),
)


def unknown(facts: KeyFacts, security: Security) -> set[str]:
    """Return the codes that must be said of these facts because something is not known."""
    if facts.same_key is False:
        return {"KEY_MISMATCH", "PERM_NOT_KNOWABLE"}
    rows = {
        "PERM_NOT_KNOWABLE": facts.grants is None or facts.unproven - security.allow,
        "IP_NOT_KNOWABLE": facts.ip.bound is None,
        "IP_LIST_NOT_SHOWN": facts.ip.bound and not facts.ip.listed,
        "EXPIRY_NOT_SHOWN": facts.expires_at is None and not facts.never_expires,
        "AGE_NOT_SHOWN": security.max_key_age is not None and facts.created_at is None,
    }
    return {code for code, holds in rows.items() if holds}


@in_any_time
@given(answered=answers, security=securities, from_server=st.booleans())
def test_what_is_not_known_is_never_passed_over(
    answered: Answered,
    security: Security,
    from_server: bool,  # noqa: FBT001  - drawn
) -> None:
    found = verdict(answered, security, from_server=from_server)
    said_codes = {finding.code for finding in found}

    if answered.status is Status.VALID:
        assert unknown(answered.facts or KeyFacts(), security) <= said_codes
    else:
        assert said_codes
    # Whoever wants to be stopped by what is not known is stopped by all of it.
    if security.on_unverifiable is OnUnverifiable.BLOCK:
        names = {"PERM_NOT_KNOWABLE", "IP_NOT_KNOWABLE", "AGE_NOT_SHOWN", "IP_NOT_COMPARED"}
        assert all(finding.stops for finding in found if finding.code in names)


@in_any_time
@given(answered=answers, security=securities)
def test_only_the_exchange_calls_a_key_wrong(answered: Answered, security: Security) -> None:
    found = {finding.code for finding in verdict(answered, security)}

    assert ("KEY_REJECTED" in found) <= (answered.status is Status.REJECTED)


@in_any_time
@given(facts=facts_of_keys, security=securities, from_server=st.booleans())
def test_every_capability_is_allowed_or_named(
    facts: KeyFacts,
    security: Security,
    from_server: bool,  # noqa: FBT001  - drawn
) -> None:
    known = replace(facts, same_key=True)
    found = verdict(said(known), security, from_server=from_server)
    named = {
        (finding.data.get("permission"), cap)
        for finding in found
        for cap in finding.data.get("caps", "").split(", ")
    }

    for one in known.grants or ():
        if one.caps - security.allow:
            assert any((one.raw, cap) in named for cap in one.caps)
        if Cap.OTHER in one.caps or not one.caps:
            mine = [f for f in found if f.data.get("permission") == one.raw]
            assert mine
            if Cap.OTHER not in security.allow and one.access is Access.WRITE:
                assert any(finding.stops for finding in mine)
        if Cap.WITHDRAW in one.caps - security.allow and one.access is Access.WRITE:
            assert "PERM_WITHDRAW" in {finding.code for finding in found}


@in_any_time
@given(answered=answers, security=securities)
def test_the_worst_comes_first_and_everything_has_words(
    answered: Answered, security: Security
) -> None:
    found = verdict(answered, security)

    assert [f.severity for f in found] == sorted((f.severity for f in found), reverse=True)
    assert all(finding.what and finding.code.isupper() for finding in found)
    assert all(finding.remedy for finding in found if finding.severity >= WARNING)


@in_any_time
@given(facts=facts_of_keys, security=securities, raw=st.sampled_from(["novel", "newer"]))
def test_an_unknown_name_is_never_silently_allowed(
    facts: KeyFacts, security: Security, raw: str
) -> None:
    more = replace(facts, same_key=True, grants=(*(facts.grants or ()), grant(raw, Cap.OTHER)))

    mine = [f for f in verdict(said(more), security) if f.data.get("permission") == raw]

    assert mine
    assert all(finding.stops for finding in mine) or Cap.OTHER in security.allow
