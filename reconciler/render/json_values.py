"""
Values of the model as JSON values: a table says what of each type is shown, in which order.

Whatever is not in the table is refused: neither a value of a secret, nor a mask or a fingerprint
can be shown by mistake.
"""

import enum
import functools
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from operator import attrgetter
from typing import Any, Final

from reconciler.errors import JtrError
from reconciler.model.actions import (
    Consequence,
    DeleteExchange,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.conditions import Condition
from reconciler.model.explanation import Check, Explanation, Source
from reconciler.model.key_facts import Grant
from reconciler.model.key_policy import KeyFinding, Severity
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome
from reconciler.model.plan import Disruption, Line, ServerPlan
from reconciler.model.policy import Violation
from reconciler.model.recipients import NewRecipient, Recipient
from reconciler.model.recorded import Debt, HistoryEntry, PendingStarts, Request
from reconciler.model.references import FrozenRef, SecretPath, SecretRef
from reconciler.model.source import SourceLine
from reconciler.model.timestamps import spelled

Document = dict[str, Any]

SHOWN: Final[Mapping[type, str]] = {
    Check: "claim holds what code remedy since below",
    Condition: "code what remedy exitCode=exit",
    Consequence: "need robots",
    Debt: "owed exchange since robotId robotName",
    DeleteExchange: "exchange fields",
    Disruption: "what standing code why remedy action kind instant robots source exitCode=error",
    KeyFinding: "code severity what remedy data accepted stops",
    Grant: "name=raw permissions=caps access separable evidence",
    Explanation: "subject stands does condition held checks sources remedies at",
    HistoryEntry: (
        "at by what result detail revision=origin.revision pull=origin.pull mergedBy=origin.by"
    ),
    InvalidateCache: "instant reason",
    Line: (
        "exchange status verdict category reason code why remedy asks action sources consequence"
        " source note since exitCode=error"
    ),
    NewRecipient: "kind what",
    Outcome: "action result detail remedy exitCode=code robotsStopped=stopped",
    PendingStarts: "origin robots stoppedAt=at by withinSeconds=within finding",
    RebootServer: "instant reason robots again",
    Recipient: "server url=target.url account=target.account login paths",
    Request: "kind instant reason stage askedAt closedAt closedBy evidence",
    RestartRobots: "exchange robots",
    Source: "kind what",
    ResumeRobots: "robots",
    Robot: "id name exchange running",
    Violation: "action exchange rule what remedy",
    ServerPlan: (
        "server url=target.url account=target.account owner version observedAt ageSeconds=age"
        " exitCode newRecipient violations code held remedy=held_remedy failure lines disruptions"
        " actions later debts robots notes"
    ),
}
"""The names in JSON; `name=attribute` where the attribute is not the same in snake case."""

_KINDS: Final = {
    DeleteExchange: "delete",
    ResumeRobots: "resume",
    RestartRobots: "restart",
    InvalidateCache: "invalidate-cache",
    RebootServer: "reboot",
}


def to_json(value: Any) -> Any:
    """Return a value as JSON has it.  Raises TypeError for what is not to be shown."""
    return _converter(value.__class__)(value)


@functools.cache
def _converter(kind: type) -> Callable[[Any], Any]:
    for types, convert in _AS:
        if issubclass(kind, types):
            return convert
    if kind not in SHOWN:
        raise TypeError(f"{kind.__name__} is not to be shown")
    named = {"kind": _KINDS[kind]} if kind in _KINDS else {}
    return lambda value: named | shown(value, SHOWN[kind])


def _write(action: WriteExchange) -> Document:
    return {
        "kind": "write",
        "exchange": action.exchange,
        "fields": [name for name, _ in action.fields],
        "sources": [str(ref) for _, ref in action.sources],
        "purpose": str(action.purpose),
    }


_AS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (Severity, lambda severity: severity.name.lower()),
    (enum.IntEnum, int),
    ((enum.StrEnum, SourceLine, IPv4Network, IPv6Network), str),
    ((FrozenRef, SecretRef, SecretPath), str),
    ((bool, int, float, str, type(None)), lambda value: value),
    (datetime, spelled),
    (Mapping, lambda found: {str(key): to_json(one) for key, one in found.items()}),
    (frozenset, lambda found: sorted(map(str, found))),
    ((tuple, list), lambda found: [to_json(one) for one in found]),
    (JtrError, lambda e: {"kind": type(e).__name__} | shown(e, "what remedy transient")),
    (WriteExchange, _write),
)


def shown(value: object, names: str) -> Document:
    return {name: to_json(read(value)) for name, read in _readers(names)}


@functools.cache
def _readers(names: str) -> tuple[tuple[str, Callable[[object], object]], ...]:
    found = []
    for word in names.split():
        name, _, attribute = word.partition("=")
        snake = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
        found.append((name, attrgetter(attribute or snake)))
    return tuple(found)
