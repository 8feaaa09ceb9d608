"""The robots (background jobs) of a stand-in JT-Trader, as its job list shows them."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(slots=True)
class Robot:
    """
    One robot; *running* is what the job list calls `isEnabled`.

    *start* and *stop* tell what becomes of its own start and stop routines, which take *start_time*
    and *stop_time* seconds.  One whose *tick* throws does so each second that it runs; the system
    log notes each error.  *stops_itself_after* seconds after a start on request it gives up by
    itself.  A robot that *keeps_state* writes it into the cache when it stops; its log says that
    it started, and if it *talks* also that it stops.
    """

    id: int
    name: str
    exchange: str
    running: bool = True
    market_type: str = "swap"
    account: str = "0"
    prefix: str = "p1"
    strategy: str = "dummy"
    runtime_type: str = "market"
    created_at: str = "2026-11-22T07:48:04.868Z"
    start: Literal["ok", "fails", "hangs"] = "ok"
    stop: Literal["ok", "throws", "hangs"] = "ok"
    start_time: float = 0.0
    stop_time: float = 0.0
    tick: Literal["ok", "throws"] = "ok"
    stops_itself_after: float | None = None
    keeps_state: bool = True
    talks: bool = True

    @property
    def artifacts(self) -> str:
        """The name of its report and log: an MD5 in hex, as in the real list."""
        return hashlib.md5(f"{self.account}:{self.id}".encode(), usedforsecurity=False).hexdigest()

    def job(self) -> dict[str, Any]:
        path = f"{self.strategy}.js"
        return {
            "id": self.id,
            "accountId": self.account,
            "name": self.name,
            "prefix": self.prefix,
            "strategy": {
                "id": self.strategy,
                "name": self.strategy,
                "type": "local",
                "path": path,
            },
            "strategyId": self.strategy,
            "strategyType": "local",
            "strategyPath": path,
            "args": [{"key": "marketType", "value": self.market_type}],
            "runtimeType": self.runtime_type,
            "createdAt": self.created_at,
            # A start changes no field of the entry: a restart cannot be seen here.
            "updatedAt": self.created_at,
            "exchange": self.exchange,
            "marketType": self.market_type,
            "artifacts": self.artifacts,
            "isEnabled": self.running,
        }
