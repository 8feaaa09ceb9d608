"""
GitLab's REST API, version 4.

Documented at docs.gitlab.com/api: merge requests, their notes, commit statuses, the current user.
"""

from typing import Any, Final

from reconciler.ci.forges import STATUS_LIMIT, Draft
from reconciler.ci.http import Api, Refused
from reconciler.ci.job import Job, page_at, text_at

_PAGES: Final = 20
_PAGE: Final = 100
_BAD_REQUEST: Final = 400


class GitLab:
    def __init__(self, api: Api) -> None:
        self._api: Final = api

    async def comment(self, job: Job, number: str, marker: str, body: str) -> None:
        notes = f"/projects/{job.project}/merge_requests/{number}/notes"
        found = await self._ours(notes, marker)
        if found is None:
            await self._api.send("POST", notes, {"body": body})
        elif found.get("body") != body:
            await self._api.send("PUT", f"{notes}/{int(found['id'])}", {"body": body})

    async def status(self, job: Job, commit: str, *, good: bool, name: str, words: str) -> None:
        body = {
            "state": "success" if good else "failed",
            "name": name,
            "description": words[:STATUS_LIMIT],
        }
        if job.page:
            body["target_url"] = job.page
        try:
            await self._api.send("POST", f"/projects/{job.project}/statuses/{commit}", body)
        except Refused as error:
            # GitLab refuses to go from a state to the same one.
            if error.status != _BAD_REQUEST:
                raise

    async def pull(self, job: Job, branch: str, base: str) -> str | None:
        query = {"source_branch": branch, "target_branch": base, "state": "all"}
        rows = await self._api.get(f"/projects/{job.project}/merge_requests", **query)
        for row in rows if isinstance(rows, list) else ():
            # A fork may have a branch of the same name.
            ours = isinstance(row, dict) and row.get("source_project_id") == row.get("project_id")
            found = text_at(row, "source_branch"), text_at(row, "target_branch")
            if ours and found == (branch, base):
                return page_at(text_at(row, "web_url"))
        return None

    async def open_pull(self, job: Job, draft: Draft) -> str:
        body = {
            "source_branch": draft.branch,
            "target_branch": draft.base,
            "title": draft.title,
            "description": draft.body,
            "remove_source_branch": True,
        }
        made = await self._api.send("POST", f"/projects/{job.project}/merge_requests", body)
        return page_at(text_at(made, "web_url"))

    async def _ours(self, notes: str, marker: str) -> dict[str, Any] | None:
        """Return our note; anybody may write one that begins like ours, and would own it."""
        found = await self._api.get("/user")
        me = found.get("id") if isinstance(found, dict) else None
        for page in range(1, _PAGES + 1):
            query = {"per_page": str(_PAGE), "page": str(page), "sort": "asc"}
            rows = await self._api.get(notes, **query)
            if not isinstance(rows, list) or not rows:
                return None
            for row in rows:
                if not isinstance(row, dict) or type(row.get("id")) is not int:
                    continue
                body, author = row.get("body"), row.get("author")
                ours = isinstance(author, dict) and me is not None and author.get("id") == me
                if ours and isinstance(body, str) and body.startswith(marker):
                    return row
        return None


FORGE: Final = GitLab
