"""
One Vault address with one login, shared by everything of a process that asks Vault.

A login can be good for one use only (AppRole's secret id), so whoever needs Vault for another
purpose builds on the same access instead of logging in again.
"""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct

from reconciler.errors import Forbidden, KvVersionOne, MountUnknown, SecretsError
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.secrets.vault.auth import VaultAuth
from reconciler.secrets.vault.client import Answer, VaultSession
from reconciler.secrets.vault.listing import Entries
from reconciler.secrets.vault.token import life_in, login_for
from reconciler.system.timeouts import Timeouts

T = TypeVar("T")
OK: Final = 200
BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
# The one text of Vault's that must be read: a lost race and a bad request are both 400.
_LOST_RACE: Final = "check-and-set parameter did not match"


_PATHS_AT_ONCE: Final = 500
_LOOKUP: Final = "/v1/auth/token/lookup-self"
_CAPABILITIES: Final = "/v1/sys/capabilities-self"


class TokenFacts(Struct, frozen=True):
    """
    What Vault says of our token; nothing in it lets anybody use or end the token.

    `ttl` are the seconds left, None without an end; `kind` is service or batch; `method` is the
    path of the login that made it, such as `auth/approle/login`.
    """

    policies: tuple[str, ...]
    ttl: float | None
    renewable: bool
    kind: str
    method: str


class VaultAccess:
    """
    A session and a login.  No network before the first call; to be used on any loop.

    Raises Blocked for an address over which a token must not travel.
    """

    def __init__(
        self,
        *,
        address: str,
        auth: VaultAuth,
        namespace: str = "",
        ca_file: str | None = None,
        timeouts: Timeouts,
    ) -> None:
        self._session = VaultSession(
            address=address, namespace=namespace, ca_file=ca_file, timeouts=timeouts
        )
        self._login = login_for(auth, self._session, patience=timeouts.secrets_request)
        self._proof: tuple[Secret, str] | None = None  # a token, and where it read something last

    def close(self) -> None:
        """
        Revoke the token if this process logged in for it, and give back connections.

        Blocking; connections of a loop that still runs are closed when it ends.
        """
        if self._login.ours:
            self.wait(self._login.close())
        self._session.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do *work* for a caller without a loop; blocking.  Raises what the work raises."""
        return self._session.wait(work)

    async def ask(
        self,
        about: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        wanted: Entries | None = None,
    ) -> Answer:
        """
        Send with the present token, and once more with a new one if that token has died.

        *about* says to people what was wanted, the rest is as in `VaultSession.exchange`.  Raises
        what that and `Login` raise.
        """

        parts = {"params": params, "body": body, "wanted": wanted}
        return (await self._asked(about, method, path, **parts))[0]

    def token_seconds(self) -> float | None:
        """How long the present token lives; None when it has no end or nobody asked yet."""
        return self._login.seconds()

    async def whoami(self) -> TokenFacts:
        """
        Return what Vault says of the token, logging in first if need be.

        Raises Forbidden when it may not look itself up, and what `ask` raises.
        """
        answer, token = await self._asked("the Vault token", "GET", _LOOKUP)
        if answer.status != OK:
            raise Forbidden(
                "the Vault token may not look itself up", "give it the policy `default`"
            )
        seconds, renewable = life_in(answer)
        await self._session.at_home(self._login.learned(token, seconds, renewable=renewable))
        data = answer.data
        policies = [*_texts(data.get("policies")), *_texts(data.get("identity_policies"))]
        return TokenFacts(
            policies=tuple(dict.fromkeys(policies)),
            ttl=seconds,
            renewable=renewable,
            kind=str(data.get("type", "")),
            method=str(data.get("path", "")),
        )

    async def capabilities(self, paths: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """
        Return what the token may do at each of *paths*, which stand as in a policy (no `/v1/`).

        Raises Forbidden when it may not ask, and what `ask` raises.
        """
        found: dict[str, tuple[str, ...]] = {}
        for start in range(0, len(paths), _PATHS_AT_ONCE):
            some = list(paths[start : start + _PATHS_AT_ONCE])
            answer = await self.ask(
                "the rights of the Vault token", "POST", _CAPABILITIES, body={"paths": some}
            )
            if answer.status != OK:
                raise Forbidden(
                    "the Vault token may not ask what it may do",
                    "give it the policy `default`",
                )
            found |= {path: _texts(answer.data.get(path)) for path in some}
        return found

    async def mount_trouble(self, at: SecretPath) -> SecretsError | None:
        """Say what is wrong with the mount of *at*; None when it is KV version 2."""
        path = f"/v1/sys/internal/ui/mounts/{at.mount}/{at.path}"
        answer = await self._session.exchange("GET", path, token=await self._token())
        if answer.status == OK:
            return _trouble(at, answer.data)
        return MountUnknown(
            f"{at}: there is no mount {at.mount}, or the token has no right at all below it",
            "check the mount (everything before `//`, else the first segment) and the token's "
            "policies",
        )

    async def _asked(
        self, about: str, method: str, path: str, **parts: Any
    ) -> tuple[Answer, Secret]:
        """As `ask`; return the token that was good for it, too."""
        token = await self._token()
        answer = await self._session.exchange(method, path, token=token, **parts)
        if answer.status == FORBIDDEN and not await self._lives(token):
            token = await self._session.at_home(self._login.renewed(token, about))
            answer = await self._session.exchange(method, path, token=token, **parts)
        if answer.status == OK and method == "GET" and not any(parts.values()):
            self._proof = token, path
        return answer, token

    async def _token(self) -> Secret:
        ready = self._login.ready()
        return await self._session.at_home(self._login.token()) if ready is None else ready

    async def _lives(self, token: Secret) -> bool:
        """Whether Vault takes *token* still: it refuses a dead one and a forbidden path alike."""
        paths = [_LOOKUP]
        if self._proof is not None and self._proof[0] is token:
            paths.append(self._proof[1])  # for one that may not look itself up
        for path in paths:
            answer = await self._session.exchange("GET", path, token=token)
            if answer.status != FORBIDDEN:
                return True
        return False


def lost_race(answer: Answer) -> bool:
    """Whether *answer* says that a write with check-and-set came too late: nothing was written."""
    errors = answer.body.get("errors")
    return (
        answer.status == BAD_REQUEST
        and isinstance(errors, list)
        and any(_LOST_RACE in str(text) for text in errors)
    )


def _texts(found: object) -> tuple[str, ...]:
    return tuple(text for text in found if isinstance(text, str)) if isinstance(found, list) else ()


def _trouble(at: SecretPath, facts: Mapping[str, Any]) -> SecretsError | None:
    mount = str(facts.get("path", "")).strip("/")
    if mount != at.mount and f"{at.mount}/{at.path}/".startswith(f"{mount}/"):
        rest = f"{at.mount}/{at.path}".removeprefix(f"{mount}/")
        return MountUnknown(f"{at}: the mount there is {mount}", f"write vault:{mount}//{rest}")
    if facts.get("type") not in {"kv", "generic"}:
        return MountUnknown(
            f"{at}: the mount {at.mount} is no KV secrets engine", "name one of KV version 2"
        )
    options = facts.get("options")
    if not isinstance(options, dict) or options.get("version") != "2":
        return KvVersionOne(
            f"{at}: the mount {at.mount} is KV version 1, which keeps no versions",
            f"upgrade it: bao kv enable-versioning {at.mount}",
        )
    return None
