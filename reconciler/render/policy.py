"""What a policy says of documents, as text for people and as JSON."""

from collections.abc import Iterator, Sequence

from reconciler.errors import Exit
from reconciler.model.desired import DesiredServer
from reconciler.model.policy import Violation
from reconciler.model.wording import counted
from reconciler.policy.cases import CaseResult, called
from reconciler.policy.model import Decision, Policy
from reconciler.render.escape import plain
from reconciler.render.json_values import Document, to_json
from reconciler.render.phrases import INDENT, below, server_line

Checked = Sequence[tuple[DesiredServer, tuple[Violation, ...]]]


def check_text(policy: Policy, found: Checked) -> str:
    rows: list[str] = []
    for server, violations in found:
        if violations:
            rows.append(f"{server_line(server.name, server.target)}  {plain(server.place, 400)}")
            rows.extend(f"  ! {plain(one.what, 600)}" for one in violations)
            for remedy in dict.fromkeys(one.remedy for one in violations):
                rows.extend(below(remedy))
    denied = sum(len(violations) for _, violations in found)
    asks = sum(1 for server, _ in found for _ in policy.decisions(server))
    rows.append(
        f"Policy: {counted(len(found), 'server')}, {asks - denied} allowed, {denied} denied."
    )
    return "\n".join(rows) + "\n"


def check_document(policy: Policy, found: Checked, code: Exit) -> Document:
    return {
        "formatVersion": 1,
        "exitCode": int(code),
        "policy": policy.source,
        "servers": [
            {
                "server": server.name,
                "url": server.target.url,
                "file": server.place,
                "source": to_json(server.source),
                "violations": to_json(violations),
            }
            for server, violations in found
        ],
    }


def explain_text(policy: Policy, server: DesiredServer) -> str:
    rows = [
        server_line(server.name, server.target, owner=server.owner),
        f"  file {plain(server.place, 400)}",
        f"  policy {plain(policy.source, 400)}",
        *(row for one in policy.decisions(server) for row in _decision(policy, server, one)),
    ]
    if policy.require_binding:
        rows.append("  = requireBinding: each secret's owner must name the address (jtr_targets)")
    return "\n".join(rows) + "\n"


def _decision(policy: Policy, server: DesiredServer, decision: Decision) -> Iterator[str]:
    ask = decision.ask
    path = "" if ask.path is None else f" {ask.path}"
    what = " ".join(filter(None, (called(ask), ask.exchange))) + path
    if decision.allowed:
        yield f"  + {what}: allowed by {decision.rule}"
        return
    if decision.lacks:
        yield f"  ! {what}: {decision.rule} wants {decision.lacks}"
        return
    if decision.rule is not None:
        yield f"  ! {what}: denied by {decision.rule}"
        return
    yield f"  ! {what}: no rule allows it"
    for rule in filter(lambda rule: rule.allows, policy.rules):
        why = rule.misses(server) or rule.passes_over(server, ask)
        yield f"{INDENT}{rule}: {plain(why, 400)}"


def explain_document(policy: Policy, server: DesiredServer, code: Exit) -> Document:
    return {
        "formatVersion": 1,
        "exitCode": int(code),
        "policy": policy.source,
        "server": server.name,
        "url": server.target.url,
        "file": server.place,
        "requireBinding": policy.require_binding,
        "decisions": [
            {
                "action": called(one.ask),
                "exchange": one.ask.exchange,
                "secret": "" if one.ask.path is None else str(one.ask.path),
                "allowed": one.allowed,
                "rule": "" if one.rule is None else f"{one.rule.number} {one.rule.name}",
                "lacks": one.lacks,
                "rules": {
                    rule.name: rule.misses(server) or rule.passes_over(server, one.ask)
                    for rule in policy.rules
                    if one.rule is None and rule.allows
                },
            }
            for one in policy.decisions(server)
        ],
    }


def cases_text(results: Sequence[CaseResult]) -> str:
    rows: list[str] = []
    for result in results:
        mark = "!" if result.failures else "✓"
        rows.append(f"{mark} {plain(result.name, 200)}  {counted(result.checked, 'row')}")
        rows.extend(f"{INDENT}{plain(failure, 600)}" for failure in result.failures)
    failed = sum(bool(result.failures) for result in results)
    rows.append(f"Cases: {len(results)}, {failed} not as expected.")
    return "\n".join(rows) + "\n"


def cases_document(results: Sequence[CaseResult], code: Exit) -> Document:
    return {
        "formatVersion": 1,
        "exitCode": int(code),
        "cases": [
            {"case": one.name, "rows": one.checked, "failures": list(one.failures)}
            for one in results
        ],
    }
