"""What a mask shows, what it proves, and which values are never sent."""

import base64
import math
import secrets
import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.drivers.jt_trader.masks import looks_like_mask, mask_bits, mask_text, refusal

SHOWN = [
    ("a", "a•••••a"),
    ("ab", "ab•••••ab"),
    ("abc", "abc•••••abc"),
    ("abcd", "abc•••••bcd"),
    ("", ""),
    ("abcde", "abc•••••cde"),
    ("abcdef", "abc•••••def"),
    ("пароль-ключ", "пар•••••люч"),
    ("a😀", "a😀•••••a😀"),
    ("😀😁😂middle🤣😃😄", "😀\ud83d•••••\ude03😄"),
]


@pytest.mark.parametrize(("stored", "shown"), SHOWN)
def test_the_table_of_the_protocol(stored: str, shown: str) -> None:
    assert mask_text(stored) == shown


@given(st.text(min_size=3))
def test_the_mask_of_a_mask_is_itself(value: str) -> None:
    """Only values of one or two characters have shorter masks."""
    assert mask_text(mask_text(value)) == mask_text(value)


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=12))
def test_every_mask_is_recognised_even_of_broken_text(value: str) -> None:
    assert looks_like_mask(mask_text(value))


@pytest.mark.parametrize(
    "shown", ["plain", "•••••", "abcd•••••abcd", "a•••••ab", "abc••••abc", "*"]
)
def test_what_is_no_mask(shown: str) -> None:
    assert not looks_like_mask(shown)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"),
        (" key", "whitespace"),
        ("key\n", "whitespace or a line break"),
        ("\tkey", "whitespace"),
        ("\ufeffkey", "whitespace"),
        ("key\u00a0", "whitespace"),
        ("abc•••••xyz", "shows instead of a value"),
        ("a•b", "•"),
        ("a\x00b", "control character"),
        ("a\nb", "line break"),
        ("a\x7fb", "control character"),
        ("a\x85b", "control character"),
        ("a\u2028b", "line break"),
        ("a\ud800b", "surrogate"),
        ("x" * 100_001, "100,000"),
        ("-----BEGIN KEY-----\nab\rc\n-----END KEY-----", "control character"),
    ],
)
def test_values_that_must_not_be_sent(value: str, reason: str) -> None:
    said = refusal(value)
    assert reason in said
    if len(value) > 3:
        assert value not in said


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "two words",
        "x" * 100_000,
        "пароль",
        "😀",
        "-----BEGIN KEY-----\nabc\n-----END KEY-----",
    ],
)
def test_values_that_may_be_sent(value: str) -> None:
    assert refusal(value) == ""


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_what_may_be_sent_can_be_encoded_and_is_no_mask(value: str) -> None:
    if not refusal(value):
        assert value.encode()
        assert not looks_like_mask(value)


WEAK = 16


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (secrets.token_hex(32), 24),
        (secrets.token_hex(32).upper(), 24),
        (str(uuid.uuid4()), 24),
        ("A2B3C4D5E6F7ABCQ", 30),
        ("1234567890123456", 6 * math.log2(10)),
        ("abcz5678901234xyz9", 6 * math.log2(36)),
        ("Abcz5678901234xyz9", 6 * math.log2(62)),
        ("+/" + secrets.token_urlsafe(30) + "Aa0", 36),
        (base64.b64encode(b"\x00" + bytes(range(224, 255))).decode(), 28),
        (base64.b64encode(b"\x00" + bytes(range(192, 255))).decode(), 20),
    ],
    ids=(
        *("hex", "hex-upper", "uuid", "base32", "digits", "base36", "base62", "base64"),
        *("base64-of-32-bytes", "base64-of-64-bytes"),
    ),
)
def test_the_measured_strengths(value: str, bits: float) -> None:
    assert mask_bits(value) == pytest.approx(bits)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "short",
        "a1B2c3D4e5F",  # eleven characters
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----",
        "MC4CAQAwBQYDK2VwBCIEIAabcdefghijklmnopqrstuvwxyz0123456789ABCD",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "111111111111111",
    ],
)
def test_masks_that_prove_nothing(value: str) -> None:
    assert mask_bits(value) == 0.0


@pytest.mark.parametrize(
    "value", ["correct horse battery", "passphrase-für-okx", "CorrectHorseBattery"]
)
def test_words_are_weak(value: str) -> None:
    assert 0 < mask_bits(value) < WEAK


@given(st.text(st.sampled_from(string.printable + "ä•😀="), max_size=80))
def test_bits_are_never_more_than_six_characters_can_hold(value: str) -> None:
    assert 0.0 <= mask_bits(value) <= 36.0
