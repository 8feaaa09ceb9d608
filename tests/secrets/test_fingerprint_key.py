"""Fingerprints keep apart what differs, and the key is kept by us alone."""

import hashlib
import hmac
import json
import os
import pickle
import secrets
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Forbidden, SecretDeleted, SecretMissing, SecretUnusable
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.observed import Mask
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets import fingerprint_key
from reconciler.secrets.fingerprint_key import key_from_file
from reconciler.secrets.vault.backend import TokenAuth
from tests.secrets.conftest import MakeBackend, Place
from tests.support.canaries import Canary, Search
from tests.support.waiting import MemoryBackend, key_from_vault

KEY = Secret("0f" * 32)
MARKS = Fingerprints(KEY)
texts = st.text(st.characters(), max_size=20)


@given(texts, texts, texts, texts, texts, texts, texts, texts)
def test_a_slot_is_one_place_and_one_value(
    uid: str, code: str, name: str, text: str, uid2: str, code2: str, name2: str, text2: str
) -> None:
    one = MARKS.slot(uid, code, name, Secret(text))
    other = MARKS.slot(uid2, code2, name2, Secret(text2))

    assert (one == other) == ((uid, code, name, text) == (uid2, code2, name2, text2))


def test_no_part_runs_into_the_next() -> None:
    assert MARKS.slot("ab", "c", "d", Secret("e")) != MARKS.slot("a", "bc", "d", Secret("e"))
    assert MARKS.slot("a\0b", "c", "d", Secret("e")) != MARKS.slot("a", "b\0c", "d", Secret("e"))
    assert MARKS.joined("s", "x", {"a": Secret("bc")}) != MARKS.joined(
        "s", "x", {"ab": Secret("c")}
    )


def test_labels_keep_the_kinds_apart() -> None:
    value, mask = Secret("abc•••••xyz"), Mask("abc•••••xyz")
    kinds = {
        MARKS.slot("s", "x", "f", value),
        MARKS.mask("s", "x", "f", mask),
        MARKS.key(value),
        MARKS.joined("s", "x", {"f": value}),
        MARKS.credentials({"f": value}),
    }

    assert len(kinds) == 5


def test_credentials_are_the_same_wherever_they_are_used_and_another_with_another_secret() -> None:
    a, b = Secret("1"), Secret("2")
    one = MARKS.credentials({"apiKey": a, "secret": b})

    assert one == MARKS.credentials({"secret": b, "apiKey": a})
    assert one != MARKS.credentials({"apiKey": b, "secret": a})
    assert one != MARKS.credentials({"apiKey": a})
    assert one != Fingerprints(Secret("1f" * 32)).credentials({"apiKey": a, "secret": b})
    assert (MARKS.lasting, Fingerprints(KEY, lasting=False).lasting) == (True, False)


def test_an_empty_mask_has_no_fingerprint_and_odd_ones_have() -> None:
    assert MARKS.mask("s", "x", "f", Mask("")) == ""
    assert len(MARKS.mask("s", "x", "f", Mask("\ud83d•••••\udc00"))) == 64
    assert len(MARKS.slot("s", "x", "f", Secret("\ud83d"))) == 64
    assert len(MARKS.slot("s", "x", "\ud83d", Secret("v"))) == 64  # servers name their fields


def test_joined_heeds_names_and_values_but_not_their_order() -> None:
    a, b = Secret("1"), Secret("2")
    one = MARKS.joined("s", "x", {"secret": a, "password": b})

    assert one == MARKS.joined("s", "x", {"password": b, "secret": a})
    assert one != MARKS.joined("s", "x", {"secret": b, "password": a})
    assert one != MARKS.joined("s", "x", {"secret": a})
    assert one != MARKS.joined("s2", "x", {"secret": a, "password": b})
    assert one != MARKS.joined("s", "y", {"secret": a, "password": b})


def test_the_format_never_changes() -> None:
    """A change here would make every ledger's fingerprints unknown: give it a new domain then."""
    parts = [b"jtr/v1", b"slot", b"uid", b"okx", b"apiKey", "väl".encode()]
    data = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    expected = hmac.new(bytes.fromhex(KEY.reveal()), data, hashlib.sha256).hexdigest()

    assert MARKS.slot("uid", "okx", "apiKey", Secret("väl")) == expected


def test_another_key_gives_other_fingerprints_and_another_id() -> None:
    other = Fingerprints(Secret("f0" * 32))

    assert other.key_id != MARKS.key_id
    assert other.key(Secret("x")) != MARKS.key(Secret("x"))
    assert Fingerprints(Secret("0f" * 32)).key_id == MARKS.key_id


@pytest.mark.parametrize("text", ["", "ab", "0f" * 31, "0F" * 32, "zz" * 32, "0f" * 32 + "\n"])
def test_a_key_that_is_none(text: str) -> None:
    with pytest.raises(SecretUnusable) as caught:
        Fingerprints(Secret(text))

    assert not text or text not in str(caught.value)


def test_nothing_shows_key_or_value(made_up: tuple[Canary, ...]) -> None:
    key = secrets.token_hex(32)
    marks = Fingerprints(Secret(key))
    shown = [repr(marks), str(marks), marks.key_id, f"{marks}"]
    for canary in made_up:
        value = Secret(canary.value)
        shown += [marks.slot("s", "x", "f", value), marks.key(value)]
        shown += [marks.joined("s", "x", {"f": value}), marks.mask("s", "x", "f", Mask(key[:11]))]
    search = Search((*made_up, Canary("key", key)))

    assert search.leaks("\n".join(shown).encode()) == []
    with pytest.raises(TypeError):
        pickle.dumps(marks)
    with pytest.raises(TypeError):
        json.dumps(marks)


# ── the key in Vault ─────────────────────────────────────────────────────────────────────────


def test_the_key_in_vault_is_made_once_and_found_again(
    bao: OpenBao, place: Place, backend_with: MakeBackend
) -> None:
    token = bao.create_token(["keeper"])
    ref = SecretRef(place.at, "key")

    assert key_from_vault(backend_with(TokenAuth(token)), ref, create=False) is None

    def start(_: int) -> str:
        key = key_from_vault(backend_with(TokenAuth(token)), ref, create=True)
        assert key is not None
        return Fingerprints(key).key_id

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(start, range(6)))
    found = key_from_vault(backend_with(TokenAuth(token)), ref, create=False)

    assert found is not None
    assert ids == {Fingerprints(found).key_id}


def test_only_a_certain_absence_makes_a_new_key(
    bao: OpenBao, place: Place, backend_with: MakeBackend
) -> None:
    backend = backend_with(TokenAuth(bao.create_token(["keeper"])))
    bao.put(place.path, {"key": "0f" * 32})
    bao.delete(place.path, 1)
    with pytest.raises(SecretDeleted):
        key_from_vault(backend, SecretRef(place.at, "key"), create=True)
    with pytest.raises(Forbidden):
        key_from_vault(backend, SecretRef(SecretPath("secret", "other/x"), "key"), create=True)


def test_keys_in_vault_that_are_none() -> None:
    backend, at = MemoryBackend(), SecretPath("secret", "jtr/key")
    backend.put(at, {"other": "x", "short": "abc"})

    with pytest.raises(SecretUnusable, match="names no field"):
        key_from_vault(backend, SecretRef(at), create=True)
    with pytest.raises(SecretUnusable, match="no field key"):
        key_from_vault(backend, SecretRef(at, "key"), create=True)
    with pytest.raises(SecretUnusable, match="64 hex"):
        key_from_vault(backend, SecretRef(at, "short"), create=True)
    with pytest.raises(SecretMissing):
        backend.describe(SecretPath("secret", "jtr/none"))


# ── the key in a file ────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[0o022, 0o000, 0o777], ids=["022", "000", "777"])
def umask(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_the_file_is_made_once_private_and_found_again(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "jtr" / "fingerprint.key"
    assert key_from_file(str(path), create=False) is None
    assert not path.parent.exists()
    (tmp_path / "jtr").mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        made = key_from_file(str(path), create=True)
    finally:
        os.umask(before)
    found = key_from_file(str(path), create=False)

    assert made is not None
    assert found is not None
    assert made.reveal() == found.reveal()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["fingerprint.key"]


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key_from_file(str(tmp_path / "config" / "jtr" / "key"), create=True)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "config" / "jtr").stat().st_mode) == 0o700


def test_processes_that_start_at_once_use_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    program = (
        "import sys\n"
        "from reconciler.model.fingerprints import Fingerprints\n"
        "from reconciler.secrets.fingerprint_key import key_from_file\n"
        "sys.stdin.read()\n"
        "print(Fingerprints(key_from_file(sys.argv[1], create=True)).key_id)\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    ids = set()
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
    for process in running:
        assert process.stdout is not None
        ids.add(process.stdout.read())
        assert process.wait(30) == 0
        process.stdout.close()

    assert len(ids) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_key_that_came_first_is_kept(tmp_path: Path) -> None:
    """The moment between looking and making, in which another process was faster."""
    write(tmp_path / "key")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fingerprint_key._make(tmp_path / "key", folder)
    finally:
        os.close(folder)

    assert (tmp_path / "key").read_text() == "0f" * 32 + "\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def write(path: Path, text: str = "0f" * 32 + "\n", mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660, 0o666, 0o777])
def test_a_key_that_others_can_read(tmp_path: Path, mode: int) -> None:
    write(tmp_path / "key", mode=mode)

    with pytest.raises(SecretUnusable, match="chmod 600"):
        key_from_file(str(tmp_path / "key"), create=True)
    assert (tmp_path / "key").read_text() == "0f" * 32 + "\n"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_can_change(tmp_path: Path, mode: int) -> None:
    write(tmp_path / "key")
    assert key_from_file(str(tmp_path / "key"), create=False) is not None  # control
    tmp_path.chmod(mode)

    with pytest.raises(SecretUnusable, match="can be changed by others"):
        key_from_file(str(tmp_path / "key"), create=True)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, word in (
        ("link", "symlink"),
        ("dangling", "symlink"),
        ("folder", "regular"),
        ("fifo", "regular"),
        ("real/key", "cannot be used"),
    ):
        for create in (False, True):
            with pytest.raises(SecretUnusable, match=word):
                key_from_file(str(tmp_path / name), create=create)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("text", ["", "\n", "abc\n", "0f" * 33, "zz" * 32, "\x00" * 64, "ä" * 32])
def test_files_that_hold_something_else_are_left_alone(tmp_path: Path, text: str) -> None:
    write(tmp_path / "key", text)

    with pytest.raises(SecretUnusable, match="64 hex digits"):
        key_from_file(str(tmp_path / "key"), create=True)
    assert (tmp_path / "key").read_text() == text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_of_another_user(tmp_path: Path) -> None:
    write(tmp_path / "key")
    os.chown(tmp_path / "key", 65534, 65534)

    with pytest.raises(SecretUnusable, match="not ours"):
        key_from_file(str(tmp_path / "key"), create=True)
