"""
Every finding on a key: its code, how bad it usually is, and what to do about it.  Pure.

What the findings mean is told in docs/audit.md, which is checked against this table.
"""

from collections.abc import Mapping
from typing import Final

from reconciler.model.key_policy import KeyFinding, Severity

_ADD: Final = "add it to the key at the exchange"
_LATER: Final = "audit again later"
_LOOK: Final = "look at the key on the exchange's own page"
_RENEW: Final = "make a new key"
TAKE_OFF: Final = "take it off the key at the exchange"

FINDINGS: Final[Mapping[str, tuple[Severity, str]]] = {
    "AGE_NOT_SHOWN": (Severity.WARNING, "count yourself"),
    "ANSWER_INCOMPLETE": (Severity.WARNING, _LOOK),
    "CLOCK_SKEW": (
        Severity.WARNING,
        "set the clock of this host; trading will fail by it, too",
    ),
    "ENV_MISMATCH": (Severity.ERROR, "put a key of the right environment in Vault"),
    "EXPIRES_SOON": (Severity.WARNING, "make a new key in time"),
    "EXPIRY_NOT_SHOWN": (Severity.INFO, ""),
    "FACTS_FROM_SERVER": (Severity.INFO, ""),
    "INDETERMINATE": (Severity.WARNING, "look its code up in the exchange's documentation"),
    "IP_EXTRA": (Severity.WARNING, "take it off at the exchange, or name it in ipWhitelist"),
    "IP_LIST_NOT_SHOWN": (
        Severity.WARNING,
        "audit from the server's address (audit.proxy)",
    ),
    "IP_MISSING_SERVER": (Severity.ERROR, _ADD),
    "IP_NOT_COMPARED": (
        Severity.WARNING,
        "name the server's addresses in security.ipWhitelist",
    ),
    "IP_NOT_DECLARED": (
        Severity.WARNING,
        "has its address changed? add it here and at the exchange before keys stop working",
    ),
    "IP_NOT_KNOWABLE": (Severity.WARNING, _LOOK),
    "IP_NOT_OFFERED": (
        Severity.WARNING,
        "accept it with an exception, or keep little at this exchange",
    ),
    "IP_REFUSED_HERE": (Severity.WARNING, "audit from the server's address (audit.proxy)"),
    "IP_TOO_WIDE": (Severity.WARNING, "bind it to the server's addresses alone"),
    "IP_UNBOUND": (
        Severity.ERROR,
        "bind it to the server's addresses at the exchange: whoever gets it can use it anywhere",
    ),
    "KEY_EXPIRED": (Severity.ERROR, _RENEW),
    "KEY_FROZEN": (Severity.ERROR, "ask the exchange, or make a new key"),
    "KEY_MALFORMED": (
        Severity.ERROR,
        "put it right in Vault, in the form in which the exchange hands it out",
    ),
    "KEY_MISMATCH": (
        Severity.CRITICAL,
        "are the fields of the secret in Vault swapped, or of two keys?",
    ),
    "KEY_OLD": (Severity.WARNING, _RENEW),
    "KEY_READ_ONLY": (Severity.ERROR, "give it the right to write at the exchange"),
    "KEY_REJECTED": (
        Severity.CRITICAL,
        "compare key, secret and passphrase in Vault with the exchange's",
    ),
    "MASTER_KEY": (
        Severity.WARNING,
        "use a key of a sub-account: it can reach that one's funds only",
    ),
    "NOT_ASKED_YET": (Severity.INFO, "it is asked about before it is pushed"),
    "NOT_AUDITED": (Severity.WARNING, _LOOK),
    "NOT_TOLD": (Severity.INFO, ""),
    "OWNER_KEY": (Severity.CRITICAL, "make an agent key for trading, and put that in Vault"),
    "PERM_COARSE": (Severity.INFO, ""),
    "PERM_FORBIDDEN": (Severity.ERROR, f"{TAKE_OFF}, or allow it in security.permissions"),
    "PERM_MISSING": (Severity.ERROR, _ADD),
    "PERM_NOT_KNOWABLE": (Severity.WARNING, _LOOK),
    "PERM_UNKNOWN_NAME": (Severity.WARNING, f"{TAKE_OFF}, or accept it with a reason"),
    "PERM_WITHDRAW": (Severity.CRITICAL, f"{TAKE_OFF} at once"),
    "PROBED": (Severity.INFO, ""),
    "RATE_LIMITED": (Severity.WARNING, _LATER),
    "SAME_KEY_TWICE": (
        Severity.WARNING,
        "give each its own: they spend one rate limit, and one change stops both",
    ),
    "UNREACHABLE": (Severity.WARNING, _LATER),
}


def say(
    code: str,
    what: str,
    data: Mapping[str, str] | None = None,
    *,
    severity: Severity | None = None,
    remedy: str | None = None,
) -> KeyFinding:
    """Return a finding; *severity* and *remedy* where they are not the usual ones."""
    usual, usual_remedy = FINDINGS[code]
    return KeyFinding(
        code,
        usual if severity is None else severity,
        what,
        usual_remedy if remedy is None else remedy,
        data or {},
    )


def not_asked(what: str) -> KeyFinding:
    """Return that nothing is remembered of a key as it will be."""
    return say("NOT_ASKED_YET", what)
