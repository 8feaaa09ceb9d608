"""Commands in docs/ and deploy/ are run, in the situation that the page is about."""

import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.sandbox.jt_trader.server import Behaviour, Robot
from reconciler.sandbox.openbao import OpenBao
from tests.house.pages import BIN, BLOCK, ROOT, SITUATION, blocks, commands, page, shell
from tests.support.durations import BRIEF
from tests.support.leaks import PRIVATE, Watch
from tests.support.processes import Running
from tests.support.rig import Rig

OPERATIONS = page("docs/operations.md")
QUICK = Behaviour(ping_interval=0.1, ping_timeout=0.6)
KNOWN = {
    # tests/house/test_concepts.py runs them.
    **{
        f"docs/concepts/{path.name}": {"see", "owner"}
        for path in (ROOT / "docs/concepts").glob("*.md")
    },
    # From the README to an own server; test_readme.py runs them.
    "docs/first-steps.md": {"background", "steps"},
    "docs/your-own-server.md": {"vault", "own"},
    "docs/in-ci.md": {"ci"},
    "docs/requests.md": {"ask"},
    "docs/audit.md": {"try", "try stopped", "try mended"},
    "docs/policy.md": {"policy", "cases"},
    "docs/operations.md": {
        "as service",
        "doctor",
        "backup",
        "explain",
        "restored",
        "doubt",
        "left",
        "fleet",
    },
    "deploy/README.md": {"vault"},
    # Scenes of a night on call; tests/e2e/test_runbooks.py plays them.
    **{
        f"docs/runbooks/{path.name}": {"look", "mend", "proof"}
        for path in (ROOT / "docs/runbooks").glob("*.md")
        if path.stem != "README"
    },
    "docs/runbooks/README.md": {"practise"},
    "docs/page.md": {"web"},  # tests/e2e/test_page.py runs it
    # The set-ups; tests/deploy/test_setups.py and test_docker.py run them.
    "docs/setup-both.md": {"merge"},
    "docs/setup-ci.md": {"vault", "roles", "init", "pull request", "merge"},
    "docs/setup-controller.md": {
        *(
            "vault",
            "init",
            "init token",
            "systemd",
            "systemd restart",
            "docker mount",
            "runbooks",
            "docker",
            "compose",
            "kubernetes login",
            "kubernetes",
        ),
        "pull mode",
        "pull request",
    },
}

pytestmark = pytest.mark.skipif(
    not (BIN / "jtr").exists(), reason="the command is not installed here"
)


class Harness:
    """A rig seen from a shell: the documents lie in `servers`, where the pages look for them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.docs = rig.home / "servers"
        rig.docs.mkdir()
        rig.settings(durations=BRIEF, soleWriter=True)
        self.environment = commands(rig.home / PRIVATE / "person") | rig.environment

    def run(self, what: str, text: str = OPERATIONS, **more: str) -> str:
        """Run all blocks of a page that are marked so; returns what they printed."""
        found = blocks(text, what)
        assert found, what
        printed = "".join(shell(block, self.rig.home, self.environment | more) for block in found)
        self.rig.watch.search(f"what the commands about {what} printed", printed)
        return printed


@pytest.fixture
def harness(rig: Rig) -> Harness:
    """A harness where nothing is declared yet."""
    return Harness(rig)


def another_second() -> None:
    """Wait for it: an instant has nothing finer, and must be later than what was before."""
    time.sleep(1 - datetime.now(UTC).microsecond / 1e6)


def test_every_block_with_commands_is_run_by_a_test() -> None:
    for path in (*ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")):
        name = str(path.relative_to(ROOT))
        text = path.read_text("utf-8")
        for match in BLOCK.finditer(text):
            if match["kind"] in ("sh", "console"):
                # What a newcomer walks, tests/newcomer, needs to be named nowhere.
                known = (
                    {match["run"]} - {None} if SITUATION.search(text) else KNOWN.get(name, set())
                )
                assert match["run"] in known, f"{name}: {match['body']}"


def test_the_owner_of_a_secret_binds_it(harness: Harness) -> None:
    rig = harness.rig
    server = rig.server()
    rig.document()
    rig.begin()
    text = page("docs/concepts/recipients.md").replace(
        " jt/tokyo-1/bybit", f" {rig.path('tokyo-1/bybit')}"
    )
    vault = {"BAO_ADDR": rig.bao.address, "BAO_TOKEN": rig.bao.root_token.reveal()}
    harness.run("owner", text, **vault)

    assert rig.apply().code == 4
    here = text.replace("https://tokyo-*.internal:8443", server.url)
    harness.run("owner", here, **vault)
    assert rig.apply().code == 0


def test_a_policy_and_its_cases(harness: Harness) -> None:
    rig, text = harness.rig, page("docs/policy.md")
    rig.document(url="https://tokyo-1.internal:8443")
    settings = rig.settings_file.parent
    (settings / "servers").symlink_to(rig.docs)
    (settings / "examples").symlink_to(ROOT / "examples")
    (settings / "policy.yaml").write_text(blocks(text, "file policy.yaml")[0], "utf-8")
    shown = {what: blocks(text, what)[0] for what in ("policy", "cases")}

    printed = {what: shell(block, settings, harness.environment) for what, block in shown.items()}

    assert "Policy: 1 server, 3 allowed, 0 denied." in printed["policy"]
    assert "allowed by rule 1 (our-servers)" in printed["policy"]
    assert "0 not as expected" in printed["cases"]


def test_a_request_in_doubt(harness: Harness) -> None:
    rig = harness.rig
    server = rig.server(behaviour=Behaviour(invalidate="lost before effect"))
    rig.document("tokyo-1", "bybit")
    rig.begin()
    asked = ("request", "invalidate-cache", "tokyo-1", "--from", str(rig.docs), "--reason", "x")
    assert rig.apply().code == 0
    another_second()
    assert rig.jtr(*asked).code == 0
    assert rig.apply().code == 7
    server.behaviour.invalidate = "answer"
    listed = json.loads(rig.jtr("request", "list", str(rig.docs), "-o", "json").out)
    (line,) = listed["servers"][0]["requests"]
    assert line["standing"] == "in doubt"

    another_second()

    printed = harness.run("doubt", INSTANT=line["instant"])

    assert "Nest application successfully started" in printed
    assert "is NOT done" in printed
    assert (server.record.invalidation_requests, server.record.invalidations) == (2, 1)


def test_robots_left_stopped(harness: Harness) -> None:
    rig = harness.rig
    robot = Robot(1, "grid-btc", "bybit")
    server = rig.server(robots=[robot, Robot(2, "arb", "okx")])
    rig.document("tokyo-1", "bybit", robots={"onCredentialChange": "restart"})
    rig.begin()
    robot.start = "fails"
    assert rig.apply().code == 6
    assert server.robots_running() == {2}
    robot.start = "ok"

    printed = harness.run("left")

    assert "robots owed a start" in printed
    assert server.robots_running() == {1, 2}


def test_a_backup(harness: Harness) -> None:
    rig = harness.rig
    rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    assert rig.apply().code == 0

    printed = harness.run("backup")

    assert "every row can be read" in printed


def test_a_restored_ledger(harness: Harness) -> None:
    rig = harness.rig
    rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    assert rig.apply().code == 0
    (ledger,) = (rig.home / "state").rglob("ledger.db")
    copy = ledger.with_name("restored")
    shutil.copy(ledger, copy)
    copy.replace(ledger)
    suspicious = rig.apply()

    printed = harness.run("restored")

    assert "no reboot and no invalidation will be done" in suspicious.text
    assert "accepted: " in printed
    assert "no reboot" not in rig.apply().text


def test_whether_everything_is_in_order(harness: Harness) -> None:
    rig = harness.rig
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()

    printed = harness.run("doctor")

    assert "server.login  accepted" in printed
    assert "not visited (--no-visit)" in printed
    assert len(server.record.handshakes) == 1
    assert rig.apply().code == 0
    seen = len(server.record.handshakes)

    printed = harness.run("explain")

    assert printed.count("tokyo-1/bybit: in sync  (in-sync)") == 2
    assert "tokyo-1/reboot: not planned  (not-asked)" in printed
    assert "nobody agreed to put it back" in printed
    assert len(server.record.handshakes) == seen + 1


def test_requests_for_a_fleet(harness: Harness) -> None:
    rig = harness.rig
    servers = [rig.server(name, behaviour=QUICK) for name in ("tokyo-1", "osaka-1")]
    for name in ("tokyo-1", "osaka-1"):
        rig.document(name, "bybit", supervised=True)
    rig.begin()
    assert rig.apply().code == 0

    another_second()
    harness.run("fleet")
    applied = rig.apply()

    assert applied.code == 0, applied.text
    assert [server.record.reboots for server in servers] == [1, 1]
    assert [server.robots_running() for server in servers] == [{1, 2}, {1, 2}]


def test_the_audit_in_the_sandbox(tmp_path: Path, watch: Watch) -> None:
    text, home = page("docs/audit.md"), tmp_path / PRIVATE
    play = home / "jtr-play"
    box = play / "repository"
    environment = commands(home)

    def run(what: str) -> str:
        printed = "".join(
            shell(f". ../env.sh\n{block}", box, environment) for block in blocks(text, what)
        )
        watch.search(what, printed)
        return printed

    args = (sys.executable, "-m", "reconciler", "sandbox", "--dir", str(play))
    with Running(args, {"HOME": str(home)}, typed=True) as sandbox:
        sandbox.until("end all servers")
        shell(". ../env.sh; jtr ledger init; jtr apply servers --auto-approve", box, environment)
        audited = run("try")
        sandbox.type("rotate bybit withdraws")
        sandbox.until("bybit is now version 2")
        stopped = run("try stopped")
        sandbox.type("mend bybit")
        sandbox.until("a good one now")
        mended = run("try mended")
        sandbox.type("quit")
        assert sandbox.end() == 0

    assert "3 keys: 2 ok, 1 attention, 0 blocked" in audited
    assert "Nothing to do" in audited
    assert "critical PERM_WITHDRAW" in stopped
    assert "the audit stops it: PERM_WITHDRAW" in stopped
    assert "3 keys: 2 ok, 1 attention, 0 blocked" in mended
    assert "Applied: 1 done, 0 failed" in mended


def test_the_way_to_a_ledger_in_vault(harness: Harness, bao: OpenBao) -> None:
    rig, text = harness.rig, page("deploy/README.md")
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    named = next(m["body"] for m in BLOCK.finditer(text) if m["run"] == "settings")
    rig.settings_file.write_text(f"{named}durations: {{settle: 1ms}}\n", "utf-8")
    (rig.home / "deploy").symlink_to(ROOT / "deploy")

    harness.run("vault", text, BAO_ADDR=bao.address, BAO_TOKEN=bao.root_token.reveal())
    begun = rig.jtr("ledger", "init")
    policy = (ROOT / "deploy/vault/apply.hcl").read_text("utf-8")
    bao.request("POST", "sys/policies/acl/deploying", {"policy": policy})
    token = bao.create_token(["jtr-ledger", "deploying"])
    rig.watch.guard(token.reveal(), "token")
    yes = ("--approve-recipient", "tokyo-1")
    applied = rig.apply(*yes, environment={"VAULT_TOKEN": token.reveal()})

    assert begun.code == 0, begun.text
    assert "takes writes without check-and-set" not in begun.text
    assert applied.code == 0, applied.text
    assert server.record.saves == 1


def test_positive_control_a_block_that_fails_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit 3"):
        shell("echo before; (exit 3); echo after", tmp_path, {})
