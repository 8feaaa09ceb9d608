"""
Learn from servers that people configured by hand: which of their keys are the ones in Vault.

Nothing is changed at a server.  How a key is judged is the planner's: what a plan calls *found* is
recognised here, and nothing else.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from msgspec import Struct

from reconciler.errors import Exit, InternalError, JtrError, LedgerError, worst
from reconciler.ledger.lease import held
from reconciler.ledger.ledger import Ledger
from reconciler.model.desired import DesiredExchange, DesiredServer, DesiredState
from reconciler.model.observed import ObservedExchange
from reconciler.model.plan import Line, Status, Verdict
from reconciler.model.policy import PolicyAction, against
from reconciler.model.recorded import ExchangeRecord, HistoryEntry, Write
from reconciler.model.references import FrozenRef, SecretRef
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.evidence import write_of
from reconciler.observe.visit import Visit, first_visit, view
from reconciler.plan.compare import Shown
from reconciler.plan.exchange import ASK_TAKE_OVER
from reconciler.plan.inputs import Consents
from reconciler.plan.recipients import receiving
from reconciler.reconcile.survey import look

_CODE: Final = re.compile(r"[a-z0-9-]{1,40}")  # as documents have it


class AdoptedKey(Struct, frozen=True):
    """
    An exchange that a server has a key of, and what was found out about that.

    `secret` is where its key should be in Vault, `version` the one that was compared (0: none).
    `fill` says that the server may have what Vault lacks; `asks` are the credentials' names.
    """

    code: str
    recognised: bool
    secret: SecretRef | None = None
    version: int = 0
    why: str = ""
    remedy: str = ""
    fill: bool = False
    asks: tuple[str, ...] = ()


@dataclass(slots=True)
class Adoption:
    """One server: its visit, what it has keys of, and which of these were recorded."""

    visit: Visit
    drafted: bool  # its document is yet to be written
    declared: frozenset[str] = frozenset()  # exchanges that its document names already
    keys: tuple[AdoptedKey, ...] = ()
    recorded: dict[str, int] = field(default_factory=dict)  # at which version
    refused: dict[str, str] = field(default_factory=dict)  # why what was recognised is not recorded
    failure: JtrError | None = None

    @classmethod
    def of(cls, server: DesiredServer, *, drafted: bool) -> Self:
        """Return one of which nothing is known yet."""
        declared = frozenset(exchange.code for exchange in server.exchanges)
        return cls(first_visit(server), drafted, declared)

    @property
    def seen(self) -> bool:
        """Whether the server was read, and is the one that it should be."""
        return self.visit.observed is not None and self.stopped is None

    @property
    def settled(self) -> bool:
        """Whether nothing speaks against what is known of it."""
        return self.seen and not self.visit.plan.held_code

    @property
    def stopped(self) -> JtrError | None:
        return self.visit.plan.failure or self.failure

    @property
    def exit_code(self) -> Exit:
        plan = self.visit.plan
        open_ends = any(not key.recognised for key in self.keys) or bool(self.refused)
        failed = self.stopped.exit_code if self.stopped is not None else Exit.DONE
        return worst([failed, plan.held_code, Exit.BLOCKED if open_ends else Exit.DONE])


def candidate(pattern: str, server: str, code: str) -> SecretRef | None:
    """
    Return where *pattern* says that the key of an exchange is; None where that is no path.

    The code is the server's own word, and must not lead to another secret.
    """
    if not _CODE.fullmatch(code):
        return None
    path = pattern.replace("{server}", server).replace("{exchange}", code)
    return SecretRef.parse(f"vault:{path.removeprefix('vault:')}")


async def adopt(
    adoption: Adoption, state: DesiredState, pattern: str, consents: Consents, context: PassContext
) -> None:
    """
    Look at one server and find out which of its keys Vault has; leaves the session open.

    With a *pattern* (not empty) exchanges that its document does not name are looked for there.
    """
    try:
        await _adopt(adoption, state, pattern, consents, context)
    except Exception as error:  # noqa: BLE001  - the others are looked at all the same
        adoption.failure = InternalError(error)


async def _adopt(
    adoption: Adoption, state: DesiredState, pattern: str, consents: Consents, context: PassContext
) -> None:
    visit = adoption.visit
    server = visit.desired
    await look(visit, state, consents, context)
    if visit.observed is None or not adoption.settled:
        return
    there = {one.code: one for one in visit.observed.exchanges if not one.empty}
    places = {code: candidate(pattern, server.name, code) for code in there} if pattern else {}
    added = tuple(
        DesiredExchange(code, server.source, secret=ref)
        for code, ref in sorted(places.items())
        if ref is not None and server.exchange(code) is None
    )
    if added:
        visit.desired = replace(server, exchanges=(*server.exchanges, *added))
        await look(visit, state, consents, context)
    if adoption.seen:
        lines = {line.exchange: line for line in visit.plan.lines}
        adoption.keys = tuple(
            _judged(visit, there[code], lines.get(code), context) for code in sorted(there)
        )


def _judged(
    visit: Visit, observed: ObservedExchange, line: Line | None, context: PassContext
) -> AdoptedKey:
    code = observed.code
    asks = tuple(sorted(one.credential for one in observed.fields))
    exchange = visit.desired.exchange(code)
    if line is None or exchange is None or not exchange.references:
        why = "no document and no path names it"
        return AdoptedKey(code, recognised=False, why=why, asks=asks)
    secret = exchange.secret
    version = _version(visit.sources.get(code, {}))
    denied = against(visit.violations, PolicyAction.WRITE, code)
    if denied is not None:
        return AdoptedKey(code, False, secret, why=denied.what, remedy=denied.remedy)
    if (earlier := _found_earlier(visit, line, context)) is not None:
        return AdoptedKey(code, True, secret, _version(earlier.sources), asks=asks)
    if line.status in (Status.FOUND, Status.IN_SYNC):
        return AdoptedKey(code, True, secret, version, asks=asks)
    # What is not there yet, or differs for certain: only the person who has the key can fill it.
    lacks = line.status is Status.FAILED and line.error is Exit.SECRETS
    differs = line.status is Status.BLOCKED and line.verdict is Verdict.DIFFERENT
    return AdoptedKey(
        code,
        False,
        secret,
        version,
        line.why,
        line.remedy,
        fill=lacks or differs,
        asks=asks,
    )


def _found_earlier(visit: Visit, line: Line, context: PassContext) -> Write | None:
    """
    Return what an apply found there, if that is what still stands there although Vault went on.

    It was recognised then, so it is as good as recognised now; any other foreign key is not.
    """
    found = visit.recorded.exchanges.get(line.exchange, ExchangeRecord(line.exchange)).found
    if found is None or line.asks != ASK_TAKE_OVER or visit.observed is None:
        return None
    paths = {ref.at for ref in visit.sources.get(line.exchange, {}).values()}
    same = {ref.at for ref in found.sources.values()} == paths
    stands = Shown.of(view(visit, context), line.exchange).is_all(found)
    return found if same and stands else None


def _version(sources: Mapping[str, FrozenRef]) -> int:
    return max((ref.version for ref in sources.values()), default=0)


async def record(
    adoption: Adoption, state: DesiredState, consents: Consents, context: PassContext
) -> None:
    """
    Note in the ledger that what was recognised is ours, at the version that it was compared with.

    The server is read once more while nobody else may apply to it.  What it was not agreed to get
    is left out: a path in the ledger counts as agreed.
    """
    visit, ledger = adoption.visit, context.ledger
    if ledger is None:
        raise AssertionError
    before = _to_record(visit, context)
    if not adoption.settled or not before:
        return
    try:
        desired = visit.desired
        identity = await asyncio.to_thread(
            ledger.pin, desired.target, desired.name, new=visit.recorded.identity is None
        )
        visit.recorded = replace(visit.recorded, identity=identity)
        # Or a login that nobody was asked about would look like one of an earlier version.
        received = receiving(desired, (), visit.recorded)
        await asyncio.to_thread(ledger.receive, identity.uid, received)
        lease = await asyncio.to_thread(ledger.lease, identity.uid)
        async with held(lease, context.timeouts.lease) as check:
            visit.values.clear()  # of the version that was the newest before
            await look(visit, state, consents, context)
            if adoption.stopped is not None or visit.plan.held_code:
                return
            now = _to_record(visit, context)
            for code in now:
                check()
                await _record_key(adoption, code, ledger, context)
            for code in sorted(set(before).difference(now)):
                adoption.refused[code] = (
                    "it changed meanwhile, at the server or in Vault; try again"
                )
            await asyncio.to_thread(ledger.observe, visit.uid, view(visit, context))
            await asyncio.to_thread(ledger.record, visit.uid, _history(adoption, context))
    except JtrError as error:
        adoption.failure = error


def _to_record(visit: Visit, context: PassContext) -> list[str]:
    """Return the exchanges whose keys are recognised and not ours yet."""
    return [
        line.exchange
        for line in visit.plan.lines
        if line.status is Status.FOUND or _found_earlier(visit, line, context) is not None
    ]


async def _record_key(adoption: Adoption, code: str, ledger: Ledger, context: PassContext) -> None:
    visit = adoption.visit
    if not adoption.drafted and code not in adoption.declared:
        adoption.refused[code] = "its document does not name it yet; then run this again"
        return
    sources = visit.sources[code]
    withheld = visit.withheld.paths if visit.withheld is not None else frozenset()
    if fresh := sorted({str(ref.at) for ref in sources.values()} & set(map(str, withheld))):
        adoption.refused[code] = (
            f"nobody agreed yet that this server gets {', '.join(fresh)}; if that is right: "
            f"--approve-recipient {visit.desired.name}"
        )
        return
    write = _found(visit, code, context)
    boot = visit.observed.log.boot if visit.observed is not None else None
    try:
        await asyncio.to_thread(ledger.adopt, visit.uid, code, write, boot=boot)
    except LedgerError as error:
        adoption.refused[code] = str(error)
        return
    adoption.recorded[code] = _version(write.sources)


def _found(visit: Visit, code: str, context: PassContext) -> Write:
    """Return what was recognised: from the values, or where an apply noted it, from that."""
    observed = visit.observed.exchange(code) if visit.observed is not None else None
    record = visit.recorded.exchanges.get(code, ExchangeRecord(code))
    line = next(line for line in visit.plan.lines if line.exchange == code)
    earlier = _found_earlier(visit, line, context)
    if earlier is None and code not in visit.values:
        earlier = record.found
    if earlier is not None:
        return replace(earlier, at=context.stamp())
    if observed is None:
        raise AssertionError
    return write_of(
        context.driver,
        visit.values[code],
        observed,
        visit.sources[code],
        context.fingerprints,
        uid=visit.uid,
        at=context.stamp(),
    )


def _history(adoption: Adoption, context: PassContext) -> list[HistoryEntry]:
    return [
        context.deed(f"adopt {code}", "recorded as ours", _told(adoption, code))
        for code in sorted(adoption.recorded)
    ]


def _told(adoption: Adoption, code: str) -> str:
    key = next(key for key in adoption.keys if key.code == code)
    if key.secret is not None:
        return str(replace(key.secret, version=adoption.recorded[code]))
    refs = adoption.visit.sources[code].values()
    return ", ".join(sorted({str(replace(ref, field=None)) for ref in refs}))
