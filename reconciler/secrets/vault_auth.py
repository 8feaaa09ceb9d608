"""
How a process comes to a Vault token, and what happens when that token dies.

Each kind of login is a setting (`TokenAuth`, `TokenFileAuth`, `AppRoleAuth`) and a holder behind
`Login`.  Nothing here looks at the environment or at `~/.vault-token`: those are read by the
operator's settings, or not at all.
"""

import os
import re
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hvac.api.auth_methods import AppRole, Token

from reconciler.errors import LoginFailed, SecretsError, TokenExpired
from reconciler.secrets import Secret
from reconciler.secrets.vault_session import Answer, VaultSession

# A newline in it would make the HTTP library print the token in its exception (airflow#16406).
_TOKEN: Final = re.compile(r"[A-Za-z0-9._\-]{1,16384}")
_MOUNT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]*(?:/[A-Za-z0-9_][A-Za-z0-9_\-]*)*")
_ID: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_FILE_LIMIT: Final = 65536
_REFUSED: Final = frozenset({400, 401, 403, 404, 405})


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """A token that somebody else looks after."""

    token: Secret


@dataclass(frozen=True, slots=True)
class TokenFileAuth:
    """A file that always holds a living token: Vault Agent's sink."""

    path: str


@dataclass(frozen=True, slots=True)
class AppRoleAuth:
    """A role id and a secret id, from files where given; without a secret id only the role id."""

    role_id: str | None
    role_id_file: str | None
    secret_id_file: str | None
    mount: str = "approle"


VaultAuth = TokenAuth | TokenFileAuth | AppRoleAuth


class Login(Protocol):
    """Holds one token for all threads of a process."""

    def token(self) -> Secret:
        """Return the present token, logging in first if need be.  Raises LoginFailed."""
        ...

    def renewed(self, stale: Secret, about: str) -> Secret:
        """
        Return a token that is newer than *stale*, which Vault no longer takes.

        *about* says what was being read.  Raises TokenExpired when there is none, LoginFailed.
        """
        ...

    def close(self) -> None:
        """Revoke what this process got by logging in, and nothing else."""
        ...


def login_for(auth: VaultAuth, session: VaultSession) -> Login:
    """Return the holder for *auth*; nothing is read or sent yet."""
    match auth:
        case TokenAuth(token=token):
            return _Given(token)
        case TokenFileAuth(path=path):
            return _Sink(path)
        case AppRoleAuth():
            return _AppRole(auth, session)


class _Given:
    def __init__(self, token: Secret) -> None:
        self._token = token

    def token(self) -> Secret:
        return _checked_token(self._token.reveal(), "the Vault token", self._token)

    def renewed(self, stale: Secret, about: str) -> Secret:  # noqa: ARG002  - the only one we have
        raise _expired(about, "the Vault token", "log in again and give the new token")

    def close(self) -> None:
        """Keep the token: it is not ours to revoke."""


class _Sink:
    """Reads the file again whenever it changed, and when its token was refused."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._held: Secret | None = None
        self._stamp: tuple[int, ...] = ()

    def token(self) -> Secret:
        with self._lock:
            if self._held is None or _stamp(self._path) != self._stamp:
                return self._read()
            return self._held

    def renewed(self, stale: Secret, about: str) -> Secret:
        with self._lock:
            fresh = self._read()
            if fresh.reveal() != stale.reveal():
                return fresh
        raise _expired(
            about, f"the token in {self._path}", "see why Vault Agent has not renewed it"
        )

    def close(self) -> None:
        """Keep the token: Vault Agent owns it."""

    def _read(self) -> Secret:
        what = f"the token file {self._path}"
        stamp = _stamp(self._path)
        text = _word_in(self._path, what)
        if self._held is None or self._held.reveal() != text:
            self._held = _checked_token(text, what, Secret(text))
        self._stamp = stamp
        return self._held


class _AppRole:
    """Logs in when first asked, and again when its token has died; one thread does it for all."""

    def __init__(self, auth: AppRoleAuth, session: VaultSession) -> None:
        self._auth = auth
        self._session = session
        self._lock = threading.Lock()
        self._held: Secret | None = None

    def token(self) -> Secret:
        with self._lock:
            if self._held is None:
                self._held = self._log_in()
            return self._held

    def renewed(self, stale: Secret, about: str) -> Secret:  # noqa: ARG002  - a failed login says it
        with self._lock:
            if self._held is None or self._held is stale:
                self._held = None
                self._held = self._log_in()
            return self._held

    def close(self) -> None:
        with self._lock:
            held, self._held = self._held, None
        if held is None:
            return
        path = "/v1/auth/token/revoke-self"
        try:
            Token(_OneAttempt(self._session, path, held)).revoke_self()
        except SecretsError:
            return  # it dies by itself at the end of its lease

    def _log_in(self) -> Secret:
        mount = self._auth.mount
        if not _MOUNT.fullmatch(mount):
            raise LoginFailed(
                "the mount of the AppRole login is not usable", "name it like: approle"
            )
        role_id = self._auth.role_id
        if self._auth.role_id_file is not None:
            role_id = _word_in(self._auth.role_id_file, "the role id file")
        secret_id = None
        if self._auth.secret_id_file is not None:
            secret_id = _word_in(self._auth.secret_id_file, "the secret id file")
        for text, what in ((role_id, "role id"), (secret_id, "secret id")):
            if text is not None and not _ID.fullmatch(text):
                raise LoginFailed(
                    f"the {what} holds characters that do not belong there", "fetch it anew"
                )
        if role_id is None:
            raise LoginFailed("there is no role id to log in with", "give one, or a file with it")
        path = f"/v1/auth/{mount}/login"
        answer: Answer = AppRole(self._session.expecting(path, None)).login(
            role_id, secret_id, use_token=False, mount_point=mount
        )
        return _token_of(answer, f"AppRole (auth/{mount})")


class _OneAttempt:
    """As `Call`, for a goodbye that must not hold up the end of the process."""

    def __init__(self, session: VaultSession, path: str, token: Secret) -> None:
        self._session = session
        self._path = path
        self._token = token

    def post(self, url: str) -> Answer:
        if url != self._path:
            raise SecretsError("refused to ask Vault for another path", "report this as a bug")
        return self._session.exchange("POST", url, token=self._token, attempts=1)


def _token_of(answer: Answer, what: str) -> Secret:
    if answer.status in _REFUSED:
        if answer.status == 400:  # noqa: PLR2004  - Vault's word for all of these
            raise LoginFailed(
                f"Vault refused the login with {what}: the role id or the secret id is wrong, "
                "expired or used up",
                "issue a new secret id",
            )
        raise LoginFailed(
            f"Vault refused the login with {what} (status {answer.status}): this login method is "
            "not mounted there, or not from this address or namespace",
            "check the mount and the namespace of the login",
        )
    auth: Any = answer.body.get("auth")
    token = auth.get("client_token") if isinstance(auth, Mapping) else None
    if not isinstance(token, str) or not token:
        raise LoginFailed(
            f"Vault answered the login with {what} without a token",
            "use a login that needs no second step",
        )
    return _checked_token(token, "the token that Vault gave", Secret(token))


def _checked_token(text: str, what: str, token: Secret) -> Secret:
    if not _TOKEN.fullmatch(text):
        state = "is empty" if not text else "holds characters that no token has"
        raise LoginFailed(f"{what} {state}", "write only the token there, and nothing around it")
    return token


def _expired(about: str, what: str, remedy: str) -> TokenExpired:
    return TokenExpired(
        f"{about}: Vault does not accept {what}: it has expired, was revoked or never was one",
        f"{remedy}; if it lives, it lacks the policy `default` and cannot look itself up",
    )


def _stamp(path: str) -> tuple[int, ...]:
    try:
        facts = os.stat(path)  # noqa: PTH116  - a symlink swapped by Kubernetes is followed on purpose
    except OSError:
        return ()
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _word_in(path: str, what: str) -> str:
    """Return the text of a small regular file, less the newline at its end.  Raises LoginFailed."""
    try:
        # Non-blocking: a FIFO in its place must not hang us.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "unknown reason"
        raise LoginFailed(f"{what} cannot be read: {why}", f"check {path} and its rights") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise LoginFailed(f"{what} is not a regular file", f"check {path}")
    with os.fdopen(handle, "rb") as file:
        content = file.read(_FILE_LIMIT + 1)
    if len(content) > _FILE_LIMIT or not content.isascii():
        raise LoginFailed(f"{what} holds something else", f"check {path}")
    return content.decode("ascii").rstrip("\r\n")
