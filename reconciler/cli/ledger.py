"""`jtr ledger`: begin one, release a brake."""

import os

import click

from reconciler.cli import means as workshop
from reconciler.cli import options
from reconciler.cli.output import say
from reconciler.errors import LedgerError, LedgerMissing, UsageError
from reconciler.settings import load_settings


@click.group("ledger")
def command() -> None:
    """Begin a ledger, or release a brake."""


@command.command("init")
@options.settings
def init(settings_file: str | None, settings_in_repo: bool) -> int:
    """
    Begin the ledger that the settings name, and make the fingerprint key where it is missing.

    The ledger remembers what no server can tell: what was written from which version, what is
    owed to robots.  It holds no secret.
    """
    settings = load_settings(settings_file, os.environ, (), in_repo_allowed=settings_in_repo)
    try:
        workshop.open_ledger(settings, "ledger init").close()
        say(f"there already is a ledger: {workshop.ledger_place(settings)}")
    except LedgerMissing:
        workshop.open_ledger(settings, "ledger init", create=True).close()
        click.echo(f"began a ledger: {workshop.ledger_place(settings)}")
    if workshop.make_fingerprint_key(settings):
        click.echo(f"made a fingerprint key: {settings.fingerprint_key or workshop.key_file()}")
    return 0


@command.command("release-brake")
@click.argument("version")
@click.option("--because", required=True, metavar="TEXT", help="What you found out.")
@options.settings
def release_brake(
    version: str, because: str, settings_file: str | None, settings_in_repo: bool
) -> int:
    """Allow writes to JT-Trader VERSION again, after a write did harm or was not answered."""
    if not because.strip():
        raise UsageError("--because is empty", "say what you found out; it is kept")
    settings = load_settings(settings_file, os.environ, (), in_repo_allowed=settings_in_repo)
    ledger = workshop.open_ledger(settings, "ledger release-brake")
    try:
        brake = ledger.brakes().get(version)
        if brake is None:
            raise LedgerError(f"no brake holds for JT-Trader {version}", "see `jtr status`")
        ledger.release_brake(version, because.strip())
    finally:
        ledger.close()
    click.echo(f"released: JT-Trader {version} (it was: {brake.why} on {brake.server})")
    return 0
