"""
What `jtr doctor` makes of Vault: its clock, the token's life, and what that token may do.  Pure.

A token that may do more than `jtr` needs works just as well, until somebody steals it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from reconciler.doctor.findings import (
    Finding,
    all_or,
    apart,
    failed,
    first,
    length,
    listed,
    ok,
    warning,
)
from reconciler.errors import Exit
from reconciler.model.references import SecretPath
from reconciler.model.wording import counted
from reconciler.plan.boot_proof import MARGIN

SHORT: Final = 600.0  # seconds; a token that ends within them may end in the middle of an apply
_POLICIES: Final = "use one with the policies of deploy/vault"


def clock_finding(ahead: float | None, uncertainty: float) -> Finding:
    """Judge Vault's clock: the seconds by which it is *ahead* of ours, None where it is silent."""
    return first(
        "vault.clock",
        f"agrees with ours (to {MARGIN.total_seconds():.0f} s)",
        (
            ahead is None,
            "it tells no time, so nobody can say how old a secret is",
            "let the Date header of Vault through",
        ),
        (
            abs(ahead or 0) > MARGIN.total_seconds() + uncertainty,
            apart(ahead or 0),
            "see to NTP on both machines: our clock decides when a request is due",
        ),
    )


def token_finding(
    left: float | None, kind: str, *, renewable: bool, own: bool, file: bool = False
) -> Finding:
    """
    Judge the token in use: *left* are its seconds, None without an end.

    *own* says that this process got it by logging in, so that the next one gets another; *file*
    that somebody else keeps it in one.
    """
    text = f"a {kind} token, {length(left or 0)} left, {'' if renewable else 'not '}renewable"
    return first(
        "vault.token",
        f"{text}; every process logs in anew" if own else text,
        (
            left is None,
            "it never ends: who finds it has it for ever",
            f"use one that ends, and let {'who writes its file' if file else 'a login'} renew it",
        ),
        (not own and (left or 0) < SHORT, text, "fetch a new one before the next apply"),
    )


def policies_finding(policies: Iterable[str]) -> Finding:
    names = sorted(policies)
    root = "the token has the policy root: it may do everything"
    return first("vault.policies", ", ".join(names) or "none", ("root" in names, root, _POLICIES))


def binding_finding(unbound: Sequence[SecretPath], *, all_of: int, required: bool) -> Finding:
    """Judge the secrets whose owners do not say which addresses may get them (`jtr_targets`)."""
    code = "vault.bindings"
    if not unbound:
        return ok(code, f"the owners of {counted(all_of, 'secret')} say where they may go")
    text = f"no owner's word on where these may go (jtr_targets): {listed(map(str, unbound))}"
    if not required:
        return ok(code, text)
    remedy = "bao kv metadata patch -mount=MOUNT -custom-metadata=jtr_targets=URL,... PATH"
    return failed(code, f"{text}; the policy has requireBinding", remedy, Exit.BLOCKED)


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
_KINDS: Final = ("data", "metadata", "delete", "undelete", "destroy")  # of KV version 2
_ROWS: Final = {"data": ("create", "read", "update"), "metadata": ("list", "read")}


Rights = Mapping[str, Iterable[str]]  # by path of Vault's API


def asked_of(paths: Iterable[SecretPath], ledger: SecretPath | None) -> list[str]:
    """Return the paths of Vault's API whose rights are to be looked up."""
    found = {*POWERS, *(f"{at.mount}/{kind}/{at.path}" for at in paths for kind in _KINDS)}
    if ledger is not None:
        found |= {f"{ledger.mount}/{kind}/{ledger.path}/servers/jtr" for kind in _ROWS}
    return sorted(found)


def _held(rights: Rights, at: SecretPath, kind: str, row: str = "") -> set[str]:
    return set(rights.get(f"{at.mount}/{kind}/{at.path}{row}", ()))


def unreadable(rights: Rights, paths: Iterable[SecretPath], kind: str) -> list[SecretPath]:
    """Return the secrets of which the token may not read *kind*, `metadata` or `data`."""
    return [at for at in paths if not {"read", "root"} & _held(rights, at, kind)]


def rights_findings(
    rights: Rights, paths: Sequence[SecretPath], key: SecretPath | None
) -> Iterator[Finding]:
    """
    Say whether the token may read what is declared, and what it may do besides.

    Whoever begins a ledger may create the secret at *key*, once.
    """
    reads, writes = list(_unread(rights, paths)), list(_surplus(rights, paths, key))
    secrets = counted(len(paths), "secret")
    if paths:
        yield from all_or(reads, "vault.can-read", f"{secrets}: metadata and values")
        nothing = "it can neither change nor remove them"
        yield from all_or(writes, "vault.cannot-write", nothing)
    powers = [what for path, what in POWERS.items() if _CHANGES & set(rights.get(path, ()))]
    yield first(
        "vault.powers",
        "no right on sys/, auth/ or identity/ that could do harm",
        (powers, f"the token may {', '.join(powers)}", f"{_POLICIES}, and nothing else"),
    )


def _unread(rights: Rights, paths: Sequence[SecretPath]) -> Iterator[Finding]:
    metadata, values = (unreadable(rights, paths, kind) for kind in ("metadata", "data"))
    only = len(values) == len(paths) and not metadata
    hint = " (with metadata alone only `jtr plan --recorded` works)" if only else ""
    for kind, what, missing in (("metadata", "metadata", metadata), ("data", "values", values)):
        if missing:
            at = missing[0]
            names = listed(map(str, missing))
            yield failed(
                "vault.can-read",
                f"the token may not read the {what} of {names}{hint if kind == 'data' else ''}",
                f'grant it: path "{at.mount}/{kind}/{at.path}" {{ capabilities = ["read"] }}',
                Exit.SECRETS,
            )


def _surplus(
    rights: Rights, paths: Sequence[SecretPath], key: SecretPath | None
) -> Iterator[Finding]:
    surplus: defaultdict[str, list[str]] = defaultdict(list)
    for at in paths:
        for kind in _KINDS:
            allowed = {"create"} if at == key and kind == "data" else set()
            for right in sorted(_CHANGES & _held(rights, at, kind) - allowed):
                surplus[right if kind == "data" else f"{right} on {kind}"].append(str(at))
    for what, where in surplus.items():
        if "root" not in what:
            yield warning(
                "vault.cannot-write",
                f"the token has `{what}` for {listed(where)}",
                "remove it: jtr only reads secrets, and whoever steals the token can do more",
            )
    if any("root" in what for what in surplus):
        yield warning(
            "vault.cannot-write",
            f"the token may change and remove {counted(len(paths), 'secret')}",
            _POLICIES,
        )


def ledger_rights(rights: Rights, at: SecretPath) -> Iterator[Finding]:
    """Say whether the token may write the rows of a ledger in Vault, and none of them away."""
    held = {kind: _held(rights, at, kind, "/servers/jtr") for kind in _ROWS}
    lacks = [
        f"`{right}` on {kind}"
        for kind, needed in _ROWS.items()
        for right in needed
        if not {right, "root"} & held[kind]
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
    yield first(
        "ledger.lasting",
        "it may delete no rows",
        (
            {"delete", "root"} & (held["data"] | held["metadata"]),
            f"the token may delete rows below {at}: what was done once could be done again",
            "take `delete` away, as deploy/vault/ledger.hcl does",
        ),
    )
