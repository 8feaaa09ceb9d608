"""What failures mean, by the codes of their errors."""

from collections.abc import Mapping
from typing import Final

from reconciler.render.codes.text import Text

_GOES_ON: Final = " Nothing is sent, and robots go on as before."
_KEEPS: Final = " Nothing is changed on the server: robots keep the key they have."
_NOT_KNOWN: Final = " Nothing was changed; whether its robots trade is not known from here."
_DOCTOR: Final = "`jtr doctor` says what is wrong, and what to do."

TEXTS: Final[Mapping[str, Text]] = {
    "usage-error": Text("The command line, or where a file lies, is wrong.", "Read the message."),
    "no-service": Text(
        "There is no such systemd service on this host, or nobody who could tell. Nothing was run.",
        "See the name of the unit: `systemctl list-units`.",
    ),
    "invalid-config": Text(
        "Documents, settings or a policy are invalid." + _GOES_ON,
        "Mend each place that is named; `jtr validate` shows all.",
    ),
    "blocked": Text("A rule forbids it until a person decides." + _GOES_ON, "The line says which."),
    "window-closed": Text(
        "The server's windows closed before it could be sent. Nothing was sent.",
        "Wait for the next window.",
    ),
    "secrets-error": Text("Vault could not give what was asked." + _KEEPS, _DOCTOR),
    "secrets-unreachable": Text(
        "No usable answer came from Vault: it is down, too slow, or something else answers."
        + _KEEPS,
        f"See whether Vault runs. {_DOCTOR}",
    ),
    "secrets-sealed": Text("Vault is there, but sealed." + _KEEPS, "Unseal it."),
    "login-failed": Text(
        "Vault refused the login, or there is nothing to log in with." + _KEEPS,
        f"See `vault.auth` in the settings. {_DOCTOR}",
    ),
    "token-expired": Text(
        "Vault's token is not valid any more." + _KEEPS,
        f"Log in anew, or see what keeps the token fresh. {_DOCTOR}",
    ),
    "forbidden": Text(
        "The token lives, but its policies do not allow this path." + _KEEPS,
        "Give it the right to read that path, or correct the path.",
    ),
    "mount-unknown": Text(
        "No secrets engine is mounted there, or the token has no right at all below it." + _KEEPS,
        "Correct the first part of the path (the mount), or give the right.",
    ),
    "kv-version-one": Text(
        "The mount is KV version 1, which keeps no versions: nobody could say which key a server "
        "has." + _KEEPS,
        "Use a mount of KV version 2.",
    ),
    "secret-missing": Text(
        "Nothing was ever written at this path, or all of it was removed. That never means that "
        "the key shall be deleted." + _KEEPS,
        "Write the secret, or correct the path.",
    ),
    "secret-deleted": Text(
        "The version is deleted in Vault, and can be undeleted." + _KEEPS,
        "Undelete it, or write a new version.",
    ),
    "secret-destroyed": Text(
        "The version is destroyed in Vault for good." + _KEEPS,
        "Write a new version, and move the pin if there is one.",
    ),
    "version-pruned": Text(
        "The version is older than what Vault keeps, or was never written." + _KEEPS,
        "Pin a version that is there.",
    ),
    "secret-unusable": Text(
        "A field is missing in the secret, or a value must not be sent to a server." + _KEEPS,
        "Mend the secret in Vault; the message names the field, never the value.",
    ),
    "still-being-written": Text(
        "Newer versions of the secret keep coming before one had time to settle." + _KEEPS,
        "See what writes it again and again.",
    ),
    "not-settled": Text(
        "The secret was written a moment ago. People write two fields with two commands, so the "
        "newest version is used only once it is `durations.settle` (10 s) old." + _KEEPS,
        "Wait; `jtr plan` and `jtr apply` wait by themselves.",
    ),
    "driver-error": Text("A trading server could not be spoken to." + _NOT_KNOWN, _DOCTOR),
    "server-unreachable": Text(
        "No connection to the server came about." + _NOT_KNOWN,
        "See whether JT-Trader runs there and the network leads to it; `jtr doctor` says how far "
        "we come.",
    ),
    "tls-refused": Text(
        "The certificate is not one that we trust for this address: somebody else may answer "
        "there." + _GOES_ON,
        "See what answers. Check spec.url, and `tls` in the settings.",
    ),
    "connection-lost": Text(
        "The connection ended while nothing was asked that could change the server." + _NOT_KNOWN,
        "Try again; if it stays so, see the server and what lies between.",
    ),
    "read-silent": Text(
        "A read was sent, and no answer came in time." + _NOT_KNOWN,
        "Try again later; the server may be overloaded, or hang.",
    ),
    "login-silent": Text(
        "The server took the connection, and said neither yes nor no to the login: it asks its "
        "vendor's site at every one." + _NOT_KNOWN,
        "Try again later; see whether the server reaches the internet.",
    ),
    "unauthorized": Text(
        "The server refused the access secret or token." + _NOT_KNOWN,
        "Compare what Vault has with the server's own; see `accessSecret` in the document.",
    ),
    "wrong-account": Text(
        "The server reports another account than the document names: it may be another server."
        + _GOES_ON,
        "Correct `account`, or see what answers there.",
    ),
    "answer-too-long": Text(
        "An answer was longer than any of a sound server." + _NOT_KNOWN,
        "See what answers at this address.",
    ),
    "unknown-answer": Text(
        "An answer has a shape that this jtr does not know." + _NOT_KNOWN,
        "Use a newer jtr; report it.",
    ),
    "no-answer": Text(
        "The server was asked to change something, and nothing came back: it may have done it or "
        "not. It is not repeated, and the brake is on until that is known.",
        "`jtr status` says what is open; look at the server and its robots.",
    ),
    "server-refused": Text(
        "What was to be sent could fail inside the server, which would stop its robots. It was "
        "not sent.",
        "The message says what is wrong with it.",
    ),
    "ledger-error": Text(
        "The ledger cannot be read or written. What cannot be recorded is not sent." + _GOES_ON,
        _DOCTOR,
    ),
    "ledger-missing": Text(
        "There is no ledger, and nobody is there to agree to a new one." + _GOES_ON,
        "`jtr ledger init`; if there was one, restore it.",
    ),
    "ledger-refused": Text(
        "Vault did not let the ledger be written." + _GOES_ON,
        "Give the token the rights of deploy/vault on the ledger's path.",
    ),
    "forge-away": Text(
        "The forge (GitHub, GitLab, Gitea, Forgejo) did not answer, or refused. Only its comment "
        "or status is missing: what the job did for servers is as it says.",
        "See the rights of the job's token; run the job again.",
    ),
    "git-error": Text(
        "Git did not tell what was asked, such as the commit of a file. Nothing was contacted.",
        "See that it is a checkout, and that git is installed.",
    ),
    "unsigned": Text(
        "The newest commit of the followed branch is not signed by anybody who counts. What was in "
        "force before stays in force.",
        "Ask who pushed it; let a signer of git.verify sign a commit on top of it.",
    ),
    "controller-away": Text(
        "The controller of the settings does not answer. Servers are not affected by that.",
        "See whether it runs, and controller.url; without it the ledger is asked.",
    ),
    "controller-refused": Text(
        "The controller of the settings answered that it does not tell this.",
        "Do what its message says, such as giving the right token file.",
    ),
    "refused": Text(
        "The forge said no to a comment or a status. What the job did for servers is as it says.",
        "See the rights of the job's token.",
    ),
    "ledger-unreachable": Text(
        "The ledger in Vault gave no usable answer, and a write to it may have taken place. What "
        "is not certain to be recorded is not sent." + _GOES_ON,
        "See whether Vault runs; then try again.",
    ),
    "hung-up": Text(
        "SIGHUP came: the terminal was closed. What was in flight was finished or noted; nothing "
        "new was begun.",
        "`jtr status` says whether something is open; then run it again.",
    ),
    "stopped": Text(
        "SIGTERM came. What was in flight was finished or noted; nothing new was begun.",
        "`jtr status` says whether something is open; then run it again.",
    ),
    "lease-held": Text(
        "Another process applies to this server at this moment." + _GOES_ON,
        "Wait for it, then try again.",
    ),
    "conflict": Text(
        "Another process worked on this server meanwhile, so what was planned is out of date."
        + _GOES_ON,
        "Plan again.",
    ),
    "interrupted": Text(
        "Somebody, or the system, asked the process to stop. What was in flight was finished or "
        "noted.",
        "`jtr status` says whether something is open; then run it again.",
    ),
    "internal-error": Text(
        "A mistake in jt-reconciler. Nothing more is done on this server in this pass; the others "
        "go on.",
        "Report it; `jtr --debug` shows where.",
    ),
}
