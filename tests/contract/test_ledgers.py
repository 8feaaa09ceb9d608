"""
Every store of ours under its contract; one that has no place in `BACKENDS` fails here.

The contract is `StoreContract` in reconciler/testing/stores.py.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from reconciler.errors import LedgerError, LedgerMissing
from reconciler.ledger import Store
from reconciler.ledger.stores import open_store, stores
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.stores.vault_kv import VaultStore
from reconciler.model.references import SecretPath
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.access import VaultAccess
from reconciler.secrets.vault.auth import TokenAuth
from reconciler.secrets.vault.kv_documents import VaultDocuments
from reconciler.system.timeouts import Timeouts
from reconciler.testing.stores import Place, StoreContract, ledger_on
from tests.support.additions import put, shown, spoilt


@dataclass
class InMemory:
    directory: Path
    bao: OpenBao
    shared: bool = False
    _store: MemoryStore | None = None

    def create(self) -> Store:
        self._store = MemoryStore()
        return self._store

    def open(self) -> Store:
        assert self._store is not None
        return self._store


@dataclass
class InFile:
    scheme: str
    directory: Path
    bao: OpenBao
    shared: bool = True

    def create(self) -> Store:
        return self._open(create=True)

    def open(self) -> Store:
        return self._open(create=False)

    def _open(self, *, create: bool) -> Store:
        place = f"{self.scheme}:{self.directory}/state/ledger"
        return open_store(place, Timeouts(), create=create)


@dataclass
class InVault:
    directory: Path
    bao: OpenBao
    shared: bool = True
    path: str = field(default_factory=lambda: f"ledgers/{uuid.uuid4().hex}")

    def create(self) -> Store:
        access = self._access()
        return VaultStore.create(self._documents(access), closing=access.close)

    def open(self) -> Store:
        access = self._access()
        return VaultStore.open(self._documents(access), closing=access.close)

    def _access(self) -> VaultAccess:
        auth = TokenAuth(self.bao.root_token)
        return VaultAccess(address=self.bao.address, auth=auth, timeouts=Timeouts())

    def _documents(self, access: VaultAccess) -> VaultDocuments:
        return VaultDocuments(access, SecretPath("secret", self.path))


BACKENDS: dict[str, Callable[[Path, OpenBao], Place]] = {
    "memory": InMemory,
    "sqlite": partial(InFile, "sqlite"),
    "vault": InVault,
}
NEW = "reconciler/ledger/stores/json_file.py"  # docs/extending.md shows it


@contextmanager
def added(
    text: str, tmp_path: Path, bao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A place for the one store that somebody has added."""
    before = set(stores())
    put(NEW, text, tmp_path / "more", monkeypatch)
    stores.cache_clear()
    try:
        (scheme,) = set(stores()) - before
        yield InFile(scheme, tmp_path, bao)
    finally:
        stores.cache_clear()


class TestStores(StoreContract):
    @pytest.fixture(params=["memory", *stores(), NEW])
    def place(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        bao: OpenBao,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[Place]:
        if request.param == NEW:
            with added(shown(NEW), tmp_path, bao, monkeypatch) as new:
                yield new
        else:
            yield BACKENDS[request.param](tmp_path, bao)


def test_a_store_that_was_found_empty_is_no_ledger() -> None:
    found = MemoryStore()
    found.created = False

    with pytest.raises(LedgerMissing, match="jtr ledger init"):
        ledger_on(found)


# ── a store that somebody adds ───────────────────────────────────────────────────────────────

CONTRACT = StoreContract()


def another_revision_is_refused(place: Place) -> None:
    CONTRACT.test_a_revision_that_is_not_the_newest_is_a_conflict(place.create(), 3)


def one_wins(place: Place) -> None:
    CONTRACT.test_eight_threads_racing_have_one_winner_each_time(place.create())


def every_write_counts(place: Place) -> None:
    CONTRACT.test_the_sequence_counts_every_write(place.create())


def nothing_is_missing(place: Place) -> None:
    CONTRACT.test_where_no_ledger_is_it_is_missing(place)


def foreign_keys_are_refused(place: Place) -> None:
    CONTRACT.test_a_key_outside_the_alphabet_is_a_mistake(place.create(), "a/../b")


@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        (") != one.expect:", ") > one.expect:", another_revision_is_refused),
        ("fcntl.flock(handle, fcntl.LOCK_EX)", "pass", one_wins),
        ("return sum(stored.revision for stored in", "return len(", every_write_counts),
        ("if not check_file(real):", "if False:", nothing_is_missing),
        ("checked(one.key)\n                stored", "stored", foreign_keys_are_refused),
    ],
    ids=["lenient", "unlocked", "miscounting", "never missing", "unchecked"],
)
def test_positive_control_a_careless_store_is_noticed(
    tmp_path: Path,
    bao: OpenBao,
    monkeypatch: pytest.MonkeyPatch,
    right: str,
    wrong: str,
    check: Callable[[Place], None],
) -> None:
    careless = spoilt(shown(NEW), right, wrong)
    with (
        added(careless, tmp_path, bao, monkeypatch) as place,
        pytest.raises((AssertionError, LedgerError, pytest.fail.Exception)),
    ):
        check(place)
