"""
The servers that our tests stand on, each a context manager on loopback.

    with JtTrader(access_secret="made-up", robots=[Robot(1, "grid", "bybit")]) as server:
        ...  # server.url
        assert server.record.reboots == 1

`server.record` counts what was done to a JT-Trader, `server.behaviour` makes it as unkind as the
real one; `Exchange(DIALECTS["bybit"])` answers signed requests about the keys that it knows.
"""

from reconciler.sandbox.exchanges.server import DIALECTS
from reconciler.sandbox.exchanges.server import ExchangeStandIn as Exchange
from reconciler.sandbox.jt_trader.faults import Behaviour
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.sandbox.jt_trader.server import StandInThread as JtTrader
from reconciler.sandbox.openbao import OpenBao

__all__ = ["DIALECTS", "Behaviour", "Exchange", "JtTrader", "OpenBao", "Robot"]
