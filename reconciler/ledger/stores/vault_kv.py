"""
A ledger's store in KV version 2 of HashiCorp Vault or OpenBao: CI and a controller can share it.

One secret per key, its version is the revision, and check-and-set does the rest.  The counter of
versions goes on when versions are deleted or pruned; only whoever may delete *metadata* can set it
back, which is why the ledger's policy (deploy/vault/ledger.hcl) has no such right.  Of a key only
the newest version is ever needed, so the mount may keep as few as it likes.

A ledger that cannot be reached or used ends a command with the exit code of the secrets backend
(5), because that is where the cause is.
"""

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, Protocol, Self, TypeVar

from reconciler.errors import Exit, LedgerError, LedgerMissing, SecretsError
from reconciler.ledger import Conflict, Put, Stored, checked

A = TypeVar("A")
B = TypeVar("B")

SCHEME: Final = "vault"
FORMAT: Final = "1"
_MARK: Final = "X"  # the name of what says that here is a ledger; no key has this name
_FORMAT: Final = "jtr-ledger"
_TEXT: Final = "document"
_WRITE: Final = "write"
_LEVELS: Final = 8  # folders within folders; the keys of a ledger have four parts
_AT_ONCE: Final = 8  # requests; a listing of a fleet costs one for each folder and each key


class LedgerRefused(LedgerError):
    """Vault does not let us: forbidden, no login, another kind of mount, a certificate."""

    exit_code = Exit.SECRETS


class LedgerUnreachable(LedgerRefused):
    """Vault gave no usable answer: down, sealed, too slow.  A write may have taken place."""

    transient = True


class KeyValue(Protocol):
    """
    What a ledger needs of a KV version 2 mount; names are relative to the ledger's own path.

    Every failure is a SecretsError.  A `transient` one leaves open whether a write took place;
    after any other it did not.
    """

    @property
    def place(self) -> str:
        """Where that is, for people."""
        ...

    def check_mount(self) -> None:
        """Raise SecretsError unless this is a mount of KV version 2."""
        ...

    def insists_on_cas(self) -> bool | None:
        """Whether the mount refuses writes without check-and-set; None when it does not say."""
        ...

    def read(
        self, name: str, version: int | None = None
    ) -> tuple[int, Mapping[str, Any] | None] | None:
        """Return a version's number and fields (None: deleted); None when there is none."""
        ...

    def put(self, name: str, fields: Mapping[str, str], *, cas: int) -> int | None:
        """Write the version after *cas*; None when *cas* is not the newest."""
        ...

    def current(self, name: str) -> int:
        """Return the number of the newest version, deleted or not; 0 when there never was one."""
        ...

    def list(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash."""
        ...


class VaultStore:
    at_hand = False

    def __init__(
        self, kv: KeyValue, *, created: bool, closing: Callable[[], None] | None = None
    ) -> None:
        self._kv: Final = kv
        self._created: Final = created
        self._closing = closing
        self._closed = False
        self._lock: Final = threading.Lock()
        self._seen: dict[str, int] = {}  # the newest revision that anybody here knows of

    @classmethod
    def open(cls, kv: KeyValue, *, closing: Callable[[], None] | None = None) -> Self:
        """
        Open an existing ledger; *closing* is called once when it is closed.

        Raises LedgerMissing when certainly none was made there, and other LedgerErrors when that
        cannot be said.
        """
        with _explained():
            kv.check_mount()  # in another kind of mount everything looks as if it were not there
            found = kv.read(_MARK)
        if found is None:
            raise LedgerMissing(
                f"there is no ledger at {kv.place}", "make one with: jtr ledger init"
            )
        _check_format(kv, found[1])
        return cls(kv, created=False, closing=closing)

    @classmethod
    def create(cls, kv: KeyValue, *, closing: Callable[[], None] | None = None) -> Self:
        """
        Make a ledger and open it.

        One that holds no document yet, left by a process that died in between, is used; whatever
        else lies there is a LedgerError and left as it is.  Several makers at once make one.
        """
        with _explained():
            kv.check_mount()
            if set(kv.list("")) - {_MARK}:
                raise LedgerError(
                    f"there already is a ledger, or something else, below {kv.place}",
                    "use it, or name a path of its own for the ledger",
                )
            if kv.put(_MARK, {_FORMAT: FORMAT}, cas=0) is None:
                found = kv.read(_MARK)
                _check_format(kv, found[1] if found else None)
        return cls(kv, created=True, closing=closing)

    @property
    def created(self) -> bool:
        return self._created

    def get(self, key: str) -> Stored | None:
        self._usable()
        name = named(key)
        known = self._seen.get(key, 0)  # before asking: another thread may write meanwhile
        with _explained():
            found = self._kv.read(name)
        revision, fields = found or (0, None)
        if revision < known:
            raise LedgerError(
                f"the ledger's row {key} went back from revision {known} to {revision}",
                "does a standby answer that lags behind, or did somebody remove its metadata? "
                "Read the active node; after a removal: jtr ledger accept-restore",
            )
        if found is None:
            return None
        if fields is None:
            raise self._deleted(key, revision)
        text = fields.get(_TEXT)
        if not isinstance(text, str):
            raise LedgerError(
                f"the ledger's row {key} was overwritten with something else in Vault",
                f"bring back the version before: bao kv rollback, below {self._kv.place}",
            )
        self._note(key, revision)
        return Stored(revision, text)

    def put(self, key: str, text: str, *, expect: int) -> int:
        """
        Write a document if its revision still is *expect*.

        Each write carries a name of its own, so that after an answer that got lost, or that was
        meant for a repetition, Vault can be asked whose revision it is.
        """
        self._usable()
        name, own = named(key), secrets.token_hex(16)
        doubt: LedgerError | None = None
        revision = None
        try:
            revision = self._kv.put(name, {_TEXT: text, _WRITE: own}, cas=expect)
        except SecretsError as error:
            doubt = _failure(error)
            if not doubt.transient:
                raise doubt from None
        if revision is None:
            revision = self._asked(key, name, own, expect + 1, doubt)
        self._note(key, revision)
        return revision

    def put_all(self, puts: Sequence[Put]) -> None:
        """Write one after the other: Vault has no request for several."""
        for one in puts:
            self.put(one.key, one.text, expect=one.expect)

    def keys(self, prefix: str) -> list[str]:
        self._usable()
        folders = [named(prefix.rstrip("/")) if prefix else ""]
        found: list[str] = []
        with _explained():
            for _ in range(_LEVELS):
                below: list[str] = []
                for folder, names in zip(folders, _each(self._kv.list, folders), strict=True):
                    below += [f"{folder}/{name}" if folder else name for name in names]
                folders = [name.removesuffix("/") for name in below if name.endswith("/")]
                found += [name for name in below if not name.endswith("/")]
        if folders:
            raise LedgerError(
                f"below {self._kv.place} lie folders within folders that no ledger has",
                "does something in front of Vault answer instead of it?",
            )
        return sorted(key for name in found if (key := _key(name)) is not None)

    def rows(self, prefix: str) -> dict[str, Stored]:
        """Read them one by one; one that is listed and is not there would pass for a new one."""
        keys = self.keys(prefix)
        found: dict[str, Stored] = {}
        for key, stored in zip(keys, _each(self.get, keys), strict=True):
            if stored is None:
                raise LedgerError(
                    f"the ledger's row {key} is listed, but nothing lies there",
                    "if it was removed: restore it from a backup; else delete its metadata",
                )
            found[key] = stored
        return found

    def sequence(self) -> int:
        """Return the sum of all revisions; costs one request for each key."""
        names = [named(key) for key in self.keys("")]
        with _explained():
            return sum(_each(self._kv.current, names))

    def close(self) -> None:
        """Give back what was opened for this store."""
        with self._lock:
            self._closed = True
            closing, self._closing = self._closing, None
        if closing is not None:
            closing()

    def _usable(self) -> None:
        if self._closed:
            raise LedgerError(f"the ledger {self._kv.place} is closed", "start the command again")

    def _note(self, key: str, revision: int) -> None:
        with self._lock:
            self._seen[key] = max(revision, self._seen.get(key, 0))

    def _asked(
        self, key: str, name: str, own: str, revision: int, doubt: LedgerError | None
    ) -> int:
        """Find out whether *revision* is our own write; return it, or raise what is known."""
        try:
            found = self._kv.read(name, revision)
        except SecretsError as error:
            raise _unknown(key, doubt or _failure(error)) from None
        number, fields = found or (0, None)
        if number == revision and fields is not None:
            if fields.get(_WRITE) == own:
                return revision
            raise _conflict(key)  # it can never be ours any more
        if number == revision:
            raise self._deleted(key, revision)
        if doubt is not None:
            raise _unknown(key, doubt)  # it may still be on its way
        raise _conflict(key)

    def _deleted(self, key: str, revision: int) -> LedgerError:
        return LedgerError(
            f"the ledger's row {key} was deleted in Vault",
            f"restore it (bao kv undelete -versions={revision}, below {self._kv.place}); it is "
            "never taken for one that was not written",
        )


def open_at(
    _path: str,
    *,
    create: bool,
    documents: KeyValue,
    closing: Callable[[], None] | None,
    **_: object,
) -> VaultStore:
    """Open the ledger `vault:MOUNT/PATH`, where *documents* lie, or make it."""
    opener = VaultStore.create if create else VaultStore.open
    return opener(documents, closing=closing)


def insists_on_cas(kv: KeyValue) -> bool | None:
    """
    Whether nobody can write below the ledger without check-and-set; None when Vault does not say.

    Our own writes always use it, and a write of somebody else without it is noticed as a conflict;
    but it could damage what a row says.
    """
    with _explained():
        return kv.insists_on_cas()


def named(key: str) -> str:
    """
    Return the name of *key* in a mount; `X`, which no key holds, is put where Vault is choosy.

    Vault refuses two dots in a row, and we no segment that begins with a dot or a dash.
    """
    return re.sub(r"(?:(?<=/)|^)(?=[.-])|(?<=\.)(?=\.)", "X", checked(key))


def _key(name: str) -> str | None:
    """Return the key of a name; None when it is not of ours."""
    key = name.replace("X", "")
    try:
        return key if named(key) == name else None
    except ValueError:
        return None


def _each(ask: Callable[[A], B], subjects: Iterable[A]) -> list[B]:
    subjects = list(subjects)
    if len(subjects) < 2:  # noqa: PLR2004  - one needs no threads
        return [ask(subject) for subject in subjects]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return list(pool.map(ask, subjects))


def _check_format(kv: KeyValue, fields: Mapping[str, Any] | None) -> None:
    if fields is None:
        raise LedgerError(
            f"the mark of the ledger {kv.place} was deleted",
            f"restore it: bao kv undelete -versions=1, {_MARK} below that path",
        )
    if fields.get(_FORMAT) != FORMAT:
        raise LedgerError(
            f"what lies at {kv.place} is no ledger that this jtr knows",
            "use the newest jtr that wrote there, or name another path",
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Turn every SecretsError into the LedgerError that says the same."""
    try:
        yield
    except SecretsError as error:
        raise _failure(error) from None


def _failure(error: SecretsError) -> LedgerError:
    kind = LedgerUnreachable if error.transient else LedgerRefused
    return kind(f"the ledger cannot be used: {error.what}", error.remedy)


def _unknown(key: str, why: LedgerError) -> LedgerError:
    return LedgerUnreachable(
        f"nobody knows whether {key} was written to the ledger: {why.what}", why.remedy
    )


def _conflict(key: str) -> Conflict:
    return Conflict(f"{key} changed in the ledger meanwhile", "try again")
