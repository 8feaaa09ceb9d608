"""
The operator's settings as values; `settings.load` reads them.
"""

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from msgspec import Struct

from reconciler.model.key_audits import Egress
from reconciler.model.patterns import any_matches, glob_matches
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.secret import Secret
from reconciler.model.wording import RUNBOOKS
from reconciler.policy.model import ANYTHING, Policy
from reconciler.settings.audit import AuditSettings
from reconciler.settings.git import GitSettings
from reconciler.settings.notifications import NotificationSettings
from reconciler.system.timeouts import Timeouts

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

MOST_UNKNOWN_WRITES: Final = 20


DEFAULT_TIMEOUTS: Final = Timeouts()


DEFAULT_AUDIT: Final = AuditSettings()


DEFAULT_LISTEN: Final = "127.0.0.1:9797"
DEFAULT_PAGE_LISTEN: Final = "127.0.0.1:9798"
DEFAULT_PROXY_HEADER: Final = "X-Forwarded-User"


class AuthMethod(enum.StrEnum):
    TOKEN = "token"  # noqa: S105  - the name of a method
    TOKEN_FILE = "token-file"  # noqa: S105  - the name of a method
    APPROLE = "approle"
    JWT = "jwt"
    KUBERNETES = "kubernetes"


class Role(enum.StrEnum):
    """What a process is when several share a ledger."""

    CI = "ci"
    CONTROLLER = "controller"


@dataclass(frozen=True, slots=True)
class VaultAuth:
    """
    A login.  `token` is there only when the environment gave one; it never comes from a file here.

    `token_file` holds a token (token-file) or a JWT (jwt, kubernetes).
    """

    method: AuthMethod = AuthMethod.TOKEN
    token: Secret | None = field(default=None, compare=False)
    token_file: str | None = None
    role_id: str | None = None
    role_id_file: str | None = None
    secret_id_file: str | None = None
    role: str | None = None
    mount: str | None = None


class VaultSettings(Struct, frozen=True):
    """Where Vault or OpenBao is; without an address no secret can be read."""

    address: str | None = None
    namespace: str | None = None
    ca_file: str | None = None
    auth: VaultAuth = VaultAuth()


class SqliteLedger(Struct, frozen=True):
    """A ledger in a file of this host."""

    path: str
    shared: ClassVar = False
    at: ClassVar = None

    def __str__(self) -> str:
        return f"sqlite:{self.path}"

    @property
    def file(self) -> Path:
        return Path(self.path).expanduser()


class VaultLedger(Struct, frozen=True):
    """A ledger in a KV version 2 mount, below a path, which several hosts can share."""

    at: SecretPath
    shared: ClassVar = True
    file: ClassVar = None

    def __str__(self) -> str:
        return str(self.at)


class TlsRule(Struct, frozen=True):
    """Which certificates to trust from, and to show to, the servers whose URLs match."""

    urls: tuple[str, ...]
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None

    def matches(self, url: str) -> bool:
        return any_matches(self.urls, url)


class PageSettings(Struct, frozen=True):
    """
    The page for people: where it listens, under which names it is reached, and who is let in.

    `token_file` holds the token of who may read, `operator_token_file` that of who may act.  From
    `proxy_networks` the header `proxy_header` names who asks; `client_ca_file` signs the
    certificates of who is let in.  `operators` are names of either that may act.
    """

    listen: str
    hosts: tuple[str, ...] = ()
    token_file: str | None = None
    operator_token_file: str | None = None
    proxy_networks: "tuple[IPv4Network | IPv6Network, ...]" = ()
    proxy_header: str = DEFAULT_PROXY_HEADER
    operators: tuple[str, ...] = ()
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None


class ControllerSettings(Struct, frozen=True):
    """
    Where the controller listens and keeps its state, and where others find it.

    `token_file` holds the bearer token of its `/v1` pages; without one it listens on this host only
    and asks nobody.  `fleet` is what messages to people call its servers together; empty: this
    host's name.  The pages that they link to lie below `runbooks`.
    and asks nobody.  `page` is None where nobody wants one; `actions` says whether operators may
    ask for anything on it.
    """

    listen: str = DEFAULT_LISTEN
    url: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    state: str = ""
    fleet: str = ""
    runbooks: str = RUNBOOKS
    page: PageSettings | None = None
    actions: bool = False


class Settings(Struct, frozen=True):
    """
    All settings after file and environment; `source` is the file, None when there is none.
    """

    ledger: SqliteLedger | VaultLedger
    vault: VaultSettings = VaultSettings()
    sole_writer: bool = False
    role: Role | None = None
    fingerprint_key: SecretRef | None = None
    policy: Policy = ANYTHING
    tls: tuple[TlsRule, ...] = ()
    accept_versions: tuple[str, ...] = ()
    max_unknown_writes: int = MOST_UNKNOWN_WRITES
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    controller: ControllerSettings = ControllerSettings()
    git: GitSettings | None = None
    audit: AuditSettings = DEFAULT_AUDIT
    notifications: tuple[NotificationSettings, ...] = ()
    source: str | None = None

    @property
    def only_ledger(self) -> bool:
        """Whether no other ledger knows its servers."""
        return self.sole_writer or self.ledger.shared

    def egress_of(self, name: str, url: str) -> Egress:
        """Return from where to ask about the keys of the server *name* at *url* (normalised)."""
        return self.audit.egress_of(name, url, glob_matches)

    def tls_for(self, url: str) -> TlsRule | None:
        return next((rule for rule in self.tls if rule.matches(url)), None)
