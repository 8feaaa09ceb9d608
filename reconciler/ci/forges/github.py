"""
GitHub's REST API, which Gitea and Forgejo speak as well, as far as this goes.

Documented at docs.github.com/rest: issue comments, commit statuses, the authenticated user, pulls.
"""

from typing import Any, Final

from reconciler.ci.forges import STATUS_LIMIT, Draft
from reconciler.ci.http import Api, Refused
from reconciler.ci.job import Job, System, page_at, text_at

_PAGES: Final = 20
_PAGE: Final = 100


class GitHub:
    def __init__(self, api: Api) -> None:
        self._api: Final = api

    async def comment(self, job: Job, number: str, marker: str, body: str) -> None:
        comments = f"/repos/{job.project}/issues/{number}/comments"
        found = await self._ours(comments, marker)
        if found is None:
            await self._api.send("POST", comments, {"body": body})
        elif found.get("body") != body:
            path = f"/repos/{job.project}/issues/comments/{int(found['id'])}"
            await self._api.send("PATCH", path, {"body": body})

    async def status(self, job: Job, commit: str, *, good: bool, name: str, words: str) -> None:
        body = {
            "state": "success" if good else "failure",
            "context": name,
            "description": words[:STATUS_LIMIT],
        }
        if job.page:
            body["target_url"] = job.page
        await self._api.send("POST", f"/repos/{job.project}/statuses/{commit}", body)

    async def pull(self, job: Job, branch: str, base: str) -> str | None:
        owner = job.project.partition("/")[0]
        pulls = f"/repos/{job.project}/pulls"
        before = None
        size = "limit" if job.system is System.GITEA else "per_page"
        for page in range(1, _PAGES + 1):
            # GitHub filters by head; Gitea and Forgejo do not know that, and list all.
            query = {"state": "all", "base": base, "head": f"{owner}:{branch}"}
            rows = await self._api.get(pulls, **query, **{size: str(_PAGE), "page": str(page)})
            if not isinstance(rows, list) or not rows or rows == before:
                return None
            before = rows
            for row in rows:
                head, into = text_at(row, "head", "ref"), text_at(row, "base", "ref")
                ours = text_at(row, "head", "repo", "full_name") == job.project
                if ours and (head, into) == (branch, base):
                    return page_at(text_at(row, "html_url"))
        return None

    async def open_pull(self, job: Job, draft: Draft) -> str:
        body = {
            "title": draft.title,
            "head": draft.branch,
            "base": draft.base,
            "body": draft.body,
        }
        made = await self._api.send("POST", f"/repos/{job.project}/pulls", body)
        return page_at(text_at(made, "html_url"))

    async def _ours(self, comments: str, marker: str) -> dict[str, Any] | None:
        """
        Return our comment.

        Anybody may write one that begins like ours, and would own what we put into it.
        """
        me = await self._me()
        before = None
        for page in range(1, _PAGES + 1):
            query = {"per_page": str(_PAGE), "page": str(page)}
            rows = await self._api.get(comments, **query)
            # Gitea and Forgejo know no pages here: each one has them all.
            if not isinstance(rows, list) or not rows or rows == before:
                return None
            before = rows
            for row in filter(_is_comment, rows):
                if row["body"].startswith(marker) and _wrote(row["user"], me):
                    return dict(row)
        return None

    async def _me(self) -> str | None:
        """Return whose token this is; None for a job's own, which may not ask."""
        try:
            found = await self._api.get("/user")
        except Refused:
            return None
        login = found.get("login") if isinstance(found, dict) else None
        return login if isinstance(login, str) else None


_JOBS: Final = ("github-actions[bot]", "gitea-actions", "forgejo-actions")


def _wrote(user: Any, me: str | None) -> bool:
    login = user.get("login") if isinstance(user, dict) else None
    return login == me if me is not None else login in _JOBS


def _is_comment(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("body"), str)
        and type(row.get("id")) is int
        and "user" in row
    )


FORGE: Final = GitHub
