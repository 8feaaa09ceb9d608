"""
The contract of an adapter: how one exchange is asked about a key.

The same contract tests hold for every adapter (`tests/exchanges/`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from reconciler.model.key_facts import Environment, KeyFacts, Status

Credentials = Mapping[str, str]
"""Values by ccxt's names (`apiKey`, `secret`, ...); lives as briefly as possible."""


class Adapter(Protocol):
    """
    Knows one exchange's own-key endpoint.  Stateless.

    `ccxt_id` is the class to make; `version` grows whenever `parse` would answer differently, so
    that remembered facts are not reused.  `codes` gives the status of a raw error code and is
    asked before ccxt's exception class, which misleads (`classify`).
    """

    @property
    def ccxt_id(self) -> str:
        """The id of ccxt's class."""
        ...

    @property
    def version(self) -> int:
        """The version of what `parse` makes of answers."""
        ...

    @property
    def codes(self) -> Mapping[str, Status]:
        """What the exchange's raw error codes mean."""
        ...

    @property
    def disturbs_trading(self) -> bool:
        """
        Whether asking may make a request of the trader fail, who uses the same key.

        So it is where every request needs a greater nonce than the one before (Kraken, Bitfinex):
        such a key is asked about before it is used, or when somebody wants it, never on a schedule.
        """
        ...

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """
        Ask the exchange with implicit methods of ccxt; the only I/O, blocking.

        Raises what ccxt raises; `classify` says what it means.  Every request only reads.
        """
        ...

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts in the answers.  Raises `NotUnderstood` for any other shape.  Pure."""
        ...


class NotUnderstood(Exception):
    """An answer is not of the documented shape; its content is not repeated."""
