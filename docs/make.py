"""
Write the reference, in the program's own words: configuration, commands, exit codes, metrics.

Run it after a schema, a command or a metric changed (`.venv/bin/python docs/make.py`); a test says
when a page is old.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from prometheus_client.core import CounterMetricFamily

from reconciler.cli.app import ALIASES, cli
from reconciler.cli.help import TOPICS
from reconciler.controller.metrics import HELP, SOURCES
from reconciler.documents.schema import CONFIG, POLICY, SETTINGS, TYPES, document, resolved


def reference_page() -> str:
    """Return docs/config.md."""
    lines = [
        "# Configuration reference",
        "",
        "Generated from `schemas/*.json` by `docs/make.py`; do not edit.",
        "`CODE`, `LABEL` stand for keys of your choice, `[]` for each item of a list.",
    ]
    kinds = document(CONFIG)["$defs"]
    for about, name in (
        (kinds["server"], CONFIG),
        (kinds["defaults"], CONFIG),
        (document(SETTINGS), SETTINGS),
        (document(POLICY), POLICY),
    ):
        lines += ["", f"## {about['title']}", "", about["description"], ""]
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += _key_rows(about, name, "")
    return "\n".join(lines) + "\n"


def _key_rows(about: Mapping[str, Any], name: str, path: str) -> Iterator[str]:
    def row(child: Mapping[str, Any], where: str, *, must: bool) -> Iterator[str]:
        child = {**resolved(child, name), **child}
        kinds = child["type"] if isinstance(child["type"], list) else [child["type"]]
        choice = ", ".join(f"`{option}`" for option in child.get("enum", ()))
        kind = choice or " or ".join(TYPES[kind] for kind in kinds)
        default = f"`{json.dumps(child['default'])}`" if "default" in child else ""
        need = "**required**" if must else default
        meaning = child["description"].replace("|", "\\|")
        yield f"| `{where}` | {kind} | {need} | {meaning} |"
        yield from _key_rows(child, name, where)

    for key, child in about.get("properties", {}).items():
        if child == about.get("additionalProperties"):
            continue  # only an example of it, for editors
        yield from row(child, f"{path}.{key}".lstrip("."), must=key in about.get("required", ()))
    if isinstance(about.get("additionalProperties"), Mapping):
        word = "CODE" if path.endswith("exchanges") else "LABEL"
        yield from row(about["additionalProperties"], f"{path}.{word}", must=False)
    items = resolved(about.get("items", {}), name)
    if "properties" in items:
        yield from _key_rows(items, name, f"{path}[]")


# ── commands ─────────────────────────────────────────────────────────────────────────────────


def commands_page() -> str:
    """Return docs/reference/commands.md."""
    lines = [
        "# Commands",
        "",
        "Generated from the commands themselves by `docs/make.py`; do not edit.",
        "",
    ]
    lines += ["What `jtr COMMAND --help` prints, in one page. `jtr help` has a page on each of "]
    lines += [f"{', '.join(f'`{topic}`' for topic in TOPICS)}."]
    root = click.Context(cli, info_name="jtr")
    for context in _commands(root):
        lines += _command(context)
    return "\n".join(lines) + "\n"


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Every command below that of *context*; groups come before what is in them."""
    group = context.command
    assert isinstance(group, click.Group)  # noqa: S101  - for the type checker
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # noqa: S101  - it was listed
        below = click.Context(command, info_name=name, parent=context)
        yield below
        if isinstance(command, click.Group):
            yield from _commands(below)


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("", f"## {context.command_path}", "")
    yield from ("```text", f"{context.command_path} {usage}".rstrip(), "```", "")
    yield from _paragraphs(inspect.cleandoc(command.help or ""))
    also = [alias for alias, name in ALIASES.items() if name == command.name]
    if also and context.parent is not None and context.parent.parent is None:
        yield from (f"Also called `jtr {also[0]}`.", "")
    rows = [
        found
        for option in command.get_params(context)
        if isinstance(option, click.Option) and "--help" not in option.opts
        if (found := option.get_help_record(context)) is not None
    ]
    if rows:
        yield from ("| option | meaning |", "| --- | --- |")
        for names, meaning in rows:
            yield f"| {_cell(f'`{names}`')} | {_cell(_shown(meaning))} |"


def _paragraphs(text: str) -> Iterator[str]:
    """The help of a command; what begins with click's mark for it keeps its lines."""
    for part in text.split("\n\n"):
        if part.startswith("\b\n"):
            yield from ("```text", part.removeprefix("\b\n"), "```", "")
        elif part:
            yield from (_shown(" ".join(part.split())), "")


def _shown(text: str) -> str:
    """Words of the program as Markdown: options are code, and nothing is markup."""
    text = re.sub(r"\s+\[([^]`]*)\]$", r" (\1)", text)
    words = text.split("`")
    words[::2] = [re.sub(r"([*_<>])", r"\\\1", word) for word in words[::2]]
    words[::2] = [re.sub(r"(?<!\S)--[a-z][a-z-]*", r"`\g<0>`", word) for word in words[::2]]
    return "`".join(words)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# ── exit codes, metrics ──────────────────────────────────────────────────────────────────────


def exit_codes_page() -> str:
    """Return docs/reference/exit-codes.md."""
    rows: list[list[str]] = []
    rest = []
    for line in TOPICS["exit-codes"].splitlines():
        if found := re.match(r"([0-9][0-9, ]*?)  +(.*)", line):
            rows.append([found[1], found[2]])
        elif line.startswith(" "):
            rows[-1][1] += f" {line.strip()}"
        else:
            rest.append(re.sub(r"-o json|jtr explain CODE", r"`\g<0>`", line))
    return "\n".join(
        (
            "# Exit codes",
            "",
            "Generated from `jtr help exit-codes` by `docs/make.py`; do not edit.",
            "",
            "| code | meaning |",
            "| --- | --- |",
            *(f"| {code} | {_shown(meaning)} |" for code, meaning in rows),
            "",
            *rest,
            "",
        )
    )


def metrics_page() -> str:
    """Return docs/reference/metrics.md."""
    lines = ["# Metrics", "", "Generated from the controller by `docs/make.py`; do not edit.", ""]
    lines += [
        "What [the controller](../controller.md) serves at `/metrics`. [Alerts](../alerts.md) uses"
    ]
    lines += ["them; times are seconds since the epoch, and no label holds a secret or a path.", ""]
    lines += ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for name, meaning in HELP.items():
        source = SOURCES[name]
        kind = source.kind.__name__.removesuffix("MetricFamily").lower()
        shown = f"{name}_total" if source.kind is CounterMetricFamily else name
        labels = ", ".join(f"`{label}`" for label in source.labels)
        lines.append(f"| `{shown}` | {kind} | {labels} | {_cell(meaning)} |")
    return "\n".join(lines) + "\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "config.md": reference_page,
    "reference/commands.md": commands_page,
    "reference/exit-codes.md": exit_codes_page,
    "reference/metrics.md": metrics_page,
}
"""The pages that are written here, below docs/."""


if __name__ == "__main__":
    for page, written in PAGES.items():
        path = Path(__file__).parent / page
        path.parent.mkdir(exist_ok=True)
        path.write_text(written(), "utf-8")
