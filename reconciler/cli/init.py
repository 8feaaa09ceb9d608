"""`jtr init`: settings and a first document, from flags or by questions."""

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from reconciler import bootstrap
from reconciler.cli import options, output
from reconciler.cli.secret_patterns import checked_login, checked_paths, login_of
from reconciler.documents.files import shown
from reconciler.documents.load import load
from reconciler.documents.new import (
    file_of,
    holds_documents,
    new_document,
    refuse_existing,
    scalar,
    write_new,
)
from reconciler.errors import InvalidConfig, UsageError
from reconciler.model.references import SecretRef
from reconciler.model.values import replace
from reconciler.settings.paths import new_settings_file, refuse_in_tree

PRIVATE: Final = 0o600
KEY: Final = '{"apiKey": "...", "secret": "..."}, where the exchange wants it "password" or "uid"'
PATHS: Final = "secret/jt/{server}/{exchange}"
LOGIN: Final = "secret/jt/{server}#access_secret"


@click.command("init")
@click.option("--vault-address", metavar="URL", help="Where Vault or OpenBao is (else VAULT_ADDR).")
@click.option(
    "--token-file",
    metavar="FILE",
    help="A file that holds Vault's token, kept fresh by something else (else VAULT_TOKEN, each "
    "time).  Never the token itself.",
)
@click.option("--name", metavar="NAME", help="How the first server is called.")
@click.option("--url", metavar="URL", help="Its address.")
@click.option("--account", default="0", show_default=True, metavar="ID", help="Its account.")
@click.option("--exchange", "exchanges", multiple=True, metavar="CODE", help="An exchange of it.")
@click.option(
    "--paths",
    "pattern",
    default=PATHS,
    show_default=True,
    metavar="PATTERN",
    help="Where in Vault the keys are.",
)
@click.option(
    "--access-secret",
    default=LOGIN,
    show_default=True,
    metavar="PATTERN#FIELD",
    help="Where in Vault the server's login is.",
)
@click.option(
    "--sole-writer",
    is_flag=True,
    help="No other ledger knows this server; reboots and invalidations need that.",
)
@click.option(
    "--out", default="servers", show_default=True, metavar="DIR", help="Where the document goes."
)
@options.settings
def command(  # noqa: PLR0917  - one parameter per option
    vault_address: str | None,
    token_file: str | None,
    name: str | None,
    url: str | None,
    account: str,
    exchanges: tuple[str, ...],
    pattern: str,
    access_secret: str,
    sole_writer: bool,
    out: str,
    settings_file: str | None,
    settings_in_repo: bool,
) -> int:
    """
    Write the operator's settings and a first document; contacts nothing.

    On a terminal it asks for what no option says.  No secret is ever asked for, or written.  It
    writes over nothing, and ends with the commands to go on with.
    """
    pattern, login = checked_paths(pattern) or PATHS, checked_login(access_secret)
    _check_token_file(token_file)
    place = new_settings_file(settings_file, os.environ)
    refuse_existing(place)
    if not settings_in_repo:
        refuse_in_tree(place, [out])
    known = os.environ.get("VAULT_ADDR") or os.environ.get("BAO_ADDR")
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    if asks and vault_address is None:
        vault_address = click.prompt("Vault's address", default=known)
    if asks and name is None:
        name = click.prompt("Name of the first server")
    if asks and url is None:
        url = click.prompt("Its URL")
    if asks and not exchanges:
        answer = click.prompt("Its exchanges (codes such as bybit, okx)", default="")
        exchanges = tuple(filter(None, answer.replace(",", " ").split()))
    address = _given("--vault-address", vault_address or known)
    name, url = _given("--name", name), _given("--url", url)
    path = file_of(out, name)
    filled = pattern.replace("{server}", name)
    refs = {code: _ref(filled.replace("{exchange}", code), code) for code in exchanges}
    secret = login_of(login, name)
    document = new_document(name, url, account=account, access_secret=secret, exchanges=refs)
    load(
        [*([out] if holds_documents(out) else []), path],
        {os.path.realpath(path): document.encode()},
    )
    settings = _settings(address, token_file, sole_writer=sole_writer)
    _judge(settings, place)
    write_new(place, settings, PRIVATE)
    write_new(path, document)
    output.show_folded(f"wrote {shown(place)}\nwrote {shown(path)}\n\n")
    output.show_folded(f"{_go_on([*refs.values()], secret, name, out, settings_file)}\n")
    return 0


def _given(option: str, value: str | None) -> str:
    if not value:
        raise UsageError(
            f"nobody said {option}, and there is no terminal to ask on", f"give {option}"
        )
    return value


def _check_token_file(path: str | None) -> None:
    """A pasted token must neither be written nor shown.  Raises UsageError."""
    if path is not None and ("/" not in path or "\n" in path):
        raise UsageError(
            "--token-file names a file, with its folder, and is never the token",
            "write --token-file ~/.config/jtr/token; without one VAULT_TOKEN is used",
        )


def _ref(path: str, code: str) -> SecretRef:
    found = SecretRef.parse(f"vault:{path}")
    # What is no code is the loader's to say, with its place.
    return found if found is not None else _ref("secret/x", code)


def _settings(address: str, token_file: str | None, *, sole_writer: bool) -> str:
    """Return the settings file: where a token is found, never a token."""
    if token_file is None:
        login = "  auth: {method: token}  # VAULT_TOKEN from the environment, each time"
    else:
        file = token_file if token_file.startswith("~") else str(Path(token_file).absolute())
        login = f"  auth:\n    method: token-file\n    tokenFile: {scalar(file)}"
    rows = [
        "# The operator's settings of jtr; they never lie beside the documents.",
        "vault:",
        f"  address: {scalar(address)}",
        login,
    ]
    if sole_writer:
        rows.append("soleWriter: true  # no other ledger knows these servers")
    return "\n".join(rows) + "\n"


def _judge(settings: str, place: str) -> None:
    """Let the ordinary reader judge the file before it is there; problems name its real place."""
    with tempfile.TemporaryDirectory() as folder:
        draft = str(Path(folder) / "settings.yaml")
        write_new(draft, settings, PRIVATE)
        try:
            bootstrap.load_settings(draft, {"HOME": os.environ.get("HOME", folder)}, [])
        except InvalidConfig as error:
            problems = [
                replace(one, source=one.source._replace(file=shown(place)))
                for one in error.problems
            ]
            raise InvalidConfig(problems, total=error.total) from None


def _go_on(
    refs: Sequence[SecretRef], login: SecretRef | None, name: str, out: str, settings: str | None
) -> str:
    """Return what to do next, as it is typed."""
    rows = []
    if wanted := [ref for ref in (login, *refs) if ref is not None]:
        rows.append("What Vault must hold (each command reads it as JSON, until Ctrl-D):")
        for ref in wanted:
            fields = f'{{"{ref.field}": "..."}}' if ref.field else KEY
            rows.append(f"  bao kv put -mount={ref.at.mount} {ref.at.path} -    # {fields}")
        rows.append("")
    flag = f" --settings {shlex.quote(settings)}" if settings is not None else ""
    return "\n".join(
        [
            *rows,
            "Next:",
            f"  jtr ledger init{flag}",
            f"  jtr plan {shlex.quote(out)} --approve-recipient {shlex.quote(name)}{flag}",
        ]
    )
