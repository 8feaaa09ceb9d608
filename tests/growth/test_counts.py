"""
What each command asks of servers, of Vault and of the ledger, exactly.

A number that falls is written down here; one that grows is a decision.  They are of a fleet of ten
servers with five exchanges each, so a tenth of them is what one server costs.
"""

from collections.abc import Mapping
from typing import Final

import pytest

from tests.growth.conftest import COMMANDS, Costs, costs

SERVERS: Final = 10
LOOK: Final = {  # one look at every server, on a connection that was looked at before
    "server requests": 3 * SERVERS,
    "server: exchange-config-request": SERVERS,
    "server: background-jobs-list-request": SERVERS,
    "server: logs-list-request": SERVERS,
}
VISIT: Final = {  # and one on a new connection
    **LOOK,
    "handshakes": SERVERS,
    "server requests": 4 * SERVERS,
    "server: engine-config-request": SERVERS,
}
METADATA: Final = {"secrets described": 6 * SERVERS}  # of five exchanges, and of the login
LOGINS: Final = {"secrets read": SERVERS}
DOCUMENTS: Final = {"files opened": SERVERS + 1}  # and their folder
KNOWN: Final = {  # all that the ledger knows of every server, and once when the ledger began
    "ledger reads": 10 * SERVERS + 2,
    "ledger listings": SERVERS + 1,  # of exchanges, and once of brakes
    "ledger rows listed": 5 * SERVERS + 1,
}
WATCH: Final = 5  # looks at the log of a server after its last write
SCOUT: Final = 6  # requests more: the first write to a version is watched alone
EXPECTED: Final[Mapping[str, Mapping[str, int]]] = {
    "cold plan": {
        **VISIT,
        **METADATA,
        **DOCUMENTS,
        "secrets read": 6 * SERVERS,
        "ledger reads": 6 * SERVERS + 1,
        "ledger listings": 2,
    },
    "first apply": {
        **METADATA,
        "secrets read": 6 * SERVERS,
        "handshakes": SERVERS,
        # The plan's look and one before the first write; five times the last look, the write, and
        # a look after it; the watch, and the robots at its end.
        "server requests": (4 + 3 + 5 * (2 + 1 + 3) + WATCH + 1) * SERVERS + SCOUT,
        "server: engine-config-request": SERVERS,
        "server: exchange-config-request": 12 * SERVERS,
        "server: background-jobs-list-request": 13 * SERVERS + 1,
        "server: logs-list-request": (7 + WATCH) * SERVERS + WATCH,
        "server: exchange-config-save": 5 * SERVERS,
        # Its name, its address, what it is about to receive; the lease taken and given back; five
        # times the intent and the outcome; the sight, and what was done.  Three prove the version.
        "ledger commits": (3 + 2 + 5 * 2 + 2) * SERVERS + 3,
        "ledger reads": 50 * SERVERS + 1,
        "ledger listings": 6 * SERVERS + 2,
        "ledger rows listed": 99,
        "files opened": 3 * SERVERS + 1,  # and who we are, for each lease
    },
    "converged plan": {**VISIT, **METADATA, **LOGINS, **DOCUMENTS, **KNOWN},
    "converged apply": {
        **VISIT,
        **METADATA,
        **LOGINS,
        **DOCUMENTS,
        **KNOWN,
        "ledger reads": 12 * SERVERS + 2,
        "ledger commits": SERVERS,  # when it was seen
    },
    "one-change apply": {
        **VISIT,
        **METADATA,
        "secrets read": SERVERS + 1,
        "files opened": SERVERS + 1 + 2,
        "server requests": 4 * SERVERS + 3 + 2 + 1 + 3 + SCOUT,
        "server: exchange-config-request": SERVERS + 3,
        "server: background-jobs-list-request": SERVERS + 4,
        "server: logs-list-request": SERVERS + 2 + WATCH,
        "server: exchange-config-save": 1,
        "ledger commits": SERVERS + 6,
        "ledger reads": 12 * SERVERS + 2 + 20,
        "ledger listings": SERVERS + 1 + 2,
        "ledger rows listed": 5 * SERVERS + 1 + 6,
    },
    "recorded plan": {"secrets described": 5 * SERVERS, **DOCUMENTS, **KNOWN},
    "status": {
        "ledger reads": 10 * SERVERS + 1,
        "ledger listings": SERVERS + 1,
        "ledger rows listed": 15 * SERVERS,
    },
    "controller rounds": {  # two of them where nothing moves: glances over held connections
        "server requests": 2 * 2 * SERVERS,
        "server: exchange-config-request": 2 * SERVERS,
        "server: background-jobs-list-request": 2 * SERVERS,
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    return costs(tmp_path_factory.mktemp("fleet"), SERVERS)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_costs(found: Costs, command: str) -> None:
    assert {what: number for what, number in found[command].items() if number} == EXPECTED[command]
