"""
A situation in which secrets have owners, and servers that remember every text they were sent.

Two teams each have a server and its secrets.  What they applied is done; then somebody changes the
documents, and what each server hears afterwards is held against who may have it.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.documents.load import load
from reconciler.errors import InvalidConfig, UsageError
from reconciler.ledger import Stored
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.desired import DesiredState
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.observe.context import PassContext
from reconciler.observe.resolver import Resolver
from reconciler.plan.inputs import Consents
from reconciler.policy.model import Policy
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.survey import survey
from reconciler.sandbox.jt_trader.gateway import Gateway
from reconciler.sandbox.jt_trader.memory import (
    MemoryConversation,
    MemoryDriver,
    MemoryNetwork,
    MemoryServer,
)
from reconciler.secrets.memory import MemoryBackend
from reconciler.system.timeouts import Timeouts
from reconciler.testing.virtual_time import VirtualClock, virtual_time

ASIA: Final = "https://tokyo-1.internal:8443"
EUROPE: Final = "https://osaka-1.internal:8443"
EVIL: Final = "https://evil.example"
NEAR: Final = "https://evil.internal:8443"  # what `allow` of the README lets documents name
LOCAL: Final = "http://127.0.0.1:18066"
TIMEOUTS: Final = Timeouts(settle=0.0, aftermath=0.0, lease=30.0, lease_wait=60.0)

# Each secret has fields for every use, so that no trick fails for want of a field.
OWNERS: Final[Mapping[str, str]] = {
    "secret/jt/tokyo-1": ASIA,
    "secret/jt/tokyo-1/bybit": ASIA,
    "secret/jt/osaka-1": EUROPE,
    "secret/jt/osaka-1/bybit": EUROPE,
    "secret/jt/spare/bybit": "",
    "secret/jt/tokyo-10/bybit": "",
    "secret/infra/root": "",
    "team/kv//jt/tokyo-1": "",
}
FIELDS: Final = ("apiKey", "secret", "password", "access_secret", "access_token")


def value(path: str, name: str) -> str:
    """The value of a field, which says where it is from."""
    return f"{path.replace('/', '.')}+{name}+0123456789abcdef"


def owner_of(text: str) -> str | None:
    """Who may get a text; None for one that is no secret."""
    for path, owner in OWNERS.items():
        if any(value(path, name) in text for name in FIELDS):
            return owner
    return None


class _Network(MemoryNetwork):
    def __init__(self, server: "Recorder") -> None:
        super().__init__(server)
        self._recorder = server

    async def open(self, gateway: Gateway, port: int) -> str:
        return await super().open(gateway, port)

    def join(self, name: str, client: MemoryConversation, auth: object, agent: str) -> None:
        self._recorder.hear(auth, login=True)
        super().join(name, client, auth, agent)

    def receive(self, name: str, body: Mapping[str, object]) -> None:
        self._recorder.hear(body)
        super().receive(name, body)


class Recorder(MemoryServer):
    """A server that lets everybody in and remembers every text that it got."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.heard: list[str] = []

    def _new_network(self) -> MemoryNetwork:
        return _Network(self)

    def hear(self, message: object, *, login: bool = False) -> None:
        self.heard.extend(_texts(message))
        if login and isinstance(message, dict):
            self._state.access_secret = str(message.get("accessSecret") or "")

    def foreign(self) -> list[str]:
        """Secrets that it got and must not have."""
        return [text for text in self.heard if owner_of(text) not in (None, self.url)]


def _texts(message: object) -> Iterator[str]:
    if isinstance(message, str):
        yield message
    elif isinstance(message, dict):
        for one in message.values():
            yield from _texts(one)
    elif isinstance(message, list | tuple):
        for one in message:
            yield from _texts(one)


def document(name: str, url: str, path: str = "", **spec: Any) -> dict[str, Any]:
    """The document of a server with its own secrets, or with those below *path*."""
    path = path or f"secret/jt/{name}"
    return {
        "apiVersion": "jtr/v1",
        "kind": "TradingServer",
        "metadata": {"name": name},
        "spec": {
            "url": url,
            "accessSecret": f"vault:{path}#access_secret",
            "exchanges": {"bybit": {"credentials": f"vault:{path}/bybit"}},
        }
        | spec,
    }


LEGITIMATE: Final[Mapping[str, Any]] = {
    "desk-asia/tokyo-1.yaml": document("tokyo-1", ASIA),
    "desk-europe/osaka-1.yaml": document("osaka-1", EUROPE),
}


@dataclass
class Situation:
    """What there is; a copy for each attack costs milliseconds."""

    ledger: Mapping[str, Stored] = field(default_factory=dict)
    stored: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def begun(self, folder: Path, policy: Policy) -> "Situation":
        """Return the situation after both teams applied what is theirs."""
        end, servers = self.attack(
            folder, policy, Consents(recipients=frozenset(("tokyo-1", "osaka-1")))
        )
        assert not [text for server in servers.values() for text in server.foreign()]
        assert servers[ASIA].values()["bybit_api_key"] == value("secret/jt/tokyo-1/bybit", "apiKey")
        return end

    def attack(
        self, folder: Path, policy: Policy, consents: Consents
    ) -> tuple["Situation", Mapping[str, Recorder]]:
        """Plan and apply the documents in *folder*; return what there is then, and the servers."""
        clock = VirtualClock()
        servers = {url: Recorder(url, pid=1) for url in (ASIA, EUROPE, EVIL, NEAR, LOCAL)}
        for url, fields in self.stored.items():
            for name, text in fields.items():
                servers[url].set_value(name, text, "0")
        store = MemoryStore(self.ledger)

        async def story() -> None:
            for server in servers.values():
                await server.start()
            try:
                await self._apply(folder, policy, consents, servers, store, clock)
            finally:
                for server in servers.values():
                    await server.stop()

        with virtual_time(clock) as runner:
            runner.run(story())
        stored = {url: dict(server.values("0")) for url, server in servers.items()}
        return Situation(store.documents(), stored), servers

    async def _apply(
        self,
        folder: Path,
        policy: Policy,
        consents: Consents,
        servers: Mapping[str, Recorder],
        store: MemoryStore,
        clock: VirtualClock,
    ) -> None:
        try:
            state = load([str(folder)], tree=str(folder)).state
        except (InvalidConfig, UsageError):
            return
        ledger = Ledger(
            store,
            now=clock.wall,
            timeouts=TIMEOUTS,
            writer="apply 1@attack",
            clock=clock,
            sleep=clock.sleep,
        )
        driver = MemoryDriver(servers, command="apply", timeouts=TIMEOUTS)
        context = PassContext(
            driver=driver,
            resolver=Resolver(
                _backend(),
                driver,
                TIMEOUTS,
                lambda _text: None,
                require_binding=policy.require_binding,
            ),
            fingerprints=Fingerprints(Secret("0" * 64)),
            timeouts=TIMEOUTS,
            ledger=ledger,
            label="apply 1@attack",
            now=clock.wall,
            ledger_shared=True,
            policy=policy,
        )
        await _both(state, consents, context)


async def _both(state: DesiredState, consents: Consents, context: PassContext) -> None:
    """Do what `jtr apply --auto-approve` does, twice: what is held the first time stays held."""
    for _ in range(2):
        visits = await survey(state, consents, context)
        try:
            await apply_all(visits, consents, context, CircuitBreaker())
        finally:
            await asyncio.gather(*(visit.close() for visit in visits))


def _backend() -> MemoryBackend:
    backend = MemoryBackend(("secret", "team/kv"), keep=10, clock=lambda: 0.0)
    for path in OWNERS:
        mount, _, rest = path.partition("//") if "//" in path else path.partition("/")
        backend.put(SecretPath(mount, rest), {name: value(path, name) for name in FIELDS})
    return backend
