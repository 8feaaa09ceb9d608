"""
From what an exchange said of a key, and what the documents want of it, to findings.  Pure.

Three-valued: nothing that is not known is ever called right, and no trouble on the way is ever
called a wrong key.  Codes and severities: the table in docs/audit.md.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Final

from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.judge.addresses import Address, judged_addresses, undeclared
from reconciler.exchanges.judge.findings import say
from reconciler.exchanges.judge.permissions import judged_permissions, not_told
from reconciler.model.key_facts import Answered, Environment, KeyFacts, Status
from reconciler.model.key_policy import KeyFinding, Security, Severity
from reconciler.model.values import replace

FROM_SERVER: Final = timedelta(days=7)
"""So long do facts count that were taken from the server's address."""

_TROUBLE: Final[Mapping[Status, tuple[str, str]]] = {
    Status.CLOCK: ("CLOCK_SKEW", "the exchange does not accept the time of the call"),
    Status.UNREACHABLE: ("UNREACHABLE", "the exchange was not reached"),
    Status.RATE_LIMITED: ("RATE_LIMITED", "the exchange was asked too often"),
    Status.INDETERMINATE: (
        "INDETERMINATE",
        "the exchange's answer does not say what is the matter",
    ),
}


def judge(
    answered: Answered,
    security: Security,
    *,
    adapter: Adapter | None,
    environment: Environment,
    today: date,
    server_addresses: tuple[Address, ...] = (),
    fingerprint_twins: tuple[str, ...] = (),
    from_server: bool,
    earlier: Answered | None = None,
) -> tuple[KeyFinding, ...]:
    """
    Return everything to be said of one key, the worst first.

    *adapter* asked about it; it knows what its exchange's codes mean.  *environment* is where the
    key should belong, *today* a day in UTC.  *server_addresses* are
    those that the server itself says it leaves from, *fingerprint_twins* name other places that
    hold the same key.  *from_server* says that the exchange was asked from the server's address;
    *earlier* is what it answered there about the same key: it counts for seven days where our own
    address is refused.
    """
    found = [
        *_status(answered, security, adapter, from_server=from_server),
        *undeclared(security, server_addresses),
        *_twins(fingerprint_twins),
    ]
    told, seen_at_server = answered, from_server
    if answered.status is Status.IP_REFUSED and not from_server:
        told = _fresh(earlier, answered, today) or answered
        seen_at_server = told is not answered
        found += _from_server(told) if seen_at_server else (not_told(security),)
    if told.facts is not None or told.status in {Status.VALID, Status.DENIED}:
        facts = told.facts or KeyFacts()
        found += _facts(facts, security, environment, _now(answered, today))
        if facts.same_key is not False:
            found += judged_addresses(
                facts.ip, security, server_addresses, from_server=seen_at_server
            )
            found += judged_permissions(facts, security)
        else:
            found.append(not_told(security))
    ordered = sorted(found, key=lambda finding: (-finding.severity, finding.code))
    return tuple(_accepted(ordered, security, today))


def _status(
    answered: Answered, security: Security, adapter: Adapter | None, *, from_server: bool
) -> Iterator[KeyFinding]:
    """Say what became of asking, where no facts of the key came of it."""
    said = f" ({answered.code})" if answered.code else ""
    data = {"code": answered.code} if answered.code else {}
    hint = "" if adapter is None else adapter.hints.get(answered.code, "")
    match answered.status:
        case Status.VALID:
            return
        case Status.REJECTED:
            yield _rejected(answered, adapter, f"{said}{hint}", data)
        case Status.IP_REFUSED if from_server:
            yield say(
                "IP_MISSING_SERVER",
                f"the exchange refuses it from the server's own address{said}",
                data,
                remedy="add the server's address to the key at the exchange",
            )
            yield not_told(security)
        case Status.IP_REFUSED:
            what = f"bound: ok, by refusal{said}; permissions: not knowable from here"
            yield say("IP_REFUSED_HERE", what, data)
        case Status.MALFORMED:
            yield say("KEY_MALFORMED", f"it cannot be right: {answered.code}")
        case Status.DENIED:
            yield say("NOT_TOLD", f"the key lives, and may not ask about itself{said}", data)
        case Status.UNSUPPORTED:
            what = f"this exchange cannot be asked about it{said}"
            yield say("NOT_AUDITED", what, data, severity=security.unverified)
        case trouble:
            code, what = _TROUBLE[trouble]
            # Worth a warning even where people ignore what is not verifiable: it was not tried.
            severity = max(Severity.WARNING, security.unverified)
            yield say(code, f"{what}{said}{hint}", data, severity=severity)


def _rejected(
    answered: Answered, adapter: Adapter | None, said: str, data: Mapping[str, str]
) -> KeyFinding:
    """Say that it is not accepted, and where it belongs instead, as far as that is known."""
    if there := answered.elsewhere:
        instead = f"name {there} in the document, if the server trades there"
        return say("ENV_MISMATCH", f"it is a key of {there}{said}", data, remedy=instead)
    if adapter is not None and answered.code in adapter.other_environment:
        what = f"it is a key of the exchange's other environment{said}"
        return say("ENV_MISMATCH", what, data)
    remedy = None
    if adapter is not None and answered.code in adapter.of_a_sibling:
        others = ", ".join(one for one in adapter.siblings if one != adapter.ccxt_id)
        remedy = (
            f"is it one of {others}, or of a demo account? jtr audit --siblings asks there;"
            " else compare key, secret and passphrase in Vault with the exchange's"
        )
    what = f"the exchange does not accept it{said}"
    return say("KEY_REJECTED", what, data, remedy=remedy)


def _fresh(earlier: Answered | None, answered: Answered, today: date) -> Answered | None:
    """Return *earlier* facts where they are young enough to count."""
    if earlier is None or earlier.status is not Status.VALID or earlier.facts is None:
        return None
    age = _now(answered, today) - earlier.at
    # From the future: one of the clocks was wrong, and nobody knows by how much.
    return earlier if timedelta(0) <= age <= FROM_SERVER else None


def _from_server(earlier: Answered) -> tuple[KeyFinding, ...]:
    day = _day(earlier.at)
    what = f"judged by what the exchange told the server's address on {day}"
    return (say("FACTS_FROM_SERVER", what, {"at": day}),)


def _facts(
    facts: KeyFacts, security: Security, environment: Environment, now: datetime
) -> Iterator[KeyFinding]:
    """Say what is wrong with the key itself; addresses and permissions apart."""
    if facts.same_key is False:
        yield say("KEY_MISMATCH", "the exchange answered about another key")
        return
    if facts.owner:
        yield say("OWNER_KEY", "it is the owner's own key: it can move all funds")
    if facts.frozen:
        what = f"the exchange has stopped it: {facts.frozen}"
        yield say("KEY_FROZEN", what, {"state": facts.frozen})
    if facts.environment is not None and facts.environment is not environment:
        what = f"it is a {facts.environment} key where a {environment} one belongs"
        yield say("ENV_MISMATCH", what)
    if lacking := facts.traits.get("lacks"):
        what = f"the answer lacks what the exchange documents: {lacking}"
        yield say("ANSWER_INCOMPLETE", what, severity=security.unverified)
    if facts.master:
        yield say("MASTER_KEY", "it belongs to the main account")
    yield from _expiry(facts, security, now)
    yield from _age(facts, security, now)


def _expiry(facts: KeyFacts, security: Security, now: datetime) -> Iterator[KeyFinding]:
    lapses = facts.traits.get("lapses", "")
    if facts.expires_at is not None:
        day, left = _day(facts.expires_at), facts.expires_at - now
        if facts.expires_at <= now:
            yield say("KEY_EXPIRED", f"it expired on {day}", {"expires": day})
        elif left <= security.warn_before_expiry:
            what = f"it expires on {day}, in {max(left.days, 0)} days"
            yield say("EXPIRES_SOON", what, {"expires": day})
    elif facts.never_expires:
        return
    elif lapses:
        remedy = "bind it to the server's addresses at the exchange"
        yield say("EXPIRES_SOON", f"it lapses {lapses}", remedy=remedy)
    else:
        yield say("EXPIRY_NOT_SHOWN", "when it expires is not told")


def _age(facts: KeyFacts, security: Security, now: datetime) -> Iterator[KeyFinding]:
    if security.max_key_age is None:
        return
    if facts.created_at is None:
        what = "how old it is is not told"
        yield say("AGE_NOT_SHOWN", what, severity=security.unverified)
    elif now - facts.created_at > security.max_key_age:
        days = (now - facts.created_at).days
        what = f"it is {days} days old, maxKeyAge is {security.max_key_age.days}"
        yield say("KEY_OLD", what, {"days": str(days)})


def _twins(twins: tuple[str, ...]) -> Iterator[KeyFinding]:
    if twins:
        names = ", ".join(sorted(twins))
        yield say("SAME_KEY_TWICE", f"the same key is also used by {names}", {"also": names})


def _accepted(found: Iterable[KeyFinding], security: Security, today: date) -> Iterator[KeyFinding]:
    """Mark what somebody accepted, until the day before their end; say which end has come."""
    reasons, ended = dict[tuple[str, str], str](), dict[tuple[str, str], date]()
    for accepted in security.exceptions:
        what = accepted.finding, accepted.permission
        if accepted.until is None or today < accepted.until:
            reasons[what] = accepted.reason
        else:
            ended[what] = accepted.until
    for finding in found:
        what = finding.code, finding.data.get("permission", "")
        reason, end = reasons.get(what, ""), ended.get(what)
        over = f"; its exception ended on {end}" if end is not None and not reason else ""
        yield replace(finding, what=finding.what + over, accepted=reason)


def _now(answered: Answered, today: date) -> datetime:
    """Return the later of the answer's instant and the beginning of the day: answers are kept."""
    return max(answered.at, datetime.combine(today, time_of_day(), UTC))


def _day(instant: datetime) -> str:
    return instant.astimezone(UTC).date().isoformat()
