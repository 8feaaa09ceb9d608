"""
From the documents to the effective `security` of one exchange.  Pure.

What an exchange says wins over its server, key by key (the two lists of `permissions` are keys of
their own); the schema's defaults fill the rest.  An exception whose day has come is not a mistake
of the document: one that was valid yesterday must not stop a controller at midnight.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from reconciler.documents.formats import instant, span
from reconciler.documents.tree import List, Node, at, items, text
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
        found = _written(server, exchange, *keys)
        if not isinstance(found, List):
            return default
        return frozenset(Cap(text(item)) for item in found.items)

    def written(key: str) -> Node | None:
        return _written(server, exchange, key)

    return Security(
        ip_whitelist=tuple(_networks(written("ipWhitelist"))),
        allow=caps(_ALLOW, DEFAULT_ALLOW),
        require=caps(_REQUIRE, frozenset()),
        max_key_age=span(text(written("maxKeyAge"))),
        warn_before_expiry=span(text(written("warnBeforeExpiry"))) or DEFAULT_WARNING,
        on_unverifiable=OnUnverifiable(text(written("onUnverifiable"), default="warn")),
        exceptions=tuple(_exceptions(written("exceptions"))),
        declared=True,
    )


def contradictions(server: Node | None, exchange: Node | None = None) -> Iterator[Problem]:
    """
    Yield a problem for every permission that is required but not allowed, after overriding.

    Without *exchange* for the server alone.  Where nothing is allowed by name, the default counts.
    """
    required = items(_written(server, exchange, *_REQUIRE))
    if not required:
        return
    allowed = _written(server, exchange, *_ALLOW)
    names = (
        {text(item) for item in allowed.items}
        if isinstance(allowed, List)
        else {str(cap) for cap in DEFAULT_ALLOW}
    )
    for item in required:
        if text(item) not in names:
            yield Problem(
                item.source, "a required permission is not allowed", "add it to allow as well"
            )


def _written(server: Node | None, exchange: Node | None, *keys: str) -> Node | None:
    own = at(exchange, *keys)
    return own if own is not None else at(server, *keys)


def _networks(node: Node | None) -> Iterator["IPv4Network | IPv6Network"]:
    from ipaddress import ip_network  # noqa: PLC0415  - only files that name one

    for item in items(node):
        yield ip_network(text(item))


def _exceptions(node: Node | None) -> Iterator[Accepted]:
    for item in items(node):
        until = instant(text(item, "until"))
        # A whole day, the earlier one where the instant lies within it.
        yield Accepted(
            text(item, "finding"),
            text(item, "reason"),
            None if until is None else until.date(),
            text(item, "permission", default=""),
        )
