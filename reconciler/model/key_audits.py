"""One audited key, as callers and people see it.  Pure."""

import enum
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from reconciler.errors import JtrError
from reconciler.model.key_facts import Answered, Cap, KeyFacts
from reconciler.model.key_policy import KeyFinding, Security, Severity


class Egress(Struct, frozen=True):
    """
    From where an exchange is asked: `proxy` is empty for this host.

    `server` is the operator's word that the trading server leaves from the same address.
    """

    proxy: str = ""
    server: bool = False

    @property
    def name(self) -> str:
        """The word for it in remembered answers and for people."""
        return self.proxy or "here"


HERE: Final = Egress()


class KeyId(Struct, frozen=True, order=True):
    """Where a key is used: a server of the documents, and the server's code of an exchange."""

    server: str
    exchange: str

    def __str__(self) -> str:
        return f"{self.server}/{self.exchange}"


class Light(enum.StrEnum):
    """What people see first; `OK` only where everything that matters was verified."""

    OK = "ok"
    ATTENTION = "attention"
    BLOCKED = "blocked"


def light(answered: Answered, findings: Iterable[KeyFinding]) -> Light:
    """
    Return the light of a key.

    What was not verified is never green, whatever the documents make of it: neither a key whose
    permissions nobody tells, or of which only withdrawing is not told, nor one with an incomplete
    answer, nor one that could not be asked about, nor an accepted error.
    """
    found = tuple(findings)
    if any(finding.stops for finding in found):
        return Light.BLOCKED
    facts = answered.facts or KeyFacts()
    verified = facts.grants is not None and Cap.WITHDRAW not in facts.unproven
    verified = verified and "lacks" not in facts.traits
    worth = (f.severity >= (Severity.ERROR if f.accepted else Severity.WARNING) for f in found)
    return Light.ATTENTION if not verified or any(worth) else Light.OK


class Audited(Struct, frozen=True):
    """
    What an audit has to say of one key; with a `failure` it was never asked about.

    `sources` are references to its secrets, with versions; `security` is what was wanted of it.
    """

    key: KeyId
    answered: Answered | None = None
    findings: tuple[KeyFinding, ...] = ()
    failure: JtrError | None = None
    sources: tuple[str, ...] = ()
    security: Security | None = None

    @property
    def light(self) -> Light:
        """Its light; a key that could not even be read needs attention."""
        if self.answered is None:
            return Light.ATTENTION
        return light(self.answered, self.findings)


Results = Mapping[KeyId, tuple[Answered, tuple[KeyFinding, ...]]]
