"""The forms of `-o` in which lines of files are told, for commands that find something there."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from reconciler.model.annotations import Annotation
from reconciler.render.annotations import annotation_forms, annotation_renderer

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def annotated_output(*forms: str) -> Decorator:
    """Add `-o` with *forms* and all that tell lines of files; the first one is the default."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice([*forms, *annotation_forms()]),
        default=forms[0],
        show_default=True,
        help="For people, for programs, or for what shows lines of files: annotations of GitHub, "
        "Gitea and Forgejo, GitLab's code quality, SARIF, JUnit.",
    )


def annotate(form: str, found: Callable[[], Iterable[Annotation]]) -> bool:
    """Print what was *found* if *form* tells lines of files; returns whether it does."""
    if form not in annotation_forms():
        return False
    rows: Sequence[Annotation] = list(found())
    click.echo(annotation_renderer(form)(rows), nl=False)
    return True
