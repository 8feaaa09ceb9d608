"""T6: what serves one server never reaches what belongs to another one."""

import asyncio
import gc
import types
import weakref
from collections.abc import Iterable

from reconciler.controller.worker import ServerWorker
from reconciler.model.secret import Secret
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin, play, synced
from tests.support.rig import Rig

NAMES = ("osaka-1", "tokyo-1")
_NOT_ITS_OWN = (
    *(types.ModuleType, types.FrameType, type, asyncio.AbstractEventLoop, weakref.ref),
    *(asyncio.Task, asyncio.Handle),
)


def reachable(root: object, without: Iterable[object]) -> list[str]:
    """Return every text that can be reached from *root*, but not by way of what all share."""
    seen = {id(one) for one in without}
    rest, texts = [root], []
    while rest:
        one = rest.pop()
        if id(one) in seen or isinstance(one, _NOT_ITS_OWN):
            continue
        seen.add(id(one))
        if isinstance(one, Secret):
            texts.append(one.reveal())  # it does not show itself, to the collector neither
        elif isinstance(one, bytes | bytearray):
            texts.append(bytes(one).decode("utf-8", "replace"))
        elif isinstance(one, str):
            texts.append(one)
        elif isinstance(one, types.FunctionType):
            rest += [*(one.__closure__ or ()), one.__defaults__]
        else:
            rest += gc.get_referents(one)
    return texts


def count(texts: list[str], wanted: Iterable[str]) -> int:
    """Return how many of *wanted* are in any text; an assertion around it would print them."""
    return sum(any(one in text for text in texts) for one in wanted)


def test_t6_no_worker_reaches_a_secret_of_another_server(rig: Rig) -> None:
    """After passes that wrote keys: a worker holds none, and what all share holds logins alone."""
    logins, keys = {}, {}
    for name in NAMES:
        rig.server(name)
        rig.document(name, rotate=False)
        keys[name] = set(rig.rotate(name).values())
        logins[name] = rig.bao.request("GET", f"secret/data/{rig.path(name)}").data["data"][
            "access_secret"
        ]
    begin(rig)

    async def story(harness: Harness) -> None:
        await synced(harness, *NAMES)
        for name in NAMES:
            keys[name] |= set(rig.rotate(name).values())
            await harness.until(lambda: rig.servers[name].record.saves == 2, "written")  # noqa: B023
        assert harness.controller is not None
        shared = harness.controller._shared
        workers = {one.desired.name: one for one in gc.get_objects() if type(one) is ServerWorker}
        # A pass holds what it sends; nothing below waits, so none begins meanwhile.
        await harness.until(
            lambda: not any(one._busy.locked() for one in workers.values()), "between passes"
        )
        everybodys = reachable(shared, [*workers.values(), harness, rig])
        kept = count(everybodys, logins.values())
        assert kept == len(NAMES), "control: logins are kept"
        strange = count(everybodys, keys["osaka-1"] | keys["tokyo-1"])
        assert not strange
        for name in NAMES:
            found = reachable(workers[name], [shared])
            own = count(found, [name])
            assert own, "control: there is much to find"
            strange = count(found, {*logins.values(), *keys["osaka-1"], *keys["tokyo-1"]})
            assert not strange

    play(Harness(rig), story)
