"""
What a command tells people, taken apart: what is wrong, and what to do about it.

Every message must have both, hold no name of a Python exception and no mask; the table of
`test_bad_input` then asks for the words that matter.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.errors import Exit

# What a person must never meet: tracebacks, exception classes, reprs, addresses in memory, and
# the five bullets in the middle of a mask.
FOREIGN = re.compile(
    r"Traceback|\b[A-Z][A-Za-z]*(?:Error|Exception|Warning|Timeout)\b|\bErrno\b|\bNone\b"
    r"|<class|<[a-z_.]+ object|0x[0-9a-f]{6,}|\.py\b|•••••|internal error|JTR_[A-Z]+="
)
_PROBLEM = re.compile(r"\S.*:\d+:\d+: .*")
_SUMMARY = re.compile(r"jtr: \d+ problems?; nothing was done|jtr: waiting .* has settled")
_NOT_VISITED = re.compile(r"! not visited: (.*)")
_MARKED = re.compile(r" +! (.*)")
_HINT = re.compile(r"(?:Try 'jtr.* for help\.|Did you mean .*)")


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that is wrong, and the remedy; empty when there is none."""

    what: str
    remedy: str

    def says(self, what: str, remedy: str) -> bool:
        """Whether the fragments of both (separated by ` … `) stand there in this order."""
        return _in_order(what, self.what) and _in_order(remedy, self.remedy)


def _in_order(fragments: str, text: str) -> bool:
    at = 0
    for fragment in fragments.split(" … "):
        at = text.find(fragment, at)
        if at < 0:
            return False
        at += len(fragment)
    return True


def messages(text: str) -> list[Message]:
    """Return all messages of a command's output, in their order."""
    return list(_messages(text.splitlines()))


def _messages(lines: list[str]) -> Iterator[Message]:
    hint = next((line for line in lines if _HINT.search(line)), "")
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if _SUMMARY.fullmatch(line):
            continue
        if line.startswith("jtr: "):
            yield Message(line.removeprefix("jtr: "), after.strip() if after[:5] == "     " else "")
        elif line.startswith("Error: "):
            yield Message(line.removeprefix("Error: "), hint)
        elif found := _NOT_VISITED.fullmatch(line):
            what, _, remedy = found[1].rpartition("; ")
            yield Message(what, remedy)
        elif found := _MARKED.fullmatch(line):
            yield Message(found[1], after.strip() if after.startswith(" " * 6) else "")
        elif _PROBLEM.fullmatch(line):
            what, _, remedy = line.partition("; ")
            yield Message(what, remedy)


def without_remedy(text: str) -> list[str]:
    """Return what is said to be wrong in *text* without a word on what to do."""
    return [message.what for message in messages(text) if not message.remedy]


def foreign_words(text: str) -> list[str]:
    """Return what must not be in anything that people read."""
    return sorted(set(FOREIGN.findall(text)))


def without_remedy_in(document: Any) -> list[str]:
    """Return each error of a plan document (`-o json`) that comes without a remedy."""
    found = []
    for server in document["servers"]:
        failure = server["failure"]
        if failure is not None and not (failure["what"] and failure["remedy"]):
            found.append(failure["kind"])
        held = server["exitCode"] == Exit.BLOCKED and server["held"]
        if held and not server["remedy"]:
            found.append(server["held"])
        found += [
            line["why"]
            for line in server["lines"]
            if line["exitCode"] and not (line["why"] and line["remedy"])
        ]
    return found


def parsed(text: str) -> Any:
    """Return the JSON that a command printed."""
    return json.loads(text)
