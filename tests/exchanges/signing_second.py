"""
What HTX, Coinbase and the exchanges that only tell valid from invalid check of a call.

Sources: htx.com (newApiPages, signature), docs.cdp.coinbase.com (JWT authentication),
mexcdevelop.github.io, bingx-api.github.io, exchange-docs.crypto.com (digital signature),
phemex-docs.github.io (REST authentication), docs.kraken.com (futures, REST authentication).
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from reconciler.model.key_facts import Environment
from reconciler.sandbox.exchanges.signing import digest, equal, late
from reconciler.testing.exchange_server import Call, Reply

HTX_HOST = "api.huobi.pro"
COINBASE_HOST = "api.coinbase.com"
_COORDINATE = 32  # bytes of one number of an ES256 signature


def htx(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, base64, of method, host, path and sorted query; the host is the real one."""
    del environment
    query, _, signature = call.query.rpartition("&Signature=")
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    if asked.get("AccessKeyId") != known["apiKey"]:
        return htx_words("Incorrect Access key [Access key错误]")
    at = datetime.fromisoformat(asked["Timestamp"]).replace(tzinfo=UTC)
    if late(str(int(at.timestamp())), unit=1.0):
        return htx_words("Invalid submission time or incorrect time format")
    names = [pair.partition("=")[0] for pair in query.split("&")]
    signed = f"{call.method}\n{HTX_HOST}\n{call.path}\n{query}"
    wanted = base64.b64encode(digest(known["secret"], signed)).decode()
    got = parse_qs(f"s={signature}").get("s", [""])[0]
    fixed = {"SignatureMethod": "HmacSHA256", "SignatureVersion": "2"}
    if names == sorted(names) and fixed.items() <= asked.items() and equal(wanted, got):
        return None
    return htx_words("Verification failure [校验失败]")


def htx_words(words: str, code: str = "api-signature-not-valid") -> Reply:
    """Return an error in the shape of HTX's first version, whose words tell causes apart."""
    return Reply(
        {"status": "error", "err-code": code, "err-msg": f"Signature not valid: {words}"}
        | {"data": None}
    )


def htx_error(code: str) -> Reply:
    """Return an error in the shape of HTX's second version."""
    return Reply({"code": int(code), "message": "words", "data": None})


def coinbase_pem(private: ec.EllipticCurvePrivateKey) -> str:
    """Return a private key as Coinbase hands it out."""
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def coinbase(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """
    A JWT of two minutes for this call alone, signed with ES256.

    Every refusal is the same word.  The exchange knows the public part of the key only.
    """
    del environment
    hosts = (COINBASE_HOST, f"http://{call.headers['host']}")  # ccxt signs what it is led to
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    header, payload, signature = (*token.split("."), "", "")[:3]
    try:
        head, claims, raw = json.loads(_part(header)), json.loads(_part(payload)), _part(signature)
        public = serialization.load_pem_private_key(known["secret"].encode(), None).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        numbers = [int.from_bytes(half) for half in (raw[:_COORDINATE], raw[_COORDINATE:])]
        public.verify(
            encode_dss_signature(*numbers),
            f"{header}.{payload}".encode(),
            ec.ECDSA(hashes.SHA256()),
        )
    except (ValueError, InvalidSignature):
        return coinbase_unauthorized()
    good = (
        scheme == "Bearer"
        and len(raw) == 2 * _COORDINATE
        and (head["alg"], head["kid"], claims["sub"]) == ("ES256", known["apiKey"], known["apiKey"])
        and bool(head["nonce"])
        and claims["nbf"] - 1 <= time.time() <= claims["exp"] <= claims["nbf"] + 120
        and claims["uri"] in {f"{call.method} {host}{call.path}" for host in hosts}
    )
    return None if good else coinbase_unauthorized()


def coinbase_unauthorized() -> Reply:
    """Return what Coinbase says to a call that is not signed well: no JSON."""
    return Reply(b"Unauthorized\n", 401)


def coinbase_error(code: str, status: int = 401) -> Reply:
    """Return an error in the shape of Coinbase's third version."""
    return Reply({"error": code, "error_details": "words", "message": "words"}, status)


def coinbase_list(code: str, words: str = "words", status: int = 401) -> Reply:
    """Return an error in the shape of Coinbase's second version."""
    return Reply({"errors": [{"id": code, "message": words}]}, status)


def mexc(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of the query before `signature`."""
    del environment
    if call.headers.get("x-mexc-apikey") != known["apiKey"]:
        return numbered("10072", 400)
    return _query(call, known, clock="700003", wrong="700002", status=400)


def bingx(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of the sorted query before `signature`."""
    del environment
    if call.headers.get("x-bx-apikey") != known["apiKey"]:
        return numbered("100413")
    return _query(call, known, clock="100421", wrong="100001", status=200)


def _query(
    call: Call, known: Mapping[str, str], *, clock: str, wrong: str, status: int
) -> Reply | None:
    signed, _, signature = call.query.rpartition("&signature=")
    if late(parse_qs(signed).get("timestamp", [""])[0]):
        return numbered(clock, status)
    wanted = digest(known["secret"], signed).hex()
    return None if equal(wanted, signature) else numbered(wrong, status)


def cryptocom(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of method, id, key, parameters and nonce, which is the time."""
    del environment
    asked = json.loads(call.body)
    if asked["api_key"] != known["apiKey"]:
        return numbered("40101", 401)
    if late(asked["nonce"]):
        return numbered("40102", 401)
    parameters = "".join(f"{name}{asked['params'][name]}" for name in sorted(asked["params"]))
    signed = f"{asked['method']}{asked['id']}{known['apiKey']}{parameters}{asked['nonce']}"
    good = equal(digest(known["secret"], signed).hex(), asked["sig"])
    return None if good and call.path.endswith(asked["method"]) else numbered("40101", 401)


def phemex(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of path, query, end and body; the end is soon."""
    del environment
    if call.headers.get("x-phemex-access-token") != known["apiKey"]:
        return phemex_words("Api key not found 698dc9e3", code=10500)
    ends = call.headers.get("x-phemex-request-expiry", "")
    if late(ends, unit=1.0, skew=120):
        return phemex_words("401 Request expired")
    wanted = digest(known["secret"], f"{call.path}{call.query}{ends}{call.body.decode()}").hex()
    if equal(wanted, call.headers.get("x-phemex-request-signature")):
        return None
    return phemex_words("API Signature verification failed.", code=10500)


def phemex_words(words: str, code: int = 401) -> Reply:
    """Return an error in Phemex' shape, whose words tell causes apart."""
    return Reply({"code": code, "msg": words, "data": None}, 401)


def krakenfutures(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA512, base64, of a hash of body and path; there need be no nonce."""
    del environment
    path = call.path.removeprefix("/derivatives")  # signed without; /api/auth/ is signed with it
    inner = hashlib.sha256(call.body + path.encode()).digest()
    secret = base64.b64decode(known["secret"], validate=True)
    wanted = base64.b64encode(hmac.new(secret, inner, hashlib.sha512).digest()).decode()
    good = call.headers.get("apikey") == known["apiKey"]
    if good and equal(wanted, call.headers.get("authent")):
        return None
    return krakenfutures_error("authenticationError")


def krakenfutures_error(code: str, status: int = 200) -> Reply:
    """Return an error in the shape of Kraken's futures."""
    return Reply({"result": "error", "error": code, "serverTime": "2026-11-22T00:00:00Z"}, status)


def numbered(code: str, status: int = 200) -> Reply:
    """Return an error in the shape of most: a number and words."""
    return Reply({"code": int(code), "msg": "words"}, status)


def anybody(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """Check nothing: a market's own question, or an exchange whose signing is not written down."""
    del call, known, environment
    return None


def carries(call: Call, key: str) -> bool:
    """Say whether a call holds an API key: in plain text, or encoded as some exchanges want it."""
    texts = [call.target, call.body.decode(), *call.headers.values()]
    found: list[Any] = [text for text in texts if key in text]
    for text in texts:
        for part in text.replace(" ", ".").split("."):
            found += [part for plain in (_try(part),) if key.encode() in plain]
    return bool(found)


def _try(part: str) -> bytes:
    try:
        return _part(part)
    except ValueError:
        return b""


def _part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
