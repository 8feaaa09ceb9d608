"""
Where the operator's files are, and that they are not where desired state is.

Whoever writes the desired state must not be able to write the settings: not the file, not a link
on the way to it.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from reconciler.documents.files import shown, work_tree
from reconciler.errors import UsageError

SYSTEM_FILE: Final = "/etc/jtr/settings.yaml"


def home(environ: Mapping[str, str]) -> Path:
    """Return the home directory.  Raises UsageError when there is none."""
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError as error:
        raise UsageError("there is no home directory", "set HOME, or name every file") from error


def xdg(environ: Mapping[str, str], variable: str, fallback: str) -> Path:
    """Return an XDG base directory; a relative one counts as unset, as its specification says."""
    chosen = environ.get(variable, "")
    return Path(chosen) if chosen.startswith("/") else home(environ) / fallback


def settings_file(flag: str | None, environ: Mapping[str, str]) -> str | None:
    """
    Return the settings file: *flag*, else `JTR_SETTINGS`, else the first usual one that exists.

    Raises UsageError when a named one is missing.
    """
    named = flag or environ.get("JTR_SETTINGS")
    if named:
        if not os.path.exists(named):  # noqa: PTH110  - answers False for names that cannot be
            raise UsageError(f"there is no settings file {shown(named)}", "check the path")
        return named
    own = str(xdg(environ, "XDG_CONFIG_HOME", ".config") / "jtr" / "settings.yaml")
    return next((file for file in (SYSTEM_FILE, own) if os.path.exists(file)), None)  # noqa: PTH110


def new_settings_file(flag: str | None, environ: Mapping[str, str]) -> str:
    """Return where new settings go; where there are some already, these."""
    named = flag or environ.get("JTR_SETTINGS")
    own = str(xdg(environ, "XDG_CONFIG_HOME", ".config") / "jtr" / "settings.yaml")
    return named or (SYSTEM_FILE if os.path.lexists(SYSTEM_FILE) else own)


def refuse_in_tree(settings: str, desired_paths: Sequence[str], what: str = "settings") -> None:
    """
    Raise UsageError when the settings, or *what* else is the operator's, lie with desired state.

    In a desired path, beside a desired file, or in the Git work tree of one.
    """
    places = _places(settings)
    for desired in desired_paths:
        real = Path(os.path.realpath(desired))
        trees = [tree for tree in (real, work_tree(real)) if tree is not None]
        beside = real.is_file() and any(place.parent == real.parent for place in places)
        if beside or any(place.is_relative_to(tree) for place in places for tree in trees):
            raise UsageError(
                f"the {what} {shown(settings)} lie{'' if what.endswith('s') else 's'} with the "
                "desired state",
                "keep them elsewhere, for a pull request could send the Vault token anywhere; "
                "or consent with --settings-in-repo",
            )


def _places(path: str) -> list[Path]:
    """Return where the file is and where each link to it is: moving a link moves the settings."""
    found: list[Path] = []
    here = Path(path).absolute()
    for _ in range(40):
        parent = Path(os.path.realpath(here.parent))
        found.append(parent / here.name)
        if not found[-1].is_symlink():
            break
        here = parent / found[-1].readlink()
    return [*found, Path(os.path.realpath(path)), Path(os.path.normpath(Path(path).absolute()))]


def key_file() -> str:
    """Return where the fingerprint key lies when the settings name none in Vault."""
    return str(xdg(os.environ, "XDG_CONFIG_HOME", ".config") / "jtr" / "fingerprint.key")


def unrecorded_folder() -> Path:
    """Return where a run leaves what the ledger could not take."""
    return xdg(os.environ, "XDG_STATE_HOME", ".local/state") / "jtr" / "emergency"
