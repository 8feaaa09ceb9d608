"""
From a valid, merged document to a DesiredServer.  Judges nothing.
"""

from datetime import timedelta

from reconciler.documents.defaults import (
    labels_of,
)
from reconciler.documents.formats import duration, instant
from reconciler.documents.key_policy import effective as security_of
from reconciler.documents.tree import List, Map, Node, at, text, true
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
from reconciler.model.references import SecretRef
from reconciler.model.source import SourceLine


def build_server(root: Map) -> DesiredServer:
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
        cache=_one_shot(spec, RequestKind.CACHE, "cache", "invalidatedAfter"),
        reboot=_one_shot(spec, RequestKind.REBOOT, "reboot", "bootedAfter"),
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


def _one_shot(spec: Node | None, kind: RequestKind, key: str, name: str) -> OneShot | None:
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
