"""
What more loopback exchanges check of a call, for `SigningServer`.

Sources: docs.kraken.com (Spot REST authentication), docs.bitfinex.com (authenticated endpoints),
docs.deribit.com (public/auth), hyperliquid.gitbook.io (info endpoint).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from reconciler.model.key_facts import Environment
from reconciler.sandbox.exchanges.signing import digest, equal, late
from reconciler.testing.exchange_server import Call, Check, Reply


def binance(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of the query before `signature`; no path of `sapi` on test."""
    if environment is Environment.TEST and call.path.startswith("/sapi/"):
        return Reply(b"<html>no such page</html>", 404)
    if call.headers.get("x-mbx-apikey") != known["apiKey"]:
        return binance_error("-2008", 401)
    signed, _, signature = call.query.rpartition("&signature=")
    if late(parse_qs(signed).get("timestamp", [""])[0]):
        return binance_error("-1021")
    wanted = digest(known["secret"], signed).hex()
    return None if equal(wanted, signature) else binance_error("-1022")


def binance_error(code: str, status: int = 400) -> Reply:
    """Return an error in Binance's shape."""
    return Reply({"code": int(code), "msg": "words"}, status)


def kraken(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """
    HMAC-SHA512, base64, of the path and a hash of nonce and body; the secret is base64 itself.

    The trader uses the time as nonce: one of long ago is too small.
    """
    del environment
    if call.headers.get("api-key") != known["apiKey"]:
        return kraken_error("EAPI:Invalid key")
    nonce = parse_qs(call.body.decode()).get("nonce", [""])[0]
    if late(nonce):
        return kraken_error("EAPI:Invalid nonce")
    inner = hashlib.sha256(nonce.encode() + call.body).digest()
    secret = base64.b64decode(known["secret"], validate=True)
    wanted = hmac.new(secret, call.path.encode() + inner, hashlib.sha512).digest()
    if equal(base64.b64encode(wanted).decode(), call.headers.get("api-sign")):
        return None
    return kraken_error("EAPI:Invalid signature")


def kraken_error(code: str, status: int = 200) -> Reply:
    """Return an error in Kraken's shape."""
    return Reply({"error": [code]}, status)


def bitfinex(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA384, hexadecimal, of `/api`, path, nonce and body; the nonce is the trader's time."""
    del environment
    nonce = call.headers.get("bfx-nonce", "")
    if call.headers.get("bfx-apikey") != known["apiKey"]:
        return bitfinex_error("10100")
    if late(nonce):
        return bitfinex_error("10114")
    signed = f"/api{call.path}{nonce}{call.body.decode()}"
    wanted = hmac.new(known["secret"].encode(), signed.encode(), hashlib.sha384).hexdigest()
    return None if equal(wanted, call.headers.get("bfx-signature")) else bitfinex_error("10100")


def bitfinex_error(code: str, status: int = 500) -> Reply:
    """Return an error in Bitfinex's shape."""
    return Reply(["error", int(code), "words"], status)


def deribit(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of time, nonce and data; another environment is another host."""
    asked = {name: one for name, (one,) in parse_qs(call.query, keep_blank_values=True).items()}
    signed = f"{asked['timestamp']}\n{asked['nonce']}\n{asked['data']}"
    good = (
        asked["grant_type"] == "client_signature"
        and asked["client_id"] == known["apiKey"]
        and "client_secret" not in asked
        and not late(asked["timestamp"])
        and equal(digest(known["secret"], signed).hex(), asked["signature"])
    )
    return None if good else deribit_error("13004", environment=environment)


def deribit_error(
    code: str, status: int = 400, environment: Environment = Environment.LIVE
) -> Reply:
    """Return an error in Deribit's shape."""
    error = {"message": "words", "code": int(code)}
    return Reply({"jsonrpc": "2.0", "error": error, "testnet": environment != "live"}, status)


def hyperliquid(
    roles: Mapping[str, Any], agents: Mapping[str, Any], leaders: Mapping[str, str] | None = None
) -> Check:
    """Return a check that answers itself, from what is held for an address."""

    def answer(call: Call, known: Mapping[str, str], environment: Environment) -> Reply:
        del known, environment  # no call is signed
        asked = json.loads(call.body)
        match asked:
            case {"type": "userRole", "user": str(user), **more} if not more:
                return Reply(roles.get(user, {"role": "missing"}))
            case {"type": "extraAgents", "user": str(user), **more} if not more:
                return Reply(agents.get(user, []))
            case {"type": "vaultDetails", "vaultAddress": str(vault), **more} if not more:
                return Reply({"vaultAddress": vault, "leader": (leaders or {})[vault]})
            case _:
                return Reply(b"Failed to deserialize the JSON body into the target type", 422)

    return answer
