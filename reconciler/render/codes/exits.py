"""What the exit codes mean."""

from collections.abc import Mapping
from typing import Final

from reconciler.errors import Exit
from reconciler.render.codes.text import Text

TEXTS: Final[Mapping[Exit, Text]] = {
    Exit.DONE: Text(
        "Done, or there was nothing to do. Drift that is left alone counts as nothing to do.",
        "Nothing.",
    ),
    Exit.ERROR: Text(
        "Something failed that no other code stands for: a file, the ledger, a mistake in jtr.",
        "Read the last line on standard error; what was begun on a server is in the ledger.",
    ),
    Exit.CHANGES: Text(
        "There are changes or drift. Only with --detailed-exitcode, for scripts that ask.",
        "Look at the plan.",
    ),
    Exit.INVALID: Text(
        "A document, a policy or the settings are invalid. Nothing was contacted, and nothing done "
        "for any server: robots go on as before.",
        "Mend each place that is named; `jtr validate` checks without contacting anything.",
    ),
    Exit.BLOCKED: Text(
        "Something waits for a person: a policy, an audit, a take-over, a changed address, a "
        "request that expired. What is not blocked was done, and nothing was forced.",
        "Each line that is blocked says why and what to do; `jtr explain SERVER/EXCHANGE` says all "
        "of it.",
    ),
    Exit.SECRETS: Text(
        "Vault or OpenBao could not give what was asked. Nothing is deleted or overwritten for it: "
        "robots go on with the keys they have.",
        "`jtr doctor` says what is missing.",
    ),
    Exit.SERVER: Text(
        "A trading server could not be reached or spoken to. The others went on. Whether its "
        "robots trade is not known from here.",
        "See whether the server runs; `jtr doctor --server NAME` says how far we come.",
    ),
    Exit.IN_DOUBT: Text(
        "A reboot or an invalidation may have been done, and nobody knows. It is never repeated by "
        "itself.",
        "Look at the server, then `jtr request resolve`; see `jtr explain in-doubt`.",
    ),
    Exit.HARM: Text(
        "Robots stopped around one of our writes. The brake is on: nothing more is written there. "
        "The robots do not trade.",
        "Look at that server at once: its robots, its log. Start robots there, then "
        "`jtr ledger release-brake`.",
    ),
    Exit.USAGE: Text(
        "The command line is wrong: an option, a name, a missing PATH. Nothing was done.",
        "Read the message; `jtr help COMMAND`.",
    ),
    Exit.HUNG_UP: Text(
        "Stopped by SIGHUP: the terminal was closed, or the connection to it broke. What was in "
        "flight was finished or noted in the ledger; nothing new was begun.",
        "`jtr status` says whether something is open; then run it again, perhaps in tmux.",
    ),
    Exit.INTERRUPTED: Text(
        "Interrupted by Ctrl-C. What was in flight was finished or noted in the ledger; nothing "
        "new was begun.",
        "`jtr status` says whether something is open; then run it again.",
    ),
    Exit.TERMINATED: Text(
        "Stopped by SIGTERM. What was in flight was finished or noted in the ledger; nothing new "
        "was begun.",
        "`jtr status` says whether something is open; then run it again.",
    ),
}
