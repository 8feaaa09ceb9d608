"""
Near misses: what was written well, with something wrong in it.

Random bytes end at the first check; what is nearly right gets through to the last one.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from tests.fuzz.bounds import KEY

Path = tuple[str | int, ...]

INSTANTS: Final = (
    *("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-14:00"),
    *("9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2026-11-22T12:00:00", "2026-11-22", ""),
    *("2026-W47-7T00:00:00Z", "2026-11-22T12:00:00.000005+23:59", "20261122T120000Z"),
)
TEXTS: Final = (
    *(
        "",
        " ",
        "a",
        "0",
        "null",
        "x" * 5000,
        "\0",
        "\n",
        "\x1b]0;x\x07",
        "\u202e",
        "\ud800",
        "\ufeff",
    ),
    *("a\r\n::add-mask::b", "é" * 300, "../../etc/x", "__proto__", "%s{0}", "1" * 5000, KEY),
    *("https://[::1", "vault:a/../b#c", "sha256:" + "0" * 40, "\U0001f600" * 300, "\ufeff"),
)
NUMBERS: Final = (
    *(0, 1, -1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400, 10**4000),
    *(0.5, -0.0, 1e308, -1e308, 5e-324, 86_400.0, 86_400.5, 1.7e9, 1e15),
)


def _deep(levels: int) -> Any:
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


SHAPES: Final[tuple[Any, ...]] = (
    *(None, True, False, [], {}, [None], [[]], [{}], {"": None}, {"a": {"b": {}}}, {KEY: KEY}),
    *([1] * 3000, ["a", "a"], [KEY], {str(n): n for n in range(2000)}, _deep(60), _deep(500)),
)
ANYTHING: Final = (*SHAPES, *NUMBERS, *INSTANTS, *TEXTS)
"""One of every kind that JSON has, and those that programs stumble over."""


def places(value: Any, *path: str | int) -> Iterator[Path]:
    """Yield where values stand within *value*, itself included."""
    yield path
    steps: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        steps = enumerate(value)
    for step, child in steps:
        yield from places(child, *path, step)


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Return *value* with something else at *path*."""
    if not path:
        return new
    found = copy.copy(value)
    found[path[0]] = replaced(value[path[0]], path[1:], new)
    return found


def without(value: Any, path: Path) -> Any:
    """Return *value* without what stands at *path*, which is not all of it."""
    found = copy.copy(value)
    if len(path) == 1:
        del found[path[0]]
    else:
        found[path[0]] = without(value[path[0]], path[1:])
    return found


def sweep(value: Any) -> Iterator[tuple[Path, Any]]:
    """Yield *value* with each of its values replaced by one of everything, and gone."""
    for path in places(value):
        for new in ANYTHING:
            yield path, replaced(value, path, new)
        if path:
            yield path, without(value, path)


@st.composite
def damaged(draw: st.DrawFn, samples: Sequence[Any]) -> Any:
    """One of *samples* (JSON values) with one to three things wrong."""
    value = draw(st.sampled_from(samples))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        found = list(places(value))
        path = draw(st.sampled_from(found))
        kind = draw(st.sampled_from(("replaced", "replaced", "gone", "more", "moved")))
        if kind == "gone" and path:
            value = without(value, path)
        elif kind == "moved":
            value = replaced(value, path, _at(value, draw(st.sampled_from(found))))
        elif kind == "more" and isinstance(here := _at(value, path), dict):
            value = replaced(value, path, here | {draw(st.sampled_from(TEXTS)): here})
        else:
            value = replaced(value, path, draw(st.sampled_from(ANYTHING)))
    return value


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


_WEDGES: Final = (
    *(b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\n", b"\r", b"\x85"),
    *(
        b'"',
        b"'",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\\u",
        b"\\ud800",
        b"\\",
        b"#",
        b"- ",
        b"? ",
    ),
    *(b"NaN", b"Infinity", b"-", b"1e999", b"0" * 5000, b"[" * 2000, b'{"a":' * 2000, b"null"),
    *(b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"%YAML 9.9\n", b"---\n", b"...\n"),
    *(
        b"\t",
        b"|\n",
        b">9\n",
        b"\xe2\x80\xae",
        b"\xe2\x80\xa8",
        b"0x",
        b"0o9",
        b".inf",
        b"~",
        b"yes",
    ),
)


@st.composite
def torn(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """One of *samples* that was cut, doubled, mixed with another one, or got foreign bytes."""
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.sampled_from((1, 1, 2, 3)))):
        begin = draw(st.integers(0, len(data)))
        end = draw(
            st.integers(begin, min(len(data), begin + draw(st.sampled_from((0, 1, 30, 4000)))))
        )
        kind = draw(st.sampled_from(("wedge", "wedge", "wedge", "bit", "double", "other", "cut")))
        if kind == "wedge":
            data = data[:begin] + draw(st.sampled_from(_WEDGES)) + data[end:]
        elif kind == "bit" and begin < len(data):
            flipped = data[begin] ^ (1 << draw(st.integers(0, 7)))
            data = data[:begin] + bytes([flipped]) + data[begin + 1 :]
        elif kind == "double":
            data = data[:end] + data[begin:]
        elif kind == "other":
            data = data[:begin] + draw(st.sampled_from(samples))[begin:]
        else:
            data = data[:begin]
    return data


def as_json(value: Any) -> str:
    """Write *value* as our files are written: ASCII, whatever is in it."""
    return json.dumps(value, separators=(",", ":"))
