"""
What a JSON Schema cannot say about desired state: every check yields problems with their place.

All trees here fit the schema already and are merged with their defaults.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Final, Self

from msgspec import Struct

from reconciler.documents.formats import (
    DAY,
    EXCHANGE,
    NAME,
    duration,
    instant,
    is_cron,
    is_zone,
    looks_secret,
    network_problem,
    url_problem,
)
from reconciler.documents.key_policy import contradictions
from reconciler.documents.schema import PASTED, reference_problems
from reconciler.documents.tree import (
    Map,
    Node,
    Scalar,
    at,
    entries,
    items,
    keys,
    leaves,
    plain,
    text,
    true,
)
from reconciler.model.key_policy import ABOUT_PERMISSIONS
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.source import Problem, SourceLine
from reconciler.model.target import Target, normalised

MOST_EXPIRY: Final = 30 * DAY
MOST_RESUME: Final = DAY
MOST_WINDOW: Final = 7 * DAY
MOST_AGE: Final = 3660 * DAY
# These hold addresses, names and references, which look as random as they like.
_NOT_FREE_TEXT: Final = frozenset({"url", "account", "accessSecret", "accessToken", "credentials"})


def server_problems(root: Map) -> Iterator[Problem]:
    """Yield what is wrong with one server's document by itself."""
    spec = at(root, "spec")
    name = at(root, "metadata", "name")
    if isinstance(name, Scalar) and not NAME.fullmatch(str(name.value)):
        yield Problem(name.source, "a name holds something else", "use a-z, 0-9 and hyphens")
    security = at(spec, "security")
    yield from _address(spec)
    yield from _exchanges(spec, security)
    if security is not None:
        yield from _security(security)
        yield from contradictions(security)
    yield from _windows(spec)
    yield from _requests(spec)


def _address(spec: Node | None) -> Iterator[Problem]:
    url = at(spec, "url")
    consent = bool(text(spec, "insecureTransport"))
    if url is not None and (wrong := url_problem(text(url), insecure_allowed=consent)):
        what, remedy = wrong
        more = ", or say why not in insecureTransport" if what.startswith("http:") else ""
        yield Problem(url.source, what, remedy + more)
    for key in ("accessSecret", "accessToken"):
        node = at(spec, key)
        if node is not None:
            yield from reference_problems(text(node), node.source, field=True)
    token = at(spec, "accessToken")
    if token is not None and text(spec, "account", default="0") == "0":
        yield Problem(
            token.source,
            'an accessToken logs in to a site account, but account is "0"',
            "write the site account's id as account, or remove accessToken",
        )


def _exchanges(spec: Node | None, shared: Node | None) -> Iterator[Problem]:
    places = keys(spec, "exchanges")
    for code, exchange in entries(spec, "exchanges").items():
        source = places[code]
        if not EXCHANGE.fullmatch(code):
            yield Problem(source, "an exchange code holds something else", "use a-z, 0-9, hyphens")
        security = at(exchange, "security")
        if security is not None:
            yield from _security(security)
        if security is not None or shared is not None:
            yield from contradictions(shared, security)
        credentials = at(exchange, "credentials")
        if text(exchange, "state") == "absent":
            if credentials is not None:
                yield Problem(
                    credentials.source,
                    "an absent exchange has no credentials",
                    "remove either credentials or state: absent",
                )
        elif credentials is None:
            yield Problem(
                source,
                "the exchange has no credentials",
                "add credentials: vault:MOUNT/PATH, here or in Defaults; or state: absent",
            )
        elif isinstance(credentials, Map):
            yield from _fields(credentials, source)
        else:
            yield from reference_problems(text(credentials), credentials.source, field=False)


def _fields(credentials: Map, source: SourceLine) -> Iterator[Problem]:
    seen: dict[SecretRef, str] = {}
    for name, node in credentials.entries.items():
        wrong = list(reference_problems(text(node), node.source, field=True))
        yield from wrong
        reference = SecretRef.parse(text(node))
        if wrong or reference is None:
            continue
        if reference in seen:
            yield Problem(
                node.source,
                f"{name} and {seen[reference]} name the same field of the same secret",
                "write the field of each",
            )
        seen.setdefault(reference, name)
    origins = {(reference.at, reference.version) for reference in seen}
    if len(origins) > 1 and any(reference.version is None for reference in seen):
        # Secrets that are read one after the other can belong to two rotations.
        yield Problem(
            source,
            "the exchange's credentials come from several secrets or versions",
            "put all of them into one secret, or pin every reference to a version with @VERSION",
        )


def _security(security: Node | None) -> Iterator[Problem]:
    for item in items(security, "ipWhitelist"):
        wrong = network_problem(str(plain(item)))
        if wrong is not None:
            yield Problem(item.source, *wrong)
    yield from _length(at(security, "maxKeyAge"), MOST_AGE, "10 years")
    yield from _length(at(security, "warnBeforeExpiry"), MOST_AGE, "10 years")
    for item in items(security, "exceptions"):
        yield from _instant(at(item, "until"))
        yield from _exception(item)


def _exception(item: Node) -> Iterator[Problem]:
    finding, named = text(item, "finding"), at(item, "permission")
    if finding in ABOUT_PERMISSIONS and named is None:
        yield Problem(
            item.source,
            f"an exception for {finding} names no permission",
            "add permission: NAME, as the exchange calls it: others are not accepted with it",
        )
    elif finding not in ABOUT_PERMISSIONS and named is not None:
        yield Problem(named.source, f"{finding} is not about a permission", "take it away")


def _windows(spec: Node | None) -> Iterator[Problem]:
    for window in items(spec, "windows"):
        schedule, zone = at(window, "schedule"), at(window, "timeZone")
        if schedule is not None and not is_cron(text(schedule)):
            yield Problem(
                schedule.source,
                "this is not a schedule",
                "write five fields, minute hour day month weekday, such as 0 9 * * 1-5",
            )
        yield from _length(at(window, "duration"), MOST_WINDOW, "7 days")
        if zone is not None and not is_zone(text(zone)):
            yield Problem(
                zone.source, "there is no such time zone", "write for example Asia/Tokyo or UTC"
            )


def _requests(spec: Node | None) -> Iterator[Problem]:
    written = entries(spec)
    if "suspend" in written:
        yield from _instant(at(spec, "suspend", "until"))
    if "cache" in written:
        yield from _instant(at(spec, "cache", "invalidatedAfter"))
        yield from _length(at(spec, "cache", "expiresAfter"), MOST_EXPIRY, "30 days")
    if "reboot" in written:
        yield from _instant(at(spec, "reboot", "bootedAfter"))
        yield from _length(at(spec, "reboot", "expiresAfter"), MOST_EXPIRY, "30 days")
        yield from _length(at(spec, "reboot", "resumeWithin"), MOST_RESUME, "1 day")
        if not true(spec, "supervised"):
            yield Problem(
                keys(spec)["reboot"],
                "a reboot needs something that starts the process again",
                "write supervised: true if something restarts it after exit code 0",
            )


def _instant(node: Node | None) -> Iterator[Problem]:
    if node is not None and instant(text(node)) is None:
        yield Problem(
            node.source,
            "there is no such instant",
            "write a date and time with its zone, such as 2026-11-22T09:30:00Z",
        )


def _length(node: Node | None, most: float, words: str) -> Iterator[Problem]:
    if node is None:
        return
    seconds = duration(text(node))
    if seconds is None or not 0 < seconds <= most:
        yield Problem(
            node.source, "this duration is out of range", f"write more than 0, at most {words}"
        )


# ── the document itself, before merging ──────────────────────────────────────────────────────


def pasted_problems(root: Map) -> Iterator[Problem]:
    """Yield a problem for every free text that looks like a secret."""
    for leaf in _free(root):
        if looks_secret(str(leaf.value)):
            yield Problem(leaf.source, *PASTED)
    named = (*keys(root, "spec", "exchanges").items(), *keys(root, "metadata", "labels").items())
    yield from (Problem(source, *PASTED) for key, source in named if looks_secret(key))


def _free(root: Map) -> Iterator[Scalar]:
    """Yield every single value that people may word as they like; in lists there are only such."""
    waiting = [root]
    for node in waiting:
        for key, child in node.entries.items():
            if key in _NOT_FREE_TEXT:
                continue
            if isinstance(child, Scalar):
                yield child
            elif isinstance(child, Map):
                waiting.append(child)
            else:
                within = (leaf for item in child.items for _, leaf in leaves(item))
                yield from (leaf for leaf in within if isinstance(leaf, Scalar))


# ── all servers together ─────────────────────────────────────────────────────────────────────


class Claims(Struct, frozen=True):
    """
    What one server's document says that no other may contradict, and where.

    Of `target` None: the URL is none, which was said already.  `asked` is where a one-shot stands.
    Sets remember the hashes of what they hold, so the fleet is compared without working them out.
    """

    source: SourceLine
    name: str
    name_at: SourceLine
    target: Target | None
    target_at: SourceLine
    asked: SourceLine | None
    logins: tuple[tuple[SecretPath, SourceLine], ...]
    credentials: tuple[tuple[SecretPath, SourceLine], ...]
    login_paths: frozenset[SecretPath]
    credential_paths: frozenset[SecretPath]

    @classmethod
    def of(cls, root: Map) -> Self:
        name, spec = at(root, "metadata", "name"), at(root, "spec")
        url, written = text(spec, "url"), keys(spec)
        sound = url_problem(url, insecure_allowed=True) is None
        logins = tuple(_secrets(at(spec, key) for key in ("accessSecret", "accessToken")))
        credentials = tuple(_secrets(_credentials(spec)))
        return cls(
            root.source,
            text(name),
            root.source if name is None else name.source,
            Target(normalised(url), text(spec, "account", default="0")) if sound else None,
            written.get("url", root.source),
            written.get("cache") or written.get("reboot"),
            logins,
            credentials,
            frozenset(path for path, _ in logins),
            frozenset(path for path, _ in credentials),
        )


def _credentials(spec: Node | None) -> Iterator[Node | None]:
    for exchange in entries(spec, "exchanges").values():
        named = at(exchange, "credentials")
        if isinstance(named, Map):
            yield from named.entries.values()
        else:
            yield named


def _secrets(nodes: Iterable[Node | None]) -> Iterator[tuple[SecretPath, SourceLine]]:
    for node in nodes:
        reference = SecretRef.parse(text(node))
        if node is not None and reference is not None:
            yield reference.at, node.source


def fleet_problems(fleet: Iterable[Claims]) -> Iterator[Problem]:
    """Yield names, addresses and one-shots that two documents must not share."""
    names: dict[str, SourceLine] = {}
    targets: dict[Target, SourceLine] = {}
    requests: dict[str, tuple[Target, SourceLine]] = {}
    for claims in sorted(fleet, key=lambda claims: claims.source):
        here = claims.name_at
        if (earlier := names.setdefault(claims.name, here)) != here:
            yield Problem(here, f"the name stands already at {earlier}", "choose another name")
        target, here, asked = claims.target, claims.target_at, claims.asked
        if target is None:
            continue
        if (earlier := targets.setdefault(target, here)) != here:
            yield Problem(
                here,
                f"the same URL and account stand already at {earlier}",
                "keep one of the two documents",
            )
        if asked is None:
            continue
        other, earlier = requests.setdefault(target.url, (target, asked))
        if other != target:
            yield Problem(
                asked,
                f"another account's document of this server asks for a one-shot at {earlier}",
                "let one document of a server carry cache and reboot: both reach all its accounts",
            )


def mixed_kinds(fleet: Sequence[Claims]) -> Iterator[Problem]:
    """
    Yield the secrets that are a login in one place and credentials in another.

    A login is sent to a server at every visit, before anything is compared: nobody may have a
    foreign server's keys sent somewhere by calling them one.
    """
    every_login = set[SecretPath]().union(*(claims.login_paths for claims in fleet))
    both = set[SecretPath]().union(*(every_login & claims.credential_paths for claims in fleet))
    if not both:
        return
    first_login = _first((pair for claims in fleet for pair in claims.logins), both)
    first_credentials = _first((pair for claims in fleet for pair in claims.credentials), both)
    for path in sorted(both):
        yield Problem(
            first_login[path],
            f"{path} is a login here, and credentials at {first_credentials[path]}",
            "keep logins in secrets of their own",
        )


def _first(
    pairs: Iterable[tuple[SecretPath, SourceLine]], wanted: Container[SecretPath]
) -> dict[SecretPath, SourceLine]:
    places: dict[SecretPath, SourceLine] = {}
    for path, source in pairs:
        if path in wanted:
            places.setdefault(path, source)
    return places
