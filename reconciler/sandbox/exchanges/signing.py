"""
How four exchanges check that a call is signed, and what they say when it is not.

Written down apart from ccxt, which signs, and from the adapters, which read the errors: both are
judged by this.  Each check takes a call, the credentials of the key that it names (None: there is
no such key) and the environment; it returns None, or the exchange's own error.

Sources: bybit-exchange.github.io/docs/v5/guide, okx.com/docs-v5, gate.com/docs/developers/apiv4,
kucoin.com/docs-new.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from reconciler.model.key_facts import Environment
from reconciler.sandbox.exchanges.http import Call, Reply

Credentials = Mapping[str, str]
"""By ccxt's names."""
Check = Callable[[Call, Credentials | None, Environment], Reply | None]

_SKEW: Final = 30.0  # seconds; each exchange has its own, these are within 5 and 30
_GATE_SKEW: Final = 60.0


def bybit(call: Call, known: Credentials | None, environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of time, key, window and query; errors come with status 200."""
    del environment  # another host: a key of the other environment is simply not known
    key, sent = call.headers.get("x-bapi-api-key", ""), call.headers.get("x-bapi-timestamp", "")
    window = call.headers.get("x-bapi-recv-window", "")
    payload = call.query if call.method == "GET" else call.body.decode()
    if known is None or key != known["apiKey"]:
        return bybit_error("10003")
    if late(sent):
        return bybit_error("10002")
    wanted = digest(known["secret"], sent + key + window + payload).hex()
    return None if equal(wanted, call.headers.get("x-bapi-sign")) else bybit_error("10004")


def bybit_error(code: str) -> Reply:
    told = {"retCode": int(code), "retMsg": "words", "result": {}, "retExtInfo": {}}
    return Reply({**told, "time": int(time.time() * 1000)})


def okx(call: Call, known: Credentials | None, environment: Environment) -> Reply | None:
    """HMAC-SHA256, base64, of time, method, target and body; a passphrase; a header for demo."""
    headers = call.headers
    sent = headers.get("ok-access-timestamp", "")
    if known is None or headers.get("ok-access-key") != known["apiKey"]:
        return okx_error("50111", 401)
    simulated = headers.get("x-simulated-trading") == "1"
    if simulated is not (environment is Environment.TEST):
        return okx_error("50101", 401)
    if not equal(known["password"], headers.get("ok-access-passphrase")):
        return okx_error("50105", 401)
    try:
        at = datetime.fromisoformat(sent).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return okx_error("50112", 401)
    if abs(time.time() - at) > _SKEW:
        return okx_error("50102", 401)
    signed = f"{sent}{call.method}{call.target}{call.body.decode()}"
    wanted = _digest64(known["secret"], signed)
    return None if equal(wanted, headers.get("ok-access-sign")) else okx_error("50113", 401)


def okx_error(code: str, status: int = 200) -> Reply:
    return Reply({"msg": "words", "code": code, "data": []}, status)


def gate(call: Call, known: Credentials | None, environment: Environment) -> Reply | None:
    """HMAC-SHA512, hexadecimal, of method, path, query, hash of the body and time."""
    del environment  # another host
    sent = call.headers.get("timestamp", "")
    if known is None or call.headers.get("key") != known["apiKey"]:
        return gate_error("INVALID_KEY", 401)
    if late(sent, unit=1.0, skew=_GATE_SKEW):
        return gate_error("REQUEST_EXPIRED", 403)
    lines = (call.method, call.path, call.query, hashlib.sha512(call.body).hexdigest(), sent)
    wanted = hmac.new(known["secret"].encode(), "\n".join(lines).encode(), hashlib.sha512)
    if not equal(wanted.hexdigest(), call.headers.get("sign")):
        return gate_error("INVALID_SIGNATURE", 401)
    return None


def gate_error(label: str, status: int = 400) -> Reply:
    return Reply({"label": label, "message": "words"}, status)


def kucoin(call: Call, known: Credentials | None, environment: Environment) -> Reply | None:
    """HMAC-SHA256, base64, of time, method, target and body; the passphrase is signed, too."""
    del environment  # it has no test network
    headers = call.headers
    sent = headers.get("kc-api-timestamp", "")
    if known is None or headers.get("kc-api-key") != known["apiKey"]:
        return kucoin_error("400003", 401)
    if late(sent):
        return kucoin_error("400002", 401)
    signed = f"{sent}{call.method}{call.target}{call.body.decode()}"
    if not equal(_digest64(known["secret"], signed), headers.get("kc-api-sign")):
        return kucoin_error("400005", 401)
    phrase = _digest64(known["secret"], known["password"])
    return None if equal(phrase, headers.get("kc-api-passphrase")) else kucoin_error("400004", 401)


def kucoin_error(code: str, status: int = 200) -> Reply:
    """Return an error in KuCoin's shape."""
    return Reply({"code": code, "msg": "words"}, status)


def late(sent: str, *, unit: float = 0.001, skew: float = _SKEW) -> bool:
    """Say whether an instant in *unit* seconds since 1970 is too far from now, or is none."""
    if not (sent.isascii() and sent.isdigit() and len(sent) < 20):  # noqa: PLR2004  - an int64
        return True
    return abs(time.time() - int(sent) * unit) > skew


def digest(secret: str, signed: str) -> bytes:
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()


def equal(wanted: str, got: str | None) -> bool:
    """Compare without telling by time how much agrees."""
    return hmac.compare_digest(wanted.encode(), (got or "").encode())


def _digest64(secret: str, signed: str) -> str:
    return base64.b64encode(digest(secret, signed)).decode()
