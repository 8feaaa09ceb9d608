"""A harness on stand-ins and a real OpenBao."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.model.references import SecretPath, SecretRef
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import TokenAuth, VaultBackend
from reconciler.system.timeouts import Timeouts
from tests.crash.handles import OnLoopback
from tests.crash.harness import ACCESS_SECRET, Harness
from tests.support.strategies import SERVERS

# Nothing here is silent: a deadline that passes would say something of the machine, not of us.
SWIFT = Timeouts(
    connect=10.0,
    authenticate=10.0,
    request=10.0,
    close=0.5,
    settle=0.0,
    settle_total=10.0,
    secrets_request=10.0,
    secrets_total=20.0,
    reconnect=0.02,
    aftermath=0.01,
    quiesce=0.01,
)


@asynccontextmanager
async def desk_on_loopback(
    bao: OpenBao, servers: int, *, timeouts: Timeouts = SWIFT, seed: int = 0
) -> AsyncIterator[Harness]:
    """Start *servers* stand-ins, each with two robots that run and one that rests."""
    async with AsyncExitStack() as stack:
        handles = {}
        for name in SERVERS[:servers]:
            stand_in = StandIn(
                access_secret=ACCESS_SECRET,
                robots=[
                    Robot(id=1, name="grid", exchange="bybit"),
                    Robot(id=2, name="arb", exchange="okx"),
                    Robot(id=3, name="old", exchange="mexc", running=False),
                ],
                behaviour=Behaviour(row_delay=(0.0, 0.001)),
                seed=seed,
            )
            url = await stand_in.start()
            stack.push_async_callback(stand_in.stop)
            handles[name] = OnLoopback(url, stand_in)
        auth = TokenAuth(bao.root_token)
        vault = VaultBackend(address=bao.address, auth=auth, timeouts=timeouts)
        stack.push_async_callback(vault._session.leave)  # who logs in with a token owes nothing
        folder = f"jt/{secrets.token_hex(6)}"  # all examples share one OpenBao
        bao.put(f"{folder}/access", {"secret": ACCESS_SECRET})

        def put(at: SecretPath, values: Mapping[str, str]) -> int:
            return bao.put(at.path, values)

        yield Harness(
            handles,
            lambda command: JtTraderDriver(command=command, timeouts=timeouts),
            vault,
            put,
            folder=folder,
            timeouts=timeouts,
            login=SecretRef(SecretPath("secret", f"{folder}/access"), "secret"),
        )
