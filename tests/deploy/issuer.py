"""
A CI system's logins, without a CI system: JWTs under a key of this process, and the jobs that ask.
"""

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.deploy.tools import DEPLOY

REPOSITORY = "123456789"
AUDIENCE = "https://vault.internal:8200"
# What GitHub and GitLab say of a job, as far as anybody looks at it.
GITHUB: dict[str, Any] = {
    "repository": "desk/servers",
    "repository_id": REPOSITORY,
    "sub": "repo:desk/servers:environment:jtr-desk-apply",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "base_ref": "",
    "environment": "jtr-desk-apply",
    "event_name": "push",
}
GITHUB_PULL: dict[str, Any] = GITHUB | {
    "sub": "repo:desk/servers:environment:jtr-desk-plan",
    "ref": "refs/pull/7/merge",
    "base_ref": "main",
    "environment": "jtr-desk-plan",
    "event_name": "pull_request",
}
GITLAB: dict[str, Any] = {
    "project_path": "desk/servers",
    "project_id": REPOSITORY,
    "sub": "project_path:desk/servers:ref_type:branch:ref:main",
    "ref": "main",
    "ref_type": "branch",
    "ref_path": "refs/heads/main",
    "ref_protected": "true",
    "environment": "jtr-desk-apply",
    "pipeline_source": "push",
}
GITLAB_MERGE: dict[str, Any] = GITLAB | {
    "sub": "project_path:desk/servers:ref_type:branch:ref:new",
    "ref": "new",
    "ref_path": "refs/heads/new",
    "ref_protected": "false",
    "environment": "jtr-desk-plan",
    "pipeline_source": "merge_request_event",
}


def _plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs logins; `pem` is the key that Vault is told.  While it is entered it serves jobs."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.address = "https://ci.internal"
        self.claims: dict[str, Any] = {}
        self.given: list[str] = []
        self.asked: list[tuple[str, str]] = []  # audience, bearer
        self._server: ThreadingHTTPServer | None = None

    @property
    def pem(self) -> str:
        return (
            self._key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def jwt(self, claims: Mapping[str, Any], *, algorithm: str = "RS256", age: float = 0) -> str:
        """A login with *claims*, made *age* seconds ago; it is good for five minutes."""
        made = time.time() - age
        body = {"iss": self.address, "aud": AUDIENCE, "iat": made, "nbf": made, "exp": made + 300}
        body |= claims
        said = {name: value for name, value in body.items() if value is not None}
        parts = ({"alg": algorithm, "typ": "JWT"}, said)
        text = ".".join(_plain(json.dumps(part).encode()) for part in parts)
        if algorithm == "none":
            return f"{text}."
        return f"{text}.{_plain(self._key.sign(text.encode(), padding.PKCS1v15(), SHA256()))}"

    @property
    def variables(self) -> dict[str, str]:
        """What GitHub's runner tells a job that may have a login."""
        assert self._server is not None
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{self._server.server_port}/?v=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner-only",
        }

    def __enter__(self) -> Self:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                (audience,) = parse_qs(urlsplit(self.path).query)["audience"]
                issuer.asked.append((audience, self.headers.get("Authorization", "")))
                issuer.given.append(issuer.jwt(issuer.claims | {"aud": audience}))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"count": 1, "value": issuer.given[-1]}).encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def workflow(name: str) -> dict[str, Any]:
    """A workflow of deploy/github."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "github" / f"{name}.yaml").read_text("utf-8"))
    return found


def action() -> dict[str, Any]:
    """The composite action of deploy/github."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "github/action/action.yml").read_text("utf-8"))
    return found


def pipeline() -> dict[str, Any]:
    """The jobs of deploy/gitlab."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "gitlab/gitlab-ci.yaml").read_text("utf-8"))
    return found


def component(**inputs: str) -> dict[str, Any]:
    """The jobs that the component of deploy/gitlab becomes with these inputs."""
    text = (DEPLOY / "gitlab/templates/jtr.yml").read_text("utf-8")
    head, body = text.split("\n---\n")
    for name, given in yaml.safe_load(head)["spec"]["inputs"].items():
        body = body.replace(f"$[[ inputs.{name} ]]", inputs.get(name, given.get("default", "")))
    jobs: dict[str, Any] = yaml.safe_load(body)
    return {
        name: jobs[job["extends"]] | job for name, job in jobs.items() if not name.startswith(".")
    }


def github_steps(name: str) -> list[tuple[str, dict[str, str]]]:
    """The scripts of the one job of a workflow, each with its own variables."""
    (job,) = workflow(name)["jobs"].values()
    return [(step["run"], step.get("env", {})) for step in job["steps"] if "run" in step]


def started(
    script: str, cwd: Path, variables: Mapping[str, str], *options: str
) -> subprocess.Popen[str]:
    """Start a script as a runner does, in a session of its own."""
    return subprocess.Popen(
        ["/bin/bash", "--noprofile", "--norc", "-e", *options, "-c", script],
        cwd=cwd,
        env={"PATH": os.defpath, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
