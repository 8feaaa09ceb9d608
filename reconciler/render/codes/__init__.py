"""
Every code that jtr says anywhere, and what it means: conditions, errors, exit codes, findings.

One place, so that `jtr explain CODE` knows them all; a test holds that none lacks a text.
"""

import enum
from collections.abc import Iterator

from msgspec import Struct

from reconciler.model.wording import close_to


class Kind(enum.StrEnum):
    """What says a code."""

    CONDITION = "condition of a plan"
    ERROR = "failure"
    EXIT = "exit code"
    FINDING = "finding of the audit"
    CHECK = "check of jtr doctor"


class Explained(Struct, frozen=True):
    """A code, what it means (for trading above all), and what to do."""

    code: str
    kind: Kind
    means: str
    todo: str


def every() -> Iterator[Explained]:
    """Yield all codes."""
    from reconciler.exchanges.judge.findings import FINDINGS  # noqa: PLC0415  - only who explains
    from reconciler.render.codes import (  # noqa: PLC0415  - pays for all these words
        conditions,
        doctor,
        errors,
        exits,
        findings,
    )

    for code, (means, todo) in conditions.TEXTS.items():
        yield Explained(code, Kind.CONDITION, means, todo)
    for name, (means, todo) in errors.TEXTS.items():
        if name not in set(conditions.TEXTS):
            yield Explained(name, Kind.ERROR, means, todo)
    for number, (means, todo) in exits.TEXTS.items():
        yield Explained(str(int(number)), Kind.EXIT, means, todo)
    for name, means in findings.TEXTS.items():
        usual = FINDINGS[name][1]
        todo = f"{usual[:1].upper()}{usual[1:]}." if usual else "Nothing."
        yield Explained(name, Kind.FINDING, means, todo)
    for name, (means, todo) in doctor.TEXTS.items():
        yield Explained(name, Kind.CHECK, means, todo)


def find(word: str) -> Explained | None:
    """Return what *word* stands for, whatever its case; None where it is no code."""
    folded = word.casefold()
    return next((one for one in every() if one.code.casefold() == folded), None)


def near(word: str) -> list[str]:
    """Return the codes that *word* may have been meant to be."""
    codes = {one.code.casefold(): one.code for one in every()}
    return [codes[found] for found in close_to(word.casefold(), codes)]
