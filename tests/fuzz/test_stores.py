"""Where ledgers lie: a SQLite file with bytes of it wrong, a Vault that answers with anything."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import strategies as st

from reconciler.errors import LedgerError
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.ledger.stores.vault_kv import VaultStore
from reconciler.model.references import SecretPath
from reconciler.secrets.vault.access import VaultAccess
from reconciler.secrets.vault.client import Answer
from reconciler.secrets.vault.kv_documents import VaultDocuments
from tests.fuzz.bounds import attack, examples, outcome
from tests.fuzz.damage import damaged, torn

KEYS: Final = ("ledger/birth", "server/u1/identity", "server/u1/exchange/bybit")


def used(store: SqliteStore | VaultStore) -> None:
    """Do all that a store can; only its own errors may come of it."""
    for use in (
        lambda: [store.get(key) for key in KEYS],
        lambda: store.keys(""),
        lambda: store.keys("server/"),
        store.sequence,
        lambda: store.put("server/u2/identity", "{}", expect=0),
    ):
        try:
            use()
        except LedgerError:
            continue


@examples(150, 8_000)
def test_no_spoilt_file_of_sqlite_ends_anything(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state" / "ledger.db"
    store = SqliteStore.create(path)
    for number, key in enumerate(KEYS * 3):
        store.put(key, '{"a": "' + "x" * 700 + '"}', expect=number // len(KEYS))
    store.close()
    whole = path.read_bytes()
    monkeypatch.setattr("reconciler.ledger.stores.sqlite._BUSY", 0.0)

    def one(data: bytes) -> None:
        for file in path.parent.iterdir():
            file.unlink()
        path.touch(0o600)
        path.write_bytes(data)
        opened = outcome(lambda: SqliteStore.open(path, busy=0.0))
        if isinstance(opened, SqliteStore):
            used(opened)
            opened.close()

    attack(torn([whole]), one, most)


# ── Vault ────────────────────────────────────────────────────────────────────────────────────

METADATA: Final = {"created_time": "2026-11-22T09:00:00Z", "version": 3, "destroyed": False}
BODIES: Final[dict[str, Any]] = {
    "data/": {"data": {"data": {"document": "{}", "write": "n"}, "metadata": METADATA}},
    "metadata/": {"data": {"current_version": 3, "keys": ["server/", "X", "birth"]}},
}


class Answers:
    """Stands for Vault: every question of a kind gets the same answer."""

    def __init__(self, status: int, bodies: dict[str, Any]) -> None:
        self._status = status
        self._bodies = bodies

    async def ask(self, _place: str, _method: str, path: str, **_: object) -> Answer:
        kind = "data/" if "/data/" in path else "metadata/"
        body = self._bodies[kind]
        return Answer(self._status, None, body if isinstance(body, dict) else {})

    async def mount_trouble(self, _at: SecretPath) -> None:
        return None

    def wait(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Answer at once: nothing here waits for anything."""
        try:
            work.send(None)
        except StopIteration as end:
            return cast("Answer", end.value)
        raise AssertionError


@examples(150, 10_000)
def test_no_answer_of_vault_ends_a_ledger(most: int) -> None:
    def one(spoilt: tuple[int, str, Any]) -> None:
        status, kind, body = spoilt
        access = cast("VaultAccess", Answers(status, BODIES | {kind: body}))
        store = VaultStore(VaultDocuments(access, SecretPath("secret", "ledger")), created=False)
        used(store)

    bodies = st.sampled_from(sorted(BODIES)).flatmap(
        lambda kind: st.tuples(
            st.sampled_from((200, 200, 200, 404, 403)), st.just(kind), damaged([BODIES[kind]])
        )
    )
    attack(bodies, one, most)


def test_folders_without_end_are_no_ledger() -> None:
    """The same folder in every folder: such a listing had no end."""
    access = cast("VaultAccess", Answers(200, BODIES))
    store = VaultStore(VaultDocuments(access, SecretPath("secret", "ledger")), created=False)

    with pytest.raises(LedgerError, match="folders within folders"):
        store.keys("")
