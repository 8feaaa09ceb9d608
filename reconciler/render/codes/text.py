"""What is to be said of a code."""

from typing import NamedTuple


class Text(NamedTuple):
    """What a code means, for trading above all, and what to do."""

    means: str
    todo: str
