"""Which servers are meant by the names and patterns that people type; a typo never passes."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from reconciler.errors import UsageError
from reconciler.model.patterns import glob_matches
from reconciler.render.escape import plain

_SHOWN: Final = 10


def is_pattern(word: str) -> bool:
    return "*" in word or "?" in word


def matching(word: str, known: Collection[str]) -> list[str]:
    """Return the names that *word* means: itself, or what matches where it is a pattern."""
    if is_pattern(word):
        return sorted(name for name in known if glob_matches(word, name))
    return [word] if word in known else []


def meant(
    words: Iterable[str], known: Collection[str], *, whose: str = "", more: str = ""
) -> frozenset[str]:
    """
    Return all names that *words* mean.

    Raises UsageError for the words that mean none; *whose* are the names that are *known*, *more*
    is said behind them.
    """
    found: set[str] = set()
    missing = []
    for word in words:
        here = matching(word, known)
        found.update(here)
        if not here:
            missing.append(word)
    if missing:
        raise unknown(missing, known, whose=whose, more=more)
    return frozenset(found)


def unknown(
    words: Sequence[str],
    known: Collection[str],
    *,
    option: str = "",
    whose: str = "",
    more: str = "",
) -> UsageError:
    """Return the error for words that mean no server: what they are near to, and what there is."""
    called = [plain(word) for word in words if not is_pattern(word)]
    matched = [plain(word) for word in words if is_pattern(word)]
    if whose:
        begin, name, pattern = f"{whose} knows no server ", "called", "whose name matches"
    else:
        begin, name, pattern = "no server ", "is called", "has a name that matches"
    parts = [f"{name} {', '.join(called)}"] if called else []
    parts += [f"{pattern} {', '.join(matched)}"] if matched else []
    near = _near(words, known)
    hint = f"did you mean {' or '.join(map(plain, near))}? " if near else ""
    before = f"{option}: " if option else ""
    return UsageError(
        f"{before}{begin}{', and none '.join(parts)}", f"{hint}known: {some(known)}{more}"
    )


def one_only(word: str, found: Collection[str]) -> UsageError:
    """Return the error for a pattern that means several servers where one is asked for."""
    return UsageError(
        f"{plain(word)} means {len(found)} servers, and this is about one",
        f"name one of: {some(found)}",
    )


def some(names: Iterable[str], none: str = "none yet") -> str:
    """List names for people, not more than they read."""
    ordered = sorted(map(plain, names))
    text = ", ".join(ordered[:_SHOWN]) or none
    return f"{text} and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else text


def _near(words: Sequence[str], known: Collection[str]) -> list[str]:
    import difflib  # noqa: PLC0415  - only for a mistyped name

    found: dict[str, None] = {}
    for word in words[:_SHOWN]:
        bare = word.replace("*", "").replace("?", "")[:100]
        found.update(dict.fromkeys(difflib.get_close_matches(bare, sorted(known), n=3)))
    return sorted(list(found)[:3])
