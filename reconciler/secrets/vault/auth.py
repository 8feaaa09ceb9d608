"""
The ways to come to a Vault token: what the operator's settings say, and one login with it.

How a token is then held, renewed and replaced is in `token`.  Nothing here looks at the
environment or at `~/.vault-token`: those are read by the operator's settings, or not at all.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from reconciler.errors import LoginFailed, SecretsError
from reconciler.model.secret import Secret
from reconciler.secrets.vault.client import Answer, VaultSession
from reconciler.system.files import SECRET_LIMIT, read_secret_file

SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount/token"
# A newline in it would make the HTTP library print the token in its exception (airflow#16406).
_TOKEN: Final = re.compile(r"[A-Za-z0-9._\-]{1,16384}")
_JWT: Final = re.compile(r"[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+")
_MOUNT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]*(?:/[A-Za-z0-9_][A-Za-z0-9_\-]*)*")
_ROLE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,256}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_BAD_REQUEST: Final = 400
_REFUSED: Final = frozenset({400, 401, 403, 404, 405})


class TokenAuth(Struct, frozen=True):
    """A token that somebody else looks after."""

    token: Secret


class TokenFileAuth(Struct, frozen=True):
    """A file that always holds a living token: Vault Agent's sink."""

    path: str


class AppRoleAuth(Struct, frozen=True):
    """A role id and a secret id, from files where given; without a secret id only the role id."""

    role_id: str | None
    role_id_file: str | None
    secret_id_file: str | None
    mount: str = "approle"


class JwtAuth(Struct, frozen=True):
    """A JWT in a file, as CI systems issue them; whoever issues it may replace the file."""

    role: str
    token_file: str
    mount: str = "jwt"


class KubernetesAuth(Struct, frozen=True):
    """The token of a pod's service account; the kubelet replaces the file before it expires."""

    role: str
    token_file: str = SERVICE_ACCOUNT
    mount: str = "kubernetes"


LoginAuth = AppRoleAuth | JwtAuth | KubernetesAuth
VaultAuth = TokenAuth | TokenFileAuth | LoginAuth


class Granted(Struct, frozen=True):
    """A token as Vault gave or renewed it; `seconds` is how long it lives, None without an end."""

    token: Secret
    seconds: float | None
    renewable: bool


async def log_in(auth: LoginAuth, session: VaultSession) -> Granted:
    """
    Log in once and return the token; files are read anew each time, because they rotate.

    Raises LoginFailed when that is refused, and what `VaultSession.exchange` raises.
    """
    match auth:
        case AppRoleAuth():
            return await _app_role(auth, session)
        case JwtAuth() | KubernetesAuth():
            return await _signed(auth, session)


class _Adapter:
    """
    Stands where hvac's login methods expect their transport, and sends to one path or not at all.

    hvac knows paths and bodies.  Its own transport hands the token to whatever host a redirect
    names, lets the environment choose proxies, CA and token, and returns a raw response where an
    error should be (all tried out).
    """

    def __init__(self, session: VaultSession, path: str) -> None:
        self._session = session
        self._path = path

    async def login(self, url: str, *, use_token: bool, json: Any = None) -> Answer:
        """Log in; the token in the answer is kept by the caller, never here."""
        if use_token:
            raise ValueError("the caller keeps the token")
        if url != self._path:
            raise SecretsError(
                "refused to ask Vault: the request would go to another path than the reference",
                "report this as a bug",
            )
        return await self._session.exchange("POST", url, token=None, body=json)


async def _app_role(auth: AppRoleAuth, session: VaultSession) -> Granted:
    path = _login_path(auth.mount, "AppRole", "approle")
    role_id = auth.role_id
    if auth.role_id_file is not None:
        role_id = word_in(auth.role_id_file, "the role id file")
    secret_id = None
    if auth.secret_id_file is not None:
        secret_id = word_in(auth.secret_id_file, "the secret id file")
    for text, what in ((role_id, "role id"), (secret_id, "secret id")):
        if text is not None and not _ID.fullmatch(text):
            raise LoginFailed(
                f"the {what} holds characters that do not belong there", "fetch it anew"
            )
    if role_id is None:
        raise LoginFailed("there is no role id to log in with", "give one, or a file with it")
    from hvac.api.auth_methods import AppRole  # noqa: PLC0415  - slow to import

    answer: Answer = await AppRole(_Adapter(session, path)).login(
        role_id, secret_id, use_token=False, mount_point=auth.mount
    )
    what = f"AppRole (auth/{auth.mount})"
    if answer.status == _BAD_REQUEST:
        raise LoginFailed(
            f"Vault refused the login with {what}: the role id or the secret id is wrong, "
            "expired or used up",
            "issue a new secret id",
        )
    return _granted(answer, what)


async def _signed(auth: JwtAuth | KubernetesAuth, session: VaultSession) -> Granted:
    kubernetes = isinstance(auth, KubernetesAuth)
    name = "Kubernetes" if kubernetes else "JWT"
    path = _login_path(auth.mount, name, name.lower())
    if not _ROLE.fullmatch(auth.role):
        raise LoginFailed(f"the role of the {name} login is not usable", "name it like: jtr")
    jwt = Secret(word_in(auth.token_file, f"the file {auth.token_file} with the JWT"))
    if not _JWT.fullmatch(jwt.reveal()):
        state = "holds something else than a JWT" if jwt.reveal() else "is empty"
        raise LoginFailed(
            f"the file {auth.token_file} {state}", "write only the JWT there: three parts with dots"
        )
    from hvac.api.auth_methods import JWT, Kubernetes  # noqa: PLC0415  - slow to import

    adapter = _Adapter(session, path)
    method = Kubernetes(adapter) if kubernetes else JWT(adapter)
    if kubernetes:
        answer: Answer = await method.login(auth.role, jwt.reveal(), False, auth.mount)
    else:
        answer = await method.jwt_login(auth.role, jwt.reveal(), use_token=False, path=auth.mount)
    what = f"{name} (auth/{auth.mount}, role {auth.role})"
    if answer.status == _BAD_REQUEST or (kubernetes and answer.status in _REFUSED):
        raise LoginFailed(f"Vault refused the login with {what}: {_why(answer)}", _remedy(auth))
    return _granted(answer, what)


# What Vault's texts say, in ours: they can hold claims of the JWT, which are nobody's business.
_REASONS: Final = (
    ("audience", "the JWT is for another audience"),
    ("expired", "the JWT has expired"),
    ("exp)", "the JWT has expired"),
    ("not before", "the JWT is not valid yet"),
    ("nbf)", "the JWT is not valid yet"),
    ("issuer", "the JWT was issued by somebody else"),
    ("signature", "the JWT was signed by somebody else"),
    ("namespace not authorized", "the service account is in another namespace than the role's"),
    ("service account name not authorized", "the role is for another service account"),
    ("claim", "a claim of the JWT is not what the role demands"),
    ("role", "there is no such role"),
)


def _why(answer: Answer) -> str:
    errors = answer.body.get("errors")
    said = " ".join(map(str, errors)).lower() if isinstance(errors, list) else ""
    for text, reason in _REASONS:
        if text in said:
            return reason
    return "the JWT is not accepted, or this login method is not mounted there"


def _remedy(auth: JwtAuth | KubernetesAuth) -> str:
    mount = f"auth/{auth.mount}/role/{auth.role}"
    return f"compare what issues {auth.token_file} with: bao read {mount}"


def _login_path(mount: str, name: str, usual: str) -> str:
    if not _MOUNT.fullmatch(mount):
        raise LoginFailed(f"the mount of the {name} login is not usable", f"name it like: {usual}")
    return f"/v1/auth/{mount}/login"


def _granted(answer: Answer, what: str) -> Granted:
    if answer.status in _REFUSED:
        raise LoginFailed(
            f"Vault refused the login with {what} (status {answer.status}): this login method is "
            "not mounted there, or not from this address or namespace",
            "check the mount and the namespace of the login",
        )
    granted = granted_by(answer)
    if granted is None:
        raise LoginFailed(
            f"Vault answered the login with {what} without a token",
            "use a login that needs no second step",
        )
    return granted


def granted_by(answer: Answer) -> Granted | None:
    """Return the token in an answer of Vault, None when there is none.  Raises LoginFailed."""
    auth: Any = answer.body.get("auth")
    token = auth.get("client_token") if isinstance(auth, Mapping) else None
    if not isinstance(token, str) or not token:
        return None
    lease = auth.get("lease_duration")
    secret = checked_token(token, "the token that Vault gave", Secret(token))
    # 0 is Vault's word for a token without an end.
    seconds = float(lease) if type(lease) in (int, float) and lease > 0 else None
    return Granted(secret, seconds, auth.get("renewable") is True)


def checked_token(text: str, what: str, token: Secret) -> Secret:
    """Return *token* if *text* can be one; else LoginFailed, which does not repeat it."""
    if not _TOKEN.fullmatch(text):
        state = "is empty" if not text else "holds characters that no token has"
        raise LoginFailed(f"{what} {state}", "write only the token there, and nothing around it")
    return token


def word_in(path: str, what: str) -> str:
    """Return the text of a small regular file, less the newline at its end.  Raises LoginFailed."""
    content = read_secret_file(path, what, LoginFailed)
    if len(content) > SECRET_LIMIT or not content.isascii():
        raise LoginFailed(f"{what} holds something else", f"check {path}")
    return content.decode("ascii").rstrip("\r\n")
