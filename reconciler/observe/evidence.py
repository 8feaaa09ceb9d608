"""
What values prove against what a server shows, and both as they may be remembered.

This is the only place where the values of credentials meet masks.  What leaves it towards planner,
ledger and people are verdict material and keyed fingerprints.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from reconciler.drivers import Driver
from reconciler.model.evidence import Evidence
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.observed import ObservedExchange, ObservedServer
from reconciler.model.recorded import ExchangeRecord, Observation, Write
from reconciler.model.references import FrozenRef
from reconciler.model.secret import Secret

WEAK_BITS: Final = 16.0  # below this a mask proves too little; docs/concepts/verdicts.md


class Values(Struct, frozen=True):
    """The values of one exchange by the server's field names; lives as briefly as possible."""

    fields: Mapping[str, Secret]
    ignored: tuple[str, ...] = ()


def evidence_of(
    driver: Driver,
    fingerprints: Fingerprints,
    values: Values,
    observed: ObservedExchange,
    record: ExchangeRecord,
    *,
    uid: str,
) -> Evidence:
    """Say what the values tell about what is shown and what was written, without them."""
    matches = frozenset(
        f.name for f in observed.fields if f.mask == driver.mask(values.fields[f.name])
    )
    # A write of unknown outcome may have left other values for a while, and robots took them.
    known = [w for w in (record.written, record.intent, *record.earlier) if w is not None]
    slots = _slots(values, observed, fingerprints, uid)
    unchanged = record.written is not None and all(
        w.key_id == fingerprints.key_id and dict(w.values) == slots for w in known
    )
    api_key, companions = _pair(values, observed, fingerprints, uid)
    api_key_field = next((f.name for f in observed.fields if f.credential == "apiKey"), None)
    return Evidence(
        matches=matches,
        weak=weak(driver, values),
        unchanged=unchanged,
        api_key=api_key,
        companions=companions,
        same_api_key=api_key_field is None or api_key_field in matches,
        ignored=values.ignored,
    )


def weak(driver: Driver, values: Values) -> bool:
    """Whether the mask of at least one value proves too little."""
    return any(driver.mask_bits(v) < WEAK_BITS for v in values.fields.values())


def write_of(
    driver: Driver,
    values: Values,
    observed: ObservedExchange,
    sources: Mapping[str, FrozenRef],
    fingerprints: Fingerprints,
    *,
    uid: str,
    at: str,
) -> Write:
    """Return the row that the ledger keeps of a write (or of a find) of these values."""
    code = observed.code
    api_key, companions = _pair(values, observed, fingerprints, uid)
    return Write(
        sources=dict(sources),
        values=_slots(values, observed, fingerprints, uid),
        masks={
            name: fingerprints.mask(uid, code, name, driver.mask(value))
            for name, value in values.fields.items()
        },
        key_id=fingerprints.key_id,
        at=at,
        weak=weak(driver, values),
        api_key=api_key,
        companions=companions,
    )


def _slots(
    values: Values, observed: ObservedExchange, fingerprints: Fingerprints, uid: str
) -> dict[str, str]:
    return {
        name: fingerprints.slot(uid, observed.code, name, value)
        for name, value in values.fields.items()
    }


def _pair(
    values: Values, observed: ObservedExchange, fingerprints: Fingerprints, uid: str
) -> tuple[str, str]:
    by_credential = {f.credential: values.fields[f.name] for f in observed.fields}
    key = {name: value for name, value in by_credential.items() if name == "apiKey"}
    rest = {name: value for name, value in by_credential.items() if name != "apiKey"}
    return (
        fingerprints.joined(uid, observed.code, key),
        fingerprints.joined(uid, observed.code, rest),
    )


def recorded_view(
    observed: ObservedServer,
    fingerprints: Fingerprints,
    uid: str,
    *,
    at: str,
    by: str,
    before: Observation | None = None,
) -> Observation:
    """
    Turn what was seen into what may be remembered: masks become keyed fingerprints.

    *before* is what was seen the last time.
    """
    masks = {
        e.code: {f.name: fingerprints.mask(uid, e.code, f.name, f.mask) for f in e.fields}
        for e in observed.exchanges
    }
    known = before if before is not None and before.key_id == fingerprints.key_id else None
    return Observation(
        at=at,
        by=by,
        version=observed.version,
        masks=masks,
        credentials={e.code: {f.name: f.credential for f in e.fields} for e in observed.exchanges},
        robots=observed.robots,
        boot=observed.log.boot,
        key_id=fingerprints.key_id,
        troubles={e.code: e.trouble for e in observed.exchanges if e.trouble},
        alarm=observed.log.alarm,
        since=dict(_since(masks, at, known)),
    )


def _since(
    masks: Mapping[str, Mapping[str, str]], at: str, before: Observation | None
) -> Iterator[tuple[str, str]]:
    """Yield since when each exchange shows these masks, as far as it was looked at."""
    for code, shown in masks.items():
        earlier = before.masks.get(code, {}) if before is not None else {}
        if before is not None and shown == earlier:
            first = before.since.get(code, before.at if any(shown.values()) else "")
        else:
            first = at if any(shown.values()) or any(earlier.values()) else ""
        if first:
            yield code, first
