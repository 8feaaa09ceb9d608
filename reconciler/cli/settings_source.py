"""The operator's settings of one command, as `--settings` and `--settings-in-repo` have them."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reconciler.bootstrap import load_settings
from reconciler.cli import options
from reconciler.documents.load import load
from reconciler.model.desired import DesiredState
from reconciler.settings.model import Settings


@dataclass(frozen=True, slots=True)
class SettingsSource:
    """Where the settings are; `in_repo` accepts some that lie beside the documents."""

    file: str | None
    in_repo: bool

    def settings(self, *paths: str) -> Settings:
        """Read them for documents in *paths*."""
        return load_settings(self.file, os.environ, paths, in_repo_allowed=self.in_repo)

    def inputs(self, *paths: str) -> tuple[DesiredState, Settings]:
        """Read documents, too; an invalid one stops a command before any network."""
        state = load(paths).state
        return state, self.settings(*paths)


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add both options; the command gets them as one `source`."""

    @functools.wraps(function)
    def gathered(*, settings_file: str | None, settings_in_repo: bool, **rest: Any) -> Any:
        return function(source=SettingsSource(settings_file, settings_in_repo), **rest)

    return options.settings(gathered)
