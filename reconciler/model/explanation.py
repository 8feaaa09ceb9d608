"""
Why something is done on a server, or why not: everything that it takes, and whether it holds.
"""

import enum
from collections.abc import Iterable, Iterator

from msgspec import Struct

from reconciler.model.conditions import Condition


class Holds(enum.StrEnum):
    YES = "held"
    NO = "not held"
    UNKNOWN = "unknown"


class Check(Struct, frozen=True):
    """
    One thing that an action takes, and whether it holds.

    `what` says how that is known, or what stands against it; `code` and `remedy` are there where it
    does not hold, or is not known.  `since` is when it became so (RFC 3339), as far as it was seen.
    """

    claim: str
    holds: Holds
    what: str = ""
    code: str = ""
    remedy: str = ""
    since: str = ""
    below: tuple["Check", ...] = ()


class Source(Struct, frozen=True):
    """One of the things from which a line of a plan follows: which kind, and which one."""

    kind: str
    what: str


class Explanation(Struct, frozen=True):
    """
    All that there is to know about one line of a plan.

    `subject` is what was asked about, `stands` how it stands in the plan, `does` whether it would
    be done at the next apply.  `held` says why nothing at all is done to the server.  Times of the
    checks are judged at `at`.
    """

    subject: str
    stands: str
    does: bool
    condition: Condition
    held: Condition | None
    checks: tuple[Check, ...]
    sources: tuple[Source, ...]
    at: str

    @property
    def against(self) -> tuple[Check, ...]:
        """Return what does not hold or is not known, each at its own place."""
        return tuple(_leaves(self.checks))

    @property
    def remedies(self) -> tuple[str, ...]:
        """What would change it: the line's own remedy first, none twice."""
        held = self.held.remedy if self.held is not None else ""
        said = (held, self.condition.remedy, *(one.remedy for one in self.against))
        return tuple(dict.fromkeys(remedy for remedy in said if remedy))


def _leaves(checks: Iterable[Check]) -> Iterator[Check]:
    for check in checks:
        if check.below:
            yield from _leaves(check.below)
        elif check.holds is not Holds.YES:
            yield check


def together(claim: str, below: Iterable[Check]) -> Check:
    """Return what holds when all of *below* hold."""
    checks = tuple(below)
    found = {check.holds for check in checks}
    worst = next((one for one in (Holds.NO, Holds.UNKNOWN) if one in found), Holds.YES)
    return Check(claim, worst, below=checks)
