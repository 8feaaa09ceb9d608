"""
Audits the keys of all servers now and then, and keeps what exchanges say of them.

A permission that somebody adds at an exchange changes nothing on a server or in Vault: only who
asks finds it.  An exchange is asked about a key once in `durations.auditEvery`.  Whatever else
moves - documents, the address from which a server leaves, a key that was pushed - has remembered
answers judged anew.  A key that was rejected is not asked about again before its values change or
somebody asks for it: exchanges lock out who tries a wrong one again and again.  Only keys with a
declared `security` are audited, and never one whose trader could be disturbed by the question.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from reconciler.controller.shared import SharedState
from reconciler.controller.status import KeyStatus
from reconciler.errors import JtrError, LedgerError, NotSettled
from reconciler.model.desired import DesiredExchange, DesiredServer
from reconciler.model.key_audits import Audited, KeyId, Light
from reconciler.model.key_facts import TRANSIENT, Answered, Status
from reconciler.model.recorded import RecordedAudit
from reconciler.model.values import replace

if TYPE_CHECKING:
    from reconciler.exchanges.auditor import KeyToAsk
    from reconciler.observe.context import Audit
    from reconciler.reconcile.audit_keys import Gathered

LOG: Final = logging.getLogger("reconciler.controller")
RETRY: Final = 24  # what failed is tried so many times as often
EARLY: Final = 0.1  # of the time between two questions; answers that old are asked for together


class Audits:
    """One for each run of the controller.  Event loop only."""

    def __init__(self, shared: SharedState) -> None:
        self._shared: Final = shared
        self._every: Final = timedelta(seconds=shared.context.timeouts.audit_every)
        self._kept: dict[KeyId, RecordedAudit] = {}  # what the ledger has by our own hand

    async def run(self) -> None:
        """Audit when it is time, until cancelled; trouble is said, and it goes on."""
        shared, rest = self._shared, self._shared.context.timeouts.interval
        wait = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await shared.keys_moved.wait()
            shared.keys_moved.clear()
            wait = rest
            if shared.acting():
                wait = await self._audit()
            # What moves at once, a rotation of fifty keys say, is one audit.
            await asyncio.sleep(rest)

    async def _audit(self) -> float:
        """Audit all keys; return after how many seconds the next one is due."""
        shared = self._shared
        retry = self._every.total_seconds() / RETRY
        servers = [one for one in shared.state.servers if any(map(_declared, one.exchanges))]
        audit, egress_of = shared.context.audit, shared.context.egress_of
        if not servers or audit is None or egress_of is None:
            return self._every.total_seconds()
        from reconciler.reconcile.audit_keys import gather_keys  # noqa: PLC0415  - only who audits pays for it

        outgoing = {name: status.outgoing for name, status in shared.status_store.servers.items()}
        try:
            gathered = await gather_keys(
                servers,
                shared.pass_context(),
                wanted=_on_schedule,
                egress_of=egress_of,
                outgoing=outgoing,
            )
            _say_unread(gathered.unread)
            rows = [*gathered.unread, *await self._asked(audit, gathered.keys)]
            await self._keep(rows, gathered, servers)
        except JtrError as error:
            LOG.warning("keys could not be audited: %s", error)
            return retry
        self._show(rows, servers)
        answers = [row.answered for row in rows if row.answered is not None]
        if any(isinstance(row.failure, NotSettled) for row in rows):
            return min(retry, shared.context.timeouts.settle)
        if len(answers) < len(rows) or any(one.status in TRANSIENT for one in answers):
            return retry
        return max(retry, self._left(answers))

    async def _asked(self, audit: "Audit", keys: "Iterable[KeyToAsk]") -> list[Audited]:
        """Ask each exchange on its own: a push to another one must not wait for this."""
        from reconciler.exchanges.registry import entry  # noqa: PLC0415  - as above

        by_exchange = defaultdict(list)
        for key in keys:
            by_exchange[entry(key.id.exchange).family].append(key)
        within = self._every * (1 - EARLY)
        parts = await asyncio.gather(
            *(audit(some, within=within, again=False) for some in by_exchange.values())
        )
        return [
            Audited(key, answered, findings)
            for part in parts
            for key, (answered, findings) in part.items()
        ]

    async def _keep(
        self, rows: Sequence[Audited], gathered: "Gathered", servers: Sequence[DesiredServer]
    ) -> None:
        """Let the ledger know what is new, for pull requests; what it cannot take waits."""
        from reconciler.reconcile.recorded_audits import keep_audits, worth_keeping  # noqa: PLC0415  - as above

        kept = worth_keeping(rows, gathered)
        new = {key: one for key, one in kept.items() if self._kept.get(key) != one}
        try:
            new = await keep_audits(new, servers, self._shared.context)
        except LedgerError as error:
            LOG.warning("what exchanges said of keys is not in the ledger: %s", error)
        else:
            self._kept = {key: one for key, one in self._kept.items() if key in kept} | new

    def _left(self, answers: Iterable[Answered]) -> float:
        """Return the seconds until the oldest answer is old enough to be asked for again."""
        now = self._shared.context.now()
        due = (one.at for one in answers if one.status is not Status.REJECTED)
        oldest = min(due, default=now)
        spread = 1 - EARLY * self._shared.luck()
        return (oldest + self._every * spread - now).total_seconds()

    def _show(self, rows: Sequence[Audited], servers: Iterable[DesiredServer]) -> None:
        """
        Store what was found; what could not be read keeps what was known of it.

        While exchanges were asked a name may have become that of another one of *servers*.
        """
        status_store = self._shared.status_store
        asked = {server.name: (server.url, server.account) for server in servers}
        found: dict[str, dict[str, KeyStatus]] = defaultdict(dict)
        lights = Counter(str(row.light) for row in rows)
        for row in rows:
            if row.answered is not None:
                found[row.key.server][row.key.exchange] = _key_status(row, row.answered)
        for name, keys in found.items():
            status = status_store.servers.get(name)
            if status is None or (status.url, status.account) != asked[name]:
                continue  # its document went while the exchanges were asked
            _say_blocked(name, keys, status.keys)
            status_store.servers[name] = replace(status, keys={**status.keys, **keys})
        LOG.info("keys audited", extra={"fields": {"keys": sum(lights.values()), **lights}})


def _declared(exchange: DesiredExchange) -> bool:
    return exchange.security.declared


def _on_schedule(exchange: DesiredExchange) -> bool:
    from reconciler.exchanges.registry import entry  # noqa: PLC0415  - only who audits pays for it

    adapter = entry(exchange.code).adapter
    return exchange.security.declared and (adapter is None or not adapter.disturbs_trading)


def _key_status(row: Audited, answered: Answered) -> KeyStatus:
    facts = answered.facts
    return KeyStatus(
        row.light,
        row.findings,
        _stamp(answered.at),
        _stamp(facts.expires_at) if facts is not None and facts.expires_at is not None else "",
    )


def _say_unread(rows: Iterable[Audited]) -> None:
    """Write a line for every key that Vault did not give: nothing is known of it meanwhile."""
    for row in rows:
        if isinstance(row.failure, NotSettled):
            continue  # it was written a moment ago
        fields = {"server": row.key.server, "exchange": row.key.exchange, "why": str(row.failure)}
        LOG.warning("a key could not be audited", extra={"fields": fields})


def _say_blocked(
    server: str, keys: Mapping[str, KeyStatus], known: Mapping[str, KeyStatus]
) -> None:
    """Write a line for every key that must not be used from now on."""
    for exchange, key in keys.items():
        before = known.get(exchange)
        if key.light is Light.BLOCKED and (before is None or before.light is not Light.BLOCKED):
            codes = [finding.code for finding in key.findings if finding.stops]
            LOG.warning(
                "a key must not be used as it is",
                extra={"fields": {"server": server, "exchange": exchange, "findings": codes}},
            )


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
