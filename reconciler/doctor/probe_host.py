"""What `jtr doctor` finds out on this host: documents, settings, the files that they name."""

import os
import stat
import zoneinfo
from collections.abc import Iterator, Sequence
from pathlib import Path

from reconciler import bootstrap
from reconciler.doctor.findings import (
    MOST_PROBLEMS,
    Finding,
    document_findings,
    failed,
    first,
    of_error,
    of_problems,
    ok,
    warning,
)
from reconciler.documents.load import load
from reconciler.errors import Exit, InvalidConfig, UsageError
from reconciler.model.desired import DesiredState
from reconciler.settings.model import AuthMethod, Settings
from reconciler.settings.paths import refuse_in_tree, settings_file


def look_at_settings(
    paths: Sequence[str], flag: str | None, *, in_repo: bool
) -> tuple[list[Finding], Settings | None]:
    """Read the settings; None where they cannot be used: then nobody may be asked anything."""
    beside = ""
    try:
        place = settings_file(flag, os.environ)
        if place is not None:
            try:
                refuse_in_tree(place, paths)
            except UsageError as error:
                if not in_repo:
                    return [of_error("settings.place", error)], None
                beside = error.what
        settings = bootstrap.load_settings(flag, os.environ, paths, in_repo_allowed=in_repo)
    except InvalidConfig as error:
        return list(of_problems("settings.file", error)), None
    except UsageError as error:
        return [of_error("settings.file", error)], None
    return [*_place(settings.source, beside), *_files(settings)], settings


def _place(source: str | None, beside: str) -> Iterator[Finding]:
    """Judge where the settings come from; *beside* says that they lie in the documents' tree."""
    yield first(
        "settings.file",
        str(source),
        (
            source is None,
            "there is no settings file: built-in values and the environment alone hold",
            "write one: examples/settings.yaml shows every key",
        ),
    )
    if beside:
        yield warning(
            "settings.place",
            f"{beside}: whoever may change the documents may send the Vault token elsewhere",
            "keep the settings outside of the documents' work tree",
        )
    elif source is not None:
        yield ok("settings.place", "outside of the documents")


def _files(settings: Settings) -> Iterator[Finding]:
    """Look at every file that the settings name, first at those that hold secrets."""
    auth, tls = settings.vault.auth, settings.tls
    # The kubelet and CI systems write tokens of theirs as they like; nobody else may replace them.
    private = auth.method is AuthMethod.TOKEN_FILE
    secrets = (
        ("vault-token", "the Vault token file", auth.token_file if private else None),
        ("secret-id", "the secret id file", auth.secret_id_file),
        ("controller-token", "the controller's token file", settings.controller.token_file),
        *(("client-key", "the client key", rule.client_key) for rule in tls),
    )
    others = (
        ("rights", "the settings file", settings.source),
        ("vault-token", "the token file of the login", None if private else auth.token_file),
        ("role-id", "the role id file", auth.role_id_file),
        ("vault-ca", "Vault's CA file", settings.vault.ca_file),
        ("controller-ca", "the controller's CA file", settings.controller.ca_file),
        *(("server-ca", "a CA file of servers", rule.ca_file) for rule in tls),
        *(("client-cert", "the client certificate", rule.client_cert) for rule in tls),
    )
    for secret, rows in ((True, secrets), (False, others)):
        for name, what, path in rows:
            if path is not None:
                yield _file(name, what, path, secret=secret)


def _file(name: str, what: str, path: str, *, secret: bool) -> Finding:
    """Judge one file: nobody else may read a *secret* one, or change any other."""
    code, called = f"settings.{name}", f"{what} {path}"
    trouble, mode, owner = "", 0, 0
    try:
        facts = Path(path).stat()  # through links: Kubernetes puts its secrets behind one
        mode, owner = stat.S_IMODE(facts.st_mode), facts.st_uid
        if not stat.S_ISREG(facts.st_mode):
            trouble = "it is not a regular file"
        elif not os.access(path, os.R_OK):
            trouble = "this user may not read it"
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        trouble = os.strerror(number) if number else "the path is not usable"
    if trouble:
        login = name in {"vault-token", "secret-id", "role-id", "vault-ca"}
        return failed(
            code,
            f"{called} cannot be read: {trouble}",
            "check the path and its rights",
            Exit.SECRETS if login else Exit.ERROR,
        )
    # In a container nobody else is there; a group may read, as Kubernetes' `fsGroup` does.
    opened = secret and mode & 0o007 and not _in_container()
    nobody = "nobody but its group" if mode & 0o070 else "nobody else"
    # An agent writes the token that it renews, as a user of its own.
    written = name == "vault-token" and not mode & 0o022
    return first(
        code,
        f"{what}: {nobody if secret else 'nobody else'} can {'open' if secret else 'change'} it",
        (
            opened,
            f"everybody can open {called} (mode {mode:04o})",
            f"chmod o-rwx {path}",
        ),
        (
            mode & 0o022,
            f"others can change {called} (mode {mode:04o})",
            f"chmod go-w {path}",
        ),
        (
            owner not in {0, os.geteuid()} and not written,
            f"{called} belongs to another user (uid {owner}), who can change it",
            "chown it to this user or to root",
        ),
    )


def _in_container() -> bool:
    marks = ("/.dockerenv", "/run/.containerenv")
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(map(os.path.exists, marks))


def look_at_documents(
    paths: Sequence[str], *, needed: bool
) -> tuple[list[Finding], DesiredState | None]:
    """Read the documents; raises UsageError where there are none, although they are *needed*."""
    try:
        state = load(paths).state
    except InvalidConfig as error:
        return list(of_problems("documents.valid", error, MOST_PROBLEMS)), None
    except UsageError as error:
        if needed:
            raise
        # Nobody named any: Vault and ledger can be looked at without.
        return [warning("documents.valid", error.what, error.remedy)], None
    return list(document_findings(state, _unknown_zones(state), bootstrap.now())), state


def _unknown_zones(state: DesiredState) -> list[str]:
    """Return the time zones of windows that this machine does not know."""
    zones = {window.zone for server in state.servers for window in server.windows}
    found = []
    for zone in sorted(zones):
        try:
            zoneinfo.ZoneInfo(zone)
        except (LookupError, ValueError, OSError):  # as reconciler.plan.windows judges it
            found.append(zone)
    return found
