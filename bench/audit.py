"""
What an audit costs: fifty keys over five exchanges, and a pass in which no key is audited.

An exchange is asked about one key after the other, all five at the same time, so an audit cannot
be quicker than the slowest exchange's own answers: that is what it is compared with.  The
exchanges are stand-ins on loopback that check signatures and answer late; ccxt is real, and
imported before the clock starts.  Then `jtr apply` on a converged server with a declared `security`
is compared with one without: no exchange is asked, so nothing of ccxt may be paid for.
Run it from the repository's root: `python -m bench.audit`.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from secrets import token_hex
from typing import Final

import pytest

from reconciler.exchanges.auditor import Auditor, KeyToAsk
from reconciler.exchanges.ccxt_client import make_ready
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.key_audits import KeyId, Light, light
from reconciler.model.key_policy import Security
from reconciler.model.secret import Secret
from reconciler.sandbox.exchanges import signing
from reconciler.sandbox.openbao import OpenBao
from reconciler.system.timeouts import Timeouts
from tests.exchanges import signing_more
from tests.exchanges.adapters import test_binance
from tests.exchanges.adapters import test_gateio as test_gate
from tests.exchanges.counting_exchange import BYBIT, KUCOIN, OKX, Crowd, Kind, held
from tests.support.leaks import Watch
from tests.support.rig import Rig

KEYS: Final = 10  # of each exchange
LATE: Final = 0.2  # seconds until an exchange answers
LIMIT: Final = 1.3  # the audit, in multiples of the slowest exchange's answers
QUIET_LIMIT: Final = 1.05  # a pass that audits nothing, in multiples of one without `security`
# A process begins with the peak of whoever started it, so somebody small has to.
WEIGH: Final = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
GATE = Kind("gateio", "gate", signing.gate, "key", ("apiKey", "secret"), test_gate.documented)
BINANCE = Kind(
    "binance",
    "binance",
    signing_more.binance,
    "x-mbx-apikey",
    ("apiKey", "secret"),
    lambda _key: test_binance.documented(),
)
KINDS = (BYBIT, OKX, KUCOIN, GATE, BINANCE)
SECURITY = Security(ip_whitelist=(ip_network("203.0.113.10"),), declared=True)


@contextmanager
def exchanges() -> Iterator[dict[str, Crowd]]:
    """Give five exchanges that know ten keys each."""
    with ExitStack() as stack:
        yield {
            kind.code: stack.enter_context(
                Crowd(kind, [{name: token_hex(16) for name in kind.names} for _ in range(KEYS)])
            )
            for kind in KINDS
        }


def audit_once(crowds: Mapping[str, Crowd]) -> tuple[float, float]:
    """Audit all keys; return the seconds, and those of the slowest exchange's answers."""
    bases = {crowd.kind.ccxt_id: crowd.url for crowd in crowds.values()}
    auditor = Auditor(Fingerprints(Secret(token_hex(32))), Timeouts(), bases=bases)
    keys = [
        KeyToAsk(KeyId(f"desk-{number}", code), held(credentials), SECURITY)
        for code, crowd in crowds.items()
        for number, credentials in enumerate(crowd.keys.values())
    ]
    before = {code: len(crowd.calls) for code, crowd in crowds.items()}
    began = time.perf_counter()
    results = asyncio.run(auditor.audit(keys, within=timedelta(0)))
    took = time.perf_counter() - began
    blocked = [str(key) for key, said in results.items() if light(*said) is Light.BLOCKED]
    if len(results) != len(keys) or blocked:
        raise AssertionError(blocked)
    share = max(len(crowd.calls) - before[code] for code, crowd in crowds.items()) * LATE
    return took, share


@dataclass(slots=True)
class Pass:
    """A converged `jtr apply`; seconds of processor and MiB of memory of each round."""

    rig: Rig
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Run it once."""
        command = [sys.executable, "-m", "reconciler", "apply", str(self.rig.docs)]
        ran = subprocess.run(
            [sys.executable, "-S", "-c", WEIGH, *command, "--auto-approve"],
            env={"PATH": os.defpath, **self.rig.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, kibibytes = ran.stderr.split()[-2:]
        self.seconds.append(float(seconds))
        self.memory.append(float(kibibytes) / 1024)


def quiet_passes(rounds: int) -> tuple[Pass, Pass]:
    """Return passes over a converged server, without `security` and with it."""
    with ExitStack() as stack:
        bao = stack.enter_context(OpenBao())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        passes = []
        for security in (None, {"ipWhitelist": ["203.0.113.10"]}):
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jtr-bench-")))
            rig = stack.enter_context(Rig(home, bao, Watch("bench"), patch))
            rig.server()
            rig.document("tokyo-1", "bybit")
            rig.settings(soleWriter=True)
            rig.begin()
            if rig.apply().code:
                raise AssertionError
            if security is not None:  # declared when nothing changes any more
                rig.document("tokyo-1", "bybit", rotate=False, security=security)
            passes.append(Pass(rig))
        for _ in range(rounds):
            for one in passes:
                one.run()
        without, declared = passes
        return without, declared


def main() -> int:
    """Measure, print two tables, return 1 when a ratio is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-limit", action="store_true", help="only show the tables")
    options = parser.parse_args()
    make_ready()
    with exchanges() as crowds:
        audit_once(crowds)  # warm
        for crowd in crowds.values():
            crowd.may_answer = lambda: time.sleep(LATE)
        rounds = [audit_once(crowds) for _ in range(options.rounds)]
    took = statistics.median(seconds for seconds, _ in rounds)
    share = statistics.median(seconds for _, seconds in rounds)
    ratio = took / share
    print(f"| {KEYS * len(KINDS)} keys, {len(KINDS)} exchanges | slowest alone | ratio | limit |")
    print("| --- | --- | --- | --- |")
    print(f"| {took:.2f} s | {share:.2f} s | {ratio:.2f} | {LIMIT} |\n")
    without, declared = quiet_passes(options.rounds)
    print("| converged `jtr apply` | no `security` | declared | ratio | limit |")
    print("| --- | --- | --- | --- | --- |")
    quiet = []
    for name, unit, plain, said in (
        ("processor", "s", without.seconds, declared.seconds),
        ("memory", "MiB", without.memory, declared.memory),
    ):
        one, other = statistics.median(plain), statistics.median(said)
        quiet.append(other / one)
        cells = f"{one:.2f} {unit} | {other:.2f} {unit} | {other / one:.3f} | {QUIET_LIMIT}"
        print(f"| {name} | {cells} |")
    over = ratio > LIMIT or any(one > QUIET_LIMIT for one in quiet)
    return int(not options.no_limit and over)


if __name__ == "__main__":
    sys.exit(main())
