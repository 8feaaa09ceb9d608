"""
A new exchange is one file and one suite: both are found by themselves, and held to the contract.

Here they are written to a temporary folder, and pytest runs the contract suite in a process of its
own, so that no other test sees the exchange.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.exchanges.registry import discovered
from tests.exchanges.contract import unmatched
from tests.exchanges.test_contract import CONTRACTS

ROOT = Path(__file__).parents[2]

ADAPTER = '''\
"""
Gemini: `POST /v1/roles`.

Documented at docs.gemini.com (roles, error codes).  Addresses, age and end are not told.
"""

from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, KeyFacts, Status

_CAPS: Final = {
    "isAuditor": {Cap.ACCOUNT_READ},
    "isTrader": {Cap.SPOT},
    "isFundManager": {Cap.TRANSFER, Cap.WITHDRAW},
}


class Gemini(Adapter):
    """The host tells the environment: an answered call proves that the key belongs to it."""

    def facts(self, answer: Any, _ours: Credentials, environment: Environment, /) -> KeyFacts:
        told = take.mapping(answer, "the answer")
        for promised in _CAPS:
            take.flag(told, promised)
        roles = [take.name(role, "a role") for role in told if take.flag(told, role)]
        grants = take.grants(roles, _CAPS, reads=("isAuditor",))
        return KeyFacts(
            grants=grants, read_only=take.only_reads(grants), environment=environment
        )

    def raw_code(self, answer: Any) -> str:
        """Return `reason`."""
        return take.code(answer.get("reason")) if isinstance(answer, dict) else ""


ADAPTERS: Final = (
    Gemini(
        "gemini",
        method="privatePostV1Roles",
        codes={
            "InvalidApiKey": Status.REJECTED,
            "InvalidSignature": Status.REJECTED,
            "InvalidNonce": Status.CLOCK,  # or the trader has just used a greater one
            "MissingRole": Status.DENIED,
            "HTTP 500": Status.UNREACHABLE,  # without an answer in it ccxt has no class for it
        },
        disturbs_trading=True,
    ),
)
'''

SUITE = '''\
import hashlib
import hmac

import pytest

from reconciler.exchanges.adapters.gemini import ADAPTERS
from reconciler.model.key_facts import Cap, Environment, KeyFacts, Status
from reconciler.model.key_policy import Security
from tests.exchanges.contract import Contract, Good, errors, spoilt
from tests.exchanges.documented import grant, mangled
from tests.exchanges.signing import Reply

PATH = "/v1/roles"
TRADES = {"isAuditor": False, "isFundManager": False, "isTrader": True}
FACTS = KeyFacts(
    grants=(grant("isTrader", Cap.SPOT),), read_only=False, environment=Environment.LIVE
)
MOVES = KeyFacts(
    grants=(grant("isFundManager", Cap.TRANSFER, Cap.WITHDRAW), grant("isNovel", Cap.OTHER)),
    read_only=False,
    environment=Environment.LIVE,
)
NOT_SHOWN = ["WARNING IP_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"]


def signed(call, known, environment):
    """HMAC-SHA384, hexadecimal, of the payload, which is another header."""
    payload = call.headers.get("x-gemini-payload", "")
    if call.headers.get("x-gemini-apikey") != known["apiKey"]:
        return error("InvalidApiKey")
    wanted = hmac.new(known["secret"].encode(), payload.encode(), hashlib.sha384).hexdigest()
    good = wanted == call.headers.get("x-gemini-signature")
    return None if good else error("InvalidSignature")


def error(code, status=400):
    return Reply({"result": "error", "reason": code, "message": "words"}, status)


CONTRACT = Contract(
    adapters=ADAPTERS,
    check=signed,
    made_up=lambda watch: {
        "apiKey": watch.guard(f"account-{watch.secret()}"),
        "secret": watch.secret(),
    },
    documented=TRADES,
    mangled=mangled(TRADES),
    rows=[
        pytest.param(TRADES, FACTS, NOT_SHOWN, id="good"),
        pytest.param(
            {"isAuditor": False, "isFundManager": True, "isTrader": False, "isNovel": True},
            MOVES,
            ["CRITICAL PERM_WITHDRAW", "ERROR PERM_FORBIDDEN", "ERROR PERM_MISSING", *NOT_SHOWN],
            id="excess",
        ),
    ],
    hostile=spoilt(TRADES, ("isTrader", ...), ("isTrader", 1), ("hostile\\x1b[2J", True)),
    good=(
        Good(
            ADAPTERS[0], "api.gemini.com", (PATH,), lambda _: {PATH: TRADES}, FACTS, method="POST"
        ),
    ),
    wrong={"apiKey": "InvalidApiKey", "secret": "InvalidSignature"},
    errors=errors(
        error,
        {
            "InvalidApiKey": Status.REJECTED,
            "InvalidSignature": Status.REJECTED,
            "InvalidNonce": Status.CLOCK,
            "MissingRole": Status.DENIED,
            "NovelReason": Status.INDETERMINATE,
        },
    ),
    told_elsewhere=frozenset({"HTTP 500"}),
    wanted=Security(require=frozenset({Cap.SPOT}), declared=True),
)
'''

PLUGIN = """\
from pathlib import Path

from reconciler.exchanges import adapters
from tests.exchanges import adapters as suites

adapters.__path__.append(str(Path(__file__).parent / "adapters"))
suites.__path__.append(str(Path(__file__).parent / "suites"))
"""


def contract_suite(folder: Path, adapter: str, wanted: str) -> tuple[int, str]:
    """Return what the *wanted* part of the suite makes of an exchange: exit code and output."""
    for name, text in (
        ("adapters/gemini.py", adapter),
        ("suites/test_gemini.py", SUITE),
        ("new_exchange.py", PLUGIN),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "new_exchange"),
            *("tests/exchanges/test_contract.py", "-k", wanted),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(600)  # pytest begins anew
def test_a_new_exchange_is_found_and_held_to_the_contract(tmp_path: Path) -> None:
    code, told = contract_suite(tmp_path, ADAPTER, "gemini or and_the_reverse")

    assert code == 0, told
    assert int(told.rpartition(" passed")[0].split()[-1]) > 30


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("right", "wrong", "red"),
    [
        (
            'roles, _CAPS, reads=("isAuditor",)',
            'roles, {**_CAPS, "isNovel": {Cap.SPOT}}',
            "test_a_documented_answer_means_exactly_this[gemini-excess]",
        ),
        (
            '"InvalidNonce": Status.CLOCK',
            '"InvalidNonce": Status.REJECTED',
            "test_an_error_code_has_its_status[gemini-InvalidNonce]",
        ),
    ],
    ids=["an unknown name is let through", "a clock is taken for a wrong key"],
)
def test_one_that_does_wrong_is_red(tmp_path: Path, right: str, wrong: str, red: str) -> None:
    assert ADAPTER.count(right) == 1
    code, told = contract_suite(
        tmp_path, ADAPTER.replace(right, wrong), red.partition("[")[2].removesuffix("]")
    )

    assert code == 1, told
    assert f"FAILED tests/exchanges/test_contract.py::{red}" in told


def test_neither_an_adapter_nor_a_contract_may_stand_alone() -> None:
    assert unmatched(discovered(), CONTRACTS) == set()
    lost = CONTRACTS[0].adapter.ccxt_id
    missing = {name: one for name, one in discovered().items() if name != lost}
    assert unmatched(missing, CONTRACTS) == {lost}
    ours = {one.ccxt_id for one in CONTRACTS[0].adapters}
    assert unmatched(discovered(), CONTRACTS[1:]) == ours
