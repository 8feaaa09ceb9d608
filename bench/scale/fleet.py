"""
A fleet to measure on: stand-in servers, a real OpenBao with their secrets, documents, settings.

Every duration is the real one.  Nothing is ever asked of another machine.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Final, Self

import yaml

from bench.scale import limit
from bench.scale.measure import Ran, run
from bench.scale.standin import Standins
from reconciler.sandbox.openbao import OpenBao
from reconciler.system.timeouts import Timeouts

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "bybit": {"apiKey": "bybit_api_key", "secret": "bybit_api_secret"},
    "okx": {"apiKey": "okx_api_key", "secret": "okx_api_secret", "password": "okx_password"},
    "gateio": {"apiKey": "gateio_api_key", "secret": "gateio_api_secret", "uid": "gateio_user_id"},
    "kucoin": {
        "apiKey": "kucoin_api_key",
        "secret": "kucoin_secret",
        "password": "kucoin_password",
    },
    "mexc": {"apiKey": "mexc_api_key", "secret": "mexc_secret"},
    "kucoinfutures": {
        "apiKey": "kucoinfutures_api_key",
        "secret": "kucoinfutures_secret",
        "password": "kucoinfutures_password",
    },
    "bybit-testnet": {"apiKey": "bybit_testnet_api_key", "secret": "bybit_testnet_api_secret"},
}
"""Row names on the server by credential, by exchange."""
POLICY: Final[Mapping[str, Any]] = {
    "apiVersion": "jtr/v1",
    "kind": "Policy",
    "rules": [
        {"name": "all", "servers": {"urls": ["**"]}, "secrets": ["**"], "actions": ["all"]},
    ],
}
VERSIONS: Final = 20  # that KV version 2 keeps


class Fleet:
    """
    *count* servers with *exchanges* each, while it is entered.

    With *converged* the servers hold from the beginning what their documents want.
    """

    def __init__(self, count: int, exchanges: int = 5, *, converged: bool = False) -> None:
        self.count: Final = count
        self.codes: Final = tuple(FIELDS)[:exchanges]
        self.names: Final = [f"server-{number:05}" for number in range(count)]
        self.values: Final[dict[tuple[str, str], dict[str, str]]] = {}
        self.versions: Final[dict[tuple[str, str], int]] = {}
        self.secrets: Final = [token_hex(16) for _ in range(count)]
        self.standins: Final = Standins(count)
        self.bao: Final = OpenBao(processors=None)
        self.home = Path()
        self._converged: Final = converged
        self._written = 0.0
        self._stack: Final = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="jtr-bench-")
            self.home = Path(stack.enter_context(folder))
            stack.enter_context(self.standins)
            stack.enter_context(self.bao)
            self._begin()
            self._stack.push(stack.pop_all())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # ── what there is ────────────────────────────────────────────────────────────────────

    @property
    def docs(self) -> Path:
        """The documents, one file a server."""
        return self.home / "docs"

    @property
    def environment(self) -> dict[str, str]:
        """What `jtr` gets."""
        return {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "VAULT_ADDR": self.bao.address,
            "VAULT_TOKEN": self.bao.root_token.reveal(),
            "JTR_SETTINGS": str(self.home / "settings" / "settings.yaml"),
        }

    def url(self, number: int) -> str:
        """The URL of a server."""
        host, port = self.standins.places[number]
        return f"http://{host}:{port}"

    def document(self, number: int, **pinned: int) -> Path:
        """Write a server's document anew; *pinned* are versions by exchange."""
        name = self.names[number]
        exchanges = {
            code: {
                "credentials": f"vault:secret/jt/{name}/{code}"
                + (f"@{pinned[code]}" if code in pinned else "")
            }
            for code in self.codes
        }
        lines = [
            "apiVersion: jtr/v1",
            "kind: TradingServer",
            f"metadata: {{name: {name}, labels: {{env: bench}}}}",
            "spec:",
            f"  url: {self.url(number)}",
            f"  accessSecret: vault:secret/jt/{name}#access_secret",
            "  exchanges:",
            *(f"    {code}: {json.dumps(one)}" for code, one in exchanges.items()),
        ]
        fresh = self.home / f"{name}.tmp"
        fresh.write_text("\n".join(lines) + "\n", "utf-8")
        return fresh.rename(self.docs / f"{name}.yaml")

    def rotate(self, code: str, numbers: Iterable[int]) -> None:
        """Write new credentials of an exchange for some servers into OpenBao."""
        self._put(self._fresh(number, code) for number in numbers)

    def settled(self) -> None:
        """Wait until what was written last is as old as Vault's secrets have to be."""
        age = time.monotonic() - self._written
        time.sleep(max(0.0, Timeouts().settle + 1.5 - age))

    def stale(self, codes: Sequence[str] = ()) -> int:
        """Return how many servers lack the newest credentials of *codes*."""
        wanted = codes or self.codes
        return sum(
            any(
                rows.get(FIELDS[code][field]) != value
                for code in wanted
                for field, value in self.values[name, code].items()
            )
            for name, rows in zip(self.names, self.standins.rows(), strict=True)
        )

    # ── what is done ─────────────────────────────────────────────────────────────────────

    def command(self, *args: str) -> list[str]:
        """Return the command line of `jtr`."""
        beside = Path(sys.executable).parent / "jtr"
        return [
            *([str(beside)] if beside.exists() else [sys.executable, "-m", "reconciler"]),
            *args,
        ]

    def jtr(self, *args: str, bound: float, codes: Sequence[int] = (0,)) -> Ran:
        """Run the command."""
        return run(self.command(*args), self.environment, bound=bound, codes=codes)

    def begin_ledger(self, name: str = "ledger") -> None:
        """Begin an empty ledger, and use it from now on."""
        self._settings(name)
        self.jtr("ledger", "init", bound=60)

    def job(self, *, applies: bool = False) -> Path:
        """Write what the limit script has to do."""
        address = self.bao.address.removeprefix("http://").split(":")
        token = self.bao.root_token.reveal()
        job = {
            "vault": [address[0], int(address[1]), token],
            "reads": [
                f"/v1/secret/data/jt/{name}{rest}"
                for name in self.names
                for rest in ("", *(f"/{code}" for code in self.codes))
            ],
            "servers": [
                [*place, secret]
                for place, secret in zip(self.standins.places, self.secrets, strict=True)
            ],
            "saves": {
                self.standins.places[number][0]: [self._save(name, code) for code in self.codes]
                for number, name in enumerate(self.names)
                if applies
            },
            "journal": str(self.home / "journal"),
        }
        path = self.home / ("apply.json" if applies else "plan.json")
        path.write_text(json.dumps(job), "utf-8")
        return path

    def limit(self, job: Path, *, bound: float = 120) -> Ran:
        """Run the limit script."""
        return run([sys.executable, "-S", "-I", limit.__file__, str(job)], {}, bound=bound)

    def fill(self, *, empty: bool = False) -> None:
        """Let the servers hold what is wanted, or nothing."""
        told = [
            {
                "secret": secret,
                "rows": {
                    FIELDS[code][field]: value
                    for code in self.codes
                    if not empty
                    for field, value in self.values[name, code].items()
                },
            }
            for name, secret in zip(self.names, self.secrets, strict=True)
        ]
        self.standins.set(told)

    # ── beginnings ───────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        for folder in (self.docs, self.home / "settings"):
            folder.mkdir()
        self.bao.request("POST", "secret/config", {"max_versions": VERSIONS})
        self._put(
            (f"jt/{name}", {"access_secret": secret})
            for name, secret in zip(self.names, self.secrets, strict=True)
        )
        for code in self.codes:
            self._put(self._fresh(number, code) for number in range(self.count))
        self.fill(empty=not self._converged)
        for number in range(self.count):
            self.document(number)
        (self.home / "settings" / "policy.yaml").write_text(yaml.safe_dump(POLICY), "utf-8")
        self.begin_ledger()

    def _settings(self, ledger: str) -> None:
        folder = self.home / "settings"
        settings = {
            "ledger": f"sqlite:{self.home}/{ledger}/ledger.db",
            "soleWriter": True,
            "policy": str(folder / "policy.yaml"),
        }
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings), "utf-8")

    def _fresh(self, number: int, code: str) -> tuple[str, dict[str, str]]:
        name = self.names[number]
        fresh = {field: token_hex(16) for field in FIELDS[code]}
        self.values[name, code] = fresh
        self.versions[name, code] = self.versions.get((name, code), 0) + 1
        return f"jt/{name}/{code}", fresh

    def _save(self, name: str, code: str) -> str:
        rows = [
            {"name": FIELDS[code][field], "type": "string", "value": value, "label": ""}
            for field, value in self.values[name, code].items()
        ]
        body = {"event": "exchange-config-save", "payload": rows}
        return f"42{json.dumps(['message', body])}"

    def _put(self, secrets: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """Write secrets, many at a time: one after the other takes a minute for 60,000."""
        host, port = self.bao.address.removeprefix("http://").split(":")
        token = self.bao.root_token.reveal()

        def request(path: str, fields: Mapping[str, str]) -> bytes:
            body = json.dumps({"data": fields})
            return (
                f"POST /v1/secret/data/{path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
                f"X-Vault-Token: {token}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            ).encode()

        asyncio.run(limit.ask_vault(host, int(port), (request(*one) for one in secrets)))
        self._written = time.monotonic()


__all__ = ["FIELDS", "Fleet"]
