"""`jtr sandbox`: a real OpenBao and stand-ins of JT-Trader and exchanges, in the foreground."""

import fcntl
import os
import select
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Self

import click

from reconciler.errors import Exit, Interrupted, JtrError, UsageError
from reconciler.model.wording import counted
from reconciler.settings.paths import refuse_in_tree
from reconciler.system.console import say
from reconciler.system.interrupts import Stopped

if TYPE_CHECKING:
    from reconciler.sandbox.playground import Playground

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAP: Final = 0.5  # seconds
_MARK: Final = ".jtr-sandbox"  # in a directory that a sandbox made
_BODY: Final = '{"data": {"apiKey": "any-key-of-yours-1", "secret": "any-secret-of-yours"}}'
_HELP: Final = """\
  set FIELD [VALUE]    change a value on the server by hand (without VALUE to a made-up one)
  rotate EXCHANGE      make a key at the exchange and put it into OpenBao; one more word says how
                       it is made: good, withdraws (it may), unbound (to no address), expired
  mend EXCHANGE        at the exchange, make that key a good one
  seal                 seal OpenBao, and say where the key is for which `bao operator unseal` asks
  lose                 let invalidations be lost on their way: in doubt; `lose no` ends that
  robots               who runs
  stop-robot N         stop a robot by hand; start-robot N starts it
  record               what was really done to the server
  help                 this list
  quit                 end all servers
"""


@click.command("sandbox")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Write the example here and keep it; must be new, empty, or an ended sandbox's.",
)
@click.option(
    "--servers",
    type=click.IntRange(1, 50),
    default=1,
    show_default=True,
    help="How many stand-ins of JT-Trader; what is typed here is done to the first.",
)
@click.option("--keep", is_flag=True, help="Keep the temporary directory at the end.")
def command(directory: Path | None, *, servers: int, keep: bool) -> int:
    """
    Run a real OpenBao, a stand-in JT-Trader and stand-in exchanges on loopback until `quit`.

    Writes a directory with an example and says what to try.  Everything in it is made up, and
    OpenBao keeps its secrets in memory only.
    """
    from reconciler.sandbox.playground import Playground  # noqa: PLC0415  - it imports servers

    with (
        Stop() as stop,
        _place(directory, keep=keep) as folder,
        Playground(folder, servers=servers) as ground,
    ):
        click.echo(_instructions(ground))
        stop.check()
        with stop.at_once():
            _listen(_Console(ground))
    return Exit.DONE


# ── ending ───────────────────────────────────────────────────────────────────────────────────


class Stop:
    """
    Lets the first signal end the command between two deeds, the second one at once.

    Nothing is torn while servers start; once the end has begun, further signals change nothing,
    for whoever is impatient must not leave processes behind.
    """

    def __init__(self) -> None:
        self._number: signal.Signals | None = None
        self._raises = False
        self._raised = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.getsignal(number)
            if self._before[number] is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        if self._number is not None and not self._raised:
            self._raise(self._number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal raise wherever it arrives; none raises afterwards."""
        self._raises = True
        try:
            self.check()  # one that arrived just before
            yield
        finally:
            self._raised = True

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        again, self._number = self._number is not None, self._number or signal.Signals(number)
        if not self._raised and (self._raises or again):
            self._raise(self._number)

    def _raise(self, number: signal.Signals) -> None:
        self._raised = True
        if number is signal.SIGINT:
            raise Interrupted("interrupted")
        raise Stopped(f"stopped by {number.name}")


# ── the directory ────────────────────────────────────────────────────────────────────────────


@contextmanager
def _place(directory: Path | None, *, keep: bool) -> Iterator[Path]:
    if directory is not None:
        with _claimed(_usable(directory.absolute())) as folder:
            yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="jtr-sandbox-"))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _usable(directory: Path) -> Path:
    """Return *directory*, which is new, empty, or was made by a sandbox.  Raises UsageError."""
    try:
        refuse_in_tree(str(directory / "settings.yaml"), [str(directory / "repository")])
    except UsageError:
        raise UsageError(
            f"{directory} lies in a Git work tree",
            "choose a directory outside: settings are refused where documents come from",
        ) from None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        full = any(directory.iterdir())
        if full and not (directory / _MARK).is_file():
            raise UsageError(f"{directory} is not empty", "choose a new directory")
    except OSError:
        raise UsageError(f"{directory} cannot be used as a directory", "choose another") from None
    return directory


@contextmanager
def _claimed(directory: Path) -> Iterator[Path]:
    """Have *directory* for one sandbox alone; what an ended one left there begins anew."""
    mark = directory / _MARK
    used = mark.exists()
    with mark.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"a sandbox runs in {directory}", "end that one, or choose another directory"
            ) from None
        if used:
            _begin_anew(directory)
        yield directory


def _begin_anew(directory: Path) -> None:
    """
    Take away what was worth something only while its servers ran: ledger, key, their documents.

    OpenBao kept its secrets in memory, and addresses are others now.  Documents of yours stay.
    """
    from reconciler.sandbox.playground import DOCUMENTS, FAMILY, REPOSITORY  # noqa: PLC0415  - imports servers

    for name in ("state", "config", "cache"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for file in (directory / REPOSITORY / DOCUMENTS).glob(f"{FAMILY}-*.yaml"):
        file.unlink()
    say(f"{directory} begins anew: secrets, ledger and servers of the sandbox there are gone")


def _instructions(ground: "Playground") -> str:
    from reconciler.sandbox.playground import DOCUMENTS, SETTLE  # noqa: PLC0415  - imports servers

    files = ground.write_shell_files()
    shell, header = (shlex.quote(str(file)) for file in files)
    repository, docs = shlex.quote(str(ground.repository)), DOCUMENTS
    number = len(ground.others)
    others = f"           and {counted(number, 'server')} more like it\n" if number else ""
    return f"""\
OpenBao    {ground.bao.address}
JT-Trader  {ground.server.url}  a stand-in; robots grid-btc (1) on bybit and arb (2) on okx run
{others}Exchanges  stand-ins, which `jtr audit` asks instead of the real ones
Files      {ground.folder}
`settle` is {SETTLE} here instead of 10s: see settings.yaml there.

In another terminal:
  source {shell}
  cd {repository}
  jtr validate {docs}
  jtr plan {docs}
  jtr ledger init
  jtr apply {docs}
  jtr plan {docs}

What else to try, each followed by `jtr plan` and `jtr apply`:
  rotate a secret         type `rotate bybit` here, or in the other terminal
    curl -sS --noproxy '*' -H @{header} \\
      -d '{_BODY}' \\
      $VAULT_ADDR/v1/secret/data/jt/tokyo-1/bybit
  change a value by hand  type `set okx_api_secret` here; `jtr apply --correct-drift` puts it back
  connect by hand         type `set kucoin_api_key`, `set kucoin_secret`, `set kucoin_password` and
                          `rotate kucoin` here, then declare kucoin in {ground.documents}
  reboot, invalidate      `jtr request reboot tokyo-1 --robots resume --reason try --from {docs}`
  audit a key             declare `security` (docs/audit.md), type `rotate bybit withdraws` here,
                          then `jtr audit {docs}`

Type here (Ctrl-C or `quit` ends all servers):
{_HELP}"""


# ── what is typed here ───────────────────────────────────────────────────────────────────────


def _listen(console: "_Console") -> None:
    """Obey lines of standard input until `quit`; after its end, wait for a signal."""
    # No file object: a thread or a buffer that waits for input would outlive a signal.
    rest = b""
    while console.prompt() and (data := _read()):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if not console.obey(line.decode("utf-8", "replace")):
                return
    if rest and not console.obey(rest.decode("utf-8", "replace")):
        return
    while True:
        time.sleep(_NAP)


def _read() -> bytes:
    """Return what was typed, nothing at the end of the input."""
    try:
        # A signal that comes just before a system call is heeded after it, so none is endless.
        while not select.select([0], [], [], _NAP)[0]:
            pass
        return os.read(0, 4096)
    except OSError:
        return b""  # closed, or a terminal that went away


class _Console:
    """Obeys one line at a time.  Never prints a value."""

    def __init__(self, ground: "Playground") -> None:
        from reconciler.sandbox.exchanges import server as at  # noqa: PLC0415  - imports servers
        from reconciler.sandbox.playground import ROWS  # noqa: PLC0415  - it imports servers

        self._ground = ground
        self._ways = {
            "good": at.GOOD,
            "withdraws": at.WITHDRAWS,
            "unbound": at.UNBOUND,
            "expired": at.EXPIRED,
        }
        self._rows = ROWS
        self._verbs: dict[str, tuple[int, int, Callable[..., str]]] = {
            "set": (1, 2, self._set),
            "rotate": (1, 2, self._rotate),
            "mend": (1, 1, self._mend),
            "seal": (0, 0, self._seal),
            "lose": (0, 1, self._lose),
            "robots": (0, 0, self._robots),
            "stop-robot": (1, 1, lambda number: self._run(number, running=False)),
            "start-robot": (1, 1, lambda number: self._run(number, running=True)),
            "record": (0, 0, self._record),
            "help": (0, 0, lambda: _HELP.rstrip("\n")),
        }
        """Fewest and most words after a verb, and what it does."""

    def prompt(self) -> bool:
        """Show on a terminal that a line may be typed; always True."""
        if sys.stdin.isatty():
            click.echo("sandbox> ", nl=False)
        return True

    def obey(self, line: str) -> bool:
        """Do what *line* says; False for `quit`."""
        verb, *words = line.split() or [""]
        if verb == "quit":
            return False
        if not verb:
            return True
        fewest, most, do = self._verbs.get(verb, (0, -1, None))
        if do is None or not fewest <= len(words) <= most:
            click.echo("not understood; `help` lists what is")
            return True
        try:
            click.echo(do(*words))
        except JtrError as error:
            click.echo(str(error))
        return True

    def _set(self, name: str, value: str = "") -> str:
        known = [row for rows in self._rows.values() for row in rows.values()]
        if name not in known:
            return f"no such field here; there are {', '.join(known)}"
        self._ground.server.set_value(name, value or self._ground.made_up())
        return f"{name} changed on the server"

    def _rotate(self, exchange: str, how: str = "good") -> str:
        if exchange not in self._rows:
            return f"no such exchange here; there are {', '.join(self._rows)}"
        if how not in self._ways:
            return f"no such way here; there are {', '.join(self._ways)}"
        version = self._ground.rotate(exchange, self._ways[how])
        return f"{exchange} is now version {version} in OpenBao"

    def _mend(self, exchange: str) -> str:
        if exchange not in self._ground.in_vault:
            return f"no such key here; there are {', '.join(self._ground.in_vault)}"
        self._ground.change(exchange, self._ways["good"])
        return f"the key of {exchange} is a good one now; `jtr audit --fresh` asks about it anew"

    def _seal(self) -> str:
        return f"OpenBao is sealed; its key is in {self._ground.seal()}"

    def _lose(self, no: str = "") -> str:
        if no not in ("", "no"):
            return "`lose`, or `lose no`"
        self._ground.lose_invalidations(lose=not no)
        return f"invalidations are {'done again' if no else 'lost on their way'}"

    def _robots(self) -> str:
        running = self._ground.server.robots_running()
        return "\n".join(
            f"{robot.name} ({robot.id}) on {robot.exchange}: "
            f"{'running' if robot.id in running else 'stopped'}"
            for robot in self._ground.robots
        )

    def _run(self, number: str, *, running: bool) -> str:
        chosen = [robot.id for robot in self._ground.robots if str(robot.id) == number]
        if not chosen:
            return "no such robot; see `robots`"
        self._ground.server.set_running(chosen[0], running)
        return self._robots()

    def _record(self) -> str:
        record = self._ground.server.record
        return (
            f"{len(record.handshakes)} connections, {len(record.received)} events, "
            f"{self._ground.asked()} requests to exchanges\n"
            f"{record.saves} saves, {record.rows_written} fields written\n"
            f"{record.deletes} deletes, {record.rows_deleted} fields deleted\n"
            f"{record.fatal_paths} requests that failed inside the server, "
            f"{record.robot_stops} robots stopped by them or by a reboot\n"
            f"fields with a value: {', '.join(sorted(self._ground.server.values())) or 'none'}"
        )
