"""A number with its noun, for people: `1 server`, `2 servers`."""


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
