"""
How often what is left to chance is drawn: half as often where people wait for it.
"""

FULL = True
"""Whether nobody waits; the conftest sets it before it imports any test."""


def drawn(examples: int) -> int:
    """Return *examples* for `make test-long`, and half of it for `make test`."""
    return examples if FULL else examples // 2
