"""
Which of many secrets have a new version, learnt with few requests and without reading any value.

OpenBao's KV version 2 tells the metadata of everything below a folder in one answer (SCAN of
`detailed-metadata`), or of one folder (LIST of it, in pages).  HashiCorp Vault has neither: there
each secret's metadata is read by itself.  What a mount can do and what the token may do is tried
from the top, remembered, and tried again once an hour.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from reconciler.errors import (
    Forbidden,
    LoginFailed,
    SecretsError,
    SecretsSealed,
    SecretsUnreachable,
    TokenExpired,
)
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret, VersionInfo
from reconciler.secrets import SecretBackend
from reconciler.secrets.vault.access import FORBIDDEN, NOT_FOUND, OK
from reconciler.secrets.vault.backend import VaultBackend, usable
from reconciler.secrets.vault.client import AT_ONCE, Answer, AnswerTooLong
from reconciler.secrets.vault.listing import Entries
from reconciler.secrets.vault.versions import Versions

_PROBE_AGAIN: Final = 3600.0  # seconds: policies change, and servers are upgraded
_PAGE: Final = 500
_PLACE: Final = attrgetter("mount", "path")  # sorts as the paths do, and quicker
_WORTH_LISTING: Final = 32  # secrets; a listing that is refused costs two requests
_ALL: Final = (LoginFailed, TokenExpired, SecretsSealed)  # what is wrong for every secret alike

Looked = Mapping[SecretPath, Versions | SecretsError]
_Found = dict[SecretPath, Versions | SecretsError]


class _Folder(Struct, frozen=True):
    """A folder of a mount; an empty path is the mount itself."""

    mount: str
    path: str

    def name_of(self, at: SecretPath) -> str:
        """How *at*, which lies below, is called in a listing of this folder."""
        return at.path.removeprefix(f"{self.path}/") if self.path else at.path

    def url(self) -> str:
        return f"/v1/{self.mount}/detailed-metadata" + (f"/{self.path}" if self.path else "")


_Places = tuple[set[SecretPath], list[tuple[_Folder, Entries]]]


class _Refused(Exception):
    """This way of asking does not work; with *everywhere* not in the whole mount."""

    def __init__(self, *, everywhere: bool) -> None:
        super().__init__()
        self.everywhere = everywhere


class Sweeper:
    """
    Asks one Vault for the newest versions of many secrets.

    `requests` counts what was asked so far, refusals included.  One that is not *thorough* lives
    too briefly for a memory of refusals: it tries one listing in each mount, and then each secret.
    """

    def __init__(
        self,
        backend: VaultBackend,
        *,
        thorough: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._thorough = thorough
        self.requests = 0
        self._backend = backend
        self._clock = clock
        self._turn = asyncio.Lock()
        self._refused: dict[tuple[str, _Folder | str], float] = {}
        self._sorted: tuple[frozenset[SecretPath], _Places] | None = None

    async def sweep(
        self, secrets: Collection[SecretPath]
    ) -> Mapping[SecretPath, VersionInfo | SecretsError]:
        """
        Return facts on the newest version of each, or why there are none, as `describe` says it.

        Raises nothing: while Vault is away that stands at every secret.
        """
        return {at: newest(found) for at, found in (await self.look(secrets)).items()}

    async def look(self, secrets: Collection[SecretPath]) -> Looked:
        """As `sweep`, with what Vault says of all versions."""
        async with self._turn:
            found: _Found = {}
            try:
                listed, folders = self._placed(secrets)
                for folder, wanted in folders:
                    await self._scan(folder, wanted, found)
                for folder, wanted in _by_folder(listed - found.keys() if self._thorough else ()):
                    await self._list(folder, wanted, found)
                await self._singly(sorted(set(secrets) - found.keys()), found)
            except SecretsError as error:
                return {at: found.get(at, error) for at in secrets}
            return found

    def _placed(self, secrets: Collection[SecretPath]) -> _Places:
        """Return what may be listed, and where it lies; the same set is not sorted again."""
        if self._sorted is not None and secrets is self._sorted[0]:
            return self._sorted[1]
        listed = {at for at in secrets if usable(at)}
        places = listed, list(_together(listed))
        # Any other collection may have changed by the next time.
        self._sorted = (secrets, places) if isinstance(secrets, frozenset) else None
        return places

    # ── three ways of asking ─────────────────────────────────────────────────────────────────

    async def _scan(self, folder: _Folder, wanted: Entries, found: _Found) -> None:
        async def ask() -> None:
            answer = await self._asked(folder, {"scan": "true"}, wanted)
            _take(answer, wanted, found)

        await self._try("scan", folder, wanted, found, ask)

    async def _list(self, folder: _Folder, wanted: Entries, found: _Found) -> None:
        async def ask() -> None:
            seen: set[str] = set()
            parameters = {"list": "true", "limit": str(_PAGE)}
            while True:
                answer = await self._asked(folder, parameters, wanted)
                _take(answer, wanted, found)
                names = answer.data.get("keys")
                names = [name for name in names if isinstance(name, str)] if names else []
                if len(names) != _PAGE or set(names) <= seen:
                    return  # the last page, or a server that knows no pages
                seen |= set(names)
                parameters["after"] = names[-1]

        await self._try("list", folder, wanted, found, ask)

    async def _singly(self, secrets: Collection[SecretPath], found: _Found) -> None:
        """Ask for each, several at once; raise what is wrong for all of them."""
        left = iter(secrets)
        doubtful: list[SecretPath] = []

        async def work() -> None:
            for at in left:
                try:
                    found[at] = await self._one(at)
                except TokenExpired:
                    doubtful.append(at)
                    return

        works = [asyncio.create_task(work()) for _ in range(min(AT_ONCE, len(secrets)))]
        try:
            await asyncio.gather(*works)
        finally:
            for one in works:
                one.cancel()
            await asyncio.gather(*works, return_exceptions=True)
        # A token that may not look itself up, refused before it read anything: what the others
        # read tells now whether it lives.
        for at in (*doubtful, *left):
            found[at] = await self._one(at)

    async def _one(self, at: SecretPath) -> Versions | SecretsError:
        """Ask for one secret; raise only what is wrong for all of them."""
        self.requests += 1
        try:
            return await self._backend.versions(at)
        except _ALL:
            raise
        except SecretsUnreachable as error:
            await self._make_sure()
            return error
        except SecretsError as error:
            return error

    async def _make_sure(self) -> None:
        """
        Raise if nobody answers at all: then the others need not wait for that.

        Else it was this one request that Vault, or something before it, could not cope with.
        """
        self.requests += 1
        with suppress(Forbidden):
            await self._backend.whoami()

    # ── what works ───────────────────────────────────────────────────────────────────────────

    async def _try(
        self,
        way: str,
        folder: _Folder,
        wanted: Entries,
        found: _Found,
        ask: Callable[[], Awaitable[None]],
    ) -> None:
        if len(wanted.secrets) < 2 or self._is_refused(way, folder):  # noqa: PLR2004  - one is asked singly
            return
        try:
            await ask()
        except _Refused as refused:
            everywhere = refused.everywhere or not self._thorough
            self._refused[way, folder.mount if everywhere else folder] = self._clock()
        except TokenExpired:
            # Or it lives, and may neither list nor look itself up: what it reads says which.
            some = sorted(wanted.secrets.values(), key=_PLACE)[:AT_ONCE]
            await self._singly(some, found)
            self._refused[way, folder if self._thorough else folder.mount] = self._clock()
        except AnswerTooLong:
            self._refused[way, folder] = self._clock()
        except SecretsUnreachable:
            await self._make_sure()
            self._refused[way, folder] = self._clock()

    def _is_refused(self, way: str, folder: _Folder) -> bool:
        moments = [self._refused.get((way, place)) for place in (folder, folder.mount)]
        return any(
            moment is not None and self._clock() - moment < _PROBE_AGAIN for moment in moments
        )

    async def _asked(
        self, folder: _Folder, parameters: Mapping[str, str], wanted: Entries
    ) -> Answer:
        self.requests += 1
        answer = await self._backend.ask(
            f"the versions below vault:{folder.mount}/{folder.path}",
            "GET",
            folder.url(),
            params=parameters,
            wanted=wanted,
        )
        nothing = answer.status == NOT_FOUND and answer.body.get("errors") == []
        if answer.status != OK and not nothing:
            # 404 with other words, 405, 400: no such thing in this mount, or no such mount.
            raise _Refused(everywhere=answer.status != FORBIDDEN)
        return answer


def newest(found: Versions | SecretsError) -> VersionInfo | SecretsError:
    return found if isinstance(found, SecretsError) else found.current


class SweptBackend(SecretBackend):
    """
    A `SecretBackend` that answers from its last sweep while that is younger than *max_age* seconds.

    Only what can do no harm is answered from memory: a newest version counts only if it was
    *settle* seconds old when it was looked at, because its second half may have been written since
    (the age of an older look would hide that); and what cannot be read is asked for again, because
    it may have been mended since.  Values are always read from Vault.
    """

    def __init__(
        self,
        backend: VaultBackend,
        *,
        max_age: float,
        settle: float,
        sweeper: Sweeper | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._sweeper = sweeper or Sweeper(backend)
        self._max_age = max_age
        self._settle = settle
        self._clock = clock
        self._asked = 0
        self._known: dict[SecretPath, tuple[float, Versions]] = {}

    @property
    def requests(self) -> int:
        """How often Vault was asked so far, by sweeps and singly."""
        return self._sweeper.requests + self._asked

    async def sweep(
        self, secrets: Collection[SecretPath]
    ) -> Mapping[SecretPath, VersionInfo | SecretsError]:
        """As `Sweeper.sweep`; forgets what was not asked for."""
        return {at: newest(found) for at, found in (await self._look(secrets)).items()}

    async def _look(self, secrets: Collection[SecretPath]) -> Looked:
        # Before the first request: what is written during the sweep may be missing in it.
        began = self._clock()
        looked = await self._sweeper.look(secrets)
        self._known = {
            at: (began, found) for at, found in looked.items() if isinstance(found, Versions)
        }
        return looked

    async def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        """Return facts on one version, or the newest, from the last sweep or from Vault."""
        known = self._known.get(at)
        if known is not None and (later := self._clock() - known[0]) < self._max_age:
            try:
                now = known[1].info(version, later=later)
            except SecretsError:
                return await self._ask(at, version)
            then = max(0.0, now.age - later)
            if version is not None or then >= self._settle:
                return now
        return await self._ask(at, version)

    async def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        self._asked += 1
        return await self._backend.read(at, version, created)

    async def prepare(self, secrets: Collection[SecretPath]) -> None:
        """Sweep, if there are so many that it costs less even where a listing is refused."""
        if len(secrets) >= _WORTH_LISTING:
            await self._look(secrets)

    def forget(self) -> None:
        self._known = {}

    def close(self) -> None:
        """Leave the backend to whoever opened it, and forget."""
        self.forget()

    async def _ask(self, at: SecretPath, version: int | None) -> VersionInfo:
        self._asked += 1
        return await self._backend.describe(at, version)


def _take(answer: Answer, wanted: Entries, found: _Found) -> None:
    """Take from a listing what it tells of the secrets that are wanted; the rest is asked for."""
    listed: Any = answer.data.get("key_info")
    if not isinstance(listed, dict):
        return
    for name, at in wanted.secrets.items():
        facts = listed.get(name)
        if not isinstance(facts, dict) or at in found:
            continue
        if (read := _read(at, facts, answer)) is not None:
            found[at] = read


def _read(
    at: SecretPath, facts: Mapping[str, Any], answer: Answer
) -> Versions | SecretsError | None:
    """Read what a listing tells of one secret; None when that is nothing that we understand."""
    try:
        versions = Versions.of(at, facts, answer.clock)
    except SecretsUnreachable:
        return None
    except SecretsError as error:
        return error
    if versions is None or isinstance(versions.current, SecretsUnreachable):
        return None
    return versions


def _together(secrets: Collection[SecretPath]) -> Iterator[tuple[_Folder, Entries]]:
    """
    Group by mount and first folder, under the deepest folder that a whole group lies in.

    A token seldom may look at a whole mount, and there may be much that is not ours.
    """
    groups: dict[tuple[str, str], list[SecretPath]] = {}
    for at in sorted(set(secrets), key=_PLACE):
        top, slash, _ = at.path.partition("/")
        groups.setdefault((at.mount, top if slash else ""), []).append(at)
    for (mount, top), wanted in groups.items():
        if not top:
            continue  # directly in the mount: listing it is enough
        folders = [at.path.split("/")[:-1] for at in wanted]
        shared: list[str] = []
        for parts in zip(*folders, strict=False):
            if len(set(parts)) > 1:
                break
            shared.append(parts[0])
        yield _named(_Folder(mount, "/".join(shared)), wanted)


def _by_folder(secrets: Collection[SecretPath]) -> Iterator[tuple[_Folder, Entries]]:
    groups: dict[_Folder, list[SecretPath]] = {}
    for at in sorted(set(secrets), key=_PLACE):
        groups.setdefault(_Folder(at.mount, at.path.rpartition("/")[0]), []).append(at)
    yield from (_named(folder, wanted) for folder, wanted in groups.items())


def _named(folder: _Folder, secrets: Collection[SecretPath]) -> tuple[_Folder, Entries]:
    return folder, Entries({folder.name_of(at): at for at in secrets})
