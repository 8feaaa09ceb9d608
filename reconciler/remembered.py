"""
The nouns of the ledger: what we must remember because no server can tell us.

Immutable values; paths, versions and keyed fingerprints, never a value and never a mask.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from reconciler.model import FrozenRef, Target
from reconciler.observed import Robot


class Purpose(enum.StrEnum):
    """Why a write was decided; only a change leaves debts that act."""

    CHANGE = "change"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True)
class Write:
    """
    One whole write of an exchange, as the ledger keeps it: paths, versions, keyed fingerprints.

    `sources` goes from ccxt's credential name, or from the empty name where one secret holds them
    all; `values` and `masks` go from the server's field name to an HMAC under the key named by
    `key_id`.  `api_key` and `companions` are HMACs of the API key and of all other fields together.
    """

    sources: Mapping[str, FrozenRef]
    values: Mapping[str, str]
    masks: Mapping[str, str]
    key_id: str
    at: str
    weak: bool = False
    api_key: str = ""
    companions: str = ""


class Owed(enum.StrEnum):
    """What a credential write leaves to be done."""

    RESTART = "restart"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True)
class Debt:
    """
    A consequence that is still owed since a write.

    A restart is owed per robot and ends when that robot was seen stopped or the server booted; a
    reboot is owed per exchange and ends only with a newer boot.  `boot` is the newest boot line
    (server's clock, ms) when the debt arose.
    """

    owed: Owed
    exchange: str
    since: str
    boot: int | None
    robot_id: int | None = None
    robot_name: str = ""


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """
    What the ledger knows of one exchange on one server.

    `intent` is a write that was decided and may have been sent, `earlier` are those before it of
    which the same is true; `found` is a value of another hand that looked like the desired one.
    `past_keys` are (api_key, companions) pairs written since the last boot (`past_boot`): the
    server caches its exchange client by API key.  `ever` stays true once anything was written, also
    after a delete.
    """

    code: str
    written: Write | None = None
    intent: Write | None = None
    earlier: tuple[Write, ...] = ()
    found: Write | None = None
    deleting: bool = False
    debts: tuple[Debt, ...] = ()
    past_keys: tuple[tuple[str, str], ...] = ()
    past_boot: int | None = None
    ever: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """An observed state that was remembered: masks as keyed fingerprints, and when it was seen."""

    at: str
    by: str
    version: str
    masks: Mapping[str, Mapping[str, str]]
    credentials: Mapping[str, Mapping[str, str]]
    robots: tuple[Robot, ...]
    boot: int | None
    key_id: str
    troubles: Mapping[str, str] = field(default_factory=dict)
    alarm: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """The ledger's own name for a server, and the address and label that it last had."""

    uid: str
    target: Target
    name: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """All that the ledger knows of one server; a server never seen has no identity."""

    identity: Identity | None = None
    exchanges: Mapping[str, ExchangeRecord] = field(default_factory=dict)
    observation: Observation | None = None
    retired: tuple[Target, ...] = ()


NOTHING_REMEMBERED: Final = Remembered()
