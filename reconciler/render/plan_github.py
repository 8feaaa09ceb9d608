"""
Plans and reports for a job's log on GitHub, Gitea and Forgejo.

The text for people, in which nothing is a command, and annotations at the lines that reviewers
should see.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from reconciler.errors import Exit
from reconciler.model.desired import DesiredState
from reconciler.model.outcomes import Report
from reconciler.model.plan import Plan
from reconciler.render.annotate import of_plan
from reconciler.render.annotations.github import annotations, quiet
from reconciler.render.plan_text import RENDERER as AS_TEXT
from reconciler.render.registry import AuditPart, PlanRenderer

_NO_DOCUMENTS: Final = DesiredState(())


class PlanGitHub(PlanRenderer):
    live = False

    def plan(
        self, plan: Plan, code: Exit, *, recorded: bool = False, audit: AuditPart | None = None
    ) -> str:
        text = AS_TEXT.plan(plan, code, recorded=recorded, audit=audit)
        return quiet(text) + annotations(list(of_plan(plan, _NO_DOCUMENTS)))

    def already(self, plan: Plan, code: Exit, *, at: datetime | None = None) -> str:
        return quiet(AS_TEXT.already(plan, code, at=at))

    def done(
        self, plan: Plan, reports: Sequence[Report], code: Exit, *, at: datetime | None = None
    ) -> str:
        return quiet(AS_TEXT.done(plan, reports, code, at=at))


RENDERER: Final = PlanGitHub()
