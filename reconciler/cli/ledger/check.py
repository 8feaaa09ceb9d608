"""`jtr ledger check`: whether a ledger, or a backup of one, can be read to its last row."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime

import click
from msgspec import Struct

from reconciler import bootstrap
from reconciler.cli import options
from reconciler.cli.ledger.copy_file import key_place, read_backup
from reconciler.cli.output import show, show_json
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import JtrError, LedgerError
from reconciler.ledger.codec.rows import BIRTH
from reconciler.ledger.copies import Judgement, born, judged, never_begun, taken
from reconciler.ledger.ledger import Ledger
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.timestamps import stamp
from reconciler.render.escape import plain
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.settings.model import Settings
from reconciler.system.console import say


class Checked(Struct, frozen=True):
    """What was looked at and found; `keys` are ids of fingerprint keys that this host lacks."""

    place: str
    at: datetime
    found: Judgement
    suspect: str
    keys: tuple[str, ...]


@click.command("check")
@click.argument("file", metavar="[BACKUP]", required=False)
@options.output
@settings_options
def command(file: str | None, form: str, source: SettingsSource) -> int:
    """
    Read every row of the ledger, or of a BACKUP, and say which cannot be read.

    Changes nothing and contacts no server.  Exit code 1 when something is damaged.
    """
    settings = source.settings()
    with ExitStack() as stack:
        vault = bootstrap.ledger_backend(settings)
        if vault is not None:
            stack.callback(vault.close)
        suspect = ""
        if file is not None:
            heading, rows = read_backup(file)
            place, at = f"{file}, a backup of {heading.place}", heading.at
        else:
            place, at = str(settings.ledger), bootstrap.now()
            store = stack.enter_context(closing(bootstrap.ledger_store(settings, vault=vault)))
            rows = taken(store)
            if BIRTH not in rows:
                raise never_begun(rows)
            born(rows)
            ledger = Ledger(store, now=bootstrap.now, timeouts=settings.timeouts, writer="")
            suspect = bootstrap.suspicion(settings, ledger, keep=False)
        found = judged(rows)
        checked = Checked(place, at, found, suspect, _lacking(settings, vault, found))
    if form == "json":
        show_json(_json(checked))
    else:
        show("\n".join(_lines(settings, checked)) + "\n")
    return int(LedgerError.exit_code) if found.damaged else 0


def _lacking(settings: Settings, vault: VaultBackend | None, found: Judgement) -> tuple[str, ...]:
    """Return the ids of the keys that rows were made with and this host does not have."""
    try:
        key = bootstrap.fingerprint_key(settings, vault, create=False)
    except JtrError as error:
        say(f"the fingerprint key cannot be read: {error}")
        return ()
    ours = {Fingerprints(key).key_id} if key is not None else set()
    return tuple(sorted(found.keys - ours))


def _lines(settings: Settings, checked: Checked) -> Iterator[str]:
    found = checked.found
    yield f"{plain(checked.place)}, as of {stamp(checked.at)}"
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.kinds.items()))
    yield f"  {found.rows} rows: {kinds}"
    for error in found.damaged:
        yield f"  ! {plain(error.what)}"
        yield f"    {plain(error.remedy)}"
    if not found.damaged:
        yield "  ✓ every row can be read"
    if checked.suspect:
        yield f"  ! {plain(checked.suspect)}"
        yield "    find out what was done meanwhile, then: jtr ledger accept-restore"
    if checked.keys:
        yield f"  ! rows were made with a fingerprint key that is not at {key_place(settings)}"
        yield "    what they say of keys on servers is not recognised without it: bring it back"


def _json(checked: Checked) -> dict[str, object]:
    found = checked.found
    return {
        "formatVersion": 1,
        "place": checked.place,
        "at": stamp(checked.at),
        "rows": dict(sorted(found.kinds.items())),
        "damaged": [{"what": error.what, "remedy": error.remedy} for error in found.damaged],
        "suspect": checked.suspect,
        "missingFingerprintKeys": list(checked.keys),
    }
