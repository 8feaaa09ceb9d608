"""
Stand-ins for the APIs of GitHub (and those like it) and GitLab, on loopback.

Shaped after docs.github.com/rest (issue comments, commit statuses) and docs.gitlab.com/api (notes,
commit statuses): what these refuse is refused here, and what was said is kept to be looked at.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.support.loops import LoopThread

TOKEN = "forge-token-of-this-job"
PROJECT = "desk/servers"
NUMBER = "4711"  # of the project, at GitLab
US, STRANGER = "github-actions[bot]", "mallory"
_BODY_LIMIT = 65_536  # characters of a comment at GitHub


@dataclass
class Comment:
    id: int
    pull: str
    author: str
    body: str
    edits: int = 0


@dataclass
class Record:
    """What the forge was told; `refused` counts what it took no notice of."""

    comments: list[Comment] = field(default_factory=list)
    statuses: list[tuple[str, str, str, str]] = field(default_factory=list)
    refused: int = 0
    down: bool = False
    asked: int = 0


class ForgeStandIn:
    """Both APIs behind one address; `api` is GitHub's, `gitlab` GitLab's."""

    def __init__(self) -> None:
        self.told = Record()
        self._loop = LoopThread("forge")

    def __enter__(self) -> Self:
        self._loop.__enter__()
        self._runner = self._loop.run(self._start())
        port = self._runner.addresses[0][1]
        self.address = f"http://127.0.0.1:{port}"
        self.api, self.gitlab = self.address, f"{self.address}/api/v4"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.run(self._runner.cleanup())
        self._loop.__exit__(kind, error, trace)

    def say(self, pull: str, author: str, body: str) -> Comment:
        """Let somebody comment."""
        found = Comment(len(self.told.comments) + 1, pull, author, body)
        self.told.comments.append(found)
        return found

    async def _start(self) -> web.AppRunner:
        app = web.Application(middlewares=[self._checked])
        repo, project = "/repos/desk/servers", f"/api/v4/projects/{NUMBER}"
        notes = f"{project}/merge_requests/{{pull}}/notes"
        app.add_routes(
            [
                web.get("/user", self._nobody),
                web.get(f"{repo}/issues/{{pull}}/comments", self._list),
                web.post(f"{repo}/issues/{{pull}}/comments", self._add),
                web.patch(f"{repo}/issues/comments/{{id}}", self._edit),
                web.post(f"{repo}/statuses/{{commit}}", self._status),
                web.get("/api/v4/user", self._me),
                web.get(notes, self._list),
                web.post(notes, self._add),
                web.put(f"{notes}/{{id}}", self._edit),
                web.post(f"{project}/statuses/{{commit}}", self._status),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    @web.middleware
    async def _checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.told.asked += 1
        if self.told.down:
            return web.json_response({"message": "We had issues"}, status=503)
        gitlab = request.path.startswith("/api/v4/")
        name, value = ("PRIVATE-TOKEN", TOKEN) if gitlab else ("Authorization", f"Bearer {TOKEN}")
        if request.headers.get(name) != value:
            self.told.refused += 1
            return web.json_response({"message": "Bad credentials"}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _nobody(self, _: web.Request) -> web.Response:
        # A job's own token is an installation's: it may not ask who it is.
        text = "Resource not accessible by integration"
        return web.json_response({"message": text}, status=403)

    async def _me(self, _: web.Request) -> web.Response:
        return web.json_response({"id": 7, "username": US})

    def _row(self, one: Comment) -> dict[str, Any]:
        author = {"id": 7 if one.author == US else 8, "username": one.author}
        return {
            "id": one.id,
            "body": one.body,
            "user": {"login": one.author, "type": "Bot" if "[bot]" in one.author else "User"},
            "author": author,
        }

    async def _list(self, request: web.Request) -> web.Response:
        pull = request.match_info["pull"]
        rows = [self._row(one) for one in self.told.comments if one.pull == pull]
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
        return web.json_response(
            self._row(self.say(request.match_info["pull"], US, body)), status=201
        )

    async def _edit(self, request: web.Request) -> web.Response:
        body, number = await self._said(request), int(request.match_info["id"])
        if body is None:
            return web.json_response({"message": "Validation Failed"}, status=422)
        (found,) = (one for one in self.told.comments if one.id == number)
        found.body, found.edits = body, found.edits + 1
        return web.json_response(self._row(found))

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


def github(
    forge: ForgeStandIn, folder: Path, event: str, commit: str, **pull: Any
) -> dict[str, str]:
    """Return the environment of a job of GitHub's; *pull* has `number`, `branch`, maybe `head`."""
    document: dict[str, Any] = {"repository": {"default_branch": "main"}}
    ref = "refs/heads/main"
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
    }


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
