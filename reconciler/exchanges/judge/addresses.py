"""
What is to be said of the addresses that a key is bound to.  Pure.

Three things are compared: what the exchange reports, what the documents want, and the addresses
from which the server itself says that it leaves.
"""

from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_network,
)
from typing import Final

from reconciler.exchanges.judge.findings import say
from reconciler.model.key_facts import IpRule
from reconciler.model.key_policy import KeyFinding, Security, Severity

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NARROW: Final = {4: 24, 6: 64}
"""Shorter prefixes are too wide: many others share such a network."""


def judged_addresses(
    rule: IpRule,
    security: Security,
    server_addresses: tuple[Address, ...],
    *,
    from_server: bool,
) -> Iterator[KeyFinding]:
    """
    Yield what is wrong with a binding, or not knowable.

    *from_server* says that the exchange answered a call from the server's own address: a bound key
    that was answered there is bound to it, too.
    """
    if rule.bound is None:
        yield say(
            "IP_NOT_KNOWABLE",
            "whether it is bound to addresses is not knowable",
            severity=security.unverified,
        )
    elif not rule.offered:
        yield say(
            "IP_NOT_OFFERED",
            "keys of this exchange cannot be bound to addresses: whoever gets it can use it",
        )
    elif not rule.bound:
        yield say("IP_UNBOUND", "it is not bound to any address")
    elif rule.listed:
        yield from _listed(_collapsed(rule.networks), security, server_addresses, from_server)
    else:
        what = "it is bound, the exchange does not show to what"
        if from_server:
            what += ": to the server's address, too, it answered there"
            yield say("IP_LIST_NOT_SHOWN", what, severity=Severity.INFO, remedy="")
        else:
            yield say("IP_LIST_NOT_SHOWN", what, severity=security.unverified)


def undeclared(security: Security, server_addresses: tuple[Address, ...]) -> Iterator[KeyFinding]:
    """Say which addresses the server leaves from that the documents do not name."""
    declared = _collapsed(security.ip_whitelist)
    if not declared:
        return
    foreign = [one for one in map(ip_network, server_addresses) if not _covers(declared, one)]
    if foreign:
        names = _names(foreign)
        what = f"the server leaves from {names}, which ipWhitelist does not name"
        yield say("IP_NOT_DECLARED", what, {"addresses": names})


def _listed(
    bound_to: tuple[Network, ...],
    security: Security,
    server_addresses: tuple[Address, ...],
    from_server: bool,  # noqa: FBT001  - handed on
) -> Iterator[KeyFinding]:
    if not bound_to or any(network.prefixlen == 0 for network in bound_to):
        yield say("IP_UNBOUND", "it is bound to every address")
        return
    declared = _collapsed(security.ip_whitelist)
    own = [ip_network(address) for address in server_addresses]
    wide = [one for one in bound_to if _wide(one) and not _covers(declared, one)]
    if wide:
        names = _names(wide)
        yield say(
            "IP_TOO_WIDE", f"it is bound to {names}, which others share", {"addresses": names}
        )
    missing = [
        # A network is wanted as a place to be in: narrower is fine.
        *(one for one in security.ip_whitelist if not _present(bound_to, one)),
        *(one for one in own if not _covers(bound_to, one)),
    ]
    if missing:
        names = _names(missing)
        what = f"it is not bound to {names}: the server's calls will be refused"
        yield say("IP_MISSING_SERVER", what, {"addresses": names})
    expected = _collapsed((*declared, *own))
    extra = [one for one in bound_to if one not in wide and not _covers(expected, one)]
    if declared and extra:
        names = _names(extra)
        yield say("IP_EXTRA", f"it is also bound to {names}", {"addresses": names})
    if not declared and not own and not from_server:
        yield say(
            "IP_NOT_COMPARED",
            f"it is bound to {_names(bound_to)}; whether the server is among them is not knowable",
            severity=security.unverified,
        )


def _collapsed(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Return the same addresses in the fewest networks: two halves of everything are everything."""
    every = tuple(networks)
    return (
        *collapse_addresses(one for one in every if isinstance(one, IPv4Network)),
        *collapse_addresses(one for one in every if isinstance(one, IPv6Network)),
    )


def _covers(networks: Iterable[Network], inner: Network) -> bool:
    return any(_within(inner, outer) for outer in networks)


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _present(bound_to: Iterable[Network], wanted: Network) -> bool:
    return any(one.overlaps(wanted) for one in bound_to if one.version == wanted.version)


def _wide(network: Network) -> bool:
    return network.prefixlen < _NARROW[network.version]


def _names(networks: Iterable[Network]) -> str:
    """Name each once; a single address without its prefix."""
    texts = (
        str(one.network_address) if one.prefixlen == one.max_prefixlen else str(one)
        for one in networks
    )
    return ", ".join(dict.fromkeys(texts))
