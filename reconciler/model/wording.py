"""Words for people: a number with its noun, and what a mistyped word may have meant."""

from collections.abc import Iterable
from typing import Final

RUNBOOKS: Final = "docs/runbooks"
"""Where the pages lie to which messages lead, unless the operator says another address."""


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def close_to(word: str, known: Iterable[str], most: int = 2) -> list[str]:
    """Return those of *known* that *word* may have been meant to be, the nearest first."""
    import difflib  # noqa: PLC0415  - only for what is mistyped

    return difflib.get_close_matches(word[:100], sorted(known), most)
