"""
The API of a forge: one comment that is edited in place, the status of a commit, a pull request.

A forge is told, never asked what to do.  What it answers decides nothing but which comment is ours.
"""

import importlib
from typing import Final, Protocol

from msgspec import Struct

from reconciler.ci.http import Api
from reconciler.ci.job import Job, System

STATUS_LIMIT: Final = 140  # characters of a status that GitHub takes


class Draft(Struct, frozen=True):
    """A pull request to open, from *branch* into *base*; `body` is Markdown."""

    branch: str
    base: str
    title: str
    body: str


class Forge(Protocol):
    """Every method raises `reconciler.ci.http.ForgeAway`, whose words name no token."""

    async def comment(self, job: Job, number: str, marker: str, body: str) -> None:
        """
        Make the comment of pull request *number* that begins with *marker* say *body*.

        It is edited only where the account of the token wrote it; what says so already stays as
        it is.
        """
        ...

    async def status(self, job: Job, commit: str, *, good: bool, name: str, words: str) -> None:
        """Set the status called *name* of a commit."""
        ...

    async def pull(self, job: Job, branch: str, base: str) -> str | None:
        """
        Return the page of the pull request from *branch* into *base*, whatever became of it.

        None where there never was one; a branch of somebody else's fork is not that branch.  Empty
        where the forge names no page that people may be led to.
        """
        ...

    async def open_pull(self, job: Job, draft: Draft) -> str:
        """Open a pull request, and return its page; empty as for `pull`."""
        ...


def forge(system: System, api: Api) -> Forge:
    """Return the forge of a system; `ci/forges/NAME.py` ends with the class `FORGE`."""
    name = {System.GITHUB: "github", System.GITEA: "github", System.GITLAB: "gitlab"}[system]
    found: Forge = importlib.import_module(f"{__name__}.{name}").FORGE(api)
    return found
