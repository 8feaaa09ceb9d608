"""Many keys: each asked once, one question at a time an exchange, nothing asked twice in a day."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.exchanges.ask import _noted
from reconciler.exchanges.auditor import Auditor, KeyToAsk
from reconciler.exchanges.cache import GOOD
from reconciler.exchanges.ccxt_client import make_ready
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.key_audits import HERE, Egress, KeyId, Light, Results, light
from reconciler.model.key_facts import Answered, Status
from reconciler.model.key_policy import NOTHING_DECLARED
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.sandbox.exchanges import signing
from reconciler.system.timeouts import Timeouts
from reconciler.testing.exchange_server import HangUp, Reply, Silence
from tests.exchanges.counting_exchange import BYBIT, KUCOIN, OKX, Crowd, Kind, held
from tests.support.leaks import Watch
from tests.support.processes import PATIENCE

DURATIONS = replace(Timeouts(), audit_request=60.0, audit_total=120.0)


class Floor:
    """Exchanges on loopback with keys of this test, and an auditor that asks them."""

    def __init__(self, watch: Watch, tmp_path: Path, stack: ExitStack) -> None:
        self.watch = watch
        self.cache = tmp_path / "audit.json"
        self.exchanges: dict[str, Crowd] = {}
        self.said: list[str] = []
        self.clock = datetime.now(UTC)
        self.timeouts = DURATIONS
        self.fingerprints = Fingerprints(Secret("a1" * 32))
        self._stack = stack

    def exchange(self, kind: Kind, may_answer: Callable[[], object] = lambda: None) -> Crowd:
        crowd = Crowd(kind, [], may_answer)
        self.exchanges[kind.ccxt_id] = self._stack.enter_context(crowd)
        return crowd

    def key(self, kind: Kind) -> dict[str, str]:
        credentials = {name: self.watch.secret() for name in kind.names}
        self.exchanges[kind.ccxt_id].keys[credentials["apiKey"]] = credentials
        return credentials

    def auditor(self, **changes: Any) -> Auditor:
        return Auditor(
            self.fingerprints,
            self.timeouts,
            **{
                "cache": str(self.cache),
                "bases": {name: crowd.url for name, crowd in self.exchanges.items()},
                "say": self.said.append,
                "now": lambda: self.clock,
                **changes,
            },
        )

    def audit(self, *keys: KeyToAsk, fresh: bool = False) -> Results:
        return asyncio.run(self.auditor().audit(keys, within=timedelta(0) if fresh else GOOD))

    def calls(self) -> int:
        return sum(len(crowd.calls) for crowd in self.exchanges.values())


@pytest.fixture
def floor(watch: Watch, tmp_path: Path) -> Iterator[Floor]:
    with ExitStack() as stack:
        yield Floor(watch, tmp_path, stack)


def place(
    credentials: dict[str, str],
    exchange: str = "bybit",
    server: str = "tokyo-1",
    egress: Egress = HERE,
) -> KeyToAsk:
    return KeyToAsk(KeyId(server, exchange), held(credentials), NOTHING_DECLARED, egress)


def statuses(results: Results) -> dict[str, Status]:
    return {str(key): answered.status for key, (answered, _) in results.items()}


def codes(results: Results, key: KeyToAsk) -> set[str]:
    return {finding.code for finding in results[key.id][1]}


def test_a_key_is_asked_about_once_a_day(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    key = place(floor.key(BYBIT))

    first = floor.audit(key)
    floor.clock += timedelta(hours=23)
    second = floor.audit(key)
    calls = len(exchange.calls)
    floor.clock += timedelta(hours=2)
    floor.audit(key)

    assert statuses(first) == {"tokyo-1/bybit": Status.VALID}
    answered, findings = first[key.id]
    assert second == {key.id: (replace(answered, requests=()), findings)}
    assert (calls, len(exchange.calls)) == (1, 2)


def test_fresh_asks_again(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    key = place(floor.key(BYBIT))
    floor.audit(key)
    floor.audit(key, fresh=True)

    assert len(exchange.calls) == 2


def test_without_a_lasting_fingerprint_key_nothing_is_remembered(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    floor.fingerprints = Fingerprints(Secret("a1" * 32), lasting=False)
    key = place(floor.key(BYBIT))
    floor.audit(key)
    floor.audit(key)

    assert len(exchange.calls) == 2
    assert not floor.cache.exists()


def test_a_new_secret_under_the_same_api_key_is_another_key(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    credentials = floor.key(BYBIT)
    floor.audit(place(credentials))
    results = floor.audit(place({**credentials, "secret": floor.watch.secret()}))

    assert statuses(results) == {"tokyo-1/bybit": Status.REJECTED}
    assert len(exchange.calls) == 2


def test_the_same_key_in_several_slots_is_asked_once_and_told_in_each(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    shared, own = floor.key(BYBIT), floor.key(BYBIT)
    keys = [place(shared), place(shared, server="osaka-1"), place(own, server="paris-1")]
    results = floor.audit(*keys)

    assert set(statuses(results).values()) == {Status.VALID}
    assert len(exchange.calls) == 2
    assert ["SAME_KEY_TWICE" in codes(results, key) for key in keys] == [True, True, False]


def test_one_question_at_a_time_an_exchange_and_exchanges_side_by_side(floor: Floor) -> None:
    kinds = (BYBIT, OKX, KUCOIN)
    # None of the three answers before each of them was asked.
    together = threading.Barrier(len(kinds))
    keys = []
    for kind in kinds:
        floor.exchange(kind, lambda: together.wait(PATIENCE))
        keys += [place(floor.key(kind), kind.code, f"server-{n}") for n in range(4)]
    results = floor.audit(*keys)

    assert set(statuses(results).values()) == {Status.VALID}
    assert [crowd.most_at_once for crowd in floor.exchanges.values()] == [1, 1, 1]
    assert floor.calls() == 12


@pytest.mark.parametrize(
    ("trouble", "status", "calls"),
    [
        ([HangUp()], Status.VALID, 2),
        ([HangUp(), HangUp()], Status.UNREACHABLE, 2),
        ([Reply(b"<html>", 503)], Status.UNREACHABLE, 1),
        ([Reply(b"<html>not here</html>", 451)], Status.UNREACHABLE, 1),
        ([Reply(b"<html>too often</html>", 403)], Status.RATE_LIMITED, 1),
        ([signing.bybit_error("10003")], Status.REJECTED, 1),
        ([signing.bybit_error("10010")], Status.IP_REFUSED, 1),
        ([signing.bybit_error("10002")], Status.CLOCK, 1),
        ([signing.bybit_error("10006")], Status.RATE_LIMITED, 1),
        ([signing.bybit_error("31337")], Status.INDETERMINATE, 1),
        ([Reply({"retCode": 0, "result": {}})], Status.INDETERMINATE, 1),
    ],
    ids=[
        *("once", "twice", "503", "451", "403", "wrong key"),
        *("address", "clock", "limit", "unknown", "shape"),
    ],
)
def test_only_what_was_not_answered_is_tried_again_and_once(
    floor: Floor, trouble: list[Any], status: Status, calls: int
) -> None:
    exchange = floor.exchange(BYBIT)
    exchange.script.extend(trouble)
    results = floor.audit(place(floor.key(BYBIT)))

    assert statuses(results) == {"tokyo-1/bybit": status}
    assert len(exchange.calls) == calls


@pytest.mark.parametrize(
    ("trouble", "status", "calls"),
    [
        ([signing.bybit_error("10006")], Status.RATE_LIMITED, 1),
        ([HangUp(), HangUp()], Status.UNREACHABLE, 2),
    ],
    ids=["rate limit", "network"],
)
def test_an_exchange_that_is_away_or_has_enough_is_left_alone(
    floor: Floor, trouble: list[Any], status: Status, calls: int
) -> None:
    exchange, other = floor.exchange(BYBIT), floor.exchange(OKX)
    exchange.script.extend(trouble)
    keys = [place(floor.key(BYBIT), server=f"server-{n}") for n in range(3)]
    results = floor.audit(*keys, place(floor.key(OKX), "okx"))

    assert [results[key.id][0].status for key in keys] == [status] * 3
    assert statuses(results)["tokyo-1/okx"] is Status.VALID
    assert (len(exchange.calls), len(other.calls)) == (calls, 1)
    assert len(json.loads(floor.cache.read_text())["entries"]) == 1  # nothing of the trouble


def test_all_questions_together_have_one_budget(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    exchange.script.extend([Silence()] * 9)
    floor.timeouts = replace(DURATIONS, audit_request=600.0, audit_total=2.0)
    keys = [place(floor.key(BYBIT), server=f"server-{n}") for n in range(3)]
    make_ready()
    results = floor.audit(*keys)  # does not take ten minutes

    assert set(statuses(results).values()) == {Status.UNREACHABLE}
    assert len(exchange.calls) == 1


def test_cancelling_asks_nobody_else(floor: Floor) -> None:
    cancelled = threading.Event()
    exchange = floor.exchange(BYBIT, lambda: cancelled.wait(PATIENCE))
    keys = [place(floor.key(BYBIT), server=f"server-{n}") for n in range(5)]

    async def cancel() -> None:
        task = asyncio.ensure_future(floor.auditor().audit(keys))
        await asyncio.to_thread(exchange.begun.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()

    asyncio.run(asyncio.wait_for(cancel(), PATIENCE))
    for thread in threading.enumerate():
        if thread.name.startswith("audit"):
            thread.join(PATIENCE)

    assert len(exchange.calls) == 1


def test_an_exchange_that_ccxt_does_not_know_is_not_asked_and_never_green(floor: Floor) -> None:
    key = place({}, "bitmex")
    results = floor.audit(key)
    answered, findings = results[key.id]

    assert answered.status is Status.UNSUPPORTED
    assert light(answered, findings) is Light.ATTENTION
    assert not floor.cache.exists()


# ── addresses ────────────────────────────────────────────────────────────────────────────────


def refused(floor: Floor, key: KeyToAsk) -> tuple[Answered, set[str]]:
    """Audit a key again from an address that the exchange refuses."""
    floor.exchanges["bybit"].script.append(signing.bybit_error("10010"))
    results = floor.audit(replace(key, egress=HERE), fresh=True)
    return results[key.id][0], codes(results, key)


def test_a_refused_address_is_not_green_without_facts_from_the_servers(floor: Floor) -> None:
    floor.exchange(BYBIT)
    key = place(floor.key(BYBIT))
    floor.audit(key)  # valid, yet from an address of which nobody says that it is the server's
    floor.clock += timedelta(hours=1)
    answered, _ = refused(floor, key)
    results = floor.audit(key)

    assert answered.status is Status.IP_REFUSED
    assert answered.facts is None
    assert light(*results[key.id]) is not Light.OK


def test_facts_from_the_servers_address_stand_in_for_a_week(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    # Whom a proxy is asked for stands in its request line, so a stand-in can be its own proxy.
    key = place(floor.key(BYBIT), egress=Egress(exchange.url, server=True))
    known = floor.audit(key)[key.id][0]
    floor.clock += timedelta(days=6)
    within, _ = refused(floor, key)
    floor.clock += timedelta(days=1, hours=1)
    after, _ = refused(floor, key)

    assert (within.status, after.status) == (Status.IP_REFUSED, Status.IP_REFUSED)
    assert known.facts is not None
    assert within.facts == known.facts
    assert after.facts is None


def test_two_addresses_are_two_questions(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    credentials = floor.key(BYBIT)
    proxied = place(credentials, server="osaka-1", egress=Egress(exchange.url, server=True))
    results = floor.audit(place(credentials), proxied)

    assert {answered.egress for answered, _ in results.values()} == {"here", exchange.url}
    assert len(exchange.calls) == 2


def test_a_refusal_of_the_servers_own_address_is_an_error(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    exchange.script.append(signing.bybit_error("10010"))
    key = place(floor.key(BYBIT), egress=Egress(server=True))
    results = floor.audit(key)

    assert "IP_MISSING_SERVER" in codes(results, key)
    assert light(*results[key.id]) is Light.BLOCKED


def test_the_addresses_that_the_server_leaves_from_are_compared(floor: Floor) -> None:
    floor.exchange(BYBIT)  # its documented key is bound to 203.0.113.10
    key = place(floor.key(BYBIT))
    at_home = floor.audit(replace(key, outgoing=("203.0.113.10",)))
    moved = floor.audit(replace(key, outgoing=("203.0.113.99",)))

    assert codes(moved, key) - codes(at_home, key) == {"IP_MISSING_SERVER"}
    assert floor.calls() == 1


def test_one_key_for_two_codes_of_an_exchange_is_not_the_same_key_twice(floor: Floor) -> None:
    floor.exchange(KUCOIN)
    credentials = floor.key(KUCOIN)
    spot, futures = place(credentials, "kucoin"), place(credentials, "kucoinfutures")
    elsewhere = place(credentials, "kucoin", server="osaka-1")

    assert "SAME_KEY_TWICE" not in codes(floor.audit(spot, futures), spot)
    assert "SAME_KEY_TWICE" in codes(floor.audit(spot, elsewhere), spot)


def test_nothing_of_a_key_is_remembered(floor: Floor) -> None:
    floor.exchange(BYBIT)
    floor.exchange(OKX)
    keys: Sequence[KeyToAsk] = [place(floor.key(BYBIT)), place(floor.key(OKX), "okx")]
    floor.audit(*keys)

    floor.watch.search_folder(floor.cache.parent)
    assert floor.watch.found == []
    assert floor.cache.stat().st_mode & 0o777 == 0o600


def test_a_cache_that_cannot_be_used_is_said_once(floor: Floor) -> None:
    floor.exchange(BYBIT)
    floor.cache.mkdir()
    floor.audit(place(floor.key(BYBIT)))

    assert len(floor.said) == 1
    assert "asked every time" in floor.said[0]


BYBIT_EU = replace(BYBIT, code="bybiteu", ccxt_id="bybiteu")


@pytest.mark.parametrize("known_there", [True, False])
def test_a_key_of_another_region_is_found_there_when_somebody_wants_it(
    floor: Floor,
    known_there: bool,  # noqa: FBT001  - a column
) -> None:
    here, there = floor.exchange(BYBIT), floor.exchange(BYBIT_EU)
    key = place(floor.key(BYBIT_EU if known_there else BYBIT))
    if not known_there:
        here.keys.clear()

    unasked = floor.audit(key)
    assert not there.calls
    results = asyncio.run(floor.auditor().audit([key], siblings=True))

    assert statuses(results) == {"tokyo-1/bybit": Status.REJECTED}
    # Its test network has the same stand-in: bybit is asked there, too, when nobody else knows it.
    assert (len(here.calls), len(there.calls)) == (2 if known_there else 3, 1)
    assert codes(unasked, key) == {"KEY_REJECTED"}
    assert codes(results, key) == ({"ENV_MISMATCH"} if known_there else {"KEY_REJECTED"})
    (finding,) = results[key.id][1]
    assert ("bybiteu" in finding.what) is known_there
    assert finding.stops


def test_who_asks_a_stand_in_sends_no_key_to_a_real_sibling(floor: Floor) -> None:
    floor.exchange(BYBIT)
    askings = floor.auditor()._askings(place(floor.key(BYBIT)), siblings=True)

    assert [one.entry.code for one in askings] == ["bybit", "bybit-testnet"]
    assert all(one.base for one in askings)


def test_what_was_learnt_of_a_sibling_is_not_kept(floor: Floor) -> None:
    floor.exchange(BYBIT)
    floor.exchange(BYBIT_EU)
    key = place(floor.key(BYBIT_EU))
    asyncio.run(floor.auditor().audit([key], siblings=True))

    assert codes(floor.audit(key), key) == {"KEY_REJECTED"}


def test_values_that_cannot_be_right_are_told_without_asking(floor: Floor) -> None:
    exchange = floor.exchange(OKX)
    key = place({**floor.key(OKX), "password": ""}, "okx")
    results = floor.audit(key)

    assert statuses(results) == {"tokyo-1/okx": Status.MALFORMED}
    (finding,) = results[key.id][1]
    assert (finding.code, finding.what, finding.stops) == (
        "KEY_MALFORMED",
        "it cannot be right: password is missing",
        True,
    )
    assert not exchange.calls


def test_whoever_must_not_ask_again_is_told_of_an_old_rejection(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    wrong, good = place(floor.key(BYBIT)), place(floor.key(BYBIT), server="osaka-1")
    held_back = exchange.keys.pop(wrong.credentials["apiKey"].reveal())
    floor.audit(wrong, good)

    def on_schedule() -> Results:
        floor.clock += timedelta(days=40)
        return asyncio.run(floor.auditor().audit([wrong, good], within=GOOD, again=False))

    assert statuses(on_schedule()) == {
        "tokyo-1/bybit": Status.REJECTED,
        "osaka-1/bybit": Status.VALID,
    }
    assert len(exchange.calls) == 3
    exchange.keys[held_back["apiKey"]] = held_back
    assert statuses(floor.audit(wrong))["tokyo-1/bybit"] is Status.VALID  # somebody asks
    on_schedule()
    assert len(exchange.calls) == 6


def test_other_values_are_asked_about_after_a_rejection(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    credentials = floor.key(BYBIT)
    floor.audit(place({**credentials, "secret": floor.watch.secret()}))

    results = asyncio.run(floor.auditor().audit([place(credentials)], again=False))

    assert statuses(results) == {"tokyo-1/bybit": Status.VALID}
    assert len(exchange.calls) == 2


def test_what_was_asked_is_told_without_query_or_credential(floor: Floor) -> None:
    exchange = floor.exchange(BYBIT)
    exchange.script.append(HangUp())
    key = place(floor.key(BYBIT))

    (answered, _) = floor.audit(key)[key.id]
    (again, _) = floor.audit(key)[key.id]

    address = f"GET {exchange.url}/v5/user/query-api"
    assert answered.requests == (f"{address}: not answered", f"{address}: answered")
    assert again == replace(answered, requests=())


def test_a_path_that_holds_a_credential_is_not_shown() -> None:
    class Asked:
        """What asks with a key in its path."""

        last_http_response = None

        def fetch(self, *_args: Any) -> None: ...

    asked = Asked()
    noted = _noted(asked, ["a secret", "the+key", ""])
    asked.fetch("https://x.test/v1/the%2Bkey/info?signature=17", "GET", {}, None)
    asked.fetch("https://x.test/v1/info?signature=17")

    assert noted == [
        "GET https://x.test/(not shown): not answered",
        "GET https://x.test/v1/info: not answered",
    ]
