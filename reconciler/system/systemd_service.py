"""
A command beside a service of systemd: as its user, in its directories, with its credentials.

What a service with DynamicUser= owns nobody else can open, and root has other state and another
memory of its own.  So the service manager itself starts the command, in a unit of its own that has
what the service's unit has; from whom the manager takes that (root) is its affair.
"""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from reconciler.errors import Interrupted, JtrError, UsageError
from reconciler.system.interrupts import stopping

_BUS: Final = ("busctl", "--system", "--json=short")
_SYSTEMD: Final = "org.freedesktop.systemd1"
_PATIENCE: Final = 30.0  # seconds for one answer of the manager
# What decides which files a process may open, and as whom; the types are those of D-Bus.
_PLAIN: Final = (
    *("User", "Group", "DynamicUser", "StateDirectory", "StateDirectoryMode", "WorkingDirectory"),
    *("SupplementaryGroups", "UMask", "PrivateUsers", "PrivateTmp", "PrivateDevices"),
    *("ProtectHome", "ProtectSystem", "NoNewPrivileges"),
)
_READ: Final = (*_PLAIN, "Environment", "EnvironmentFiles", "LoadCredential", "ExecStart")
_MODES: Final = frozenset({"StateDirectoryMode", "UMask"})
_TOKENS: Final = frozenset({"VAULT_TOKEN", "BAO_TOKEN"})
_NOT_STARTED: Final = range(200, 255)  # kept for the manager's own troubles: systemd.exec(5)
_KILLED: Final = 255  # what systemd-run makes of an end by a signal


class NoService(UsageError):
    """There is no such service here, or nobody who could tell."""


class Service(Struct, frozen=True):
    """The properties of a service's unit, drop-ins included, as D-Bus has them."""

    unit: str
    properties: Mapping[str, Any]

    @property
    def program(self) -> str:
        """What it starts: the same version for us."""
        return str(self.properties["ExecStart"][0][0])

    def beside(self, arguments: Sequence[str], name: str, *, terminal: bool) -> list[str]:
        """
        Return what starts its program with *arguments* in a unit *name*.

        Raises UsageError where that would show a token to everybody on this host.
        """
        had = self.properties
        exposed = sorted(_TOKENS & {pair.partition("=")[0] for pair in had["Environment"]})
        if exposed:
            raise UsageError(
                f"{self.unit} has {exposed[0]} in Environment=, where everybody on this host can "
                "read it",
                "hand it over with LoadCredential=, and name its file in the settings",
            )
        words = ["systemd-run", "--quiet", "--wait", "--collect", "--service-type=exec"]
        words += [f"--unit={name}", "--pty" if terminal else "--pipe"]
        words += [
            f"--property={key}={_written(key, had[key])}"
            for key in _PLAIN
            if had[key] not in ("", [])
        ]
        words += [f"--setenv={pair}" for pair in had["Environment"]]
        for file, optional in had["EnvironmentFiles"]:
            words.append(f"--property=EnvironmentFile={'-' if optional else ''}{file}")
        for credential, file in had["LoadCredential"]:
            words.append(f"--property=LoadCredential={credential}:{file}")
        if had["LoadCredential"]:
            # The settings name the files where the service sees them.
            place = f"/run/credentials/{name}:/run/credentials/{self.unit}"
            words.append(f"--property=BindReadOnlyPaths={place}")
        return [*words, "--property=LimitCORE=0", "--", self.program, *arguments]


def find(unit: str) -> Service:
    """Ask the service manager about a service.  Raises NoService."""
    unit = unit if unit.endswith(".service") else f"{unit}.service"
    manager = (f"{_SYSTEMD}", f"/{_SYSTEMD.replace('.', '/')}")
    place = _asked("call", *manager, f"{_SYSTEMD}.Manager", "LoadUnit", "s", unit)[0][0]
    (state,) = _asked("get-property", _SYSTEMD, place, f"{_SYSTEMD}.Unit", "LoadState")
    found = _asked("get-property", _SYSTEMD, place, f"{_SYSTEMD}.Service", *_READ)
    properties = dict(zip(_READ, found, strict=True))
    if state != "loaded" or not properties["ExecStart"]:
        raise NoService(
            f"there is no service {unit} on this host",
            "name it with --unit; in a container run the command itself: docker compose exec jtr "
            "jtr ..., kubectl exec",
        )
    return Service(unit, properties)


def run_beside(service: Service, arguments: Sequence[str], *, terminal: bool) -> int:
    """
    Run its program with *arguments* as it runs, and return the exit code.

    An interruption is passed on, and the end is waited for.  Raises UsageError when it could not
    be started, JtrError when it was killed.
    """
    name = f"jtr-command-{os.getpid()}.service"
    words = service.beside(arguments, name, terminal=terminal)
    # On a terminal keys are passed on as they are; elsewhere a signal would end systemd-run only.
    with stopping():
        process = subprocess.Popen(words, start_new_session=not terminal)  # noqa: S603
        while True:
            try:
                code = process.wait()
                break
            except (KeyboardInterrupt, Interrupted):
                _pass_on(name, signal.SIGINT)
    if code in _NOT_STARTED:
        raise UsageError(
            f"systemd could not start it as {service.unit} is started (exit code {code})",
            f"see: journalctl -u {name}",
        )
    if code == _KILLED:
        raise JtrError(
            "the command was killed before its end: what it sent may be in doubt",
            "see, as the same service: jtr status, jtr request list; why: journalctl -u " + name,
        )
    return code


def _pass_on(name: str, number: signal.Signals) -> None:
    subprocess.run(  # noqa: S603
        ["systemctl", "kill", f"--signal={number.name}", name],  # noqa: S607
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PATIENCE,
        check=False,
    )


def _written(name: str, value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:o}" if name in _MODES else str(value)
        case list():
            return " ".join(map(str, value))
    return str(value)


def _asked(*words: str) -> list[Any]:
    """Return the values that the bus answers with.  Raises NoService."""
    try:
        done = subprocess.run(  # noqa: S603
            [*_BUS, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode:
        raise NoService(
            "the service manager of this host does not answer",
            "this is for hosts with systemd and D-Bus; in a container run the command itself: "
            "docker compose exec jtr jtr ..., kubectl exec",
        )
    return [json.loads(line)["data"] for line in done.stdout.splitlines() if line]
