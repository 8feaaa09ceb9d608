"""
From references to versions, and from versions to values, on one backend.

Values leave it towards the driver and `observe.evidence` only.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

from msgspec import Struct, field

from reconciler.drivers import Driver
from reconciler.errors import (
    Blocked,
    LoginFailed,
    NotSettled,
    SecretDeleted,
    SecretDestroyed,
    SecretMissing,
    SecretsError,
    SecretsSealed,
    SecretsUnreachable,
    SecretUnusable,
    StillBeingWritten,
    TokenExpired,
)
from reconciler.model.desired import DesiredExchange
from reconciler.model.observed import ObservedExchange
from reconciler.model.patterns import any_matches
from reconciler.model.references import FrozenRef, SecretPath, SecretRef
from reconciler.model.secret import Secret, VersionInfo
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.observe.evidence import Values
from reconciler.secrets import SecretBackend
from reconciler.system.timeouts import Timeouts

P = ParamSpec("P")
T = TypeVar("T")
_AT_ONCE: Final = 16  # questions to the backend; more are no faster
_WORTH_TELLING = 0.1  # seconds of waiting
_Read = dict[tuple[SecretPath, int], Mapping[str, Secret]]
_ALIASES = {"apiKey": ("apiKey", "api_key"), "secret": ("secret", "api_secret")}


def spellings(credential: str) -> tuple[str, ...]:
    """Return the field names under which a secret may hold this ccxt credential."""
    if credential in _ALIASES:
        return _ALIASES[credential]
    snake = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", credential).lower()
    return (credential,) if snake == credential else (credential, snake)


class ResolverCache(Struct, eq=False):
    """
    What a long-lived process remembers between passes.

    `logins` are the access secrets that were good last, used while Vault has no other version and
    while it is away: a controller must be able to register again with a server that fell, or one
    failing start stops all its robots.  `seen` says since when (monotonic) we know the newest
    version of a secret: Vault tells its time in whole seconds.  While `down` says that the backend
    stayed away for too long nobody asks it; whoever sees it back takes that off.  `gate` bounds how
    many questions are asked at once.
    """

    logins: dict[SecretRef, tuple[VersionInfo, Secret]] = field(default_factory=dict)
    seen: dict[SecretPath, tuple[int, str, float]] = field(default_factory=dict)
    down: SecretsError | None = None
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))


class Resolver:
    """
    Reads what a pass needs from one secret backend; `say` tells people about waiting.

    With *cache* it is one of many for a process that lives for months: then it does not wait until
    a secret has settled, but raises NotSettled.
    """

    def __init__(
        self,
        backend: SecretBackend,
        driver: Driver,
        timeouts: Timeouts,
        say: Callable[[str], None],
        *,
        cache: ResolverCache | None = None,
        require_binding: bool = False,
    ) -> None:
        self._backend = backend
        self._driver = driver
        self._timeouts = timeouts
        self._say = say
        self._cache = cache
        self._require_binding = require_binding
        self._gate = asyncio.Semaphore(_AT_ONCE) if cache is None else cache.gate
        self._down: SecretsError | None = None

    def anew(self, cache: ResolverCache) -> "Resolver":
        """Return one for another pass, which does not know yet whether the backend is away."""
        return Resolver(
            self._backend,
            self._driver,
            self._timeouts,
            self._say,
            cache=cache,
            require_binding=self._require_binding,
        )

    async def prepare(self, secrets: Collection[SecretPath]) -> None:
        """
        Let the backend learn at once what versions many secrets have; until `forget` that counts.

        Only those of which this process may know: nobody asks about what a policy forbids.
        """
        await self._backend.prepare(secrets)

    def forget(self) -> None:
        """Ask anew from now on."""
        self._backend.forget()

    async def _ask(self, ask: Callable[P, Awaitable[T]], *args: P.args, **named: P.kwargs) -> T:
        """
        Ask the backend.

        Once it stayed away for longer than one request may take, nobody else in this pass waits
        for it: five hundred servers would each wait as long.
        """
        async with self._gate:
            down = self._down or (self._cache.down if self._cache is not None else None)
            if down is not None:
                raise type(down)(down.what, down.remedy)
            began = time.monotonic()
            try:
                return await ask(*args, **named)
            except (SecretsUnreachable, SecretsSealed) as error:
                if time.monotonic() - began >= self._timeouts.secrets_request:
                    self._down = error
                    if self._cache is not None:
                        self._cache.down = error
                raise

    async def newest(self, ref: SecretRef, target: Target) -> Secret:
        """
        Return the value of one field for *target*, of the pinned or newest version, settled or not.

        For what the operator alone changes (access secrets).  Raises SecretsError and Blocked.
        """
        held = self._cache.logins.get(ref) if self._cache is not None else None
        try:
            info = await self._ask(self._backend.describe, ref.at, ref.version)
        except (SecretsUnreachable, SecretsSealed, LoginFailed, TokenExpired):
            if held is None:
                raise
            self._check_binding(ref.at, held[0], target)
            return held[1]
        self._check_binding(ref.at, info, target)
        if held is not None and (held[0].version, held[0].created) == (
            info.version,
            info.created,
        ):
            return held[1]
        value = await self._newest(ref, info)
        if self._cache is not None:
            self._cache.logins[ref] = info, value
        return value

    async def _newest(self, ref: SecretRef, info: VersionInfo) -> Secret:
        data = await self._ask(self._backend.read, ref.at, info.version, info.created)
        value = data.get(ref.field or "")
        if value is None:
            raise SecretUnusable(
                f"{ref.at}@{info.version} has no field {ref.field}", "write it, or name another"
            )
        if reason := self._driver.refusal(value):
            raise SecretUnusable(
                f"the value of {ref} cannot be used: {reason}",
                "write the value itself again, with nothing around it",
            )
        return value

    async def freeze(self, exchange: DesiredExchange, target: Target) -> Mapping[str, FrozenRef]:
        """
        Fix the version of every reference of *exchange*, from metadata alone.

        A newest version counts once it has settled.  Raises SecretsError, and Blocked where the
        secret's owner does not name *target*.
        """
        wanted = {"": exchange.secret} if exchange.secret is not None else dict(exchange.fields)
        known: dict[tuple[SecretPath, int | None], VersionInfo] = {}
        for ref in wanted.values():
            if (ref.at, ref.version) not in known:
                known[ref.at, ref.version] = info = await self._settled(ref)
                self._check_binding(ref.at, info, target)
        return {
            name: FrozenRef(
                ref.at,
                known[ref.at, ref.version].version,
                known[ref.at, ref.version].created,
                ref.field,
            )
            for name, ref in sorted(wanted.items())
        }

    async def bound(self, paths: Iterable[SecretPath], target: Target) -> frozenset[SecretPath]:
        """
        Return those of *paths* whose owners name *target*, by metadata alone.  Raises SecretsError.

        One that is not there is bound to nobody.
        """
        found = set()
        for at in paths:
            with suppress(SecretMissing, SecretDeleted, SecretDestroyed):
                info = await self._ask(self._backend.describe, at, None)
                if info.targets is not None and any_matches(info.targets, target.url):
                    found.add(at)
        return frozenset(found)

    def _check_binding(self, at: SecretPath, info: VersionInfo, target: Target) -> None:
        """Raise Blocked where the owner of a secret names other addresses, or must name one."""
        remedy = (
            "name another secret, or its owner adds the address: bao kv metadata patch "
            f"-mount={at.mount} -custom-metadata=jtr_targets=URL,... {at.path}"
        )
        if info.targets is None and self._require_binding:
            raise Blocked(
                f"{at} is bound to no address, and the policy has requireBinding (jtr_targets)",
                remedy,
            )
        if info.targets is not None and not any_matches(info.targets, target.url):
            raise Blocked(
                f"{at} is not for {target.url}: its owner binds it to other addresses "
                "(jtr_targets)",
                remedy,
            )

    async def _settled(self, ref: SecretRef) -> VersionInfo:
        began = time.monotonic()
        seen: VersionInfo | None = None
        if self._cache is not None and ref.version is None:
            return await self._young(ref, self._cache)
        first, told = began, 0
        while True:
            info = await self._ask(self._backend.describe, ref.at, ref.version)
            if seen is None or (info.version, info.created) != (seen.version, seen.created):
                seen, first = info, time.monotonic()
            # Vault tells its time in whole seconds; what we watched ourselves is surer.
            age = max(info.age, time.monotonic() - first)
            rest = self._timeouts.settle - age
            if ref.version is not None or rest <= 0:
                return info
            if first - began + rest > self._timeouts.settle_total:
                raise StillBeingWritten(
                    f"{ref.at} is still being written: version {info.version} is the newest of "
                    f"several within {self._timeouts.settle_total:g} s",
                    "wait until it rests, or pin a version",
                )
            if told != info.version and rest >= _WORTH_TELLING:
                told = info.version
                self._say(f"waiting {rest:.1f} s until {ref.at}@{info.version} has settled")
            await asyncio.sleep(rest)

    async def _young(self, ref: SecretRef, cache: ResolverCache) -> VersionInfo:
        """Return the newest version once it has settled, over several passes."""
        info = await self._ask(self._backend.describe, ref.at, None)
        known = cache.seen.get(ref.at)
        if known is None or known[:2] != (info.version, info.created):
            known = cache.seen[ref.at] = info.version, info.created, time.monotonic()
        age = max(info.age, time.monotonic() - known[2])
        rest = self._timeouts.settle - age
        if rest > 0:
            raise NotSettled(
                f"{ref.at}@{info.version} was written {age:.0f} s ago; people write two fields "
                f"with two commands, so it is used in {rest:.0f} s",
                after=rest,
            )
        return info

    async def values(
        self,
        exchange: DesiredExchange,
        sources: Mapping[str, FrozenRef],
        observed: ObservedExchange,
    ) -> Values:
        """
        Read exactly the frozen versions, and check that each value may be sent.

        Raises SecretUnusable where a field is missing, ambiguous or must not be sent, and the
        other SecretsErrors.
        """
        read = await self._read(sources)
        used: set[str] = set()
        fields = {}
        for asked in observed.fields:
            fields[asked.name], name = self._picked(
                exchange, sources, read, asked.credential, "the server asks for"
            )
            used.add(name)
        surplus = {name for data in read.values() for name in data} - used
        return Values(fields, tuple(sorted(surplus)) if exchange.secret is not None else ())

    async def credentials(
        self,
        exchange: DesiredExchange,
        sources: Mapping[str, FrozenRef],
        required: Sequence[str],
    ) -> Mapping[str, Secret]:
        """
        Read exactly the frozen versions, by ccxt's names, without having seen a server.

        *required* are ccxt's names of what the exchange needs.  Raises as `values` does.
        """
        read = await self._read(sources)
        names = required if exchange.secret is not None else sources
        return {
            name: self._picked(exchange, sources, read, name, "the exchange needs")[0]
            for name in names
        }

    async def _read(self, sources: Mapping[str, FrozenRef]) -> _Read:
        read: _Read = {}
        for ref in sources.values():
            if (ref.at, ref.version) not in read:
                read[ref.at, ref.version] = await self._ask(
                    self._backend.read, ref.at, ref.version, ref.created
                )
        return read

    def _picked(
        self,
        exchange: DesiredExchange,
        sources: Mapping[str, FrozenRef],
        read: _Read,
        credential: str,
        asks: str,
    ) -> tuple[Secret, str]:
        """Return the value of a credential and the name of its field; *asks* is for people."""
        if exchange.secret is not None:
            ref = sources[""]
            name = self._spelled(credential, ref, read[ref.at, ref.version], asks)
        else:
            ref = sources[credential]
            name = ref.field or ""
        value = read[ref.at, ref.version].get(name)
        if value is None:
            raise SecretUnusable(
                f"{replace(ref, field=None)} has no field {name}",
                f"{asks} {credential} of {exchange.code}; write the field",
            )
        if reason := self._driver.refusal(value):
            place = replace(ref, field=name)
            raise SecretUnusable(
                f"the value of {place} cannot be used: {reason}",
                "write the value itself again, with nothing around it",
            )
        return value, name

    @staticmethod
    def _spelled(credential: str, ref: FrozenRef, data: Mapping[str, Secret], asks: str) -> str:
        there = [name for name in spellings(credential) if name in data]
        if len(there) > 1:
            raise SecretUnusable(
                f"{ref} has both {' and '.join(there)}", "keep one of the two spellings"
            )
        if not there:
            raise SecretUnusable(
                f"{ref} has no field {' or '.join(spellings(credential))}",
                f"{asks} {credential}; write the field into the secret",
            )
        return there[0]
