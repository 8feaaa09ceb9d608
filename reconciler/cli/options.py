"""
Options that several commands share, and the servers that they select.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from msgspec import Struct

from reconciler.cli import suggestions
from reconciler.cli.names import is_pattern, matching, meant, one_only, some, unknown
from reconciler.cli.output import width
from reconciler.errors import UsageError
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.values import replace
from reconciler.plan.inputs import NO_DISRUPTIVE, Consents
from reconciler.render.escape import plain
from reconciler.render.layout import View
from reconciler.render.registry import plan_forms
from reconciler.system.console import say

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

server_names = click.option(
    "--server",
    "servers",
    multiple=True,
    shell_complete=suggestions.servers,
    metavar="NAME",
    help="Only this server, or those that a pattern such as 'tokyo-*' matches.",
)

selection = together(
    server_names,
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
    shell_complete=suggestions.servers,
    metavar="SERVER",
    help="It is right that this server gets the login and the secrets that its document names.",
)

_consents = together(
    click.option("--correct-drift", is_flag=True, help="Put back what somebody changed by hand."),
    click.option(
        "--take-over",
        multiple=True,
        shell_complete=suggestions.entries,
        metavar="SERVER[/EXCHANGE]",
        help="Replace what somebody else connected there; patterns such as '*/bybit' are said out.",
    ),
    click.option(
        "--rewrite",
        multiple=True,
        shell_complete=suggestions.entries,
        metavar="SERVER[/EXCHANGE]",
        help="Write it again even if it looks right; patterns are said out.",
    ),
    click.option(
        "--approve-target-change",
        multiple=True,
        shell_complete=suggestions.servers,
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

_WIDE = click.option("--wide", is_flag=True, help="Every server by itself, also what is in sync.")


def viewing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of how much is told; the command gets them, and its window, as `view`."""

    @functools.wraps(function)
    def gathered(*, wide: bool, changes_only: bool, quiet: bool, **rest: Any) -> Any:
        brief = changes_only or quiet
        if wide and brief:
            option = "--quiet" if quiet else "--changes-only"
            raise UsageError(f"--wide shows everything, {option} does not", "give one of them")
        view = View(width(), wide=wide, changes_only=brief, quiet=quiet)
        return function(view=view, **rest)

    return together(
        _WIDE,
        click.option("--changes-only", is_flag=True, help="Not what is in sync or finished."),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            help="As --changes-only, and nothing at all where there is nothing to do or to fear.",
        ),
    )(gathered)


detailed = click.option(
    "--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes or drift."
)


class Selection(Struct, frozen=True):
    """Which servers a command is about; empty means all."""

    names: tuple[str, ...] = ()
    selector: str = ""

    def of(self, state: DesiredState) -> DesiredState:
        """Return the selected part of *state*.  Raises UsageError for names that it lacks."""
        names = meant(self.names, {server.name for server in state.servers})
        labels = _labels(self.selector)
        chosen: list[DesiredServer] = []
        others = list(state.others)
        for server in state.servers:
            wanted = (not self.names or server.name in names) and _has(server, labels)
            (chosen if wanted else others).append(server)
        if labels and not chosen:
            raise UsageError(f"no server has the labels {self.selector}", "see metadata.labels")
        return replace(state, servers=tuple(chosen), others=tuple(others))


class Wishes(Struct, frozen=True):
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
            targets=approved(self.approve_target_change, chosen, "--approve-target-change"),
            recipients=agreed(self.approve_recipient, chosen).recipients,
            quiet=NO_DISRUPTIVE if self.no_disruptive else None,
        )


def wishes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of selection and consent; the command gets them as one `Wishes`."""

    @functools.wraps(function)
    def gathered(**given: Any) -> Any:
        asked = Wishes(**{name: given.pop(name) for name in Wishes.__struct_fields__})
        return function(asked=asked, **given)

    return selection(_consents(gathered))


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


def known_entries(entries: Sequence[str], state: DesiredState, option: str) -> frozenset[str]:
    """
    Return what `SERVER[/EXCHANGE]` entries and patterns mean in the documents.

    What a pattern means is said: it consents.  Raises UsageError for what means nothing.
    """
    servers = {server.name: server for server in state.servers}
    found: set[str] = set()
    for entry in entries:
        word, slash, exchange = entry.partition("/")
        here = matching(word, servers)
        if not here:
            raise unknown([word], servers, option=f"{option} {plain(entry)}")
        if slash:
            codes = {name: [one.code for one in servers[name].exchanges] for name in here}
            here = [f"{name}/{code}" for name in here for code in matching(exchange, codes[name])]
            if not here:
                raise _undeclared(f"{option} {plain(entry)}", word, exchange, codes)
        if is_pattern(entry):
            say(f"{option} {plain(entry)} means {', '.join(here)}")
        found.update(here)
    return frozenset(found)


def _undeclared(
    option: str, word: str, exchange: str, codes: Mapping[str, Sequence[str]]
) -> UsageError:
    declared = {code for those in codes.values() for code in those}
    if is_pattern(word):
        what = f"none of {some(codes)} declares an exchange {plain(exchange)}"
        return UsageError(f"{option}: {what}", f"they declare {some(declared, 'none')}")
    what = f"{word} declares no exchange {plain(exchange)}"
    return UsageError(f"{option}: {what}", f"it declares {some(declared, 'none')}")


def approved(names: Sequence[str], state: DesiredState, option: str) -> frozenset[str]:
    """
    Check servers that are agreed to, each by its whole name.  Raises UsageError.

    No patterns: one would stand in every recipe, and agree to servers that nobody has seen.
    """
    known = {server.name for server in state.servers}
    for name in names:
        if is_pattern(name):
            meaning = matching(name, known)
            each = " ".join(f"{option} {one}" for one in meaning)
            if not meaning:
                raise unknown([name], known, option=f"{option} {plain(name)}")
            raise UsageError(
                f"{option} {plain(name)}: a pattern would agree to servers that nobody has seen",
                f"if all of these are right: {each}",
            )
        if name not in known:
            raise unknown([name], known, option=f"{option} {plain(name)}")
    return frozenset(names)


def agreed(names: Sequence[str], state: DesiredState) -> Consents:
    """Return the consent of `--approve-recipient` alone.  Raises UsageError for unknown names."""
    return Consents(recipients=approved(names, state, "--approve-recipient"))


def named(state: DesiredState, word: str) -> DesiredServer:
    """Return the one server that *word* means.  Raises UsageError for none and for several."""
    found = Selection((word,)).of(state).servers
    if len(found) > 1:
        raise one_only(word, [server.name for server in found])
    return found[0]
