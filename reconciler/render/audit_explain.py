"""
Why an audit says what it says of a key: what was asked, what came back in words, what was wanted.

For a reviewer who does not believe us; the same lines stand in the JSON.  Pure.
"""

from collections.abc import Iterable, Iterator

from reconciler.model.key_audits import Audited, Light
from reconciler.model.key_facts import Access, Answered, Cap, Grant, KeyFacts, Status
from reconciler.model.key_policy import KeyFinding, Security, Severity

_UNASKED = frozenset({Status.MALFORMED, Status.UNSUPPORTED})


def explanation(row: Audited) -> Iterator[str]:
    """Yield it line by line; foreign words in it are not yet escaped."""
    if row.answered is None:
        yield "asked: nobody, for the key could not be read"
        return
    yield from _asked(row.answered)
    yield from _told(row.answered)
    if row.security is not None:
        yield from _wanted(row.security)
    yield f"verdict: {row.light}, {_because(row, row.answered)}"


def _asked(answered: Answered) -> Iterator[str]:
    yield from (f"asked: {request}" for request in answered.requests)
    if answered.status in _UNASKED:
        yield "asked: nobody"
    elif not answered.requests:
        at = answered.at.isoformat(timespec="seconds")
        yield f"asked: nobody now, the answer is remembered from {at} (--fresh asks)"
    if answered.adapter:
        yield f"read as: {answered.adapter}, version {answered.adapter_version} of its meaning"


def _told(answered: Answered) -> Iterator[str]:
    code = f" ({answered.code})" if answered.code else ""
    yield f"told: {answered.status}{code}"
    facts = answered.facts
    if facts is None:
        return
    if facts.grants is None:
        yield "told: nothing of what it may do"
    else:
        yield from (f"told: {_grant(one)}" for one in facts.grants)
        if not facts.grants:
            yield "told: no permission at all"
    if facts.unproven:
        yield f"not told: whether it may {_names(facts.unproven)}"
    yield f"told: {_bound(facts)}"
    yield f"told: {_end(facts)}"
    if facts.created_at is not None:
        yield f"told: made on {facts.created_at.date()}"
    if facts.environment is not None:
        yield f"told: a {facts.environment} key"
    yield _three(
        facts.master,
        "told: of the main account",
        "told: of a sub-account",
        "whether it is the main account's",
    )
    yield _three(
        facts.same_key, "told: about this very key", "told: about another key", "about which key"
    )
    if facts.frozen:
        yield f"told: stopped, {facts.frozen}"
    yield from (f"told: {name}: {words}" for name, words in sorted(facts.traits.items()))


def _grant(grant: Grant) -> str:
    access = "reads" if grant.access is Access.READ else "writes"
    apart = "" if grant.separable else ", not granted apart"
    return f"{grant.raw} = {_names(grant.caps)} ({access}, {grant.evidence}{apart})"


def _bound(facts: KeyFacts) -> str:
    rule = facts.ip
    if rule.bound is None:
        return "nothing of its addresses"
    if not rule.bound:
        return "bound to no address" if rule.offered else "bound to no address, none can be"
    if not rule.networks:
        return "bound, not to which addresses"
    return f"bound to {', '.join(map(str, rule.networks))}"


def _end(facts: KeyFacts) -> str:
    if facts.expires_at is not None:
        return f"ends on {facts.expires_at.date()}"
    return "it never ends" if facts.never_expires else "nothing of its end"


def _three(value: bool | None, yes: str, no: str, unknown: str) -> str:  # noqa: FBT001  - three-valued
    return f"not told: {unknown}" if value is None else yes if value else no


def _wanted(security: Security) -> Iterator[str]:
    declared = "" if security.declared else " (nothing is declared: the defaults)"
    yield f"wanted: allow {_names(security.allow)}{declared}"
    if security.require:
        yield f"wanted: require {_names(security.require)}"
    if security.ip_whitelist:
        yield f"wanted: addresses {', '.join(map(str, security.ip_whitelist))}"
    yield f"wanted: what cannot be verified, {security.on_unverifiable}"
    for one in security.exceptions:
        of = f" of {one.permission}" if one.permission else ""
        until = "for ever" if one.until is None else f"until {one.until}"
        yield f"wanted: {one.finding}{of} is accepted {until}: {one.reason}"


def _because(row: Audited, answered: Answered) -> str:
    stops = [finding for finding in row.findings if finding.stops]
    if row.light is Light.BLOCKED:
        return f"because of {_codes(stops)}"
    if row.light is Light.OK:
        return "because everything that matters was told, and nothing is worse than an information"
    worth = [one for one in row.findings if one.severity >= Severity.WARNING]
    reasons = [f"because of {_codes(worth)}"] if worth else []
    facts = answered.facts
    if facts is None or facts.grants is None:
        reasons.append("because what it may do was not told")
    elif Cap.WITHDRAW in facts.unproven:
        reasons.append("because nothing proves that it may not withdraw")
    return ", and ".join(reasons) or "because something was not verified"


def _codes(findings: Iterable[KeyFinding]) -> str:
    return ", ".join(dict.fromkeys(f"{one.code} ({one.severity.name.lower()})" for one in findings))


def _names(caps: Iterable[Cap]) -> str:
    return ", ".join(sorted(caps)) or "nothing"
