"""
What a shell offers for names: those of the documents here and of the ledger on this host.

Nothing is contacted for it, and whatever is wrong is silence: nobody asked for more than a word.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any

import click
from click.shell_completion import CompletionItem

from reconciler.model.timestamps import spelled

Known = Mapping[str, frozenset[str]]  # exchanges, and instants of requests, by server
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def servers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    del param
    return _offered(_known(ctx), incomplete)


def entries(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer SERVER, and SERVER/EXCHANGE once a server stands there."""
    del param
    known = _known(ctx)
    name, slash, _ = incomplete.partition("/")
    if not slash:
        return _offered(known, incomplete)
    return _offered((f"{name}/{code}" for code in known.get(name, ())), incomplete)


def subjects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer what `jtr explain` explains: codes and SERVER, and its parts once a server is there."""
    del param
    known = _known(ctx)
    name, slash, _ = incomplete.partition("/")
    if slash:
        parts = (*known[name], "reboot", "cache") if name in known else ()
        return _offered((f"{name}/{part}" for part in parts), incomplete)
    from reconciler.render import codes  # noqa: PLC0415  - only where codes are wanted

    return _offered([*known, *(one.code for one in codes.every())], incomplete)


def instants(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the instants of the requests of SERVER that are in doubt, of the KIND that is there."""
    del param
    server, kind = ctx.params.get("server"), ctx.params.get("kind")
    found: list[str] = []
    with suppress(Exception):
        for identity, recorded in _ledger(ctx):
            request = recorded.requests.open
            if identity.name == server and request is not None and kind in (None, request.kind):
                found.append(spelled(request.instant))
    return _offered(found, incomplete)


def _offered(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)]


def _known(ctx: click.Context) -> Known:
    found: dict[str, set[str]] = {}
    with suppress(Exception):
        for server in _documents(ctx):
            found.setdefault(server.name, set()).update(one.code for one in server.exchanges)
    with suppress(Exception):
        for identity, recorded in _ledger(ctx):
            found.setdefault(identity.name, set()).update(recorded.exchanges)
    return {name: frozenset(codes) for name, codes in found.items()}


def _documents(ctx: click.Context) -> Iterable[Any]:
    from reconciler.documents.load import load  # noqa: PLC0415  - only where names are wanted

    return load(_paths(ctx)).state.servers


def _paths(ctx: click.Context) -> tuple[str, ...]:
    named = ctx.params.get("paths") or ctx.params.get("path") or "."
    return (named,) if isinstance(named, str) else tuple(named)


def _ledger(ctx: click.Context) -> Iterator[tuple[Any, Any]]:
    """Yield what the ledger in a file says of each server; one in Vault is not asked for a word."""
    import os  # noqa: PLC0415

    from reconciler import bootstrap  # noqa: PLC0415  - only where names are wanted
    from reconciler.ledger.servers import known_servers  # noqa: PLC0415

    settings = bootstrap.load_settings(
        ctx.params.get("settings_file"),
        os.environ,
        _paths(ctx),
        in_repo_allowed=bool(ctx.params.get("settings_in_repo")),
    )
    if settings.ledger.file is None:
        return
    with closing(bootstrap.open_ledger(settings, "completion")) as ledger:
        yield from known_servers(ledger, bootstrap.unrecorded())
