"""Patterns of addresses, paths and names, as settings, policies and secrets' owners write them."""

import functools
import re
from collections.abc import Iterable
from typing import Final

_GLOB: Final = re.compile(r"\*\*|\*|\?|[^*?]+")


def glob_matches(pattern: str, subject: str) -> bool:
    """
    Match as the settings promise: `*` any characters but `/`, `**` any, `?` one but `/`.

    Not fnmatch: its `*` crosses `/`, so `https://*.internal` would match
    `https://elsewhere.test/.internal`.
    """
    return _compiled(pattern).fullmatch(subject) is not None


def any_matches(patterns: Iterable[str], subject: str) -> bool:
    return any(glob_matches(pattern, subject) for pattern in patterns)


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    wild = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = [wild.get(part) or re.escape(part) for part in _GLOB.findall(pattern)]
    return re.compile("".join(parts), re.DOTALL)


def covers(wide: str, narrow: str) -> bool:
    """
    Whether *wide* certainly matches whatever *narrow* does.

    False where that cannot be told from the two texts.
    """
    if wide in ("**", narrow):
        return True
    # What is literal in the narrow one must be matched by the wide one; its own wildcards are taken
    # for a text that no pattern holds, which only a wildcard of the same reach can match.
    if "**" in narrow:
        return wide.endswith("**") and "**" not in wide[:-2] and _within(wide[:-2], narrow)
    return glob_matches(wide, narrow.replace("*", "\x00\x00").replace("?", "\x01"))


def _within(prefix: str, narrow: str) -> bool:
    """Whether everything that *narrow* matches begins with *prefix*, which has no wildcard."""
    literal = re.split(r"[*?]", narrow, maxsplit=1)[0]
    return not re.search(r"[*?]", prefix) and literal.startswith(prefix)
