"""
The settings' `notifications`: whom a controller tells what, by which way.

No secret stands there.  The address of a chat hook is one, and so is a URL that carries a token:
such values lie in files, which are named here and read when the controller starts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.documents.formats import looks_secret, url_problem
from reconciler.documents.tree import List, Node, at, text
from reconciler.model.source import SourceLine

TELEGRAM: Final = "https://api.telegram.org"
DEFAULT_SEVERITY: Final = "warning"
Complain = Callable[[Node, str, str], None]
PathOf = Callable[[Node | None], str | None]


class Kind(StrEnum):
    """How a target is spoken to."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    TELEGRAM = "telegram"


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """
    One target.  `topics` and `owners` are filters, empty: all; `severity` is the least one told.

    `url` is there for webhooks only; `api_url` is where Telegram's Bot API is.
    """

    kind: Kind
    name: str
    url: str | None = None
    url_file: str | None = None
    secret_file: str | None = None
    token_file: str | None = None
    chat_id: str | None = None
    api_url: str = TELEGRAM
    ca_file: str | None = None
    topics: tuple[str, ...] = ()
    severity: str = DEFAULT_SEVERITY
    owners: tuple[str, ...] = ()


_OWN_KEYS: Final = ("url", "urlFile", "secretFile", "tokenFile", "chatId", "apiUrl")
# What each kind must have and what it may have.
_NEEDS: Final = {
    Kind.WEBHOOK: ({"secretFile"}, {"url", "urlFile"}),
    Kind.SLACK: ({"urlFile"}, set[str]()),
    Kind.TELEGRAM: ({"tokenFile", "chatId"}, {"apiUrl"}),
}
_WHY: Final = {
    "secretFile": "it holds the key that every message is signed with",
    "urlFile": "the hook's URL is a secret, so it lies in a file",
    "tokenFile": "it holds the bot's token",
    "chatId": 'for example "-1001234567890"',
}


def read_notifications(
    node: Node | None, path_of: PathOf, complain: Complain
) -> tuple[NotificationSettings, ...]:
    """
    Return the targets of a list that fits the schema.

    *path_of* resolves a path as the settings do; *complain* takes a place, what is wrong there and
    what to do.
    """
    found: list[NotificationSettings] = []
    names: dict[str, SourceLine] = {}
    for item in node.items if isinstance(node, List) else ():
        name = text(item, "name")
        if (earlier := names.setdefault(name, item.source)) is not item.source:
            complain(
                at(item, "name") or item,
                f"the name {name} is taken at {earlier}",
                "give each target a name of its own",
            )
        kind = Kind(text(item, "kind"))
        for wrong in (*_keys(item, kind), *_addresses(item, kind)):
            complain(*wrong)
        found.append(
            NotificationSettings(
                kind,
                name,
                url=text(item, "url") or None,
                url_file=path_of(at(item, "urlFile")),
                secret_file=path_of(at(item, "secretFile")),
                token_file=path_of(at(item, "tokenFile")),
                chat_id=text(item, "chatId") or None,
                api_url=text(item, "apiUrl", default=TELEGRAM).rstrip("/"),
                ca_file=path_of(at(item, "caFile")),
                topics=_texts(at(item, "topics")),
                severity=text(item, "severity", default=DEFAULT_SEVERITY),
                owners=_texts(at(item, "owners")),
            )
        )
    return tuple(found)


def _keys(item: Node, kind: Kind) -> Iterator[tuple[Node, str, str]]:
    given = {key for key in _OWN_KEYS if at(item, key) is not None}
    needed, possible = _NEEDS[kind]
    for key in sorted(needed - given):
        yield item, f"{kind} needs {key}", f"add {key}: {_WHY[key]}"
    for key in sorted(given - needed - possible):
        stray = at(item, key) or item
        if kind is Kind.SLACK and key == "url":
            yield stray, "a hook's URL is a secret", "write it into a file, name that in urlFile"
        else:
            yield stray, f"{kind} has no use for {key}", "remove it"
    if kind is Kind.WEBHOOK and len(given & {"url", "urlFile"}) != 1:
        yield item, "webhook needs either url or urlFile", "write one of them"


def _addresses(item: Node, kind: Kind) -> Iterator[tuple[Node, str, str]]:
    for key, belongs in (("url", Kind.WEBHOOK), ("apiUrl", Kind.TELEGRAM)):
        written = at(item, key)
        if kind is belongs and written is not None and (wrong := url_fault(text(written))):
            yield written, *wrong


def url_fault(url: str) -> tuple[str, str] | None:
    """Say what is wrong with a URL that stands in clear, and the remedy; None when nothing is."""
    if "?" in url or "@" in url or looks_secret(url):
        return (
            "this URL holds something that may be a credential",
            "write the URL into a file and name that in urlFile",
        )
    wrong = url_problem(url)
    if wrong is not None and wrong[0].startswith("http:"):
        return "http:// would carry what people are told in clear", "use https://"
    return wrong


def _texts(node: Node | None) -> tuple[str, ...]:
    return tuple(text(item) for item in node.items) if isinstance(node, List) else ()
