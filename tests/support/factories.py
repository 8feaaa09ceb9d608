"""Values for tests, with defaults for the dull parts."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from reconciler.model.desired import DesiredExchange, DesiredServer, Presence, Window, WindowKind
from reconciler.model.evidence import Evidence
from reconciler.model.observed import Robot
from reconciler.model.recorded import ExchangeRecord, Identity, Observation, Recorded, Write
from reconciler.model.references import FrozenRef, SecretPath, SecretRef
from reconciler.model.source import SourceLine
from reconciler.model.target import Target
from reconciler.model.values import replace

KEY = "key-1"
URL = "https://tokyo-1.internal:8443"
TARGET = Target(URL, "0")
SOURCE = SourceLine("desired.yaml", 12, 5)
FIELDS = {"bybit_api_key": "apiKey", "bybit_api_secret": "secret"}


def path(name: str = "bybit") -> SecretPath:
    """A secret's path."""
    return SecretPath("secret", f"jt/tokyo-1/{name}")


def sources(version: int = 1, name: str = "bybit") -> dict[str, FrozenRef]:
    """The frozen reference of an exchange whose fields lie in one secret."""
    return {"": FrozenRef(path(name), version, f"2026-11-22T09:00:0{version}Z")}


def exchange(code: str = "bybit", **changes: Any) -> DesiredExchange:
    """An exchange that shall be present, from one secret."""
    base = DesiredExchange(code, SOURCE, secret=SecretRef(path(code)))
    return replace(base, **changes)


def absent(code: str = "bybit", **changes: Any) -> DesiredExchange:
    """An exchange that shall be absent."""
    return replace(DesiredExchange(code, SOURCE, Presence.ABSENT), **changes)


def server(*exchanges: DesiredExchange, **changes: Any) -> DesiredServer:
    """A desired server."""
    base = DesiredServer("tokyo-1", URL, SOURCE, exchanges=exchanges)
    return replace(base, **changes)


def window(kind: str, schedule: str, zone: str = "UTC", **length: float) -> Window:
    """A window; an hour long unless said otherwise."""
    duration = timedelta(**(length or {"hours": 1}))
    return Window(WindowKind(kind), schedule, duration, zone, SOURCE)


def masks(version: int, fields: Mapping[str, str] = FIELDS) -> dict[str, str]:
    """Fingerprints of the masks that values of this version show."""
    return {name: f"mask-{version}-{name}" for name in fields}


def write(version: int = 1, code: str = "bybit", **changes: Any) -> Write:
    """What the ledger keeps of a write of this version."""
    base = Write(
        sources=sources(version, code),
        values={name: f"value-{version}-{name}" for name in FIELDS},
        masks=masks(version),
        key_id=KEY,
        at="2026-11-22T09:01:00.000+00:00",
        api_key=f"api-{version}",
        companions=f"rest-{version}",
    )
    return replace(base, **changes)


def observed(
    shown: Mapping[str, Mapping[str, str]] | None = None,
    robots: tuple[Robot, ...] = (),
    **changes: Any,
) -> Observation:
    """What a server shows: fingerprints of masks by exchange and field."""
    listed = {"bybit": dict.fromkeys(FIELDS, ""), "okx": dict.fromkeys(FIELDS, "")}
    listed |= {code: dict(fields) for code, fields in (shown or {}).items()}
    base = Observation(
        at="2026-11-22T10:00:00.000+00:00",
        by="test",
        version="0.24.19",
        masks=listed,
        credentials={code: dict(FIELDS) for code in listed},
        robots=robots,
        boot=1_000,
        key_id=KEY,
    )
    return replace(base, **changes)


def recorded(*records: ExchangeRecord, observation: Observation | None = None) -> Recorded:
    """A server that the ledger knows."""
    return Recorded(
        Identity("uid-1", TARGET, "tokyo-1"),
        {record.code: record for record in records},
        observation,
    )


def evidence(*matches: str, **changes: Any) -> Evidence:
    """What reading the values told."""
    base = Evidence(frozenset(matches), weak=False, unchanged=False, api_key="api-2")
    return replace(base, companions="rest-2", **changes)


GRID = Robot(1, "grid-btc", "bybit", running=True)
ARB = Robot(2, "arb-eth", "okx", running=True)
