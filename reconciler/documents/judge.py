"""
From documents to servers: each judged by itself, then all together.

`KnownFiles` are for who reads the same files again and again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.documents.build import build_server
from reconciler.documents.defaults import Merged, Shared, merged, shared, template_problems
from reconciler.documents.files import FileKey, FoundDocuments, FoundFile, Placed, read_documents
from reconciler.documents.schema import CONFIG, problems, valid
from reconciler.documents.tree import plain, text
from reconciler.documents.validate import (
    Claims,
    fleet_problems,
    mixed_kinds,
    pasted_problems,
    server_problems,
)
from reconciler.model.desired import DesiredServer
from reconciler.model.source import Problem

Server = tuple[DesiredServer, Claims]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file says that is in order by itself; the trees of its servers are left out."""

    file: FoundFile
    shared: tuple[Shared, ...]
    servers: tuple[Server, ...]


@dataclass(slots=True)
class _Fit:
    """One file's documents that fit the schema; its `verdict` when it was known."""

    key: FileKey | None
    file: FoundFile
    verdict: Verdict | None = None
    shared: list[Shared] = field(default_factory=list)
    servers: list[Placed] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    certain: bool = True


@dataclass(slots=True)
class Judged:
    """
    What is wrong, and what is not.

    Nothing else is there when `certain` is False: a Defaults document is broken, or the end of a
    file could not be read, and nothing may be concluded from a value that is absent.  `merged` are
    the servers' documents, except those of known files.
    """

    certain: bool
    shared: tuple[Shared, ...]
    problems: list[Problem]
    servers: list[DesiredServer] = field(default_factory=list)
    merged: list[Merged] = field(default_factory=list)
    verdicts: dict[FileKey, Verdict] = field(default_factory=dict)


def judge(reading: FoundDocuments, known: Mapping[FileKey, Verdict]) -> Judged:
    """Judge what was read; for *known* files their verdict stands."""
    fits = [_fit(key, file, known.get(key) if key else None) for key, file in reading.found]
    everything = tuple(document for fit in fits for document in fit.shared)
    certain = reading.complete and all(fit.certain for fit in fits)
    result = Judged(certain, everything, reading.problems)
    for fit in fits:
        result.problems += fit.problems
    if not certain:
        return result
    claims: list[Claims] = []
    for fit in fits:
        if fit.verdict is None:
            claims += _judge_file(fit, result)
        else:
            _take(fit, fit.verdict.servers, result)
            claims += (claim for _, claim in fit.verdict.servers)
    result.problems += fleet_problems(claims)
    result.problems += mixed_kinds(claims)
    return result


def _fit(key: FileKey | None, file: FoundFile, verdict: Verdict | None) -> _Fit:
    if verdict is not None:
        return _Fit(key, file, verdict, list(verdict.shared))
    fit = _Fit(key, file)
    for placed in file.documents:
        root = placed.root
        fit.problems += pasted_problems(root)
        is_server = text(root, "kind") == "TradingServer"
        if not valid(plain(root), CONFIG):
            fit.problems += problems(root, CONFIG)
            fit.certain &= is_server
        elif is_server:
            fit.servers.append(placed)
        else:
            fit.shared.append(shared(placed))
            wrong = list(template_problems(fit.shared[-1]))
            fit.problems += wrong
            fit.certain &= not wrong
    return fit


def _judge_file(fit: _Fit, result: Judged) -> list[Claims]:
    """Merge and judge each server of a file, and build them all if it is in order."""
    wrong: list[Problem] = []
    claims: list[Claims] = []
    built: list[DesiredServer] = []
    for placed in fit.servers:
        whole = merged(placed, result.shared, wrong)
        wrong += server_problems(whole.root)
        result.merged.append(whole)
        # What was just judged is claimed and built at once: its references are still remembered.
        claims.append(Claims.of(whole.root))
        if not (wrong or fit.problems or fit.file.problems):
            built.append(build_server(whole))
    result.problems += wrong
    if len(built) == len(claims) and not (fit.problems or fit.file.problems):
        _take(fit, tuple(zip(built, claims, strict=True)), result)
    return claims


def _take(fit: _Fit, servers: tuple[Server, ...], result: Judged) -> None:
    result.servers += (server for server, _ in servers)
    if fit.key is not None:
        file = replace(fit.file, documents=())
        result.verdicts[fit.key] = Verdict(file, tuple(fit.shared), servers)


class KnownFiles:
    """
    What the last reading found to be in order: of a thousand files only one that changed is parsed.

    What a server's document means depends on its own content and place and on all `Defaults`, on
    nothing else; when these change, all is read anew.  Not for two threads at once.
    """

    def __init__(self) -> None:
        self._verdicts: Mapping[FileKey, Verdict] = {}
        self._shared: tuple[Shared, ...] = ()

    def judged(
        self, paths: Sequence[str], instead: Mapping[str, bytes]
    ) -> tuple[FoundDocuments, Judged]:
        """Read and judge *paths*; what is in order is known from then on."""
        reading, result = self._judged(paths, instead)
        if self._verdicts and result.shared != self._shared:
            self._verdicts = {}
            reading, result = self._judged(paths, instead)
        if result.certain:
            self._verdicts, self._shared = result.verdicts, result.shared
        return reading, result

    def _judged(
        self, paths: Sequence[str], instead: Mapping[str, bytes]
    ) -> tuple[FoundDocuments, Judged]:
        known = {key: verdict.file for key, verdict in self._verdicts.items()}
        reading = read_documents(paths, instead, known=known)
        return reading, judge(reading, self._verdicts)
