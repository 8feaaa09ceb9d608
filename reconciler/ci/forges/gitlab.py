"""
GitLab's REST API, version 4.

Documented at docs.gitlab.com/api: notes of merge requests, commit statuses, the current user.
"""

from typing import Any, Final

from reconciler.ci.forges import STATUS_LIMIT
from reconciler.ci.http import Api, Refused
from reconciler.ci.job import Job

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
