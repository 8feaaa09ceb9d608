"""
Workflow commands of GitHub, Gitea and Forgejo: annotations at file and line.

GitHub shows ten of each kind in a step and drops the others without a word; so nine are told, and
one says how many more there are.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from reconciler.model.annotations import Annotation
from reconciler.render.escape import plain

MOST: Final = 9
_LIMIT: Final = 900  # characters of a message


def annotations(found: Sequence[Annotation]) -> str:
    ordered = sorted(found, key=lambda one: one.order)
    rows = [_command(one) for one in ordered[:MOST]]
    if left := ordered[MOST:]:
        rows.append(f"::{left[0].weight}::{len(left)} more: see the output of this step")
    return "".join(f"{row}\n" for row in rows)


def quiet(text: str) -> str:
    """
    Return lines of which none is a command to the runner, whatever they quote.

    The runner looks for `##[...]` anywhere in a line.  What ends the silence is a digest of the
    text: nobody can name it in what it is a digest of.
    """
    token = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
    return f"::stop-commands::{token}\n{text}::{token}::\n"


def _command(one: Annotation) -> str:
    place = ""
    if one.source.line:
        file = _property(plain(one.source.file.removeprefix("./"), 400))
        place = f"file={file},line={one.source.line},col={one.source.column},"
    title = _property(f"jtr: {one.rule}")
    return f"::{one.weight} {place}title={title}::{_data(plain(one.words, _LIMIT))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


RENDERER: Final = annotations
