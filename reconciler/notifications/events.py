"""
A state that people may be told about.
"""

import enum
from typing import Final

from msgspec import Struct


class AlertSeverity(enum.StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Topic(enum.StrEnum):
    """What a notification is about; one state per topic and subject, told when it changes."""

    HEALTH = "health"  # a server became degraded, unreachable, healthy again
    APPLIED = "applied"  # credentials, robots, a one-shot: something was done
    DRIFT = "drift"
    CONTESTED = "contested"
    REBOOT_OWED = "reboot owed"
    IN_DOUBT = "in doubt"
    ROBOTS = "robots"  # robots that ran stopped without our asking
    HARM = "harm"
    BRAKE = "brake"
    SUSPENDED = "suspended"
    AUDIT = "audit"  # what exchanges say of keys: too much granted, unbound, about to end
    DOCUMENTS = "documents"  # the tree vanished, or is invalid
    SECRETS = "secrets"  # Vault is away, or lets us in no more
    CONTROLLER = "controller"  # started, stopping, waiting for another one


UNKNOWN: Final = "unknown"
"""The state of what cannot be judged now: neither is it told, nor that it is over."""


class Guide(Struct, frozen=True):
    """
    What somebody who is woken has to know besides what happened.

    `title` is what happened in a few words, for many servers at once; `meaning` is what it means
    for trading, `remedy` what to do, in which SERVER stands for the server's name.  `runbook` names
    a page of `docs/runbooks/`.
    """

    title: str = ""
    meaning: str = ""
    remedy: str = ""
    runbook: str = ""


NO_GUIDE: Final = Guide()


class News(Struct, frozen=True):
    """
    A state of one subject that people may want to hear of.

    Told when `state` differs from what was told before for the same topic and subject; an empty
    `state` means that all is well, and is told only if something was wrong.  With `remind` it is
    told again every so many seconds while it lasts.  `text` says what is so and where; never a
    secret.
    """

    topic: Topic
    subject: str  # a server's name; empty for the controller itself
    state: str
    severity: AlertSeverity
    text: str
    owner: str = ""
    remind: float = 0.0
    guide: Guide = NO_GUIDE
