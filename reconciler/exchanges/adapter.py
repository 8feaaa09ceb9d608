"""
The contract of an adapter: how one exchange is asked about a key, and what its answers mean.

All that is known of an exchange stands in its file below `adapters/`; the same contract tests hold
for each of them (`tests/exchanges/`).
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from reconciler.exchanges import parse as take
from reconciler.exchanges import shapes
from reconciler.model.key_facts import Cap, Environment, KeyFacts, Status

Credentials = Mapping[str, str]
"""Values by ccxt's names (`apiKey`, `secret`, ...); lives as briefly as possible."""


@dataclass(frozen=True)
class Adapter:
    """
    Knows one exchange's own-key endpoint.  Stateless.

    `ccxt_id` is the class of ccxt to make, `method` its implicit method that asks, with one request
    that only reads; who asks otherwise has a `fetch` of his own.  `needs` names the credentials
    without which nobody can ask.

    `names` are the permissions that the exchange documents, as grants call them, and what each
    amounts to where it writes.  The page of the exchange below `docs/audit/` shows them.

    `codes` gives the status of a raw error code and is asked before ccxt's exception class, which
    misleads (`classify`).  With `in_words` one code stands for several causes: those of `codes`
    that have a space are looked for in an error's message first.  `hints` are what else a code may
    mean, for people; those of `other_environment` say "a key, but of the other environment".

    `siblings` are codes of JT-Trader for the same exchange elsewhere (another region, its test
    network), each with keys of its own: those of `of_a_sibling` may be said to a key of one.

    `version` grows whenever `parse` would answer differently, so that remembered facts are not
    reused.  `disturbs_trading` says that asking may make a request of the trader fail, who uses the
    same key: it is so where every request needs a greater nonce than the one before.  Such a key is
    asked about before it is used, or when somebody wants it, never on a schedule.

    `also_called` are other codes of JT-Trader for it, `without_keys` those with no credentials.
    `test_by_header`: its test network has no address of its own, ccxt says it in a header.
    """

    ccxt_id: str
    _: KW_ONLY
    method: str = ""
    needs: tuple[str, ...] = ("apiKey", "secret")
    names: Mapping[str, AbstractSet[Cap]] = field(default_factory=dict)
    codes: Mapping[str, Status] = field(default_factory=dict)
    in_words: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)
    other_environment: frozenset[str] = frozenset()
    siblings: tuple[str, ...] = ()
    of_a_sibling: frozenset[str] = frozenset()
    version: int = 1
    disturbs_trading: bool = False
    also_called: tuple[str, ...] = ()
    without_keys: tuple[str, ...] = ()
    test_by_header: bool = False

    def malformed(self, ours: Credentials, /) -> str:
        """
        Return what is wrong with the values themselves, empty when nothing is.  Asks nobody.

        Names of fields, never a part of a value.
        """
        return (
            shapes.missing(ours, self.needs)
            or shapes.broken(ours, "apiKey")
            or shapes.broken(ours, "secret")
        )

    def fetch(self, exchange: Any, _environment: Environment, /) -> Sequence[Any]:
        """
        Ask the exchange with implicit methods of ccxt; the only I/O, blocking.

        Raises what ccxt raises; `classify` says what it means.
        """
        return (getattr(exchange, self.method)(),)

    def parse(
        self, answers: Sequence[Any], ours: Credentials, environment: Environment, /
    ) -> KeyFacts:
        """Return the facts in the answers.  Raises `NotUnderstood` for any other shape.  Pure."""
        if len(answers) != 1:
            raise take.NotUnderstood(f"expected one answer, got {len(answers)}")
        return self.facts(answers[0], ours, environment)

    def facts(self, answer: Any, ours: Credentials, environment: Environment, /) -> KeyFacts:
        """Return the facts in the one answer; what `parse` says holds here, too."""
        raise NotImplementedError

    def raw_code(self, answer: Any) -> str:
        """
        Return the raw code in an error; empty when there is none.

        Never anything that could be a part of a key or an address: it is shown.
        """
        return take.error_code(answer)
