"""The action, the workflows and the component for `jtr ci`: accepted, pinned, with few rights."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.cli.app import run
from tests.deploy.issuer import action
from tests.deploy.tools import DEPLOY, ROOT, ran

CALLED = DEPLOY / "github/ci.yaml"
FORGEJO = DEPLOY / "forgejo/ci.yaml"
COMPONENT = DEPLOY / "gitlab/templates/jtr.yml"
ACTION = DEPLOY / "github/action/action.yml"


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def component() -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs of GitLab's component, and the pipeline that it becomes."""
    head, body = yaml.safe_load_all(COMPONENT.read_text("utf-8"))
    return head["spec"]["inputs"], body


def test_each_is_what_its_system_accepts(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(json.dumps(component()[1]), "utf-8")

    assert "ok" in ran("check-jsonschema", "--builtin-schema", "vendor.github-actions", ACTION)
    assert "ok" in ran(
        "check-jsonschema", "--builtin-schema", "vendor.github-workflows", CALLED, FORGEJO
    )
    assert "ok" in ran("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", pipeline)


def test_zizmor_finds_nothing_but_runners_of_our_own() -> None:
    said = ran(
        *("zizmor", "--offline", "--no-progress", "--quiet", "--persona", "auditor"),
        *("--no-exit-codes", "--min-severity", "low", "--format", "json"),
        *(CALLED, ACTION, FORGEJO),
    )

    assert {one["ident"] for one in json.loads(said)} == {"self-hosted-runner"}


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


def test_pre_commit_hooks_are_commands_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))

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
