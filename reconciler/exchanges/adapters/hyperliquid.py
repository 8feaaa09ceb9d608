"""
Hyperliquid: `POST /info`, types `userRole` and `extraAgents`; both are public.

Documented at hyperliquid.gitbook.io (info endpoint).  There are no API keys: a private key is that
of an account, or of an agent that the account approved.  An agent trades, and moves funds within
the account and its sub-accounts (`agentSendAsset`, `subAccountTransfer`), never out of it.  What it
may do cannot be narrowed, and it cannot be bound to addresses.  The wallet may be a sub-account or
a vault of that account.  Which it is follows from the address of the key, which ccxt derives; the
key itself is never sent, and never leaves `fetch`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges import shapes
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, IpRule, KeyFacts, Status
from reconciler.model.values import replace

# `/info` has no codes of its own.
_CODES: Final[Mapping[str, Status]] = {
    "HTTP 422": Status.INDETERMINATE,  # what was asked about is no address
    "HTTP 429": Status.RATE_LIMITED,
}

_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}")
_WALLET: Final = r"0[xX][0-9a-fA-F]{40}"
_PRIVATE_KEY: Final = r"(0x)?[0-9a-fA-F]{64}"
_TRADE: Final = frozenset({Cap.SPOT, Cap.PERPETUAL})
_AGENT: Final = take.grant("agent", _TRADE | {Cap.TRANSFER})
_OWNER: Final = take.grant("owner", _TRADE | {Cap.WITHDRAW, Cap.TRANSFER, Cap.SUBACCOUNT})
_ACCOUNTS: Final = frozenset({"vault", "subAccount"})  # they have no private key of their own
_UNKNOWN_AGENT: Final = "no account approves of it as an agent, or does so any longer"


class Hyperliquid(Adapter):
    """Asks whose agent a private key is; a key of the other network is unknown to this one."""

    def malformed(self, ours: Credentials, /) -> str:
        return (
            shapes.missing(ours, self.needs)
            or shapes.not_like(ours, "privateKey", _PRIVATE_KEY, "64 hexadecimal digits")
            or shapes.not_like(ours, "walletAddress", _WALLET, "an address, 0x and 40 digits")
        )

    def fetch(self, exchange: Any, _environment: Environment, /) -> Sequence[Any]:
        """
        Ask for the role of the key's address; of an agent for its end, and who owns the wallet.

        A key of the wallet itself needs no answer: that it can move funds is certain without.
        """
        address = exchange.eth_get_address_from_private_key(exchange.privateKey)
        wallet = exchange.walletAddress
        try:
            role = exchange.publicPostInfo({"type": "userRole", "user": address})
        except Exception:
            if not _same(address, wallet):
                raise
            role = {"role": "missing"}
        agents: Any = []
        owner = None
        if _is(role, "agent"):
            serves = _part(role, "user") or wallet
            if _same(serves, wallet):
                serves = wallet
            else:
                owner = _owner(exchange, wallet)
            agents = exchange.publicPostInfo({"type": "extraAgents", "user": serves})
        return ({"address": address, "role": role, "agents": agents, "owner": owner},)

    def facts(self, answer: Any, ours: Credentials, environment: Environment, /) -> KeyFacts:
        told = take.mapping(answer, "the answer")
        address = _address(told, "address")
        wallet = ours["walletAddress"]
        role = take.record(told, "role")
        facts = KeyFacts(
            ip=IpRule(bound=False, listed=True, offered=False),
            read_only=False,
            environment=environment,
            owner=False,
        )
        match take.text(role, "role"):
            case "agent":
                serves = _address(take.record(role, "data"), "user")
                owner = None if told.get("owner") is None else _address(told, "owner")
                own = _own(told, address)
                return replace(
                    facts,
                    grants=(_AGENT,),
                    expires_at=take.milliseconds(own, "validUntil"),
                    traits=take.lacking(own, ("validUntil",)) if own else {},
                    same_key=_same(serves, wallet) or serves == owner,
                )
            case "user":
                return _owned(facts)
            case "missing" if _same(address, wallet):
                return _owned(facts)  # an account that nobody has used so far
            case "missing":
                return replace(facts, grants=(), frozen=_UNKNOWN_AGENT)
            case role_of_an_account if role_of_an_account in _ACCOUNTS:
                return replace(facts, same_key=False)
            case _:
                raise take.NotUnderstood("role is none that is documented")


def _owner(exchange: Any, wallet: str) -> Any:
    """Return the address of the account above a sub-account or a vault; None of another one."""
    role = exchange.publicPostInfo({"type": "userRole", "user": wallet})
    if _is(role, "subAccount"):
        return _part(role, "master")
    if _is(role, "vault"):
        vault = exchange.publicPostInfo({"type": "vaultDetails", "vaultAddress": wallet})
        return vault.get("leader") if isinstance(vault, dict) else None
    return None


def _is(role: Any, name: str) -> bool:
    return isinstance(role, dict) and role.get("role") == name


def _part(role: Mapping[str, Any], key: str) -> str:
    """Return an address in a role's data; empty for another shape, of which the parser says so."""
    data = role.get("data")
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, str) else ""


def _owned(facts: KeyFacts) -> KeyFacts:
    return replace(facts, grants=(_OWNER,), owner=True, never_expires=True)


def _own(answer: Mapping[str, Any], address: str) -> Mapping[str, Any]:
    """Return what is listed of an agent; one without a name is not listed, so its end not told."""
    for listed in take.entries(answer, "agents"):
        agent = take.mapping(listed, "an agent")
        if _same(_address(agent, "address"), address):
            return agent
    return {}


def _address(record: Mapping[str, Any], key: str) -> str:
    address = take.text(record, key).lower()
    if not _ADDRESS.fullmatch(address):
        raise take.NotUnderstood(f"{key} is no address")
    return address


def _same(one: str, other: str) -> bool:
    """Compare two addresses: upper case in them is a checksum, and often left out."""
    return one.lower() == other.lower()


ADAPTERS: Final = (
    Hyperliquid("hyperliquid", needs=("privateKey", "walletAddress"), codes=_CODES, version=2),
)
