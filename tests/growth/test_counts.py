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
KNOWN: Final = {  # of every server, and once when it began and what is paused
    "ledger reads": 4 * SERVERS + 2,
    "ledger listings": SERVERS + 1,  # of exchanges, and once of brakes
    "ledger rows listed": 5 * SERVERS + 1,
}
WATCH: Final = 2  # looks at the log of a server after its last write
BEFORE: Final = 3  # requests of the last look before the first write: with the log
WRITE: Final = 1 + 2  # a save, and the look after it, which is the last one before the next
SCOUT: Final = WATCH + 1 + BEFORE  # requests more: the first write to a version is watched alone
EXPECTED: Final[Mapping[str, Mapping[str, int]]] = {
    "cold plan": {
        **VISIT,
        **METADATA,
        **DOCUMENTS,
        "secrets read": 6 * SERVERS,
        "ledger reads": 5 * SERVERS + 2,
        "ledger listings": 2,
    },
    "first apply": {
        **METADATA,
        "secrets read": 6 * SERVERS,
        "handshakes": SERVERS,
        # The plan's look, the last one before the first write, the writes; the watch, and the
        # robots at its end.  The scout looks again after it was watched.
        "server requests": (4 + BEFORE + 5 * WRITE + WATCH + 1) * SERVERS + SCOUT,
        "server: engine-config-request": SERVERS,
        "server: exchange-config-request": (2 + 5) * SERVERS + 1,
        "server: background-jobs-list-request": (2 + 5 + 1) * SERVERS + 2,
        "server: logs-list-request": (2 + WATCH) * SERVERS + WATCH + 1,
        "server: exchange-config-save": 5 * SERVERS,
        # Who it is, what it is about to receive, the lease and all five intents; the outcomes; the
        # lease given back, the sight and what was done.  Three more prove the version.
        "ledger commits": 3 * SERVERS + 3,
        "ledger reads": 46 * SERVERS + 5,
        "ledger listings": (2 + 5) * SERVERS + 3,  # after each write the brakes once more
        "ledger rows listed": 109,
        # Its lease with the intents and back, the version is proven, what was noted is read again,
        # the outcomes are noted; plans, which write nothing, begin no thread at all.
        "threads": 6 * SERVERS + 1,
        "files opened": 3 * SERVERS + 1,  # and who we are, for each lease
    },
    "converged plan": {**VISIT, **METADATA, **LOGINS, **DOCUMENTS, **KNOWN},
    "converged apply": {
        **VISIT,
        **METADATA,
        **LOGINS,
        **DOCUMENTS,
        **KNOWN,
        "ledger reads": 6 * SERVERS + 2,
        "ledger commits": SERVERS,  # when it was seen
        "threads": 2 * SERVERS,  # it is bound, and that
    },
    "one-change apply": {
        **VISIT,
        **METADATA,
        "secrets read": SERVERS + 1,
        "files opened": SERVERS + 1 + 2,
        "server requests": 4 * SERVERS + BEFORE + WRITE + WATCH + 1,
        "server: exchange-config-request": SERVERS + 2,
        "server: background-jobs-list-request": SERVERS + 3,
        "server: logs-list-request": SERVERS + 1 + WATCH,
        "server: exchange-config-save": 1,
        "ledger commits": SERVERS + 2,
        "ledger reads": 6 * SERVERS + 2 + 19,
        "threads": 2 * SERVERS + 4,
        "ledger listings": SERVERS + 1 + 3,
        "ledger rows listed": 5 * SERVERS + 1 + 7,
    },
    "recorded plan": {"secrets described": 5 * SERVERS, **DOCUMENTS, **KNOWN},
    "status": {
        "ledger reads": 5 * SERVERS + 1,
        "ledger listings": SERVERS + 1,
        "ledger rows listed": 15 * SERVERS,
    },
    "controller rounds": {  # two of them where nothing moves: glances over held connections
        "server requests": 2 * 2 * SERVERS,
        "server: exchange-config-request": 2 * SERVERS,
        "server: background-jobs-list-request": 2 * SERVERS,
    },
    "apply of another ledger": {  # of servers that have all of it
        **VISIT,
        **METADATA,
        **DOCUMENTS,
        "secrets read": 6 * SERVERS,
        "ledger commits": 2 * SERVERS,  # who it is and what it gets; when it was seen
        "ledger reads": 19 * SERVERS + 2,
        "ledger listings": 2,
        "threads": 2 * SERVERS,
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    return costs(tmp_path_factory.mktemp("fleet"), SERVERS)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_costs(found: Costs, command: str) -> None:
    assert {what: number for what, number in found[command].items() if number} == EXPECTED[command]
