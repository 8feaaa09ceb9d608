"""
From what an exchange said of a key, and what the documents want of it, to findings.  Pure.

Three-valued: nothing that is not known is ever called right, and no trouble on the way is ever
called a wrong key.  Codes and severities: the table in docs/audit.md.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Final

from reconciler.exchanges.judge.addresses import Address, judged_addresses, undeclared
from reconciler.exchanges.judge.permissions import judged_permissions, not_told
from reconciler.model.key_facts import Answered, Environment, KeyFacts, Status
from reconciler.model.key_policy import KeyFinding, Security, Severity

FROM_SERVER: Final = timedelta(days=7)
"""So long do facts count that were taken from the server's address."""

# Codes that say "a key, but of the other environment"; those of _HINTS may mean several things.
_OTHER_ENVIRONMENT: Final = frozenset(
    {("okx", "50101"), ("myokx", "50101"), ("okxus", "50101"), ("bitget", "40099")}
)
_AMBIGUOUS: Final = "; it says so of a wrong key, address or permission alike"
_NONCE: Final = "; or somebody who uses the same key has just sent a greater number"
_HINTS: Final[Mapping[tuple[str, str], str]] = {
    ("bybit", "10003"): "; it may be one of the other environment",
    ("bybit", "33004"): "; it has expired",
    ("bitfinex", "10100"): "; nobody documents what it says of a foreign address",
    ("bitfinex", "10114"): _NONCE,
    ("kraken", "EAPI:Invalid nonce"): _NONCE,
    ("coinbase", "Unauthorized"): "; it says so of a foreign address and a wrong clock, too",
    ("htx", "1003"): "; nobody documents what it says of a wrong clock",
    ("binance", "-2015"): _AMBIGUOUS,
    ("binanceusdm", "-2015"): _AMBIGUOUS,
    ("binancecoinm", "-2015"): _AMBIGUOUS,
}
_TROUBLE: Final[Mapping[Status, tuple[str, str, str]]] = {
    Status.CLOCK: (
        "CLOCK_SKEW",
        "the exchange does not accept the time of the call",
        "set the clock of this host; trading will fail by it, too",
    ),
    Status.UNREACHABLE: ("UNREACHABLE", "the exchange was not reached", "audit again later"),
    Status.RATE_LIMITED: ("RATE_LIMITED", "the exchange was asked too often", "audit again later"),
    Status.INDETERMINATE: (
        "INDETERMINATE",
        "the exchange's answer does not say what is the matter",
        "look its code up in the exchange's documentation",
    ),
}


def judge(
    answered: Answered,
    security: Security,
    *,
    environment: Environment,
    today: date,
    server_addresses: tuple[Address, ...] = (),
    fingerprint_twins: tuple[str, ...] = (),
    from_server: bool,
    earlier: Answered | None = None,
) -> tuple[KeyFinding, ...]:
    """
    Return everything to be said of one key, the worst first.

    *environment* is where the key should belong, *today* a day in UTC.  *server_addresses* are
    those that the server itself says it leaves from, *fingerprint_twins* name other places that
    hold the same key.  *from_server* says that the exchange was asked from the server's address;
    *earlier* is what it answered there about the same key: it counts for seven days where our own
    address is refused.
    """
    found = [
        *_status(answered, security, from_server=from_server),
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


def _status(answered: Answered, security: Security, *, from_server: bool) -> Iterator[KeyFinding]:
    """Say what became of asking, where no facts of the key came of it."""
    said = f" ({answered.code})" if answered.code else ""
    place = (answered.adapter, answered.code)
    data = {"code": answered.code} if answered.code else {}
    match answered.status:
        case Status.VALID:
            return
        case Status.REJECTED if place in _OTHER_ENVIRONMENT:
            yield KeyFinding(
                "ENV_MISMATCH",
                Severity.ERROR,
                f"it is a key of the exchange's other environment{said}",
                "put a key of the right environment in Vault",
                data,
            )
        case Status.REJECTED:
            yield KeyFinding(
                "KEY_REJECTED",
                Severity.CRITICAL,
                f"the exchange does not accept it{said}{_HINTS.get(place, '')}",
                "compare key, secret and passphrase in Vault with the exchange's",
                data,
            )
        case Status.IP_REFUSED if from_server:
            yield KeyFinding(
                "IP_MISSING_SERVER",
                Severity.ERROR,
                f"the exchange refuses it from the server's own address{said}",
                "add the server's address to the key at the exchange",
                data,
            )
            yield not_told(security)
        case Status.IP_REFUSED:
            yield KeyFinding(
                "IP_REFUSED_HERE",
                Severity.WARNING,
                f"bound: ok, by refusal{said}; permissions: not knowable from here",
                "audit from the server's address (audit.proxy)",
                data,
            )
        case Status.DENIED:
            yield KeyFinding(
                "NOT_TOLD",
                Severity.INFO,
                f"the key lives, and may not ask about itself{said}",
                data=data,
            )
        case Status.UNSUPPORTED:
            yield KeyFinding(
                "NOT_AUDITED",
                security.unverified,
                f"this exchange cannot be asked about it{said}",
                "look at the key on the exchange's own page",
                data,
            )
        case trouble:
            code, what, remedy = _TROUBLE[trouble]
            # Worth a warning even where people ignore what is not verifiable: it was not tried.
            severity = max(Severity.WARNING, security.unverified)
            yield KeyFinding(code, severity, f"{what}{said}{_HINTS.get(place, '')}", remedy, data)


def _fresh(earlier: Answered | None, answered: Answered, today: date) -> Answered | None:
    """Return *earlier* facts where they are young enough to count."""
    if earlier is None or earlier.status is not Status.VALID or earlier.facts is None:
        return None
    age = _now(answered, today) - earlier.at
    # From the future: one of the clocks was wrong, and nobody knows by how much.
    return earlier if timedelta(0) <= age <= FROM_SERVER else None


def _from_server(earlier: Answered) -> tuple[KeyFinding, ...]:
    day = earlier.at.astimezone(UTC).date().isoformat()
    what = f"judged by what the exchange told the server's address on {day}"
    return (KeyFinding("FACTS_FROM_SERVER", Severity.INFO, what, data={"at": day}),)


def _facts(
    facts: KeyFacts, security: Security, environment: Environment, now: datetime
) -> Iterator[KeyFinding]:
    """Say what is wrong with the key itself; addresses and permissions apart."""
    if facts.same_key is False:
        yield KeyFinding(
            "KEY_MISMATCH",
            Severity.CRITICAL,
            "the exchange answered about another key",
            "are the fields of the secret in Vault swapped, or of two keys?",
        )
        return
    if facts.owner:
        yield KeyFinding(
            "OWNER_KEY",
            Severity.CRITICAL,
            "it is the owner's own key: it can move all funds",
            "make an agent key for trading, and put that in Vault",
        )
    if facts.frozen:
        yield KeyFinding(
            "KEY_FROZEN",
            Severity.ERROR,
            f"the exchange has stopped it: {facts.frozen}",
            "ask the exchange, or make a new key",
            {"state": facts.frozen},
        )
    if facts.environment is not None and facts.environment is not environment:
        yield KeyFinding(
            "ENV_MISMATCH",
            Severity.ERROR,
            f"it is a {facts.environment} key where a {environment} one belongs",
            "put a key of the right environment in Vault",
        )
    if facts.master:
        yield KeyFinding(
            "MASTER_KEY",
            Severity.WARNING,
            "it belongs to the main account",
            "use a key of a sub-account: it can reach that one's funds only",
        )
    yield from _expiry(facts, security, now)
    yield from _age(facts, security, now)


def _expiry(facts: KeyFacts, security: Security, now: datetime) -> Iterator[KeyFinding]:
    if facts.expires_at is not None:
        day = facts.expires_at.astimezone(UTC).date().isoformat()
        data = {"expires": day}
        if facts.expires_at <= now:
            what = f"it expired on {day}"
            yield KeyFinding("KEY_EXPIRED", Severity.ERROR, what, "make a new key", data)
        elif facts.expires_at - now <= security.warn_before_expiry:
            left = max((facts.expires_at - now).days, 0)
            what = f"it expires on {day}, in {left} days"
            yield KeyFinding("EXPIRES_SOON", Severity.WARNING, what, "make a new key in time", data)
    elif not facts.never_expires:
        lapses = facts.traits.get("lapses", "")
        what = f"it lapses {lapses}" if lapses else "when it expires is not told"
        yield KeyFinding(
            "EXPIRES_SOON" if lapses else "EXPIRY_NOT_SHOWN",
            Severity.WARNING if lapses else Severity.INFO,
            what,
            "bind it to the server's addresses at the exchange" if lapses else "",
        )


def _age(facts: KeyFacts, security: Security, now: datetime) -> Iterator[KeyFinding]:
    if security.max_key_age is None:
        return
    if facts.created_at is None:
        yield KeyFinding(
            "AGE_NOT_SHOWN", security.unverified, "how old it is is not told", "count yourself"
        )
    elif now - facts.created_at > security.max_key_age:
        days = (now - facts.created_at).days
        yield KeyFinding(
            "KEY_OLD",
            Severity.WARNING,
            f"it is {days} days old, maxKeyAge is {security.max_key_age.days}",
            "make a new key",
            {"days": str(days)},
        )


def _twins(twins: tuple[str, ...]) -> Iterator[KeyFinding]:
    if twins:
        names = ", ".join(sorted(twins))
        yield KeyFinding(
            "SAME_KEY_TWICE",
            Severity.WARNING,
            f"the same key is also used by {names}",
            "give each its own: they spend one rate limit, and one change stops both",
            {"also": names},
        )


def _accepted(found: Iterable[KeyFinding], security: Security, today: date) -> Iterator[KeyFinding]:
    """Mark what somebody accepted, until the day before their end; say which end has come."""
    reasons, ended = dict[str, str](), dict[str, date]()
    for accepted in security.exceptions:
        if accepted.until is None or today < accepted.until:
            reasons[accepted.finding] = accepted.reason
        else:
            ended[accepted.finding] = accepted.until
    for finding in found:
        reason, end = reasons.get(finding.code, ""), ended.get(finding.code)
        over = f"; its exception ended on {end}" if end is not None and not reason else ""
        yield replace(finding, what=finding.what + over, accepted=reason)


def _now(answered: Answered, today: date) -> datetime:
    """Return the later of the answer's instant and the beginning of the day: answers are kept."""
    return max(answered.at, datetime.combine(today, time_of_day(), UTC))
