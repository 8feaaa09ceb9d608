"""
How the tables of documented answers are read: as the documentation prints them, and as ccxt hands
them over, which quotes every number unless orjson is installed; and how their facts are judged.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import strategies

from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.judge import judge
from reconciler.exchanges.parse import NotUnderstood
from reconciler.model.key_facts import (
    Access,
    Answered,
    Cap,
    Environment,
    Grant,
    KeyFacts,
    Status,
)
from reconciler.model.key_policy import KeyFinding, Security, Severity

KEY = "documented-key"
WALLET = "0x5e9ee1089755c3435139848e47e6635505d5a13a"
CREDENTIALS = {"apiKey": KEY, "secret": "s", "password": "p", "walletAddress": WALLET}
AT = datetime(2025, 11, 22, 9, 0, tzinfo=UTC)
WANTED = Security(
    ip_whitelist=(ip_network("203.0.113.10"),),
    require=frozenset({Cap.SPOT, Cap.PERPETUAL}),
    declared=True,
)


def grant(raw: str, *caps: Cap, **fields: Any) -> Grant:
    """Return a reported grant; with several capabilities it is a coarse one."""
    return Grant(raw, frozenset(caps), **{"separable": len(caps) == 1, **fields})


def reading(raw: str, *caps: Cap) -> Grant:
    """Return a grant that only shows, the account if no other capability is named."""
    return grant(raw, *(caps or (Cap.ACCOUNT_READ,)), access=Access.READ)


def check(
    adapter: Adapter,
    answer: Any,
    expected: KeyFacts,
    environment: Environment = Environment.LIVE,
) -> None:
    """Assert that *answer*, quoted or not, is understood as exactly *expected*."""
    text = json.dumps(answer)
    for read in (json.loads(text), json.loads(text, parse_int=str, parse_float=str)):
        assert adapter.parse([read], CREDENTIALS, environment) == expected


def findings(
    adapter: Adapter,
    facts: KeyFacts,
    environment: Environment = Environment.LIVE,
    *,
    from_server: bool = False,
    wanted: Security = WANTED,
) -> list[str]:
    """Return what is to be said of these facts, as severity and code, the worst first."""
    found = judged(adapter, facts, environment, from_server=from_server, wanted=wanted)
    return [f"{finding.severity.name} {finding.code}" for finding in found]


def judged(
    adapter: Adapter,
    facts: KeyFacts,
    environment: Environment = Environment.LIVE,
    *,
    from_server: bool = False,
    wanted: Security = WANTED,
) -> tuple[KeyFinding, ...]:
    """Return what is to be said of these facts."""
    return judge(
        Answered(Status.VALID, AT, facts, adapter=adapter.ccxt_id),
        wanted,
        adapter=adapter,
        environment=environment,
        today=AT.date(),
        from_server=from_server,
    )


def worst(
    adapter: Adapter, answer: Any, wanted: Security, usual: Collection[tuple[str, str]] = ()
) -> Severity:
    """
    Return how bad the worst is that is said of an answer, besides the *usual*.

    What is not understood is a warning: nothing was learnt.
    """
    try:
        facts = adapter.parse([answer], CREDENTIALS, Environment.LIVE)
    except NotUnderstood:
        return Severity.WARNING
    found = judged(adapter, facts, wanted=wanted)
    return max((one.severity for one in found if named(one) not in usual), default=Severity.INFO)


def named(finding: KeyFinding) -> tuple[str, str]:
    """Return what a finding is about: its code, and the permission of those about one."""
    return finding.code, finding.data.get("permission", "")


def with_fields(answer: Any, name: str, values: Sequence[Any]) -> Iterator[Any]:
    """Yield *answer* with another field of that name in each of its objects."""
    if isinstance(answer, dict):
        yield from ({**answer, name: value} for value in values if name not in answer)
    for key, inner in _inner(answer):
        for other in with_fields(inner, name, values):
            yield _with(answer, key, other)


def without_fields(answer: Any) -> Iterator[tuple[str, Any]]:
    """Yield *answer* without each field of each of its objects, by the path of that."""
    if isinstance(answer, dict):
        for gone in answer:
            yield gone, {key: inner for key, inner in answer.items() if key != gone}
    for key, inner in _inner(answer):
        for path, other in without_fields(inner):
            yield f"{key}.{path}", _with(answer, key, other)


def with_others(answer: Any, values: Sequence[Any]) -> Iterator[Any]:
    """Yield *answer* with each of these values in each of its places."""
    yield from values
    for key, inner in _inner(answer):
        for other in with_others(inner, values):
            yield _with(answer, key, other)


def _inner(answer: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(answer, dict):
        return answer.items()
    return enumerate(answer) if isinstance(answer, list) else ()


def _with(answer: Any, key: Any, inner: Any) -> Any:
    copy = dict(answer) if isinstance(answer, dict) else list(answer)
    copy[key] = inner
    return copy


def refusal(adapter: Adapter, code: str) -> KeyFinding:
    """Return the worst that is to be said after an answer with this error code."""
    refused = Answered(adapter.codes[code], AT, code=code, adapter=adapter.ccxt_id)
    return judge(
        refused,
        WANTED,
        adapter=adapter,
        environment=Environment.LIVE,
        today=AT.date(),
        from_server=False,
    )[0]


def refuse(
    adapter: Adapter, answers: Sequence[Any], environment: Environment = Environment.LIVE
) -> None:
    """Assert that *answers* are not understood, and that nothing of them is repeated."""
    with pytest.raises(NotUnderstood) as caught:
        adapter.parse(answers, CREDENTIALS, environment)
    assert KEY not in str(caught.value)
    assert "hostile" not in str(caught.value)


def changed(record: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return *record* with another value at a dotted *path*; `...` takes the field away."""
    head, _, rest = path.partition(".")
    copy = dict(record)
    if rest:
        inner = copy[head]
        if isinstance(inner, list):
            index, _, rest = rest.partition(".")
            copy[head] = [
                changed(item, rest, value) if position == int(index) else item
                for position, item in enumerate(inner)
            ]
        else:
            copy[head] = changed(inner, rest, value)
    elif value is ...:
        del copy[head]
    else:
        copy[head] = value
    return copy


_SCALARS = (
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=12)
    | strategies.sampled_from(["0", "*", "-1", "1970-01-01T00:00:00Z", "::/0", "\ud800"])
)
_JSON = strategies.recursive(
    _SCALARS,
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def mangled(answer: Any) -> strategies.SearchStrategy[Any]:
    """Return *answer* with any JSON, or nothing, in one or two of its places."""
    places = [path for path in _paths(answer) if path]

    def replace(changes: list[tuple[str, Any]]) -> Any:
        result = answer
        for path, value in changes:
            try:
                result = changed(result, path, value)
            except (KeyError, TypeError, ValueError, IndexError):
                continue  # the first change took the place of the second away
        return result

    values = _JSON | strategies.just(...)
    change = strategies.tuples(strategies.sampled_from(places), values)
    return strategies.lists(change, min_size=1, max_size=2).map(replace) | _JSON


def survives(adapter: Adapter, answer: Any, environment: Environment = Environment.LIVE) -> None:
    """Assert that *answer* gives facts or `NotUnderstood`, and facts whose names can be shown."""
    try:
        facts = adapter.parse([answer], CREDENTIALS, environment)
    except NotUnderstood:
        return
    for grant in facts.grants or ():
        assert grant.raw.isascii()
        assert grant.raw.isprintable()


def _paths(value: Any, path: str = "") -> list[str]:
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        inner = [("0", value[0])]
    found = [] if path.endswith("0") and inner else [path]
    for key, item in inner:
        found += _paths(item, f"{path}.{key}" if path else key)
    return found
