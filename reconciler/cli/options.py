"""
Options that several commands share, and the servers that they select.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import click

from reconciler.errors import UsageError
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.plan.inputs import Consents
from reconciler.render.registry import plan_forms

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*decorators: Decorator) -> Decorator:

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


settings = together(
    click.option(
        "--settings",
        "settings_file",
        metavar="FILE",
        help="The operator's settings (else JTR_SETTINGS, /etc/jtr, ~/.config/jtr).",
    ),
    click.option(
        "--settings-in-repo",
        is_flag=True,
        help="Accept settings that lie beside the documents: whoever may change these may then "
        "send the Vault token elsewhere.",
    ),
)

_selection = together(
    click.option("--server", "servers", multiple=True, metavar="NAME", help="Only this server."),
    click.option(
        "--selector", metavar="KEY=VALUE,...", default="", help="Only servers with these labels."
    ),
)

visiting = together(
    click.option(
        "--parallelism",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        help="How many servers at once.",
    ),
)

recipients = click.option(
    "--approve-recipient",
    multiple=True,
    metavar="SERVER",
    help="It is right that this server gets the login and the secrets that its document names.",
)

_consents = together(
    click.option("--correct-drift", is_flag=True, help="Put back what somebody changed by hand."),
    click.option(
        "--take-over",
        multiple=True,
        metavar="SERVER[/EXCHANGE]",
        help="Replace what somebody else connected there.",
    ),
    click.option(
        "--rewrite",
        multiple=True,
        metavar="SERVER[/EXCHANGE]",
        help="Write it again even if it looks right.",
    ),
    click.option(
        "--approve-target-change",
        multiple=True,
        metavar="SERVER",
        help="Its address changed, or another server answers there: that is right.",
    ),
    recipients,
    click.option(
        "--no-disruptive",
        is_flag=True,
        help="Restart no robots, do no requests: credentials only.",
    ),
)


def _output(forms: Sequence[str]) -> Decorator:
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(forms),
        default="text",
        show_default=True,
        help="For people or for programs.",
    )


output = _output(["text", "json"])
plan_output = _output(plan_forms())

detailed = click.option(
    "--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes or drift."
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which servers a command is about; empty means all."""

    names: tuple[str, ...] = ()
    selector: str = ""

    def of(self, state: DesiredState) -> DesiredState:
        """Return the selected part of *state*.  Raises UsageError for names that it lacks."""
        known = {server.name for server in state.servers}
        if unknown := sorted(set(self.names) - known):
            raise UsageError(
                f"no server is called {', '.join(unknown)}", f"known: {_some(sorted(known))}"
            )
        labels = _labels(self.selector)
        chosen: list[DesiredServer] = []
        others = list(state.others)
        for server in state.servers:
            meant = (not self.names or server.name in self.names) and _has(server, labels)
            (chosen if meant else others).append(server)
        if labels and not chosen:
            raise UsageError(f"no server has the labels {self.selector}", "see metadata.labels")
        return replace(state, servers=tuple(chosen), others=tuple(others))


@dataclass(frozen=True, slots=True)
class Wishes:
    """What `plan` and `apply` were asked for beyond the documents: their options by name."""

    servers: tuple[str, ...]
    selector: str
    correct_drift: bool
    take_over: tuple[str, ...]
    rewrite: tuple[str, ...]
    approve_target_change: tuple[str, ...]
    approve_recipient: tuple[str, ...]
    no_disruptive: bool

    def of(self, state: DesiredState) -> tuple[DesiredState, Consents]:
        """Return the selected servers and the consents.  Raises UsageError for unknown names."""
        chosen = Selection(self.servers, self.selector).of(state)
        return chosen, Consents(
            drift=self.correct_drift,
            take_over=known_entries(self.take_over, chosen, "--take-over"),
            rewrite=known_entries(self.rewrite, chosen, "--rewrite"),
            targets=known_servers(self.approve_target_change, chosen, "--approve-target-change"),
            recipients=agreed(self.approve_recipient, chosen).recipients,
            quiet="--no-disruptive" if self.no_disruptive else "",
        )


def wishes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of selection and consent; the command gets them as one `Wishes`."""

    @functools.wraps(function)
    def gathered(**given: Any) -> Any:
        asked = Wishes(**{field.name: given.pop(field.name) for field in fields(Wishes)})
        return function(asked=asked, **given)

    return _selection(_consents(gathered))


def _has(server: DesiredServer, labels: dict[str, str]) -> bool:
    return all(server.labels.get(key) == value for key, value in labels.items())


def _labels(text: str) -> dict[str, str]:
    labels = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise UsageError(f"{part!r} is no label", "write --selector env=prod,region=tokyo")
        labels[key.strip()] = value.strip()
    return labels


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown  # noqa: PLR2004


def known_entries(entries: Sequence[str], state: DesiredState, option: str) -> frozenset[str]:
    """Check `SERVER[/EXCHANGE]` entries against the documents: a typo must not pass in silence."""
    servers = {server.name: server for server in state.servers}
    for entry in entries:
        name, slash, exchange = entry.partition("/")
        if name not in servers:
            raise UsageError(
                f"{option} {entry}: no server is called {name}",
                f"known: {_some(sorted(servers))}",
            )
        codes = {declared.code for declared in servers[name].exchanges}
        if slash and exchange not in codes:
            raise UsageError(
                f"{option} {entry}: {name} declares no exchange {exchange}",
                f"it declares {_some(sorted(codes)) or 'none'}",
            )
    return frozenset(entries)


def known_servers(names: Sequence[str], state: DesiredState, option: str) -> frozenset[str]:
    """Check names of whole servers against the documents.  Raises UsageError."""
    known = {server.name for server in state.servers}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"{option} {unknown[0]}: no server is called so", f"known: {_some(sorted(known))}"
        )
    return frozenset(names)


def agreed(names: Sequence[str], state: DesiredState) -> Consents:
    """Return the consent of `--approve-recipient` alone.  Raises UsageError for unknown names."""
    return Consents(recipients=known_servers(names, state, "--approve-recipient"))


def named(state: DesiredState, name: str) -> DesiredServer:
    return Selection((name,)).of(state).servers[0]
