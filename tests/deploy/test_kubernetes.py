"""The Kustomize base: valid objects, restricted pods, closed networks."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.bootstrap import load_settings
from reconciler.documents.load import load
from reconciler.errors import LedgerError
from reconciler.ledger.stores import open_store
from reconciler.settings.model import DEFAULT_TIMEOUTS, AuthMethod, Role
from tests.deploy.dockerfile import parse
from tests.deploy.tools import DEPLOY, ran

BASE = DEPLOY / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))
RESOURCES = [BASE / name for name in KUSTOMIZATION["resources"]]
GENERATED = {one["name"]: one["files"] for one in KUSTOMIZATION["configMapGenerator"]}


COMPONENTS = sorted(path.parent for path in BASE.glob("*/kustomization.yaml"))


def objects() -> list[dict[str, Any]]:
    """All objects as written, without what Kustomize adds."""
    return [one for path in RESOURCES for one in yaml.safe_load_all(path.read_text("utf-8"))]


def one(kind: str, name: str = "") -> dict[str, Any]:
    """The object of a kind and name."""
    (found,) = [
        each
        for each in objects()
        if each["kind"] == kind and name in ("", each["metadata"]["name"])
    ]
    return found


def rendered() -> list[dict[str, Any]]:
    """What Kustomize would make, as far as our base uses it."""
    made = [*objects()]
    for name, files in GENERATED.items():
        data = {Path(file).name: (BASE / file).read_text("utf-8") for file in files}
        made.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
        )
    for each in made:
        if each["kind"] != "Namespace":
            each["metadata"]["namespace"] = KUSTOMIZATION["namespace"]
    (image,) = KUSTOMIZATION["images"]
    for each in made:
        if each["kind"] == "Deployment":
            for container in each["spec"]["template"]["spec"]["containers"]:
                assert container["image"] == image["name"]
                container["image"] = f"{image['newName']}:{image['newTag']}"
    return made


POD: dict[str, Any] = one("Deployment")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_the_kustomization_names_every_file_once() -> None:
    named = [*RESOURCES, *(BASE / file for files in GENERATED.values() for file in files)]
    apart = [file for folder in COMPONENTS for file in folder.iterdir()]
    present = [path for path in BASE.rglob("*") if path.is_file() and path not in apart]

    assert sorted([*named, BASE / "kustomization.yaml"]) == sorted(present)


def test_every_object_is_valid_and_has_no_unknown_field(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(rendered()), "utf-8")

    printed = ran("kubernetes-validate", "--strict", file)

    assert printed.count("passed for resource") == len(rendered())


def test_positive_control_a_misspelt_field_is_noticed(tmp_path: Path) -> None:
    wrong = one("Deployment")
    wrong["spec"]["template"]["spec"]["automountServiceAcountToken"] = False
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(wrong), "utf-8")

    assert "automountServiceAcountToken" in ran("kubernetes-validate", "--strict", file, code=1)


def test_the_pod_keeps_the_restricted_standard() -> None:
    assert (
        one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    )
    shared, own = POD["securityContext"], CONTAINER["securityContext"]
    assert shared["runAsNonRoot"] is True
    assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & POD.keys()
    kinds = {kind for volume in POD["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


def test_the_user_is_that_of_the_image() -> None:
    image = parse((DEPLOY / "docker" / "Dockerfile").read_text("utf-8"))[-1]
    user, _, group = image.last("USER").rest.partition(":")

    assert POD["securityContext"]["runAsUser"] == int(user)
    assert POD["securityContext"]["runAsGroup"] == int(group)
    assert POD["securityContext"]["fsGroup"] == int(group)
    assert image.last("VOLUME").command[0] in {
        mount["mountPath"] for mount in CONTAINER["volumeMounts"]
    }
    assert image.last("EXPOSE").rest == str(CONTAINER["ports"][0]["containerPort"])


def test_there_is_one_and_never_two() -> None:
    spec = one("Deployment")["spec"]

    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    assert POD["terminationGracePeriodSeconds"] >= 15
    assert one("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_it_is_asked_whether_it_lives_and_whether_it_is_ready() -> None:
    asked = {
        name: CONTAINER[name]["httpGet"]
        for name in ("livenessProbe", "readinessProbe", "startupProbe")
    }

    assert asked == {
        "livenessProbe": {"path": "/healthz", "port": "pages"},
        "readinessProbe": {"path": "/readyz", "port": "pages"},
        "startupProbe": {"path": "/healthz", "port": "pages"},
    }


def test_it_has_no_rights_in_the_cluster_and_a_token_for_vault_alone() -> None:
    account = one("ServiceAccount")
    tokens = [
        source["serviceAccountToken"]
        for volume in POD["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    ]

    assert account["automountServiceAccountToken"] is False
    assert POD["automountServiceAccountToken"] is False
    assert POD["serviceAccountName"] == account["metadata"]["name"]
    assert [token["audience"] for token in tokens] == ["vault"]
    assert not [each for each in objects() if "Role" in each["kind"]]


def test_the_network_is_closed_but_for_what_is_named() -> None:
    nothing, own = one("NetworkPolicy", "nothing")["spec"], one("NetworkPolicy", "jtr-controller")

    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for rule in own["spec"]["egress"]:
        assert rule["to"]
        assert rule["ports"]
    blocks = [
        to["ipBlock"]["cidr"]
        for rule in own["spec"]["egress"]
        for to in rule["to"]
        if "ipBlock" in to
    ]
    # Addresses for documentation (RFC 5737): nobody's, until somebody edits them.
    assert blocks[:2] == ["192.0.2.10/32", "198.51.100.0/24"]
    # Exchanges and notifications are anywhere but in private networks and at the cloud's own.
    anywhere = own["spec"]["egress"][-1]
    assert anywhere["ports"] == [{"protocol": "TCP", "port": 443}]
    assert [to["ipBlock"]["cidr"] for to in anywhere["to"]] == blocks[2:] == ["0.0.0.0/0", "::/0"]
    spared = [ip_network(one) for to in anywhere["to"] for one in to["ipBlock"]["except"]]
    for address in ("10.1.2.3", "172.20.0.1", "192.168.0.1", "169.254.169.254", "fd00::1"):
        assert any(ip_address(address) in one for one in spared), address
    # Prometheus and CI come in; CI by the ingress controller, for the token's sake.
    (come,) = own["spec"]["ingress"]
    names = [one["namespaceSelector"]["matchLabels"] for one in come["from"]]
    assert [name["kubernetes.io/metadata.name"] for name in names] == [
        *("monitoring", "ingress-nginx"),
    ]
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert own["spec"]["podSelector"]["matchLabels"] == labels
    assert one("Service")["spec"]["selector"] == labels
    assert one("Deployment")["spec"]["selector"]["matchLabels"] == labels


def test_its_node_can_be_drained() -> None:
    budget = one("PodDisruptionBudget")["spec"]

    assert budget["maxUnavailable"] == one("Deployment")["spec"]["replicas"]
    assert budget["selector"] == one("Deployment")["spec"]["selector"]


def component(name: str, file: str) -> dict[str, Any]:
    """The object in a file of a component."""
    document: dict[str, Any] = yaml.safe_load((BASE / name / file).read_text("utf-8"))
    return document


def test_a_service_monitor_finds_the_service() -> None:
    (wanted,) = component("prometheus-operator", "servicemonitor.yaml")["spec"]["endpoints"]
    selector = component("prometheus-operator", "servicemonitor.yaml")["spec"]["selector"]
    (labels,) = KUSTOMIZATION["labels"]
    (port,) = one("Service")["spec"]["ports"]

    assert selector["matchLabels"].items() <= labels["pairs"].items()
    assert (wanted["port"], wanted["path"]) == (port["name"], "/metrics")


def test_an_ingress_has_tls_and_leads_to_pages_that_ask_for_the_token() -> None:
    spec = component("ingress", "ingress.yaml")["spec"]
    (rule,), (tls,) = spec["rules"], spec["tls"]
    (path,) = rule["http"]["paths"]

    assert tls["hosts"] == [rule["host"]]
    assert path["path"] == "/v1/"
    assert path["backend"]["service"] == {
        "name": one("Service")["metadata"]["name"],
        "port": {"name": one("Service")["spec"]["ports"][0]["name"]},
    }


def test_git_sync_brings_documents_before_the_controller_starts() -> None:
    pod = component("git-sync", "deployment.yaml")["spec"]["template"]["spec"]
    (first,) = pod["initContainers"]
    jtr, sidecar = pod["containers"]
    (root,) = [one.removeprefix("--root=") for one in sidecar["args"] if "--root=" in one]
    (link,) = [one.removeprefix("--link=") for one in sidecar["args"] if "--link=" in one]

    assert [*sidecar["args"][:-1], "--one-time"] == first["args"]
    assert sidecar["args"][-1].startswith("--period=")
    assert Path(jtr["args"][-1]).is_relative_to(Path(root) / link)
    for one_of in (first, sidecar):
        assert one_of["securityContext"].items() >= CONTAINER["securityContext"].items()
        assert {"name": "documents", "mountPath": root} in one_of["volumeMounts"]


@pytest.mark.parametrize("folder", COMPONENTS, ids=lambda folder: str(folder.name))
def test_kustomize_builds_the_base_with_each_component(folder: Path, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl, which builds with Kustomize, is not here")
    shutil.copytree(BASE, tmp_path / "base")
    with (tmp_path / "base" / "kustomization.yaml").open("a", encoding="utf-8") as file:
        file.write(f"components: [{folder.name}]\n")
    built = tmp_path / "built.yaml"
    built.write_text(ran("kubectl", "kustomize", tmp_path / "base"), "utf-8")
    made = list(yaml.safe_load_all(built.read_text("utf-8")))
    ours = [one for one in made if one["kind"] != "ServiceMonitor"]
    built.write_text(yaml.safe_dump_all(ours), "utf-8")

    printed = ran("kubernetes-validate", "--strict", built)

    assert printed.count("passed for resource") == len(ours)
    assert len(made) == len(rendered()) + 1
    (volume,) = [
        volume
        for one in made
        if one["kind"] == "Deployment"
        for volume in one["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "documents"
    ]
    kinds = {"git-sync": {"name", "emptyDir"}}
    assert volume.keys() == kinds.get(folder.name, {"name", "configMap"})


def test_what_is_mounted_is_what_the_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    settings = load_settings(str(BASE / "settings.yaml"), {"HOME": "/nonexistent"}, ())
    mounted = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}

    assert settings.role is Role.CONTROLLER
    assert settings.vault.auth.method is AuthMethod.KUBERNETES
    assert settings.vault.auth.token_file == "/var/run/secrets/vault/token"
    assert settings.controller.token_file == "/var/run/secrets/jtr/token"
    assert {"/var/run/secrets/vault", "/var/run/secrets/jtr", "/etc/jtr"} <= mounted.keys()
    assert settings.controller.listen.endswith(f":{CONTAINER['ports'][0]['containerPort']}")
    # With subPath a changed document would never arrive.
    assert not any("subPath" in mount for mount in mounted.values())
    assert CONTAINER["args"][-1] in mounted


@contextmanager
def in_the_pod(folder: Path) -> Iterator[None]:
    """Be the user of the pod, before a volume as the kubelet gives it to an fsGroup."""
    user, group = (POD["securityContext"][name] for name in ("runAsUser", "fsGroup"))
    os.chown(folder, 0, group)
    folder.chmod(0o2775)
    groups = os.getgroups()
    os.setgroups([group])
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be another user")
@pytest.mark.parametrize("kind", ["kubernetes", "docker", "systemd"])
def test_a_ledger_on_its_volume_lies_where_the_settings_say(kind: str) -> None:
    text = (DEPLOY / kind / "settings.yaml").read_text("utf-8")
    (place,) = re.findall(r"sqlite:/var/lib/jtr/(\S+\.db)", text)
    with tempfile.TemporaryDirectory() as name:
        above = Path(name)
        above.chmod(0o755)
        volume = above / "volume"
        volume.mkdir()
        # What is imported only now may lie where that user cannot read.
        open_store(f"sqlite:{above}/ours/ledger.db", DEFAULT_TIMEOUTS, create=True).close()
        with in_the_pod(volume):
            with pytest.raises(LedgerError, match="others can write") as caught:
                open_store(f"sqlite:{volume}/ledger.db", DEFAULT_TIMEOUTS, create=True)
            assert str(Path(place).parent) in caught.value.remedy
            open_store(f"sqlite:{volume}/{place}", DEFAULT_TIMEOUTS, create=True).close()
            open_store(f"sqlite:{volume}/{place}", DEFAULT_TIMEOUTS, create=False).close()
        made = (volume / place).parent.stat()
        assert (made.st_uid, made.st_mode & 0o777) == (POD["securityContext"]["runAsUser"], 0o700)


def test_its_documents_are_valid_and_keep_their_name() -> None:
    loaded = load([str(BASE / "documents")])
    (kept,) = [
        each for each in KUSTOMIZATION["configMapGenerator"] if each["name"] == "jtr-documents"
    ]

    assert [server.name for server in loaded.state.servers] == ["tokyo-1"]
    assert kept["options"] == {"disableNameSuffixHash": True}
