"""
How long to wait, for everything that waits.

One value holds every duration, so that tests can divide all of them by the same number and an
operator can change one of them in `settings.durations`.  All are in seconds.
"""

from msgspec import Struct
from msgspec.structs import asdict


class Timeouts(Struct, frozen=True):
    """Seconds; the reasons stand beside each value."""

    connect: float = 10.0  # TCP, TLS and the handshake
    authenticate: float = 30.0  # the server asks its vendor's site at every login
    request: float = 15.0  # what the Config page itself waits
    close: float = 5.0  # a polite goodbye to a stalled peer
    settle: float = 10.0  # people write two fields of a secret with two commands
    settle_total: float = 120.0  # after this a secret is "still being written"
    secrets_request: float = 10.0  # one request to Vault
    secrets_total: float = 30.0  # one request with its retries
    lease: float = 30.0  # one process at a time applies to one server
    lease_wait: float = 10.0  # how long `apply` waits for another one to finish
    ledger_busy: float = 5.0  # SQLite's busy timeout
    reconnect: float = 2.0  # between tries to see a server again after it fell silent
    send_window: float = 5.0  # from a one-shot's intent to its sending; later nothing is sent
    invalidate: float = 15.0  # what the Config page itself waits
    robot: float = 60.0  # a robot's start or stop: robots talk to exchanges in both
    drop: float = 30.0  # from a reboot's request to the end of the connection
    log_lag: float = (
        5.0  # until the system log shows what happened: 0.4 s was seen, more under load
    )
    ready: float = 120.0  # until a rebooted server lets us in again: migrations, restart back-off
    follow: float = 2.0  # between two looks at a log that is followed
    interval: float = 60.0  # between two passes of the controller over a server
    resync: float = 600.0  # at most, between two whole passes over a server where nothing moves
    rescan: float = 30.0  # at most, between two looks at the documents: file events get lost
    quiet: float = 0.1  # after the last file event, before the documents are read
    backoff: float = 5.0  # the first wait after a failed pass; doubles, with full jitter
    backoff_most: float = 300.0
    stale: float = 86_400.0  # how old a sight may be that is still believed
    heal_cooldown: float = 600.0  # between two corrections of the same exchange's drift
    stop: float = 8.0  # what is in flight gets at a stop; the whole exit takes at most 10 s
    audit_request: float = 10.0  # one request to an exchange
    audit_total: float = 120.0  # all of one audit; fifty keys at one exchange fit well
    audit_every: float = 86_400.0  # between two times that the controller asks about a key
    told_after: float = 60.0  # what may pass by itself lasts so long before people are told
    aftermath: float = 2.0  # after a write, until its harm shows: the log lags, robots come back
    quiesce: float = 0.05  # after a write, before robots are counted: the fatal path needs ~10 ms

    def scaled(self, divisor: float) -> "Timeouts":
        """Return the same durations, each divided by *divisor*."""
        return Timeouts(**{name: seconds / divisor for name, seconds in asdict(self).items()})
