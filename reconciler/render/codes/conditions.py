"""What the conditions of plans mean: why a line is as it is."""

from collections.abc import Mapping
from typing import Final

from reconciler.model.conditions import Code
from reconciler.render.codes.text import Text

TEXTS: Final[Mapping[Code, Text]] = {
    Code.IN_SYNC: Text(
        "The server shows what this ledger wrote there, and that is the version that the document "
        "names; or nothing is there and nothing shall be. Nothing is done, and robots are not "
        "touched.",
        "Nothing.",
    ),
    Code.FOUND: Text(
        "Somebody else connected the exchange, and what the server shows of it looks like the key "
        "in Vault. Six characters of it are shown, which is good evidence and no proof. Nothing is "
        "written, and robots go on with what is there.",
        "Nothing; `jtr adopt --record` makes it ours, so that it rotates like any other, and "
        "`jtr apply --rewrite SERVER/EXCHANGE` writes it once for certain.",
    ),
    Code.ABSENT: Text(
        "The server has no key for this exchange, or not for one of its fields, and the document "
        "says that it shall. It is written. Robots that run there run without a key until they are "
        "restarted.",
        "Apply it; then see what the plan says of robots.",
    ),
    Code.NEW_VERSION: Text(
        "Vault holds a newer version than the one that was written last. It is written. Robots "
        "keep the old key until they are restarted; with the same API key only a reboot of "
        "JT-Trader helps, because it caches its client by API key.",
        "Apply it before the old key is revoked at the exchange; then restart or reboot as the "
        "plan says.",
    ),
    Code.PIN_MOVED: Text(
        "The document names another version of the secret than the one that was written last. It "
        "is written, forwards or backwards. Robots keep the old key until they are restarted.",
        "See that the version is the one that you mean, then apply it.",
    ),
    Code.PATH_MOVED: Text(
        "The document names another secret, or other fields of it, than what was written last. It "
        "is written. Robots keep the old key until they are restarted.",
        "See that the path is the right one for this server, then apply it.",
    ),
    Code.TAKE_OVER: Text(
        "Somebody else connected the exchange, and people agreed that it is replaced or deleted "
        "(`--take-over`, or `takeOver: true`). What exists only there is lost, and robots that use "
        "it need a restart.",
        "Be sure that the key on the server is kept somewhere else, or needed no more.",
    ),
    Code.NOT_VERIFIABLE: Text(
        "What the server shows proves too little, or is remembered under another fingerprint key. "
        "It is written again, which changes nothing if it was right: no robot is restarted for it.",
        "Nothing; if it happens to many servers at once, find out where the fingerprint key went.",
    ),
    Code.UNFINISHED: Text(
        "An earlier write of ours did not end: the process died, or the server fell silent. What "
        "is there may be half old and half new. It is written whole again.",
        "Apply it soon: a robot that starts with half a key fails until it is restarted.",
    ),
    Code.REWRITE: Text(
        "It is written because somebody asked for it (`--rewrite`), whatever the verdict. The same "
        "values change nothing for robots.",
        "Nothing.",
    ),
    Code.DELETE: Text(
        "The document says `state: absent`, and the server still has the key. It is deleted, field "
        "by field. Robots that are started there later run without a key.",
        "Apply it once no robot needs it.",
    ),
    Code.DRIFT_CORRECTED: Text(
        "Somebody changed on the server what we wrote, and it is put back: the document says "
        "`selfHeal: true`, or a person asked. Robots are not restarted for it; those that started "
        "meanwhile keep the other key.",
        "Find out who changed it: it may come back, and then it is called contested.",
    ),
    Code.DRIFT_LEFT_ALONE: Text(
        "Somebody changed on the server what we wrote, and nobody agreed to put it back. It is "
        "left as it is: it may be somebody's remedy for a key that does not work. Robots that "
        "start now use what is there.",
        "Find out who changed it and why. `jtr apply --correct-drift` puts the desired key back; "
        "if the other one is right, put it into Vault.",
    ),
    Code.FOREIGN: Text(
        "Somebody else connected the exchange, and it is not known to be the desired key. It may "
        "exist nowhere else, so it is not overwritten. Robots go on with it.",
        "Look whose key it is. `jtr apply --take-over SERVER/EXCHANGE` replaces it; `jtr adopt` "
        "helps to bring it into Vault first.",
    ),
    Code.NEW_RECIPIENT: Text(
        "The server would get a login or a secret that it never got before, and neither the "
        "operator's policy, nor the owner of the secret, nor a person agreed. A typing mistake in "
        "an address sends keys to a stranger, so nothing is sent, and trading is not touched.",
        "Read each address and path. If they are right: `--approve-recipient SERVER`, `jtr apply` "
        "on a terminal, a policy, or `jtr_targets` in the metadata of the secret.",
    ),
    Code.NOT_MANAGED: Text(
        "The server has a key for an exchange that no document names, and we never wrote it. It "
        "is not touched, ever.",
        "Nothing; or declare it, and `jtr adopt` finds out which secret it is.",
    ),
    Code.LEFT_ON_SERVER: Text(
        "We wrote this key once, and the exchange is no longer in the document. Silence never "
        "deletes: the server still has the key, and robots can use it.",
        "Declare `state: absent` for it to have it deleted; or declare it again.",
    ),
    Code.NOT_READ: Text(
        "Only the value itself could tell whether it differs, and values were not read: this was "
        "`--recorded`. It is neither in sync nor different.",
        "`jtr plan` without `--recorded`, where the rights to read it are.",
    ),
    Code.STALE: Text(
        "It was as desired when the server was last looked at, longer ago than `durations.stale` "
        "(1 day). Somebody may have changed it since, so nobody says that it is in sync.",
        "Have it looked at: `jtr plan`, `jtr apply`, or a controller. If a controller runs, find "
        "out why it does not look: `jtr status`, `jtr doctor`.",
    ),
    Code.ROBOTS_RUN: Text(
        "The key shall be deleted, and robots of this exchange run. Without a key they would go on "
        "until their next request fails, with orders open. It is not deleted.",
        "Stop these robots on the server's page, then apply again.",
    ),
    Code.EXCHANGE_UNKNOWN: Text(
        "The server does not list an exchange of this code, so there is no place for its key. "
        "Nothing is sent for it; the other exchanges go on.",
        "See whether the code is mistyped (the plan names what is near). Else add it to the "
        "server's exchanges.conf, which is read at a boot: that stops its robots.",
    ),
    Code.EXCHANGE_UNSAFE: Text(
        "What the server says about the fields of this exchange is ambiguous, and a wrong message "
        "stops every robot on it. Nothing is sent for it.",
        "Connect this exchange by hand on the server's Config page.",
    ),
    Code.FIELDS_MISSING: Text(
        "The server asks for fields that the document does not give. An exchange is written whole "
        "or not at all: half a key is worse than an old one.",
        "Add the fields under `credentials`.",
    ),
    Code.FIELDS_SURPLUS: Text(
        "The document gives fields that the server does not ask for. A field that it does not know "
        "could stop its robots, so nothing is sent for this exchange.",
        "Remove them from `credentials`.",
    ),
    Code.UNVERIFIED_LIMIT: Text(
        "More servers than `maxUnknownWrites` would be written although nobody can tell whether "
        "they differ. So many at once is more likely a lost fingerprint key than a need.",
        "Find out why so much is unknown. If that is in order, apply again for the next ones, or "
        "raise maxUnknownWrites.",
    ),
    Code.POLICY_DENIED: Text(
        "The operator's policy does not allow what the document asks for. Nothing of it is done, "
        "and trading goes on as before.",
        "`jtr policy explain SERVER` shows the rules. Ask who owns the policy, or change the "
        "document.",
    ),
    Code.POLICY_LIMIT: Text(
        "This pass would do more of a kind than the policy allows. Then none of it is done: fifty "
        "deletes where two are allowed are a mistake.",
        "See whether so much is meant; then fewer at a time with --server, or a higher limit.",
    ),
    Code.BRAKE: Text(
        "A write to this server, or to its version of JT-Trader, stopped robots or had no known "
        "outcome. Until somebody looked, nothing more is written there: not keys, not restarts, "
        "not reboots. Robots that run go on.",
        "Look at the server that was harmed. Then `jtr ledger release-brake SERVER|VERSION "
        "--because TEXT`.",
    ),
    Code.UNTESTED_VERSION: Text(
        "Nobody has tested writing to this version of JT-Trader, and one wrong message stops all "
        "its robots. It is read, not written.",
        "Use a newer jtr; or try it on a server where nothing trades, and add the version to "
        "acceptVersions in the settings.",
    ),
    Code.SUSPENDED: Text(
        "Its document suspends the server, or an operator paused it on the controller's page: "
        "somebody asked for quiet. Nothing is applied, neither keys nor requests. Rotated keys do "
        "not reach it meanwhile.",
        "Ask who suspended it. Remove `suspend` from the document, end an operator's pause with "
        "Go on, or wait for its end.",
    ),
    Code.OBSERVE_ONLY: Text(
        "`mode: observe`: differences are shown and never applied.",
        "Write `mode: enforce` once the plan is what you want.",
    ),
    Code.ANOTHER_SERVER: Text(
        "Nothing on the server is as we left it: all keys that we wrote are changed, or none of "
        "the robots that we knew is there. Tunnels get swapped and machines replaced. A key on the "
        "wrong server is worse than an old one, so nothing is sent.",
        "Look at what answers there. If it is the right server: --approve-target-change SERVER.",
    ),
    Code.ADDRESS_CHANGED: Text(
        "The document names another address than the one at which the ledger knows this server. "
        "It is not even contacted: the old one still holds keys and runs robots, and two servers "
        "with the same robots trade twice.",
        "Switch the old server off. Then --approve-target-change SERVER.",
    ),
    Code.NEVER_SEEN: Text(
        "This ledger holds no observation of the server, so nothing can be compared without a "
        "visit. It is neither in sync nor different.",
        "`jtr plan` looks at it; `jtr apply` or a controller on the same ledger remembers it.",
    ),
    Code.NOT_ASKED: Text(
        "No document asks for it, and nothing else ever plans a reboot or an invalidation: no "
        "changed key, no drift, no error.",
        "`jtr request reboot SERVER --robots resume|leave --reason TEXT` or `jtr request "
        "invalidate-cache SERVER --reason TEXT`, if you want one.",
    ),
    Code.DUE: Text(
        "It is done at the next apply. A reboot stops every robot on the server, a restart those "
        "of one exchange, an invalidation destroys what robots stored.",
        "Read whom it stops, and whether they are started again; then apply, or remove it.",
    ),
    Code.SCHEDULED: Text(
        "Its instant lies in the future. It is done by the first apply or pass after that.",
        "Nothing; without a controller, something has to run `jtr apply` then.",
    ),
    Code.WINDOW_CLOSED: Text(
        "The server's windows do not allow to disturb robots now. It waits for the next opening, "
        "and expires if that comes too late.",
        "Wait, or change `windows`. The plan says when the next one opens.",
    ),
    Code.CLOCK_UNSTEADY: Text(
        "The clock of this machine jumped, or contradicts what the ledger noted. Requests are "
        "named by instants, so none is begun and none expires.",
        "Set the clock (NTP), then try again.",
    ),
    Code.EARLIER_OPEN: Text(
        "An earlier request of this server is not settled: it may have been sent, and nobody knows "
        "what became of it. A second one could stop robots that the first one owes a start.",
        "`jtr request list` shows it; see what it says first.",
    ),
    Code.ROBOTS_OWED: Text(
        "We stopped these robots, for a restart or a reboot, and they do not run again. Until they "
        "do they do not trade. They are started by the next apply if that can be done safely.",
        "Apply; or `jtr request resume SERVER`.",
    ),
    Code.ROBOTS_LEFT_STOPPED: Text(
        "We stopped these robots, and they are not started again without being asked: too much "
        "time passed, the server booted again, or somebody else changed robots. They do not trade.",
        "Look at the server. `jtr request resume SERVER` starts them; or start them on its page.",
    ),
    Code.NO_DISRUPTIVE: Text(
        "This run was told to restart nobody and to do no requests (`--no-disruptive`).",
        "Run it without that option.",
    ),
    Code.DECLINED: Text(
        "The person at the terminal said no. Nothing of it was done.",
        "Apply again when it is wanted.",
    ),
    Code.LEFT_TO_CONTROLLER: Text(
        "A controller uses this ledger, and drift and requests are its business: two processes "
        "that reboot one server could do it twice.",
        "Nothing; see `jtr status` for what the controller does.",
    ),
    Code.ACCOUNT_SUSPENDED: Text(
        "Another account of this server's process is suspended, by its document or by an operator "
        "who paused it, and a reboot or an invalidation touches the robots of all accounts: it "
        "stops them, or empties what they stored. It waits until that ends; keys and robots of "
        "this account go on as usual.",
        "Wait for its end, or ask who suspended it: `suspend` is taken out of that document, and "
        "Go on, on the page of that account's server, ends a pause.",
    ),
    Code.OTHERS_UNSEEN: Text(
        "The controller just began, and two documents may name one server. Every server is looked "
        "at once before any robot is disturbed. It takes seconds.",
        "Wait.",
    ),
    Code.REBOOT_DOES_IT: Text(
        "A reboot of this plan starts these robots anyway, so they are not restarted before it.",
        "Nothing.",
    ),
    Code.REBOOT_NEEDED: Text(
        "A restart would not give these robots the new key: JT-Trader caches its exchange client "
        "by API key for the life of its process. They keep the old secret until it is rebooted.",
        "`jtr request reboot SERVER --robots resume --reason TEXT`, at a time when stopping all "
        "robots is in order.",
    ),
    Code.LEDGER_CANNOT_TELL: Text(
        "This ledger may not know what was done: there is none, it began just now, it was "
        "restored, or another one may exist. A reboot that was done already could be done again.",
        "Do as the line says: `jtr ledger init`, `jtr ledger accept-restore`, or `soleWriter: "
        "true`; then ask anew.",
    ),
    Code.LOG_UNREADABLE: Text(
        "The server's system log cannot be read, and only it can prove a reboot. Without proof a "
        "reboot might be done twice.",
        "See on its Config page (System logs) why; or reboot it by hand.",
    ),
    Code.LOG_OF_SEVERAL: Text(
        "The server's system log holds entries of several processes at once, so it does not tell "
        "which one runs, and proves no reboot.",
        "See whether two processes of JT-Trader share one log.",
    ),
    Code.TWIN: Text(
        "Another document names the same server: the newest boot lines of both are equal. Each "
        "would reboot it once.",
        "Keep one document of it, or see what answers at the two addresses.",
    ),
    Code.IN_DOUBT: Text(
        "A request was sent, or was about to be, and nobody knows whether it took effect. It is "
        "never repeated: a second reboot stops robots that people started meanwhile.",
        "Look at the server (its log, its robots). Then `jtr request resolve SERVER KIND INSTANT "
        "--done|--not-done --because TEXT`, which sends nothing.",
    ),
    Code.FOUND_OUT: Text(
        "What an earlier process left open has an answer now: the server's log, or the robots "
        "that run, tell it. The next apply notes it; nothing is sent for that.",
        "Nothing; `jtr apply` notes it.",
    ),
    Code.DONE: Text(
        "The request was done. Its instant is never done again.", "Remove it at leisure."
    ),
    Code.NOT_DONE: Text(
        "The request was sent or tried, and provably did not happen. It is not tried again by "
        "itself.",
        "Ask with a new instant (`jtr request`), or remove it: exit code 4 until then.",
    ),
    Code.SATISFIED: Text(
        "The server booted after that instant without us, which is what was asked for. It is not "
        "rebooted again.",
        "Nothing; remove it at leisure.",
    ),
    Code.EXPIRED: Text(
        "It was not done within `expiresAfter` (24 h), and is not done any more: a reboot that "
        "comes days late surprises people. Robots run as before.",
        "Ask with a new instant (`jtr request`) if it is still wanted, or remove it: exit code 4 "
        "until then.",
    ),
    Code.SUPERSEDED: Text(
        "A later request of this kind was handled already, so this one is never done. That is how "
        "a git revert repeats no reboot.",
        "Ask with a new instant if another one is wanted; else remove it at leisure.",
    ),
    Code.BASELINED: Text(
        "The request is older than this ledger, which cannot know whether it was done. It is "
        "never run.",
        "Ask with a new instant if it is still wanted; else remove it.",
    ),
}
