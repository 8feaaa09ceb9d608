"""Who would get what: the first thing that a plan says, and the first half of its id."""

import enum
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final, Self

from msgspec import Struct

from reconciler.model.desired import DesiredServer
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.target import Target
from reconciler.model.values import replace


class Recipient(Struct, frozen=True):
    """
    One server as the documents have it: where it is, its login, and whose values it may get.

    The login is sent at every visit; values of `paths` when something of them has to be written.
    """

    server: str
    target: Target
    access_secret: SecretRef | None
    access_token: SecretRef | None
    paths: tuple[SecretPath, ...]

    @classmethod
    def of(cls, server: DesiredServer) -> Self:
        paths = {ref.at for exchange in server.exchanges for ref in exchange.references}
        return cls(
            server.name,
            server.target,
            server.access_secret,
            server.access_token,
            tuple(sorted(paths)),
        )

    @property
    def login(self) -> tuple[SecretRef, ...]:
        return tuple(ref for ref in (self.access_secret, self.access_token) if ref is not None)

    def identity(self) -> list[object]:
        """Return what a plan's id has of it: all but the name, which is a label."""
        login = [str(self.access_secret or ""), str(self.access_token or "")]
        return [self.target.url, self.target.account, login, [str(path) for path in self.paths]]


def told(references: Iterable[SecretPath | SecretRef]) -> str:
    return ", ".join(map(str, references)) or "none"


class Novelty(enum.StrEnum):
    """In which way a recipient is one that the ledger does not know."""

    CONTACT = "first contact"
    ADDRESS = "another address"
    LOGIN = "login"
    VALUES = "values"


class NewRecipient(Struct, frozen=True):
    """
    One thing that a server would get, or be, for the first time.

    `secrets` are those that it would get as its login, or values of.
    """

    kind: Novelty
    what: str
    secrets: frozenset[SecretPath] = frozenset()


class Fresh(Struct, frozen=True):
    """
    What a server would get, or be, for the first time; the same as its lines, for deciding.

    `contact` that it is not known at its address, `login` the secrets that it never got as its
    login, `paths` those of which it never got values.
    """

    contact: bool = False
    login: frozenset[SecretPath] = frozenset()
    paths: frozenset[SecretPath] = frozenset()

    @classmethod
    def of(cls, news: Iterable[NewRecipient]) -> Self:
        found = {kind: frozenset[SecretPath]() for kind in Novelty}
        kinds = set()
        for one in news:
            kinds.add(one.kind)
            found[one.kind] |= one.secrets
        contact = bool(kinds & {Novelty.CONTACT, Novelty.ADDRESS})
        return cls(contact, found[Novelty.LOGIN], found[Novelty.VALUES])

    def without(self, bound: AbstractSet[SecretPath]) -> Self:
        """Return what is left where the owners of the *bound* secrets named the server."""
        known = self.login <= bound and bool(bound & (self.login or self.paths))
        contact = self.contact and not known
        return replace(self, contact=contact, login=self.login - bound, paths=self.paths - bound)

    @property
    def hides(self) -> bool:
        """Whether the server must not even be visited: its login is sent first of all."""
        return self.contact or bool(self.login)

    def __bool__(self) -> bool:
        return self.hides or bool(self.paths)


NOTHING_FRESH: Final = Fresh()
