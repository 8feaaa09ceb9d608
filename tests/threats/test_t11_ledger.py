"""T11: whoever has the ledger, the plan and all output finds no key in them, nor tests a guess."""

import base64
import hashlib
import hmac
import itertools
import re
from collections.abc import Iterator
from typing import Final

import pytest

from reconciler.errors import Exit
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.secret import Secret
from reconciler.render.plan_json import RENDERER as AS_JSON
from reconciler.render.plan_text import RENDERER as AS_TEXT
from reconciler.testing.state import State, apply, plan
from tests.fuzz.bounds import CANARIES
from tests.fuzz.test_ledger_rows import DOCUMENT, URL, state_with
from tests.support.canaries import find_leaks

HASHES: Final = ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b")
# What is public: who wants to test a guess under the key of nobody.
KEYS: Final = (b"", b"jtr/v1", b"\0" * 32, b"slot", b"key", b"bybit", b"tokyo-1", URL.encode())
RIGHT: Final = tuple(c.value for c in CANARIES if c.shape in ("base62", "hex", "uuid"))


@pytest.fixture(scope="module")
def leaked() -> str:
    """Everything that lies about after keys were written twice: ledger, plans, reports."""
    state = state_with({})
    first, second, other = RIGHT
    secrets = {
        **state.secrets,
        "secret/jt/a/bybit": [{"apiKey": first, "secret": other}],
        "secret/jt/a/okx": [{"apiKey": first, "secret": second, "password": other}],
    }
    state = State({"tokyo-1.yaml": DOCUMENT}, state.servers, secrets, now=state.now)
    parts = []
    for _ in range(2):
        wanted = plan(state)
        state = apply(state, wanted)
        parts += [AS_JSON.done(wanted, state.reports, Exit.DONE)]
        parts += [AS_TEXT.done(wanted, state.reports, Exit.DONE)]
    assert [one.server for one in wanted]
    parts += [row.text for row in state.ledger.values()]
    assert any('"written":{' in part for part in parts), "control: something was written"
    return "\n".join(parts)


def digests(guess: str) -> Iterator[bytes]:
    """Yield what a ledger might hold of a value, for who has no key."""
    data = guess.encode()
    for name in HASHES:
        yield hashlib.new(name, data).digest()
        for key in KEYS:
            yield hmac.new(key, data, name).digest()
            yield hashlib.new(name, key + data).digest()
            yield hashlib.new(name, data + key).digest()


def test_t11_no_trace_of_a_key_in_what_lies_about(leaked: str) -> None:
    assert find_leaks(leaked.encode(), CANARIES) == []


def test_t11_a_dictionary_with_the_right_word_finds_nothing(leaked: str) -> None:
    low = leaked.lower()
    for guess, digest in ((one, d) for one in RIGHT for d in digests(one)):
        # Of a fingerprint that was cut, the beginning would do.
        assert digest.hex()[:16] not in low, guess[:0]
        assert base64.b64encode(digest).decode()[:14] not in leaked


def test_t11_nor_do_a_hundred_thousand_words(leaked: str) -> None:
    """Whatever 64 hex digits in the ledger are, no short value gives them without the key."""
    held = {leaked[i : i + 64] for i in range(len(leaked) - 64)}
    words = ("".join(letters) for letters in itertools.product("abcdef0123", repeat=5))
    for word in words:
        assert hashlib.sha256(word.encode()).hexdigest() not in held


def test_t11_control_with_the_key_the_word_is_found(leaked: str) -> None:
    uids = set(re.findall(r'"uid":"([0-9a-f]{32})"', leaked))  # of the server, and the ledger's

    def found(key: str) -> bool:
        owner = Fingerprints(Secret(key))
        return any(
            owner.slot(uid, "bybit", "bybit_api_key", Secret(one)) in leaked
            for uid in uids
            for one in RIGHT
        )

    assert found("0" * 64)
    assert not found("1" * 64)
