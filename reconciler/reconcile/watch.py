"""
Who is told while a pass goes over its servers: for people who wait.
"""

from collections.abc import Callable

Watch = Callable[[str, bool], None]
"""Is told the name of a server, and whether its turn begins; else it has ended."""


def nobody(_name: str, _begins: bool, /) -> None:  # noqa: FBT001  - as it is told
    """Watch nothing."""
