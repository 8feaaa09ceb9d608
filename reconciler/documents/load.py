"""
From paths to `DesiredState`: read, judge, merge, check, build.

`load` is the one entry.  It finds every problem before it raises, so that a file is corrected
once and not once for each mistake.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from reconciler.documents.defaults import (
    Merged,
    Shared,
    labels_of,
    leaves,
    merged,
    shared,
    template_problems,
)
from reconciler.documents.files import Reading, read_documents
from reconciler.documents.formats import counted, duration, instant
from reconciler.documents.key_policy import effective as security_of
from reconciler.documents.schema import CONFIG, document, problems, valid
from reconciler.documents.tree import List, Map, Node, Scalar, at, plain, text, true
from reconciler.documents.validate import (
    fleet_problems,
    pasted_problems,
    server_problems,
    with_limit,
)
from reconciler.errors import InvalidConfig
from reconciler.model.desired import (
    DEFAULT_EXPIRY,
    DEFAULT_RESUME,
    NOWHERE,
    Afterwards,
    DesiredExchange,
    DesiredServer,
    DesiredState,
    Kind,
    Mode,
    OnCredentialChange,
    OneShot,
    Presence,
    Problem,
    SecretRef,
    SourceLine,
    Suspension,
    Window,
    WindowKind,
)

BUILT_IN: Final = "built in"


@dataclass(frozen=True, slots=True)
class Row:
    """
    One value of an effective document.

    `path` is as people write it (`spec.exchanges.bybit.credentials`), `value` its text.
    `from_default` names the `Defaults` document that gave it, or is `BUILT_IN` (then `origin` is
    `NOWHERE`); None means that the server's own document says so.
    """

    path: str
    value: str
    origin: SourceLine
    from_default: str | None


@dataclass(frozen=True, slots=True)
class Effective:
    """A server's document after merging, with each value's origin; for `jtr show`."""

    server: str
    rows: tuple[Row, ...]
    root: Map

    def as_document(self) -> dict[str, Any]:
        """Return the merged document as plain JSON values, without built-in defaults."""
        return {key: plain(node) for key, node in self.root.entries.items()}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid desired state; `effective` goes by server name, `files` are those that were read."""

    state: DesiredState
    effective: Mapping[str, Effective]
    files: tuple[str, ...]

    def summary(self) -> str:
        """Say what was read, in lines for people."""
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


def load(paths: Sequence[str], instead: Mapping[str, bytes] | None = None) -> Loaded:
    """
    Read all documents below *paths*; *instead* as in `reconciler.documents.files.read_documents`.

    Raises UsageError when there is nothing to read, InvalidConfig with all problems, sorted by
    place, at most 50 and then `... and N more`.
    """
    reading = read_documents(paths, instead)
    found = list(reading.problems)
    servers, everything, certain = _judged(reading, found)
    results: list[Merged] = []
    if certain:
        results = [merged(root, everything, found) for root in servers]
        for result in results:
            found += server_problems(result.root)
        found += fleet_problems(result.root for result in results)
    if found:
        raise InvalidConfig(with_limit(found), total=len(set(found)))
    built = sorted((_server(result.root) for result in results), key=lambda server: server.name)
    effective = {text(r.root, "metadata", "name"): _effective(r) for r in results}
    return Loaded(DesiredState(tuple(built), reading.skipped), effective, reading.files)


def _judged(reading: Reading, found: list[Problem]) -> tuple[list[Map], list[Shared], bool]:
    """
    Return the server documents that fit the schema, the Defaults, and whether the latter are all.

    Problems are appended to *found*.  Where a Defaults document is broken, or the end of a file
    could not be read, nothing may be concluded from a value that is absent.
    """
    servers: list[Map] = []
    everything: list[Shared] = []
    certain = reading.complete
    for root in reading.documents:
        if not isinstance(root, Map):
            continue
        found += pasted_problems(root)
        is_server = text(root, "kind") == "TradingServer"
        if not valid(plain(root), CONFIG):
            found += problems(root, CONFIG)
            certain &= is_server
        elif is_server:
            servers.append(root)
        else:
            everything.append(shared(root))
            wrong = list(template_problems(everything[-1]))
            found += wrong
            certain &= not wrong
    return servers, everything, certain


def _effective(result: Merged) -> Effective:
    rows = [
        Row(".".join(path), _shown(leaf), leaf.source, result.origin(path))
        for path, leaf in leaves(result.root)
    ]
    rows += _built_in(result.root)
    name = text(result.root, "metadata", "name")
    return Effective(name, tuple(sorted(rows, key=lambda row: row.path)), result.root)


def _shown(leaf: Scalar | List) -> str:
    value = plain(leaf)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _built_in(root: Map) -> Iterator[Row]:
    """Yield what holds because nobody wrote anything else, from the schema's own words."""
    schema = document(CONFIG)
    definitions = schema["$defs"]

    def below(about: Mapping[str, Any], node: Node | None, path: str) -> Iterator[Row]:
        about = definitions[about["$ref"].rpartition("/")[2]] if "$ref" in about else about
        if node is None and "default" in about:
            value = about["default"]
            yield Row(
                path, value if isinstance(value, str) else json.dumps(value), NOWHERE, BUILT_IN
            )
        elif isinstance(node, Map) or path == "spec.robots":
            written = node.entries if isinstance(node, Map) else {}
            children = about.get("properties", {})
            more = about.get("additionalProperties")
            for key in (*children, *(key for key in written if key not in children)):
                if key == "security" and path != "spec":
                    continue  # what an exchange does not say here, the server says
                inner = children.get(key, more)
                if isinstance(inner, Mapping):
                    yield from below(inner, at(node, key), f"{path}.{key}")

    yield from below(definitions["server"]["properties"]["spec"], at(root, "spec"), "spec")


# ── building ─────────────────────────────────────────────────────────────────────────────────


def _server(root: Map) -> DesiredServer:
    spec = at(root, "spec")
    exchanges = at(spec, "exchanges")
    codes = exchanges.entries if isinstance(exchanges, Map) else {}
    sources = exchanges.keys if isinstance(exchanges, Map) else {}
    security = at(spec, "security")
    built = tuple(_exchange(code, codes[code], sources[code], security) for code in sorted(codes))
    return DesiredServer(
        name=text(root, "metadata", "name"),
        url=text(spec, "url"),
        source=root.source,
        account=text(spec, "account", default="0"),
        access_secret=SecretRef.parse(text(spec, "accessSecret")),
        access_token=SecretRef.parse(text(spec, "accessToken")),
        labels=labels_of(root),
        owner=text(root, "metadata", "owner"),
        supervised=true(spec, "supervised"),
        exchanges=built,
        mode=Mode(text(spec, "mode", default="enforce")),
        self_heal=true(spec, "selfHeal"),
        on_credential_change=OnCredentialChange(
            text(spec, "robots", "onCredentialChange", default="leave")
        ),
        sole_account=true(spec, "soleAccount"),
        insecure_transport=text(spec, "insecureTransport"),
        suspend=_suspension(at(spec, "suspend")),
        cache=_one_shot(spec, Kind.CACHE, "cache", "invalidatedAfter"),
        reboot=_one_shot(spec, Kind.REBOOT, "reboot", "bootedAfter"),
        has_security=security is not None
        or any(at(node, "security") is not None for node in codes.values()),
        windows=_windows(at(spec, "windows")),
    )


def _exchange(code: str, node: Node, source: SourceLine, security: Node | None) -> DesiredExchange:
    credentials = at(node, "credentials")
    names = credentials.entries if isinstance(credentials, Map) else {}
    fields = {name: SecretRef.parse(text(credentials, name)) for name in names}
    return DesiredExchange(
        code=code,
        source=source,
        presence=Presence(text(node, "state", default="present")),
        secret=SecretRef.parse(text(credentials)),
        fields={name: reference for name, reference in fields.items() if reference is not None},
        take_over=true(node, "takeOver"),
        security=security_of(security, at(node, "security")),
    )


def _suspension(node: Node | None) -> Suspension | None:
    if node is None:
        return None
    return Suspension(text(node, "reason"), text(node, "by"), instant(text(node, "until")))


def _windows(node: Node | None) -> tuple[Window, ...]:
    return tuple(
        Window(
            WindowKind(text(item, "kind")),
            text(item, "schedule"),
            timedelta(seconds=duration(text(item, "duration")) or 0),
            text(item, "timeZone"),
            item.source,
        )
        for item in (node.items if isinstance(node, List) else ())
    )


def _one_shot(spec: Node | None, kind: Kind, key: str, name: str) -> OneShot | None:
    wish = at(spec, key)
    moment = instant(text(wish, name))
    if wish is None or moment is None:
        return None
    return OneShot(
        kind,
        moment,
        text(wish, "reason"),
        wish.source,
        expires_after=_length(wish, "expiresAfter", DEFAULT_EXPIRY),
        robots=Afterwards(text(wish, "robots", default="leave")),
        resume_within=_length(wish, "resumeWithin", DEFAULT_RESUME),
    )


def _length(wish: Node, name: str, default: timedelta) -> timedelta:
    seconds = duration(text(wish, name))
    return default if seconds is None else timedelta(seconds=seconds)
