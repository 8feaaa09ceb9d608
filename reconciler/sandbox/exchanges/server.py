"""
Exchanges on loopback that know many API keys, each as its owner made it, and say what it may do.

Four of them: those whose keys the sandbox puts into Vault.  Each answers the one question of the
audit in its documented shape, and refuses with its own errors.  Written down apart from the
adapters, which are judged by this.  Sources: see `reconciler.sandbox.exchanges.signing`, and the
adapters' own modules for the shapes.
"""

import enum
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, Final

from msgspec import Struct

from reconciler.model.key_facts import Environment
from reconciler.sandbox.exchanges import signing
from reconciler.sandbox.exchanges.http import LOOPBACK, Call, ExchangeServer, Reply
from reconciler.sandbox.exchanges.signing import Check, Credentials

_SHOWN: Final = 12  # characters of a key of Gate
_UNBOUND_LIFE: Final = timedelta(days=90)  # of a key of Bybit that is bound to no address


class Right(enum.StrEnum):
    """What an owner grants to a key; every exchange has its own words for these."""

    SPOT = "spot"
    FUTURES = "futures"
    TRANSFER = "transfer"
    WITHDRAW = "withdraw"


TRADE: Final = frozenset({Right.SPOT, Right.FUTURES})


class Traits(Struct, frozen=True):
    """
    What the owner of a key chose when he made it.

    Without `addresses` it may be used from anywhere.  Once it has expired it is not accepted.
    """

    rights: frozenset[Right] = TRADE
    addresses: tuple[str, ...] = (LOOPBACK,)
    read_only: bool = False
    expires: datetime | None = None

    def admits(self, address: str) -> bool:
        caller = ip_address(address)
        return not self.addresses or any(caller in ip_network(one) for one in self.addresses)


GOOD: Final = Traits()
"""As it should be: it may trade, and only from the server's address."""
WITHDRAWS: Final = Traits(rights=TRADE | {Right.WITHDRAW})
UNBOUND: Final = Traits(addresses=())
EXPIRED: Final = Traits(expires=datetime(2020, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class _Key:
    credentials: Credentials = field(repr=False)
    traits: Traits
    made: datetime

    @property
    def api_key(self) -> str:
        return self.credentials["apiKey"]

    def expired(self, now: datetime) -> bool:
        return self.traits.expires is not None and self.traits.expires <= now


class Dialect(Struct, frozen=True):
    """
    How one exchange is spoken to.

    `ccxt_id` is ccxt's name of it, `header` names the key of a call, `path` is where a key asks
    about itself.  `answer` takes that key and all of the account.  `expired` and `elsewhere` are
    said to a key that has ended, and to a call from an address that it is not bound to.
    """

    ccxt_id: str
    header: str
    path: str
    check: Check
    answer: Callable[[_Key, Iterable[_Key]], Any]
    expired: Reply
    elsewhere: Reply


class ExchangeStandIn(ExchangeServer):
    """
    One exchange, while it is entered; safe from any thread.

    `requests` counts every call, whatever it was answered.
    """

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(self._reply)
        self.dialect: Final = dialect
        self.requests = 0
        self._keys: dict[str, _Key] = {}
        self._lock = threading.Lock()

    def know(self, credentials: Credentials, traits: Traits = GOOD) -> None:
        """Have a key, as its owner makes it; *credentials* by ccxt's names."""
        key = _Key(dict(credentials), traits, datetime.now(UTC))
        with self._lock:
            self._keys[key.api_key] = key

    def change(self, api_key: str, traits: Traits) -> None:
        with self._lock:
            known = self._keys[api_key]
            self._keys[api_key] = _Key(known.credentials, traits, known.made)

    def _reply(self, call: Call) -> Reply:
        with self._lock:
            self.requests += 1
            keys = dict(self._keys)
        dialect, api_key = self.dialect, call.headers.get(self.dialect.header, "")
        known = keys[api_key].credentials if api_key in keys else None
        refused = dialect.check(call, known, Environment.LIVE)
        if refused is not None:
            return refused
        key, now = keys[api_key], datetime.now(UTC)
        if key.expired(now):
            return dialect.expired
        if not key.traits.admits(call.peer):
            return dialect.elsewhere
        if call.path != dialect.path or call.method != "GET":
            return Reply({}, 404)
        return Reply(dialect.answer(key, (one for one in keys.values() if not one.expired(now))))


# ── what each says of a key ──────────────────────────────────────────────────────────────────


def _bybit(key: _Key, _account: Iterable[_Key]) -> Any:
    traits = key.traits
    ends = traits.expires or (None if traits.addresses else key.made + _UNBOUND_LIFE)
    now = datetime.now(UTC)
    granted = {
        "ContractTrade": {Right.FUTURES: ["Order", "Position"]},
        "Spot": {Right.SPOT: ["SpotTrade"]},
        "Wallet": {Right.TRANSFER: ["AccountTransfer"], Right.WITHDRAW: ["Withdraw"]},
        "Derivatives": {Right.FUTURES: ["DerivativesTrade"]},
    }
    unused = (
        *("Options", "CopyTrading", "BlockTrade", "Exchange", "NFT", "Affiliate", "Earn"),
        *("FiatP2P", "FiatConvertBroker", "FiatGlobalPay", "FiatBitPay", "BitCard", "ByXPost"),
    )
    return {
        "retCode": 0,
        "retMsg": "",
        "result": {
            "id": "13770661",
            "note": "robots",
            "apiKey": key.api_key,
            "readOnly": int(traits.read_only),
            "secret": "",
            "permissions": {
                **{group: _granted(traits, words) for group, words in granted.items()},
                **{group: [] for group in unused},
            },
            "ips": list(traits.addresses) or ["*"],
            "type": 1,
            "deadlineDay": -2 if ends is None else (ends - now).days,
            "expiredAt": "1970-01-01T00:00:00Z" if ends is None else _iso(ends),
            "createdAt": _iso(key.made),
            "unified": 0,
            "uta": 1,
            "userID": 24617703,
            "isMaster": False,
            "parentUid": "24600000",
        },
        "retExtInfo": {},
        "time": int(now.timestamp() * 1000),
    }


def _okx(key: _Key, _account: Iterable[_Key]) -> Any:
    traits = key.traits
    perm = ["read_only"]
    if not traits.read_only:
        # One permission for every market, and for transfers.
        perm += ["trade"] if traits.rights - {Right.WITHDRAW} else []
        perm += _granted(traits, {Right.WITHDRAW: ["withdraw"]})
    account = {
        "acctLv": "2",
        "ip": ",".join(traits.addresses),
        "kycLv": "3",
        "label": "robots",
        "mainUid": "44705892343619584",
        "perm": ",".join(perm),
        "posMode": "long_short_mode",
        "roleType": "0",
        "type": "1",
        "uid": "44705892343619999",
    }
    return {"code": "0", "data": [account], "msg": ""}


def _gate(_key: _Key, account: Iterable[_Key]) -> Any:
    """Show all keys of the main account, masked, whoever asks; it has no name for withdrawing."""
    words = {Right.SPOT: ["spot"], Right.FUTURES: ["futures"], Right.TRANSFER: ["wallet"]}
    return [
        {
            "state": 1,
            "mode": 1,
            "name": "robots",
            "currency_pairs": [],
            "user_id": 100042,
            "ip_whitelist": list(one.traits.addresses),
            "perms": [
                {"name": name, "read_only": one.traits.read_only}
                for name in _granted(one.traits, words)
            ],
            "key": f"{one.api_key[:_SHOWN]}*****",
            "created_at": int(one.made.timestamp()),
            "update_at": int(one.made.timestamp()),
            "last_access": int(one.made.timestamp()),
        }
        for one in account
    ]


def _kucoin(key: _Key, _account: Iterable[_Key]) -> Any:
    traits = key.traits
    words = {
        Right.SPOT: ["Spot"],
        Right.FUTURES: ["Futures"],
        Right.TRANSFER: ["InnerTransfer"],
        Right.WITHDRAW: ["Transfer"],
    }
    granted = [] if traits.read_only else _granted(traits, words)
    data = {
        "remark": "robots",
        "apiKey": key.api_key,
        "apiVersion": 3,
        "permission": ",".join(["General", *granted]),
        "ipWhitelist": ",".join(traits.addresses),
        "createdAt": int(key.made.timestamp() * 1000),
        "uid": 165_111_215,
        "isMaster": False,
        "subName": "robots",
    }
    return {"code": "200000", "data": data}


def _granted(traits: Traits, words: Mapping[Right, list[str]]) -> list[str]:
    """Return an exchange's own words for the rights of a key, in the order of *words*."""
    return [word for right, own in words.items() if right in traits.rights for word in own]


def _iso(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


DIALECTS: Final[Mapping[str, Dialect]] = {
    "bybit": Dialect(
        "bybit",
        "x-bapi-api-key",
        "/v5/user/query-api",
        signing.bybit,
        _bybit,
        expired=signing.bybit_error("33004"),
        elsewhere=signing.bybit_error("10010"),
    ),
    "okx": Dialect(
        "okx",
        "ok-access-key",
        "/api/v5/account/config",
        signing.okx,
        _okx,
        expired=signing.okx_error("50119", 401),
        elsewhere=signing.okx_error("50110", 401),
    ),
    "gateio": Dialect(
        "gate",
        "key",
        "/api/v4/account/main_keys",
        signing.gate,
        _gate,
        expired=signing.gate_error("INVALID_KEY", 401),
        elsewhere=signing.gate_error("IP_FORBIDDEN", 403),
    ),
    "kucoin": Dialect(
        "kucoin",
        "kc-api-key",
        "/api/v1/user/api-key",
        signing.kucoin,
        _kucoin,
        expired=signing.kucoin_error("400003", 401),
        elsewhere=signing.kucoin_error("400006", 401),
    ),
}
"""By JT-Trader's code."""
