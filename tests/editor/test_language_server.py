"""
What an editor shows of our documents, told by yaml-language-server over standard input and output.

Skipped where it is not installed; `make tools` does that where npm is.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reconciler.cli.app import cli

HERE = Path(__file__).parent
SERVER = HERE / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None or not SERVER.is_file(), reason="npm's yaml-language-server is not here"
)

DOCUMENTS = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {name: tokyo-1}
spec:
  url: https://tokyo-1.internal:8443
  exchanges:
    by
---
# of the second
apiVersion: jtr/v1
kind: TradingServer
metadata: {name: tokyo-2}
spec:
  url: https://tokyo-2.internal:8443
  mode: enforced
"""


class Editor:
    """Speaks the language server protocol: one request at a time."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._number = 0
        self.diagnostics: dict[str, list[dict[str, Any]]] = {}

    def ask(self, method: str, params: object) -> Any:
        self._number += 1
        number = self._number
        self._send({"id": number, "method": method, "params": params})
        while True:
            got = self._receive()
            if got.get("id") == number and "method" not in got:
                assert "error" not in got, got
                return got["result"]

    def tell(self, method: str, params: object) -> None:
        self._send({"method": method, "params": params})

    def judged(self, uri: str) -> list[dict[str, Any]]:
        while uri not in self.diagnostics:
            self._receive()
        return self.diagnostics[uri]

    def _send(self, body: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        text = json.dumps({"jsonrpc": "2.0", **body}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        length = 0
        while (line := self._process.stdout.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended"
        got: dict[str, Any] = json.loads(self._process.stdout.read(length))
        if got.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[got["params"]["uri"]] = got["params"]["diagnostics"]
        elif "method" in got and "id" in got:  # it asks us for our configuration
            items = got.get("params", {}).get("items", [])
            self._send({"id": got["id"], "result": [None for _ in items]})
        return got


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Editor]:
    with subprocess.Popen(
        [str(NODE), str(SERVER), "--stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as process:
        found = Editor(process)
        root = tmp_path.as_uri()
        found.ask("initialize", {"processId": None, "rootUri": root, "capabilities": {}})
        found.tell("initialized", {})
        yield found
        process.kill()


@pytest.mark.timeout(60)
def test_codes_are_offered_and_a_mistake_is_shown(tmp_path: Path, editor: Editor) -> None:
    file = tmp_path / "servers.yaml"
    file.write_text(DOCUMENTS.replace("    by\n", ""), "utf-8")
    done = CliRunner().invoke(cli, ["schema", "--install", str(tmp_path)])
    assert done.exit_code == 0, done.output
    text = file.read_text("utf-8").replace("  exchanges:\n", "  exchanges:\n    by\n")
    uri = file.as_uri()

    editor.tell(
        "textDocument/didOpen",
        {"textDocument": {"uri": uri, "languageId": "yaml", "version": 1, "text": text}},
    )
    rows = text.split("\n")
    at = {"line": rows.index("    by"), "character": 6}
    offered = editor.ask("textDocument/completion", {"textDocument": {"uri": uri}, "position": at})
    shown = {one["message"].split("\n")[0]: one["range"]["start"] for one in editor.judged(uri)}

    labels = [one["label"] for one in offered["items"]]
    assert {"bybit", "okx", "bybit-testnet", "binance"} <= set(labels)
    wrong = [where["line"] for what, where in shown.items() if "enforce" in what]
    assert wrong == [rows.index("  mode: enforced")]  # in the second document of the file
