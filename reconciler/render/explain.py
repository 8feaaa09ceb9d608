"""
Explanations as text for people: a code in a paragraph, a line of a plan with all its conditions.

Signs: `✓` held, `✗` not held, `?` not known.  The same values are the JSON of `-o json`.
"""

import textwrap
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from reconciler.model.explanation import Check, Explanation, Holds
from reconciler.render.codes import Explained
from reconciler.render.escape import plain
from reconciler.render.json_values import Document, shown, to_json
from reconciler.render.phrases import age_text, clock_text

FORMAT: Final = 1
_SIGNS: Final = {Holds.YES: "✓", Holds.NO: "✗", Holds.UNKNOWN: "?"}
_LONG: Final = 2000
_PAGE: Final = 80  # columns; longer lines of prose are hard to read


def code_text(code: Explained, width: int | None) -> str:
    """Return a code with its paragraphs, on lines of at most *width* columns."""
    parts = (code.means, f"What to do: {code.todo}")
    told = "\n\n".join(textwrap.fill(part, min(width or _PAGE, _PAGE)) for part in parts)
    return f"{code.code}  ({code.kind})\n\n{told}\n"


def code_document(code: Explained) -> Document:
    return {"formatVersion": FORMAT, **shown(code, "code kind means todo")}


def explanation_document(found: Explanation) -> Document:
    document: Document = to_json(found)
    return {"formatVersion": FORMAT, **document}


def explanation_text(found: Explanation) -> str:
    return "\n".join(_rows(found)) + "\n"


def _rows(found: Explanation) -> Iterator[str]:
    now = datetime.fromisoformat(found.at)
    yield f"{plain(found.subject)}: {plain(found.stands)}  ({plain(found.condition.code)})"
    if found.condition.what:
        yield f"  {plain(found.condition.what, _LONG)}"
    if found.held is not None and found.held != found.condition:
        yield f"  ! nothing is applied to this server: {plain(found.held.what, _LONG)}"
    if found.does:
        yield "  It is done at the next apply."
    else:
        yield "  Nothing is done, because:"
        surely = [check for check in found.against if check.holds is Holds.NO]
        yield from _checks(surely or found.against, now, "    ")
        yield from _titled("What would change it", _remedies(found))
    yield ""
    yield "  All that it takes"
    yield from _checks(found.checks, now, "    ")
    width = max((len(source.kind) for source in found.sources), default=0)
    told = [f"{one.kind:{width}}  {plain(one.what, _LONG)}" for one in found.sources]
    yield from _titled("Follows from", told)
    against = (one.code for one in found.against if one.code)
    codes = dict.fromkeys((found.condition.code, *against))
    words = ", ".join(f"jtr explain {plain(code)}" for code in codes)
    yield from _titled("What the words mean", [words])


def _remedies(found: Explanation) -> list[str]:
    server = found.subject.partition("/")[0]
    return [plain(remedy.replace("SERVER", server), _LONG) for remedy in found.remedies]


def _titled(title: str, rows: list[str]) -> Iterator[str]:
    if rows:
        yield ""
        yield f"  {title}"
        yield from (f"    {row}" for row in rows)


def _checks(checks: Iterable[Check], now: datetime, indent: str) -> Iterator[str]:
    for check in checks:
        what = f": {plain(check.what, _LONG)}" if check.what else ""
        code = f"  ({plain(check.code)})" if check.code else ""
        yield f"{indent}{_SIGNS[check.holds]} {check.claim}{what}{code}{_since(check, now)}"
        yield from _checks(check.below, now, indent + "  ")


def _since(check: Check, now: datetime) -> str:
    if not check.since:
        return ""
    try:
        seconds = (now - datetime.fromisoformat(check.since)).total_seconds()
        moment = clock_text(check.since)
    except ValueError:  # a time of Vault's with nine digits behind the point
        return f"; since {plain(check.since)}"
    return f"; since {moment}, {age_text(seconds)} ago"
