"""
T19: an exception that quotes a secret, raised where one is at hand, inside libraries too.

Every call of a function that is handed a secret may fail, with a text that holds all that it was
given.  The command says which kind of error it was, and nothing of what the error says.
"""

import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

import pytest

from reconciler.cli import app
from tests.fuzz.bounds import examples
from tests.support.rig import Rig


class Quoting(ValueError):
    """What a library raises that quotes its arguments."""


class Fault:
    """
    Counts the calls that are handed a secret; the one of number *at* fails.

    `first` says for each function which of the calls was its first one.
    """

    def __init__(self, secrets: set[str], at: int = -1) -> None:
        self._secrets = secrets
        self._at = at
        self._lock = threading.Lock()
        self.calls = 0
        self.first: dict[str, int] = {}
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or self.where or not self._is_handed_one(frame):
            return
        code = frame.f_code
        name = f"{code.co_filename}:{code.co_qualname}"
        with self._lock:
            self.first.setdefault(name, self.calls)
            mine = self.calls == self._at
            self.calls += 1
        if mine:
            self.where = name
            given = [frame.f_locals.get(n) for n in code.co_varnames[: code.co_argcount]]
            raise Quoting(f"cannot take {given!r}: {' '.join(self._secrets)}")

    def _is_handed_one(self, frame: FrameType) -> bool:
        code = frame.f_code
        if "/reconciler/sandbox/" in code.co_filename or "/tests/" in code.co_filename:
            return False
        count = code.co_argcount + code.co_kwonlyargcount
        return any(self._is_one(frame.f_locals.get(n)) for n in code.co_varnames[:count])

    def _is_one(self, value: Any) -> bool:
        kind = type(value)
        if kind is bytes:
            return any(one.encode() in value for one in self._secrets)
        if kind is dict:
            return any(type(part) is str and part in self._secrets for part in value.values())
        return kind is str and any(one in value for one in self._secrets)


def forced(rig: Rig, at: int) -> tuple[Fault, int, str]:
    """Apply new keys while the call of number *at* that is handed a secret fails."""
    secrets = set(rig.rotate().values())
    fault = Fault(secrets, at)

    def run(args: Sequence[str]) -> int:
        threading.setprofile(fault)
        sys.setprofile(fault)
        try:
            return app.run(args)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.rig.run", run)
        ran = rig.apply("-o", "json")
    return fault, ran.code, ran.text


@pytest.mark.fatal_paths(0)
@examples(40, 400)
def test_t19_no_exception_shows_a_secret(most: int, rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    control, code, text = forced(rig, -1)
    assert code == 0, text
    assert control.calls > 20, "control: secrets are handed on"
    assert any("site-packages" in place for place in control.first), control.first

    foreign = [at for place, at in control.first.items() if "site-packages" in place]
    own = sorted(set(control.first.values()) - set(foreign))
    places = set()
    for at in (foreign + own[:: max(1, len(own) // (most - len(foreign)))])[:most]:
        fault, code, text = forced(rig, at)
        assert "Traceback" not in text, fault.where
        assert "cannot take" not in text, fault.where
        places.add(fault.where)
    assert rig.watch.found == []
    assert len(places - {""}) > 8, places
    assert any("site-packages" in place for place in places), places
