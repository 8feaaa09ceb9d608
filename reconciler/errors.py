"""
Every way in which jt-reconciler can fail, in one tree.

Each class answers two questions: with which exit code does a command end (README), and
will trying again later help (`transient`)?  Foreign exceptions are wrapped at the edge where they
occur; their texts are never shown, because libraries quote values and URLs.

    JtrError
    ├── UsageError                 64
    ├── InvalidConfig               3   carries every Problem
    ├── Blocked                     4
    ├── SecretsError                5
    │   ├── SecretsUnreachable, SecretsSealed             (transient)
    │   ├── LoginFailed, TokenExpired, Forbidden
    │   ├── MountUnknown, KvVersionOne
    │   ├── SecretMissing, SecretDeleted, SecretDestroyed, VersionPruned
    │   ├── SecretUnusable          a field is missing or its value cannot be used
    │   └── StillBeingWritten                             (transient)
    ├── DriverError                 6
    │   ├── ServerUnreachable, TlsRefused, LoginSilent
    │   ├── ConnectionLost, ReadSilent
    │   ├── Unauthorized, WrongAccount
    │   ├── AnswerTooLong, UnknownAnswer
    │   ├── NoAnswer                the server was asked and said nothing
    │   └── ServerRefused           we refuse to send what could fail
    ├── LedgerError                 1
    │   ├── LedgerMissing           4
    │   └── LeaseHeld               4
    ├── InternalError               1
    └── Interrupted               130
"""

import enum
from collections.abc import Iterable
from typing import Any, ClassVar, Final


class Exit(enum.IntEnum):
    """Exit codes of the command line; the README gives their meaning."""

    DONE = 0
    ERROR = 1
    CHANGES = 2
    INVALID = 3
    BLOCKED = 4
    SECRETS = 5
    SERVER = 6
    IN_DOUBT = 7
    HARM = 8
    USAGE = 64
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


PRECEDENCE: Final = (
    Exit.HARM,
    Exit.IN_DOUBT,
    Exit.INVALID,
    Exit.SECRETS,
    Exit.SERVER,
    Exit.BLOCKED,
    Exit.ERROR,
    Exit.CHANGES,
    Exit.DONE,
)


def worst(codes: Iterable[Exit]) -> Exit:
    """Return the code that a command ends with when its servers ended with *codes*."""
    return min(codes, key=PRECEDENCE.index, default=Exit.DONE)


class JtrError(Exception):
    """
    Something that a person must be told.

    `what` says what is wrong, `remedy` what to do about it; neither ever holds a secret, a mask
    or the text of a foreign exception.
    """

    exit_code: ClassVar[Exit] = Exit.ERROR
    transient: ClassVar[bool] = False

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what: Final = what
        self.remedy: Final = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class UsageError(JtrError):
    """The command line, or where a file lies, is wrong."""

    exit_code = Exit.USAGE


MOST_PROBLEMS: Final = 50


class InvalidConfig(JtrError):
    """
    Documents are invalid; `problems` holds one printable line for each mistake, by place.

    Of very many only the first are there, and how many more; `total` counts all.  With *total* the
    problems are those of another one.
    """

    exit_code = Exit.INVALID

    def __init__(self, problems: Iterable[Any], *, total: int | None = None) -> None:
        found = list(problems)
        if total is None:
            found = sorted(set(found))
            total = len(found)
            if total > MOST_PROBLEMS:
                found[MOST_PROBLEMS:] = [f"... and {total - MOST_PROBLEMS} more"]
        self.problems: Final = tuple(found)
        self.total: Final = total
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Blocked(JtrError):
    """A rule forbids it until a person decides."""

    exit_code = Exit.BLOCKED


class WindowClosed(Blocked):
    """The server's windows do not allow a disruptive action at this moment: nothing was sent."""


class SecretsError(JtrError):
    """Vault or OpenBao could not give what was asked.  Never means that a secret is absent."""

    exit_code = Exit.SECRETS


class SecretsUnreachable(SecretsError):
    """No usable answer came: down, timed out, cut, or not a Vault at all."""

    transient = True


class SecretsSealed(SecretsError):
    """The server is there, but sealed."""

    transient = True


class LoginFailed(SecretsError):
    """The login was refused, or there is nothing to log in with."""


class TokenExpired(SecretsError):
    """The token is not valid (any more)."""


class Forbidden(SecretsError):
    """The token lives, but its policies do not allow this path."""


class MountUnknown(SecretsError):
    """No secrets engine is mounted there, or the token has no right at all below it."""


class KvVersionOne(SecretsError):
    """The mount is KV version 1, which keeps no versions."""


class SecretMissing(SecretsError):
    """Nothing was ever written at this path, or all of it was removed."""


class SecretDeleted(SecretsError):
    """The version is deleted; it can be undeleted."""


class SecretDestroyed(SecretsError):
    """The version is destroyed for good."""


class VersionPruned(SecretsError):
    """The version is older than what the mount keeps, or was never written."""


class SecretUnusable(SecretsError):
    """A field is missing, or its value must not be sent to a server."""


class StillBeingWritten(SecretsError):
    """A newer version keeps arriving before the last one had settled."""

    transient = True


class NotSettled(StillBeingWritten):
    """The newest version is too young to be used; it may be in `after` seconds."""

    def __init__(self, what: str, remedy: str = "", *, after: float = 0.0) -> None:
        super().__init__(what, remedy)
        self.after: Final = after


class DriverError(JtrError):
    """A trading server could not be spoken to, or must not be."""

    exit_code = Exit.SERVER


class ServerUnreachable(DriverError):
    """No connection came about."""

    transient = True


class TlsRefused(DriverError):
    """The server's certificate is not one that we trust for this address."""


class ConnectionLost(DriverError):
    """The connection ended while nothing was being asked that could change the server."""

    transient = True


class ReadSilent(ConnectionLost):
    """A read was sent, and its answer did not come in time."""


class LoginSilent(DriverError):
    """Connected, but neither `authenticated` nor `unauthorized` came."""

    transient = True


class Unauthorized(DriverError):
    """The server refused the access secret or token."""


class WrongAccount(DriverError):
    """The server reports another account id than the document names."""


class AnswerTooLong(DriverError):
    """A message was over the limit (64 MiB)."""


class UnknownAnswer(DriverError):
    """An answer has a shape that this driver does not know."""


class NoAnswer(DriverError):
    """
    The server was asked to change something and nothing (or nonsense) came back.

    The outcome is *unknown*: it may or may not have acted.  Never repeat; drop the connection,
    read again, plan again.  Source: docs/protocol.md, 4.
    """


class ServerRefused(DriverError):
    """What was asked could fail inside the server, so nothing was sent."""


class LedgerError(JtrError):
    """The ledger cannot be read or written; what cannot be recorded is not sent."""


class LedgerMissing(LedgerError):
    """There is no ledger yet, and nobody is there to agree to a new one."""

    exit_code = Exit.BLOCKED


class LeaseHeld(LedgerError):
    """Another process is applying to this server."""

    exit_code = Exit.BLOCKED
    transient = True


class Interrupted(JtrError):
    """A person or the system asked the process to stop."""

    exit_code = Exit.INTERRUPTED


class InternalError(JtrError):
    """A mistake in jt-reconciler on one server, which must not end what goes on on others."""

    def __init__(self, error: Exception) -> None:
        """Say where *error* came from; its text is not ours, and may hold anything."""
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        code = frame.tb_frame.f_code if frame is not None else None
        where = f" in {code.co_qualname}, line {frame.tb_lineno}" if code and frame else ""
        super().__init__(
            f"internal error ({type(error).__name__}{where}); this is a mistake in jt-reconciler",
            "report it; nothing more is done on this server in this pass",
        )
