"""The Kustomize base: valid objects, restricted pods, closed networks."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.bootstrap import load_settings
from reconciler.documents.load import load
from reconciler.settings.model import AuthMethod, Role
from tests.deploy.dockerfile import parse
from tests.deploy.tools import DEPLOY, ran

BASE = DEPLOY / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))
RESOURCES = [BASE / name for name in KUSTOMIZATION["resources"]]
GENERATED = {one["name"]: one["files"] for one in KUSTOMIZATION["configMapGenerator"]}


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
    present = [path for path in BASE.rglob("*") if path.is_file()]

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
    assert blocks == ["192.0.2.10/32", "198.51.100.0/24"]
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert own["spec"]["podSelector"]["matchLabels"] == labels
    assert one("Service")["spec"]["selector"] == labels
    assert one("Deployment")["spec"]["selector"]["matchLabels"] == labels


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


def test_its_documents_are_valid_and_keep_their_name() -> None:
    loaded = load([str(BASE / "documents")])
    (kept,) = [
        each for each in KUSTOMIZATION["configMapGenerator"] if each["name"] == "jtr-documents"
    ]

    assert [server.name for server in loaded.state.servers] == ["tokyo-1"]
    assert kept["options"] == {"disableNameSuffixHash": True}
