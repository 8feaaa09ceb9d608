"""From a valid, merged document to a DesiredServer.  Judges nothing."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from reconciler.documents.defaults import Merged
from reconciler.documents.formats import instant, span
from reconciler.documents.key_policy import effective as security_of
from reconciler.documents.tree import Node, at, entries, items, keys, text, texts, true
from reconciler.model.desired import (
    DEFAULT_EXPIRY,
    DEFAULT_RESUME,
    Afterwards,
    DesiredExchange,
    DesiredServer,
    Mode,
    OnCredentialChange,
    OneShot,
    Presence,
    RequestKind,
    Suspension,
    Window,
    WindowKind,
)
from reconciler.model.key_policy import Security
from reconciler.model.references import SecretRef
from reconciler.model.source import SourceLine


def build_server(result: Merged) -> DesiredServer:
    root = result.root
    spec = at(root, "spec")
    exchanges = at(spec, "exchanges")
    own, places = entries(exchanges), keys(exchanges)
    security = at(spec, "security")
    common = security_of(security, None)

    def exchange(code: str) -> DesiredExchange:
        special = at(own[code], "security")
        holds = common if special is None else security_of(security, special)
        return _exchange(code, own[code], places[code], holds)

    return DesiredServer(
        name=text(root, "metadata", "name"),
        url=text(spec, "url"),
        source=root.source,
        place=result.place,
        account=text(spec, "account", default="0"),
        access_secret=SecretRef.parse(text(spec, "accessSecret")),
        access_token=SecretRef.parse(text(spec, "accessToken")),
        labels=texts(root, "metadata", "labels"),
        owner=text(root, "metadata", "owner"),
        supervised=true(spec, "supervised"),
        exchanges=tuple(exchange(code) for code in sorted(own)),
        mode=Mode(text(spec, "mode", default="enforce")),
        self_heal=true(spec, "selfHeal"),
        on_credential_change=OnCredentialChange(
            text(spec, "robots", "onCredentialChange", default="leave")
        ),
        sole_account=true(spec, "soleAccount"),
        insecure_transport=text(spec, "insecureTransport"),
        suspend=_suspension(at(spec, "suspend")),
        cache=_one_shot(at(spec, "cache"), RequestKind.CACHE, "invalidatedAfter"),
        reboot=_one_shot(at(spec, "reboot"), RequestKind.REBOOT, "bootedAfter"),
        has_security=security is not None
        or any(at(node, "security") is not None for node in own.values()),
        windows=tuple(_window(item) for item in items(spec, "windows")),
        borrowed=tuple(_borrowed(result, own)),
    )


def _borrowed(result: Merged, codes: Iterable[str]) -> Iterator[tuple[str, SourceLine]]:
    """Yield the references that another file than the server's own gives, and where."""
    if not result.layers:
        return
    paths = (("accessSecret",), ("accessToken",))
    for path in (*paths, *(("exchanges", code, "credentials") for code in sorted(codes))):
        source = result.foreign("spec", *path)
        if source is not None:
            yield ".".join(path), source


def _exchange(code: str, node: Node, source: SourceLine, security: Security) -> DesiredExchange:
    written = entries(node)
    credentials = written.get("credentials")
    fields = {name: SecretRef.parse(text(one)) for name, one in entries(credentials).items()}
    return DesiredExchange(
        code=code,
        source=source,
        presence=Presence(text(written["state"])) if "state" in written else Presence.PRESENT,
        secret=SecretRef.parse(text(credentials)),
        fields={name: reference for name, reference in fields.items() if reference is not None},
        take_over="takeOver" in written and true(written["takeOver"]),
        security=security,
    )


def _suspension(node: Node | None) -> Suspension | None:
    if node is None:
        return None
    return Suspension(text(node, "reason"), text(node, "by"), instant(text(node, "until")))


def _window(node: Node) -> Window:
    return Window(
        WindowKind(text(node, "kind")),
        text(node, "schedule"),
        span(text(node, "duration")) or timedelta(0),
        text(node, "timeZone"),
        node.source,
    )


def _one_shot(node: Node | None, kind: RequestKind, key: str) -> OneShot | None:
    moment = instant(text(node, key))
    if node is None or moment is None:
        return None
    return OneShot(
        kind,
        moment,
        text(node, "reason"),
        node.source,
        expires_after=span(text(node, "expiresAfter")) or DEFAULT_EXPIRY,
        robots=Afterwards(text(node, "robots", default="leave")),
        resume_within=span(text(node, "resumeWithin")) or DEFAULT_RESUME,
    )
