"""
A real OpenBao that keeps what was written over a restart, and is sealed at every start.
"""

import contextlib
import os
import subprocess
import time
from typing import Any

from reconciler.errors import JtrError
from reconciler.model.values import replace
from reconciler.sandbox.openbao import OpenBao, _free_port
from reconciler.system.timeouts import Timeouts

_START = 60.0  # seconds; it takes 3 on an idle machine with a quick disk
_BEGIN = 30.0  # its storage is made anew, and each step of that is written through to the disk
_CONFIG = """\
storage "raft" {{
  path = "{folder}/storage"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{inner}"
  tls_disable = true
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{inner}"
"""


class LastingOpenBao(OpenBao):
    """
    Like the sandbox's, with what production has: `stop` or `kill`, and `start` brings it back.

    Between the two it is down; for a moment after its start it is sealed.
    """

    _key = ""
    _inner = 0  # where it would speak to others of its kind; its storage remembers it

    def unseal(self) -> None:
        """Unseal it with its one key."""
        self._ask("PUT", "sys/unseal", {"key": self._key})

    def _answers(self) -> bool:
        """Say whether it can be used: for a moment after its start it takes no writes."""
        if not super()._answers():
            return False
        try:
            self.request("POST", "secret/data/ready", {"data": {"ready": "yes"}})
        except JtrError:
            if self._session is not None:
                self._session.close()
                self._session = None
            return False
        return True

    def _started(self, port: int) -> bool:
        """Start it on *port*; False when it did not get that port."""
        self.address = f"http://127.0.0.1:{port}"
        config = self._folder / "settings.hcl"
        self._inner = self._inner or _free_port()
        (self._folder / "storage").mkdir(exist_ok=True)
        text = _CONFIG.format(folder=self._folder, port=port, inner=self._inner)
        config.write_text(text, "utf-8")
        with (self._folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                [self._binary, "server", f"-config={config}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"HOME": str(self._folder), "PATH": os.defpath},
                cwd=self._folder,
                start_new_session=True,
            )
        self._start_watchdog(self._process.pid)
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if (code := self._process.poll()) is not None:
                self.stop()
                if b"address already in use" in (self._folder / "output.log").read_bytes():
                    return False
                raise self._not_started(f"exit code {code}")
            if self._serves():
                self._begin() if not self._key else self.unseal()
                break
            time.sleep(0.02)
        while time.monotonic() < end:
            if self._answers():
                return True
            time.sleep(0.02)
        self.stop()
        raise self._not_started("it does not become ready")

    def _serves(self) -> bool:
        with contextlib.suppress(JtrError):
            self._ask("GET", "sys/seal-status", patience=2.0)
            return True
        return False

    def _begin(self) -> None:
        """Make it new: one key, our root token, and `secret` as the sandbox's has it."""
        # Waited for: it gives its key in this answer and never again.
        made = self._ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self._key = made["keys_base64"][0]
        self.unseal()
        token = {"id": self.root_token.reveal(), "policies": ["root"], "no_parent": True}
        end = time.monotonic() + _START
        while True:  # active a moment after it was unsealed
            try:
                self._ask("POST", "auth/token/create", token, made["root_token"])
                break
            except JtrError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        kind = {"type": "kv", "options": {"version": "2"}}
        self._ask("POST", "sys/mounts/secret", kind, self.root_token.reveal())

    def _ask(
        self, method: str, path: str, body: Any = None, token: str = "", *, patience: float = _BEGIN
    ) -> dict[str, Any]:
        """Ask with the token given, or with none, for *patience* seconds.  Raises JtrError."""
        probe = self._session_with(replace(Timeouts(), connect=1.0, secrets_request=patience))
        secret = type(self.root_token)(token) if token else None
        try:
            answer = probe.wait(
                probe.exchange(method, f"/v1/{path}", token=secret, body=body, attempts=1)
            )
        finally:
            probe.close()
        if answer.status not in range(200, 300):
            raise JtrError(f"OpenBao refused {path} ({answer.status})", "see its log")
        return dict(answer.body)
