"""
From documents to servers: each judged by itself, then all together.

`KnownFiles` are for who reads the same files again and again.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from reconciler.documents.build import build_server
from reconciler.documents.defaults import Merged, Shared, merged, shared, template_problems
from reconciler.documents.files import FileKey, FoundDocuments, FoundFile, Placed
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
from reconciler.model.values import replace

Server = tuple[DesiredServer, Claims]
Read = Callable[[Mapping[FileKey, FoundFile]], FoundDocuments]
"""Reads documents anew, and does not parse the files that it is given."""


class Verdict(Struct, frozen=True):
    """What a file says that is in order by itself; the trees of its servers are left out."""

    file: FoundFile
    shared: tuple[Shared, ...]
    servers: tuple[Server, ...]


class _Fit(Struct, eq=False):
    """Documents of a file that was not known, as far as they fit the schema."""

    key: FileKey | None
    file: FoundFile
    shared: list[Shared] = field(default_factory=list)
    servers: list[Placed] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    certain: bool = True


class Judged(Struct, eq=False):
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
    # Of ten thousand files nearly all are known: nothing is made for those.
    found: list[tuple[FileKey | None, Verdict | _Fit]] = [
        (key, (known.get(key) if key else None) or _fit(key, file)) for key, file in reading.found
    ]
    fits = [one for _, one in found if isinstance(one, _Fit)]
    everything = tuple(document for _, one in found for document in one.shared)
    certain = reading.complete and all(fit.certain for fit in fits)
    result = Judged(certain, everything, reading.problems)
    for fit in fits:
        result.problems += fit.problems
    if not certain:
        return result
    claims: list[Claims] = []
    for key, one in found:
        if isinstance(one, _Fit):
            claims += _judge_file(one, result)
        else:
            _keep(key, one, result)
            claims += [claim for _, claim in one.servers]
    result.problems += fleet_problems(claims)
    result.problems += mixed_kinds(claims)
    return result


def _fit(key: FileKey | None, file: FoundFile) -> _Fit:
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
    file = replace(fit.file, documents=())
    _keep(fit.key, Verdict(file, tuple(fit.shared), servers), result)


def _keep(key: FileKey | None, verdict: Verdict, result: Judged) -> None:
    result.servers += [server for server, _ in verdict.servers]
    if key is not None:
        result.verdicts[key] = verdict


class KnownFiles:
    """
    What the last reading found to be in order: of a thousand files only one that changed is parsed.

    What a server's document means depends on its own content and place and on all `Defaults`, on
    nothing else; when these change, all is read anew.  Not for two threads at once.
    """

    def __init__(self) -> None:
        self._verdicts: Mapping[FileKey, Verdict] = {}
        self._shared: tuple[Shared, ...] = ()

    def judged(self, read: Read) -> tuple[FoundDocuments, Judged]:
        """Let *read* read, and judge what it found; what is in order is known from then on."""
        reading, result = self._judged(read)
        if self._verdicts and result.shared != self._shared:
            self._verdicts = {}
            reading, result = self._judged(read)
        if result.certain:
            self._verdicts, self._shared = result.verdicts, result.shared
        return reading, result

    def _judged(self, read: Read) -> tuple[FoundDocuments, Judged]:
        reading = read({key: verdict.file for key, verdict in self._verdicts.items()})
        return reading, judge(reading, self._verdicts)
