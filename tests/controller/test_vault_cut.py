"""
Vault cut off once at each kind of request that a controller makes to it.

The kinds are those that it makes: who adds one to the program finds this test red until it stands
in the table, and then it is cut as well.  The first backoff of a server that failed is longer than
this test's patience: who looks again does so because it was not the server that failed.  What was
done twice is what the servers counted.
"""

import asyncio
import logging
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from reconciler.controller.wiring import _Vault
from tests.controller.controller_harness import PATIENCE, Harness
from tests.controller.test_controller import play
from tests.support.durations import BRISK
from tests.support.fault_proxy import FaultProxy, Moment
from tests.support.fleet import Fleet, ports_of_nobody
from tests.support.leaks import PRIVATE
from tests.support.rig import Rig

LOG: Final = logging.getLogger(__name__)
# Of a token: renewed, and where it can be also replaced, while the controller runs.  One that dies
# because this machine is busy is the end where there is no other.
LIFE: Final = {"approle": "6s", "token": "24s"}
RUNNING: Final = {1, 2}
PARTS: Final = 8  # rounds in which everything is cut once; one by one in the long run
OFTEN: Final = 10  # more often than a request is tried, by both workers
DURATIONS: Final = BRISK | {
    "interval": "1s",
    "backoff": "900s",
    "backoffMost": "900s",
    # A new version is asked about by itself as long as it is young; also on a busy machine.
    "settle": "1500ms",
    "secretsRequest": "10s",  # what waits for an answer that was cut ends with it
    "secretsTotal": "20s",
}
Cut = tuple[str, Moment, int]  # of so many requests of a kind
SPEC: Final = {
    "supervised": True,
    "soleAccount": True,
    "robots": {"onCredentialChange": "restart"},
}

# Asked only by a controller that begins, or that sees a server for the first time.
OPENING: Final = {
    "GET sys/internal/ui/mounts/ledger",
    "GET secret/data/fingerprint",
    "GET secret/metadata/fingerprint",
    "GET ledger/data/X",
    "GET ledger/data/address/HASH",
    "GET ledger/data/controller/lease",
    "GET ledger/data/ledger/birth",
    "GET ledger/data/name/HASH",
    "GET ledger/metadata/ROW",
    "LIST ledger/metadata",
    "LIST ledger/metadata/controller",
    "LIST ledger/metadata/ledger",
    "LIST ledger/metadata/name",
    "LIST ledger/metadata/server",
    "LIST ledger/metadata/server/UID",
    "POST ledger/data/name/HASH",
    "POST ledger/data/server/UID/identity",
    "POST ledger/data/server/UID/received",
}
FIRST_CONTACT: Final = "GET secret/data/SERVER"
ENTRY: Final = "POST auth/approle/login"
LOOKUP: Final = "GET auth/token/lookup-self"
RENEWAL: Final = "POST auth/token/renew-self"
LEDGER: Final = {
    "GET ledger/data/brake/VERSION",
    "GET ledger/data/ledger/pauses",
    "GET ledger/data/ledger/restored",
    "GET ledger/data/server/UID/exchange/bybit",
    "GET ledger/data/server/UID/history",
    "GET ledger/data/server/UID/identity",
    "GET ledger/data/server/UID/lease",
    "GET ledger/data/server/UID/observation",
    "GET ledger/data/server/UID/received",
    "GET ledger/data/server/UID/requests",
    "LIST ledger/metadata/brake",
    "LIST ledger/metadata/server/UID/exchange",
    "POST ledger/data/controller/lease",
    "POST ledger/data/server/UID/exchange/bybit",
    "POST ledger/data/server/UID/history",
    "POST ledger/data/server/UID/lease",
    "POST ledger/data/server/UID/observation",
    ONCE_ASKED := "POST ledger/data/server/UID/requests",
}
SECRETS: Final = {
    "GET secret/data/SERVER/bybit",
    "GET secret/metadata/SERVER",
    "GET secret/metadata/SERVER/bybit",
    "SCAN secret/detailed-metadata",
}
# Asked by one that ends, the lease once more.
ENDING: Final = ("POST auth/token/revoke-self", "POST ledger/data/controller/lease")


@dataclass(frozen=True)
class Setup:
    """
    Where the ledger lies and how Vault is entered; what is asked when a controller begins, later,
    when it ends, and by the first that uses this ledger.
    """

    ledger: str
    login: str
    opening: frozenset[str]
    later: frozenset[str]
    ending: tuple[str, ...] = ()
    once: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.ledger}-{self.login}"


SETUPS: Final = (
    Setup("sqlite", "token", frozenset({FIRST_CONTACT, LOOKUP}), frozenset({*SECRETS, RENEWAL})),
    Setup(
        "vault",
        "approle",
        frozenset({FIRST_CONTACT, ENTRY, *OPENING}),
        frozenset({*LEDGER, *SECRETS, RENEWAL, ENTRY}),
        ENDING,
        ("POST ledger/data/brake/VERSION",),
    ),
)


class Road:
    """The way to Vault: knows what was asked on it, and cuts requests of one kind."""

    def __init__(self, rig: Rig) -> None:
        self._rig: Final = rig
        self.proxy: Final = FaultProxy.of(rig.bao.address)
        self.proxy.watching = self._watched
        self.asked: Counter[str] = Counter()
        self._due: dict[str, tuple[Moment, int]] = {}
        self._missing: set[str] = set()

    def cut(self, cuts: Iterable[Cut]) -> None:
        """Cut the next requests of these kinds, and no others any more."""
        cuts = list(cuts)
        self._missing = {kind for kind, _, _ in cuts}
        self._due = {kind: (moment, times) for kind, moment, times in cuts}

    def struck(self) -> bool:
        """Whether each kind was cut."""
        return not self._missing

    def _watched(self, line: str) -> Moment | None:
        kind = self._kind(line)
        self.asked[kind] += 1
        if kind not in self._due:
            return None
        moment, times = self._due.pop(kind)
        if times > 1:
            self._due[kind] = moment, times - 1
        self._missing.discard(kind)
        return moment

    def _kind(self, line: str) -> str:
        """Return a request without what differs from server to server."""
        method, target, _ = line.split(" ")
        path, _, query = target.removeprefix("/v1/").partition("?")
        for what in ("list", "scan"):
            method = what.upper() if f"{what}=true" in query else method
        team = self._rig.team
        for found, word in (
            (rf"/jt/{team}", ""),
            (rf"ledger-{team}/(data|metadata)/ledger", r"ledger/\1"),
            (rf"ledger-{team}/", ""),
            (r"server/[^/]+", "server/UID"),
            (r"(address|name)/[^/]+", r"\1/HASH"),
            (r"brake/.+", "brake/VERSION"),
            (r"/new\w+-\d+", "/SERVER"),
        ):
            path = re.sub(found, word, path)
        kind = f"{method} {path}"
        return re.sub("(GET ledger/metadata)/.*", r"\1/ROW", kind)  # of all, one after the other


@dataclass
class Servers:
    """Servers that are new to the ledger, and what was asked of each."""

    rig: Rig
    road: Road
    fleet: Fleet
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    rotated: int = 1

    def provoke(self) -> None:
        """Let all that a pass may do be wanted: new keys, restarts, a reboot, an invalidation."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        wishes: list[tuple[str, dict[str, Any]]] = [
            ("reboot", {"bootedAfter": now, "robots": "resume", "reason": "made up"}),
            ("cache", {"invalidatedAfter": now, "reason": "made up"}),
        ]
        for name, (kind, wish) in zip(self.fleet.names, wishes, strict=True):
            self.fleet.rotate(name)
            self.fleet.document(name, **{kind: wish})
            self.asked[name, kind] += 1
        self.rotated += 1

    @property
    def done(self) -> bool:
        """Whether all that was asked was done, and all robots run."""
        return not self.fleet.stale() and all(
            record.reboots >= self.asked[name, "reboot"]
            and record.invalidations >= self.asked[name, "cache"]
            and self.fleet.servers[name].robots_running() == RUNNING
            for name, record in self.fleet.records.items()
        )

    def judge(self) -> None:
        """Ask the servers whether anything was done twice."""
        for name, record in self.fleet.records.items():
            done = record.reboot_requests, record.invalidation_requests
            assert done == (self.asked[name, "reboot"], self.asked[name, "cache"]), record.history
            assert record.saves == self.rotated, record.history
            assert len(record.robot_stops_asked) <= self.rotated, record.history
            assert record.fatal_paths == 0


async def at_rest(harness: Harness, servers: Servers, since: Counter[str], what: str) -> None:
    """Wait until every server was looked at with success and all is done."""
    names, status_store = servers.fleet.names, harness.status_store
    await harness.until(
        lambda: (
            servers.done
            and status_store.controller.acting
            and all(
                harness.ended[name] > since[name]
                and not harness.status(name).failures
                and harness.status(name).well
                for name in names
            )
        ),
        what,
    )
    servers.judge()
    assert not status_store.stuck
    assert not status_store.controller.brakes


async def asked(harness: Harness, holds: Callable[[], bool], what: str) -> None:
    """Look again and again until something holds: a token is seen to by who uses it."""
    assert harness.controller is not None
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while not holds():
                harness.controller.look_again()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await harness.until(holds)
    assert holds(), f"never {what}"


class Rounds:
    """One rig, ledger and login; every round has servers and a controller of its own."""

    def __init__(self, rig: Rig, road: Road, enter: Callable[[], None]) -> None:
        """*enter* gives the next controller what it logs in with."""
        self.rig: Final = rig
        self.road: Final = road
        self._enter: Final = enter
        self._ports: Final = ports_of_nobody()

    @contextmanager
    def servers(self) -> Iterator[Servers]:
        name = f"new{secrets.token_hex(3)}"
        with Fleet(self.rig, 2, name=name, spec=SPEC, ports=self._ports) as fleet:
            yield Servers(self.rig, self.road, fleet)
            for document in self.rig.docs.iterdir():
                document.unlink()

    def play(self, story: Callable[[Harness], Awaitable[None]]) -> None:
        """Run a controller that asks Vault as the real one does."""
        self._enter()
        harness = Harness(self.rig)
        vault = _Vault(harness.settings)
        harness.dependencies = replace(
            harness.dependencies,
            open_context=lambda: vault.context(4),
            sweep=vault.sweep,
            token_seconds=vault.token_seconds,
        )
        play(harness, story)

    def life(
        self,
        *,
        first: Collection[Cut] = (),
        later: Iterable[Collection[Cut]] = (),
        last: Collection[Cut] = (),
        until: Collection[str] = (),
    ) -> None:
        """
        Live through one controller, cut at *first* in its opening, at *later* in turn, then at
        *last* at its end.  It lives *until* these kinds were asked.
        """
        with self.servers() as servers:

            async def story(harness: Harness) -> None:
                assert harness.controller is not None
                await asked(harness, self.road.struck, f"asked: {first}")
                await at_rest(harness, servers, Counter(), f"begun, cut at {first}")
                for cuts in later:
                    since = Counter(harness.ended)
                    self.road.cut(cuts)
                    servers.provoke()
                    harness.controller.look_again()
                    await asked(harness, self.road.struck, f"asked: {cuts}")
                    await at_rest(harness, servers, since, f"cut at {cuts}")
                await asked(harness, lambda: set(until) <= self.road.asked.keys(), f"all: {until}")
                self.road.cut(last)

            self.road.cut(first)
            self.play(story)


@pytest.fixture
def rounds(rig: Rig, setup: Setup) -> Iterator[Rounds]:
    """A ledger that is begun, and a login that must be renewed again and again."""
    bao, name = rig.bao, f"cut-{rig.team}"
    settings = rig.ledger(setup.ledger)
    bao.write_policy(name, {"*": ["create", "read", "update", "list", "scan", "sudo"]})
    if setup.login == "approle":
        role, secret_id = bao.approle(name, [name], ttl=LIFE["approle"])
        file = rig.home / PRIVATE / "secret-id"
        file.write_text(secret_id.reveal())
        file.chmod(0o600)
        auth = {"method": "approle", "roleId": role, "secretIdFile": str(file)}
        settings |= {"vault": {"auth": auth}}
        del rig.environment["VAULT_TOKEN"]

    def enter() -> None:
        if setup.login == "token":
            body = {"policies": [name], "period": LIFE["token"]}
            made = bao.request("POST", "auth/token/create-orphan", body)
            rig.environment["VAULT_TOKEN"] = made.body["auth"]["client_token"]

    road = Road(rig)
    with road.proxy:
        rig.environment["VAULT_ADDR"] = road.proxy.url
        rig.settings(durations=DURATIONS, **settings)
        rig.begin()
        road.asked.clear()
        yield Rounds(rig, road, enter)


def worst(kind: str) -> Cut:
    """
    Return what leaves most open: of writes one that was done and never heard of.

    What is only read is asked again at once, so no answer to that gets through.
    """
    if kind.startswith("POST "):
        return kind, Moment.UNHEARD, 1
    return kind, Moment.HALF, 1 if kind == LOOKUP else OFTEN  # that one is not asked again at once


def parts(kinds: Collection[str]) -> list[list[Cut]]:
    """
    Return the worst of each of *kinds*, in PARTS rounds and one more.

    Those of secrets go together: one by one they are asked where the scan of all is cut.
    """
    cuts = [worst(kind) for kind in sorted(set(kinds) - SECRETS)]
    rounds = [cuts[part::PARTS] for part in range(PARTS)]
    return [
        some for some in (*rounds, [worst(kind) for kind in sorted(SECRETS & set(kinds))]) if some
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "setup",
    [
        pytest.param(SETUPS[0], marks=pytest.mark.long),
        pytest.param(SETUPS[1], marks=pytest.mark.volume),
    ],
    ids=str,
)
def test_after_a_cut_at_any_kind_every_worker_looks_again(rounds: Rounds, setup: Setup) -> None:
    known = {*setup.once, *setup.opening, *setup.later, *setup.ending}
    rounds.life(first=[worst(kind) for kind in setup.once])
    rounds.life(later=[[]], until=known.difference(setup.ending))
    # A token that died because this machine is busy is looked up.
    found = rounds.road.asked.keys() - {LOOKUP}
    assert found == known - {LOOKUP}, "what is new belongs into the table, and is cut then"
    for cuts in parts(setup.opening):  # each cut is another opening, which begins anew
        rounds.life(first=cuts)
    rounds.life(later=parts(setup.later))
    for kind in setup.ending:
        rounds.life(last=[worst(kind)])
    rounds.life()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("times", [1, OFTEN])
@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_after_a_cut_at_any_moment_every_worker_looks_again(
    rounds: Rounds, setup: Setup, moment: Moment, times: int
) -> None:
    rounds.life(later=[[(kind, moment, times)] for kind in sorted(setup.later)])
    for kind in sorted({*setup.opening, *setup.later} - {ONCE_ASKED}):
        rounds.life(first=[(kind, moment, times)])
    for kind in setup.ending:
        rounds.life(last=[(kind, moment, times)])
    rounds.life()
