"""
Where a job runs and what for, as its environment says.  Reads the event's file and nothing else.

What stands there was written by whoever made the branch: it is shown, compared and put into paths
of the API one checked part at a time, never believed.
"""

import enum
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct, field

from reconciler.errors import UsageError
from reconciler.model.proposals import NUMBER, PullRequest
from reconciler.model.secret import Secret
from reconciler.system.files import read_regular
from reconciler.system.git import COMMIT
from reconciler.system.network import loopback

_EVENT_LIMIT: Final = 16 * 1024 * 1024
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_QUEUED: Final = re.compile(r"gh-readonly-queue/.+/pr-([1-9][0-9]{0,11})-[0-9a-f]{40,64}")
_LONGEST: Final = 200  # characters of what is only shown


class System(enum.StrEnum):
    GITHUB = "GitHub"
    GITEA = "Gitea or Forgejo"
    GITLAB = "GitLab"
    PLAIN = "no CI system that jtr knows"


class Event(enum.StrEnum):
    """What a job is for; UNKNOWN: it is of a branch, and nobody says which one is the main one."""

    PULL_REQUEST = "pull-request"
    MERGE_QUEUE = "merge-queue"
    MAIN = "main"
    OTHER = "other"
    UNKNOWN = "unknown"


class Job(Struct, frozen=True):
    """
    One job.  `commit` is what reviewers look at, on the main branch what was merged.

    `api` and `token` are empty or None where nobody can be told anything; `project` names the
    repository there.  A `fork` has no secrets, whatever its environment holds.
    """

    system: System
    event: Event
    commit: str = ""
    pull: PullRequest = field(default_factory=PullRequest)
    fork: bool = False
    project: str = ""
    api: str = ""
    token: Secret | None = None
    page: str = ""
    summary: str = ""
    actor: str = ""  # whose push or click began it; on the main branch, who merged

    @property
    def speaks_commands(self) -> bool:
        """Whether lines of its output become annotations."""
        return self.system in (System.GITHUB, System.GITEA)


def find_job(environ: Mapping[str, str]) -> Job:
    """Return the job of this environment.  Raises UsageError where it contradicts itself."""
    if environ.get("GITHUB_ACTIONS") == "true" or environ.get("GITEA_ACTIONS") == "true":
        return _actions(environ)
    if environ.get("GITLAB_CI") == "true":
        return _gitlab(environ)
    return Job(System.PLAIN, Event.OTHER)


# ── GitHub, and those that are like it ───────────────────────────────────────────────────────


def _actions(environ: Mapping[str, str]) -> Job:
    api = _address(environ.get("GITHUB_API_URL", ""), "GITHUB_API_URL")
    gitea = environ.get("GITEA_ACTIONS") == "true" or api.endswith("/api/v1")
    event = _event(environ.get("GITHUB_EVENT_PATH", ""))
    repository = environ.get("GITHUB_REPOSITORY", "")
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError("GITHUB_REPOSITORY is not OWNER/NAME", "run jtr ci in a job")
    server = environ.get("GITHUB_SERVER_URL", "")
    run = environ.get("GITHUB_RUN_ID", "")
    kind, commit, pull, fork = _what(environ, event, f"{server}/{repository}")
    return Job(
        System.GITEA if gitea else System.GITHUB,
        kind,
        _commit(commit or environ.get("GITHUB_SHA", "")),
        pull,
        fork=fork,
        project=repository,
        api=api,
        token=_token(environ, "GITHUB_TOKEN", "GITEA_TOKEN"),
        page=page_at(f"{server}/{repository}/actions/runs/{run}") if NUMBER.fullmatch(run) else "",
        summary=environ.get("GITHUB_STEP_SUMMARY", ""),
        actor=_words(environ.get("GITHUB_ACTOR")),
    )


def _what(
    environ: Mapping[str, str], event: Any, home: str
) -> tuple[Event, str, PullRequest, bool]:
    name = environ.get("GITHUB_EVENT_NAME", "")
    if name in ("pull_request", "pull_request_target"):
        pull = _at(event, "pull_request")
        base = _at(pull, "base", "repo", "full_name")
        head = _at(pull, "head", "repo", "full_name")
        number = _number(_at(pull, "number"))
        # A head that is gone is a stranger's as well.
        fork = not isinstance(head, str) or head != base
        return (
            Event.PULL_REQUEST,
            _words(_at(pull, "head", "sha")),
            PullRequest(
                _words(_at(pull, "head", "ref")),
                number,
                page_at(_words(_at(pull, "html_url"))),
                _words(_at(pull, "user", "login")),
            ),
            fork,
        )
    if name == "merge_group":
        branch = _words(_at(event, "merge_group", "head_ref")).removeprefix("refs/heads/")
        queued = _QUEUED.fullmatch(branch)
        number = queued[1] if queued else ""
        pull = PullRequest(branch, number, page_at(f"{home}/pull/{number}") if number else "")
        return Event.MERGE_QUEUE, _words(_at(event, "merge_group", "head_sha")), pull, False
    kind = Event.OTHER
    if name in ("push", "schedule", "workflow_dispatch"):
        ref = environ.get("GITHUB_REF", "")
        branch = ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else ""
        main = _words(_at(event, "repository", "default_branch"))
        # A schedule runs on the main branch only, and GitHub says nothing of the repository then.
        kind = _of_branch(branch, branch if name == "schedule" else main)
    return kind, "", PullRequest(), False


def _of_branch(branch: str, main: str) -> Event:
    if not main:
        return Event.UNKNOWN
    return Event.MAIN if branch == main else Event.OTHER


def _event(path: str) -> Any:
    if not path:
        return {}
    try:
        data = read_regular(Path(path), _EVENT_LIMIT, follow=True)
        return json.loads(data) if len(data) <= _EVENT_LIMIT else {}
    except (OSError, ValueError, RecursionError):
        raise UsageError(
            "the file of GITHUB_EVENT_PATH is no event", "run jtr ci in a job"
        ) from None


# ── GitLab ───────────────────────────────────────────────────────────────────────────────────


def _gitlab(environ: Mapping[str, str]) -> Job:
    project = environ.get("CI_PROJECT_ID", "")
    if not NUMBER.fullmatch(project):
        raise UsageError("CI_PROJECT_ID is no number", "run jtr ci in a job")
    commit = environ.get("CI_COMMIT_SHA", "")
    pull, fork, kind = PullRequest(), False, Event.OTHER
    if environ.get("CI_PIPELINE_SOURCE") == "merge_request_event":
        train = environ.get("CI_MERGE_REQUEST_EVENT_TYPE") == "merge_train"
        kind = Event.MERGE_QUEUE if train else Event.PULL_REQUEST
        number = _number(environ.get("CI_MERGE_REQUEST_IID"))
        home = environ.get("CI_MERGE_REQUEST_PROJECT_URL") or environ.get("CI_PROJECT_URL", "")
        pull = PullRequest(
            _words(environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")),
            number,
            page_at(f"{home}/-/merge_requests/{number}") if number else "",
        )
        if not train:  # a pipeline of merged results runs on a commit that nobody keeps
            commit = environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or commit
        source = environ.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "")
        target = environ.get("CI_MERGE_REQUEST_PROJECT_ID", "")
        fork = not source or source != target
    elif branch := environ.get("CI_COMMIT_BRANCH", ""):
        kind = _of_branch(branch, environ.get("CI_DEFAULT_BRANCH", ""))
    return Job(
        System.GITLAB,
        kind,
        _commit(commit),
        pull,
        fork=fork,
        project=project,
        api=_address(environ.get("CI_API_V4_URL", ""), "CI_API_V4_URL"),
        # The job's own token may neither comment nor set a status.
        token=_token(environ, "GITLAB_TOKEN"),
        page=page_at(environ.get("CI_JOB_URL", "")),
        actor=_words(environ.get("GITLAB_USER_LOGIN")),
    )


# ── parts ────────────────────────────────────────────────────────────────────────────────────


def _at(data: Any, *names: str) -> Any:
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _words(found: Any) -> str:
    return found[:_LONGEST] if isinstance(found, str) else ""


def _number(found: Any) -> str:
    text = str(found) if type(found) in (int, str) else ""
    return text if NUMBER.fullmatch(text) else ""


def _commit(text: str) -> str:
    if not COMMIT.fullmatch(text):
        raise UsageError("the job does not say which commit it is about", "run jtr ci in a job")
    return text


def _token(environ: Mapping[str, str], *names: str) -> Secret | None:
    found = next((environ[name] for name in names if environ.get(name)), "")
    # One line of ASCII: a header must not become two.
    fits = found.isascii() and found.isprintable() and " " not in found
    return Secret(found) if found and fits else None


def text_at(data: Any, *names: str) -> str:
    """Return a text of a forge's answer; empty where there is none."""
    found = _at(data, *names)
    return found if isinstance(found, str) else ""


def page_at(url: str) -> str:
    """Return an address that people may be led to; empty for what is none."""
    parts = urlsplit(url) if url.isascii() and url.isprintable() and " " not in url else None
    good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
    return url if good and len(url) <= _LONGEST * 3 else ""


def _address(url: str, name: str) -> str:
    """Return where the API is: the token goes there, so neither in clear nor with a user in it."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    del port
    clear = parts.scheme == "http" and loopback(host)
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if not (host and plain and (parts.scheme == "https" or clear)):
        raise UsageError(f"{name} is no https:// address", "run jtr ci in a job")
    return url.rstrip("/")
