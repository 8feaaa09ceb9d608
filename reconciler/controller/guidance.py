"""
What every kind of news means for trading, what to do about it, and its page in docs/runbooks.

Words for somebody who is woken and knows trading, not this program.  Commands are written in full:
SERVER stands for the server's name.
"""

from typing import Final

from reconciler.notifications.events import Guide

UNREACHABLE: Final = Guide(
    "cannot be reached",
    "its robots may run on or not, nobody can see; new keys do not reach it",
    "look at the server itself first, then at its proxy and the network; `jtr status` has the"
    " reason; it is looked after again by itself",
    "server-unreachable",
)
DEGRADED: Final = Guide(
    "needs a person",
    "its robots run on as they did; what is named here waits",
    "`jtr status` says what, `jtr plan --server SERVER` shows it line by line",
    "server-degraded",
)
DRIFT: Final = Guide(
    "changed by another hand",
    "its robots may trade with another key than the documents say",
    "ask who changed it; then `jtr apply --server SERVER --correct-drift`, or change the document",
    "drift",
)
CONTESTED: Final = Guide(
    "changed back again and again",
    "the key that its robots use keeps changing; nothing more is corrected there",
    "find the other hand and stop it; then `jtr apply --server SERVER --correct-drift`",
    "contested",
)
REBOOT_OWED: Final = Guide(
    "owes a reboot",
    "its robots use the old secret until the server reboots; revoked, their orders fail",
    "do not revoke the old secret yet; `jtr request reboot SERVER --robots resume --reason TEXT`,"
    " and merge what it writes",
    "reboot-owed",
)
IN_DOUBT: Final = Guide(
    "a request is in doubt",
    "its robots may be stopped; nothing is sent a second time, and no other request is done there",
    "look at its robots and at `jtr logs SERVER`; then `jtr request list` has the command that says"
    " what you found",
    "in-doubt",
)
ROBOTS: Final = Guide(
    "robots stopped without our asking",
    "they place and manage no orders, open positions are nobody's; nobody starts them",
    "ask the desk whether it was on purpose, and see `jtr logs SERVER`; start them on the server's"
    " page",
    "robots-stopped",
)
HARM: Final = Guide(
    "robots stopped around a write of ours",
    "they place and manage no orders, open positions are nobody's; the brake is on",
    "start them on the server's page; find out why in `jtr logs SERVER`; then release the brake",
    "brake",
)
DONE: Final = Guide(
    "something was done",
    "its robots go on as the documents ask",
    "nothing",
    "README",
)
FAILED: Final = Guide(
    "something could not be done",
    "its robots go on with what they have; what failed is not in force",
    "`jtr status` has the reason; what can be tried again is tried again",
    "server-degraded",
)
BRAKE: Final = Guide(
    "the brake is on",
    "robots are not touched, but no key is written there: rotations wait",
    "look at the robots of the server that was harmed; then"
    " `jtr ledger release-brake SERVER --because TEXT`",
    "brake",
)
SUSPENDED: Final = Guide(
    "suspended",
    "its robots run on; new keys do not reach it",
    "nothing while that is wanted; else end an operator's pause on its page of the controller, with"
    " Go on, or take `suspend` out of its document",
    "suspended",
)
AUDIT: Final = Guide(
    "a key is not as it should be",
    "its robots go on with the key that they have; a new one like it is not written",
    "`jtr audit --server SERVER --fresh` says what to change at the exchange",
    "key-audit",
)
DOCUMENTS: Final = Guide(
    "the documents are broken",
    "robots run on; the last good documents stay in force, and newer ones do nothing",
    "`jtr validate` on what is deployed says where; mend or revert that commit",
    "documents-broken",
)
DOCUMENTS_AWAY: Final = Guide(
    "the repository is away",
    "robots run on; the last good documents stay in force, and newer ones do not arrive",
    "`jtr status` has the reason: the network, the forge, or what lets us in; it is looked at again"
    " by itself",
    "documents-broken",
)
DOCUMENTS_UNSIGNED: Final = Guide(
    "the newest commit is signed by nobody who counts",
    "robots run on; that commit does nothing, and somebody may try to change what servers trade",
    "ask who pushed it before anything else; only if it is right, let a signer of git.verify sign"
    " a commit on top of it",
    "documents-broken",
)
DOCUMENTS_WENT_BACK: Final = Guide(
    "the branch went back or was rewritten",
    "robots run on; that commit does nothing, and somebody may try to bring old keys back",
    "ask who moved the branch before anything else; then push a commit on top of the one that is in"
    " force",
    "documents-broken",
)
VAULT: Final = Guide(
    "Vault is away",
    "robots run on with the keys that they have; new keys do not arrive, and with a ledger in Vault"
    " nothing is sent at all",
    "`jtr doctor` says whether it is sealed, away, or refuses us; it goes on by itself after that",
    "vault-away",
)
LEDGER: Final = Guide(
    "the ledger cannot be used",
    "robots run on; nothing is sent to any server, because nothing could be noted",
    "`jtr doctor` says why: a full disk, rights, or Vault; it goes on by itself after that",
    "ledger-lost",
)
CLOCK: Final = Guide(
    "our own clock jumped",
    "robots run on and keys are written; no request and no restart begins, and none expires",
    "see to the time service of the controller's host; it goes on by itself, at once when the clock"
    " is right again, else ten minutes after its last jump",
    "clock",
)
RIVAL: Final = Guide(
    "another controller looks after the servers",
    "nothing is missing: the other one does the work",
    "nothing where two are meant to run; else stop one of them",
    "controller-gone",
)
