"""
A fleet of five hundred servers on which much is as it should be: twenty changes, three problems.

Made by what `jtr apply` and `jtr plan` run, on plain values.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import yaml

from reconciler.model.observed import Robot
from reconciler.model.plan import Plan
from reconciler.model.values import replace
from reconciler.testing.state import ServerState, State, apply, plan
from tests.golden.markdown_cases import quiet_server

REGIONS = {"tokyo": 200, "osaka": 120, "frankfurt": 100, "london": 60, "singapore": 20}
NAMES = [f"{region}-{n}" for region, number in REGIONS.items() for n in range(1, number + 1)]
GONE = ["berlin-1", "berlin-2", "berlin-3"]
REBOOTED = ["singapore-2", "singapore-3", "singapore-4"]

# Twenty changes ...
ROTATED = [f"tokyo-{n}" for n in range(1, 11)]
RESTARTED = ["osaka-1", "osaka-3", "osaka-5", "osaka-7"]
FIRST_KEYS = ["frankfurt-1", "frankfurt-2"]
DELETED, REBOOT, CACHE, DRIFTED = "london-1", "london-2", "london-3", "osaka-9"
# ... and three problems.
DOWN, STRANGE, LATE = "tokyo-50", "frankfurt-50", "london-9"

BEFORE = datetime(2026, 11, 20, 9, tzinfo=UTC)
NOW = BEFORE + timedelta(days=2)
ACCESS = "made-up-access"
LOUD = [*ROTATED, *RESTARTED, *FIRST_KEYS, DELETED, REBOOT, CACHE, DRIFTED, DOWN, STRANGE, LATE]
Spec = dict[str, Any]


def url(name: str) -> str:
    """The address of a server."""
    return f"https://{name}.internal:8443"


def document(name: str, spec: Spec) -> str:
    """Write a server's document; exchanges of *spec* come beside bybit."""
    given = spec.get("exchanges", {})
    bybit = {"credentials": f"vault:secret/jt/{name}/bybit"}
    told = {
        "url": url(name),
        "accessSecret": f"vault:secret/jt/{name}#access_secret",
        "supervised": True,
    }
    told |= {**spec, "exchanges": {"bybit": bybit, **given}}
    head = {"apiVersion": "jtr/v1", "kind": "TradingServer", "metadata": {"name": name}}
    return yaml.safe_dump({**head, "spec": told})


def key(name: str, exchange: str, version: int) -> dict[str, str]:
    """A made-up key."""
    return {
        "apiKey": f"made-up-key-{name}-{exchange}-{version}",
        "secret": f"made-up-secret-{name}-{exchange}-{version}",
    }


def robots(name: str) -> tuple[Robot, ...]:
    """Two robots of their own where robots will stop, and a common one elsewhere."""
    if name == DELETED:
        return (Robot(1, "grid-eth", "okx", running=True),)
    if name not in {*RESTARTED, REBOOT}:
        return (Robot(1, "grid-btc", "bybit", running=True),)
    return (
        Robot(1, f"grid-{name[-1]}", "bybit", running=True),
        Robot(2, f"arb-{name[-1]}", "bybit", running=True),
    )


def _before() -> State:
    """Everything as it should be, and three servers that rebooted, as their documents asked."""
    names = [*LOUD, *REBOOTED, *GONE]
    secrets: dict[str, list[Mapping[str, str]]] = {}
    for name in names:
        secrets[f"secret/jt/{name}"] = [{"access_secret": ACCESS}]
        secrets[f"secret/jt/{name}/bybit"] = [key(name, "bybit", 1)]
    state = State(
        {f"{name}.yaml": document(name, {}) for name in names},
        {url(name): ServerState(ACCESS) for name in names},
        secrets,
        now=BEFORE,
    )
    state = apply(state, plan(state))
    asked = {"reboot": _request("bootedAfter", state.now), "soleAccount": True}
    documents = {f"{name}.yaml": document(name, asked) for name in REBOOTED}
    servers = {
        # Each has a boot of its own, or two would count as one process.
        url(name): replace(
            state.servers[url(name)],
            robots=robots(name),
            log=[
                {**entry, "time": entry["time"] + number} for entry in state.servers[url(name)].log
            ],
        )
        for number, name in enumerate(names)
    }
    state = replace(state, documents={**state.documents, **documents}, servers=servers)
    return replace(apply(state, plan(state)), now=NOW)


def _request(what: str, instant: datetime, **more: str) -> Spec:
    robots = {"robots": "resume"} if what == "bootedAfter" else {}
    moment = instant.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {what: moment, "reason": "quarterly", **robots, **more}


def _changed() -> State:
    state = _before()
    documents = {name: state.documents[name] for name in state.documents}
    servers, secrets = dict(state.servers), {at: [*found] for at, found in state.secrets.items()}
    specs: dict[str, Spec] = {
        name: {"robots": {"onCredentialChange": "restart"}} for name in RESTARTED
    }
    specs |= {
        name: {"exchanges": {"okx": {"credentials": f"vault:secret/jt/{name}/okx"}}}
        for name in FIRST_KEYS
    }
    specs[DELETED] = {"exchanges": {"bybit": {"state": "absent"}}}
    specs[REBOOT] = {"reboot": _request("bootedAfter", NOW - timedelta(minutes=5))}
    specs[CACHE] = {"cache": _request("invalidatedAfter", NOW - timedelta(minutes=5))}
    specs[LATE] = {"cache": _request("invalidatedAfter", NOW - timedelta(hours=30))}
    specs[STRANGE] = {"exchanges": {"gateio": {"credentials": f"vault:secret/jt/{STRANGE}/gateio"}}}
    documents |= {f"{name}.yaml": document(name, spec) for name, spec in specs.items()}
    for name in GONE:
        del documents[f"{name}.yaml"]
    for name in [*ROTATED, *RESTARTED]:
        secrets[f"secret/jt/{name}/bybit"].append(key(name, "bybit", 2))
    for name in FIRST_KEYS:
        secrets[f"secret/jt/{name}/okx"] = [{**key(name, "okx", 1), "password": f"made-up-{name}"}]
    secrets[f"secret/jt/{STRANGE}/gateio"] = [{**key(STRANGE, "gateio", 1), "uid": "1234567"}]
    del servers[url(DOWN)]
    for name, field in ((DRIFTED, "bybit_api_key"), (STRANGE, "gateio_api_key")):
        there = servers[url(name)]
        changed = {**there.stored, field: f"made-up-by-hand-{name}"}
        servers[url(name)] = replace(there, stored=changed)
    return replace(state, documents=documents, servers=servers, secrets=secrets)


@cache
def changed() -> State:
    """The fleet of today."""
    return _changed()


@cache
def fleet() -> Plan:
    """What `jtr plan` finds there; the calm ones are added, or this would take many seconds."""
    found = plan(changed())
    known = {server.server for server in found}
    calm = (quiet_server(name) for name in NAMES if name not in known)
    return replace(found, servers=(*found.servers, *calm))
