"""
A harness with servers, secrets and a ledger, worked on pass by pass by processes that may die.

The servers are memory servers or stand-ins, and the secrets lie in memory or in OpenBao; what is
true is asked of them only, never of our own ledger.  A process dies at a chosen deed: a write to
the ledger or a request that changes a server, just before it or just after it.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.drivers import Driver
from reconciler.ledger import Store
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import LeaseRow
from reconciler.ledger.lease import Held
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.desired import DesiredExchange, DesiredServer, DesiredState, Presence
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.outcomes import Report
from reconciler.model.plan import Plan
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.secret import Secret
from reconciler.model.source import SourceLine
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.resolver import Resolver
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.recall import recall
from reconciler.reconcile.survey import plan_of, survey
from reconciler.secrets import SecretBackend
from reconciler.system.timeouts import Timeouts
from reconciler.testing.state import OPEN_POLICY
from reconciler.testing.virtual_time import Clock
from tests.crash.crash_points import Killed, Life, MortalDriver, MortalStore
from tests.crash.handles import Handle

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "bybit": {"bybit_api_key": "apiKey", "bybit_api_secret": "secret"},
    "okx": {"okx_api_key": "apiKey", "okx_api_secret": "secret", "okx_password": "password"},
    "gateio": {
        "gateio_api_key": "apiKey",
        "gateio_api_secret": "secret",
        "gateio_user_id": "uid",
    },
    "kucoin": {
        "kucoin_api_key": "apiKey",
        "kucoin_secret": "secret",
        "kucoin_password": "password",
    },
    "mexc": {"mexc_api_key": "apiKey", "mexc_secret": "secret"},
}
"""The exchanges that the servers list: the server's field names and ccxt's."""

CODES: Final = tuple(FIELDS)
SPELLED: Final = {
    "bybit": {"apiKey": "apiKey", "secret": "secret"},
    "okx": {"apiKey": "api_key", "secret": "api_secret", "password": "password"},
    "gateio": {"apiKey": "api_key", "secret": "secret", "uid": "uid"},
    "kucoin": {"apiKey": "apiKey", "secret": "api_secret", "password": "password"},
    "mexc": {"apiKey": "api_key", "secret": "api_secret"},
}
"""Under which names the people of this desk keep each credential in a secret."""

# What is looked at between two sends changes nothing, and no death there is another one.
PATIENT = Timeouts(
    settle=0.0, quiesce=0.0, aftermath=0.0, reconnect=0.0, lease=30.0, lease_wait=60.0
)
SOURCE = SourceLine("desk.yaml", 1)
NO_CONSENT = Consents()
EVERYTHING_ELSE = Consents(drift=True)
ACCESS_SECRET = "made-up-access-secret"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Forge:
    """Makes values that never repeat; a shape decides what their masks prove."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def value(self, shape: str = "key") -> str:
        digest = hashlib.sha512(f"{next(self._numbers)} {shape}".encode()).digest()
        text = "".join(_BASE62[byte % 62] for byte in digest)
        match shape:
            case "key":
                return text[:36]
            case "hex":
                return digest.hex()[:40]
            case "short":
                return text[:7]
            case "pem":
                head, foot = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
                return f"{head}\n{text[:60]}\n{foot}"
            case "words":
                return f"{text[:5]} plein de jour\u00e9s {text[5:12]}"
        raise ValueError(shape)


SHAPES: Final = ("key", "hex", "short", "pem", "words")


@dataclass(frozen=True, slots=True)
class Passed:
    """What one pass planned and did; a process that died left no reports."""

    plan: Plan | None
    reports: Sequence[Report] = ()
    life: Life = field(default_factory=Life)


@dataclass(slots=True)
class RequestBlock:
    """What the documents say of one exchange; *back* counts versions back from the newest."""

    form: str = "secret"  # secret, fields, pinned, absent
    version: int | None = None
    take_over: bool = False


class Harness:
    """See the module.  `handles` and `wishes` go from a server's name on."""

    def __init__(
        self,
        handles: Mapping[str, Handle],
        driver: Callable[[str], Driver],
        backend: SecretBackend,
        put: Callable[[SecretPath, Mapping[str, str]], int],
        *,
        folder: str = "jt",
        timeouts: Timeouts = PATIENT,
        store: Store | None = None,
        login: SecretRef | None = None,
        clock: Clock | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.handles = dict(handles)
        self.wishes: dict[str, dict[str, RequestBlock]] = {name: {} for name in handles}
        self.changes: dict[str, dict[str, Any]] = {name: {} for name in handles}
        self.versions: dict[SecretPath, list[dict[str, str]]] = {}
        self.forge = Forge()
        self.clock = clock or Clock()
        self.now: Callable[[], datetime] = now
        self.unrecorded: UnrecordedOutcomes | None = None
        self.suspect = ""
        self.jumped: Callable[[], timedelta] = timedelta
        self.said: list[str] = []
        self.store: Store = store or MemoryStore()
        self.timeouts = timeouts
        self._driver = driver
        self.backend = backend
        self.put = put
        self._folder = folder
        self._login = login
        self._keys = 0
        self.newborn = False
        if store is None:
            self.begin()

    def begin(self) -> None:
        """Begin the ledger."""
        self._ledger(Life(), begin=True).close()

    # ── what people do ───────────────────────────────────────────────────────────────────

    def path(self, server: str, code: str) -> SecretPath:
        """Where the credentials of an exchange lie."""
        return SecretPath("secret", f"{self._folder}/{server}/{code}")

    def rotate(self, server: str, code: str, kind: str = "all", shape: str = "key") -> int:
        """Write a new version: new values, only a new key or only a new rest, or the old ones."""
        at = self.path(server, code)
        known = self.versions.setdefault(at, [])
        fresh = {
            name: self.forge.value("key" if name == "apiKey" else shape)
            for name in FIELDS[code].values()
        }
        if known and kind == "key":
            fresh = {**known[-1], "apiKey": fresh["apiKey"]}
        elif known and kind == "rest":
            fresh = {**fresh, "apiKey": known[-1]["apiKey"]}
        elif len(known) > 1 and kind == "back":
            fresh = dict(known[-2])
        known.append(fresh)
        return self.put(at, {SPELLED[code][name]: value for name, value in fresh.items()})

    def declare(self, server: str, code: str, form: str = "secret", back: int = 0) -> None:
        """Say in the documents how an exchange shall be; there must be a version of its secret."""
        version = None
        if form == "pinned":
            version = max(1, len(self.versions[self.path(server, code)]) - back)
        self.wishes[server][code] = RequestBlock(form, version)

    def undeclare(self, server: str, code: str) -> None:
        """Take an exchange out of the documents."""
        self.wishes[server].pop(code, None)

    def edit(self, server: str, code: str, kind: str) -> None:
        """Change an exchange by hand: all fields, one field, or to just what is desired."""
        handle = self.handles[server]
        names = list(FIELDS[code])
        if kind == "desired" and self.path(server, code) in self.versions:
            for name, value in self.desired(server, code).items():
                handle.set_value(name, value)
        else:
            for name in names[:1] if kind == "one" else names:
                handle.set_value(name, self.forge.value("key"))

    def remove(self, server: str, code: str, kind: str) -> None:
        """Remove all fields of an exchange by hand, or its last one."""
        names = list(FIELDS[code])
        for name in names[-1:] if kind == "one" else names:
            self.handles[server].remove_value(name)

    def new_key(self) -> None:
        """Lose the fingerprint key and begin with another one."""
        self._keys += 1

    # ── what is true ─────────────────────────────────────────────────────────────────────

    def desired(self, server: str, code: str) -> dict[str, str]:
        """What the server shall store for an exchange: one whole version."""
        wish = self.wishes[server].get(code, RequestBlock())
        if wish.form == "absent":
            return {}
        versions = self.versions[self.path(server, code)]
        values = versions[(wish.version or len(versions)) - 1]
        return {name: values[credential] for name, credential in FIELDS[code].items()}

    def stored(self, server: str, code: str) -> dict[str, str]:
        """What the server really stores for an exchange."""
        values = self.handles[server].values()
        return {name: values[name] for name in FIELDS[code] if name in values}

    def whole(self, server: str, code: str) -> bool:
        """Whether what is stored for an exchange is one version of its secret."""
        versions = self.versions.get(self.path(server, code), [])
        found = {FIELDS[code][name]: value for name, value in self.stored(server, code).items()}
        return found in versions

    # ── what jtr does ────────────────────────────────────────────────────────────────────

    def state(self) -> DesiredState:
        """The documents."""
        return DesiredState(tuple(self._server(name) for name in sorted(self.wishes)))

    def ledger(self) -> Ledger:
        """The ledger as another process would open it."""
        return self._ledger(Life())

    def context(self, life: Life, command: str = "apply") -> PassContext:
        """What a process works with."""
        driver = MortalDriver(self._driver(command), life)
        return PassContext(
            driver=driver,
            resolver=Resolver(self.backend, driver, self.timeouts, self.said.append),
            fingerprints=Fingerprints(Secret(f"{self._keys + 1:064x}")),
            timeouts=self.timeouts,
            ledger=self._ledger(life),
            label=f"{command} 1@desk",
            now=self.now,
            jumped=self.jumped,
            unrecorded=self.unrecorded,
            ledger_suspect=self.suspect,
            ledger_shared=True,
            policy=OPEN_POLICY,
        )

    async def plan(
        self, consents: Consents = NO_CONSENT, state: DesiredState | None = None
    ) -> Plan:
        """Look and plan, as `jtr plan` does."""
        state = state or self.state()
        visits = await survey(state, consents, self.context(Life(), "plan"))
        try:
            return plan_of(visits, state, skip_unreachable=False)
        finally:
            await _closed(visits)

    async def recorded_plan(self) -> Plan:
        """Plan without looking, as `jtr plan --recorded` does."""
        state = self.state()
        visits = await recall(state, NO_CONSENT, self.context(Life(), "plan"))
        return plan_of(visits, state, skip_unreachable=False)

    async def apply(
        self,
        consents: Consents = NO_CONSENT,
        *,
        dies_at: int | None = None,
        brake: CircuitBreaker | None = None,
    ) -> Passed:
        """Look, plan and do, as `jtr apply` does, or die at one moment of it."""
        life = Life(dies_at)
        plan: Plan | None = None
        visits: list[Visit] = []
        try:
            context = self.context(life)
            state = self.state()
            visits = await survey(state, consents, context)
            plan = plan_of(visits, state, skip_unreachable=False)
            reports = await apply_all(visits, consents, context, brake or CircuitBreaker())
        except Killed:
            await _ended()
            self._bury()
            return Passed(plan, life=life)
        finally:
            await _closed(visits)
        return Passed(plan, reports, life)

    def _bury(self) -> None:
        """Free the leases of the dead: our process id lives on, so nobody can see that they are."""
        for key in self.store.keys("server/"):
            found = self.store.get(key)
            if key.endswith("/lease") and found is not None:
                row = replace(read(LeaseRow, key, found.text), released=True)
                self.store.put(key, write(row), expect=found.revision)

    def _ledger(self, life: Life, *, begin: bool = False) -> Ledger:
        store = MortalStore(self.store, life)
        store.created = begin or self.newborn
        return Ledger(
            store,
            now=self.now,
            timeouts=self.timeouts,
            writer="apply 1@desk",
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def _server(self, name: str) -> DesiredServer:
        base = DesiredServer(
            name,
            self.handles[name].url,
            SOURCE,
            access_secret=self._login,
            exchanges=tuple(
                self._exchange(name, code, wish) for code, wish in self.wishes[name].items()
            ),
        )
        return replace(base, **self.changes[name])

    def _exchange(self, server: str, code: str, wish: RequestBlock) -> DesiredExchange:
        at = self.path(server, code)
        base = DesiredExchange(code, SOURCE, take_over=wish.take_over)
        match wish.form:
            case "absent":
                return replace(base, presence=Presence.ABSENT)
            case "secret":
                return replace(base, secret=SecretRef(at))
        return replace(
            base,
            fields={
                credential: SecretRef(at, SPELLED[code][credential], wish.version)
                for credential in FIELDS[code].values()
            },
        )


_OF_A_PASS = (f"{apply_all.__qualname__}.", Held.renew.__qualname__)


async def _ended() -> None:
    """End what is left of a dead process: the deeds on other servers, and its leases."""
    rest = [
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "").startswith(_OF_A_PASS)
    ]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _closed(visits: Sequence[Visit]) -> None:
    await asyncio.gather(*(visit.close() for visit in visits))
