"""
What is to be said of a key's permissions.  Pure.

A grant that goes too far and could be taken away is excess; one that the exchange does not let be
granted apart from what is allowed is merely coarse.  What is not known is never taken for allowed.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from reconciler.exchanges.judge.findings import TAKE_OFF, say
from reconciler.model.key_facts import Access, Cap, Grant, GrantEvidence, KeyFacts
from reconciler.model.key_policy import KeyFinding, Security, Severity

_UNKNOWN: Final = frozenset({Cap.OTHER})


def judged_permissions(facts: KeyFacts, security: Security) -> Iterator[KeyFinding]:
    """Yield what is wrong with the permissions, coarse, or not knowable."""
    if facts.grants is None:
        yield not_told(security)
        writes = security.require - {Cap.ACCOUNT_READ, Cap.TAX}
        if facts.read_only and writes:
            yield _read_only(writes)
        return
    for grant in facts.grants:
        yield from _excess(grant, security.allow)
    yield from _required(facts.grants, facts.unproven, security)
    hidden = facts.unproven - security.allow
    if hidden:
        yield _not_knowable(f"whether it may {_names(hidden)}", security.unverified, hidden)
    yield from _unproven(facts.grants, security)


def not_told(security: Security) -> KeyFinding:
    what = "what the key may do is not knowable"
    return say("PERM_NOT_KNOWABLE", what, severity=security.unverified)


def _excess(grant: Grant, allow: frozenset[Cap]) -> Iterator[KeyFinding]:
    caps = grant.caps or _UNKNOWN
    # A permission of that name that writes is more than reading the account.
    usable = frozenset(
        cap for cap in caps & allow if cap is not Cap.ACCOUNT_READ or grant.access is Access.READ
    )
    outside = caps - usable
    reads = grant.access is Access.READ and grant.evidence is GrantEvidence.REPORTED
    data = {"permission": grant.raw, "caps": _names(caps)}
    only = "; it only reads" if reads else ""
    severity = Severity.WARNING if reads else Severity.ERROR
    if Cap.WITHDRAW in outside and not reads:
        yield say("PERM_WITHDRAW", f"it may withdraw funds ({grant.raw})", data)
    elif Cap.OTHER in outside:
        yield say(
            "PERM_UNKNOWN_NAME" if reads else "PERM_FORBIDDEN",
            f"{grant.raw}: a permission that jtr does not know{only}",
            data,
            severity=severity,
            remedy=f"{TAKE_OFF}, or accept it with a reason",
        )
    elif outside and usable:
        what = f"{grant.raw} includes {_names(outside)}: not granted apart at this exchange"
        yield say("PERM_COARSE", what, data)
    elif outside:
        what = f"{grant.raw} ({_names(outside)}) is not allowed{only}"
        yield say("PERM_FORBIDDEN", what, data, severity=severity)
    elif Cap.OTHER in caps:
        what = f"{grant.raw}: a permission that jtr does not know, allowed as other"
        yield say("PERM_UNKNOWN_NAME", what, data, severity=Severity.INFO, remedy="")


def _required(
    grants: Iterable[Grant], unproven: frozenset[Cap], security: Security
) -> Iterator[KeyFinding]:
    """Say which demanded right is absent, only reads, or cannot be proven."""
    missing, reading, unknown = set[Cap](), set[Cap](), set[Cap]()
    for cap in security.require:
        holders = [grant for grant in grants if cap in grant.caps]
        if any(_meets(grant, cap) for grant in holders):
            continue
        if cap in unproven or any(
            grant.evidence is not GrantEvidence.REPORTED for grant in holders
        ):
            unknown.add(cap)
        elif any(grant.access is Access.READ for grant in holders):
            reading.add(cap)
        else:
            missing.add(cap)
    if missing:
        names = _names(missing)
        yield say("PERM_MISSING", f"it may not {names}", {"caps": names})
    if reading:
        yield _read_only(reading)
    if unknown:
        yield _not_knowable(
            f"whether it has what is required: {_names(unknown)}", security.unverified, unknown
        )


def _meets(grant: Grant, cap: Cap) -> bool:
    if grant.evidence is not GrantEvidence.REPORTED:
        return False
    match cap:
        case Cap.ACCOUNT_READ:
            return grant.access is Access.READ
        case Cap.TAX:
            return True
        case _:
            return grant.access is Access.WRITE


def _read_only(caps: Iterable[Cap]) -> KeyFinding:
    names = _names(caps)
    return say("KEY_READ_ONLY", f"it only reads, required is {names}", {"caps": names})


def _unproven(grants: Iterable[Grant], security: Security) -> Iterator[KeyFinding]:
    """Say what is known by trying only, and what trying could not show."""
    tried = [grant for grant in grants if grant.evidence is not GrantEvidence.REPORTED]
    if not tried:
        return
    raws = ", ".join(sorted(grant.raw for grant in tried))
    yield say("PROBED", f"not told by the exchange but concluded: {raws}", {"names": raws})
    if (
        any(Cap.ACCOUNT_READ in grant.caps for grant in tried)
        and Cap.ACCOUNT_READ in security.allow
    ):
        caps = frozenset({Cap.ACCOUNT_READ})
        yield _not_knowable("whether account_read only reads", security.unverified, caps)


def _not_knowable(what: str, severity: Severity, caps: Iterable[Cap]) -> KeyFinding:
    names = _names(caps)
    return say("PERM_NOT_KNOWABLE", f"not knowable: {what}", {"caps": names}, severity=severity)


def _names(caps: Iterable[Cap]) -> str:
    return ", ".join(sorted(caps))
