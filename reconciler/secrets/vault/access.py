"""
One Vault address with one login, shared by everything of a process that asks Vault.

A login can be good for one use only (AppRole's secret id), so whoever needs Vault for another
purpose builds on the same access instead of logging in again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.errors import Forbidden, KvVersionOne, MountUnknown, SecretsError
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.secrets.vault.auth import VaultAuth
from reconciler.secrets.vault.client import Answer, Call, VaultSession
from reconciler.secrets.vault.token import life_in, login_for
from reconciler.system.timeouts import Timeouts

OK: Final = 200
BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
# The one text of Vault's that must be read: a lost race and a bad request are both 400.
_LOST_RACE: Final = "check-and-set parameter did not match"


_PATHS_AT_ONCE: Final = 500
_LOOKUP: Final = "/v1/auth/token/lookup-self"
_CAPABILITIES: Final = "/v1/sys/capabilities-self"


@dataclass(frozen=True, slots=True)
class TokenFacts:
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
    A session and a login.  No network before the first call; safe to call from several threads.

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

    def close(self) -> None:
        """Revoke the token if this process logged in for it, and give back connections."""
        self._login.close()
        self._session.close()

    def ask(self, about: str, path: str, send: Callable[[Call], Answer]) -> Answer:
        """
        Send with the present token, and once more with a new one if that token has died.

        *about* says to people what was wanted.  Raises what `VaultSession.exchange` and `Login`
        raise.
        """
        token = self._login.token()
        answer = send(self._session.expecting(path, token))
        if answer.status != FORBIDDEN or self._lives(token):
            return answer
        token = self._login.renewed(token, about)
        return send(self._session.expecting(path, token))

    def token_seconds(self) -> float | None:
        """How long the present token lives; None when it has no end or nobody asked yet."""
        return self._login.seconds()

    def whoami(self) -> TokenFacts:
        """
        Return what Vault says of the token, logging in first if need be.

        Raises Forbidden when it may not look itself up, and what `ask` raises.
        """
        used: list[Secret] = []

        def send(call: Call) -> Answer:
            used[:] = [token for token in (call.token,) if token is not None]
            return call.get(_LOOKUP)

        answer = self.ask("the Vault token", _LOOKUP, send)
        if answer.status != OK:
            raise Forbidden(
                "the Vault token may not look itself up", "give it the policy `default`"
            )
        seconds, renewable = life_in(answer)
        for token in used:
            self._login.learned(token, seconds, renewable=renewable)
        data = answer.data
        policies = [*_texts(data.get("policies")), *_texts(data.get("identity_policies"))]
        return TokenFacts(
            policies=tuple(dict.fromkeys(policies)),
            ttl=seconds,
            renewable=renewable,
            kind=str(data.get("type", "")),
            method=str(data.get("path", "")),
        )

    def capabilities(self, paths: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """
        Return what the token may do at each of *paths*, which stand as in a policy (no `/v1/`).

        Raises Forbidden when it may not ask, and what `ask` raises.
        """
        found: dict[str, tuple[str, ...]] = {}
        for start in range(0, len(paths), _PATHS_AT_ONCE):
            some = list(paths[start : start + _PATHS_AT_ONCE])
            answer = self.ask("the rights of the Vault token", _CAPABILITIES, _asking(some))
            if answer.status != OK:
                raise Forbidden(
                    "the Vault token may not ask what it may do",
                    "give it the policy `default`",
                )
            found |= {path: _texts(answer.data.get(path)) for path in some}
        return found

    def mount_trouble(self, at: SecretPath) -> SecretsError | None:
        """Say what is wrong with the mount of *at*; None when it is KV version 2."""
        path = f"/v1/sys/internal/ui/mounts/{at.mount}/{at.path}"
        answer = self._session.expecting(path, self._login.token()).get(path)
        if answer.status == OK:
            return _trouble(at, answer.data)
        return MountUnknown(
            f"{at}: there is no mount {at.mount}, or the token has no right at all below it",
            "check the mount (everything before `//`, else the first segment) and the token's "
            "policies",
        )

    def _lives(self, token: Secret) -> bool:
        return self._session.expecting(_LOOKUP, token).get(_LOOKUP).status != FORBIDDEN


def _asking(paths: list[str]) -> Callable[[Call], Answer]:
    return lambda call: call.post(_CAPABILITIES, {"paths": paths})


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
