"""
Where in a file the request of a server goes, and the file's text with it.

Only the block of the request changes; every other byte stays: comments, order, quotes, indentation,
line ends, other documents.  So ruamel.yaml (extra `edit`) only finds the place and the text is
spliced in there; its writer would touch the rest.  It is another parser than the loader's: where
the two disagree, the loader's judgement of the result says so.

A request that stood there before is replaced as a whole, the comments inside of it included.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from reconciler.documents.files import API_VERSION
from reconciler.errors import JtrError
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.source import Problem, SourceLine
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace

KEYS: Final = {
    RequestKind.CACHE: ("cache", "invalidatedAfter"),
    RequestKind.REBOOT: ("reboot", "bootedAfter"),
}
BY_HAND: Final = "write it by hand, or write the document in the usual block style"
_PLAIN: Final = ("robots", "expiresAfter", "resumeWithin")  # words that need no quotes in YAML
_REST_OF_LINE: Final = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?=\r?\n|\Z)")
_ENTRY_ENDS: Final = re.compile(r"[ \t]*,?[ \t]*\r?\n")


class RequestBlock(Struct, frozen=True):
    """
    What shall be written.  `expires_after` and `resume_within` are durations as people write them;
    empty: not said.  `robots` is None for an invalidation.
    """

    kind: RequestKind
    instant: datetime
    reason: str
    robots: Afterwards | None = None
    expires_after: str = ""
    resume_within: str = ""

    def values(self) -> dict[str, str]:
        found = {
            KEYS[self.kind][1]: spelled(self.instant),
            "robots": str(self.robots or ""),
            "reason": self.reason,
            "expiresAfter": self.expires_after,
            "resumeWithin": self.resume_within,
        }
        return {key: value for key, value in found.items() if value}


class TextEdit(Struct, frozen=True):
    """
    Replace the characters from `begin` to `end` by `text`; a byte order mark is not counted.

    `line` and `column` are what a person is shown for anything that is wrong inside of it.
    """

    begin: int
    end: int
    text: str
    line: int
    column: int

    def applied(self, data: bytes) -> bytes:
        """Return *data* with the replacement; all else is the same, byte for byte."""
        content = data.decode("utf-8-sig")
        mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        return mark + f"{content[: self.begin]}{self.text}{content[self.end :]}".encode()

    def on_disk(self, problem: object, data: bytes, file: str) -> object:
        if not isinstance(problem, Problem) or problem.source.file != file:
            return problem
        content = data.decode("utf-8-sig")
        first = content.count("\n", 0, self.begin) + 1
        added = self.text.count("\n")
        if problem.source.line < first:
            return problem
        if problem.source.line <= first + added:
            return replace(problem, source=SourceLine(file, self.line, self.column))
        gone = content.count("\n", self.begin, self.end)
        line = problem.source.line - added + gone
        return replace(problem, source=SourceLine(file, line, problem.source.column))


def reader() -> Callable[[str], Iterator[Any]]:
    """Return ruamel.yaml's way from text to events.  Raises JtrError where it is not installed."""
    try:
        from ruamel.yaml import YAML  # noqa: PLC0415  - an extra that only this needs
    except ImportError as error:
        raise JtrError(
            "editing documents needs ruamel.yaml, which is not installed",
            "install jt-reconciler[edit], or write the request by hand",
        ) from error
    parser: Callable[[str], Iterator[Any]] = YAML(typ="safe", pure=True).parse
    return parser


@dataclass(slots=True)
class _Piece:
    """A value and where its text begins and ends; a mapping's children are keys and values."""

    begin: int
    end: int
    line: int
    column: int
    value: str = ""
    mapping: bool = False
    flow: bool = False
    children: list["_Piece"] = field(default_factory=list)

    def entry(self, key: str) -> tuple["_Piece", "_Piece"] | None:
        pairs = zip(self.children[::2], self.children[1::2], strict=False)
        return next((pair for pair in pairs if self.mapping and pair[0].value == key), None)

    def at(self, *path: str) -> "_Piece | None":
        piece: _Piece | None = self
        for key in path:
            found = piece.entry(key) if piece is not None else None
            piece = found[1] if found is not None else None
        return piece

    def text(self, *path: str) -> str:
        return found.value if (found := self.at(*path)) is not None else ""


def _roots(content: str, events: Callable[[str], Iterator[Any]]) -> Iterator[_Piece]:
    """Yield the tree of each document.  Without recursion: other programs' documents are deep."""
    stack: list[_Piece] = []
    for event in events(content):
        kind = type(event).__name__
        mark = event.start_mark
        if kind in ("MappingStartEvent", "SequenceStartEvent"):
            mapping = kind == "MappingStartEvent"
            piece = _Piece(mark.index, mark.index, mark.line, mark.column, mapping=mapping)
            piece.flow = bool(event.flow_style)
            stack.append(piece)
            continue
        if kind in ("ScalarEvent", "AliasEvent"):
            piece = _Piece(mark.index, event.end_mark.index, mark.line, mark.column)
            piece.value = event.value if kind == "ScalarEvent" else ""
            if kind == "ScalarEvent" and event.style in ("|", ">"):
                piece.end = _end_of_block_scalar(content, piece)
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            piece = stack.pop()
            # A block ends, for the parser, where the next thing begins, behind all comments.
            if piece.flow:
                piece.end = event.end_mark.index
            elif piece.children:
                piece.end = piece.children[-1].end
        else:
            continue
        if stack:
            stack[-1].children.append(piece)
        else:
            yield piece


def _end_of_block_scalar(content: str, piece: _Piece) -> int:
    """Return where its last line of text ends; with `|+`, whose empty lines count, the parser's."""
    written = content[piece.begin : piece.end]
    header = written.partition("\n")[0].partition("#")[0]
    return piece.end if "+" in header else piece.begin + len(written.rstrip())


def located(
    data: bytes, name: str, wish: RequestBlock, events: Callable[[str], Iterator[Any]] | None = None
) -> TextEdit:
    """
    Return the replacement that puts *wish* into the document of the server *name* in *data*.

    *data* was read by the ordinary loader before.  Raises JtrError when the place is not found.
    """
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415  - an extra that only this needs

    content = data.decode("utf-8-sig")
    try:
        spec = _spec(content, name, events or reader())
    except YAMLError:  # its text quotes the file
        spec = None
    if spec is None or not spec[1].children:
        raise JtrError(f"the place for the request of {name} was not found", BY_HAND)
    return _replaced(content, spec[1], wish) or _added(content, *spec, wish)


def _spec(
    content: str, name: str, events: Callable[[str], Iterator[Any]]
) -> tuple[_Piece, _Piece] | None:
    for root in _roots(content, events):
        ours = (root.text("apiVersion"), root.text("kind")) == (API_VERSION, "TradingServer")
        if ours and root.text("metadata", "name") == name:
            return root.entry("spec")
    return None


def _replaced(content: str, spec: _Piece, wish: RequestBlock) -> TextEdit | None:
    """Put the request where an earlier one stands, in its style; None where none does."""
    found = spec.entry(KEYS[wish.kind][0])
    if found is None:
        return None
    key, value = found
    place = (key.line + 1, key.column + 1)
    if value.flow:
        quoted = content[value.begin + 1 :].lstrip()[:1] == '"'
        return TextEdit(value.begin, value.end, _flow(wish, quoted=quoted), *place)
    # The comment on its last line goes, too: it would stand beside another key now.
    end = _line_end(content, value.begin + len(content[value.begin : value.end].rstrip()))
    gap = _line_break(content, value.begin) + " " * value.column
    return TextEdit(value.begin, end, gap.join(_pairs(wish)), *place)


def _added(content: str, key: _Piece, spec: _Piece, wish: RequestBlock) -> TextEdit:
    """Put the request behind the last entry of `spec`, in the style of `spec`."""
    place = (key.line + 1, key.column + 1)
    name = KEYS[wish.kind][0]
    if spec.flow:
        last, end = spec.children[-2], spec.children[-1].end
        quoted = content[last.begin] == '"'
        before = content[content.rfind("\n", 0, last.begin) + 1 : last.begin]
        alone = not before.strip() and _ENTRY_ENDS.match(content, end)
        gap = _line_break(content, last.begin) + before if alone else " "
        label = f'"{name}"' if quoted else name
        return TextEdit(end, end, f",{gap}{label}: {_flow(wish, quoted=quoted)}", *place)
    step = " " * (spec.column - key.column or 2)  # none where the key is written `? spec`
    lines = [f"{name}:", *(step + line for line in _pairs(wish))]
    indented = [" " * spec.column + line for line in lines]
    if content[spec.end - 1] == "\n":  # behind `|+`, whose empty lines belong to it
        text = _line_break(content, spec.end - 1).join([*indented, ""])
        return TextEdit(spec.end, spec.end, text, *place)
    end = _line_end(content, spec.end)
    return TextEdit(end, end, _line_break(content, end).join(["", *indented]), *place)


def _line_end(content: str, position: int) -> int:
    rest = _REST_OF_LINE.match(content, position)
    if rest is None:
        raise JtrError("something stands where only a comment should, behind spec", BY_HAND)
    return rest.end()


def _line_break(content: str, position: int) -> str:
    """Return how the line at *position* ends, or, being the last one, the line before."""
    found = content.find("\n", position)
    if found < 0:
        found = content.rfind("\n")
    return "\r\n" if content[max(0, found - 1) : found] == "\r" else "\n"


def _pairs(wish: RequestBlock, *, quoted: bool = False) -> list[str]:
    def written(word: str, *, plain: bool) -> str:
        # JSON's text is YAML's double-quoted text.
        return word if plain and not quoted else json.dumps(word, ensure_ascii=False)

    return [
        f"{written(key, plain=True)}: {written(value, plain=key in _PLAIN)}"
        for key, value in wish.values().items()
    ]


def _flow(wish: RequestBlock, *, quoted: bool) -> str:
    return "{" + ", ".join(_pairs(wish, quoted=quoted)) + "}"
