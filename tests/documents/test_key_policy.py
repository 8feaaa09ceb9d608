"""The effective `security` of each exchange: its own words, its server's, then the defaults."""

from datetime import date, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from reconciler.documents.load import load
from reconciler.documents.schema import CONFIG, document
from reconciler.errors import InvalidConfig
from reconciler.model.key_facts import Cap
from reconciler.model.key_policy import NOTHING_DECLARED, Accepted, OnUnverifiable, Security

HEAD = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {name: tokyo-1, labels: {region: tokyo}}
spec:
  url: https://tokyo-1.internal:8443
"""
DEFAULTS = """\
apiVersion: jtr/v1
kind: Defaults
selector: {region: tokyo}
spec:
  security:
    ipWhitelist: [203.0.113.10/32]
    permissions: {require: [spot]}
    maxKeyAge: 90d
---
"""


def loaded(tmp_path: Path, text: str) -> dict[str, Security]:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    (server,) = load([str(file)]).state.servers
    return {exchange.code: exchange.security for exchange in server.exchanges}


def refused(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as raised:
        loaded(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in raised.value.problems]


def exchanges(**security: str) -> str:
    """The exchanges of a document, each with its own `security` as YAML, or none."""
    lines = ["  exchanges:"]
    for code, own in security.items():
        extra = f", security: {own}" if own else ""
        lines.append(f'    {code}: {{credentials: "vault:secret/jt/{code}"{extra}}}')
    return "\n".join(lines) + "\n"


def test_where_nothing_is_said_the_defaults_hold(tmp_path: Path) -> None:
    assert loaded(tmp_path, HEAD + exchanges(bybit="")) == {"bybit": NOTHING_DECLARED}
    assert not NOTHING_DECLARED.declared


def test_an_exchange_overrides_its_server_key_by_key(tmp_path: Path) -> None:
    server = """\
  security:
    ipWhitelist: [203.0.113.10, 2001:db8::/64]
    permissions: {allow: [spot, margin, account_read], require: [spot]}
    maxKeyAge: 90d
    onUnverifiable: block
    exceptions:
      - {finding: IP_UNBOUND, reason: the exchange has no list, until: "2026-12-31T18:30:00+09:00"}
      - finding: PERM_FORBIDDEN
        permission: uta_mgt
        reason: its account is unified
        until: "2026-12-31T00:00:00Z"
"""
    own = "{permissions: {allow: [spot]}, warnBeforeExpiry: 14d, exceptions: []}"
    found = loaded(tmp_path, HEAD + server + exchanges(bybit="", okx=own))

    assert found["bybit"] == Security(
        ip_whitelist=(ip_network("203.0.113.10/32"), ip_network("2001:db8::/64")),
        allow=frozenset({Cap.SPOT, Cap.MARGIN, Cap.ACCOUNT_READ}),
        require=frozenset({Cap.SPOT}),
        max_key_age=timedelta(days=90),
        on_unverifiable=OnUnverifiable.BLOCK,
        exceptions=(
            Accepted("IP_UNBOUND", "the exchange has no list", date(2026, 12, 31)),
            Accepted("PERM_FORBIDDEN", "its account is unified", date(2026, 12, 31), "uta_mgt"),
        ),
        declared=True,
    )
    assert found["okx"].allow == {Cap.SPOT}
    assert found["okx"].require == {Cap.SPOT}  # the lists are keys of their own
    assert found["okx"].exceptions == ()
    assert found["okx"].warn_before_expiry == timedelta(days=14)
    assert found["okx"].on_unverifiable is OnUnverifiable.BLOCK
    assert found["okx"].ip_whitelist == found["bybit"].ip_whitelist


def test_defaults_documents_merge_before_an_exchange_overrides(tmp_path: Path) -> None:
    own = "{maxKeyAge: 30d}"
    found = loaded(tmp_path, DEFAULTS + HEAD + exchanges(bybit=own, okx=""))

    assert found["okx"].max_key_age == timedelta(days=90)
    assert found["bybit"].max_key_age == timedelta(days=30)
    assert found["bybit"].ip_whitelist == (ip_network("203.0.113.10/32"),)
    assert found["bybit"].require == {Cap.SPOT}


def test_only_the_exchange_that_says_something_is_declared(tmp_path: Path) -> None:
    found = loaded(tmp_path, HEAD + exchanges(bybit="{maxKeyAge: 30d}", okx=""))

    assert (found["bybit"].declared, found["okx"].declared) == (True, False)


@pytest.mark.parametrize(
    ("server", "own", "place"),
    [
        ("", "{permissions: {require: [margin]}}", "a.yaml:7:"),  # against the built-in default
        (
            "  security: {permissions: {allow: [spot]}}\n",
            "{permissions: {require: [perpetual]}}",
            "a.yaml:8:",
        ),
        (
            "  security: {permissions: {require: [perpetual]}}\n",
            "{permissions: {allow: [spot]}}",
            "a.yaml:6:",
        ),
        ("  security: {permissions: {require: [margin]}}\n", "", "a.yaml:6:"),
    ],
    ids=["default", "exchange requires", "exchange narrows", "server alone"],
)
def test_what_is_required_must_be_allowed_after_overriding(
    tmp_path: Path, server: str, own: str, place: str
) -> None:
    (problem,) = refused(tmp_path, HEAD + server + exchanges(bybit=own))

    assert problem.startswith(place)
    assert problem.endswith("a required permission is not allowed; add it to allow as well")


def test_an_unknown_permission_and_a_bad_network_are_named_where_they_stand(tmp_path: Path) -> None:
    own = "{ipWhitelist: [203.0.113.10/24], permissions: {allow: [spott]}}"
    (permission,) = refused(tmp_path, HEAD + exchanges(bybit=own))
    (network,) = refused(tmp_path, HEAD + exchanges(bybit=own.replace("spott", "spot")))

    assert permission.startswith("a.yaml:7:")
    assert "bits beyond its prefix" in network


def test_an_exception_whose_day_has_come_is_no_mistake_of_the_document(tmp_path: Path) -> None:
    own = '{exceptions: [{finding: KEY_OLD, reason: agreed, until: "2020-01-01T00:00:00Z"}]}'
    found = loaded(tmp_path, HEAD + exchanges(bybit=own))

    assert found["bybit"].exceptions == (Accepted("KEY_OLD", "agreed", date(2020, 1, 1)),)


def test_an_exception_needs_a_reason_and_a_day(tmp_path: Path) -> None:
    own = "{exceptions: [{finding: KEY_OLD}]}"

    assert len(refused(tmp_path, HEAD + exchanges(bybit=own))) == 2


def test_the_schema_knows_exactly_our_capabilities_and_defaults() -> None:
    definitions = document(CONFIG)["$defs"]
    security = definitions["security"]["properties"]

    # What an exchange calls by a name that nobody knows cannot be allowed beforehand.
    assert set(definitions["permission"]["enum"]) == set(map(str, Cap)) - {Cap.OTHER}
    assert security["onUnverifiable"]["enum"] == [str(one) for one in OnUnverifiable]
    assert security["onUnverifiable"]["default"] == NOTHING_DECLARED.on_unverifiable
    assert security["warnBeforeExpiry"]["default"] == "30d"
    assert NOTHING_DECLARED.warn_before_expiry == timedelta(days=30)
