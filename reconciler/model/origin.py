"""
Where what is done comes from: the commit, the pull request that carried it, who merged that.  Pure.

Each is a word of whoever could say it, Git or a job's environment: it is shown, never believed.
"""

import re
from typing import Final

from msgspec import Struct

# The first lines that forges give to merges and to squashes, and the last one that GitLab adds.
_PULLS: Final = (
    re.compile(r"\AMerge pull request #([1-9][0-9]{0,11}) from "),
    re.compile(r"\A[^\n]{0,400} \(#([1-9][0-9]{0,11})\)(?: from \S{1,200}[^\n]{0,200})?(?:\n|\Z)"),
    re.compile(r"^See merge request \S{0,200}!([1-9][0-9]{0,11})$", re.MULTILINE),
)


class Origin(Struct, frozen=True):
    """
    Why something was done; each is empty where nobody told.

    `revision` is a commit, `pull` what its forge calls the pull request (`#12`, a branch), `by`
    who signed the commit where signatures are asked for, else who merged or committed it.
    """

    revision: str = ""
    pull: str = ""
    by: str = ""

    def __str__(self) -> str:
        words = [self.revision[:12], self.pull, f"by {self.by}" if self.by else ""]
        return " ".join(filter(None, words))


NO_ORIGIN: Final = Origin()


def pull_of(message: str) -> str:
    """Return the pull request that a commit's message names, as forges write it; else nothing."""
    found = (pattern.search(message) for pattern in _PULLS)
    number = next((match[1] for match in found if match), "")
    return f"#{number}" if number else ""
