"""`make image-base` asks a registry, and believes its bytes instead of its headers."""

import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.deploy.tools import DEPLOY, tool

INDEX = "application/vnd.oci.image.index.v1+json"


class Registry:
    """A registry on loopback with one image; `asked` are the paths that somebody wanted."""

    def __init__(self) -> None:
        self.manifest = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
        self.asked: list[tuple[str, str]] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                bearer = self.headers.get("Authorization", "")
                registry.asked.append((self.path, bearer))
                if self.path.startswith("/login"):
                    body = json.dumps({"token": "anybody"})
                elif bearer == "Bearer anybody":
                    body = registry.manifest
                else:
                    self.send_error(401)
                    return
                self.send_response(200)
                self.send_header("Content-Type", INDEX)
                self.send_header("Docker-Content-Digest", f"sha256:{'0' * 64}")  # a lie
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    thread = threading.Thread(target=registry.server.serve_forever)
    thread.start()
    yield registry
    registry.server.shutdown()
    registry.server.server_close()
    thread.join()


def renewed(folder: Path, registry: Registry, *tag: str) -> tuple[int, str, str]:
    """Run it beside a copy of our Dockerfile; returns its code, what it said, the base."""
    tool("curl")
    for name in ("base", "Dockerfile"):
        shutil.copy(DEPLOY / "docker" / name, folder)
    done = subprocess.run(
        [folder / "base", *tag],
        env={
            "PATH": "/usr/bin:/bin",
            "REGISTRY": registry.address,
            "REGISTRY_LOGIN": f"{registry.address}/login?service=x",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = (folder / "Dockerfile").read_text("utf-8").splitlines()
    (base,) = (line for line in lines if line.startswith("ARG PYTHON="))
    return done.returncode, done.stdout + done.stderr, base.removeprefix("ARG PYTHON=")


def test_the_digest_is_the_hash_of_what_the_tag_leads_to(
    tmp_path: Path, registry: Registry
) -> None:
    before = (DEPLOY / "docker" / "Dockerfile").read_text("utf-8").partition("ARG PYTHON=")[2]
    tag = before.partition("@")[0]
    digest = hashlib.sha256(registry.manifest.encode()).hexdigest()

    code, said, base = renewed(tmp_path, registry)

    assert code == 0, said
    assert base == f"{tag}@sha256:{digest}"
    assert said == f"python:{base}\n"
    assert registry.asked[-1] == (f"/v2/library/python/manifests/{tag}", "Bearer anybody")


def test_another_tag_can_be_asked_for(tmp_path: Path, registry: Registry) -> None:
    _, said, base = renewed(tmp_path, registry, "3.12.99-slim-bookworm")

    assert base.startswith("3.12.99-slim-bookworm@sha256:"), said


@pytest.mark.parametrize("manifest", ["{}", '{"mediaType": "application/x"}', ""])
def test_what_is_no_index_changes_nothing(
    tmp_path: Path, registry: Registry, manifest: str
) -> None:
    registry.manifest = manifest

    code, said, base = renewed(tmp_path, registry)

    assert code == 1
    assert "is no index of several platforms" in said
    assert f"ARG PYTHON={base}\n" in (DEPLOY / "docker" / "Dockerfile").read_text("utf-8")
