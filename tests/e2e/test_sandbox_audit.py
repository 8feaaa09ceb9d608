"""
`jtr audit` in the sandbox asks its own exchanges, and nothing of it leaves this host.

The stand-ins' counts say who was asked.  A hook inside the command stops, and tells, whatever looks
up a name or connects to anything but loopback.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.demo.steps import invocation
from reconciler.sandbox.exchanges.server import EXPIRED, UNBOUND, WITHDRAWS, Traits
from reconciler.sandbox.playground import DOCUMENTS, Playground
from tests.support.leaks import PRIVATE, Watch

SECURITY = "security: {ipWhitelist: [127.0.0.1], permissions: {require: [spot, perpetual]}}"
ALL = ("bybit", "gateio", "kucoin", "okx")
# The real command under an audit hook: every lookup and connection is told through a pipe, and only
# those to loopback happen.
GUARDED = """
import json, os, sys
told = os.fdopen(int(sys.argv.pop(1)), "w", buffering=1)

def hook(event, args):
    if event == "socket.getaddrinfo":
        place = [args[0], args[1]]
    elif event == "socket.connect" and isinstance(args[1], tuple):
        place = list(args[1][:2])
    else:
        return
    print(json.dumps(place), file=told)
    if place[0] not in (None, "127.0.0.1"):
        raise OSError("not on this host")

sys.addaudithook(hook)
from reconciler.cli import main
main()
"""


@pytest.fixture
def ground(tmp_path: Path, watch: Watch) -> Iterator[Playground]:
    """Servers, exchanges and files; all four exchanges are declared with `security`."""
    folder = tmp_path / PRIVATE
    folder.mkdir()
    with Playground(folder, tell=watch.guard) as ground:
        ground.rotate("kucoin")
        ground.declare(*ALL, more=(SECURITY,))
        yield ground


class Ran:
    """A command, what it printed, and what it connected to or looked up."""

    def __init__(self, ground: Playground, *args: str) -> None:
        (python, *_), environment = invocation(ground, args)
        reading, writing = os.pipe()
        with os.fdopen(reading) as told:
            done = subprocess.run(
                [python, "-c", GUARDED, str(writing), *args],
                env=environment,
                cwd=ground.repository,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                pass_fds=(writing,),
            )
            os.close(writing)
            self.places = {tuple(json.loads(line)) for line in told}
        self.code, self.out, self.text = done.returncode, done.stdout, done.stdout + done.stderr
        assert not ground.reveals(self.text)

    @property
    def hosts(self) -> set[str]:
        """Hosts that it asked for."""
        return {str(host) for host, _ in self.places}


def ports(*urls: str) -> set[int]:
    """Return the ports of these addresses."""
    return {int(url.rpartition(":")[2]) for url in urls}


def counts(ground: Playground) -> list[int]:
    """Return what each exchange counted, in the order of their codes."""
    return [ground.exchanges[code].requests for code in ALL]


def table(ran: Ran) -> dict[str, list[str]]:
    """Return each key's line of the table, without when it was asked about."""
    found = re.findall(r"^([✓~!] tokyo-1/\S+  .*?) +just now$", ran.out, re.MULTILINE)
    return {line.split()[1].partition("/")[2]: re.split(r"  +", line)[1:] for line in found}


def codes(ran: Ran) -> dict[str, str]:
    """Return the worst finding of each key."""
    document = json.loads(ran.out)
    return {row["exchange"]: row["findings"][0]["code"] for row in document["keys"]}


def test_good_keys_are_told_and_nothing_leaves_the_host(ground: Playground) -> None:
    assert Ran(ground, "ledger", "init").code == 0
    first = Ran(ground, "audit", DOCUMENTS)
    second = Ran(ground, "audit", DOCUMENTS)

    assert first.code == 0, first.text
    assert table(first) == {
        "bybit": ["ok", "delivery, perpetual, spot", "127.0.0.1", "never"],
        "gateio": ["attention", "margin, perpetual, spot", "127.0.0.1", "not told"],
        "kucoin": [
            *("ok", "delivery, perpetual, spot, account_read (read)", "127.0.0.1", "not told"),
        ],
        "okx": [
            *("ok", "delivery, margin, option, perpetual, spot, transfer, account_read (read)"),
            *("127.0.0.1", "not told"),
        ],
    }
    assert first.out.endswith("4 keys: 3 ok, 1 attention, 0 blocked\n")
    assert first.hosts == {"127.0.0.1"}
    exchanges = ports(*(one.url for one in ground.exchanges.values()))
    assert {port for _, port in first.places} == exchanges | ports(ground.bao.address)
    assert {port for _, port in second.places} == ports(ground.bao.address), "it is remembered"
    assert counts(ground) == [1, 1, 1, 1]
    assert ground.server.record.handshakes == []


def test_positive_control_without_its_settings_the_real_exchanges_would_be_asked(
    ground: Playground,
) -> None:
    text = ground.settings.read_text("utf-8")
    ground.settings.write_text(re.sub(r"audit:\n(  .*\n)+", "", text), "utf-8")

    ran = Ran(ground, "audit", DOCUMENTS)

    assert {"api.bybit.com", "api.kucoin.com"} <= ran.hosts, "the hook sees, and stops, that"
    assert ran.out.endswith("4 keys: 0 ok, 4 attention, 0 blocked\n")
    assert counts(ground) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("traits", "code"),
    [(WITHDRAWS, "PERM_WITHDRAW"), (UNBOUND, "IP_UNBOUND"), (EXPIRED, "KEY_REJECTED")],
)
def test_a_bad_key_of_each_exchange_is_blocked_and_reaches_no_server(
    ground: Playground, traits: Traits, code: str
) -> None:
    for exchange in ALL:
        ground.rotate(exchange, traits)
    assert Ran(ground, "ledger", "init").code == 0

    audit = Ran(ground, "audit", DOCUMENTS, "-o", "json")
    applied = Ran(ground, "apply", DOCUMENTS, "--auto-approve")

    assert (audit.code, applied.code) == (4, 4), applied.text
    # Gate has no word for withdrawing: there it is never told, and never green.
    untold = {"gateio": "MASTER_KEY"} if traits is WITHDRAWS else {}
    assert codes(audit) == {**dict.fromkeys(ALL, code), **untold}
    lights = {key["exchange"]: key["light"] for key in json.loads(audit.out)["keys"]}
    assert lights == {**dict.fromkeys(ALL, "blocked"), **dict.fromkeys(untold, "attention")}
    assert f"the audit stops it: {code}" in applied.text
    assert "Applied: 0 done, 1 failed, 3 not attempted." in applied.text
    assert audit.hosts | applied.hosts == {"127.0.0.1"}
    assert (ground.server.record.saves, ground.server.values()) == (0, {})
    assert counts(ground) == [1, 1, 1, 1]


def test_a_key_that_nobody_made_at_the_exchange_is_rejected(ground: Playground) -> None:
    ground.bao.put("jt/tokyo-1/bybit", {"apiKey": ground.made_up(), "secret": ground.made_up()})
    ground.rotate_secret("okx")

    found = codes(Ran(ground, "audit", DOCUMENTS, "-o", "json"))

    assert found["bybit"] == "KEY_REJECTED"
    assert found["okx"] == "EXPIRY_NOT_SHOWN", "its exchange knows the new secret"
