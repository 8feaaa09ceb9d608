"""
The API of a forge: one comment that is edited in place, and the status of a commit.

A forge is told, never asked what to do.  What it answers decides nothing but which comment is ours.
"""

import importlib
from typing import Final, Protocol

from reconciler.ci.http import Api
from reconciler.ci.job import Job, System

STATUS_LIMIT: Final = 140  # characters of a status that GitHub takes


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


def forge(system: System, api: Api) -> Forge:
    """Return the forge of a system; `ci/forges/NAME.py` ends with the class `FORGE`."""
    name = {System.GITHUB: "github", System.GITEA: "github", System.GITLAB: "gitlab"}[system]
    found: Forge = importlib.import_module(f"{__name__}.{name}").FORGE(api)
    return found
