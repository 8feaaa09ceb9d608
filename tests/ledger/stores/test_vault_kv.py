"""
A ledger in KV version 2 on a real OpenBao: what can be wrong with it, lost answers, races.

What every store promises is in reconciler/testing/stores.py.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Exit, JtrError, LedgerError, LedgerMissing
from reconciler.ledger import Conflict, Stored, checked
from reconciler.ledger.stores.vault_kv import (
    LedgerRefused,
    LedgerUnreachable,
    VaultStore,
    _key,
    insists_on_cas,
    named,
)
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.access import VaultAccess
from reconciler.secrets.vault.auth import TokenAuth
from reconciler.secrets.vault.client import _PATH
from reconciler.secrets.vault.kv_documents import VaultDocuments
from reconciler.system.timeouts import Timeouts
from tests.secrets.http_stub import Script, answer, stub
from tests.support.processes import PATIENCE

CALM = Timeouts()
QUICK = replace(CALM, connect=1.0, secrets_request=1.0, secrets_total=1.5)  # for one that is away
ROW = "server/a/requests"


@dataclass
class Ledgers:
    """Opens the ledger of one test, which no other test uses."""

    bao: OpenBao
    at: SecretPath
    opened: list[VaultAccess]

    def documents(
        self,
        *,
        token: Secret | None = None,
        address: str = "",
        at: SecretPath | None = None,
        timeouts: Timeouts = CALM,
    ) -> VaultDocuments:
        """Reach it, perhaps with another token, over another address or at another place."""
        access = VaultAccess(
            address=address or self.bao.address,
            auth=TokenAuth(self.bao.root_token if token is None else token),
            timeouts=timeouts,
        )
        self.opened.append(access)
        return VaultDocuments(access, at or self.at)

    def limited(self, **rights: tuple[str, ...]) -> Secret:
        """A token with these rights below the ledger, by kind of path."""
        name = uuid.uuid4().hex
        rules = {f"secret/{kind}/{self.at.path}/*": to for kind, to in rights.items()}
        self.bao.write_policy(name, rules)
        return self.bao.create_token([name])


def ledgers_on(bao: OpenBao) -> Iterator[Ledgers]:
    made = Ledgers(bao, SecretPath("secret", f"ledgers/{uuid.uuid4().hex}"), [])
    yield made
    for access in made.opened:
        access.close()


@pytest.fixture
def ledgers(bao: OpenBao) -> Iterator[Ledgers]:
    yield from ledgers_on(bao)


@pytest.fixture
def own(watch: object) -> Iterator[Ledgers]:
    """On an OpenBao that a test may break."""
    del watch
    with OpenBao() as bao:
        yield from ledgers_on(bao)


@pytest.fixture
def store(ledgers: Ledgers) -> VaultStore:
    return VaultStore.create(ledgers.documents())


# ── names ────────────────────────────────────────────────────────────────────────────────────


KEYS = st.from_regex(r"\A[a-z0-9_.-]{1,8}(?:/[a-z0-9_.-]{1,8}){0,3}\Z").filter(
    lambda key: not {".", ".."} & set(key.split("/"))
)


@given(KEYS)
def test_every_key_has_a_name_that_vault_takes_and_only_one(key: str) -> None:
    name = named(checked(key))

    assert _key(name) == key
    assert ".." not in name
    assert _PATH.fullmatch(f"/v1/secret/data/{name}")


@pytest.mark.parametrize("name", ["X", "a/X", "Xa", "A", "aX", "a b", "", "a/../b"])
def test_what_is_not_ours_is_no_key(name: str) -> None:
    assert _key(name) is None


@pytest.mark.parametrize("key", ["server/-x", "a/_.0f", "a/.b", "a..b/c", "a/b...c"])
def test_odd_keys_work(ledgers: Ledgers, store: VaultStore, key: str) -> None:
    store.put(key, "{}", expect=0)

    assert VaultStore.open(ledgers.documents()).get(key) == Stored(1, "{}")
    assert store.keys("") == [key]


def test_strangers_secrets_below_the_ledger_are_not_rows(
    ledgers: Ledgers, store: VaultStore
) -> None:
    store.put("a", "{}", expect=0)
    ledgers.bao.put(f"{ledgers.at.path}/Notes", {"a": "b"})

    assert store.keys("") == ["a"]
    assert store.sequence() == 1


# ── beginning ────────────────────────────────────────────────────────────────────────────────


def test_a_path_without_a_ledger_is_missing(ledgers: Ledgers) -> None:
    with pytest.raises(LedgerMissing, match="jtr ledger init"):
        VaultStore.open(ledgers.documents())


def test_a_ledger_is_never_begun_twice(ledgers: Ledgers, store: VaultStore) -> None:
    store.put("a", "{}", expect=0)

    with pytest.raises(LedgerError, match="already is a ledger"):
        VaultStore.create(ledgers.documents())


def test_a_beginning_that_was_cut_short_is_completed(ledgers: Ledgers, store: VaultStore) -> None:
    del store

    assert VaultStore.create(ledgers.documents()).created


def test_a_path_with_other_secrets_is_refused(ledgers: Ledgers) -> None:
    ledgers.bao.put(f"{ledgers.at.path}/team/key", {"a": "b"})

    with pytest.raises(LedgerError, match="something else"):
        VaultStore.create(ledgers.documents())


def test_a_ledger_of_a_later_release_is_left_alone(ledgers: Ledgers) -> None:
    ledgers.bao.put(f"{ledgers.at.path}/X", {"jtr-ledger": "2"})

    for opener in (VaultStore.open, VaultStore.create):
        with pytest.raises(LedgerError, match="newest jtr"):
            opener(ledgers.documents())


def test_a_deleted_mark_is_not_a_missing_ledger(ledgers: Ledgers, store: VaultStore) -> None:
    store.put("a", "{}", expect=0)
    ledgers.bao.delete(f"{ledgers.at.path}/X", 1)

    with pytest.raises(LedgerError, match="was deleted") as caught:
        VaultStore.open(ledgers.documents())
    assert not isinstance(caught.value, LedgerMissing)


def test_whether_the_mount_insists_on_check_and_set_is_seen(ledgers: Ledgers) -> None:
    mount = f"m{uuid.uuid4().hex[:8]}"
    ledgers.bao.mount_kv2(mount)
    at = SecretPath(mount, "ledger")

    assert insists_on_cas(ledgers.documents(at=at)) is False
    ledgers.bao.request("POST", f"{mount}/config", {"cas_required": True})
    assert insists_on_cas(ledgers.documents(at=at)) is True
    token = ledgers.limited(data=("read",))
    assert insists_on_cas(ledgers.documents(token=token)) is None
    store = VaultStore.create(ledgers.documents(at=at))
    assert store.put("a", "1", expect=0) == 1
    assert store.put("a", "2", expect=1) == 2


# ── what people do to rows ───────────────────────────────────────────────────────────────────


def test_a_deleted_row_is_not_one_that_was_never_written(
    ledgers: Ledgers, store: VaultStore
) -> None:
    store.put(ROW, "1", expect=0)
    store.put(ROW, "2", expect=1)
    ledgers.bao.delete(f"{ledgers.at.path}/{ROW}", 2)
    fresh = VaultStore.open(ledgers.documents())

    for opened in (store, fresh):
        with pytest.raises(LedgerError, match=f"row {ROW} was deleted in Vault.*undelete"):
            opened.get(ROW)
        for expect in (0, 1):
            with pytest.raises(LedgerError):
                opened.put(ROW, "3", expect=expect)
    assert fresh.keys("") == [ROW]
    assert fresh.sequence() == 2
    ledgers.bao.undelete(f"{ledgers.at.path}/{ROW}", 2)
    assert fresh.get(ROW) == Stored(2, "2")


def test_a_destroyed_row_is_not_one_that_was_never_written(
    ledgers: Ledgers, store: VaultStore
) -> None:
    store.put(ROW, "1", expect=0)
    ledgers.bao.destroy(f"{ledgers.at.path}/{ROW}", 1)

    with pytest.raises(LedgerError, match="was deleted"):
        VaultStore.open(ledgers.documents()).get(ROW)


def test_a_row_that_is_listed_and_not_there_is_not_passed_over(
    ledgers: Ledgers, store: VaultStore
) -> None:
    store.put("server/a/identity", "1", expect=0)
    notes = {"custom_metadata": {"by": "somebody"}}
    ledgers.bao.request("POST", f"secret/metadata/{ledgers.at.path}/{ROW}", notes)

    assert store.get(ROW) is None
    with pytest.raises(LedgerError, match=f"row {ROW} is listed, but nothing lies there"):
        store.rows("server/a/")


def test_a_row_whose_counter_went_back_is_noticed(ledgers: Ledgers, store: VaultStore) -> None:
    store.put(ROW, "1", expect=0)
    store.put(ROW, "2", expect=1)
    ledgers.bao.remove(f"{ledgers.at.path}/{ROW}")
    with pytest.raises(LedgerError, match="from revision 2 to 0"):
        store.get(ROW)

    ledgers.bao.put(f"{ledgers.at.path}/{ROW}", {"document": "1"})
    with pytest.raises(LedgerError, match="from revision 2 to 1"):
        store.get(ROW)


@pytest.mark.parametrize("fields", [{"a": "b"}, {"document": 1}, {}])
def test_a_row_that_somebody_overwrote_is_said(
    ledgers: Ledgers, store: VaultStore, fields: dict[str, object]
) -> None:
    store.put(ROW, "1", expect=0)
    ledgers.bao.put(f"{ledgers.at.path}/{ROW}", fields)

    with pytest.raises(LedgerError, match="overwritten with something else"):
        store.get(ROW)
    with pytest.raises(Conflict):
        store.put(ROW, "2", expect=1)


def test_of_a_row_only_the_newest_versions_are_needed(ledgers: Ledgers, store: VaultStore) -> None:
    ledgers.bao.request("POST", f"secret/metadata/{ledgers.at.path}/{ROW}", {"max_versions": 1})
    for expect in range(12):
        assert store.put(ROW, str(expect), expect=expect) == expect + 1

    with pytest.raises(Conflict):
        store.put(ROW, "x", expect=3)
    assert store.get(ROW) == Stored(12, "11")
    assert store.sequence() == 12


# ── what Vault refuses ───────────────────────────────────────────────────────────────────────


DEEDS: dict[str, Callable[[VaultStore], object]] = {
    "get": lambda store: store.get(ROW),
    "put new": lambda store: store.put("new", "{}", expect=0),
    "put": lambda store: store.put(ROW, "2", expect=1),
    "keys": lambda store: store.keys(""),
    "sequence": lambda store: store.sequence(),
}


def check_refusal(deed: str, store: VaultStore, kind: type[LedgerError], *texts: str) -> None:
    with pytest.raises(kind) as caught:
        DEEDS[deed](store)
    assert not isinstance(caught.value, Conflict)
    assert caught.value.exit_code is Exit.SECRETS
    assert caught.value.remedy
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize("deed", DEEDS)
def test_a_token_without_the_right_is_told_which(
    ledgers: Ledgers, store: VaultStore, deed: str
) -> None:
    store.put(ROW, "1", expect=0)
    right = {"get": "read", "put": "update", "keys": "list", "sequence": "list"}
    token = ledgers.limited(delete=("update",))
    limited = VaultStore(ledgers.documents(token=token), created=False)

    check_refusal(deed, limited, LedgerRefused, "policies", right.get(deed, "create"))
    assert store.get(ROW) == Stored(1, "1")
    assert store.keys("") == [ROW]


@pytest.mark.parametrize(
    ("rights", "deed"), [(("create", "read"), "put"), (("update", "read"), "put new")]
)
def test_creating_and_updating_are_two_rights(
    ledgers: Ledgers, store: VaultStore, rights: tuple[str, ...], deed: str
) -> None:
    store.put(ROW, "1", expect=0)
    token = ledgers.limited(data=rights)
    limited = VaultStore.open(ledgers.documents(token=token))

    assert limited.get(ROW) == Stored(1, "1")
    check_refusal(deed, limited, LedgerRefused, "create and update")
    assert store.keys("") == [ROW]


@pytest.mark.parametrize("deed", DEEDS)
def test_a_token_that_died_is_said(ledgers: Ledgers, store: VaultStore, deed: str) -> None:
    store.put(ROW, "1", expect=0)
    token = ledgers.limited(data=("create", "read", "update"), metadata=("read", "list"))
    opened = VaultStore.open(ledgers.documents(token=token))
    ledgers.bao.revoke(token)

    check_refusal(deed, opened, LedgerRefused, "expired, was revoked")
    assert store.get(ROW) == Stored(1, "1")


def test_a_sealed_vault_is_said_at_every_deed(own: Ledgers) -> None:
    store = VaultStore.create(own.documents())
    store.put(ROW, "1", expect=0)
    own.bao.seal()

    for deed in DEEDS:
        check_refusal(deed, store, LedgerUnreachable, "sealed")
    for opener in (VaultStore.open, VaultStore.create):
        with pytest.raises(LedgerUnreachable, match="sealed"):
            opener(own.documents())


def test_a_vault_that_is_down_is_said_at_every_deed(own: Ledgers) -> None:
    store = VaultStore.create(own.documents(timeouts=QUICK))
    store.put(ROW, "1", expect=0)
    own.bao.stop()

    for deed in DEEDS:
        check_refusal(deed, store, LedgerUnreachable, "nothing listens there")
    with pytest.raises(LedgerUnreachable):
        VaultStore.open(own.documents(timeouts=QUICK))


def test_a_vault_that_hangs_is_said(own: Ledgers) -> None:
    store = VaultStore.create(own.documents(timeouts=QUICK))
    own.bao.pause()
    try:
        check_refusal("put new", store, LedgerUnreachable, "nobody knows whether new was written")
    finally:
        own.bao.resume()
    # What was on its way may have landed or not, but not twice and not by halves.
    with suppress(Conflict):
        assert store.put("new", "{}", expect=0) == 1
    assert store.get("new") == Stored(1, "{}")


@pytest.mark.parametrize("opener", [VaultStore.open, VaultStore.create])
def test_another_kind_of_mount_is_not_a_missing_ledger(
    ledgers: Ledgers, opener: Callable[[VaultDocuments], VaultStore]
) -> None:
    name = f"v1-{uuid.uuid4().hex[:8]}"
    ledgers.bao.mount_kv1(name)
    cases = {name: "KV version 1", "nowhere": "there is no mount nowhere", "sys": "no KV"}

    for mount, text in cases.items():
        with pytest.raises(LedgerRefused, match=text):
            opener(ledgers.documents(at=SecretPath(mount, "ledger")))


def test_a_closed_store_says_so_and_gives_back_what_it_was_given(ledgers: Ledgers) -> None:
    closed: list[str] = []
    store = VaultStore.create(ledgers.documents(), closing=lambda: closed.append("once"))
    store.close()
    store.close()

    assert closed == ["once"]
    with pytest.raises(LedgerError, match="is closed"):
        store.get(ROW)


# ── answers that get lost ────────────────────────────────────────────────────────────────────


def forwarded(bao: OpenBao, request: bytes) -> bytes:
    """Ask OpenBao what the proxy was asked, and return all of its answer."""
    head, _, body = request.partition(b"\r\n\r\n")
    port = int(bao.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
        pieces = iter(lambda: connection.recv(65536), b"")
        return b"".join(pieces)


def proxy(bao: OpenBao, *puts: str) -> Script:
    """
    Pass everything on, but treat the first writes of rows as *puts* say.

    `lost`: OpenBao gets it, its answer is lost; `dropped`: OpenBao does not get it; `busy`: OpenBao
    gets it, and 503 is answered, as by a gateway whose upstream closed too early.
    """
    left = list(puts)

    def script(connection: socket.socket, request: bytes) -> None:
        fate = left.pop(0) if left and request.startswith(b"POST ") else ""
        if fate == "dropped":
            return
        reply = forwarded(bao, request)
        if fate == "busy":
            reply = answer(b'{"errors": []}', "503 Service Unavailable")
        if fate != "lost":
            connection.sendall(reply)

    return script


@pytest.mark.parametrize("fate", ["lost", "busy"])
@pytest.mark.parametrize("expect", [0, 1])
def test_a_write_whose_answer_was_lost_is_found_again(
    ledgers: Ledgers, store: VaultStore, fate: str, expect: int
) -> None:
    for revision in range(expect):
        store.put(ROW, "before", expect=revision)
    with stub(proxy(ledgers.bao, fate)) as between:
        hidden = VaultStore.open(ledgers.documents(address=between.address))

        assert hidden.put(ROW, "ours", expect=expect) == expect + 1

    assert store.get(ROW) == Stored(expect + 1, "ours")


def test_a_write_that_never_arrived_is_unknown_and_not_repeated(
    ledgers: Ledgers, store: VaultStore
) -> None:
    with stub(proxy(ledgers.bao, "dropped")) as between:
        hidden = VaultStore.open(ledgers.documents(address=between.address))
        with pytest.raises(LedgerUnreachable, match=f"nobody knows whether {ROW}") as caught:
            hidden.put(ROW, "ours", expect=0)
        writes = [request for request in between.requests if request.startswith(b"POST ")]

    assert not isinstance(caught.value, Conflict)
    assert len(writes) == 1
    assert store.get(ROW) is None


@pytest.mark.parametrize("fate", ["lost", "dropped", "busy"])
def test_a_lost_answer_to_a_write_that_came_too_late_is_a_conflict(
    ledgers: Ledgers, store: VaultStore, fate: str
) -> None:
    store.put(ROW, "ours", expect=0)  # the same text: only the write's own name tells them apart
    with stub(proxy(ledgers.bao, fate)) as between:
        hidden = VaultStore.open(ledgers.documents(address=between.address))
        with pytest.raises(Conflict):
            hidden.put(ROW, "ours", expect=0)

    assert store.get(ROW) == Stored(1, "ours")


def test_a_lost_answer_is_found_even_when_somebody_wrote_after_us(
    ledgers: Ledgers, store: VaultStore
) -> None:
    passing = proxy(ledgers.bao, "lost")

    def script(connection: socket.socket, request: bytes) -> None:
        passing(connection, request)
        if b'"cas": 0' in request:
            store.put(ROW, "theirs", expect=1)

    with stub(script) as between:
        hidden = VaultStore.open(ledgers.documents(address=between.address))
        assert hidden.put(ROW, "ours", expect=0) == 1
        with pytest.raises(Conflict):
            hidden.put(ROW, "ours again", expect=1)

    assert store.get(ROW) == Stored(2, "theirs")


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"{}"),
        answer(b'{"data": {}}'),
        answer(b'{"data": {"version": "1"}}'),
        answer(b"<html>", "404 Not Found"),
        answer(b'{"errors": ["no handler for route"]}', "404 Not Found"),
        answer(b'{"data": []}'),
        answer(b"", "204 No Content"),
        answer(b'{"errors": ["x"]}', "400 Bad Request"),
        answer(b'{"errors": ["x"]}', "413 Payload Too Large"),
    ],
)
def test_no_odd_answer_is_taken_for_success_or_absence(ledgers: Ledgers, reply: bytes) -> None:
    with stub(lambda connection, _: connection.sendall(reply)) as odd:
        store = VaultStore(ledgers.documents(address=odd.address), created=False)
        for deed in DEEDS.values():
            with pytest.raises(LedgerError) as caught:
                deed(store)
            assert not isinstance(caught.value, Conflict)


# ── races ────────────────────────────────────────────────────────────────────────────────────


RACER = """
import os, sys
from reconciler.system.timeouts import Timeouts
from reconciler.ledger import Conflict
from reconciler.ledger.stores.vault_kv import VaultStore
from reconciler.model.references import SecretPath
from reconciler.secrets import Secret
from reconciler.secrets.vault.access import VaultAccess
from reconciler.secrets.vault.auth import TokenAuth
from reconciler.secrets.vault.kv_documents import VaultDocuments

address, path, rounds = sys.argv[1:]
auth = TokenAuth(Secret(os.environ["TOKEN"]))
access = VaultAccess(address=address, auth=auth, timeouts=Timeouts())
store = VaultStore.open(VaultDocuments(access, SecretPath("secret", path)))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(rounds)):
    try:
        store.put(f"race/{number}", "{}", expect=0)
    except Conflict:
        continue
    print(number, flush=True)
"""


@pytest.mark.parametrize("racers", [2, 8])
def test_processes_that_are_stopped_at_random_have_one_winner_each_time(
    ledgers: Ledgers, store: VaultStore, racers: int
) -> None:
    """All write the same text; only the store can tell who was first."""
    rounds, chance = 30, random.Random(racers)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, ledgers.bao.address, ledgers.at.path, str(rounds)],
            env={"PATH": os.defpath, "TOKEN": ledgers.bao.root_token.reveal()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(racers)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        stops = disturb(processes, chance)
        wins = [
            int(line)
            for process in processes
            for line in process.communicate(timeout=PATIENCE)[0].split()
        ]
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=PATIENCE)

    assert [process.returncode for process in processes] == [0] * racers
    assert sorted(wins) == list(range(rounds))
    assert store.sequence() == rounds
    assert stops > 0


def disturb(processes: list["subprocess.Popen[str]"], chance: random.Random) -> int:
    """Stop and continue processes at random until all have ended; return how often."""
    stops, end = 0, time.monotonic() + 15
    while (running := [p for p in processes if p.poll() is None]) and time.monotonic() < end:
        victims = chance.sample(running, chance.randint(1, len(running)))
        for victim in victims:
            victim.send_signal(signal.SIGSTOP)
        stops += len(victims)
        time.sleep(chance.uniform(0.001, 0.03))  # this is the disturbance, not a wait
        for victim in victims:
            victim.send_signal(signal.SIGCONT)
        time.sleep(chance.uniform(0.001, 0.01))
    return stops


def test_a_failure_of_the_ledger_is_one_of_ours() -> None:
    assert issubclass(LedgerUnreachable, JtrError)
    assert LedgerUnreachable.transient
    assert not LedgerRefused.transient
