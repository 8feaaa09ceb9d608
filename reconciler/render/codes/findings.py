"""What the findings of the audit mean; what to do about each stands beside the judge."""

from collections.abc import Mapping
from typing import Final

_NOTHING_LEARNT: Final = "It says nothing about the key, and makes none wrong."

TEXTS: Final[Mapping[str, str]] = {
    "AGE_NOT_SHOWN": "`maxKeyAge` is declared, and the exchange does not tell how old a key is.",
    "ANSWER_INCOMPLETE": "The exchange's answer lacks a field that it documents. What it would "
    "have said is not known, so the key is not green.",
    "CLOCK_SKEW": "The exchange refused the question because of the time. " + _NOTHING_LEARNT,
    "ENV_MISMATCH": "A key of a test environment lies where a live one belongs, or the other way "
    "round. Robots cannot trade with it.",
    "EXPIRES_SOON": "The key ends within `warnBeforeExpiry`, or lapses when it is not used. Robots "
    "fail from then on.",
    "EXPIRY_NOT_SHOWN": "The exchange does not tell when the key ends. Said so that nobody takes "
    "silence for a yes.",
    "FACTS_FROM_SERVER": "From here the exchange refused to answer; facts that were learnt from "
    "the server's own address within a week are used.",
    "INDETERMINATE": "The exchange answered with a code that nobody knows here. " + _NOTHING_LEARNT,
    "IP_EXTRA": "The key may be used from more addresses than `ipWhitelist` names. Whoever gets "
    "it can use it from there.",
    "IP_LIST_NOT_SHOWN": "The key is bound to addresses, and the exchange does not tell which.",
    "IP_MISSING_SERVER": "The key is bound to addresses, and that of the server is not among them. "
    "Its robots are refused.",
    "IP_NOT_COMPARED": "The key is bound to addresses, and neither the document nor the server "
    "says from which one it leaves.",
    "IP_NOT_DECLARED": "The server leaves from an address that `ipWhitelist` does not name. If the "
    "exchange does not know it either, robots are refused.",
    "IP_NOT_KNOWABLE": "The exchange does not tell whether the key is bound to addresses.",
    "IP_NOT_OFFERED": "No key of this exchange can be bound to addresses. Whoever gets it can use "
    "it anywhere.",
    "IP_REFUSED_HERE": "The exchange refuses the key from here: that proves that it is bound, and "
    "its rights are not knowable from this address.",
    "IP_TOO_WIDE": "The key is bound to a network that many others share (shorter than /24, or "
    "/64).",
    "IP_UNBOUND": "The key is bound to no address. Whoever gets it can trade with it from "
    "anywhere.",
    "KEY_EXPIRED": "The key's end has come. Robots cannot trade with it.",
    "KEY_FROZEN": "The exchange has stopped the key. Robots cannot trade with it.",
    "KEY_MALFORMED": "The values in Vault cannot be right: one is missing, cut short, or of "
    "another form than the exchange's. Nobody was asked, and it is not sent to the server.",
    "KEY_MISMATCH": "The exchange answered about another key: the fields of the secret are "
    "swapped, or of two keys. It is not sent to the server.",
    "KEY_OLD": "The key is older than `maxKeyAge`.",
    "KEY_READ_ONLY": "The key only reads, and is required to trade. Robots fail at their first "
    "order.",
    "KEY_REJECTED": "The exchange does not accept key, secret or passphrase. Robots cannot trade "
    "with it, and it is not sent to the server.",
    "MASTER_KEY": "The key belongs to the main account: it reaches all funds, not those of one "
    "sub-account.",
    "NOT_ASKED_YET": "A pull request is about a version of the key that no exchange was asked "
    "about, as far as the ledger remembers. It is asked about before it is pushed.",
    "NOT_AUDITED": "This exchange cannot be asked what a key may do.",
    "NOT_TOLD": "The exchange does not tell this of a key. Said so that nobody takes silence for "
    "a yes.",
    "OWNER_KEY": "The owner's own key, which can move all funds whatever it is granted. It is not "
    "sent to the server.",
    "PERM_COARSE": "What is allowed cannot be granted without more at this exchange; it stops "
    "nothing.",
    "PERM_FORBIDDEN": "The key has a right that `permissions.allow` does not name.",
    "PERM_MISSING": "A right of `permissions.require` is not there. Robots that need it fail.",
    "PERM_NOT_KNOWABLE": "The exchange does not tell this right of a key.",
    "PERM_UNKNOWN_NAME": "The key has a right with a name that nobody knows here; unknown rights "
    "count as forbidden.",
    "PERM_WITHDRAW": "The key may withdraw funds. Whoever gets it, from the server or on the way, "
    "can empty the account. It is not sent to the server.",
    "PROBED": "Concluded from what the exchange answered to a harmless read.",
    "RATE_LIMITED": "The exchange was asked too often. " + _NOTHING_LEARNT,
    "SAME_KEY_TWICE": "Another server, or another place of this one, has the same key. They spend "
    "one rate limit, and what stops one stops both.",
    "UNREACHABLE": "The exchange did not answer. " + _NOTHING_LEARNT,
}
