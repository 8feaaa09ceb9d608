"""
What a page of how-to is about: a home, servers, Vault, and what the other side saw at the end.

A page names its situation by `<!-- situation: NAME -->`, and what happens between its commands by
`<!-- meanwhile: NAME -->`; both are functions here.
"""

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import stored
from tests.house.pages import BIN
from tests.support.durations import DURATIONS
from tests.support.leaks import PRIVATE, Watch
from tests.support.rig import FIELDS, Rig

# Only what nobody need wait for is short: a loaded machine answers late.
SHORT: Final = {key: DURATIONS[key] for key in ("settle", "logLag", "aftermath", "reconnect")}
USER: Final = "/home/alice"
"""How a home is called in transcripts; the real one has as many characters."""
SPARE: Final = "https://tokyo-1-new.internal:8443"


class Situation(Rig):
    """A rig that looks like the home of somebody who just began, with the names of the pages."""

    def __init__(
        self, home: Path, bao: OpenBao, watch: Watch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        super().__init__(home, bao, watch, monkeypatch)
        self.settings_file.unlink()
        self.settings_file.parent.joinpath("policy.yaml").unlink()
        self.settings_file.parent.rmdir()
        self.docs.rmdir()
        self.docs = home / "servers"
        self.settings_file = home / ".config" / "jtr" / "settings.yaml"
        self.settings_file.parent.mkdir(parents=True)
        folder = home / PRIVATE / "bin"
        folder.mkdir()
        for name, target in (("jtr", "jtr"), ("bao", "bao"), ("vault", "bao")):
            (folder / name).symlink_to(BIN / target)
        self.environment = {
            "HOME": str(home),
            "PATH": f"{folder}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "VAULT_TOKEN": bao.root_token.reveal(),
            "BAO_TOKEN": bao.root_token.reveal(),
        }
        self.at_vault(bao.address)
        for name in ("jt/tokyo-1", "jt/osaka-1"):
            for path in (name, *(f"{name}/{code}" for code in ("bybit", "okx", "kucoin"))):
                bao.request("DELETE", f"secret/metadata/{path}")

    def path(self, name: str) -> str:
        return f"jt/{name}"

    def at_vault(self, address: str) -> None:
        """Let Vault be looked for there."""
        self.environment |= {"VAULT_ADDR": address, "BAO_ADDR": address}

    def furnish(self, *names: str, spec: Mapping[str, Any] | None = None, **options: Any) -> None:
        """
        Servers as their documents say, with what a person has in his home by then.

        *spec* adds to the documents, *options* are those of the servers.
        """
        self.docs.mkdir(exist_ok=True)
        self.settings(durations=SHORT | {"robot": "3s"}, soleWriter=True)
        for name in names:
            self.server(name, **options)
            self.document(name, "bybit", **{"supervised": True, **(spec or {})})
        self.quietly("ledger", "init")
        self.quietly("apply", "servers", "--auto-approve")

    def quietly(self, *args: str) -> None:
        """Run a command of which no transcript tells."""
        with self._monkeypatch.context() as patch:
            patch.chdir(self.home)
            done = self.jtr(*args)
        assert done.code == 0, done

    def connect(self, name: str, exchange: str, fields: Mapping[str, str]) -> None:
        """Let a person type an exchange's values on the server's own page."""
        for field, value in stored(exchange, dict(fields)).items():
            self.servers[name].set_value(field, value)

    def shown(self, text: str) -> str:
        """A page's words with the addresses of this situation."""
        for name, server in self.servers.items():
            text = text.replace(f"https://{name}.internal:8443", server.url)
        return text.replace("https://vault.internal:8200", self.bao.address)


@contextmanager
def entered(bao: OpenBao, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Situation]:
    """A situation in a clean home whose name has a length that is always the same."""
    home = Path("/tmp") / secrets.token_hex(len(USER) // 2 - 2)
    home = home.with_name(home.name[: len(USER) - len("/tmp/")])
    home.mkdir(mode=0o700)
    try:
        with Situation(home, bao, watch, monkeypatch) as situation:
            yield situation
        watch.search_folder(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


# ── situations: what was there before, and what the other side must have seen in the end ─────────

Check = Callable[[], None]


def nothing(situation: Situation) -> Check:
    """A server that nobody declared yet, whose access secret lies in a file, as does a key."""
    situation.docs.mkdir()
    server = situation.server("tokyo-1")
    access = situation.bao.request("GET", "secret/data/jt/tokyo-1").data["data"]
    situation.bao.request("DELETE", "secret/metadata/jt/tokyo-1")
    files = situation.home / PRIVATE
    key = _files(situation, {"bybit": ("apiKey", "secret")})["bybit"]
    (files / "server.json").write_text(_json(access), "utf-8")

    def check() -> None:
        assert server.values() == stored("bybit", key)
        assert server.record.saves == 1

    return check


def running(situation: Situation) -> Check:
    """A server as its document says; a new key lies in a file."""
    situation.furnish("tokyo-1")
    server = situation.servers["tokyo-1"]
    key = _files(situation, {"bybit": ("apiKey", "secret")})["bybit"]

    def check() -> None:
        assert server.values() == stored("bybit", key)
        assert server.record.saves == 2
        assert server.robots_running() == {1, 2}

    return check


def by_hand(situation: Situation) -> Check:
    """A server that a person configured: bybit with what Vault has, kucoin with something else."""
    situation.docs.mkdir()
    situation.settings(durations=SHORT, soleWriter=True)
    server = situation.server("tokyo-1")
    bybit = situation.rotate("tokyo-1", "bybit")
    kucoin = {name: situation.watch.secret() for name in ("apiKey", "secret", *FIELDS["kucoin"])}
    situation.connect("tokyo-1", "bybit", bybit)
    situation.connect("tokyo-1", "kucoin", kucoin)
    (situation.home / PRIVATE / "kucoin.json").write_text(_json(kucoin), "utf-8")
    new = _files(situation, {"bybit": ("apiKey", "secret")})["bybit"]

    def check() -> None:
        assert server.values() == stored("bybit", new) | stored("kucoin", kucoin)
        assert server.record.saves == 1, "the rotation, and nothing before it"

    return check


def two_servers(situation: Situation) -> Check:
    """Two servers as their documents say; one of them shall go."""
    situation.furnish("tokyo-1", "osaka-1")
    gone, stays = situation.servers["osaka-1"], situation.servers["tokyo-1"]

    def check() -> None:
        assert gone.values() == {}
        assert gone.record.rows_deleted == 2
        assert stays.record.saves == 1
        assert "osaka-1" not in situation.jtr("status").out

    return check


def moved(situation: Situation) -> Check:
    """A server as its document says, and an empty one at the address to which it shall move."""
    situation.furnish("tokyo-1")
    old = situation.servers["tokyo-1"]
    new = StandInThread(
        access_secret=situation.bao.request("GET", "secret/data/jt/tokyo-1").data["data"][
            "access_secret"
        ],
        robots=[Robot(id=1, name="grid-btc", exchange="bybit", running=False)],
        pid=4242,
    )
    situation._stack.enter_context(new)
    situation.servers["tokyo-1-new"] = new

    def check() -> None:
        assert new.values() == old.values() != {}
        assert (old.record.saves, new.record.saves) == (1, 1)

    return check


def unchanged(situation: Situation) -> Check:
    """A server as its document says, which must stay so."""
    situation.furnish("tokyo-1")
    server = situation.servers["tokyo-1"]
    before = server.values()

    def check() -> None:
        assert server.values() == before
        assert server.record.saves == 1
        assert server.robots_running() == {1, 2}

    return check


def stopped_robot(situation: Situation) -> Check:
    """A server whose robot our own restart left stopped."""
    robot = Robot(1, "grid-btc", "bybit")
    situation.furnish(
        "tokyo-1",
        robots=[robot, Robot(2, "arb", "okx")],
        spec={"robots": {"onCredentialChange": "restart"}},
    )
    server = situation.servers["tokyo-1"]
    situation.rotate()
    robot.start = "fails"
    ran = situation.jtr("apply", str(situation.docs), "--auto-approve")
    assert ran.code == 6, ran
    robot.start = "ok"
    assert server.robots_running() == {2}

    def check() -> None:
        assert server.robots_running() == {1, 2}

    return check


SITUATIONS: Final[Mapping[str, Callable[[Situation], Check]]] = {
    "nothing": nothing,
    "running": running,
    "by hand": by_hand,
    "two servers": two_servers,
    "moved": moved,
    "unchanged": unchanged,
    "a robot left stopped": stopped_robot,
}


# ── what happens meanwhile ───────────────────────────────────────────────────────────────────


def the_ledger_is_lost(situation: Situation) -> None:
    """The disk with the ledger is gone."""
    shutil.rmtree(situation.home / ".local" / "state" / "jtr")


def vault_goes_away(situation: Situation) -> None:
    """Nothing answers at Vault's address."""
    situation.at_vault("http://127.0.0.1:9")


def vault_is_back(situation: Situation) -> None:
    """Vault answers again."""
    situation.at_vault(situation.bao.address)


def ten_seconds_pass(situation: Situation) -> None:
    """A person is slower than `settle`; a test would wait for it."""
    with situation.settings_file.open("a", encoding="utf-8") as settings:
        settings.write("durations: {settle: 1ms}\n")


def robots_of_osaka_are_stopped(situation: Situation) -> None:
    """Somebody stops all robots on the server's own page."""
    for robot in (1, 2):
        situation.servers["osaka-1"].set_running(robot, running=False)


MEANWHILE: Final[Mapping[str, Callable[[Situation], None]]] = {
    "ten seconds pass": ten_seconds_pass,
    "the ledger is lost": the_ledger_is_lost,
    "vault goes away": vault_goes_away,
    "vault is back": vault_is_back,
    "the robots of osaka-1 are stopped": robots_of_osaka_are_stopped,
}


def _files(
    situation: Situation, wanted: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, str]]:
    """Made-up keys in files that only their owner reads, as somebody has who just made them."""
    made = {}
    for name, fields in wanted.items():
        made[name] = {field: situation.watch.secret() for field in fields}
        (situation.home / PRIVATE / f"{name}.json").write_text(_json(made[name]), "utf-8")
    return made


def _json(fields: object) -> str:
    import json  # noqa: PLC0415

    return json.dumps(fields)
