"""`jtr ledger backup`: the ledger as one file."""

from contextlib import closing
from pathlib import Path

import click

from reconciler import bootstrap
from reconciler.cli.ledger.copy_file import key_place
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.files import shown
from reconciler.errors import LedgerError, UsageError
from reconciler.ledger.copies import Heading, as_file, born, judged, taken
from reconciler.system.console import say
from reconciler.system.files import draft, reason, sync_directory


@click.command("backup")
@click.argument("file", metavar="FILE|-")
@settings_options
def command(file: str, source: SettingsSource) -> int:
    """
    Copy the ledger into FILE, which must not exist yet, or to standard output.

    Others may work with it meanwhile: each row is whole, and none depends on another.  The copy
    holds no secret, and the fingerprint key is not in it: keep that elsewhere, apart from it.
    """
    settings = source.settings()
    with closing(bootstrap.ledger_store(settings)) as store:
        rows = taken(store)
    found = judged(rows)
    if found.damaged:
        raise LedgerError(
            f"{len(found.damaged)} of {found.rows} rows are damaged; the first: "
            f"{found.damaged[0].what}",
            "see all of them with: jtr ledger check",
        )
    heading = Heading(
        born(rows).uid, bootstrap.now(), bootstrap.writer("ledger backup"), str(settings.ledger)
    )
    data = as_file(heading, rows)
    if file == "-":
        click.echo(data.decode("ascii"), nl=False)
    else:
        _write(Path(file), data)
    say(f"copied {found.rows} rows of {settings.ledger}")
    say(f"not in it: the fingerprint key ({key_place(settings)})")
    return 0


def _write(path: Path, data: bytes) -> None:
    """Make the file whole or not at all, over none that is there.  Raises UsageError."""
    try:
        with draft(path, data) as made:
            path.hardlink_to(made)
        sync_directory(path.parent)
    except FileExistsError:
        raise UsageError(f"{shown(str(path))} is there already", "name a new file") from None
    except OSError as error:
        raise UsageError(
            f"{shown(str(path))} cannot be written ({reason(error)})",
            "check its directory, its rights and its space",
        ) from None
