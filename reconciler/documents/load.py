"""
From paths to `DesiredState`: read, judge, merge, check, build.

`load` is the one entry.  It finds every problem before it raises, so that a file is corrected
once and not once for each mistake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.documents.build import build_server
from reconciler.documents.defaults import Merged, Shared, merged, shared, template_problems
from reconciler.documents.effective import Effective
from reconciler.documents.files import FoundDocuments, Placed, read_documents
from reconciler.documents.schema import CONFIG, problems, valid
from reconciler.documents.tree import plain, text
from reconciler.documents.validate import (
    fleet_problems,
    mixed_kinds,
    pasted_problems,
    server_problems,
)
from reconciler.errors import InvalidConfig
from reconciler.model.desired import DesiredState
from reconciler.model.source import Problem
from reconciler.model.wording import counted


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid desired state; `effective` goes by server name, `files` are those that were read."""

    state: DesiredState
    effective: Mapping[str, Effective]
    files: tuple[str, ...]

    def summary(self) -> str:
        exchanges = sum(len(server.exchanges) for server in self.state.servers)
        parts = (
            counted(len(self.state.servers), "server"),
            counted(exchanges, "exchange"),
            counted(len(self.files), "file"),
        )
        text = f"valid: {', '.join(parts)}\n"
        if self.state.skipped:
            text += f"{counted(self.state.skipped, 'document')} of another apiVersion skipped\n"
        return text


def load(
    paths: Sequence[str], instead: Mapping[str, bytes] | None = None, tree: str | None = None
) -> Loaded:
    """
    Read all documents below *paths*; *instead* and *tree* as `documents.files.read_documents`.

    Raises UsageError when there is nothing to read, InvalidConfig with all problems, sorted by
    place, at most 50 and then `... and N more`.
    """
    reading = read_documents(paths, instead, tree)
    found = reading.problems
    roots, everything, certain = _judged(reading, found)
    results: list[Merged] = []
    if certain:
        results = [merged(placed, everything, found) for placed in roots]
        for result in results:
            found += server_problems(result.root)
        found += fleet_problems(result.root for result in results)
        found += mixed_kinds(result.root for result in results)
    if found:
        raise InvalidConfig(found)
    servers = {text(result.root, "metadata", "name"): result for result in results}
    built = tuple(build_server(servers[name]) for name in sorted(servers))
    effective = {name: Effective(result) for name, result in servers.items()}
    return Loaded(DesiredState(built, reading.skipped), effective, tuple(reading.files))


def _judged(
    reading: FoundDocuments, found: list[Problem]
) -> tuple[list[Placed], list[Shared], bool]:
    """
    Return the server documents that fit the schema, the Defaults, and whether the latter are all.

    Problems are appended to *found*.  Where a Defaults document is broken, or the end of a file
    could not be read, nothing may be concluded from a value that is absent.
    """
    servers: list[Placed] = []
    everything: list[Shared] = []
    certain = reading.complete
    for placed in reading.documents:
        root = placed.root
        found += pasted_problems(root)
        is_server = text(root, "kind") == "TradingServer"
        if not valid(plain(root), CONFIG):
            found += problems(root, CONFIG)
            certain &= is_server
        elif is_server:
            servers.append(placed)
        else:
            everything.append(shared(placed))
            wrong = list(template_problems(everything[-1]))
            found += wrong
            certain &= not wrong
    return servers, everything, certain
