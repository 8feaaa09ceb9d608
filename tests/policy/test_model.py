"""What rules say of asks: one row for each kind of rule, allowed, denied and at its limit."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.errors import Blocked
from reconciler.model.desired import (
    DesiredExchange,
    DesiredServer,
    DesiredState,
    Mode,
    OnCredentialChange,
    OneShot,
    Presence,
    RequestKind,
    Suspension,
    Window,
    WindowKind,
)
from reconciler.model.key_policy import NOTHING_DECLARED
from reconciler.model.policy import PolicyAction
from reconciler.model.references import SecretRef
from reconciler.model.source import NOWHERE
from reconciler.model.values import replace
from reconciler.policy.model import ANYTHING, EVERYTHING, Policy, Rule

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
URL = "https://tokyo-1.asia.internal:8443"
A = PolicyAction


def ref(path: str) -> SecretRef:
    found = SecretRef.parse(f"vault:{path}")
    assert found is not None
    return found


def server(**changes: Any) -> DesiredServer:
    """A server of the desk in Asia, with one exchange."""
    bybit = DesiredExchange("bybit", NOWHERE, secret=ref("secret/jt/tokyo-1/bybit"))
    usual = DesiredServer(
        "tokyo-1",
        URL,
        NOWHERE,
        place="desk-asia/tokyo-1.yaml",
        access_secret=ref("secret/jt/tokyo-1#access_secret"),
        exchanges=(bybit,),
    )
    return replace(usual, **changes)


def exchange(code: str = "bybit", **changes: Any) -> tuple[DesiredExchange, ...]:
    usual = DesiredExchange(code, NOWHERE, secret=ref("secret/jt/tokyo-1/bybit"))
    return (replace(usual, **changes),)


def wish(kind: RequestKind) -> OneShot:
    return OneShot(kind, NOW, "because", NOWHERE)


def rule(**changes: Any) -> Rule:
    """A rule that allows this server everything."""
    usual = Rule(1, "asia", urls=(URL,), secrets=("secret/jt/**",))
    return replace(usual, **changes)


def deny(**changes: Any) -> Rule:
    return replace(Rule(1, "no", allows=False), **changes)


def policy(*rules: Rule) -> Policy:
    return Policy(
        tuple(replace(one, number=number) for number, one in enumerate(rules, 1)), source="a"
    )


WINDOW = Window(WindowKind.ALLOW, "0 9 * * *", timedelta(hours=1), "UTC", NOWHERE)
AUDITED = replace(NOTHING_DECLARED, declared=True)
ABSENT = exchange(secret=None, presence=Presence.ABSENT)
REBOOT = wish(RequestKind.REBOOT)
CACHE = wish(RequestKind.CACHE)
SUSPENDED = Suspension("maintenance", "ops", None)
ELSEWHERE = "https://evil.example"

# What denies something of what the document asks for: (rules, document, what is denied).
ROWS: list[tuple[str, tuple[Rule, ...], dict[str, Any], set[str]]] = [
    # addresses
    ("an address that a rule names", (rule(),), {}, set()),
    ("another address", (rule(),), {"url": ELSEWHERE}, {"contact", "login", "write"}),
    ("a pattern of addresses", (rule(urls=("https://*.asia.internal:8443",)),), {}, set()),
    (
        "a pattern does not cross a slash",
        (rule(urls=("https://*.internal:8443",)),),
        {"url": "https://evil.example/.internal:8443"},
        {"contact", "login", "write"},
    ),
    (
        "another port",
        (rule(),),
        {"url": URL.replace("8443", "8444")},
        {"contact", "login", "write"},
    ),
    (
        "another scheme",
        (rule(),),
        {"url": URL.replace("https", "http")},
        {"contact", "login", "write"},
    ),
    ("upper case is the same address", (rule(),), {"url": URL.replace("tokyo", "TOKYO")}, set()),
    ("one character", (rule(urls=("https://tokyo-?.asia.internal:8443",)),), {}, set()),
    (
        "one character is not two",
        (rule(urls=("https://tokyo-?.asia.internal:8443",)),),
        {"url": URL.replace("tokyo-1", "tokyo-11")},
        {"contact", "login", "write"},
    ),
    ("the second of several", (rule(urls=(ELSEWHERE, URL)),), {}, set()),
    ("{server} is the name", (rule(urls=("https://{server}.asia.internal:8443",)),), {}, set()),
    (
        "{server} is no other name",
        (rule(urls=("https://{server}.asia.internal:8443",)),),
        {"name": "osaka-1"},
        {"contact", "login", "write"},
    ),
    # files
    ("a directory", (rule(files=("desk-asia/**",)),), {}, set()),
    (
        "another directory",
        (rule(files=("desk-asia/**",)),),
        {"place": "desk-europe/tokyo-1.yaml"},
        {"contact", "login", "write"},
    ),
    (
        "the directory's name further down",
        (rule(files=("desk-asia/**",)),),
        {"place": "evil/desk-asia/tokyo-1.yaml"},
        {"contact", "login", "write"},
    ),
    (
        "a directory that begins alike",
        (rule(files=("desk-asia/**",)),),
        {"place": "desk-asia-evil/tokyo-1.yaml"},
        {"contact", "login", "write"},
    ),
    ("one level", (rule(files=("desk-asia/*",)),), {}, set()),
    (
        "not two levels",
        (rule(files=("desk-asia/*",)),),
        {"place": "desk-asia/x/tokyo-1.yaml"},
        {"contact", "login", "write"},
    ),
    ("the file of its name", (rule(files=("*/{server}.yaml",)),), {}, set()),
    (
        "the file of another name",
        (rule(files=("*/{server}.yaml",)),),
        {"place": "desk-asia/osaka-1.yaml"},
        {"contact", "login", "write"},
    ),
    # names
    ("a name", (rule(names=("tokyo-*",)),), {}, set()),
    ("another name", (rule(names=("osaka-*",)),), {}, {"contact", "login", "write"}),
    (
        "a label counts for nothing",
        (rule(names=("osaka-*",)),),
        {"labels": {"name": "osaka-1"}},
        {"contact", "login", "write"},
    ),
    # secrets
    ("a secret below", (rule(secrets=("secret/jt/tokyo-1/**", "secret/jt/tokyo-1")),), {}, set()),
    ("another team's secret", (rule(secrets=("secret/jt/osaka/**",)),), {}, {"login", "write"}),
    ("the login alone", (rule(secrets=("secret/jt/tokyo-1",)),), {}, {"write"}),
    ("the credentials alone", (rule(secrets=("secret/jt/tokyo-1/*",)),), {}, {"login"}),
    (
        "a path that begins alike",
        (rule(secrets=("secret/jt/tokyo-1/**", "secret/jt/tokyo-1")),),
        {"access_secret": ref("secret/jt/tokyo-10#access_secret")},
        {"login"},
    ),
    (
        "another mount",
        (rule(secrets=("secret/jt/**",)),),
        {"exchanges": exchange(secret=ref("other/jt/tokyo-1/bybit"))},
        {"write"},
    ),
    (
        "a mount of two segments is not a path",
        (rule(secrets=("secret/jt/**",)),),
        {"exchanges": exchange(secret=ref("secret/jt//tokyo-1/bybit"))},
        {"write"},
    ),
    (
        "{server} in a secret",
        (rule(secrets=("secret/jt/{server}/*", "secret/jt/{server}")),),
        {},
        set(),
    ),
    (
        "{server} in a secret is no other name",
        (rule(secrets=("secret/jt/{server}/*", "secret/jt/{server}")),),
        {"name": "osaka-1"},
        {"login", "write"},
    ),
    ("no secrets at all", (rule(secrets=None),), {}, {"login", "write"}),
    (
        "one field of several from elsewhere",
        (rule(secrets=("secret/jt/tokyo-1", "secret/jt/tokyo-1/bybit")),),
        {
            "exchanges": exchange(
                secret=None,
                fields={
                    "apiKey": ref("secret/jt/tokyo-1/bybit#a@1"),
                    "secret": ref("secret/jt/osaka-1/bybit#b@1"),
                },
            )
        },
        {"write"},
    ),
    (
        "a token of another team",
        (rule(secrets=("secret/jt/tokyo-1/**", "secret/jt/tokyo-1")),),
        {"access_token": ref("secret/jt/osaka-1#token")},
        {"login"},
    ),
    # exchanges
    ("an exchange", (rule(exchanges=("bybit",)),), {}, set()),
    ("another exchange", (rule(exchanges=("okx",)),), {}, {"write"}),
    ("a pattern of exchanges", (rule(exchanges=("by*",)),), {}, set()),
    # actions
    ("write", (rule(actions=frozenset({A.WRITE})),), {}, set()),
    ("no write", (rule(actions=EVERYTHING - {A.WRITE}),), {}, {"write"}),
    ("delete", (rule(actions=frozenset({A.DELETE})),), {"exchanges": ABSENT}, set()),
    ("no delete", (rule(actions=EVERYTHING - {A.DELETE}),), {"exchanges": ABSENT}, {"delete"}),
    ("take-over", (rule(),), {"exchanges": exchange(take_over=True)}, set()),
    (
        "no take-over",
        (rule(actions=frozenset({A.WRITE})),),
        {"exchanges": exchange(take_over=True)},
        {"take-over"},
    ),
    ("restart", (rule(),), {"on_credential_change": OnCredentialChange.RESTART}, set()),
    (
        "no restart",
        (rule(actions=frozenset({A.WRITE})),),
        {"on_credential_change": OnCredentialChange.RESTART},
        {"restart"},
    ),
    ("reboot", (rule(),), {"reboot": REBOOT}, set()),
    ("no reboot", (rule(actions=EVERYTHING - {A.REBOOT}),), {"reboot": REBOOT}, {"reboot"}),
    ("invalidate", (rule(),), {"cache": CACHE}, set()),
    (
        "no invalidation",
        (rule(actions=EVERYTHING - {A.INVALIDATE}),),
        {"cache": CACHE, "reboot": REBOOT},
        {"invalidate"},
    ),
    ("self-heal", (rule(),), {"self_heal": True}, set()),
    (
        "no self-heal",
        (rule(actions=EVERYTHING - {A.SELF_HEAL}),),
        {"self_heal": True},
        {"self-heal"},
    ),
    ("suspend", (rule(),), {"suspend": SUSPENDED}, set()),
    ("no suspend", (rule(actions=EVERYTHING - {A.SUSPEND}),), {"suspend": SUSPENDED}, {"suspend"}),
    (
        "only to observe is to suspend",
        (rule(actions=EVERYTHING - {A.SUSPEND}),),
        {"mode": Mode.OBSERVE},
        {"suspend"},
    ),
    # denying, and the order of rules
    ("a server denied as a whole", (deny(urls=(URL,)), rule()), {}, {"contact", "login", "write"}),
    ("another one denied", (deny(urls=(ELSEWHERE,)), rule()), {}, set()),
    ("denied after it was allowed", (rule(), deny(urls=(URL,))), {}, set()),
    (
        "an action denied",
        (deny(actions=frozenset({A.REBOOT})), rule()),
        {"reboot": REBOOT, "cache": CACHE},
        {"reboot"},
    ),
    ("a secret denied", (deny(secrets=("secret/jt/tokyo-1/bybit",)), rule()), {}, {"write"}),
    ("a login denied", (deny(secrets=("secret/jt/tokyo-1",)), rule()), {}, {"login"}),
    ("an exchange denied", (deny(exchanges=("bybit",)), rule()), {"reboot": REBOOT}, {"write"}),
    (
        "a deny of one action of one exchange",
        (deny(actions=frozenset({A.DELETE}), exchanges=("bybit",)), rule()),
        {"exchanges": ABSENT, "reboot": REBOOT},
        {"delete"},
    ),
    (
        "two rules together",
        (
            rule(actions=frozenset({A.WRITE})),
            rule(name="b", secrets=None, actions=frozenset({A.REBOOT})),
        ),
        {"reboot": REBOOT},
        set(),
    ),
    (
        "a rule without secrets gives none",
        (rule(name="b", secrets=None, actions=frozenset({A.REBOOT})),),
        {"reboot": REBOOT},
        {"login", "write"},
    ),
    # requirements
    (
        "windows that are there",
        (rule(windows=True),),
        {"reboot": REBOOT, "windows": (WINDOW,)},
        set(),
    ),
    ("windows that are not", (rule(windows=True),), {"reboot": REBOOT}, {"reboot"}),
    (
        "windows for restarts",
        (rule(windows=True),),
        {"on_credential_change": OnCredentialChange.RESTART},
        {"restart"},
    ),
    ("no windows for a write", (rule(windows=True),), {}, set()),
    (
        "an audit that is declared",
        (rule(audit=True),),
        {"exchanges": exchange(security=AUDITED)},
        set(),
    ),
    ("an audit that is not declared", (rule(audit=True),), {}, {"write"}),
    ("no audit for a delete", (rule(audit=True),), {"exchanges": ABSENT}, set()),
]


def denied(rules: Policy, desired: DesiredServer) -> set[str]:
    """What the policy denies, by what a case calls it."""
    names = {(None, True): "login", (None, False): "contact"}
    return {
        str(one.ask.action or names[None, one.ask.path is not None])
        for one in rules.decisions(desired)
        if not one.allowed
    }


def test_the_table_has_its_rows() -> None:
    assert len(ROWS) >= 60
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("rules", "changes", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_what_is_denied(
    rules: tuple[Rule, ...], changes: dict[str, Any], expected: set[str]
) -> None:
    desired = server(**changes)

    assert denied(policy(*rules), desired) == expected
    violations = policy(*rules).violations(desired)
    assert len(violations) >= len(expected)
    assert all(one.what.startswith("policy: ") and one.remedy for one in violations)


def test_a_violation_names_the_rule_by_number_and_name() -> None:
    rules = policy(
        rule(urls=(ELSEWHERE,)), deny(name="no-reboots", actions=frozenset({A.REBOOT})), rule()
    )

    (one,) = rules.violations(server(reboot=REBOOT))

    assert one.rule == "2 no-reboots"
    assert "rule 2 (no-reboots) denies it" in one.what
    assert "jtr policy explain tokyo-1" in one.remedy


def test_nothing_is_allowed_where_no_rule_matches() -> None:
    (contact, *_) = policy(rule(urls=(ELSEWHERE,))).violations(server())

    assert contact.rule == ""
    assert "no rule allows it" in contact.what


class TestCheck:
    """What raises directly before a send."""

    def test_an_action_that_is_denied(self) -> None:
        rules = policy(deny(actions=frozenset({A.REBOOT})), rule())
        rules.check(server(reboot=REBOOT))
        rules.check(server(reboot=REBOOT), A.WRITE, "bybit")
        with pytest.raises(Blocked, match="may not ask for reboot"):
            rules.check(server(reboot=REBOOT), A.REBOOT)

    def test_a_login_that_is_denied_stops_everything(self) -> None:
        rules = policy(deny(secrets=("secret/jt/tokyo-1",)), rule())
        with pytest.raises(Blocked, match="as its login"):
            rules.check(server(reboot=REBOOT), A.REBOOT)

    def test_without_a_policy_nothing_is_denied(self) -> None:
        ANYTHING.check(server(reboot=REBOOT, url=ELSEWHERE), A.REBOOT)
        assert not ANYTHING.speaks


class TestFits:
    """A policy that is about none of the servers is the wrong one."""

    def test_it_is_about_one_of_two(self) -> None:
        state = DesiredState((server(), server(name="osaka-1", url=ELSEWHERE)))
        policy(rule()).check_fits(state)

    def test_a_server_that_was_not_chosen_counts(self) -> None:
        state = DesiredState((server(url=ELSEWHERE),), others=(server(),))
        policy(rule()).check_fits(state)

    def test_it_is_about_none(self) -> None:
        with pytest.raises(Blocked, match="about any of 1 server") as refused:
            policy(rule()).check_fits(DesiredState((server(url=ELSEWHERE),)))
        assert refused.value.exit_code == 4

    def test_a_rule_that_denies_is_not_about_it(self) -> None:
        with pytest.raises(Blocked):
            policy(deny(urls=(URL,))).check_fits(DesiredState((server(),)))

    def test_no_servers_at_all(self) -> None:
        policy(rule()).check_fits(DesiredState(()))
