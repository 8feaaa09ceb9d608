"""
The text of documents that nobody has written yet, and their files.

A document is a person's once it was written: nothing here writes over one.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from reconciler.documents.files import API_VERSION, shown
from reconciler.documents.walk import Kind, below
from reconciler.errors import JtrError, UsageError
from reconciler.model.references import SecretRef
from reconciler.system.files import draft, reason, sync_directory

NAME: Final = re.compile(r"[a-z0-9-]{1,63}")
_BARE: Final = re.compile(r"(?!true$|false$|null$)[a-z][A-Za-z0-9_./:#@-]*[A-Za-z0-9_/]")
RIGHTS: Final = 0o644  # documents hold no secret, and Git gives them to everybody


def new_document(
    name: str,
    url: str,
    *,
    account: str = "0",
    access_secret: SecretRef | None = None,
    exchanges: Mapping[str, SecretRef] | None = None,
    left_out: Sequence[tuple[str, SecretRef, str]] = (),
) -> str:
    """
    Return a TradingServer document.

    *left_out* are exchanges that it has as comments only, each with the reason why.
    """
    rows = [
        f"apiVersion: {API_VERSION}",
        "kind: TradingServer",
        "metadata:",
        f"  name: {scalar(name)}",
        "spec:",
        f"  url: {scalar(url)}",
    ]
    if account != "0":
        rows.append(f"  account: {json.dumps(account)}")
    if access_secret is not None:
        rows.append(f"  accessSecret: {scalar(str(access_secret))}")
    if exchanges or left_out:
        rows.append("  exchanges:" if exchanges else "  # exchanges:")
    for code, ref in sorted((exchanges or {}).items()):
        rows.append(f"    {scalar(code)}: {{credentials: {scalar(str(ref))}}}")
    for code, ref, why in left_out:
        rows += [f"    # {why}", f"    # {scalar(code)}: {{credentials: {scalar(str(ref))}}}"]
    return "\n".join(rows) + "\n"


def scalar(text: str) -> str:
    """Return *text* as YAML that is read as this text, whatever stands in it."""
    return text if _BARE.fullmatch(text) else json.dumps(text)


def file_of(folder: str, name: str) -> str:
    """
    Return the path of a new document of the server *name* in *folder*.

    Raises UsageError for what is no name, and where something lies there already.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{shown(name)!r} is no name of a server", "1 to 63 small letters, digits and hyphens"
        )
    path = os.path.join(folder, f"{name}.yaml")  # noqa: PTH118  - as it was typed
    refuse_existing(path)
    return path


def refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise UsageError(
            f"{shown(path)} is there already, and is not written over",
            "name another place, or move it away first",
        )


def holds_documents(folder: str) -> bool:
    """Whether the loader would read anything below *folder*, which need not exist."""
    return os.path.isdir(folder) and any(one.kind is not Kind.IGNORED for one in below(folder))  # noqa: PTH112


def write_new(path: str, text: str, rights: int = RIGHTS) -> None:
    """
    Write a file that was not there, whole or not at all; its folders are made.

    Raises JtrError, also where somebody else wrote it meanwhile.
    """
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with draft(place, text.encode()) as made:
            made.chmod(rights)
            place.hardlink_to(made)  # unlike a rename it never takes the place of another file
        sync_directory(place.parent)
    except FileExistsError:
        raise JtrError(
            f"{shown(path)} was written by somebody else meanwhile; it is as they left it",
            "look at it, then run the command again",
        ) from None
    except OSError as error:
        raise JtrError(
            f"{shown(path)} could not be written ({reason(error)})",
            "check the file system and the permissions of the directory",
        ) from error
