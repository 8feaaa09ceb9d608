"""
What a run of `jtr -o json` said, checked against the published schema, and what it should store.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from reconciler.documents.schema import text
from reconciler.sandbox.openbao import OpenBao
from tests.support.rig import Ran, Rig

STORED_AS = {
    "bybit": {"apiKey": "bybit_api_key", "secret": "bybit_api_secret"},
    "okx": {"apiKey": "okx_api_key", "secret": "okx_api_secret", "password": "okx_password"},
    "gateio": {
        "apiKey": "gateio_api_key",
        "secret": "gateio_api_secret",
        "uid": "gateio_user_id",
    },
    "kucoin": {
        "apiKey": "kucoin_api_key",
        "secret": "kucoin_secret",
        "password": "kucoin_password",
    },
}
READS = {
    "exchange-config-request",
    "engine-config-request",
    "background-jobs-list-request",
    "logs-list-request",
}


def stored(exchange: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Return what a server stores of these credentials, by its own field names."""
    return {STORED_AS[exchange][name]: value for name, value in fields.items()}


@cache
def _schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads(text("plan")))


def document(ran: Ran) -> dict[str, Any]:
    """Return the JSON of a plan or an apply; it fits the schema and names the exit code."""
    found = json.loads(ran.out)
    errors = [f"{error.json_path}: {error.message}" for error in _schema().iter_errors(found)]
    assert errors == []
    assert found["exitCode"] == ran.code
    return dict(found)


def server(ran: Ran, name: str = "tokyo-1") -> dict[str, Any]:
    """Return one server of the JSON."""
    return next(s for s in document(ran)["servers"] if s["server"] == name)


def line(ran: Ran, exchange: str, name: str = "tokyo-1") -> dict[str, Any]:
    """Return the line of one exchange."""
    return next(row for row in server(ran, name)["lines"] if row["exchange"] == exchange)


def statuses(ran: Ran, name: str = "tokyo-1") -> dict[str, str]:
    """Return the status of each exchange of a server."""
    return {row["exchange"]: row["status"] for row in server(ran, name)["lines"]}


def results(ran: Ran, name: str = "tokyo-1") -> dict[str, str]:
    """Return what became of the action on each exchange of a server."""
    outcomes = server(ran, name)["outcomes"]
    return {row["action"]["exchange"]: row["result"] for row in outcomes}


def codes(ran: Ran) -> dict[str, int]:
    """Return every server's own exit code."""
    return {row["server"]: row["exitCode"] for row in document(ran)["servers"]}


@contextmanager
def asked(bao: OpenBao, rig: Rig) -> Iterator[list[str]]:
    """Yield the paths of this test that OpenBao was asked for meanwhile, filled at the end."""
    bao.enable_audit()
    since = len(bao.audit_entries())
    found: list[str] = []
    yield found
    found += [
        entry["request"]["path"]
        for entry in bao.audit_entries()[since:]
        if entry["type"] == "request" and rig.team in entry["request"]["path"]
    ]
