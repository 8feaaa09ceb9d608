"""
How long programs under test wait.

What they choose to wait is short, and what they grant to others is long: on a busy machine an
answer may take seconds, and a test that calls that silence would judge the machine.
"""

from typing import Final

PACE: Final = {
    "close": "500ms",
    "settle": "1ms",
    "reconnect": "30ms",
    "logLag": "50ms",  # longer than the log of QUICK lags, see tests/support/rig.py
    "aftermath": "50ms",
    "leaseWait": "300ms",  # others hold a lease where a test lets them, and nowhere else
}
LIMITS: Final = dict.fromkeys(
    (
        "connect",
        "authenticate",
        "request",
        "settleTotal",
        "invalidate",
        "robot",
        "drop",
        "ready",
        "sendWindow",
        "secretsRequest",
        "secretsTotal",
    ),
    "30s",
)
DURATIONS: Final = PACE | LIMITS
BRIEF: Final = DURATIONS | {"quiesce": "5ms"}  # no fatal path runs where robots are counted sooner
BRISK: Final = BRIEF | {
    "interval": "300ms",
    "rescan": "200ms",
    "quiet": "10ms",
    "backoff": "50ms",
    "backoffMost": "300ms",
    "stop": "3s",
    "healCooldown": "400ms",
    "lease": "2s",
}
"""Of a controller."""

SILENCE: Final = {
    "authenticate": "1500ms",
    "request": "700ms",
    "invalidate": "700ms",
    "robot": "700ms",
    "drop": "400ms",
    "ready": "1500ms",
    "secretsRequest": "1500ms",
    "secretsTotal": "3s",
}
"""Where somebody does not answer on purpose; a busy machine may meet these, so only there."""
