"""
Files that `jtr` wrote itself and finds spoilt: believed whole or not at all, and never a traceback.

Whoever can write them cannot do more than make `jtr` begin anew, or ask.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.controller.requeue import resumed
from reconciler.controller.state_file import StateFile
from reconciler.exchanges.cache import AuditCache, Slot
from reconciler.ledger.rollback_guard import Place, RollbackGuard
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.key_facts import Environment
from reconciler.model.recorded import Identity, Recorded, Requests
from reconciler.model.target import Target
from reconciler.notifications.deduplicate import Deduplicator, Message, read_told
from reconciler.notifications.events import AlertSeverity, Topic
from reconciler.notifications.queue import read_messages
from reconciler.render.requests import Listed, requests_document, requests_text
from reconciler.system.timeouts import Timeouts
from tests.fuzz.bounds import assert_silent, attack, examples
from tests.fuzz.damage import as_json, damaged, torn
from tests.ledger.codec.test_stored import OPEN

HERE = Path(__file__).parent.parent
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
UID = "0123456789abcdef" * 2


MESSAGE = Message(
    *("m1", Topic.HARM, "osaka-1", "", "bad", AlertSeverity.CRITICAL, AlertSeverity.CRITICAL),
    *("a text", "desk", 5.0),
)
TOLD = {
    "told": [["harm", "osaka-1", "bad", "critical", 5.0, "a text"]],
    "waiting": {"people": [MESSAGE.document()]},
}


def state_file(path: Path) -> None:
    state, trouble = StateFile(path).open()
    assert_silent(trouble)
    told = read_told(state.told.get("told"), NOW.timestamp())
    teller = Deduplicator("here", told)
    teller.keep({"tokyo-1"}, NOW.timestamp())
    teller.due(NOW.timestamp())
    waiting = state.told.get("waiting")
    for rows in waiting.values() if isinstance(waiting, dict) else ():
        read_messages(rows)
    for one in (*state.servers.values(), *state.named.values()):
        resumed(one, NOW.timestamp(), Timeouts(), lambda: 0.5)
    StateFile(path).save(state)
    assert StateFile(path).open() == (state, "")


def audit_cache(path: Path) -> None:
    cache = AuditCache(str(path))
    for slot in list(cache._known) or [Slot("f" * 64, Environment.LIVE, "here", "bybit", 1)]:
        cache.find(slot, NOW)
        cache.rejected(slot, NOW)
        cache.from_server(slot, NOW)
        found = cache._known.get(slot)
        if found is not None:
            cache.put(slot, found[0], at_server=found[1])
    cache.save(NOW)
    assert_silent(cache.trouble)


def mark_of_a_host(path: Path) -> None:
    guard = RollbackGuard(path.parent)
    # It is said why the ledger was suspect, in the words of the file itself.
    assert len(guard.check(UID, lambda: 5, Place("/l.db", 7), born_now=False).encode()) < 10_000
    guard.note(UID, 6, Place("/l.db", 7))


def unrecorded(path: Path) -> None:
    left = UnrecordedOutcomes(path.parent)
    identity = Identity("u1", Target("https://a.test", "0"), "tokyo-1")
    known = left.known(UID, Recorded(identity=identity, requests=Requests(open=OPEN)))
    listed = Listed("tokyo-1", identity.target, known.requests)
    text = requests_text([listed])
    if known.requests == Requests(open=OPEN):  # else it tells who did what, in the file's own words
        assert_silent(text)
    as_json(requests_document([listed], listed.exit_code))
    left.waiting(UID, "u1")


FILES: dict[str, tuple[Path, str, Callable[[Path], None]]] = {
    "state": (HERE / "controller" / "stored_state_2.json", "controller.json", state_file),
    "state by names": (HERE / "controller" / "stored_state.json", "controller.json", state_file),
    "cache": (HERE / "exchanges" / "stored_cache.json", "audit.json", audit_cache),
    "mark": (HERE / "ledger" / "stored" / "mark.json", f"{UID}.json", mark_of_a_host),
    "unrecorded": (
        HERE / "ledger" / "stored" / "unrecorded.json",
        "request-n1.json",
        unrecorded,
    ),
}


@pytest.mark.parametrize("name", FILES)
@examples(150, 20_000)
def test_no_spoilt_file_of_ours_ends_anything(
    name: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # waiting is no processor time
    sample, called, read = FILES[name]
    data = sample.read_bytes()
    if name.startswith("state"):
        data = as_json(json.loads(data) | {"told": TOLD}).encode()
    path = tmp_path / called
    (tmp_path).chmod(0o700)

    def one(spoilt: bytes) -> None:
        path.touch(0o600)
        path.write_bytes(spoilt)
        read(path)

    spoilt = torn([data]) | damaged([json.loads(data)]).map(lambda value: as_json(value).encode())
    attack(spoilt, one, most)
