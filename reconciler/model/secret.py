"""The shy value of a secret, and what a backend says of one version without its values."""

import itertools
import weakref
from collections.abc import Callable
from typing import Final, NoReturn

from msgspec import Struct

_NUMBERS: Final = itertools.count()
_ALIVE: "Final[dict[int, weakref.ref[Secret]]]" = {}
_BORN: Final[dict[int, None]] = {}
_ENDS: Final[list[Callable[[int], None]]] = []


def take_born() -> list[tuple[int, "Secret"]]:
    """Return the secrets since the last call that something still holds, each with its number."""
    born = []
    while _BORN:
        try:
            # The last one: to come to the first, a dict looks at the places of all that are gone.
            number, _ = _BORN.popitem()
        except KeyError:  # another thread was faster
            break
        if (ref := _ALIVE.get(number)) is not None and (secret := ref()) is not None:
            born.append((number, secret))
    return born


def on_end(told: Callable[[int], None]) -> None:
    """Let *told* know the number of each secret that nobody holds any more, on any thread."""
    _ENDS.append(told)


def _end(number: int) -> None:
    _ALIVE.pop(number, None)
    _BORN.pop(number, None)
    for told in _ENDS:
        told(number)


class Shy:
    """
    A value that will not show itself: it is not printed, formatted, listed, pickled or copied.

    Its classes are no dataclasses: `asdict` and a generated `repr` would hand it out.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __dir__(self) -> list[str]:
        return []  # what lists attributes and prints them finds no value

    def __reduce__(self) -> NoReturn:  # copying asks for it as well
        raise TypeError(f"a {type(self).__name__.lower()} is never written down")

    __getstate__ = __reduce__


class Secret(Shy):
    """
    A revealed value; `reveal` is called by the wire, by masks and by fingerprints only.

    It does not compare or hash: equal secrets must not be findable in a set.
    """

    __slots__ = ("__weakref__", "_text")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, text: str) -> None:
        self._text: Final = text
        number = next(_NUMBERS)
        _ALIVE[number] = weakref.ref(self, lambda _: _end(number))
        _BORN[number] = None

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        raise TypeError("secrets are compared by their keyed fingerprints")

    def __bool__(self) -> NoReturn:
        raise TypeError("a secret is neither true nor false")


class VersionInfo(Struct, frozen=True):
    """
    What a backend says of one version of a secret without its values.

    `created` is Vault's `created_time` as it came; `age` is how many seconds ago that was by
    Vault's own clock at the moment of the answer; `alive` is False when deleted or destroyed.
    `targets` are patterns of the addresses that may get it, as its owner says; None: no word.
    """

    version: int
    created: str
    age: float
    alive: bool
    targets: tuple[str, ...] | None = None
