"""Words that messages share."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, for people: `1 server`, `2 servers`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
