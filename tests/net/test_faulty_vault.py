"""
Vault through a bad network, on a real OpenBao: every wait ends, and a write goes out once.
"""

import gc
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.errors import SecretsError, SecretsUnreachable
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import AppRoleAuth, TokenAuth
from reconciler.system.timeouts import Timeouts
from tests.support.fault_proxy import (
    HALF_OPEN,
    HEALTHY,
    Door,
    End,
    FaultProxy,
    Faults,
    Way,
    broken,
    late,
    once,
    slow,
)
from tests.support.leaks import PRIVATE
from tests.support.loops import LoopThread
from tests.support.waiting import VaultBackend

SEED = 20261122
PATIENCE = 30.0  # seconds that a healed network may take
SLACK = 5.0  # seconds; the machine has other work, too
WAITS = Timeouts(connect=0.4, secrets_request=0.4, secrets_total=1.2)
WAYS = pytest.mark.parametrize("way", Way, ids=lambda way: way.name.lower())
ENDS = pytest.mark.parametrize("end", [End.FIN, End.RST, End.MUTE], ids=lambda end: end.value)
POST = b"POST /v1/"

# Python 3.11's `ssl` forgets to close a socket that is reset between connecting and wrapping.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.fixture(scope="module")
def on() -> Iterator[LoopThread]:
    """The loop of all proxies of this module."""
    with LoopThread("fault proxies") as loop:
        yield loop


@pytest.fixture(scope="module")
def tls_bao() -> Iterator[OpenBao]:
    """A server that speaks TLS."""
    with OpenBao(tls=True) as server:
        yield server


P = TypeVar("P")


@dataclass(slots=True)
class Road:
    """A back end whose every byte goes through a proxy, and one secret of its own."""

    bao: OpenBao
    proxy: FaultProxy
    backend: VaultBackend
    at: SecretPath
    value: str
    overdue: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Read metadata and then the value, and see that it is the right one."""
        info = self.backend.describe(self.at)
        assert self.backend.read(self.at, info.version, info.created)["it"].reveal() == self.value

    def healed(self, act: Callable[[], None] | None = None) -> None:
        """Do *act*, or look, now that the network is well; a busy machine may need some tries."""
        self.proxy.heal()
        end = time.monotonic() + PATIENCE
        while True:
            try:
                (act or self.look)()
            except SecretsUnreachable:
                if time.monotonic() > end:
                    raise
            else:
                return

    def create(self) -> None:
        """Write a secret where none is."""
        path = SecretPath("secret", f"{self.at.path}-made")
        made = self.backend.create_once(path, "it", Secret(self.value))
        assert made.reveal() == self.value

    def outcome(self, act: Callable[[], object], requests: int) -> SecretsError | None:
        """Do *act*, which asks so often; return what it ended with."""
        began = time.monotonic()
        limit = requests * WAITS.secrets_total + SLACK
        try:
            act()
        except SecretsError as error:
            return error
        finally:
            if (took := time.monotonic() - began) > limit:
                self.overdue.append(f"took {took:.2f} s instead of {limit:g}")
        return None

    def judged(self, outcome: SecretsError | None) -> list[str]:
        """Return what is wrong with an outcome."""
        wrong = [*self.overdue]
        if outcome is not None and not (type(outcome) is SecretsUnreachable and outcome.transient):
            wrong.append(f"ended with {outcome!r}")
        return wrong


class Roads:
    """Makes roads and ends them."""

    def __init__(self, on: LoopThread, bao: OpenBao) -> None:
        self._on = on
        self._bao = bao

    def new(self, faults: Faults = HEALTHY, auth: Any = None) -> Road:
        path, value = f"net/{secrets.token_hex(8)}", secrets.token_hex(16)
        self._bao.put(path, {"it": value})
        proxy = FaultProxy.of(self._bao.address, on=self._on, needles=(POST,))
        proxy.open()
        address = proxy.url.replace("http:", self._bao.address.partition("//")[0])
        backend = VaultBackend(
            address=address,
            auth=auth or TokenAuth(self._bao.root_token),
            ca_file=self._bao.ca_file,
            timeouts=WAITS,
        )
        proxy.switch(faults)
        return Road(self._bao, proxy, backend, SecretPath("secret", path), value)

    def each(self, places: Sequence[P], story: Callable[[P], list[str]]) -> None:
        """Tell *story* of each place, several at once; fail with a line for what was wrong."""
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(story, places))
        wrong = [
            f"{place}: {line}" for place, lines in zip(places, found, strict=True) for line in lines
        ]
        assert not wrong, "\n".join(wrong)


def app_role(bao: OpenBao, folder: Path) -> AppRoleAuth:
    """Return a new login that may read."""
    name = f"net-{secrets.token_hex(4)}"
    bao.write_policy(name, {"secret/*": ["read"]})
    role, secret_id = bao.approle(name, [name])
    file = folder / PRIVATE / "secret-id"
    file.parent.mkdir()
    file.write_text(secret_id.reveal())
    file.chmod(0o600)
    return AppRoleAuth(role, None, str(file))


def closed(road: Road) -> None:
    """Give everything back; a heal before it, so that nothing of it has to wait."""
    road.proxy.heal()
    road.backend.close()
    road.proxy.close()


@pytest.fixture(params=["plain", "tls"])
def roads(
    request: pytest.FixtureRequest, on: LoopThread, bao: OpenBao, tls_bao: OpenBao
) -> Iterator[Roads]:
    """Roads to a server with TLS, and to one without."""
    yield Roads(on, tls_bao if request.param == "tls" else bao)
    gc.collect()  # what `ssl` forgot must warn here, not in another module's test


@pytest.fixture
def plain(on: LoopThread, bao: OpenBao) -> Roads:
    """Roads on which the proxy can see what goes over them."""
    return Roads(on, bao)


def places(roads: Roads, way: Way, act: str, chance: random.Random, some: int) -> list[int]:
    """Return where to break a conversation: its first and last bytes, and some between."""
    road = roads.new()
    getattr(road, act)()
    counts = road.proxy.counts
    closed(road)
    total = counts.up if way is Way.UP else counts.down
    return sorted({0, 1, 5, total - 1, *(chance.randrange(total) for _ in range(some))})


@WAYS
@ENDS
def test_a_look_that_is_broken_anywhere_ends_in_time(roads: Roads, way: Way, end: End) -> None:
    chance = random.Random(f"{SEED} {way} {end}")

    def story(place: int) -> list[str]:
        road = roads.new(broken(way, place, end))
        try:
            # Every connection breaks there, so retries get no further than that.
            outcome = road.outcome(road.look, requests=2)
            lines = road.judged(outcome)
            road.healed()
            return lines
        finally:
            closed(road)

    roads.each(places(roads, way, "look", chance, 8), story)


@WAYS
@ENDS
def test_a_look_that_breaks_once_is_repeated(roads: Roads, way: Way, end: End) -> None:
    chance = random.Random(f"{SEED} once {way} {end}")

    def story(place: int) -> list[str]:
        road = roads.new(once(broken(way, place, end)))
        try:
            return road.judged(road.outcome(road.look, requests=2))
        finally:
            closed(road)

    roads.each(places(roads, way, "look", chance, 8), story)


@WAYS
@ENDS
def test_a_write_that_breaks_goes_out_once(plain: Roads, way: Way, end: End) -> None:
    chance = random.Random(f"{SEED} write {way} {end}")

    def story(place: int) -> list[str]:
        road = plain.new(broken(way, place, end))
        try:
            lines = road.judged(road.outcome(road.create, requests=3))
            if road.proxy.seen(POST) > 1:
                lines.append(f"sent {road.proxy.seen(POST)} times")
            # The same value, whether the first one was written or not.
            road.healed(road.create)
            made = SecretPath("secret", f"{road.at.path}-made")
            if (version := road.backend.describe(made).version) != 1:
                lines.append(f"{version} versions were written")
            return lines
        finally:
            closed(road)

    plain.each(places(plain, way, "create", chance, 12), story)


@WAYS
@ENDS
def test_a_login_that_breaks_goes_out_once(
    plain: Roads, bao: OpenBao, tmp_path: Path, way: Way, end: End
) -> None:
    auth = app_role(bao, tmp_path)

    def story(place: int) -> list[str]:
        road = plain.new(broken(way, place, end), auth)
        try:
            outcome = road.outcome(road.look, requests=3)
            lines = road.judged(outcome)
            if road.proxy.seen(POST) > 1:
                lines.append(f"logged in {road.proxy.seen(POST)} times")
            road.healed()
            return lines
        finally:
            closed(road)

    chance = random.Random(f"{SEED} login {way} {end}")
    plain.each([0, 1, *(chance.randrange(500) for _ in range(6))], story)


HOPELESS = {
    "silent": Faults(door=Door.SILENT),
    "reset": Faults(door=Door.RESET),
    "closed": Faults(door=Door.CLOSED),
    "half-open": HALF_OPEN,
    "1 B/s": slow(1),
    "100 B/s": slow(100),
    "late": late(1.0),
    "swallowed": broken(Way.UP, 10, End.SWALLOW),
    "dead": broken(Way.DOWN, 10, End.DEAD),
}


def test_no_network_holds_a_request_for_long(roads: Roads) -> None:
    def story(name: str) -> list[str]:
        road = roads.new(HOPELESS[name])
        try:
            outcome = road.outcome(road.look, requests=1)
            lines = road.judged(outcome)
            if outcome is None:
                lines.append("succeeded")
            road.proxy.cut()
            road.healed()
            return lines
        finally:
            closed(road)

    roads.each(list(HOPELESS), story)


def test_many_threads_wait_no_longer_than_one(roads: Roads) -> None:
    road = roads.new(Faults(door=Door.SILENT))
    try:
        with ThreadPoolExecutor(8) as pool:
            ended = list(pool.map(lambda _: road.outcome(road.look, requests=1), range(8)))
        assert [line for one in ended for line in road.judged(one)] == []
        assert None not in ended
        road.healed()
    finally:
        closed(road)


@pytest.mark.parametrize("faults", [late(0.03), slow(100_000)], ids=["60 ms", "100 kB/s"])
def test_a_slow_network_is_no_fault(roads: Roads, faults: Faults) -> None:
    road = roads.new(faults)
    try:
        road.look()
    finally:
        closed(road)


@pytest.mark.parametrize("end", [End.FIN, End.RST], ids=lambda end: end.value)
def test_an_idle_connection_that_was_cut_is_replaced(roads: Roads, end: End) -> None:
    road = roads.new()
    try:
        for _ in range(2):
            road.look()
            road.proxy.cut(end)
        assert road.proxy.counts.connections == 2
    finally:
        closed(road)


def test_a_living_connection_that_falls_silent_is_given_up(roads: Roads) -> None:
    road = roads.new()
    try:
        road.look()
        road.proxy.switch(HALF_OPEN)
        outcome = road.outcome(road.look, requests=1)
        assert type(outcome) is SecretsUnreachable
        road.healed()
        assert road.overdue == []
    finally:
        closed(road)


def test_leaving_through_a_dead_link_takes_bounded_time(
    plain: Roads, bao: OpenBao, tmp_path: Path
) -> None:
    # It wants to revoke the token that it logged in for.
    road = plain.new(auth=app_role(bao, tmp_path))
    try:
        road.look()
        road.proxy.switch(HALF_OPEN)
        assert road.outcome(road.backend.close, requests=1) is None
        assert road.overdue == []
    finally:
        closed(road)
