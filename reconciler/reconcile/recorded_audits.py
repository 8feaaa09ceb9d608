"""
What exchanges said of keys, kept in the ledger for whoever may read no key: pull requests.

Facts, which are judged anew by the documents at hand.  They are shown and decide nothing: before a
push the exchange is asked itself.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC
from ipaddress import ip_address
from typing import Final

from msgspec import Struct

from reconciler.errors import JtrError
from reconciler.exchanges import registry
from reconciler.exchanges.judge import judge
from reconciler.exchanges.judge.addresses import Address
from reconciler.exchanges.judge.findings import not_asked
from reconciler.ledger.ledger import Ledger
from reconciler.model.desired import DesiredExchange, DesiredServer, Presence
from reconciler.model.key_audits import Audited, KeyId
from reconciler.model.key_facts import TRANSIENT, Answered, Status
from reconciler.model.key_policy import KeyFinding
from reconciler.model.recorded import RecordedAudit
from reconciler.model.references import FrozenRef
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.reconcile.audit_keys import Gathered

_TIMELESS: Final = frozenset(
    {Status.MALFORMED, Status.UNSUPPORTED}
)  # nobody is asked: any time will do
_AT_ONCE: Final = 16  # servers whose rows are read


def worth_keeping(rows: Iterable[Audited], gathered: Gathered) -> dict[KeyId, RecordedAudit]:
    """Return what the ledger should hold of *rows*: whatever proves something."""
    keys = {key.id: key for key in gathered.keys}
    kept = {}
    for row in rows:
        answered, asked = row.answered, keys.get(row.key)
        if answered is None or asked is None or answered.status in TRANSIENT:
            continue
        kept[row.key] = RecordedAudit(
            gathered.frozen[row.key],
            replace(answered, requests=()),
            from_server=asked.egress.server,
            outgoing=asked.outgoing,
            twins=_twins(row.findings),
        )
    return kept


async def keep_audits(
    found: Mapping[KeyId, RecordedAudit], servers: Iterable[DesiredServer], context: PassContext
) -> dict[KeyId, RecordedAudit]:
    """
    Note *found* in the ledger, where there is one that knows the server, and return what it has.

    Raises LedgerError.
    """
    ledger = context.ledger
    if ledger is None:
        return {}
    by_server: dict[str, dict[KeyId, RecordedAudit]] = defaultdict(dict)
    for key, one in found.items():
        by_server[key.server][key] = one
    kept: dict[KeyId, RecordedAudit] = {}
    for server in servers:
        if of_it := by_server.get(server.name):
            by_code = {key.exchange: one for key, one in of_it.items()}
            if await asyncio.to_thread(_keep, ledger, server, by_code):
                kept |= of_it
    return kept


def _keep(ledger: Ledger, server: DesiredServer, found: Mapping[str, RecordedAudit]) -> bool:
    identity = ledger.find(server.target, server.name)
    if identity is None or identity.target != server.target:
        return False  # its first apply tells what it is
    known = ledger.audits(identity.uid)
    ledger.note_audits(
        identity.uid, {code: _kept(known.get(code), one) for code, one in found.items()}
    )
    return True


def _kept(before: RecordedAudit | None, found: RecordedAudit) -> RecordedAudit:
    """Return *found*; what was there where only the time of asking nobody differs."""
    if before is None or found.answered.status not in _TIMELESS:
        return found
    same = replace(found, answered=replace(found.answered, at=before.answered.at))
    return before if before == same else found


def _twins(findings: Iterable[KeyFinding]) -> tuple[str, ...]:
    names = next((one.data["also"] for one in findings if one.code == "SAME_KEY_TWICE"), "")
    return tuple(names.split(", ")) if names else ()


# ── and back ─────────────────────────────────────────────────────────────────────────────────


class Recalled(Struct, frozen=True):
    """
    What is known of the keys of planned servers.

    `rows` has each key that was asked about, or that should have been.  `known` says whether
    anything was remembered at all; `trouble` why something could not be read.
    """

    rows: tuple[Audited, ...]
    known: bool
    trouble: str = ""


async def recall_audits(visits: Sequence[Visit], context: PassContext) -> Recalled:
    """Return what the ledger knows of the keys of *visits*, judged by their documents."""
    gate = asyncio.Semaphore(_AT_ONCE)
    troubles: list[str] = []

    async def one(visit: Visit) -> Mapping[str, RecordedAudit]:
        if context.ledger is None or not visit.uid:
            return {}
        async with gate:
            try:
                return await asyncio.to_thread(context.ledger.audits, visit.uid)
            except JtrError as error:
                troubles.append(str(error))
                return {}

    found = await asyncio.gather(*map(one, visits))
    rows = [
        row
        for visit, audits in zip(visits, found, strict=True)
        for exchange in visit.desired.exchanges
        if (row := _row(visit, exchange, audits.get(exchange.code), context)) is not None
    ]
    return Recalled(tuple(rows), any(found), troubles[0] if troubles else "")


def _row(
    visit: Visit, exchange: DesiredExchange, known: RecordedAudit | None, context: PassContext
) -> Audited | None:
    """Return what is to be said of one key; None where nobody was ever to ask about it."""
    if exchange.presence is not Presence.PRESENT or not registry.has_keys(exchange.code):
        return None
    key = KeyId(visit.desired.name, exchange.code)
    sources = visit.sources.get(exchange.code)
    if known is None or (sources is not None and dict(sources) != dict(known.sources)):
        if known is None and not exchange.security.declared:
            return None
        return Audited(key, findings=(_not_asked(known, sources),), security=exchange.security)
    answered = known.answered
    findings = _judged(known, exchange, context)
    return Audited(key, answered, findings, security=exchange.security)


def _judged(
    known: RecordedAudit, exchange: DesiredExchange, context: PassContext
) -> tuple[KeyFinding, ...]:
    answered, entry = known.answered, registry.entry(exchange.code)
    earlier = None
    if answered.facts_at is not None:
        earlier = Answered(Status.VALID, answered.facts_at, answered.facts)
        answered = replace(answered, facts=None)
    return judge(
        answered,
        exchange.security,
        adapter=entry.adapter,
        environment=entry.environment,
        today=context.now().astimezone(UTC).date(),
        server_addresses=tuple(_addresses(known.outgoing)),
        fingerprint_twins=known.twins,
        from_server=known.from_server,
        earlier=earlier,
    )


def _addresses(texts: Iterable[str]) -> Iterator[Address]:
    for text in texts:
        with suppress(ValueError):
            yield ip_address(text)


def _not_asked(known: RecordedAudit | None, sources: Mapping[str, FrozenRef] | None) -> KeyFinding:
    now = _versions(sources or {})
    what = f"no exchange was asked about {now or 'this key'} yet"
    if known is not None:
        what += f"; what was said of {_versions(known.sources)} counts for it no more"
    return not_asked(what)


def _versions(sources: Mapping[str, FrozenRef]) -> str:
    return ", ".join(sorted({f"{ref.at}@{ref.version}" for ref in sources.values()}))
