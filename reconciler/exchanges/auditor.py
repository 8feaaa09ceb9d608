"""
Asks exchanges about many keys: each key once, each exchange one question at a time.

One thread an exchange, at most eight of them, within one budget of time.  What was answered lately
is not asked again; what is remembered are facts, which are judged anew every time.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from msgspec import Struct

from reconciler.exchanges import registry
from reconciler.exchanges.ask import Asking, ask
from reconciler.exchanges.cache import GOOD, AuditCache, Slot
from reconciler.exchanges.ccxt_client import make_ready
from reconciler.exchanges.judge import judge
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.key_audits import HERE, Egress, KeyId, Results
from reconciler.model.key_facts import Answered, Status
from reconciler.model.key_policy import Security
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.system.timeouts import Timeouts

AT_ONCE: Final = 8  # exchanges
# After one of these an exchange is left alone: the next question would end the same, or in a ban.
_KNOWN: Final = frozenset({Status.VALID, Status.DENIED, Status.IP_REFUSED})
"""So an exchange answers about a key that it has."""
_GIVES_UP: Final = frozenset({Status.UNREACHABLE, Status.RATE_LIMITED})


class KeyToAsk(Struct, frozen=True):
    """
    One key in its place, with its values by ccxt's names; lives as briefly as possible.

    `outgoing` are the addresses that the server says it leaves from, empty when it is not known.
    """

    id: KeyId
    credentials: Mapping[str, Secret]
    security: Security
    egress: Egress = HERE
    outgoing: tuple[str, ...] = ()


Askings = tuple[Asking, ...]
"""One question about a key, and those that follow where the answer leaves room for a sibling."""


class Auditor:
    """
    Audits keys, for one command or for months.

    *cache* is the file of remembered answers, empty: none; *bases* stand in for exchanges, by
    ccxt's id.  *say* tells people that the file could not be used.
    """

    def __init__(
        self,
        fingerprints: Fingerprints,
        timeouts: Timeouts,
        *,
        cache: str = "",
        bases: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _text: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._fingerprints = fingerprints
        self._timeouts = timeouts
        # What goes by a fingerprint that was made for one look is never found again.
        self._cache = cache if fingerprints.lasting else ""
        self._bases = bases or {}
        self._say = say
        self._now = now

    async def audit(
        self,
        keys: Sequence[KeyToAsk],
        *,
        within: timedelta = GOOD,
        again: bool = True,
        siblings: bool = False,
    ) -> Results:
        """
        Return what was answered about each key and what is to be said of it.

        With *siblings* a key that an exchange does not know is asked about at its siblings, too:
        they get to see it.

        Every key has a result, also one that was not asked about: then its status says why.  What
        is remembered is an answer only *within* that time, and none after a day; without *again* a
        rejection is one as long as it is remembered.  Raises UsageError for a proxy or a base that
        cannot be used.
        """
        cache = await asyncio.to_thread(AuditCache, self._cache) if self._cache else None
        places = {key.id: self._slot(key) for key in keys}
        known: dict[Slot, Answered] = {}
        now = self._now()
        if cache is not None and within:
            for slot in set(places.values()):
                found = cache.find(slot, now)
                if not again and (rejected := cache.rejected(slot, now)) is not None:
                    known[slot] = rejected
                    continue
                unsettled = found is not None and siblings and found.status is Status.REJECTED
                if found is not None and now - found.at < within and not unsettled:
                    known[slot] = found
        asked = await self._ask_all(
            {
                places[key.id]: self._askings(key, siblings=siblings)
                for key in keys
                if places[key.id] not in known
            }
        )
        if cache is not None:
            declared = {places[key.id] for key in keys if key.egress.server}
            for slot, answered in asked.items():
                cache.put(slot, answered, at_server=slot in declared)
            await asyncio.to_thread(cache.save, self._now())
            if cache.trouble:
                self._say(f"{cache.trouble}; without it exchanges are asked every time")
        known |= asked
        return self._judged(keys, places, known, cache)

    def _slot(self, key: KeyToAsk) -> Slot:
        entry = registry.entry(key.id.exchange)
        adapter = entry.adapter
        return Slot(
            self._fingerprints.credentials(key.credentials),
            entry.environment,
            key.egress.name,
            entry.ccxt_id,
            0 if adapter is None else adapter.version,
        )

    def _askings(self, key: KeyToAsk, *, siblings: bool) -> Askings:
        """Return the question, and those that follow where the key is one of a sibling."""
        first = registry.entry(key.id.exchange)
        others = () if first.adapter is None or not siblings else first.adapter.siblings
        entries = (first, *(registry.entry(one) for one in others if one != first.code))
        askings = tuple(
            Asking(entry, key.credentials, key.egress, self._bases.get(entry.ccxt_id, ""))
            for entry in entries
        )
        # Who asks a stand-in must not have its key sent to a real exchange.
        return tuple(one for one in askings if bool(one.base) is bool(askings[0].base))

    async def _ask_all(self, open_ones: Mapping[Slot, Askings]) -> dict[Slot, Answered]:
        if not open_ones:
            return {}
        queues: dict[str, dict[Slot, Askings]] = defaultdict(dict)
        for slot, askings in open_ones.items():
            queues[askings[0].entry.family][slot] = askings
        if any(asking.entry.adapter is not None for asking, *_ in open_ones.values()):
            await asyncio.to_thread(make_ready)  # once, before threads race and time counts
        deadline = time.monotonic() + self._timeouts.audit_total
        stop = threading.Event()
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="audit")
        loop = asyncio.get_running_loop()
        try:
            parts = await asyncio.gather(
                *(
                    loop.run_in_executor(
                        pool, _work, queue, self._timeouts.audit_request, deadline, stop
                    )
                    for queue in queues.values()
                )
            )
        finally:
            stop.set()  # whoever still asks ends after this question
            pool.shutdown(wait=False, cancel_futures=True)
        return {slot: answered for part in parts for slot, answered in part.items()}

    def _judged(
        self,
        keys: Sequence[KeyToAsk],
        places: Mapping[KeyId, Slot],
        known: Mapping[Slot, Answered],
        cache: AuditCache | None,
    ) -> Results:
        used: dict[str, list[KeyId]] = defaultdict(list)
        for key in keys:
            if key.credentials:
                used[self._itself(key)].append(key.id)
        results = {}
        for key in keys:
            answered, slot = known[places[key.id]], places[key.id]
            earlier = None
            if answered.status is Status.IP_REFUSED and not key.egress.server and cache is not None:
                earlier = cache.from_server(slot, self._now())
            findings = judge(
                answered,
                key.security,
                adapter=registry.entry(key.id.exchange).adapter,
                environment=slot.environment,
                today=self._now().astimezone(UTC).date(),
                server_addresses=tuple(ip_address(text) for text in key.outgoing),
                fingerprint_twins=_twins(key.id, used.get(self._itself(key), ())),
                from_server=key.egress.server,
                earlier=earlier,
            )
            if earlier is not None:  # for people: what the findings are about
                answered = replace(answered, facts=earlier.facts, facts_at=earlier.at)
            results[key.id] = answered, findings
        return results

    def _itself(self, key: KeyToAsk) -> str:
        """Return what is the same for one key of an exchange, whatever its other credentials."""
        api_key = key.credentials.get("apiKey")
        if api_key is None:
            return self._fingerprints.credentials(key.credentials)
        return self._fingerprints.key(api_key)


def _twins(own: KeyId, same: Iterable[KeyId]) -> tuple[str, ...]:
    """
    Return the other places of the same key.

    Two codes of one exchange on one server are not two places: there JT-Trader needs it twice.
    """
    family = registry.entry(own.exchange).family
    return tuple(
        str(other)
        for other in same
        if other != own
        and (other.server != own.server or registry.entry(other.exchange).family != family)
    )


def _work(
    queue: Mapping[Slot, Askings], timeout: float, deadline: float, stop: threading.Event
) -> dict[Slot, Answered]:
    """Ask one exchange about its keys, one after the other; runs on a thread of its own."""
    found: dict[Slot, Answered] = {}
    gave_up: dict[tuple[str, str], Status] = {}
    for slot, (asking, *siblings) in queue.items():
        way = (str(asking.entry.environment), asking.egress.name)
        if way in gave_up:
            found[slot] = asking.unasked(gave_up[way])
        else:
            found[slot] = ask(asking, timeout=timeout, deadline=deadline, stop=stop)
            if found[slot].status in _GIVES_UP:
                gave_up[way] = found[slot].status
        if _may_be_a_siblings(asking, found[slot]):
            for other in siblings:
                there = ask(other, timeout=timeout, deadline=deadline, stop=stop)
                if there.status in _KNOWN:
                    found[slot] = replace(found[slot], elsewhere=other.entry.code)
                    break
    return found


def _may_be_a_siblings(asking: Asking, answered: Answered) -> bool:
    adapter = asking.entry.adapter
    rejected = answered.status is Status.REJECTED
    return rejected and adapter is not None and answered.code in adapter.of_a_sibling
