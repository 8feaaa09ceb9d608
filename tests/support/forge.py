"""
Stand-ins for the APIs of GitHub, Forgejo (and Gitea) and GitLab, on loopback.

Shaped after docs.github.com/rest (issue comments, commit statuses, pulls), Forgejo's own /api/v1
and docs.gitlab.com/api (notes, commit statuses, merge requests): what these refuse is refused here,
and what was said is kept to be looked at.  At GitHub's, question and answer have to fit what GitHub
publishes of its API: see `github_schema`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.support.github_schema import Misused, check
from tests.support.loops import LoopThread

TOKEN = "forge-token-of-this-job"
PULL_TOKEN = "forge-token-for-pull-requests"  # the only one that may list and open them
PROJECT = "desk/servers"
NUMBER = "4711"  # of the project, at GitLab
US, STRANGER = "github-actions[bot]", "mallory"
AT_FORGEJO = "forgejo-actions"
_BODY_LIMIT = 65_536  # characters of a comment at GitHub
_FORGEJO_PAGE = 50  # rows at most, whatever is asked for


@dataclass
class Comment:
    id: int
    pull: str
    author: str
    body: str
    edits: int = 0


@dataclass
class Pull:
    """A pull request from *branch* of *repository*; `state` is open, closed or merged."""

    branch: str
    base: str
    title: str
    body: str
    repository: str = PROJECT
    state: str = "open"


@dataclass
class Record:
    """What the forge was told; `refused` counts what it took no notice of."""

    comments: list[Comment] = field(default_factory=list)
    statuses: list[tuple[str, str, str, str]] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)
    refused: int = 0
    down: bool = False
    shut: bool = False  # it opens no pull requests
    forgetful: bool = False  # what it opens it does not answer for
    paths: list[str] = field(default_factory=list)  # of all that was asked, with the method
    misused: list[str] = field(default_factory=list)  # what GitHub's own description has not

    @property
    def asked(self) -> int:
        return len(self.paths)


class ForgeStandIn:
    """All APIs behind one address; `api` is GitHub's, `forgejo` Forgejo's, `gitlab` GitLab's."""

    def __init__(self) -> None:
        self.told = Record()
        self._loop = LoopThread("forge")

    def __enter__(self) -> Self:
        self._loop.__enter__()
        self._runner = self._loop.run(self._start())
        port = self._runner.addresses[0][1]
        self.address = f"http://127.0.0.1:{port}"
        self.api, self.gitlab = self.address, f"{self.address}/api/v4"
        self.forgejo = f"{self.address}/api/v1"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.run(self._runner.cleanup())
        self._loop.__exit__(kind, error, trace)
        if error is None:
            assert self.told.misused == [], self.told.misused

    def say(self, pull: str, author: str, body: str) -> Comment:
        """Let somebody comment."""
        found = Comment(len(self.told.comments) + 1, pull, author, body)
        self.told.comments.append(found)
        return found

    def page_of(self, pull: Pull) -> str:
        """Return where people see a pull request."""
        return f"https://forge.test/{PROJECT}/pull/{self.told.pulls.index(pull) + 1}"

    async def _start(self) -> web.AppRunner:
        app = web.Application(middlewares=[self._checked])
        project = f"/api/v4/projects/{NUMBER}"
        merges = f"{project}/merge_requests"
        notes = f"{project}/merge_requests/{{pull}}/notes"
        app.add_routes(
            [
                web.get("/api/v4/user", self._me),
                web.get(notes, self._list),
                web.post(notes, self._add),
                web.put(f"{notes}/{{id}}", self._edit),
                web.post(f"{project}/statuses/{{commit}}", self._status),
                web.get(merges, self._merges),
                web.post(merges, self._merge),
            ]
        )
        for root in ("", "/api/v1"):
            repo = f"{root}/repos/desk/servers"
            app.add_routes(
                [
                    web.get(f"{root}/user", self._nobody),
                    web.get(f"{repo}/issues/{{pull}}/comments", self._list),
                    web.post(f"{repo}/issues/{{pull}}/comments", self._add),
                    web.patch(f"{repo}/issues/comments/{{id}}", self._edit),
                    web.post(f"{repo}/statuses/{{commit}}", self._status),
                    web.get(f"{repo}/pulls", self._pulls),
                    web.post(f"{repo}/pulls", self._pull),
                ]
            )
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    @web.middleware
    async def _checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.told.paths.append(f"{request.method} {request.path}")
        if self.told.down:
            return web.json_response({"message": "We had issues"}, status=503)
        gitlab = request.path.startswith("/api/v4/")
        pulls = request.path.endswith(("/pulls", "/merge_requests"))
        token = PULL_TOKEN if pulls else TOKEN
        name, value = ("PRIVATE-TOKEN", token) if gitlab else ("Authorization", f"Bearer {token}")
        if request.headers.get(name) != value:
            self.told.refused += 1
            return web.json_response({"message": "Bad credentials"}, status=401)
        asked = json.loads(await request.text() or "null")
        answer: web.Response = await handler(request)
        if not request.path.startswith("/api/"):
            said = json.loads(answer.text or "null")
            try:
                check(request.method, request.path, request.query, asked, answer.status, said)
            except Misused as error:
                self.told.misused.append(str(error))
                return web.json_response({"message": str(error)}, status=422)
        return answer

    async def _nobody(self, _: web.Request) -> web.Response:
        # A job's own token is an installation's: it may not ask who it is.
        text = "Resource not accessible by integration"
        return web.json_response({"message": text}, status=403)

    async def _me(self, _: web.Request) -> web.Response:
        return web.json_response({"id": 7, "username": US})

    def _row(self, one: Comment, request: web.Request) -> dict[str, Any]:
        row = {"id": one.id, "body": one.body}
        if request.path.startswith("/api/v4/"):
            number = 8 if one.author == STRANGER else 7
            return row | {"author": {"id": number, "username": one.author}}
        kind = "Bot" if "[bot]" in one.author else "User"
        return row | {"user": {"login": one.author, "type": kind}}

    async def _list(self, request: web.Request) -> web.Response:
        pull = request.match_info["pull"]
        rows = [self._row(one, request) for one in self.told.comments if one.pull == pull]
        if _at_forgejo(request):  # it knows no pages of comments
            return web.json_response(rows)
        size, page = int(request.query["per_page"]), int(request.query["page"])
        return web.json_response(rows[size * (page - 1) : size * page])

    async def _said(self, request: web.Request) -> str | None:
        body = (await request.json()).get("body")
        fits = isinstance(body, str) and bool(body.strip()) and len(body) <= _BODY_LIMIT
        return body if fits else None

    async def _add(self, request: web.Request) -> web.Response:
        body = await self._said(request)
        if body is None:
            return web.json_response({"message": "Validation Failed"}, status=422)
        author = AT_FORGEJO if _at_forgejo(request) else US
        found = self.say(request.match_info["pull"], author, body)
        return web.json_response(self._row(found, request), status=201)

    async def _edit(self, request: web.Request) -> web.Response:
        body, number = await self._said(request), int(request.match_info["id"])
        if body is None:
            return web.json_response({"message": "Validation Failed"}, status=422)
        (found,) = (one for one in self.told.comments if one.id == number)
        found.body, found.edits = body, found.edits + 1
        return web.json_response(self._row(found, request))

    async def _status(self, request: web.Request) -> web.Response:
        body = await request.json()
        gitlab = request.path.startswith("/api/v4/")
        states = {"success", "failed"} if gitlab else {"success", "failure", "error", "pending"}
        name = body.get("name") if gitlab else body.get("context")
        if body.get("state") not in states or len(body.get("description", "")) > 140:
            return web.json_response({"message": "Validation Failed"}, status=422)
        row = (request.match_info["commit"], body["state"], str(name), body["description"])
        self.told.statuses.append(row)
        return web.json_response({"id": 1}, status=201)

    # ── pull requests ────────────────────────────────────────────────────────────────────────

    def _pull_row(self, one: Pull) -> dict[str, Any]:
        return {
            "number": self.told.pulls.index(one) + 1,
            "state": "closed" if one.state != "open" else "open",
            "title": one.title,
            "html_url": self.page_of(one),
            "head": {"ref": one.branch, "repo": {"full_name": one.repository}},
            "base": {"ref": one.base, "repo": {"full_name": PROJECT}},
        }

    async def _pulls(self, request: web.Request) -> web.Response:
        found, asked = self.told.pulls[::-1], request.query
        if asked.get("state", "open") == "open":
            found = [one for one in found if one.state == "open"]
        if "base" in asked:
            found = [one for one in found if one.base == asked["base"]]
        page, size = int(asked.get("page", "1")), int(asked.get("per_page", "30"))
        if _at_forgejo(request):  # it knows no head, and another word for how many
            size = min(int(asked.get("limit", "30")), _FORGEJO_PAGE)
        elif "head" in asked:
            owner, _, branch = asked["head"].partition(":")
            ours = [one for one in found if one.branch == branch]
            found = [one for one in ours if one.repository.partition("/")[0] == owner]
        rows = [self._pull_row(one) for one in found]
        return web.json_response(rows[size * (page - 1) : size * page])

    async def _pull(self, request: web.Request) -> web.Response:
        body = await request.json()
        there = 409 if _at_forgejo(request) else 422
        made = Pull(body["head"], body["base"], body["title"], body["body"])
        return self._opened(made, there, self._pull_row)

    def _merge_row(self, one: Pull) -> dict[str, Any]:
        return {
            "iid": self.told.pulls.index(one) + 1,
            "state": {"open": "opened"}.get(one.state, one.state),
            "source_branch": one.branch,
            "target_branch": one.base,
            "source_project_id": int(NUMBER) if one.repository == PROJECT else 1,
            "project_id": int(NUMBER),
            "web_url": self.page_of(one),
        }

    async def _merges(self, request: web.Request) -> web.Response:
        asked = request.query
        found = [
            one
            for one in self.told.pulls[::-1]
            if asked.get("source_branch", one.branch) == one.branch
            and asked.get("target_branch", one.base) == one.base
            and (asked.get("state", "all") == "all" or one.state == "open")
        ]
        return web.json_response([self._merge_row(one) for one in found[:20]])

    async def _merge(self, request: web.Request) -> web.Response:
        body = await request.json()
        made = Pull(
            body["source_branch"], body["target_branch"], body["title"], body["description"]
        )
        return self._opened(made, 409, self._merge_row)

    def _opened(self, made: Pull, there: int, row: Any) -> web.Response:
        if self.told.shut:
            return web.json_response({"message": "Resource not accessible"}, status=403)
        marks = (made.branch, made.base, made.repository)
        for one in self.told.pulls:
            if one.state == "open" and (one.branch, one.base, one.repository) == marks:
                return web.json_response({"message": "it exists already"}, status=there)
        self.told.pulls.append(made)
        if self.told.forgetful:
            self.told.forgetful = False
            return web.json_response({"message": "We had issues"}, status=502)
        return web.json_response(row(made), status=201)


def _at_forgejo(request: web.Request) -> bool:
    return request.path.startswith("/api/v1/")


def github(
    forge: ForgeStandIn, folder: Path, event: str, commit: str, **pull: Any
) -> dict[str, str]:
    """
    Return the environment of a job of GitHub's.

    *pull* has `number`, `branch`, maybe `head`; in a merge queue `number` and `base`, a commit.
    """
    document: dict[str, Any] = {"repository": {"full_name": PROJECT, "default_branch": "main"}}
    ref = "refs/heads/main"
    if event == "schedule":  # nobody's doing: GitHub says when, and nothing of the repository
        document = {"schedule": "*/30 * * * *", "workflow": ".github/workflows/apply.yaml"}
    if event == "pull_request":
        ref = f"refs/pull/{pull['number']}/merge"
        document["pull_request"] = {
            "number": pull["number"],
            "html_url": f"https://forge.test/{PROJECT}/pull/{pull['number']}",
            "user": {"login": "ann"},
            "base": {"ref": "main", "repo": {"full_name": PROJECT}},
            "head": {
                "ref": pull["branch"],
                "sha": commit,
                "repo": {"full_name": pull.get("head", PROJECT)},
            },
        }
    elif event == "merge_group":
        ref = f"refs/heads/gh-readonly-queue/main/pr-{pull['number']}-{pull['base']}"
        document["merge_group"] = {"head_sha": commit, "head_ref": ref}
    file = folder / "event.json"
    file.write_text(json.dumps(document), "utf-8")
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(file),
        "GITHUB_REPOSITORY": PROJECT,
        "GITHUB_REF": ref,
        "GITHUB_SHA": commit,
        "GITHUB_API_URL": forge.api,
        "GITHUB_SERVER_URL": "https://forge.test",
        "GITHUB_RUN_ID": "17",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_ACTOR": "bob",
    }


def forgejo(
    forge: ForgeStandIn, folder: Path, event: str, commit: str, **pull: Any
) -> dict[str, str]:
    """Return the environment of a job of Forgejo's: GitHub's, with another API."""
    ours = {"GITEA_ACTIONS": "true", "FORGEJO_ACTIONS": "true", "GITHUB_API_URL": forge.forgejo}
    return github(forge, folder, event, commit, **pull) | ours


def gitlab(forge: ForgeStandIn, source: str, commit: str, **merge: str) -> dict[str, str]:
    """Return the environment of a job of GitLab's."""
    found = {
        "GITHUB_ACTIONS": "",
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": source,
        "CI_API_V4_URL": forge.gitlab,
        "CI_PROJECT_ID": NUMBER,
        "CI_PROJECT_URL": f"https://forge.test/{PROJECT}",
        "CI_COMMIT_SHA": commit,
        "CI_DEFAULT_BRANCH": "main",
        "CI_COMMIT_BRANCH": "main",
        "GITLAB_TOKEN": TOKEN,
        "GITLAB_USER_LOGIN": "bob",
    }
    if source == "merge_request_event":
        found |= {
            "CI_COMMIT_BRANCH": "",
            "CI_MERGE_REQUEST_IID": merge["number"],
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": merge["branch"],
            "CI_MERGE_REQUEST_PROJECT_ID": NUMBER,
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": merge.get("source", NUMBER),
        }
    return found
