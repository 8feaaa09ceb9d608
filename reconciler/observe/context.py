"""
What a pass works with, made once for each command.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from reconciler.drivers import Driver, Trust
from reconciler.errors import Blocked
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.desired import DesiredServer
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.references import SecretPath, SecretRef
from reconciler.observe.resolver import Resolver
from reconciler.system.timeouts import Timeouts

if TYPE_CHECKING:
    from reconciler.exchanges.auditor import KeyToAsk  # only who audits pays for it
    from reconciler.model.key_audits import Egress, Results


class Audit(Protocol):
    """Asks exchanges about keys; see `reconciler.exchanges.auditor`."""

    def __call__(
        self,
        keys: Sequence["KeyToAsk"],
        *,
        within: timedelta | None = None,
        again: bool = True,
    ) -> Awaitable["Results"]:
        """
        Answers that are older than *within* are asked for again; by default than a day.

        Without *again* not those to a key that was rejected: whoever tries it again and again locks
        its owner out.
        """
        ...


def _anything(_subject: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which addresses and secrets desired state may name at all; the operator's settings say."""

    url: Callable[[str], bool] = _anything
    path: Callable[[SecretPath], bool] = _anything

    def check(self, server: DesiredServer) -> None:
        """Raise Blocked when *server* names something outside the operator's lists."""
        if not self.url(server.target.url):
            raise Blocked(
                f"{server.target.url} is not among the addresses that the settings allow",
                "the operator adds it to allow.urls",
            )
        for ref in _references(server):
            if not self.path(ref.at):
                raise Blocked(
                    f"{ref.at} is not among the secrets that the settings allow",
                    "the operator adds it to allow.paths",
                )


def _references(server: DesiredServer) -> list[SecretRef]:
    login = [ref for ref in (server.access_secret, server.access_token) if ref is not None]
    return login + [ref for exchange in server.exchanges for ref in exchange.references]


@dataclass(frozen=True, slots=True)
class PassContext:
    """Everything that a pass works with; made once per command."""

    driver: Driver
    resolver: Resolver
    fingerprints: Fingerprints
    timeouts: Timeouts
    ledger: Ledger | None
    label: str
    allowed: Allowed = Allowed()
    trust: Callable[[str], Trust] = lambda _url: Trust()
    max_unknown_writes: int = 20
    parallelism: int = 4
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    unsteady: Callable[[], str] = lambda: ""
    unrecorded: UnrecordedOutcomes | None = None
    ledger_suspect: str = ""  # why the ledger may have forgotten what was done
    sole_writer: bool = False  # the operator's word that no other ledger knows these servers
    ledger_shared: bool = False  # everybody uses this one
    audit: Audit | None = None  # asks exchanges about keys before they are pushed
    egress_of: Callable[[str, str], "Egress"] | None = None  # from where, by server's name and URL
    # The document in force for the server of a planned one, None once it is gone; by default the
    # documents that were planned are those in force.
    in_force: Callable[[DesiredServer], DesiredServer | None] = lambda planned: planned
    remember_every: float = 0.0  # seconds for which an unchanged sight is not written down again

    def stamp(self) -> str:
        """Return the present moment as RFC 3339 text."""
        return self.now().astimezone(UTC).isoformat(timespec="milliseconds")
