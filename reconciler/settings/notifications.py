"""
The settings' `notifications`: whom a controller tells what, by which way.

No secret stands there.  The address of a chat hook is one, and so is a URL that carries a token:
such values lie in files, which are named here and read when the controller starts.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, Protocol

from msgspec import Struct, field

from reconciler.documents.formats import looks_secret, url_problem
from reconciler.documents.tree import Map, Node, at, items, text, text_list
from reconciler.model.source import SourceLine

DEFAULT_SEVERITY: Final = "warning"
Fault = tuple[Node, str, str]  # where, what is wrong there, what to do
PathOf = Callable[[Node | None], str | None]
_COMMON: Final = {"kind", "name", "caFile", "topics", "severity", "owners"}


class NotificationSettings(Struct, frozen=True):
    """
    One target.  `topics` and `owners` are filters, empty: all; `severity` is the least one told.

    `own` holds the keys that only this kind knows, as they are written; paths are absolute.
    """

    kind: str
    name: str
    own: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    topics: tuple[str, ...] = ()
    severity: str = DEFAULT_SEVERITY
    owners: tuple[str, ...] = ()


class OwnKeys(Protocol):
    """
    What a kind says of its own keys; those whose name ends with `File` are paths.

    `needs` goes from a key to what is said to somebody who left it out.
    """

    needs: Mapping[str, str]
    takes: Collection[str]

    def faults(self, item: Node) -> Iterator[Fault]:
        """Yield what is wrong beyond missing and unknown keys."""
        ...


OwnKeysOf = Callable[[str], OwnKeys]  # of a kind that the schema knows


def read_notifications(
    node: Node | None,
    own_keys: OwnKeysOf,
    path_of: PathOf,
    complain: Callable[[Node, str, str], None],
) -> tuple[NotificationSettings, ...]:
    """
    Return the targets of a list that fits the schema.

    *own_keys* is asked for every kind that stands there.  *path_of* resolves a path as the settings
    do; *complain* takes a place, what is wrong there and what to do.
    """
    found: list[NotificationSettings] = []
    names: dict[str, SourceLine] = {}
    for item in items(node):
        kind, name = text(item, "kind"), text(item, "name")
        if (earlier := names.setdefault(name, item.source)) is not item.source:
            complain(
                at(item, "name") or item,
                f"the name {name} is taken at {earlier}",
                "give each target a name of its own",
            )
        own = {
            key: (path_of(value) or "") if key.endswith("File") else text(value)
            for key, value in (item.entries.items() if isinstance(item, Map) else ())
            if key not in _COMMON
        }
        for wrong in _faults(item, kind, own, own_keys(kind)):
            complain(*wrong)
        found.append(
            NotificationSettings(
                kind,
                name,
                own,
                ca_file=path_of(at(item, "caFile")),
                topics=text_list(item, "topics"),
                severity=text(item, "severity", default=DEFAULT_SEVERITY),
                owners=text_list(item, "owners"),
            )
        )
    return tuple(found)


def _faults(item: Node, kind: str, own: Mapping[str, str], keys: OwnKeys) -> Iterator[Fault]:
    for key in keys.needs.keys() - own.keys():
        yield item, f"{kind} needs {key}", f"add {key}: {keys.needs[key]}"
    for key in own.keys() - keys.needs.keys() - {*keys.takes}:
        yield at(item, key) or item, f"{kind} has no use for {key}", "remove it"
    yield from keys.faults(item)


def url_faults(item: Node, key: str) -> Iterator[Fault]:
    """Yield what is wrong with a URL that stands in clear."""
    written = at(item, key)
    url = text(written)
    if written is None:
        return
    if "?" in url or "@" in url or looks_secret(url):
        yield (
            written,
            "this URL holds something that may be a credential",
            "write the URL into a file and name that in urlFile",
        )
    elif (wrong := url_problem(url)) is not None:
        if wrong[0].startswith("http:"):
            wrong = "http:// would carry what people are told in clear", "use https://"
        yield (written, *wrong)
