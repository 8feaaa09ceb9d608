"""
JUnit's XML, which every CI system shows: an error is a failed test, all else passes and says so.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from reconciler.model.annotations import Annotation, Weight
from reconciler.render.escape import plain


def suite(found: Sequence[Annotation]) -> str:
    ordered = sorted(found, key=lambda one: one.order)
    failed = sum(one.weight is Weight.ERROR for one in ordered)
    counts = f'tests="{max(1, len(ordered))}" failures="{failed}" errors="0"'
    rows = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="jtr" {counts}>',
        f'<testsuite name="jtr" {counts} skipped="0">',
        *(row for one in ordered for row in _case(one)),
        *([] if ordered else ['<testcase classname="jtr" name="nothing to complain of"/>']),
        "</testsuite>",
        "</testsuites>",
    ]
    return "\n".join(rows) + "\n"


def _case(one: Annotation) -> Iterator[str]:
    words = plain(one.words, 2000)
    place = plain(str(one.source), 400) if one.source.line else ""
    name = f"{one.rule} {place}".strip()
    yield f"<testcase classname={_attribute(one.server or 'jtr')} name={_attribute(name)}>"
    if one.weight is Weight.ERROR:
        yield f"<failure message={_attribute(words)}>{escape(f'{place} {words}'.strip())}</failure>"
    else:
        yield f"<system-out>{escape(f'{one.weight}: {place} {words}')}</system-out>"
    yield "</testcase>"


def _attribute(text: str) -> str:
    return quoteattr(plain(text, 2000))


RENDERER: Final = suite
