"""The search for leaks finds every trace, and nothing else."""

import base64
import json
import random
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from tests.support.canaries import Canary, Search, canaries, find_leaks, windows

SEEDS = [1, 2, 3]
SHAPES = [canary.shape for canary in canaries(0)]


def raw(value: str) -> bytes:
    return value.encode()


FORMS: dict[str, Callable[[str], bytes]] = {
    "raw": raw,
    "url": lambda v: quote(v, safe="").encode(),
    "hex": lambda v: raw(v).hex().encode(),
    "HEX": lambda v: raw(v).hex().upper().encode(),
    "base64+0": lambda v: base64.b64encode(raw(v)),
    "base64+1": lambda v: base64.b64encode(b"x" + raw(v)),
    "base64+2": lambda v: base64.b64encode(b"xy" + raw(v) + b"z"),
    "base64url": lambda v: base64.urlsafe_b64encode(b"xyz" + raw(v)),
    "json": lambda v: json.dumps({"k": v}).encode(),
    "json utf-8": lambda v: json.dumps({"k": v}, ensure_ascii=False).encode(),
    "reversed": lambda v: v[::-1].encode(),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_shape_is_found_in_every_form(seed: int, form: str) -> None:
    noise = random.Random(seed).randbytes(500)
    for canary in canaries(seed):
        data = noise + FORMS[form](canary.value) + noise

        assert [line.split()[0] for line in find_leaks(data, canaries(seed))] == [canary.shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_small_piece_is_found(shape: str) -> None:
    canary = next(c for c in canaries(7) if c.shape == shape)
    length = 12 if shape in {"hex", "hex-upper", "uuid"} else 8
    body = raw(canary.value)
    start = 40 if shape == "pem" else 5
    piece = body[start : start + length]

    assert find_leaks(b"log: " + piece + b"\n", [canary]) == [f"{shape} at byte 5"]
    assert find_leaks(b"log: " + piece[:7] + b"\n", [canary]) == []


@pytest.mark.parametrize("digits", [8, 11, 12])
def test_hex_digits_of_a_longer_name_are_a_trace_from_twelve_on(digits: int) -> None:
    token = Canary("token", "root" + random.Random(7).randbytes(16).hex())
    some = raw(token.value)[10 : 10 + digits]

    found = find_leaks(b"fingerprint " + some + b".", [token])

    assert found == (["token at byte 12"] if digits == 12 else [])
    assert find_leaks(b"x" + raw(token.value)[:8], [token]) == ["token at byte 1"]


@pytest.mark.parametrize("digits", [8, 11, 12])
def test_so_they_are_in_base64(digits: int) -> None:
    token = Canary("token", "root" + random.Random(7).randbytes(16).hex())
    some = base64.b64encode(b"key" + raw(token.value)[9 : 9 + digits] + b".")

    assert bool(find_leaks(some, [token])) == (digits == 12)


def test_a_short_secret_is_found_in_base64() -> None:
    canary = Canary("short", "kX8vQ2mW9pL4")

    for before in (b"", b"x", b"xy"):
        assert find_leaks(base64.b64encode(before + raw(canary.value) + b"z"), [canary])


def test_windows_cover_the_value_and_spare_what_is_public() -> None:
    by_shape = {canary.shape: canary.value for canary in canaries(5)}
    body = raw(by_shape["base62"])

    assert {body[i : i + 8] for i in range(len(body) - 7)} <= windows(by_shape["base62"])
    assert raw(by_shape["hex"])[:8] in windows(by_shape["hex"])
    assert b"PRIVATE " not in windows(by_shape["pem"])
    assert find_leaks(b"-----BEGIN PRIVATE KEY-----\n", canaries(5)) == []


def test_the_same_seed_gives_the_same_secrets_and_another_gives_others() -> None:
    assert canaries(3) == canaries(3)
    first, second = canaries(3), canaries(4)
    assert all(a.value != b.value for a, b in zip(first, second, strict=True))
    assert len(first) >= 12


def test_a_canary_does_not_show_itself() -> None:
    canary = Canary("hex", "0123456789abcdef")

    assert "0123" not in repr(canary)


def test_megabytes_without_a_leak_are_searched_quickly_and_raise_no_alarm() -> None:
    rng = random.Random(11)
    search = Search(canaries(12))
    digests = "\n".join(rng.randbytes(32).hex() for _ in range(30_000)).encode()
    text = b"".join(b"2026-11-22T12:00:%06d tokyo-1 bybit written\n" % i for i in range(20_000))
    began = time.process_time()

    assert search.leaks(digests + text + rng.randbytes(1_000_000)) == []
    assert time.process_time() - began < 10.0
    assert search.leaks(b"") == search.leaks(b"short") == []
