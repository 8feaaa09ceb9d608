"""
The settings' `audit`: from where exchanges are asked about keys, and where answers are remembered.

An entry of `proxies` is the operator's word that it leaves from its servers' own address: what an
exchange says there holds for the server.  No secret stands here, so no proxy carries a password.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct, field

from reconciler.documents.formats import url_problem
from reconciler.documents.tree import Map, Node, at, items, text, text_list
from reconciler.model.key_audits import HERE, Egress
from reconciler.system.network import loopback

DIRECT: Final = "direct"
Complain = Callable[[Node, str, str], None]
PathOf = Callable[[Node | None], str | None]
Matches = Callable[[str, str], bool]


class ProxyRule(Struct, frozen=True):
    """From where to ask about the keys of the servers that match by URL or by name."""

    egress: Egress
    urls: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()


class AuditSettings(Struct, frozen=True):
    """
    `egress` is for servers without a rule; `cache` is the file of remembered answers.

    `bases` asks something on this host instead of an exchange, by ccxt's id: a sandbox.
    """

    egress: Egress = HERE
    rules: tuple[ProxyRule, ...] = ()
    cache: str = ""
    bases: Mapping[str, str] = field(default_factory=dict)

    def egress_of(self, name: str, url: str, matches: Matches) -> Egress:
        """Return from where to ask about a server's keys; *matches* compares pattern and URL."""
        for rule in self.rules:
            if any(fnmatchcase(name, pattern) for pattern in rule.servers) or any(
                matches(pattern, url) for pattern in rule.urls
            ):
                return rule.egress
        return self.egress


def read_audit(
    node: Node | None, path_of: PathOf, complain: Complain, *, cache: str
) -> AuditSettings:
    """
    Return the settings of a mapping that fits the schema; *cache* is where answers lie by default.

    *path_of* resolves a path as the settings do; *complain* takes a place, what is wrong there and
    what to do.
    """
    general = at(node, "proxy")
    rules = []
    proxies = at(node, "proxies")
    for item in items(proxies):
        written = at(item, "proxy")
        urls, servers = text_list(item, "urls"), text_list(item, "servers")
        if not urls and not servers:
            complain(item, "this proxy is for no server", "add servers or urls")
        rules.append(ProxyRule(Egress(_proxy(written, complain), server=True), urls, servers))
    bases = at(node, "bases")
    for base in bases.entries.values() if isinstance(bases, Map) else ():
        if (wrong := _base_problem(text(base))) is not None:
            complain(base, *wrong)
    return AuditSettings(
        egress=Egress(_proxy(general, complain)),
        rules=tuple(rules),
        cache=path_of(at(node, "cache")) or cache,
        bases={name: text(base).rstrip("/") for name, base in bases.entries.items()}
        if isinstance(bases, Map)
        else {},
    )


def _proxy(node: Node | None, complain: Complain) -> str:
    written = text(node).rstrip("/")
    if node is None or written == DIRECT:
        return ""
    try:
        parts = urlsplit(written)
        usable = bool(parts.hostname) and bool(parts.port) and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable:
        complain(node, "this is not a proxy's address", "write socks5h://HOST:PORT")
    return written


def _base_problem(base: str) -> tuple[str, str] | None:
    wrong = url_problem(base, insecure_allowed=True)
    if wrong is not None:
        return wrong
    if not loopback(urlsplit(base).hostname or ""):
        return (
            "a base that is not on this host would be sent signed requests",
            "write http://127.0.0.1:PORT, for a sandbox, or remove it",
        )
    return None
