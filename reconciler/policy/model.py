"""
Rules in order, the first that matches decides, and what none matches is denied.  Pure.

A rule is a pair: which servers, and which secrets and actions.  Names and labels are chosen by
whoever writes a document, so addresses and the documents' directories are what a rule rests on.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from reconciler.errors import Blocked
from reconciler.model.desired import DesiredServer, DesiredState, Mode, OnCredentialChange, Presence
from reconciler.model.patterns import any_matches, glob_matches
from reconciler.model.policy import PolicyAction, Violation
from reconciler.model.references import SecretPath
from reconciler.model.wording import counted

EVERYTHING: Final = frozenset(PolicyAction)
DISRUPTIVE: Final = frozenset({PolicyAction.RESTART, PolicyAction.REBOOT, PolicyAction.INVALIDATE})
SERVER: Final = "{server}"


class Ask(Struct, frozen=True):
    """
    One thing that a document asks for: an action, of an exchange, with a secret.

    Without an action it is that its server is contacted, or with *path* a login there.
    """

    action: PolicyAction | None = None
    exchange: str = ""
    path: SecretPath | None = None


def _held_back(server: DesiredServer) -> bool:
    """Whether its document says so; what an operator says is no matter of this policy."""
    suspended = server.suspend is not None and not server.suspend.operator
    return suspended or server.mode is Mode.OBSERVE


def asks(server: DesiredServer) -> Iterator[Ask]:
    """Yield all that a document asks for, whether or not there is anything to do now."""
    yield Ask()
    for login in (server.access_secret, server.access_token):
        if login is not None:
            yield Ask(path=login.at)
    for exchange in server.exchanges:
        if exchange.presence is Presence.ABSENT:
            yield Ask(PolicyAction.DELETE, exchange.code)
        for path in dict.fromkeys(ref.at for ref in exchange.references):
            yield Ask(PolicyAction.WRITE, exchange.code, path)
        if exchange.take_over:
            yield Ask(PolicyAction.TAKE_OVER, exchange.code)
    for asked, action in (
        (server.on_credential_change is OnCredentialChange.RESTART, PolicyAction.RESTART),
        (server.reboot is not None, PolicyAction.REBOOT),
        (server.cache is not None, PolicyAction.INVALIDATE),
        (server.self_heal, PolicyAction.SELF_HEAL),
        (_held_back(server), PolicyAction.SUSPEND),
    ):
        if asked:
            yield Ask(action)


class Rule(Struct, frozen=True):
    """
    One rule; None for a list of patterns that it does not have.

    `windows` and `audit` say what a document must declare for what this rule allows.
    """

    number: int
    name: str
    allows: bool = True
    names: tuple[str, ...] | None = None
    urls: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None
    secrets: tuple[str, ...] | None = None
    exchanges: tuple[str, ...] | None = None
    actions: frozenset[PolicyAction] = EVERYTHING
    windows: bool = False
    audit: bool = False

    def __str__(self) -> str:
        return f"rule {self.number} ({self.name})"

    def misses(self, server: DesiredServer) -> str:
        """Say why the rule is not about *server*; empty when it is."""
        for what, subject, patterns in (
            ("address", server.target.url, self.urls),
            ("file", server.place, self.files),
            ("name", server.name, self.names),
        ):
            if patterns is not None and not any_matches(_filled(patterns, server), subject):
                return f"the {what} {subject} is not {' or '.join(patterns)}"
        return ""

    def passes_over(self, server: DesiredServer, ask: Ask) -> str:
        """
        Say why the rule does not decide *ask* of a server that it is about; empty when it does.

        What it leaves open (a reboot has no secret, a login no exchange) any rule allows that is
        about the server; it is denied only by a rule that does not narrow that down.
        """
        if ask.action is None:
            if not self.allows and self.actions != EVERYTHING:
                return f"it denies {_listed(self.actions)} only"
        elif ask.action not in self.actions:
            return f"it is about {_listed(self.actions)}"
        if self.exchanges is not None:
            if not ask.exchange and not self.allows:
                return "it is about some exchanges only"
            if ask.exchange and not any_matches(self.exchanges, ask.exchange):
                return f"{ask.exchange} is not {' or '.join(self.exchanges)}"
        if ask.path is None:
            return "it is about some secrets only" if self.secrets and not self.allows else ""
        if self.secrets is None:
            return "it gives no secrets" if self.allows else ""
        if not any(_gives(pattern, ask.path) for pattern in _filled(self.secrets, server)):
            return f"{ask.path} is not {' or '.join(self.secrets)}"
        return ""

    def lacks(self, server: DesiredServer, ask: Ask) -> str:
        """Say what the document must declare besides; empty when nothing is missing."""
        if self.windows and ask.action in DISRUPTIVE and not server.windows:
            return "spec.windows"
        exchange = server.exchange(ask.exchange)
        write = ask.action is PolicyAction.WRITE and exchange is not None
        if self.audit and write and exchange is not None and not exchange.security.declared:
            return "security"
        return ""


def _filled(patterns: Iterable[str], server: DesiredServer) -> Iterator[str]:
    # A name is [a-z0-9-]: nothing in it is a wildcard.
    return (pattern.replace(SERVER, server.name) for pattern in patterns)


def _gives(pattern: str, path: SecretPath) -> bool:
    """Whether a pattern is about a secret; `secret/jt/**` is about no mount called `secret/jt`."""
    name = str(path).removeprefix("vault:")
    alike = ("//" in name) is ("//" in pattern) or pattern == "**"
    return alike and glob_matches(pattern, name)


def _listed(actions: Iterable[PolicyAction]) -> str:
    return ", ".join(sorted(actions))


class Limits(Struct, frozen=True):
    """
    How much may be done in one pass; None where there is no limit.

    `servers_changed` is in percent of the servers that the documents name.
    """

    deletes: int | None = None
    restarts: int | None = None
    reboots: int | None = None
    invalidations: int | None = None
    servers_changed: int | None = None


NO_LIMITS: Final = Limits()


class Decision(Struct, frozen=True):
    """What became of one ask; `rule` decided it, None when none matched."""

    ask: Ask
    allowed: bool
    rule: Rule | None
    lacks: str = ""


class Policy(Struct, frozen=True):
    """
    The whole policy.

    `source` is its file.  Without one it is `allow` of the settings, or nothing at all: such a one
    says what may be named, but not who may have what, so a new recipient needs a person's yes.
    """

    rules: tuple[Rule, ...]
    limits: Limits = NO_LIMITS
    require_binding: bool = False
    source: str = ""

    @classmethod
    def of_lists(cls, urls: tuple[str, ...], paths: tuple[str, ...]) -> "Policy":
        """Return what the settings' `allow` says; an empty list is no limit."""
        secrets = tuple(path.removeprefix("vault:") for path in paths) or ("**",)
        return cls((Rule(1, "allow", urls=urls or ("**",), secrets=secrets),))

    @property
    def speaks(self) -> bool:
        """Whether it says who may have what, so that nobody else need be asked."""
        return bool(self.source)

    def decisions(self, server: DesiredServer) -> Iterator[Decision]:
        """Decide all that the document of *server* asks for: the first rule that is about it."""
        about = [rule for rule in self.rules if not rule.misses(server)]
        return (_decided(about, server, ask) for ask in asks(server))

    def violations(self, server: DesiredServer) -> tuple[Violation, ...]:
        """Return what the document of *server* asks for and may not."""
        return tuple(
            self.violation(server, decision)
            for decision in self.decisions(server)
            if not decision.allowed
        )

    def violation(self, server: DesiredServer, decision: Decision) -> Violation:
        """Word a decision that went against a document."""
        ask, rule = decision.ask, decision.rule
        if not self.speaks:
            return _not_listed(server, ask)
        subject = _subject(server, ask)
        remedy = (
            f"`jtr policy explain {server.name}` shows which rules there are; the operator changes "
            "them, or the document asks for less"
        )
        if decision.lacks:
            subject = f"{subject} without {decision.lacks}: {rule} wants it"
            remedy = f"declare {decision.lacks}"
        elif rule is None:
            subject = f"{subject}: no rule allows it"
        else:
            subject = f"{subject}: {rule} denies it"
        named = "" if rule is None else f"{rule.number} {rule.name}"
        return Violation(ask.action, ask.exchange, f"policy: {subject}", named, remedy)

    def check(
        self, server: DesiredServer, action: PolicyAction | None = None, exchange: str = ""
    ) -> None:
        """
        Raise Blocked where *server* may not be contacted, or *action* not be asked for there.

        The login that it would get belongs to the contact.
        """
        for one in self.violations(server):
            if one.action is None or (one.action, one.exchange) == (action, exchange):
                raise Blocked(one.what, one.remedy)

    def check_fits(self, state: DesiredState) -> None:
        """Raise Blocked when no rule is about any server: it must be another fleet's policy."""
        servers = (*state.servers, *state.others)
        if any(rule.allows and not rule.misses(one) for rule in self.rules for one in servers):
            return
        if self.speaks and servers:
            raise Blocked(
                f"no rule of {self.source} is about any of {counted(len(servers), 'server')}: "
                "it allows nothing here",
                f"see whether it is the right policy; `jtr policy explain {servers[0].name}`",
            )


def _decided(rules: Iterable[Rule], server: DesiredServer, ask: Ask) -> Decision:
    for rule in rules:
        if not rule.passes_over(server, ask):
            lacks = rule.lacks(server, ask) if rule.allows else ""
            return Decision(ask, rule.allows and not lacks, rule, lacks)
    return Decision(ask, allowed=False, rule=None)


ANYTHING: Final = Policy.of_lists((), ())
"""What holds without a policy: documents may name whatever they like."""


def _subject(server: DesiredServer, ask: Ask) -> str:
    url = server.target.url
    match ask:
        case Ask(None, path=None):
            return f"{server.place} may not name {url}"
        case Ask(None, path=path):
            return f"{url} may not get {path} as its login"
        case Ask(PolicyAction.WRITE, exchange, path):
            return f"{url} may not get {path} for {exchange}"
        case Ask(action, exchange) if exchange:
            return f"{server.place} may not ask for {action} of {exchange}"
    return f"{server.place} may not ask for {ask.action}"


def _not_listed(server: DesiredServer, ask: Ask) -> Violation:
    if ask.path is None:
        what = f"{server.target.url} is not among the addresses that the settings allow"
        remedy = "the operator adds it to allow.urls"
    else:
        what = f"{ask.path} is not among the secrets that the settings allow"
        remedy = "the operator adds it to allow.paths"
    return Violation(ask.action, ask.exchange, what, "", remedy)
