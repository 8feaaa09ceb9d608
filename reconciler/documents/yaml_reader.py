"""
YAML text to positioned trees, strictly.

The C parser's events are turned into nodes here.  `yaml.compose` and `yaml.load` are never called:
with the C loader they end the process on deep nesting.  What YAML allows and people regret is
refused: aliases, anchors, tags, merge keys, duplicate keys, directives.  Scalars follow the core
schema of YAML 1.2, so `yes`, `1:30` and dates stay text.

No message repeats a value or the parser's own words: a value may be a pasted key.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import yaml
from msgspec import Struct, field

from reconciler.documents.tree import List, Map, Node, Scalar
from reconciler.errors import InvalidConfig, JtrError
from reconciler.model.source import Problem, SourceLine

BYTES_LIMIT: Final = 1024 * 1024
DEPTH_LIMIT: Final = 40
NODES_LIMIT: Final = 100_000  # half a second; the smallest server has fifteen
DOCUMENTS_LIMIT: Final = 3_000
PROBLEMS_LIMIT: Final = 1_000  # noted of one document; more would only cost time
DIGITS_LIMIT: Final = 15  # what a JSON number carries without loss
CHARACTER_PROBLEMS_LIMIT: Final = 20  # a binary file would otherwise fill the screen

_TAG = ("tags are not used here", "remove the tag; quote the value if it shall be text")
_DIRECTIVE = ("YAML directives (%YAML, %TAG) are not used here", "remove the line")
_CHARACTER = ("a value cannot start with this character", "put the value in double quotes")
_COLON = ("a colon stands where none can", "check the indentation, or put the value in quotes")
_KEY = ("the indentation or a bracket does not fit", "compare with the lines above")
_QUOTE = ("a quoted text does not end", "add the closing quote")
_ESCAPE = ("a double-quoted text holds an unknown escape", "use single quotes")

# libyaml's own constants, in our words.  They never hold a piece of the file.
_SYNTAX: Final = {
    "found undefined tag handle": _TAG,
    "found unknown directive name": _DIRECTIVE,
    "found incompatible YAML document": _DIRECTIVE,
    "found duplicate %YAML directive": _DIRECTIVE,
    "found duplicate %TAG directive": _DIRECTIVE,
    "found character that cannot start any token": _CHARACTER,
    "mapping values are not allowed in this context": _COLON,
    "could not find expected ':'": ("a key has no colon", "write `key: value`"),
    "did not find expected key": _KEY,
    "did not find expected '-' indicator": _KEY,
    "did not find expected <document start>": (
        "the indentation does not fit, or a document has no `---` before it",
        "compare with the lines above",
    ),
    "did not find expected ',' or ']'": ("a list does not end", "add the closing bracket"),
    "did not find expected ',' or '}'": ("a mapping does not end", "add the closing brace"),
    "found unexpected end of stream": _QUOTE,
    "found unexpected document indicator": _QUOTE,
    "found unknown escape character": _ESCAPE,
    "found invalid Unicode character escape code": _ESCAPE,
    "did not find expected hexdecimal number": _ESCAPE,
    "block sequence entries are not allowed in this context": (
        "a list item stands where none can",
        "begin the list on a line of its own",
    ),
}

_TOO_DEEP: Final = "exceeded maximum nesting depth"  # since PyYAML 6.0.4, at 1,000 levels

# A reviewer must see what a file says: no control characters, no invisible or direction-changing
# ones, no line breaks that only some programs honour.
_UNSEEN: Final = (
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]|\r(?!\n)"
)
_CONFLICT: Final = re.compile("^<<<<<<< ", re.MULTILINE)
_TAB: Final = re.compile(r"^ *\t", re.MULTILINE)
_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what libyaml counts as a line break
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMERIC: Final = frozenset("0123456789+-.")  # whatever begins otherwise is no number
_TEXT: Final = ((True, False), (False, True))  # `implicit` of a plain and of a quoted scalar
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


# These are made for every value: the constructor of a named tuple costs as much again.
_line: Final = functools.partial(tuple.__new__, SourceLine)
_text: Final = functools.partial(tuple.__new__, Scalar)


class Document(Struct, frozen=True):
    """One document: its tree, and the lines of its file that belong to it."""

    root: Node
    first: int
    last: int


class _Frame(Struct, eq=False):
    """A collection that has begun and not ended; `key` is the one that waits for its value."""

    source: SourceLine
    mapping: bool
    entries: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, SourceLine] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    key: str | None = None
    waiting: bool = False  # a key was read; None in `key` then means: throw its value away

    def node(self) -> Node:
        if self.mapping:
            return Map(self.entries, self.keys, self.source)
        return List(tuple(self.items), self.source)


class _Fatal(Exception):
    """The rest of the file cannot be read; the problem was noted."""


class _TooDeepToParse(Exception):
    """The parser looked ahead and met its own limit of nesting before ours; at `offset`."""

    def __init__(self, offset: int) -> None:
        self.offset: Final = offset


class Builder:
    """Turns one file's events into `documents` and `problems`, without recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.documents: list[Document] = []
        self.problems: list[Problem] = []
        self._stack: list[_Frame] = []
        self._root: Node | None = None
        self._first = 1
        self._noted = 0
        self._begun = 0
        self.count = 0

    def complain(self, source: SourceLine, what: str, remedy: str) -> None:
        self._noted += 1
        if self._noted <= PROBLEMS_LIMIT:
            self.problems.append(Problem(source, what, remedy))

    def _refused(self, source: SourceLine, what: str, remedy: str) -> Scalar:
        self.complain(source, what, remedy)
        return Scalar(None, source, sound=False)

    def _counted(self, event: yaml.Event) -> SourceLine:
        """Return where a value stands, and count it."""
        mark: Any = event.start_mark  # every event of the C parser has one
        source = _line((self.file, mark.line + 1, mark.column + 1))
        self.count += 1
        if self.count > NODES_LIMIT:
            self.complain(source, f"more than {NODES_LIMIT} values in one file", "split the file")
            raise _Fatal
        return source

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        source = self._counted(event)
        value = event.value
        # Nine of ten are just text.
        if (
            event.implicit in _TEXT
            and event.tag is None
            and event.anchor is None
            and value.isprintable()
            and (not event.implicit[0] or (value not in _WORDS and value[0] not in _NUMERIC))
        ):
            self._add(_text((value, source, True)))
            return
        self._decorations(event, source)
        self._add(self._scalar(event, source))

    def _take_start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        source = self._counted(event)
        self._decorations(event, source)
        if len(self._stack) >= DEPTH_LIMIT:
            self.complain(
                source, f"nested deeper than {DEPTH_LIMIT} levels", "no document needs that"
            )
            raise _Fatal
        self._stack.append(_Frame(source, isinstance(event, yaml.MappingStartEvent)))

    def _take_end(self, _: yaml.Event) -> None:
        self._add(self._stack.pop().node())

    def _take_alias(self, event: yaml.Event) -> None:
        source = self._counted(event)
        self._add(self._refused(source, "aliases (*name) are not used here", "write the value out"))

    def _take_document(self, event: yaml.DocumentStartEvent) -> None:
        source = SourceLine(self.file, *_begin(event))
        self._first = source.line
        self._root = None
        self._noted = 0  # other programs' documents may be full of what we refuse
        self._begun += 1
        if self._begun > DOCUMENTS_LIMIT:
            self.complain(
                source, f"more than {DOCUMENTS_LIMIT} documents in one file", "split the file"
            )
            raise _Fatal
        if event.version or event.tags:
            self.complain(source, *_DIRECTIVE)

    def _take_document_end(self, event: yaml.DocumentEndEvent) -> None:
        if self._root is not None:
            self.documents.append(Document(self._root, self._first, _begin(event)[0]))

    def takers(self) -> Mapping[type, Callable[[Any], None]]:
        """Return what digests each kind of event; each raises `_Fatal` beyond a limit."""
        return {
            yaml.ScalarEvent: self._take_scalar,
            yaml.MappingStartEvent: self._take_start,
            yaml.SequenceStartEvent: self._take_start,
            yaml.MappingEndEvent: self._take_end,
            yaml.SequenceEndEvent: self._take_end,
            yaml.AliasEvent: self._take_alias,
            yaml.DocumentStartEvent: self._take_document,
            yaml.DocumentEndEvent: self._take_document_end,
        }

    def _decorations(
        self,
        event: yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent,
        source: SourceLine,
    ) -> None:
        if event.anchor is not None:
            self.complain(source, "anchors (&name) are not used here", "remove the anchor")
        # `! text`, the tag that names nothing, shows only in `implicit`.
        bare = isinstance(event, yaml.ScalarEvent) and not any(event.implicit)
        if event.tag is not None or bare:
            self.complain(source, *_TAG)

    def _scalar(self, event: yaml.ScalarEvent, source: SourceLine) -> Scalar:
        value = event.value
        if next(_unseen(value), None):
            # Escapes such as "\u202e"; the character itself was found in the text already.
            self.complain(source, "a text holds an invisible or control character", "remove it")
            return Scalar(value, source, sound=False)
        # The C parser says '' for the style of a plain scalar, the other one None: ask `implicit`.
        if not event.implicit[0] or event.tag is not None:
            tagged = event.tag is not None or not any(event.implicit)
            return Scalar(value, source, sound=not tagged)
        if value in _WORDS:
            return Scalar(_WORDS[value], source)
        if _INTEGER.fullmatch(value) or _FLOAT.fullmatch(value):
            return self._number(value, source)
        if _NO_NUMBER.fullmatch(value):
            return self._refused(
                source, "infinity and not-a-number are no values", "write a number"
            )
        return Scalar(value, source)

    def _number(self, value: str, source: SourceLine) -> Scalar:
        exponent = value.lower().partition("e")[2].lstrip("+-")
        prefixed = value.startswith("0x")
        if len(value) > DIGITS_LIMIT or (not prefixed and exponent and len(exponent) > 2):  # noqa: PLR2004  - up to e99
            return self._refused(
                source,
                "a number that is too long or too large",
                "put it in double quotes if it is text",
            )
        if _INTEGER.fullmatch(value):
            base = {"0o": 8, "0x": 16}.get(value[:2], 10)
            return Scalar(int(value, base), source)
        return Scalar(float(value), source)

    def _add(self, node: Node) -> None:
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        if frame.waiting:
            frame.waiting = False
            if frame.key is not None:
                frame.entries[frame.key] = node
        elif frame.mapping:
            frame.waiting = True
            frame.key = self._key(node, frame.keys)
        else:
            frame.items.append(node)

    def _key(self, node: Node, known: dict[str, SourceLine]) -> str | None:
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            if not isinstance(node, Scalar) or node.sound:
                self.complain(node.source, "a key is not text", "write a word, in quotes if needed")
            return None
        if node.value == "<<":
            self.complain(node.source, "merge keys (<<) are not used here", "write the keys out")
            return None
        earlier = known.get(node.value)
        if earlier is not None:
            self.complain(
                node.source,
                f"this key stands already in line {earlier.line}, column {earlier.column}",
                "keep one of the two",
            )
            return None
        known[node.value] = node.source
        return node.value


def _begin(event: yaml.Event) -> tuple[int, int]:
    mark: Any = event.start_mark  # every event of the C parser has one
    return mark.line + 1, mark.column + 1


def parse(data: bytes, file: str) -> list[Node]:
    """
    Return the trees of all documents in *data*; *file* is the name that places are given with.

    Raises InvalidConfig with what is wrong; of very many problems with the first ones.
    """
    builder, _ = scan(data, file)
    if builder.problems:
        raise InvalidConfig(builder.problems)
    return [document.root for document in builder.documents]


def scan(data: bytes, file: str) -> tuple[Builder, bool]:
    """Read one file; the second value says whether its end was reached."""
    builder = Builder(file)
    if len(data) > BYTES_LIMIT:
        builder.complain(
            SourceLine(file, 1),
            f"the file is larger than {BYTES_LIMIT // 2**20} MiB",
            "split the file",
        )
        return builder, False
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        builder.complain(
            _place(before, len(before), file), "the file is not UTF-8 text", "save it as UTF-8"
        )
        return builder, False
    if not hasattr(yaml, "CLoader"):
        raise JtrError("PyYAML has no C parser here", "install a PyYAML wheel with libyaml")
    if (marker := _conflict(content)) is not None:
        # Two versions of one document: what the parser makes of them helps nobody.
        builder.complain(
            _place(content, marker, file),
            "a merge was left unfinished here (a conflict marker)",
            "keep one of the two sides, and remove the markers",
        )
        return builder, False
    unseen = list(_characters(content, file))
    while True:
        builder = Builder(file)
        builder.problems.extend(unseen)
        try:
            return builder, _read(content, builder)
        except _TooDeepToParse as error:
            # What stands before that is deep enough for our own limit to be met, at its own place.
            content = content[: error.offset]


def _read(content: str, builder: Builder) -> bool:
    """Let *builder* take all events; return whether the end was reached."""
    parser = yaml.CLoader(content)
    next_event, takers = parser.get_event, builder.takers()
    try:
        while (event := next_event()) and (kind := type(event)) is not yaml.StreamEndEvent:
            if kind in takers:
                takers[kind](event)
    except _Fatal:
        return False
    except yaml.YAMLError as error:
        if isinstance(error, yaml.MarkedYAMLError) and error.problem == _TOO_DEEP:
            raise _TooDeepToParse(error.problem_mark.index if error.problem_mark else 0) from None
        builder.problems.extend(_syntax(error, builder.file, builder.problems))
        return False
    finally:
        parser.dispose()
    return True


def _place(content: str, offset: int, file: str) -> SourceLine:
    breaks = list(_BREAK.finditer(content, 0, offset))
    begin = breaks[-1].end() if breaks else 0
    return SourceLine(file, len(breaks) + 1, offset - begin + 1)


def _conflict(content: str) -> int | None:
    """Return where Git marked a conflict; at the beginning of a line no YAML stands so."""
    found = _CONFLICT.search(content) if "<<<<<<< " in content else None
    return found.start() if found is not None else None


def _unseen(content: str) -> Iterator[re.Match[str]]:
    """Find what is unseen; all of it is unprintable, and a usual file is not searched for it."""
    if content.replace("\n", "").replace("\t", "").isprintable():
        return iter(())  # compiling the pattern takes as long as reading a small file
    return re.finditer(_UNSEEN, content)


def _characters(content: str, file: str) -> Iterator[Problem]:
    for match in itertools.islice(_unseen(content), CHARACTER_PROBLEMS_LIMIT):
        place = _place(content, match.start(), file)
        if match[0] == "\0":
            yield Problem(place, "the file holds a NUL byte", "save it as plain UTF-8 text")
        elif match[0] in "\r\x85\u2028\u2029":
            yield Problem(place, "a line break that is none elsewhere", "end lines with \\n")
        else:
            yield Problem(
                place,
                f"an invisible or control character (U+{ord(match[0]):04X})",
                "remove it, so that everybody sees what the file says",
            )
    tabs = _TAB.finditer(content) if "\t" in content else iter(())
    for match in itertools.islice(tabs, CHARACTER_PROBLEMS_LIMIT):
        place = _place(content, match.end() - 1, file)
        yield Problem(place, "a tab in the indentation", "indent with spaces")


def _syntax(error: yaml.YAMLError, file: str, known: Sequence[Problem]) -> Iterator[Problem]:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        # The reader refuses a character, which was reported with its place already.
        if not known:
            yield Problem(SourceLine(file, 1), "the file is not YAML text", "save it as UTF-8")
        return
    place = SourceLine(file, mark.line + 1, mark.column + 1)
    if any(problem.source.line == place.line for problem in known):
        return  # a tab, a tag: said in better words
    what, remedy = _SYNTAX.get(
        str(getattr(error, "problem", "")), ("this is not valid YAML", "check the lines above")
    )
    yield Problem(place, what, remedy)
