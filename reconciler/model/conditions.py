"""
Why something is done or not done: a code for programs, words for people, and what follows.

Whoever decides looks at the code and at what else a value holds, never at the words.
"""

import enum
import re

from msgspec import Struct

from reconciler.errors import Exit, JtrError
from reconciler.model.values import replace


class Code(enum.StrEnum):
    """
    Every reason for which a line of a plan is as it is; `jtr explain CODE` tells more of each.

    Stable from release to release.  What failed has the code of its error, see `code_of`.
    """

    # An exchange is as it should be, or is made so.
    IN_SYNC = "in-sync"
    FOUND = "found"
    ABSENT = "absent"
    NEW_VERSION = "new-version"
    PIN_MOVED = "pin-moved"
    PATH_MOVED = "path-moved"
    TAKE_OVER = "take-over"
    NOT_VERIFIABLE = "not-verifiable"
    UNFINISHED = "unfinished"
    REWRITE = "rewrite"
    DELETE = "delete"
    DRIFT_CORRECTED = "drift-corrected"

    # An exchange is left as it is.
    DRIFT_LEFT_ALONE = "drift-left-alone"
    FOREIGN = "foreign"
    NEW_RECIPIENT = "new-recipient"
    NOT_MANAGED = "not-managed"
    LEFT_ON_SERVER = "left-on-server"
    NOT_READ = "not-read"
    STALE = "stale"
    ROBOTS_RUN = "robots-run"
    EXCHANGE_UNKNOWN = "exchange-unknown"
    EXCHANGE_UNSAFE = "exchange-unsafe"
    FIELDS_MISSING = "fields-missing"
    FIELDS_SURPLUS = "fields-surplus"
    UNVERIFIED_LIMIT = "unverified-limit"

    # Nothing may be done there, or not by this document.
    POLICY_DENIED = "policy-denied"
    POLICY_LIMIT = "policy-limit"
    BRAKE = "brake"
    UNTESTED_VERSION = "untested-version"

    # The server as a whole.
    SUSPENDED = "suspended"
    OBSERVE_ONLY = "observe-only"
    ANOTHER_SERVER = "another-server"
    ADDRESS_CHANGED = "address-changed"
    NEVER_SEEN = "never-seen"

    # A request of the documents, or what a request or a changed key does to robots.
    NOT_ASKED = "not-asked"
    DUE = "due"
    SCHEDULED = "scheduled"
    WINDOW_CLOSED = "window-closed"
    CLOCK_UNSTEADY = "clock-unsteady"
    EARLIER_OPEN = "earlier-open"
    ROBOTS_OWED = "robots-owed"
    ROBOTS_LEFT_STOPPED = "robots-left-stopped"
    NO_DISRUPTIVE = "no-disruptive"
    DECLINED = "declined"
    LEFT_TO_CONTROLLER = "left-to-controller"
    ACCOUNT_SUSPENDED = "account-suspended"
    OTHERS_UNSEEN = "others-unseen"
    REBOOT_DOES_IT = "reboot-does-it"
    REBOOT_NEEDED = "reboot-needed"
    LEDGER_CANNOT_TELL = "ledger-cannot-tell"
    LOG_UNREADABLE = "log-unreadable"
    LOG_OF_SEVERAL = "log-of-several"
    TWIN = "twin"
    IN_DOUBT = "in-doubt"
    FOUND_OUT = "found-out"
    DONE = "done"
    NOT_DONE = "not-done"
    SATISFIED = "satisfied"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    BASELINED = "baselined"


class Condition(Struct, frozen=True):
    """
    Why something is, or is not, done: what holds, what to do about it, what a command ends with.

    `code` is one of `Code`, or that of an error.
    """

    code: str
    what: str = ""
    remedy: str = ""
    exit: Exit = Exit.DONE

    @classmethod
    def of(cls, error: JtrError) -> "Condition":
        """Return what keeps something from being done that failed."""
        return cls(code_of(type(error)), error.what, error.remedy, error.exit_code)

    def says(self, what: str) -> "Condition":
        """Return it in other words."""
        return replace(self, what=what)


def blocked(code: Code, what: str, remedy: str) -> Condition:
    """Return what stops something until a person decides."""
    return Condition(code, what, remedy, Exit.BLOCKED)


def code_of(kind: type[JtrError]) -> str:
    """Return the code of an error: its name as other codes are spelled."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()
