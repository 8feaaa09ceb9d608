"""`jtr request reboot|invalidate-cache`: what it writes, what it says, and when it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.app import run
from reconciler.documents.load import load
from reconciler.errors import Exit
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.timestamps import spelled
from tests.support.leaks import Watch

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = """\
# our first server
apiVersion: jtr/v1
kind: TradingServer
metadata:
  name: tokyo-1
spec:
  url: https://tokyo-1.internal:8443   # behind the gateway
  supervised: true
  exchanges:
    bybit: {credentials: "vault:secret/jt/tokyo-1/bybit"}

  # nothing below here
"""
REBOOT = ("request", "reboot", "tokyo-1", "--robots", "resume", "--reason", "new okx secret")
CACHE = ("request", "invalidate-cache", "tokyo-1", "--reason", "stale")
FUTURE = "2190-03-01T12:00:00+09:00"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Harness:
    """A directory with documents, in which `jtr` runs."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    watch: Watch
    texts: dict[Path, bytes] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The document of tokyo-1."""
        return self.folder / "servers" / "tokyo-1.yaml"

    def jtr(self, *args: str) -> Ran:
        self.texts = self.everything()
        code = run(args)
        out, err = self.capture.readouterr()
        self.watch.search("its output", out + err)
        return Ran(code, out, err)

    def everything(self) -> dict[Path, bytes]:
        """Every file and what it holds."""
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def refuses(self, code: Exit, *words: str, args: tuple[str, ...]) -> Ran:
        """Run *args*, which must end with *code* and these words, and change no file."""
        ran = self.jtr(*args)
        assert (ran.code, ran.out) == (code, ""), ran
        for word in words:
            assert word in ran.err
        assert self.everything() == self.texts
        return ran

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text("utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new), "utf-8")


@pytest.fixture
def harness(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
) -> Harness:
    """A directory with one document, which is the current one."""
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "tokyo-1.yaml").write_text(DOCUMENT, "utf-8")
    monkeypatch.chdir(tmp_path)
    return Harness(tmp_path, capsys, watch)


# ── what it writes and says ──────────────────────────────────────────────────────────────────


def test_a_reboot_for_now(harness: Harness) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    ran = harness.jtr(*REBOOT)

    wish = load([str(harness.folder)]).state.servers[0].reboot
    assert wish is not None
    assert before <= wish.instant <= datetime.now(UTC)
    assert (wish.kind, wish.robots, wish.reason) == (
        RequestKind.REBOOT,
        Afterwards.RESUME,
        "new okx secret",
    )
    assert (wish.expires_after, wish.resume_within) == (timedelta(hours=24), timedelta(minutes=10))
    instant = spelled(wish.instant)
    expires = spelled(wish.instant + timedelta(hours=24))
    assert ran == Ran(
        Exit.DONE,
        f"""\
--- a/servers/tokyo-1.yaml
+++ b/servers/tokyo-1.yaml
@@ -8,5 +8,9 @@
   supervised: true
   exchanges:
     bybit: {{credentials: "vault:secret/jt/tokyo-1/bybit"}}
+  reboot:
+    bootedAfter: "{instant}"
+    robots: resume
+    reason: "new okx secret"
\x20
   # nothing below here

wrote into servers/tokyo-1.yaml: reboot {instant} of tokyo-1
  nothing is sent by this; it is done once, by the apply that finds it
  commit and merge it until {expires}; after that it is expired and not done any more
  it restarts the JT-Trader process: all robots of all accounts stop
  robots: resume: those that ran are started again within 10 min of the boot; those of other \
accounts stay stopped
""",
        "",
    )


def test_a_schedule_with_all_options(harness: Harness) -> None:
    args = ("--at", FUTURE, "--expires-after", "1d12h", "--resume-within", "90s")
    ran = harness.jtr(*REBOOT, *args, "-o", "json")

    wish = load([str(harness.folder)]).state.servers[0].reboot
    assert wish is not None
    assert wish.instant == datetime(2190, 3, 1, 3, tzinfo=UTC)
    assert (wish.expires_after, wish.resume_within) == (
        timedelta(hours=36),
        timedelta(seconds=90),
    )
    document = json.loads(ran.out)
    change = document.pop("diff")
    assert document == {
        "file": "servers/tokyo-1.yaml",
        "server": "tokyo-1",
        "kind": "reboot",
        "instant": "2190-03-01T03:00:00Z",
        "expires": "2190-03-02T15:00:00Z",
    }
    assert '+    bootedAfter: "2190-03-01T03:00:00Z"\n' in change
    assert (ran.code, ran.err) == (Exit.DONE, "")


def test_an_invalidation_and_a_schedule_in_words(harness: Harness) -> None:
    ran = harness.jtr(*CACHE, "--at", FUTURE, "--from", "servers/tokyo-1.yaml")

    wish = load([str(harness.folder)]).state.servers[0].cache
    assert wish is not None
    assert (wish.kind, wish.reason) == (RequestKind.CACHE, "stale")
    assert ran.code == Exit.DONE
    assert "until 2190-03-02T03:00:00Z" in ran.out
    assert "not done before 2190-03-01T03:00:00Z" in ran.out
    assert "robots store data in the cache" in ran.out
    assert "restarts" not in ran.out


def test_both_kinds_and_a_later_one_of_the_same(harness: Harness) -> None:
    assert harness.jtr(*CACHE, "--at", "2190-01-01T00:00:00Z").code == Exit.DONE
    assert harness.jtr(*REBOOT, "--at", "2190-01-01T00:00:00Z").code == Exit.DONE
    ran = harness.jtr(*CACHE, "--at", "2190-01-01T00:00:00.5Z")

    assert ran.code == Exit.DONE
    assert "takes the place of the request of 2190-01-01T00:00:00Z" in ran.out
    kinds = [wish.kind for wish in load([str(harness.folder)]).state.servers[0].one_shots]
    assert kinds == [RequestKind.CACHE, RequestKind.REBOOT]
    left = harness.file.read_text("utf-8").splitlines()
    assert [line for line in left if line in DOCUMENT.splitlines()] == DOCUMENT.splitlines()


def test_robots_that_are_left_and_an_account_that_is_alone(harness: Harness) -> None:
    harness.edit("  supervised: true\n", "  supervised: true\n  soleAccount: true\n")
    first = harness.jtr(*REBOOT, "--at", "2190-01-01T00:00:00Z")
    second = harness.jtr(
        *REBOOT[:4], "leave", "--reason", "x", "--at", "2190-01-02T00:00:00Z", "--from", "servers"
    )

    assert "other accounts" not in first.out
    assert "robots: leave: they stay stopped" in second.out


def test_a_server_that_is_only_observed_is_edited_and_it_is_said(harness: Harness) -> None:
    harness.edit("  supervised: true\n", "  supervised: true\n  mode: observe\n")
    said = "nothing is done on tokyo-1 while it is only observed"

    text = harness.jtr(*REBOOT)
    document = harness.jtr(*CACHE, "-o", "json")

    assert (text.code, text.err) == (Exit.DONE, "")
    assert said in text.out
    assert json.loads(document.out)["kind"] == "invalidate-cache"
    assert said in document.err


def test_supervised_may_come_from_defaults(harness: Harness) -> None:
    harness.edit("  supervised: true\n", "")
    (harness.folder / "defaults.yaml").write_text(
        "apiVersion: jtr/v1\nkind: Defaults\nspec: {supervised: true}\n", "utf-8"
    )

    assert harness.jtr(*REBOOT).code == Exit.DONE
    assert "reboot" not in (harness.folder / "defaults.yaml").read_text("utf-8")


def test_a_foreign_document_cannot_drive_the_terminal(harness: Harness) -> None:
    ours = DOCUMENT.partition("\n  # nothing")[0]
    harness.file.write_text(f"{ours}---\napiVersion: v1\nkind: Other  # \u202e\n", "utf-8")

    ran = harness.jtr(*CACHE)

    assert ran.code == Exit.DONE, ran.err
    assert "\\u202e" in ran.out
    assert "\u202e" not in ran.out


# ── when it refuses ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((*CACHE, "--at", "tomorrow"), ("--at is no instant", "zone")),
        ((*CACHE, "--at", "2190-01-01T00:00:00"), ("--at is no instant",)),
        ((*CACHE, "--at", "2190-02-30T00:00:00Z"), ("--at is no instant",)),
        ((*CACHE, "--at", ""), ("--at is no instant",)),
        ((*CACHE, "--at", "2026-01-01T00:00:00Z"), ("is expired already", "--at")),
        ((*CACHE, "--expires-after", "0s"), ("--expires-after", "at most 30d")),
        ((*CACHE, "--expires-after", "-1h"), ("--expires-after", "at most 30d")),
        ((*CACHE, "--expires-after", "721h"), ("--expires-after", "at most 30d")),
        ((*CACHE, "--expires-after", "soon"), ("--expires-after", "at most 30d")),
        ((*CACHE, "--expires-after", ""), ("--expires-after", "at most 30d")),
        ((*REBOOT, "--resume-within", "25h"), ("--resume-within", "at most 1d")),
        ((*REBOOT, "--robots", "leave", "--resume-within", "5m"), ("--robots leave starts none",)),
        ((*REBOOT, "--robots", "maybe"), ("'maybe' is not one of 'resume', 'leave'",)),
        (("request", "reboot", "tokyo-1", "--reason", "x"), ("Missing option '--robots'",)),
        (("request", "invalidate-cache", "tokyo-1"), ("Missing option '--reason'",)),
        ((*CACHE[:-1], " "), ("--reason is empty",)),
        ((*CACHE[:-1], "two\nlines"), ("--reason is empty, longer than one line",)),
        ((*CACHE[:-1], "\x1b[2J"), ("characters that nobody can see",)),
        ((*CACHE[:-1], "x" * 301), ("at most 300 characters",)),
        (("request", "invalidate-cache", "kyoto", "--reason", "x"), ("kyoto", "known: tokyo-1")),
        ((*CACHE, "--from", "nowhere"), ("no such file or directory",)),
        (("request", "rebot", "tokyo-1"), ("No such command 'rebot'",)),
        ((*CACHE, "--robots", "leave"), ("No such option",)),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else None,
)
def test_wrong_command_lines(
    harness: Harness, args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    harness.refuses(Exit.USAGE, *words, args=args)


@pytest.mark.parametrize("shape", ["base62-long", "hex", "pem", "jwt"])
def test_a_pasted_key_as_reason_is_refused_and_not_echoed(harness: Harness, shape: str) -> None:
    secret = harness.watch.secret(shape).replace("\n", " ")

    ran = harness.refuses(Exit.USAGE, "--reason", args=(*CACHE[:-1], f"because {secret}"))

    assert secret not in ran.err


@pytest.mark.parametrize("at", ["2190-01-01T00:00:00Z", "2189-12-31T23:59:59Z", None])
def test_what_would_be_superseded(harness: Harness, at: str | None) -> None:
    assert harness.jtr(*REBOOT, "--at", "2190-01-01T09:00:00+09:00").code == Exit.DONE

    args = REBOOT if at is None else (*REBOOT, "--at", at)
    harness.refuses(
        Exit.BLOCKED,
        "carries a request of 2190-01-01T00:00:00Z already (./servers/tokyo-1.yaml:12:5)",
        "superseded",
        args=args,
    )


def test_a_suspended_server(harness: Harness) -> None:
    harness.edit("  supervised: true\n", "  suspend: {by: alice, reason: moving}\n")

    harness.refuses(Exit.BLOCKED, "suspended by alice: moving", args=CACHE)

    harness.edit("moving}", "moving, until: '2190-01-01T00:00:00Z'}")
    harness.refuses(Exit.BLOCKED, "suspended by alice: moving", args=CACHE)

    harness.edit("2190", "2020")
    assert harness.jtr(*CACHE).code == Exit.DONE


def test_a_reboot_without_anything_that_restarts_the_process(harness: Harness) -> None:
    harness.edit("  supervised: true\n", "")

    ran = harness.refuses(Exit.INVALID, args=REBOOT)

    assert ran.err == (
        "./servers/tokyo-1.yaml:6:1: a reboot needs something that starts the process again; write "
        "supervised: true if something restarts it after exit code 0\n"
        "jtr: 1 problem; nothing was done\n"
    )


def test_another_accounts_document_asks_already(harness: Harness) -> None:
    other = DOCUMENT.replace("tokyo-1\n", "tokyo-1b\n").replace(
        "  supervised: true",
        f'  account: "7"\n  cache: {{invalidatedAfter: "{FUTURE}", reason: x}}',
    )
    (harness.folder / "b.yaml").write_text(other, "utf-8")

    harness.refuses(Exit.INVALID, "another account's document of this server", args=CACHE)


def test_documents_that_are_invalid_already(harness: Harness) -> None:
    (harness.folder / "b.yaml").write_text("apiVersion: jtr/v1\nkind: Nothing\n", "utf-8")

    harness.refuses(Exit.INVALID, "b.yaml:2:7", args=CACHE)


def behind(harness: Harness) -> str:
    harness.file.rename(harness.folder / "servers" / "real")
    harness.file.symlink_to("real")
    return "."


def linked_file(harness: Harness) -> str:
    behind(harness)
    return "servers/tokyo-1.yaml"


def linked_folder(harness: Harness) -> str:
    (harness.folder / "servers").rename(harness.folder / ".hidden")
    (harness.folder / "servers").symlink_to(".hidden")
    return "."


@pytest.mark.parametrize("prepare", [behind, linked_file, linked_folder])
def test_links_are_not_written_through(harness: Harness, prepare: Callable[[Harness], str]) -> None:
    place = prepare(harness)

    harness.refuses(Exit.USAGE, "is a link, or lies behind one", args=(*CACHE, "--from", place))


def test_a_linked_directory_that_was_named_is_fine(harness: Harness) -> None:
    (harness.folder / "link").symlink_to("servers")

    assert harness.jtr(*CACHE, "--from", "link").code == Exit.DONE
    assert "cache:" in harness.file.read_text("utf-8")


def test_without_ruamel(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)

    harness.refuses(Exit.ERROR, "ruamel.yaml", "jt-reconciler[edit]", args=CACHE)


# ── what it never does ───────────────────────────────────────────────────────────────────────

PROBE = """
import json, sys
def tell(event, args):
    if event.startswith(("socket.", "sqlite3.", "subprocess.")):
        events.append(event)
events = []
sys.addaudithook(tell)
from reconciler.cli.app import run
code = run(json.loads(sys.argv[1]))
print()
print(json.dumps([code, events, sorted(sys.modules)]))
"""


def probed(harness: Harness, *args: str) -> tuple[Any, ...]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(args)],
        cwd=harness.folder,
        env={"PATH": os.defpath, "HOME": str(harness.folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return tuple(found)


def test_it_contacts_nothing_and_imports_no_more_than_it_needs(harness: Harness) -> None:
    heavy = {"aiohttp", "hvac", "requests", "rich", "socketio", "sqlite3", "jsonschema", "asyncio"}

    code, events, modules = probed(harness, *REBOOT)
    assert (code, events, heavy & set(modules)) == (Exit.DONE, [], set())
    assert "ruamel.yaml" in modules

    code, events, modules = probed(harness, "show", "tokyo-1")
    assert (code, "ruamel.yaml" in modules, "tempfile" in modules) == (Exit.DONE, False, False)

    code, events, modules = probed(harness, "request", "--help")
    assert (code, {"ruamel.yaml", "yaml", *heavy} & set(modules)) == (Exit.DONE, set())
