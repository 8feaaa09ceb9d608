"""
Templates to HTML.  Every text is escaped, and nothing invisible in it reaches a browser.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reconciler.controller.page.view import Cell
from reconciler.render.escape import plain

LONGEST: Final = 4_000  # characters of one text
PAGES: Final = (
    ("/", "Fleet"),
    ("/requests", "Requests"),
    ("/history", "History"),
    ("/windows", "Windows"),
    ("/audit", "Audit"),
    ("/controller", "Controller"),
)


def _seen(value: object) -> object:
    """Return what is put into a page: text of servers and files without what nobody can see."""
    return value if isinstance(value, Markup) else plain(str(value), LONGEST)


def _moment(text: str) -> str:
    """Return a time as everybody reads it: UTC, to the second."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{found.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _others(cells: Mapping[str, Cell], columns: Iterable[str]) -> list[Cell]:
    known = set(columns)
    return [cell for code, cell in cells.items() if code not in known]


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("reconciler.controller.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_seen,
    auto_reload=False,
)
_ENVIRONMENT.filters |= {
    "moment": _moment,
    "others": _others,
    "number": lambda value: f"{value:,}",
}
_PARTS: Final[Any] = _ENVIRONMENT.get_template("parts.html").module


def part(name: str, *values: object) -> Markup:
    """Return the fragment *name* of `parts.html`."""
    return Markup(getattr(_PARTS, name)(*values).strip())  # noqa: S704  - a template escaped it


def page(name: str, /, **values: object) -> str:
    return _ENVIRONMENT.get_template(f"{name}.html").render(pages=PAGES, **values)
