"""
A small fleet that is in good order, with something new to write, just before one thing goes bad.

`tokyo-1` is the server to which the bad thing happens, `osaka-1` the one that must not mind.
"""

import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.bad_input_tls import Authority
from tests.support.durations import DURATIONS
from tests.support.rig import Ran, Rig

DOCUMENT = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: {name}}}
spec:
  url: {url}
  accessSecret: {path}/{name}#access_secret
  exchanges:
    bybit: {{credentials: {path}/{name}/bybit}}
"""
OWN_FIELDS = """\
    okx:
      credentials:
        apiKey: {path}/{name}/okx#apiKey
        secret: {path}/{name}/okx#secret
        password: {path}/{name}/okx#password
"""
STORED = {"apiKey": "api_key", "secret": "api_secret", "password": "password"}
PATIENT = {
    "connect": "60s",
    "authenticate": "60s",
    "request": "60s",
}
HASTY = {"authenticate": "300ms", "request": "400ms"}  # where the server does not answer
SHORT = {
    "leaseWait": "100ms",
    "quiesce": "5ms",  # no fatal path runs in these tests
}


class Setup:
    """
    See the module; changes are made with its methods and taken back by `mend`.

    `environment` is laid over the rig's own; an empty value counts as unset.
    """

    def __init__(self, rig: Rig, sealed: OpenBao, *, tls: bool = False) -> None:
        self.rig = rig
        self.sealed = sealed
        self.home = rig.home
        self.docs = rig.docs
        self.environment: dict[str, str] = {}
        self.planned = ""  # the name of what there is to do, once somebody asked
        self.authority = Authority(rig.home / "private") if tls else None
        self.bad = rig.server("tokyo-1", tls=self._certificate())
        self.good = rig.server("osaka-1")
        self.address = self.bad.url  # stays in the documents, wherever the server goes
        self._known: dict[str, dict[str, str]] = {}
        self._undo = ExitStack()
        self.use()
        self._write(self.bad, "tokyo-1", DOCUMENT + OWN_FIELDS)
        self._write(self.good, "osaka-1", DOCUMENT)
        self._secret = rig.bao.request("GET", f"secret/data/{rig.path('tokyo-1')}").data["data"]
        self.news()
        rig.begin()
        first = rig.apply()
        assert first.code == 0, first.text
        self.news()
        self._keep()

    def _certificate(self) -> Any:
        return None if self.authority is None else self.authority.context()

    def _write(self, server: StandInThread, name: str, template: str) -> None:
        path = self.rig.reference("x").removesuffix("/x")
        self.rig.write(f"{name}.yaml", template.format(name=name, url=server.url, path=path))

    # ── what may be bad ──────────────────────────────────────────────────────────────────

    def news(self) -> None:
        """Write new credentials of every exchange to OpenBao: something to do for everybody."""
        for server, exchange in (("tokyo-1", "bybit"), ("tokyo-1", "okx"), ("osaka-1", "bybit")):
            values = self.rig.rotate(server, exchange)
            self._known |= {f"{server}/{exchange}": values}

    def use(self, **changes: Any) -> None:
        """Write the settings with these changes; what waits in vain is made to wait briefly."""
        timeouts = DURATIONS | PATIENT | SHORT | changes.pop("durations", {})
        if self.authority is not None:
            changes.setdefault("tls", [{"urls": [self.address], "caFile": self.authority.file}])
        self.rig.settings(durations=timeouts, **changes)

    def edit(self, old: str, new: str, file: str = "tokyo-1.yaml") -> None:
        """Replace text in a document."""
        path = self.docs / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1, old
        path.write_text(text.replace(old, new), "utf-8")

    def later(self, undo: Callable[..., object], *args: Any) -> None:
        """Call this when everything is put in order again."""
        self._undo.callback(undo, *args)

    def secret_of(self, exchange: str) -> str:
        """Return the path of the credentials of `tokyo-1` below their mount."""
        return self.rig.path(f"tokyo-1/{exchange}")

    def log_in_with(self, access_secret: object) -> None:
        """Put another access secret for `tokyo-1` into OpenBao."""
        self.rig.put("tokyo-1", access_secret=access_secret)
        self.later(lambda: self.rig.put("tokyo-1", **self._secret))

    # ── what is seen ─────────────────────────────────────────────────────────────────────

    def holds_newest(self, server: str, exchange: str) -> bool:
        """Whether a server really stores what OpenBao holds."""
        stored = (self.bad if server == "tokyo-1" else self.good).values()
        return all(
            stored.get(f"{exchange}_{STORED[name]}") == value
            for name, value in self._known[f"{server}/{exchange}"].items()
        )

    def filled(self, text: str) -> str:
        """Return *text* with the scene's addresses and places put in."""
        names = {
            "bad": self.address,
            "good": self.good.url,
            "docs": self.docs,
            "home": self.home,
            "path": self.rig.reference("tokyo-1").removesuffix("/tokyo-1"),
            "vault": self.environment.get("VAULT_ADDR") or self.rig.bao.address,
        }
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def run(self, arguments: Iterable[str]) -> Ran:
        """Run `jtr` with these arguments."""
        return self.rig.jtr(*map(self.filled, arguments), environment=self.environment)

    # ── and in order again ───────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        """Remember documents and settings as they are, for `mend`."""
        shutil.copytree(self.docs, self.home / "kept" / "docs")
        shutil.copy(self.rig.settings_file, self.home / "kept" / "settings.yaml")

    def mend(self) -> None:
        """Put everything in order again, as people would."""
        self._undo.pop_all().close()
        self.environment = dict.fromkeys(self.environment, "") | {
            name: self.rig.environment[name]
            for name in self.environment
            if name in self.rig.environment
        }
        shutil.rmtree(self.docs)
        shutil.copytree(self.home / "kept" / "docs", self.docs)
        shutil.copy(self.home / "kept" / "settings.yaml", self.rig.settings_file)
        for field in fields(Behaviour):
            setattr(self.bad.behaviour, field.name, getattr(Behaviour(), field.name))


def ledger_file(setup: Setup) -> Path:
    """Return where the ledger of a scene lies."""
    return setup.home / "state" / "jtr" / "ledger.db"
