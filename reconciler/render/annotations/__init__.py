"""
Forms in which lines of files are told, by `validate`, `policy check` and `audit`.

`render/annotations/NAME.py` is `-o NAME`.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol

from reconciler.model.annotations import Annotation


class AnnotationRenderer(Protocol):
    """
    One form; its file ends with `RENDERER`.  Pure.

    Nothing in a foreign word drives a terminal, ends a command or fakes another entry.  A form that
    has to be short counts what it leaves out.
    """

    def __call__(self, found: Sequence[Annotation]) -> str:
        """Return all of *found*, the worst first."""
        ...


def annotation_forms() -> list[str]:
    """Return the name of every form, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def annotation_renderer(form: str) -> AnnotationRenderer:
    found: AnnotationRenderer = importlib.import_module(f"{__name__}.{form}").RENDERER
    return found
