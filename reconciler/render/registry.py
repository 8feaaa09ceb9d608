"""
The forms in which `plan` and `apply` tell what they found: `render/plan_NAME.py` is `-o NAME`.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from reconciler import render

if TYPE_CHECKING:  # every command asks for the names alone
    from datetime import datetime

    from reconciler.errors import Exit
    from reconciler.model.outcomes import Report
    from reconciler.model.plan import Plan
    from reconciler.render.layout import View

_PREFIX = "plan_"


class AuditPart(NamedTuple):
    """
    What an audit says beside a plan, and what it alone would end a command with.

    `line` sums it up, in words that hold no name; empty where the text does.
    """

    code: "Exit"
    text: str
    document: dict[str, Any]
    line: str = ""


class PlanRenderer(Protocol):
    """
    One form; its file ends with `RENDERER`.  Pure.

    Every line of a plan is in the text, with its server, and so is what is held, owed, noted and
    not visited; a form that has to be short counts what it leaves out.  Of an error it takes our
    own words only.  What servers and documents say is escaped: nothing in the text drives a
    terminal or fakes another line.
    """

    live: bool  # for people who watch: the plan is shown before it is carried out

    def seen(self, view: "View") -> "PlanRenderer":
        """Return this form as somebody looks at it who may have a narrow window, or little time."""
        del view
        return self

    def plan(
        self, plan: "Plan", code: "Exit", *, recorded: bool = False, audit: AuditPart | None = None
    ) -> str:
        """Return the whole plan; *recorded* says that no server was visited for it."""
        ...

    def already(self, plan: "Plan", code: "Exit", *, at: "datetime | None" = None) -> str:
        """Return that what was expected is so already; *at* is when `apply` ended."""
        ...

    def refused(self, plan: "Plan", code: "Exit", *, at: "datetime | None" = None) -> str:
        """Return the plan that was not carried out, because another one was expected."""
        del at
        return self.plan(plan, code)

    def done(
        self,
        plan: "Plan",
        reports: "Sequence[Report]",
        code: "Exit",
        *,
        at: "datetime | None" = None,
    ) -> str:
        """Return what was done, failed and not attempted."""
        ...


def plan_forms() -> list[str]:
    """Return the name of every form, without importing any; the one for people is the first."""
    found = {module.name for module in pkgutil.iter_modules(render.__path__)}
    forms = {name.removeprefix(_PREFIX) for name in found if name.startswith(_PREFIX)}
    return sorted(forms, key=lambda form: (form != "text", form))


def plan_renderer(form: str) -> PlanRenderer:
    found: PlanRenderer = importlib.import_module(f"{render.__name__}.{_PREFIX}{form}").RENDERER
    return found
