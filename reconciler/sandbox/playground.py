"""
A place to play in: OpenBao, a stand-in JT-Trader with two robots, four stand-in exchanges, files.

`jtr sandbox` hands it to a person, `jtr demo` tells its story on it.  Everything is made up, lies
in one directory, listens on loopback only, and ends with the process.
"""

import os
import secrets
import shlex
import string
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from reconciler.errors import JtrError
from reconciler.model.secret import Secret
from reconciler.sandbox.exchanges.server import DIALECTS, GOOD, ExchangeStandIn, Traits
from reconciler.sandbox.jt_trader.faults import Behaviour
from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from reconciler.sandbox.openbao import OpenBao

SERVER: Final = "tokyo-1"
FAMILY: Final = "tokyo"  # what the others are called, with their number
_FIRST_PID: Final = 5000
REPOSITORY: Final = "repository"
"""
What would be somebody's Git repository: nothing else lies there.

So `jtr` takes it as the current directory, too; settings beside documents it refuses.
"""
DOCUMENTS: Final = "servers"  # as the pages call it: their commands are typed as they stand
POLICY: Final = "policy.yaml"
SETTLE: Final = "100ms"
INTERVAL: Final = "300ms"
ROWS: Final[Mapping[str, Mapping[str, str]]] = {
    "bybit": {"apiKey": "bybit_api_key", "secret": "bybit_api_secret"},
    "okx": {"apiKey": "okx_api_key", "secret": "okx_api_secret", "password": "okx_password"},
    "gateio": {"apiKey": "gateio_api_key", "secret": "gateio_api_secret", "uid": "gateio_user_id"},
    "kucoin": {
        "apiKey": "kucoin_api_key",
        "secret": "kucoin_secret",
        "password": "kucoin_password",
    },
}
"""
ccxt's names and the server's own, per exchange.

Written down apart from the driver, whose translation the demo judges by this table.
"""
DECLARED: Final = ("bybit", "okx", "gateio")
"""The exchanges that the first document declares; `kucoin` is left for somebody to connect."""

_LENGTH: Final = 36  # characters of a made-up value
_TRACE: Final = 8  # so many characters in a row of a secret are a leak
_TOKEN_LIFE: Final = "720h"  # noqa: S105  - a duration: a sandbox may stay up for weeks
_READ: Final = ("read",)
_MISSING: Final = (
    "pipx install 'jt-reconciler[sandbox]' (with --force where jt-reconciler is installed already)"
)
# What would win over, or contradict, the variables of the sandbox.
_FOREIGN: Final = (
    *("BAO_ADDR", "BAO_TOKEN", "BAO_TOKEN_FILE", "BAO_NAMESPACE", "BAO_CACERT"),
    *("VAULT_TOKEN_FILE", "VAULT_NAMESPACE", "VAULT_CACERT"),
)


class Playground:
    """
    OpenBao and the stand-ins while it is entered, and the files to use them, below *folder*.

    With more *servers* than one there are others like the first, each with keys of its own: for
    commands that look at many.  What is changed by hand is changed on the first.

    *tell* is called with every secret that is made up here, so that a test can look for traces.
    Raises JtrError when the extra `sandbox` is not installed or a server does not start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        servers: int = 1,
        behaviour: Behaviour | None = None,
        tell: Callable[[str], object] = lambda _secret: None,
    ) -> None:
        self.folder = folder
        self.repository = folder / REPOSITORY
        self.documents = self.repository / DOCUMENTS
        self.settings = folder / "settings.yaml"
        self._secrets: list[str] = []
        self._tell = tell
        try:
            self.bao = OpenBao()
        except JtrError as error:
            raise JtrError(error.what, _MISSING) from None
        self._note(self.bao.root_token.reveal())
        self._access_secret = self.made_up()
        self.robots = (Robot(1, "grid-btc", "bybit"), Robot(2, "arb", "okx"))
        self.server = StandInThread(
            access_secret=self._access_secret,
            robots=self.robots,
            additional=("kucoin", "mexc"),
            behaviour=behaviour,
        )
        self.others: dict[str, StandInThread] = {}
        self._access_secrets = {SERVER: self._access_secret}
        for number in range(2, servers + 1):
            name = f"{FAMILY}-{number}"
            self._access_secrets[name] = self.made_up()
            self.others[name] = StandInThread(
                access_secret=self._access_secrets[name],
                robots=(Robot(1, "grid-btc", "bybit"), Robot(2, "arb", "okx")),
                pid=_FIRST_PID + number,  # no two are one process
            )
        self.exchanges = {code: ExchangeStandIn(dialect) for code, dialect in DIALECTS.items()}
        self.in_vault: dict[str, dict[str, str]] = {}
        """What Vault holds: the server's name of each field and its value, per exchange."""
        self._token = Secret("")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.bao)
            stack.enter_context(self.server)
            for server in self.others.values():
                stack.enter_context(server)
            for exchange in self.exchanges.values():
                stack.enter_context(exchange)
            self._furnish()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ── secrets ──────────────────────────────────────────────────────────────────────────

    def made_up(self) -> str:
        """Return a new secret; `reveals` knows it from now on."""
        letters = string.ascii_letters + string.digits
        return self._note("".join(secrets.choice(letters) for _ in range(_LENGTH)))

    def reveals(self, text: str) -> bool:
        """Say whether *text* holds a trace of any secret of this playground."""
        return any(
            secret[start : start + _TRACE] in text
            for secret in self._secrets
            for start in range(len(secret) - _TRACE + 1)
        )

    def rotate(self, exchange: str, traits: Traits = GOOD) -> int:
        """
        Make a key at *exchange* for each server and put it into Vault; return its version there.
        """
        for name in self.others:
            if exchange in DECLARED:
                other = {field: self.made_up() for field in ROWS[exchange]}
                self.exchanges[exchange].know(other, traits)
                self.bao.put(f"jt/{name}/{exchange}", other)
        fields = {name: self.made_up() for name in ROWS[exchange]}
        return self._hand_over(exchange, fields, traits)

    def rotate_secret(self, exchange: str) -> int:
        """Put a new secret under the same API key into Vault; return the version."""
        stored = self.in_vault[exchange]
        fields = {name: stored[row] for name, row in ROWS[exchange].items()}
        return self._hand_over(exchange, fields | {"secret": self.made_up()}, GOOD)

    def change(self, exchange: str, traits: Traits) -> None:
        """Change, at *exchange*, what the key in Vault may do; Vault learns nothing of it."""
        api_key = self.in_vault[exchange][ROWS[exchange]["apiKey"]]
        self.exchanges[exchange].change(api_key, traits)

    def asked(self) -> int:
        """Return how many requests all exchanges have counted."""
        return sum(exchange.requests for exchange in self.exchanges.values())

    def _hand_over(self, exchange: str, fields: Mapping[str, str], traits: Traits) -> int:
        self.exchanges[exchange].know(fields, traits)
        self.in_vault[exchange] = {ROWS[exchange][name]: fields[name] for name in fields}
        return self.bao.put(f"jt/{SERVER}/{exchange}", fields)

    def spoil_access(self, *, back: bool = False) -> None:
        """Put a wrong access secret into Vault, or with *back* the right one again."""
        secret = self._access_secret if back else self.made_up()
        self.bao.put(f"jt/{SERVER}", {"access_secret": secret})

    def seal(self) -> Path:
        """Seal OpenBao, as its restart would; return the file with the key that unseals it."""
        file = self.folder / "unseal.key"
        _private(file, f"{self._note(self.bao.unseal_key())}\n")
        self.bao.seal()
        return file

    def lose_invalidations(self, *, lose: bool) -> None:
        """Let the server's connection end before it does what it is asked, or not any more."""
        self.server.behaviour.invalidate = "lost before effect" if lose else "answer"

    def _note(self, secret: str) -> str:
        self._secrets.append(secret)
        self._tell(secret)
        return secret

    def _new_token(self, policy: str, rights: Mapping[str, Iterable[str]]) -> Secret:
        self.bao.write_policy(policy, rights)
        token = self.bao.create_token([policy], ttl=_TOKEN_LIFE, default_policy=False)
        self._note(token.reveal())
        return token

    # ── files ────────────────────────────────────────────────────────────────────────────

    def environment(self) -> dict[str, str]:
        """Return the variables with which `jtr` works here; VAULT_TOKEN may only read."""
        return {
            "VAULT_ADDR": self.bao.address,
            "VAULT_TOKEN": self._token.reveal(),
            "JTR_SETTINGS": str(self.settings),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def declare(self, *present: str, absent: Iterable[str] = (), more: Iterable[str] = ()) -> None:
        """
        Write the document of the server: these exchanges present, those absent.

        *more* are further lines of its `spec`.
        """
        self._document(SERVER, self.server.url, present, absent, more)

    def _document(
        self,
        server: str,
        url: str,
        present: Iterable[str],
        absent: Iterable[str] = (),
        more: Iterable[str] = (),
    ) -> None:
        exchanges = [
            f'    {code}: {{credentials: "vault:secret/jt/{server}/{code}"}}' for code in present
        ]
        exchanges += [f"    {code}: {{state: absent}}" for code in absent]
        text = "\n".join(
            (
                "apiVersion: jtr/v1",
                "kind: TradingServer",
                f"metadata: {{name: {server}, owner: desk-asia}}",
                "spec:",
                f"  url: {url}",
                f"  accessSecret: vault:secret/jt/{server}#access_secret",
                "  supervised: true",
                *(f"  {line}" for line in more),
                "  exchanges:",
                *exchanges,
                "",
            )
        )
        (self.documents / f"{server}.yaml").write_text(text, "utf-8")

    def write_settings(self, *more: str) -> None:
        """Write the operator's settings; *more* are further lines at their end."""
        exchanges = self.exchanges.values()
        bases = "".join(f"    {one.dialect.ccxt_id}: {one.url}\n" for one in exchanges)
        self.settings.write_text(
            "# The operator's settings.  They never lie with the documents: whoever may change\n"
            "# them may send the Vault token elsewhere.\n"
            f"vault: {{address: {self.bao.address}}}\n"
            f"policy: {POLICY}  # which document may have which secret sent where\n"
            "audit:\n"
            "  # Asked instead of the real exchanges; keys never leave this host.\n"
            f"  bases:\n{bases}"
            "soleWriter: true  # no other ledger knows this server: reboots need that to be said\n"
            "durations:\n"
            f"  settle: {SETTLE}  # 10s when it is left out: people write two fields one by one\n"
            "  logLag: 1s  # 5s; this one's log shows what happened at most 0.4 s later\n"
            "  aftermath: 500ms  # 2s; after a write, until its harm would show in that log\n"
            "  reconnect: 100ms  # 2s; a real server needs a few seconds to boot\n"
            f"  interval: {INTERVAL}  # 1m; how often the controller looks\n"
            + "".join(f"{line}\n" for line in more),
            "utf-8",
        )

    def write_policy(self) -> None:
        """Write the operator's policy: this server may have the secrets of this sandbox."""
        (self.folder / POLICY).write_text(
            "# Whoever writes a document is not thereby allowed to have a secret.\n"
            "apiVersion: jtr/v1\n"
            "kind: Policy\n"
            "rules:\n"
            "  - name: sandbox\n"
            f"    servers: {{urls: [{', '.join(one.url for one in self._servers)}]}}\n"
            '    secrets: ["secret/jt/**"]\n'
            "    actions: [all]\n",
            "utf-8",
        )

    @property
    def _servers(self) -> tuple[StandInThread, ...]:
        return (self.server, *self.others.values())

    def write_shell_files(self) -> tuple[Path, Path]:
        """
        Write what a shell needs: a file to source, and a header for curl that may write secrets.

        Both hold tokens, so only their owner may read them.
        """
        writer = self._new_token(
            "sandbox-writer",
            {
                "secret/data/jt/*": ("create", "update", "patch", "read"),
                "secret/metadata/jt/*": _READ,
            },
        )
        lines = [
            "# Source this in the shell in which you try jtr; it is worth nothing once the",
            "# sandbox has ended.  The token may only read below secret/jt/.",
            f"unset {' '.join(_FOREIGN)}",
            *(f"export {key}={shlex.quote(value)}" for key, value in self.environment().items()),
            "",
        ]
        shell, header = self.folder / "env.sh", self.folder / "writer.header"
        _private(shell, "\n".join(lines))
        _private(header, f"X-Vault-Token: {writer.reveal()}\n")
        return shell, header

    def _furnish(self) -> None:
        # Least privilege also in play: whoever copies this setup copies the policy with it.
        self._token = self._new_token(
            "jtr", {"secret/data/jt/*": _READ, "secret/metadata/jt/*": _READ}
        )
        own = (self.folder / name for name in ("config", "state", "cache"))
        for folder in (self.folder, self.repository, self.documents, *own):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.write_policy()
        self.write_settings()
        self.spoil_access(back=True)
        for name, server in self.others.items():
            self.bao.put(f"jt/{name}", {"access_secret": self._access_secrets[name]})
            self._document(name, server.url, DECLARED)
        for exchange in DECLARED:
            self.rotate(exchange)
        self.declare(*DECLARED)


def _private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # of a sandbox that has ended
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
