"""
What `jtr doctor` makes of Vault: its state, the token's life, and what that token may do.  Pure.

A token that may do more than `jtr` needs works just as well, until somebody steals it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.doctor.findings import Finding, counted, failed, length, listed, ok, warning
from reconciler.errors import Exit
from reconciler.model.references import SecretPath
from reconciler.plan.boot_proof import MARGIN

SHORT: Final = 600.0  # seconds; a token that ends within them may end in the middle of an apply


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """
    What Vault says of itself to anybody.

    `ahead` are the seconds by which its clock is ahead of ours, give or take `uncertainty`; None
    where it does not tell.
    """

    address: str
    version: str
    sealed: bool
    initialised: bool
    ahead: float | None
    uncertainty: float


@dataclass(frozen=True, slots=True)
class TokenLook:
    """
    The token in use: `left` are its seconds, None without an end.

    `own` says that this process got it by logging in, so that the next one gets another.
    """

    policies: tuple[str, ...]
    left: float | None
    renewable: bool
    kind: str
    method: str
    own: bool


def vault_findings(facts: VaultFacts) -> Iterator[Finding]:
    """Judge what Vault says of itself."""
    yield ok("vault.reachable", f"{facts.address}, version {facts.version or 'not told'}")
    if not facts.initialised:
        yield failed("vault.sealed", "it was never initialised", "initialise it", Exit.SECRETS)
    elif facts.sealed:
        yield failed("vault.sealed", "it is sealed", "unseal it", Exit.SECRETS)
    else:
        yield ok("vault.sealed", "unsealed")
    yield _vault_clock(facts)


def _vault_clock(facts: VaultFacts) -> Finding:
    if facts.ahead is None:
        return warning(
            "vault.clock",
            "it tells no time, so nobody can say how old a secret is",
            "let the Date header of Vault through",
        )
    if abs(facts.ahead) > MARGIN.total_seconds() + facts.uncertainty:
        return warning(
            "vault.clock",
            f"its clock is {_apart(facts.ahead)} ours",
            "see to NTP on both machines: our clock decides when a request is due",
        )
    return ok("vault.clock", f"agrees with ours (to {MARGIN.total_seconds():.0f} s)")


def _apart(ahead: float) -> str:
    return f"{length(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"


def token_findings(token: TokenLook) -> Iterator[Finding]:
    """Judge the token in use."""
    yield ok("vault.login", f"by {token.method}")
    yield _token_time(token)
    names = sorted(token.policies)
    if "root" in names:
        yield warning(
            "vault.policies",
            "the token has the policy root: it may do everything",
            "use one with the policies of deploy/vault",
        )
    else:
        yield ok("vault.policies", ", ".join(names) or "none")


def _token_time(token: TokenLook) -> Finding:
    renewable = "renewable" if token.renewable else "not renewable"
    if token.left is None:
        return warning(
            "vault.token",
            "it never ends: who finds it has it for ever",
            "use one that ends, and let Vault Agent or a login renew it",
        )
    text = f"a {token.kind} token, {length(token.left)} left, {renewable}"
    if token.own:
        return ok("vault.token", f"{text}; every process logs in anew")
    if token.left < SHORT:
        return warning("vault.token", text, "fetch a new one before the next apply")
    return ok("vault.token", text)


POWERS: Final[Mapping[str, str]] = {
    "sys/policies/acl/jtr": "write policies",
    "sys/mounts/jtr": "mount secrets engines",
    "sys/auth/jtr": "mount logins",
    "sys/audit/jtr": "change the audit log",
    "sys/seal": "seal Vault",
    "sys/raw/jtr": "read and write the raw storage",
    "auth/token/create": "make tokens",
    "auth/token/create-orphan": "make tokens that outlive it",
    "auth/approle/role/jtr": "change AppRoles",
    "auth/kubernetes/role/jtr": "change roles of Kubernetes logins",
    "auth/jwt/role/jtr": "change roles of JWT logins",
    "identity/entity": "change identities",
}
"""What nobody who runs jtr needs, by a path that shows whether the token may do it."""

_CHANGES: Final = frozenset({"create", "update", "patch", "delete", "sudo", "root"})
_BREAKS: Final = ("delete", "undelete", "destroy")  # KV version 2: of versions, by a write


def asked_of(paths: Iterable[SecretPath], ledger: SecretPath | None) -> list[str]:
    """Return the paths of Vault's API whose rights are to be looked up."""
    found = set(POWERS)
    for at in paths:
        found |= {f"{at.mount}/{kind}/{at.path}" for kind in ("data", "metadata", *_BREAKS)}
    if ledger is not None:
        found |= {f"{ledger.mount}/{kind}/{ledger.path}/servers/jtr" for kind in _ROWS}
    return sorted(found)


Rights = Mapping[str, tuple[str, ...]]


def rights_findings(
    rights: Rights, paths: Sequence[SecretPath], key: SecretPath | None
) -> Iterator[Finding]:
    """
    Say whether the token may read what is declared, and what it may do besides.

    Whoever begins a ledger may create the secret at *key*, once.
    """
    yield from _reading(rights, paths)
    yield from _writing(rights, paths, key)
    powers = [what for path, what in POWERS.items() if _CHANGES & set(rights.get(path, ()))]
    if powers:
        yield warning(
            "vault.powers",
            f"the token may {', '.join(powers)}",
            "use one with the policies of deploy/vault, and nothing else",
        )
    else:
        yield ok("vault.powers", "no right on sys/, auth/ or identity/ that could do harm")


def unreadable(rights: Rights, paths: Iterable[SecretPath], kind: str) -> list[SecretPath]:
    """Return the secrets of which the token may not read *kind*, `metadata` or `data`."""
    return [
        at
        for at in paths
        if not {"read", "root"} & set(rights.get(f"{at.mount}/{kind}/{at.path}", ()))
    ]


def _reading(rights: Rights, paths: Sequence[SecretPath]) -> Iterator[Finding]:
    blind = {kind: unreadable(rights, paths, kind) for kind in ("metadata", "data")}
    for kind, missing in blind.items():
        if not missing:
            continue
        what = "metadata" if kind == "metadata" else "values"
        hint = ""
        if kind == "data" and len(missing) == len(paths) and not blind["metadata"]:
            hint = " (with metadata alone only `jtr plan --recorded` works)"
        first = missing[0]
        yield failed(
            "vault.can-read",
            f"the token may not read the {what} of {listed(map(str, missing))}{hint}",
            f'grant it: path "{first.mount}/{kind}/{first.path}" {{ capabilities = ["read"] }}',
            Exit.SECRETS,
        )
    if paths and not any(blind.values()):
        yield ok("vault.can-read", f"{counted(len(paths), 'secret')}: metadata and values")


def _writing(
    rights: Rights, paths: Sequence[SecretPath], key: SecretPath | None
) -> Iterator[Finding]:
    surplus: dict[str, list[str]] = {}
    for at in paths:
        for kind in ("data", "metadata", *_BREAKS):
            held = _CHANGES & set(rights.get(f"{at.mount}/{kind}/{at.path}", ()))
            if at == key and kind == "data":
                held -= {"create"}
            for right in sorted(held):
                what = right if kind == "data" else f"{right} on {kind}"
                surplus.setdefault(what, []).append(str(at))
    for what, where in surplus.items():
        if "root" not in what:  # that of all rights was told already
            yield warning(
                "vault.cannot-write",
                f"the token has `{what}` for {listed(where)}",
                "remove it: jtr only reads secrets, and whoever steals the token can do more",
            )
    if any("root" in what for what in surplus):
        yield warning(
            "vault.cannot-write",
            f"the token may change and remove {counted(len(paths), 'secret')}",
            "use one with the policies of deploy/vault",
        )
    elif paths and not surplus:
        yield ok("vault.cannot-write", "it can neither change nor remove them")


_ROWS: Final[Mapping[str, frozenset[str]]] = {
    "data": frozenset({"create", "read", "update"}),
    "metadata": frozenset({"read", "list"}),
}


def ledger_rights(rights: Rights, at: SecretPath) -> Iterator[Finding]:
    """Say whether the token may write the rows of a ledger in Vault, and none of them away."""
    held = {kind: set(rights.get(f"{at.mount}/{kind}/{at.path}/servers/jtr", ())) for kind in _ROWS}
    lacks = [
        f"`{right}` on {kind}"
        for kind, needed in _ROWS.items()
        for right in sorted(needed - held[kind])
        if "root" not in held[kind]
    ]
    if lacks:
        yield failed(
            "ledger.writable",
            f"the token lacks {', '.join(lacks)} below {at}",
            "load deploy/vault/ledger.hcl; ledger-read.hcl is enough for plan --recorded and "
            "status",
            Exit.SECRETS,
        )
    else:
        yield ok("ledger.writable", f"the token may create and update rows below {at}")
    if {"delete", "root"} & (held["data"] | held["metadata"]):
        yield warning(
            "ledger.lasting",
            f"the token may delete rows below {at}: what was done once could be done again",
            "take `delete` away, as deploy/vault/ledger.hcl does",
        )
    else:
        yield ok("ledger.lasting", "it may delete no rows")
