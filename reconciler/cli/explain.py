"""`jtr explain`: why a line is in the plan, why nothing is done, and what a code means."""

from collections.abc import Iterable
from typing import Final

import click

from reconciler import bootstrap
from reconciler.cli import commands, options, output, suggestions
from reconciler.cli.look import look, served_ledger
from reconciler.cli.names import some
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import UsageError
from reconciler.model.desired import DesiredServer, DesiredState, RequestKind
from reconciler.model.explanation import Explanation
from reconciler.model.values import replace
from reconciler.model.wording import close_to
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit, view
from reconciler.plan.explain.exchange import explain_exchange
from reconciler.plan.explain.inputs import Known
from reconciler.plan.explain.request import explain_request
from reconciler.plan.inputs import Consents
from reconciler.reconcile.recall import recall
from reconciler.render import codes
from reconciler.render.escape import plain
from reconciler.render.explain import (
    code_document,
    code_text,
    explanation_document,
    explanation_text,
)
from reconciler.render.layout import folded
from reconciler.settings.model import Settings
from reconciler.system.interrupts import run

REQUESTS: Final = {"reboot": RequestKind.REBOOT, "cache": RequestKind.CACHE}


@click.command("explain")
@click.argument(
    "subject",
    metavar="CODE|SERVER/EXCHANGE|SERVER/reboot|SERVER/cache",
    shell_complete=suggestions.subjects,
)
@commands.documents
@click.option(
    "--live",
    is_flag=True,
    help="Visit the server instead of asking what was remembered; has a cost: see `jtr plan`.",
)
@options.recipients
@options.output
@settings_options
def command(
    *,
    subject: str,
    path: str,
    live: bool,
    approve_recipient: tuple[str, ...],
    form: str,
    source: SettingsSource,
) -> int:
    """
    Say why a line is in the plan, why nothing is done, or what a CODE means.

    With SERVER/EXCHANGE, SERVER/reboot or SERVER/cache: every condition, whether it holds and since
    when, what that follows from, and what would change it; from what was last seen of the server,
    as `jtr plan --recorded`.  CODE is one of a plan's JSON, an exit code, or one that `jtr audit`
    or `jtr doctor` says.
    """
    name, slash, what = subject.partition("/")
    if not slash:
        return _code(subject, form)
    state, settings = source.inputs(path)
    server = options.named(state, name)
    chosen = options.Selection((server.name,)).of(state)
    consents = options.agreed(approve_recipient, chosen)
    found = _explained(chosen, settings, consents, what, live=live)
    if form == "json":
        output.show_json(explanation_document(found))
    else:
        output.show(folded(explanation_text(found), output.width()))
    return 0


def _code(word: str, form: str) -> int:
    found = codes.find(word)
    if found is None:
        near = codes.near(word)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(
            f"there is no code {plain(word, 100)}",
            f"{hint}codes stand in `jtr plan -o json`, in exit codes and findings; about a server: "
            "jtr explain SERVER/EXCHANGE, SERVER/reboot, SERVER/cache",
        )
    if form == "json":
        output.show_json(code_document(found))
    else:
        output.show(code_text(found, output.width()))
    return 0


def _explained(
    state: DesiredState, settings: Settings, consents: Consents, what: str, *, live: bool
) -> Explanation:
    recalled, away = (None, None) if live else served_ledger(settings, "explain")
    with bootstrap.prepared(
        settings, "explain", parallelism=1, writes=False, looks=live, recalled=recalled
    ) as context:
        if away is not None and context.ledger is None:
            raise away
        if recalled is None:
            consents = bootstrap.beside_controller(settings, context, state, consents)
        if live:
            (visit,) = run(lambda _: look(state, context, consents))
        else:
            (visit,) = run(lambda _: recall(state, consents, context))
        known = _known(visit, consents, context)
    if what in REQUESTS:
        return explain_request(known, REQUESTS[what])
    exchanges = {*_exchanges(known.desired), *_seen(known), *known.recorded.exchanges}
    if what not in exchanges:
        raise _no_exchange(known.desired, what, exchanges)
    return explain_exchange(known, what)


def _known(visit: Visit, consents: Consents, context: PassContext) -> Known:
    seen = view(visit, context) if visit.observed is not None else visit.recorded.observation
    facts = visit.facts
    now = facts.terms.now if facts is not None else context.now()
    return Known(
        visit.desired,
        seen,
        visit.recorded,
        replace(facts, live=visit.observed is not None) if facts is not None else None,
        consents,
        visit.plan,
        now,
        context.timeouts.stale,
    )


def _exchanges(server: DesiredServer) -> list[str]:
    return [exchange.code for exchange in server.exchanges]


def _seen(known: Known) -> set[str]:
    """Return the exchanges that the server shows something of."""
    masks = known.observation.masks if known.observation is not None else {}
    return {code for code, shown in masks.items() if any(shown.values())}


def _no_exchange(server: DesiredServer, what: str, there: Iterable[str]) -> UsageError:
    there = sorted(there)
    near = close_to(what, [*there, *REQUESTS])
    hint = f"did you mean {server.name}/{f' or {server.name}/'.join(near)}? " if near else ""
    return UsageError(
        f"{server.name} declares no exchange {plain(what, 100)}, and shows none",
        f"{hint}known: {some(there, 'none')}, and reboot, cache",
    )
