"""What the checks of `jtr doctor` look at."""

from collections.abc import Mapping
from typing import Final

from reconciler.render.codes.text import Text

TEXTS: Final[Mapping[str, Text]] = {
    "settings.file": Text(
        "Whether the operator's settings are there, valid, and written by nobody else.",
        "Mend what is named; without settings jtr finds neither Vault nor ledger.",
    ),
    "settings.place": Text(
        "Whether the settings lie apart from the documents: else a pull request could send the "
        "Vault token elsewhere.",
        "Move them out of the tree of the documents.",
    ),
    "documents.valid": Text(
        "Whether the documents are valid.", "`jtr validate` shows every problem."
    ),
    "documents.transport": Text(
        "Keys travel to this server in clear: `insecureTransport` says that somebody accepted it.",
        "Put TLS in front of it, or a tunnel, and remove insecureTransport.",
    ),
    "documents.suspended": Text(
        "Nothing is applied to a server that its document suspends: rotated keys do not reach it.",
        "Remove `suspend` when that is over.",
    ),
    "documents.windows": Text(
        "Whether this machine knows the time zones of the windows. Where it does not, they stay "
        "closed, and robots are not disturbed.",
        "Install tzdata.",
    ),
    "vault.reachable": Text(
        "Whether Vault answers at all. While it does not, no key is rotated, and robots go on.",
        "See vault.address in the settings, and whether Vault runs.",
    ),
    "vault.sealed": Text("Whether Vault is unsealed and can serve.", "Unseal it."),
    "vault.clock": Text(
        "Whether Vault's clock and ours agree: the age of a new secret is judged by both.",
        "Set the clocks (NTP).",
    ),
    "vault.login": Text("Whether Vault accepts our login.", "See vault.auth in the settings."),
    "vault.token": Text(
        "How long the token lives, and whether it is renewed. When it ends, rotations stop.",
        "Give a periodic token, or let Vault Agent keep it fresh.",
    ),
    "vault.policies": Text(
        "Whether the token has a policy at all, and is not root.",
        "Give it the policy of deploy/vault.",
    ),
    "vault.powers": Text(
        "Whether the token may do more than jtr needs: whoever steals it could.",
        "Give it the policy of deploy/vault.",
    ),
    "vault.mount": Text(
        "Whether the mounts of the documents are KV version 2.", "Correct the path."
    ),
    "vault.secrets": Text(
        "Whether the secrets of the documents are there and complete.",
        "Write what is missing.",
    ),
    "vault.can-read": Text(
        "Whether the token may read each secret of the documents.",
        "Add the path to its policy.",
    ),
    "vault.cannot-write": Text(
        "Whether the token can change secrets, which jtr never does.",
        "Take that right away.",
    ),
    "vault.bindings": Text(
        "Whether the owners of secrets say where these may go (`jtr_targets`). Where they do not, "
        "a document alone decides that.",
        "Write jtr_targets into the metadata of the secret.",
    ),
    "key.usable": Text(
        "Whether the fingerprint key is there and is that of the ledger. Without it nobody "
        "recognises what was written.",
        "Restore it, if there was one; else `jtr ledger init`.",
    ),
    "ledger.present": Text("Whether there is a ledger.", "`jtr ledger init`, or restore it."),
    "ledger.open": Text(
        "Whether the ledger can be read.",
        "Do what the message says; what cannot be recorded is not sent.",
    ),
    "ledger.writable": Text("Whether the ledger can be written.", "See the rights of its place."),
    "ledger.lasting": Text(
        "Whether the ledger lies where it stays: one that is lost makes everything foreign.",
        "Put it onto a disk that lasts, or into Vault.",
    ),
    "ledger.only": Text(
        "Whether this is the only ledger for these servers. On SQLite that is your word "
        "(`soleWriter`), and requests need it.",
        "Use one ledger in Vault; or say soleWriter: true if that is so.",
    ),
    "ledger.fits": Text(
        "Whether the ledger is as new as this host has seen it: a restored one has forgotten what "
        "was done.",
        "Find out what was done meanwhile, then `jtr ledger accept-restore`.",
    ),
    "ledger.brake": Text(
        "A brake is on: nothing is written to a server, or to a whole version of JT-Trader.",
        "Look at the server, then `jtr ledger release-brake`; see `jtr explain brake`.",
    ),
    "controller.reachable": Text(
        "Whether the controller of the settings answers.",
        "See whether it runs, and controller.url.",
    ),
    "controller.role": Text(
        "Whether only one of CI and controller corrects drift and does requests.",
        "See `role` in the settings.",
    ),
    "controller.status": Text(
        "What the controller itself says: whether it acts, and what it waits for.",
        "`jtr status` shows all of it.",
    ),
    "server.allowed": Text(
        "Whether the operator's policy allows this server to be contacted.",
        "`jtr policy explain SERVER`.",
    ),
    "server.address": Text(
        "Whether the name of the server has an address, and its port answers.",
        "See spec.url, the name server, the firewall, and whether JT-Trader runs.",
    ),
    "server.tls": Text(
        "Whether the server's certificate is one that we trust.",
        "See `tls` in the settings.",
    ),
    "server.login": Text(
        "Whether the server accepts our login.",
        "Compare `accessSecret` in Vault with the server's own.",
    ),
    "server.account": Text(
        "Whether it is the account that the document names.", "Correct `account`."
    ),
    "server.version": Text(
        "Whether writing to this version of JT-Trader was tested.",
        "See `jtr explain untested-version`.",
    ),
    "server.clock": Text(
        "Whether the server's clock is right: exchanges refuse orders that come from another time.",
        "Set its clock (NTP).",
    ),
    "server.log": Text(
        "Whether the server's system log can be read: only it proves a reboot.",
        "See on its Config page (System logs) why not.",
    ),
    "server.exchanges": Text(
        "Whether the server lists the exchanges and fields of its document.",
        "See `jtr explain exchange-unknown` and `jtr explain fields-missing`.",
    ),
    "server.robots": Text("Which robots run there.", "Nothing."),
    "server.registration": Text(
        "Whether somebody stays registered at the server when we leave. With nobody, a robot whose "
        "start fails stops all others.",
        "A running controller keeps a connection; see docs/concepts/look.md.",
    ),
    "server.supervisor": Text(
        "Whether something starts JT-Trader again after it ends: a reboot needs that.",
        "Say `supervised: true` if it is so.",
    ),
}
