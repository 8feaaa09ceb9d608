"""
The audit before a push: a changed key reaches a server only after its exchange was asked about it.

Only what is about to change is asked about, and only where the documents declare `security`: a
converged pass calls no exchange.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reconciler.apply.execution import Execution
from reconciler.errors import Blocked
from reconciler.model.actions import WriteExchange
from reconciler.model.key_facts import Answered, Status
from reconciler.model.key_policy import KeyFinding
from reconciler.observe.context import Audit

if TYPE_CHECKING:
    from reconciler.exchanges.auditor import KeyToAsk


AGAIN: Final = timedelta(minutes=1)
"""A remembered answer that stops a key is asked for again once it is that old."""


async def ask_first(execution: Execution, action: WriteExchange) -> None:
    """
    Ask the exchange about the key that *action* writes; raise Blocked when it must not be used.

    Only the very versions that we wrote last are not asked about: a correction brings them back.
    """
    audit, visit = execution.context.audit, execution.visit
    declared = next(one for one in execution.desired.exchanges if one.code == action.exchange)
    if audit is None or not declared.security.declared:
        return
    known = visit.recorded.exchanges.get(action.exchange)
    if known is not None and known.wrote_last(dict(action.sources)):
        return
    from reconciler.exchanges.auditor import KeyToAsk  # noqa: PLC0415
    from reconciler.model.key_audits import HERE, KeyId  # noqa: PLC0415  - only who audits pays

    values = visit.values[action.exchange].fields
    egress_of = execution.context.egress_of
    key = KeyToAsk(
        KeyId(execution.desired.name, action.exchange),
        {credential: values[name] for name, credential in action.fields},
        declared.security,
        HERE if egress_of is None else egress_of(execution.desired.name, execution.desired.url),
        execution.seen.log.outgoing,
    )
    answered, stops = await _stops(audit, key)
    if stops and answered.status is not Status.REJECTED:
        # It may have been put right at the exchange since that answer.  Values that it rejects it
        # will hardly accept later, and it locks out who tries them again and again.
        _, stops = await _stops(audit, key, within=AGAIN)
    if stops:
        first = stops[0]
        raise Blocked(f"the audit stops it: {_told(stops)}", first.remedy or "see: jtr audit")


async def _stops(
    audit: Audit, key: "KeyToAsk", within: timedelta | None = None
) -> tuple[Answered, list[KeyFinding]]:
    answered, findings = (await audit([key], within=within))[key.id]
    return answered, [finding for finding in findings if finding.stops]


def _told(findings: list[KeyFinding]) -> str:
    return "; ".join(f"{finding.code}: {finding.what}" for finding in findings)
