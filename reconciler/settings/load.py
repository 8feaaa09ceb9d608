"""
The operator's settings: where Vault is, whom to trust, where the ledger lies.

This is authority, not desired state: whoever may change these values may send the Vault token to a
place of their choice.  So they are never read from the desired-state tree or its Git work tree.
Nothing here opens a connection or reads a token file; users of `Settings` do, when they need it.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from reconciler.documents.files import read_bytes, shown
from reconciler.documents.formats import duration, url_problem
from reconciler.documents.schema import SETTINGS, problems
from reconciler.documents.tree import Map, Node, Scalar, at, items, text, text_list, true
from reconciler.documents.yaml_reader import parse
from reconciler.errors import InvalidConfig, UsageError
from reconciler.model.references import SecretRef
from reconciler.model.secret import Secret
from reconciler.model.source import Problem, SourceLine
from reconciler.model.wording import RUNBOOKS
from reconciler.policy.load import inline_policy, load_policy
from reconciler.policy.model import ANYTHING, Policy
from reconciler.settings.audit import read_audit
from reconciler.settings.git import GitSettings, read_git
from reconciler.settings.model import (
    DEFAULT_LISTEN,
    DEFAULT_PAGE_LISTEN,
    DEFAULT_PROXY_HEADER,
    DEFAULT_TIMEOUTS,
    MOST_UNKNOWN_WRITES,
    AuthMethod,
    ControllerSettings,
    PageSettings,
    Role,
    Settings,
    SqliteLedger,
    TlsRule,
    VaultAuth,
    VaultLedger,
    VaultSettings,
)
from reconciler.settings.notifications import OwnKeysOf, read_notifications
from reconciler.settings.paths import home, refuse_in_tree, settings_file, xdg
from reconciler.system.timeouts import Timeouts

LONGEST_DURATION: Final = 3600.0
_TOKEN: Final = re.compile(r"[A-Za-z0-9._-]+")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,255}")
_SECRET_KEYS: Final = ("token", "secretId", "jwt", "password")


def read_settings(
    flag: str | None,
    environ: Mapping[str, str],
    desired_paths: Sequence[str],
    own_keys: OwnKeysOf,
    *,
    in_repo_allowed: bool = False,
) -> Settings:
    """
    Read the settings file, then let the environment win over it.

    The file is *flag*, else `JTR_SETTINGS`, else the first of /etc/jtr/settings.yaml and
    ~/.config/jtr/settings.yaml that exists.  Raises UsageError when a named one is missing, when it
    lies in the desired-state tree or its Git work tree, or when a variable is wrong; InvalidConfig
    for what stands in the file.  *own_keys* says what a kind of notification target needs.
    """
    path = settings_file(flag, environ)
    if path is None:
        root: Map = Map({}, {}, SourceLine("", 1))
    else:
        if not in_repo_allowed:
            refuse_in_tree(path, desired_paths)
        root = _document(path)
    base = Path(path).absolute().parent if path else Path.cwd()
    trees = () if in_repo_allowed else desired_paths
    return _Reader(root, base, environ, own_keys, trees).settings(path)


# ── the file ─────────────────────────────────────────────────────────────────────────────────


def _document(path: str) -> Map:
    file = shown(path)
    roots = parse(read_bytes(path, operators=True), file)
    start = SourceLine(file, 1)
    if len(roots) != 1 or not isinstance(roots[0], Map):
        raise InvalidConfig(
            [Problem(start, "settings are one mapping", "write for example vault:")]
        )
    root = roots[0]
    found = {problem.source: problem for problem in problems(root, SETTINGS)}
    login = at(root, "vault", "auth")
    for key in _SECRET_KEYS if isinstance(login, Map) else ():
        if isinstance(login, Map) and key in login.keys:
            found[login.keys[key]] = Problem(
                login.keys[key],
                "a secret never stands in the settings",
                "use the environment (VAULT_TOKEN), tokenFile or secretIdFile",
            )
    if found:
        raise InvalidConfig(found.values())
    return root


# ── values ───────────────────────────────────────────────────────────────────────────────────


def ledger_place(
    word: str, absolute: Callable[[str], str] = os.path.abspath
) -> SqliteLedger | VaultLedger:
    """Read `sqlite:PATH` or `vault:MOUNT/PATH`.  Raises UsageError."""
    scheme, _, rest = word.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteLedger(absolute(rest))
    if scheme == "vault":
        reference = SecretRef.parse(word)
        if reference is not None and reference.field is None and reference.version is None:
            return VaultLedger(reference.at)
        raise UsageError("this is no place for a ledger", "write vault:MOUNT/PATH")
    raise UsageError("this is no place for a ledger", "write sqlite:PATH or vault:MOUNT/PATH")


class _Reader:
    """Turns a valid settings document and the environment into `Settings`."""

    def __init__(
        self,
        root: Map,
        base: Path,
        environ: Mapping[str, str],
        own_keys: OwnKeysOf,
        trees: Sequence[str],
    ) -> None:
        self._root = root
        self._base = base
        self._environ = environ
        self._own_keys = own_keys
        self._trees = trees
        self._problems: list[Problem] = []

    def settings(self, source: str | None) -> Settings:
        found = Settings(
            ledger=self._ledger(),
            vault=self._vault(),
            sole_writer=true(self._root, "soleWriter"),
            role=Role(role) if (role := text(self._root, "role")) else None,
            fingerprint_key=self._reference("fingerprintKey"),
            policy=self._policy(),
            tls=self._tls(),
            accept_versions=text_list(self._root, "acceptVersions"),
            max_unknown_writes=self._whole("maxUnknownWrites", MOST_UNKNOWN_WRITES),
            timeouts=self._timeouts(),
            controller=self._controller(),
            git=self._git(),
            audit=read_audit(
                at(self._root, "audit"),
                self._path,
                self._complain,
                cache=str(xdg(self._environ, "XDG_STATE_HOME", ".local/state") / "jtr/audit.json"),
            ),
            notifications=read_notifications(
                at(self._root, "notifications"), self._own_keys, self._path, self._complain
            ),
            source=source,
        )
        if self._problems:
            raise InvalidConfig(self._problems)
        return found

    def _complain(self, node: Node, what: str, remedy: str) -> None:
        self._problems.append(Problem(node.source, what, remedy))

    def _path(self, node: Node | None, *keys: str) -> str | None:
        return self._absolute(text(node, *keys)) or None

    def _absolute(self, path: str) -> str:
        """Return *path* from the settings file's directory, or from home after `~/`."""
        if not path:
            return ""
        if path.startswith("~/"):
            return str(home(self._environ) / path.removeprefix("~/"))
        return str(self._base / path)

    def _whole(self, key: str, default: int) -> int:
        node = at(self._root, key)
        number = node.value if isinstance(node, Scalar) else default
        return int(number) if isinstance(number, int | float) else default

    def _reference(self, key: str) -> SecretRef | None:
        node = at(self._root, key)
        reference = SecretRef.parse(text(node))
        if node is not None and (reference is None or reference.field is None):
            self._complain(
                node, "this is not a reference to a field", "write vault:MOUNT/PATH#FIELD"
            )
        return reference

    def _ledger(self) -> SqliteLedger | VaultLedger:
        node = at(self._root, "ledger")
        if node is not None:
            try:
                return ledger_place(text(node), self._absolute)
            except UsageError as error:
                self._complain(node, error.what, error.remedy)
        state = xdg(self._environ, "XDG_STATE_HOME", ".local/state")
        return SqliteLedger(str(state / "jtr" / "ledger.db"))

    def _policy(self) -> Policy:
        """Return the policy that stands here or in a file, else what `allow` says."""
        node = at(self._root, "policy")
        if node is None:
            return Policy.of_lists(
                text_list(self._root, "allow", "urls"), text_list(self._root, "allow", "paths")
            )
        if at(self._root, "allow") is not None:
            self._complain(
                node,
                "allow is the short form of a policy: only one of the two counts",
                "write it as a rule, and remove allow",
            )
        if isinstance(node, Map):
            return inline_policy(node, f"{node.source.file} (policy)")
        file = self._absolute(text(node))
        if not os.path.exists(file):  # noqa: PTH110  - answers False for names that cannot be
            # Without the name: it may be a key that was pasted into the wrong line.
            self._complain(node, "there is no policy at this path", "check it")
            return ANYTHING
        refuse_in_tree(file, self._trees, "policy")
        return load_policy(file)

    def _tls(self) -> tuple[TlsRule, ...]:
        node = at(self._root, "tls")
        rules = []
        for item in items(node):
            rule = TlsRule(
                text_list(item, "urls"),
                self._path(item, "caFile"),
                self._path(item, "clientCert"),
                self._path(item, "clientKey"),
            )
            if rule.client_key and not rule.client_cert:
                self._complain(item, "a clientKey without a clientCert", "add clientCert")
            rules.append(rule)
        return tuple(rules)

    def _timeouts(self) -> Timeouts:
        node = at(self._root, "durations")
        chosen: dict[str, float] = {}
        if not isinstance(node, Map):
            return DEFAULT_TIMEOUTS
        names = set(Timeouts.__struct_fields__)
        for key, value in node.entries.items():
            name = re.sub(r"[A-Z]", lambda m: f"_{m[0].lower()}", key).replace("-", "_")
            seconds = duration(text(value))
            if seconds is None or not 0 < seconds <= LONGEST_DURATION or name not in names:
                self._complain(
                    value, "this duration is out of range", "write more than 0, at most 1h"
                )
            elif name in chosen:
                self._complain(value, "this duration stands here twice", "keep one spelling")
            else:
                chosen[name] = seconds
        return Timeouts(**chosen)

    def _controller(self) -> ControllerSettings:
        node = at(self._root, "controller")
        written = at(node, "url")
        if written is not None and (wrong := _address_problem(text(written))):
            self._complain(written, *wrong)
        state = xdg(self._environ, "XDG_STATE_HOME", ".local/state") / "jtr" / "controller.json"
        return ControllerSettings(
            listen=text(node, "listen", default=DEFAULT_LISTEN),
            url=text(written) or None,
            token_file=self._path(node, "tokenFile"),
            ca_file=self._path(node, "caFile"),
            state=self._path(node, "state") or str(state),
            fleet=text(node, "fleet"),
            runbooks=text(node, "runbooks", default=RUNBOOKS),
            page=self._page(at(node, "page")),
            actions=true(node, "actions"),
        )

    def _git(self) -> GitSettings | None:
        propose = at(self._root, "git", "propose")
        acts = true(self._root, "controller", "actions")
        if propose is not None and not (acts and at(self._root, "controller", "page") is not None):
            self._complain(
                propose,
                "pull requests are opened by operators on the page, and nobody may act there",
                "write controller.page and controller.actions: true",
            )
        return read_git(at(self._root, "git"), self._path, self._complain)

    def _page(self, node: Node | None) -> PageSettings | None:
        """Return the page's settings, and complain of half of a pair."""
        if node is None:
            return None
        from ipaddress import ip_network  # noqa: PLC0415  - every command reads settings

        tls, proxy = at(node, "tls"), at(node, "proxy")
        networks = []
        for item in items(proxy, "networks"):
            try:
                networks.append(ip_network(text(item)))
            except ValueError:
                self._complain(item, "this is no network", "write such as 10.0.0.0/8")
        if at(node, "operatorTokenFile") is not None and not true(
            self._root, "controller", "actions"
        ):
            self._complain(
                node,
                "operatorTokenFile is there, and nobody may act",
                "write controller.actions: true",
            )
        return PageSettings(
            listen=text(node, "listen", default=DEFAULT_PAGE_LISTEN),
            hosts=tuple(text(item).lower() for item in items(node, "hosts")),
            token_file=self._path(node, "tokenFile"),
            operator_token_file=self._path(node, "operatorTokenFile"),
            proxy_networks=tuple(networks),
            proxy_header=text(proxy, "userHeader", default=DEFAULT_PROXY_HEADER),
            operators=tuple(text(item) for item in items(node, "operators")),
            cert_file=self._path(tls, "certFile"),
            key_file=self._path(tls, "keyFile"),
            client_ca_file=self._path(tls, "clientCaFile"),
        )

    # ── Vault, where the environment wins ────────────────────────────────────────────────────

    def _variable(self, suffix: str) -> tuple[str, str]:
        """Return a variable's name and value: `BAO_...`, else `VAULT_...`; they must agree."""
        bao, vault = f"BAO_{suffix}", f"VAULT_{suffix}"
        first, second = self._environ.get(bao, ""), self._environ.get(vault, "")
        if first and second and first != second:
            raise UsageError(f"{bao} and {vault} disagree", "unset one of them")
        return (bao, first) if first else (vault, second)

    def _vault(self) -> VaultSettings:
        node = at(self._root, "vault")
        name, address = self._variable("ADDR")
        if address and (wrong := _address_problem(address)):
            raise UsageError(f"{name}: {wrong[0]}", wrong[1])
        written = at(node, "address")
        if written is not None and (wrong := _address_problem(text(written))):
            self._complain(written, *wrong)
        name, namespace = self._variable("NAMESPACE")
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise UsageError(f"{name} is not a namespace", "write for example team/trading")
        _, ca_file = self._variable("CACERT")
        return VaultSettings(
            address=address or text(written) or None,
            namespace=namespace or text(node, "namespace") or None,
            ca_file=str(Path(ca_file).absolute()) if ca_file else self._path(node, "caFile"),
            auth=self._auth(at(node, "auth")),
        )

    def _auth(self, node: Node | None) -> VaultAuth:
        name, token = self._variable("TOKEN")
        file_name, token_file = self._variable("TOKEN_FILE")
        if token and token_file:
            raise UsageError(f"{name} and {file_name} are both set", "unset one of them")
        if token:
            # A token with a line break would stand in the HTTP library's exception.
            if not _TOKEN.fullmatch(token):
                raise UsageError(
                    f"{name} holds something that no token holds",
                    "a token is letters, digits, `.`, `_` and `-`; look for a line break or blanks",
                )
            return VaultAuth(AuthMethod.TOKEN, token=Secret(token))
        if token_file:
            return VaultAuth(AuthMethod.TOKEN_FILE, token_file=str(Path(token_file).absolute()))
        if node is None:
            return VaultAuth()
        auth = VaultAuth(
            AuthMethod(text(node, "method")),
            token_file=self._path(node, "tokenFile"),
            role_id=text(node, "roleId") or None,
            role_id_file=self._path(node, "roleIdFile"),
            secret_id_file=self._path(node, "secretIdFile"),
            role=text(node, "role") or None,
            mount=text(node, "mount") or None,
        )
        self._check_auth(auth, node)
        return auth

    def _check_auth(self, auth: VaultAuth, node: Node) -> None:
        given = {key for key in _AUTH_KEYS if at(node, key) is not None}
        needed, possible = _LOGINS[auth.method]
        for key in sorted(needed - given):
            self._complain(node, f"{auth.method} needs {key}", f"add {key}")
        for key in sorted(given - needed - possible):
            stray = at(node, key) or node
            self._complain(stray, f"{auth.method} has no use for {key}", "remove it")
        if auth.method is AuthMethod.APPROLE and (auth.role_id is None) == (
            auth.role_id_file is None
        ):
            self._complain(node, "approle needs either roleId or roleIdFile", "write one of them")


_AUTH_KEYS: Final = ("tokenFile", "roleId", "roleIdFile", "secretIdFile", "role", "mount")
# What each method must have and what it may have.
_LOGINS: Final[Mapping[AuthMethod, tuple[set[str], set[str]]]] = {
    AuthMethod.TOKEN: (set(), set()),
    AuthMethod.TOKEN_FILE: ({"tokenFile"}, set()),
    AuthMethod.APPROLE: ({"secretIdFile"}, {"roleId", "roleIdFile", "mount"}),
    AuthMethod.JWT: ({"role", "tokenFile"}, {"mount"}),
    AuthMethod.KUBERNETES: ({"role"}, {"tokenFile", "mount"}),
}


def _address_problem(address: str) -> tuple[str, str] | None:
    wrong = url_problem(address)
    if wrong is not None and wrong[0].startswith("http:"):
        return "http:// would carry the Vault token in clear", "use https://"
    return wrong
