"""
From the documents to the effective `security` of one exchange.  Pure.

What an exchange says wins over its server, key by key (the two lists of `permissions` are keys of
their own); the schema's defaults fill the rest.  An exception whose day has come is not a mistake
of the document: one that was valid yesterday must not stop a controller at midnight.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reconciler.documents.formats import duration, instant
from reconciler.documents.tree import List, Node, at, text
from reconciler.model.key_facts import Cap
from reconciler.model.key_policy import (
    DEFAULT_ALLOW,
    DEFAULT_WARNING,
    NOTHING_DECLARED,
    Accepted,
    OnUnverifiable,
    Security,
)
from reconciler.model.source import Problem

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_ALLOW: Final = ("permissions", "allow")
_REQUIRE: Final = ("permissions", "require")


def effective(server: Node | None, exchange: Node | None) -> Security:
    """
    Return what holds for an exchange, from its own `security` and its server's.

    Both fit the schema and the checks; either may be absent.
    """
    if server is None and exchange is None:
        return NOTHING_DECLARED

    def caps(keys: tuple[str, str], default: frozenset[Cap]) -> frozenset[Cap]:
        written = _written(server, exchange, *keys)
        if not isinstance(written, List):
            return default
        return frozenset(Cap(text(item)) for item in written.items)

    def length(key: str) -> timedelta | None:
        seconds = duration(text(_written(server, exchange, key)))
        return None if seconds is None else timedelta(seconds=seconds)

    on_unverifiable = text(_written(server, exchange, "onUnverifiable"))
    return Security(
        ip_whitelist=tuple(_networks(_written(server, exchange, "ipWhitelist"))),
        allow=caps(_ALLOW, DEFAULT_ALLOW),
        require=caps(_REQUIRE, frozenset()),
        max_key_age=length("maxKeyAge"),
        warn_before_expiry=length("warnBeforeExpiry") or DEFAULT_WARNING,
        on_unverifiable=OnUnverifiable(on_unverifiable or OnUnverifiable.WARN),
        exceptions=tuple(_exceptions(_written(server, exchange, "exceptions"))),
        declared=True,
    )


def contradictions(server: Node | None, exchange: Node | None = None) -> Iterator[Problem]:
    """
    Yield a problem for every permission that is required but not allowed, after overriding.

    Without *exchange* for the server alone.  Where nothing is allowed by name, the default counts.
    """
    allowed = _written(server, exchange, *_ALLOW)
    required = _written(server, exchange, *_REQUIRE)
    if not isinstance(required, List):
        return
    names = (
        {text(item) for item in allowed.items}
        if isinstance(allowed, List)
        else {str(cap) for cap in DEFAULT_ALLOW}
    )
    for item in required.items:
        if text(item) not in names:
            yield Problem(
                item.source, "a required permission is not allowed", "add it to allow as well"
            )


def _written(server: Node | None, exchange: Node | None, *keys: str) -> Node | None:
    own = at(exchange, *keys)
    return own if own is not None else at(server, *keys)


def _networks(node: Node | None) -> Iterator["IPv4Network | IPv6Network"]:
    from ipaddress import ip_network  # noqa: PLC0415  - only files that name one

    for item in node.items if isinstance(node, List) else ():
        yield ip_network(text(item))


def _exceptions(node: Node | None) -> Iterator[Accepted]:
    for item in node.items if isinstance(node, List) else ():
        until = instant(text(item, "until"))
        # A whole day, the earlier one where the instant lies within it.
        yield Accepted(
            text(item, "finding"), text(item, "reason"), None if until is None else until.date()
        )
