"""The operator's settings of one command, as `--settings` and `--settings-in-repo` have them."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from reconciler.bootstrap import load_settings
from reconciler.cli import options
from reconciler.documents.files import shown
from reconciler.documents.load import load
from reconciler.errors import UsageError
from reconciler.model.desired import DesiredState
from reconciler.policy.load import load_policy
from reconciler.policy.model import Policy
from reconciler.settings.model import Settings
from reconciler.settings.paths import refuse_in_tree


class SettingsSource(Struct, frozen=True):
    """Where the settings are; `in_repo` accepts some that lie beside the documents."""

    file: str | None
    in_repo: bool

    def settings(self, *paths: str) -> Settings:
        """Read them for documents in *paths*."""
        return load_settings(self.file, os.environ, paths, in_repo_allowed=self.in_repo)

    def inputs(self, *paths: str) -> tuple[DesiredState, Settings]:
        """Read documents, too; an invalid one stops a command before any network."""
        state = load(paths).state
        settings = self.settings(*paths)
        settings.policy.check_fits(state)
        return state, settings

    def policy(self, file: str | None, *paths: str) -> Policy:
        """
        Return the policy in *file*, else that of the settings, for documents in *paths*.

        Raises UsageError where none is named, and for one that lies with the documents: a pull
        request could change what it is judged by.
        """
        if file is not None:
            if not Path(file).exists():
                raise UsageError(f"there is no policy {shown(file)}", "check the path")
            if not self.in_repo:
                refuse_in_tree(file, paths, "policy")
            return load_policy(file)
        found = self.settings(*paths).policy
        if not found.speaks:
            raise UsageError(
                "no policy is named", "write policy: FILE into the settings, or give --policy FILE"
            )
        return found


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add both options; the command gets them as one `source`."""

    @functools.wraps(function)
    def gathered(*, settings_file: str | None, settings_in_repo: bool, **rest: Any) -> Any:
        return function(source=SettingsSource(settings_file, settings_in_repo), **rest)

    return options.settings(gathered)
