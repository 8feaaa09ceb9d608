"""
Holds one Vault token for all of a process, and sees to it that it does not die unnoticed.

Whatever has to be asked for that is asked on one loop, the session's own: a secret id may be good
for one login only.

A token that we got by logging in is renewed, or replaced by another login, when two thirds of its
time are over.  A token that was given to us cannot be replaced: it is renewed at the same moment if
it is renewable and its file still holds the same one, which for one that an agent looks after
changes nothing, and for one that nobody looks after (a systemd credential, an environment variable)
is the difference between days and months.  How long it lives is asked only once it has been in use
for a while: a command that ends within seconds spends no request on it.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct

from reconciler.errors import SecretsError, TokenExpired
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.secrets.vault.auth import (
    Granted,
    LoginAuth,
    TokenAuth,
    TokenFileAuth,
    VaultAuth,
    checked_token,
    granted_by,
    log_in,
    word_in,
)
from reconciler.secrets.vault.client import Answer, VaultSession

_LOG: Final = logging.getLogger(__name__)  # never a token
_OK: Final = 200
_SHARE: Final = 2 / 3  # of the time that is left: then there is time for several tries
_LEAST: Final = 1.0  # seconds between two tries


class Login(Protocol):
    """
    Holds one token.  What is asynchronous is to be awaited on the session's own loop.

    The rest may be called from everywhere.  `ours` says whether the token is ours to revoke.
    """

    ours: bool

    def ready(self) -> Secret | None:
        """Return the present token; None when something is due first.  Raises LoginFailed."""
        ...

    async def token(self) -> Secret:
        """Return the present token, logging in first if need be.  Raises LoginFailed."""
        ...

    async def renewed(self, stale: Secret, about: str) -> Secret:
        """
        Return a token that is newer than *stale*, which Vault no longer takes.

        *about* says what was being read.  Raises TokenExpired when there is none, LoginFailed.
        """
        ...

    async def learned(self, token: Secret, seconds: float | None, *, renewable: bool) -> None:
        """Take note of what Vault said of *token*: how long it lives, None without an end."""
        ...

    def seconds(self) -> float | None:
        """How long the present token lives; None when it has no end, or nobody asked yet."""
        ...

    async def close(self) -> None:
        """Revoke what this process got by logging in, and nothing else."""
        ...


def login_for(auth: VaultAuth, session: VaultSession, *, patience: float) -> Login:
    """
    Return the holder for *auth*; nothing is read or sent yet.

    A token that was given to us is looked up once it has been in use for *patience* seconds.
    """
    match auth:
        case TokenAuth(token=token):
            return _Given(token, _Renewal(session, patience))
        case TokenFileAuth(path=path):
            return _Sink(path, _Renewal(session, patience))
        case _:
            return _LoggedIn(auth, session)


class _Held(Struct, frozen=True):
    """A token; `end` and `due` (when to see to it) are monotonic times, None for never."""

    token: Secret
    whole: float | None  # seconds that it had at first
    end: float | None
    due: float | None
    renewable: bool

    @classmethod
    def of(cls, granted: Granted) -> "_Held":
        return cls(granted.token, granted.seconds, None, None, granted.renewable).lasting(
            granted.seconds, renewable=granted.renewable
        )

    def lasting(self, seconds: float | None, *, renewable: bool) -> "_Held":
        """The same token, of which Vault just said that it lives for *seconds*."""
        now = time.monotonic()
        if seconds is None:
            return replace(self, end=None, due=None, renewable=renewable)
        end, due = now + seconds, now + _SHARE * seconds
        return replace(self, end=end, due=due, renewable=renewable)

    def later(self) -> "_Held":
        """The same token, to be seen to again when another third of its time is over."""
        now = time.monotonic()
        left = 0.0 if self.end is None else (self.end - now) / 3
        return replace(self, due=now + max(_LEAST, left))

    @property
    def is_due(self) -> bool:
        return self.due is not None and time.monotonic() >= self.due

    @property
    def is_over(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end

    @property
    def left(self) -> float | None:
        return None if self.end is None else max(0.0, self.end - time.monotonic())


class _LoggedIn:
    """Logs in when first asked, and again in good time; once for all who wait."""

    ours = True

    def __init__(self, auth: LoginAuth, session: VaultSession) -> None:
        self._auth = auth
        self._session = session
        self._turn = asyncio.Lock()
        self._held: _Held | None = None
        self._failed: tuple[float, SecretsError] | None = None

    def ready(self) -> Secret | None:
        held = self._held
        if held is None or held.is_over or (held.is_due and not self._turn.locked()):
            return None
        return held.token

    async def token(self) -> Secret:
        held = self._held
        if held is None or held.is_over:
            return (await self._anew(lambda now: now is None or now.is_over)).token
        if held.is_due and not self._turn.locked():  # the others go on with this one
            async with self._turn:
                await self._see_to(held)
        return (self._held or held).token

    async def renewed(self, stale: Secret, about: str) -> Secret:  # noqa: ARG002  - a failed login says it
        return (await self._anew(lambda now: now is None or now.token is stale)).token

    async def learned(self, token: Secret, seconds: float | None, *, renewable: bool) -> None:
        async with self._turn:
            if self._held is not None and self._held.token is token:
                # `due` stays: asking how long it lives must not put off renewing it.
                end = None if seconds is None else time.monotonic() + seconds
                self._held = replace(self._held, end=end, renewable=renewable)

    def seconds(self) -> float | None:
        held = self._held
        return None if held is None else held.left

    async def close(self) -> None:
        async with self._turn:
            held, self._held = self._held, None
        if held is None:
            return
        try:
            await self._session.exchange(
                "POST", "/v1/auth/token/revoke-self", token=held.token, attempts=1
            )
        except SecretsError:
            return  # it dies by itself at the end of its lease

    async def _anew(self, wanted: Callable[[_Held | None], bool]) -> _Held:
        """Log in, unless meanwhile another one did; who waited for its failure shares it."""
        began = time.monotonic()
        async with self._turn:
            held = self._held
            if held is not None and not wanted(held):
                return held
            if self._failed is not None and self._failed[0] >= began:
                error = self._failed[1]
                raise type(error)(error.what, error.remedy)
            self._held = None
            try:
                self._held = held = _Held.of(await log_in(self._auth, self._session))
            except SecretsError as error:
                self._failed = time.monotonic(), error
                raise
            return held

    async def _see_to(self, held: _Held) -> None:
        if self._held is not held:
            return
        try:
            self._held = await self._fresher(held)
        except SecretsError as error:
            _LOG.warning("the Vault token still lives but could not be replaced: %s", error)
            self._held = held.later()

    async def _fresher(self, held: _Held) -> _Held:
        granted = await _renewed(self._session, held.token) if held.renewable else None
        if granted is None:
            return _Held.of(await log_in(self._auth, self._session))
        longer = held.lasting(granted.seconds, renewable=granted.renewable)
        if granted.seconds is None or granted.seconds >= (held.whole or 0.0) / 2:
            return longer
        # max_ttl is near: each renewal would give less, and many requests for nothing.
        try:
            return _Held.of(await log_in(self._auth, self._session))
        except SecretsError as error:
            _LOG.warning("the Vault token is near its last moment: %s", error)
            return longer.later()


class _Given:
    ours = False

    def __init__(self, token: Secret, renewal: "_Renewal") -> None:
        self._token = token
        self._renewal = renewal

    def ready(self) -> Secret | None:
        checked_token(self._token.reveal(), "the Vault token", self._token)
        return None if self._renewal.is_due(self._token) else self._token

    async def token(self) -> Secret:
        await self._renewal.see_to(self._token)
        return self._token

    async def renewed(self, stale: Secret, about: str) -> Secret:  # noqa: ARG002  - the only one we have
        raise _expired(about, "the Vault token", "log in again and give the new token")

    async def learned(self, token: Secret, seconds: float | None, *, renewable: bool) -> None:
        await self._renewal.learned(token, seconds, renewable=renewable)

    def seconds(self) -> float | None:
        return self._renewal.seconds(self._token)

    async def close(self) -> None:
        """Keep the token: it is not ours to revoke."""


class _Sink:
    """Reads the file again whenever it changed, and when its token was refused."""

    ours = False

    def __init__(self, path: str, renewal: "_Renewal") -> None:
        self._path = path
        self._renewal = renewal
        self._lock = threading.Lock()
        self._held: Secret | None = None
        self._stamp: tuple[int, ...] = ()

    def ready(self) -> Secret | None:
        held = self._present()
        return None if self._renewal.is_due(held) else held

    async def token(self) -> Secret:
        held = self._present()
        await self._renewal.see_to(held)
        return held

    async def renewed(self, stale: Secret, about: str) -> Secret:
        with self._lock:
            fresh = self._read()
            if fresh.reveal() != stale.reveal():
                return fresh
        raise _expired(
            about, f"the token in {self._path}", "see why Vault Agent has not renewed it"
        )

    async def learned(self, token: Secret, seconds: float | None, *, renewable: bool) -> None:
        await self._renewal.learned(token, seconds, renewable=renewable)

    def seconds(self) -> float | None:
        held = self._held
        return None if held is None else self._renewal.seconds(held)

    async def close(self) -> None:
        """Keep the token: Vault Agent owns it."""

    def _present(self) -> Secret:
        with self._lock:
            held = self._held
            return self._read() if held is None or _stamp(self._path) != self._stamp else held

    def _read(self) -> Secret:
        what = f"the token file {self._path}"
        stamp = _stamp(self._path)
        text = word_in(self._path, what)
        if self._held is None or self._held.reveal() != text:
            self._held = checked_token(text, what, Secret(text))
        self._stamp = stamp
        return self._held


class _Renewal:
    """Looks up and renews a token that was given to us; see the module."""

    def __init__(self, session: VaultSession, patience: float) -> None:
        self._session = session
        self._patience = patience
        self._turn = asyncio.Lock()
        self._held: _Held | None = None

    def is_due(self, token: Secret) -> bool:
        """Whether something has to be done for *token*, and nobody does it yet."""
        held = self._held
        if held is None or held.token is not token:
            first = time.monotonic() + self._patience
            self._held = _Held(token, None, None, first, renewable=False)
            return False
        return held.is_due and not self._turn.locked()

    async def see_to(self, token: Secret) -> None:
        """Do what is due for *token*; whatever goes wrong, it is used as it is.  Never raises."""
        if not self.is_due(token):
            return
        async with self._turn:
            held = self._held
            if held is not None and held.token is token and held.is_due:
                self._held = await self._seen_to(held)

    async def learned(self, token: Secret, seconds: float | None, *, renewable: bool) -> None:
        """Take note of what Vault said of *token*."""
        async with self._turn:
            self._held = _known(token, seconds, renewable=renewable)

    def seconds(self, token: Secret) -> float | None:
        """How long *token* lives, if it has an end and that is known."""
        held = self._held
        return held.left if held is not None and held.token is token else None

    async def _seen_to(self, held: _Held) -> _Held:
        try:
            if held.end is None:
                return await self._looked_up(held.token)
            granted = await _renewed(self._session, held.token)
        except SecretsError as error:
            _LOG.warning("the Vault token could not be renewed yet: %s", error)
            return held.later()
        if granted is None:
            return replace(held, due=None)  # refused: it may not, and there is no other
        longer = held.lasting(granted.seconds, renewable=granted.renewable)
        # Near its max_ttl each renewal gives less; what Vault takes no more is said at its end.
        least = time.monotonic() + _LEAST
        return longer if longer.due is None else replace(longer, due=max(longer.due, least))

    async def _looked_up(self, token: Secret) -> _Held:
        path = "/v1/auth/token/lookup-self"
        answer = await self._session.exchange("GET", path, token=token, attempts=1)
        if answer.status != _OK:
            return _Held(token, None, None, None, renewable=False)
        seconds, renewable = life_in(answer)
        return _known(token, seconds, renewable=renewable)


def life_in(answer: Answer) -> tuple[float | None, bool]:
    """Return from an answer of lookup-self the seconds left, None without an end, and renewable."""
    left, whole = answer.data.get("ttl"), answer.data.get("creation_ttl")
    lasting = type(left) not in (int, float) or (left == 0 and whole == 0)
    return None if lasting else float(str(left)), answer.data.get("renewable") is True


def _known(token: Secret, seconds: float | None, *, renewable: bool) -> _Held:
    held = _Held(token, seconds, None, None, renewable).lasting(seconds, renewable=renewable)
    return held if renewable else replace(held, due=None)


async def _renewed(session: VaultSession, token: Secret) -> Granted | None:
    """Renew *token*; None when Vault refuses.  Raises what `VaultSession.exchange` raises."""
    path = "/v1/auth/token/renew-self"
    answer = await session.exchange("POST", path, token=token, body={}, attempts=1)
    return granted_by(answer) if answer.status == _OK else None


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
