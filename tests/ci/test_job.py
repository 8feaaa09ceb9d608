"""What a job's environment says, and what of it is not believed."""

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.ci.job import Event, System, find_job
from reconciler.errors import UsageError

COMMIT = "c" * 40
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_REPOSITORY": "desk/servers",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_SHA": COMMIT,
    "GITHUB_API_URL": "https://api.github.test",
    "GITHUB_SERVER_URL": "https://github.test",
    "GITHUB_RUN_ID": "17",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_ID": "4711",
    "CI_COMMIT_SHA": COMMIT,
    "CI_COMMIT_BRANCH": "main",
    "CI_DEFAULT_BRANCH": "main",
    "CI_API_V4_URL": "https://gitlab.test/api/v4",
}
MERGE = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "9",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "more",
    "CI_MERGE_REQUEST_PROJECT_ID": "4711",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "4711",
}


def event(folder: Path, document: Any) -> dict[str, str]:
    file = folder / "event.json"
    file.write_text(json.dumps(document), "utf-8")
    return {"GITHUB_EVENT_PATH": str(file)}


def pull(head: Any = "desk/servers", number: Any = 7) -> dict[str, Any]:
    return {
        "pull_request": {
            "number": number,
            "html_url": "https://github.test/desk/servers/pull/7",
            "user": {"login": "ann"},
            "base": {"repo": {"full_name": "desk/servers"}},
            "head": {"ref": "more", "sha": "d" * 40, "repo": head and {"full_name": head}},
        }
    }


MAIN = {"repository": {"default_branch": "main"}}


def test_without_a_ci_system_it_is_nobodys_job() -> None:
    assert find_job({}).system is System.PLAIN
    assert find_job({"CI": "true", "GITHUB_TOKEN": "x"}).event is Event.OTHER


def test_a_pull_request_is_about_its_own_commit(tmp_path: Path) -> None:
    found = find_job(GITHUB | {"GITHUB_EVENT_NAME": "pull_request"} | event(tmp_path, pull()))

    assert (found.event, found.commit, found.fork) == (Event.PULL_REQUEST, "d" * 40, False)
    assert (found.pull.number, found.pull.branch, found.pull.author) == ("7", "more", "ann")


@pytest.mark.parametrize("head", ["mallory/servers", None, ""])
@pytest.mark.parametrize("name", ["pull_request", "pull_request_target"])
def test_a_fork_is_one_whatever_starts_its_job(tmp_path: Path, head: str | None, name: str) -> None:
    assert find_job(GITHUB | {"GITHUB_EVENT_NAME": name} | event(tmp_path, pull(head))).fork


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, Event.MAIN),
        ({"GITHUB_EVENT_NAME": "schedule"}, Event.MAIN),
        ({"GITHUB_EVENT_NAME": "workflow_dispatch"}, Event.MAIN),
        ({"GITHUB_EVENT_NAME": "workflow_run"}, Event.OTHER),
        ({"GITHUB_REF": "refs/heads/main2"}, Event.OTHER),
        ({"GITHUB_REF": "refs/tags/main"}, Event.OTHER),
        ({"GITHUB_REF": "refs/tags/refs/heads/main"}, Event.OTHER),
    ],
)
def test_what_is_merged_is_what_is_on_the_main_branch(
    tmp_path: Path, change: dict[str, str], kind: Event
) -> None:
    assert find_job(GITHUB | event(tmp_path, MAIN) | change).event is kind


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, Event.UNKNOWN),
        ({"GITHUB_EVENT_NAME": "workflow_dispatch"}, Event.UNKNOWN),
        ({"GITHUB_REF": ""}, Event.UNKNOWN),
        ({"GITHUB_EVENT_NAME": "workflow_run"}, Event.OTHER),
        # A schedule runs on the main branch only, and says nothing of the repository.
        ({"GITHUB_EVENT_NAME": "schedule"}, Event.MAIN),
        ({"GITHUB_EVENT_NAME": "schedule", "GITHUB_REF": "refs/heads/trunk/a"}, Event.MAIN),
        ({"GITHUB_EVENT_NAME": "schedule", "GITHUB_REF": "refs/tags/main"}, Event.UNKNOWN),
        ({"GITHUB_EVENT_NAME": "schedule", "GITHUB_REF": "refs/tags/refs/heads/a"}, Event.UNKNOWN),
        ({"GITHUB_EVENT_NAME": "schedule", "GITHUB_REF": "refs/heads/"}, Event.UNKNOWN),
        ({"GITHUB_EVENT_NAME": "schedule", "GITHUB_REF": ""}, Event.UNKNOWN),
    ],
)
def test_where_nobody_says_which_branch_is_the_main_one(
    tmp_path: Path, change: dict[str, str], kind: Event
) -> None:
    timer = {"schedule": "*/30 * * * *", "workflow": ".github/workflows/apply.yaml"}
    documents: tuple[Any, ...] = (timer, {}, [], {"repository": {"default_branch": ""}})
    for document in documents:
        assert find_job(GITHUB | event(tmp_path, document) | change).event is kind
    assert find_job(GITHUB | change).event is kind


def test_a_merge_queue_names_its_pull_request(tmp_path: Path) -> None:
    group = {
        "head_sha": "e" * 40,
        "head_ref": f"refs/heads/gh-readonly-queue/main/pr-12-{'a' * 40}",
    }
    found = find_job(
        GITHUB | {"GITHUB_EVENT_NAME": "merge_group"} | event(tmp_path, {"merge_group": group})
    )

    assert (found.event, found.commit) == (Event.MERGE_QUEUE, "e" * 40)
    assert found.pull.url == "https://github.test/desk/servers/pull/12"


def test_gitea_is_told_from_github() -> None:
    assert find_job(GITHUB | {"GITEA_ACTIONS": "true"}).system is System.GITEA
    api = {"GITHUB_API_URL": "https://forge.test/api/v1"}
    assert find_job(GITHUB | api).system is System.GITEA
    assert find_job(GITHUB).system is System.GITHUB


@pytest.mark.parametrize(
    ("change", "kind", "fork"),
    [
        ({}, Event.MAIN, False),
        ({"CI_COMMIT_BRANCH": "more"}, Event.OTHER, False),
        ({"CI_COMMIT_BRANCH": ""}, Event.OTHER, False),
        ({"CI_DEFAULT_BRANCH": ""}, Event.UNKNOWN, False),
        (MERGE, Event.PULL_REQUEST, False),
        (MERGE | {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "666"}, Event.PULL_REQUEST, True),
        (MERGE | {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": ""}, Event.PULL_REQUEST, True),
        (MERGE | {"CI_MERGE_REQUEST_EVENT_TYPE": "merge_train"}, Event.MERGE_QUEUE, False),
    ],
)
def test_gitlab(change: dict[str, str], kind: Event, *, fork: bool) -> None:
    found = find_job(GITLAB | change)

    assert (found.event, found.fork) == (kind, fork)


@pytest.mark.parametrize(
    "change",
    [
        {"GITHUB_API_URL": "http://api.github.test"},
        {"GITHUB_API_URL": "https://ann:pw@api.github.test"},
        {"GITHUB_API_URL": "https://api.github.test/?a=b"},
        {"GITHUB_API_URL": "file:///etc/passwd"},
        {"GITHUB_API_URL": "https://["},
        {"GITHUB_REPOSITORY": "desk/servers/../../x"},
        {"GITHUB_REPOSITORY": "../x"},
        {"GITHUB_SHA": "--upload-pack=x"},
        {"GITHUB_SHA": ""},
        {"GITHUB_EVENT_PATH": "/nonexistent"},
        {"GITHUB_EVENT_PATH": "/dev/zero"},
    ],
    ids=str,
)
def test_an_environment_that_is_none_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        find_job(GITHUB | change)


@pytest.mark.parametrize("number", ["7/../8", "7?x", -1, 0, True, None, [7], "07", 10**13])
def test_a_number_that_is_none_names_no_pull_request(tmp_path: Path, number: Any) -> None:
    job = GITHUB | {"GITHUB_EVENT_NAME": "pull_request"}

    assert find_job(job | event(tmp_path, pull(number=number))).pull.number == ""


@pytest.mark.parametrize("token", ["a\nX-Evil: 1", "a b", "ä", "", "\x7f"])
def test_a_token_that_would_be_two_headers_is_none(token: str) -> None:
    assert find_job(GITHUB | {"GITHUB_TOKEN": token}).token is None


def test_a_token_does_not_show_itself() -> None:
    found = find_job(GITHUB | {"GITHUB_TOKEN": "forge-token"})

    assert found.token is not None
    assert "forge-token" not in repr(found)
