"""
What is demanded of every exchange adapter: its answers mean what its suite says and nothing else is
believed, real ccxt asks the documented question, and no trouble is taken for a wrong key.

A suite describes one exchange and names the contract; what only that exchange does stands beside:

    GEMINI = Exchange(adapters=ADAPTERS, check=signed, documented=..., rows=[...], ...)

    class TestGemini(AdapterContract):
        exchange = GEMINI
"""

import base64
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, TypeVar
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy
from msgspec import Struct

from reconciler.exchanges import registry
from reconciler.exchanges.adapter import Adapter
from reconciler.model.key_facts import Environment, KeyFacts, Status
from reconciler.model.key_policy import Security, Severity
from reconciler.testing import through_ccxt
from reconciler.testing.documented_answers import (
    CREDENTIALS,
    WANTED,
    changed,
    check,
    findings,
    judged,
    named,
    refuse,
    survives,
    with_fields,
    with_others,
    without_fields,
    worst,
)
from reconciler.testing.exchange_server import Check, Reply, serving

_Test = TypeVar("_Test", bound=Callable[..., None])
Row = Any
"""What `pytest.param` makes: its type has no public name."""
Rows = Sequence[Row]


class MakesSecrets(Protocol):
    """Returns another made-up secret at every call; which shapes there are is its own affair."""

    def __call__(self, shape: str = ..., /) -> str: ...


_PUBLIC: Final = frozenset({"apiKey", "uid", "login", "accountId", "walletAddress"})
"""Credentials that name a key or an account; any other one is a secret."""
_SHAPES: Final[Mapping[str, Callable[[], str]]] = {
    "hex": secrets.token_hex,
    "base64": lambda: base64.b64encode(secrets.token_bytes(64)).decode(),
    "uuid": lambda: str(uuid.uuid4()),
}


def random_secret(shape: str = "hex") -> str:
    """Return a made-up secret: `hex`, `base64` or `uuid`."""
    return _SHAPES[shape]()


class GoodKey(Struct, frozen=True):
    """
    A good key at one network of an exchange: who asks for what, what is answered and what it means.

    `host` is the real one; `answers` makes the answers by their path for an API key; `paths` are
    asked for in this order and no others.
    """

    adapter: Adapter
    host: str
    paths: tuple[str, ...]
    answers: Callable[[str], Mapping[str, Any]]
    facts: KeyFacts
    environment: Environment = Environment.LIVE
    method: str = "GET"


class Exchange(Struct, frozen=True):
    """
    One exchange; of several `adapters` for it the first answers for all in what does not differ.

    `made_up`: credentials by ccxt's names, other ones at every call, of secrets that it is given.
    `rows`: answer, facts, findings.  `hostile`: answers that are not understood, besides those of
    another number.  `wrong`: the error code by what is wrong, a credential or the `clock`;
    those that are `ambiguous` are said of more than that, so that no key is called wrong for them.
    `malformed`: a credential, and what makes it one that cannot be right, besides taking it away.
    `more` grants one more permission of that name in an answer, None where none are told; `less`
    yields what is left without each of its fields, if they are other than those of its objects.
    `errors`: reply, code, status.  `sent`: credentials that a request shows.  `told_elsewhere`:
    codes of the adapter that a test of its own, or trouble, shows.  `trouble`: reply, status;
    it comes after each of the replies in `before`.
    """

    adapters: tuple[Adapter, ...]
    check: Check
    made_up: Callable[[MakesSecrets], dict[str, str]]
    documented: Any
    mangled: SearchStrategy[Any]
    rows: Rows
    hostile: Rows
    good: tuple[GoodKey, ...]
    wrong: Mapping[str, str]
    errors: Rows
    ambiguous: frozenset[str] = frozenset()
    malformed: Sequence[tuple[str, Callable[[str], str]]] = ()
    more: Callable[[Any, str], Any] | None = None
    less: Callable[[Any], Iterable[tuple[str, Any]]] = without_fields
    sent: frozenset[str] = frozenset({"apiKey"})
    told_elsewhere: frozenset[str] = frozenset()
    trouble: Rows = tuple(through_ccxt.TROUBLE)
    before: tuple[tuple[Reply, ...], ...] = ((),)
    wanted: Security = WANTED

    @property
    def adapter(self) -> Adapter:
        """The first adapter."""
        return self.adapters[0]


NOVELTIES: Final[Sequence[Any]] = (True, 1, "x", None, ["x"], {"x": True})
"""Values of fields of which nobody has heard."""
ODDITIES: Final[Sequence[Any]] = (
    *(None, True, 0, -1, 10**16, 1.5, "", "0", "*", "::/0", "\ud800", "hostile\x1b[2J"),
    *([], [None], [[]], {}, {"hostile": None}),
)
"""Values that stand in the place of any other one."""
BAD_KEYS: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    ("WARNING PERM_NOT_KNOWABLE",): ("CRITICAL PERM_WITHDRAW",),
    ("WARNING IP_NOT_KNOWABLE",): ("ERROR IP_UNBOUND", "WARNING IP_NOT_OFFERED"),
    ("INFO EXPIRY_NOT_SHOWN",): ("ERROR KEY_EXPIRED",),
}
"""Findings of what an exchange does not tell, and of the keys that are bad by it."""


def spoilt(answer: Any, *changes: tuple[str, Any]) -> list[Row]:
    """Return the answers that each of these changes, a dotted path and a value, makes of one."""
    return [
        pytest.param([changed(answer, path, value)], id=f"{path} {ascii(value)[:40]}")
        for path, value in changes
    ]


def errors(shape: Callable[..., Reply], codes: Mapping[str, Status], *statuses: int) -> list[Row]:
    """Return a row for every code, in the exchange's shape, with each of these HTTP statuses."""
    ways: list[tuple[int, ...]] = [(status,) for status in statuses] or [()]
    return [
        pytest.param(shape(code, *way), code, status, id="-".join((code, *map(str, way))))
        for way in ways
        for code, status in codes.items()
    ]


def each(names: str, rows: Callable[[Exchange], Iterable[Row]]) -> Callable[[_Test], _Test]:
    """Run a test of the contract for each of these rows of its exchange."""

    def noted(test: _Test) -> _Test:
        test.rows = names, rows  # type: ignore[attr-defined]
        return test

    return noted


def _good(exchange: Exchange) -> Iterator[Row]:
    for good in exchange.good:
        yield pytest.param(good, id=f"{good.adapter.ccxt_id}-{good.environment.value}")


def _wrong(exchange: Exchange) -> Iterator[Row]:
    for good in exchange.good:
        if good.adapter is exchange.adapter:
            for what, code in exchange.wrong.items():
                yield pytest.param(good, what, code, id=f"{good.environment.value}-{what}")


def _malformed(exchange: Exchange) -> Iterator[Row]:
    for name in exchange.adapter.needs:
        yield pytest.param(name, lambda _value: "", id=f"no {name}")
        yield pytest.param(name, lambda _value: " ", id=f"a blank for {name}")
    if "apiKey" in exchange.adapter.needs:
        yield pytest.param("apiKey", "{}\n".format, id="a line break after apiKey")
    for number, (name, spoil) in enumerate(exchange.malformed):
        yield pytest.param(name, spoil, id=f"{name} {number}")


def _trouble(exchange: Exchange) -> Iterator[Row]:
    for before in exchange.before:
        for row in exchange.trouble:
            later = f" after {len(before)}" if before else ""
            yield pytest.param(before, *row.values, id=f"{row.id}{later}")


def _adapters(exchange: Exchange) -> Iterator[Row]:
    for adapter in exchange.adapters:
        yield pytest.param(adapter, id=adapter.ccxt_id)


def _other_numbers(exchange: Exchange) -> Iterator[Row]:
    """Yield answers that are too few, too many or of another type than any."""
    told = exchange.documented
    numbers: list[list[Any]] = [[], [None], [[]], ["hostile"], [told, told]]
    for answers in numbers:
        yield pytest.param(answers, id=f"{len(answers)} {ascii(answers)[:20]}")


class AdapterContract:
    """
    The tests of one exchange; a subclass gives its description as `exchange`.

    No call leaves the machine, though ccxt signs and sends it.
    """

    exchange: ClassVar[Exchange]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """See `each`."""
        if (noted := getattr(metafunc.function, "rows", None)) is not None:
            names, rows = noted
            metafunc.parametrize(names, [*rows(self.exchange)])

    @pytest.fixture
    def made_up_secret(self) -> MakesSecrets:
        """What `Exchange.made_up` makes credentials of; override it to know what they were."""
        return random_secret

    @pytest.fixture
    def credentials(self, made_up_secret: MakesSecrets) -> dict[str, str]:
        """A made-up key."""
        return self.exchange.made_up(made_up_secret)

    @each("answer, expected, found", lambda exchange: exchange.rows)
    def test_a_documented_answer_means_exactly_this(
        self, answer: Any, expected: KeyFacts, found: list[str]
    ) -> None:
        for adapter in self.exchange.adapters:
            check(adapter, answer, expected)
        assert findings(self.exchange.adapter, expected, wanted=self.exchange.wanted) == found

    @each("answers", lambda exchange: exchange.hostile)
    def test_a_hostile_answer_is_not_understood(self, answers: list[Any]) -> None:
        refuse(self.exchange.adapter, answers)

    @each("answers", _other_numbers)
    def test_neither_is_another_number_of_answers(self, answers: list[Any]) -> None:
        refuse(self.exchange.adapter, answers)

    def test_no_answer_at_all_does_harm(self) -> None:
        for other in with_others(self.exchange.documented, ODDITIES):
            survives(self.exchange.adapter, other)

        @settings(deadline=None, max_examples=25)  # two places at once, and stranger values
        @given(self.exchange.mangled)
        def do_none(answer: Any) -> None:
            survives(self.exchange.adapter, answer)

        do_none()

    @each("good", _good)
    def test_real_ccxt_is_understood_and_sends_no_secret(
        self, good: GoodKey, credentials: dict[str, str]
    ) -> None:
        answers = good.answers(credentials.get("apiKey", ""))
        with serving(self.exchange.check, credentials, answers, good.environment) as server:
            asked = through_ccxt.ask(good.adapter, server.url, credentials, good.environment)

        assert (asked.status, asked.facts) == (Status.VALID, good.facts)
        assert [(call.method, call.path) for call in server.calls] == [
            (good.method, path) for path in good.paths
        ]
        if good.method == "GET":
            assert not any(call.body for call in server.calls)
        sent = "\n".join(
            "\n".join((unquote(call.target), *call.headers.values(), unquote(call.body.decode())))
            for call in server.calls
        )
        assert {name for name, value in credentials.items() if value in sent} <= self.exchange.sent
        addresses = "\n".join(unquote(call.target) for call in server.calls)
        secret = [value for name, value in credentials.items() if name not in _PUBLIC]
        assert not any(value in addresses for value in secret)

    @each("good", _good)
    def test_the_real_address_is_the_documented_one(
        self, good: GoodKey, credentials: dict[str, str]
    ) -> None:
        answers = good.answers(credentials.get("apiKey", ""))
        meant: list[str] = []
        with serving(self.exchange.check, credentials, answers, good.environment) as server:
            asked = through_ccxt.ask(
                good.adapter, server.url, credentials, good.environment, meant=meant
            )

        assert (asked.status, asked.facts) == (Status.VALID, good.facts)
        assert meant == [f"https://{good.host}{path}" for path in good.paths]

    @each("good, what, code", _wrong)
    def test_what_is_wrong_with_a_key_is_told_apart(
        self,
        good: GoodKey,
        what: str,
        code: str,
        credentials: dict[str, str],
        made_up_secret: MakesSecrets,
    ) -> None:
        others = self.exchange.made_up(made_up_secret)
        ours, skew = through_ccxt.swapped(credentials, others, what)
        answers = good.answers(credentials["apiKey"])
        with serving(self.exchange.check, credentials, answers, good.environment) as server:
            asked = through_ccxt.ask(good.adapter, server.url, ours, good.environment, skew_ms=skew)

        ambiguous = code in self.exchange.ambiguous
        status = Status.INDETERMINATE if ambiguous else through_ccxt.expected(what)
        assert (asked.status, asked.code) == (status, code)
        assert server.paths() == [good.paths[0]]

    def test_what_an_ambiguous_code_may_mean_is_said(self) -> None:
        adapter = self.exchange.adapter
        assert self.exchange.ambiguous <= {*adapter.hints}
        assert {adapter.codes[code] for code in self.exchange.ambiguous} <= {Status.INDETERMINATE}

    @each("name, spoil", _malformed)
    def test_what_cannot_be_right_is_not_asked_about(
        self, name: str, spoil: Callable[[str], str], credentials: dict[str, str]
    ) -> None:
        ours = {**credentials, name: spoil(credentials[name])}
        with serving(self.exchange.check, credentials, {}) as server:
            asked = through_ccxt.ask(self.exchange.adapter, server.url, ours)

        assert asked.status is Status.MALFORMED
        assert name in asked.code
        assert not any(value in asked.code for value in ours.values() if value.strip())
        assert not server.calls

    def test_a_good_key_is_not_malformed(self, credentials: dict[str, str]) -> None:
        for adapter in self.exchange.adapters:
            assert not adapter.malformed(credentials)

    @property
    def usual(self) -> set[tuple[str, str]]:
        """What is said of the good key that comes first among the documented answers."""
        facts = self.exchange.rows[0].values[1]
        return {*map(named, judged(self.exchange.adapter, facts, wanted=self.exchange.wanted))}

    def test_one_more_permission_never_makes_a_verdict_better(self) -> None:
        exchange, adapter = self.exchange, self.exchange.adapter
        for row in exchange.rows:
            answer, expected, _ = row.values
            before = worst(adapter, answer, exchange.wanted)
            if exchange.more is None or expected.grants is None:
                continue
            for name in ("novelThing", "novelWithdrawals", "novel-transfer"):
                after = worst(adapter, exchange.more(answer, name), exchange.wanted)
                assert after >= before, (row.id, name)
                if not expected.read_only and expected.same_key is not False:
                    least = Severity.CRITICAL if "With" in name else Severity.ERROR
                    assert after >= least, (row.id, name)

    def test_every_documented_permission_means_what_the_adapter_says(self) -> None:
        exchange, adapter = self.exchange, self.exchange.adapter
        good = exchange.rows[0].values[0]
        for name, caps in adapter.names.items():
            assert exchange.more is not None
            told = adapter.parse([exchange.more(good, name)], CREDENTIALS, Environment.LIVE)
            granted = {grant.caps for grant in told.grants or () if grant.raw == name}
            assert granted >= {frozenset(caps)} or not caps, name

    def test_one_more_field_never_makes_a_verdict_better(self) -> None:
        exchange = self.exchange
        for row in exchange.rows:
            answer = row.values[0]
            before = worst(exchange.adapter, answer, exchange.wanted)
            for name in ("novelField", "enableNovelThing", "can_novel", "withdraw"):
                for other in with_fields(answer, name, NOVELTIES):
                    after = worst(exchange.adapter, other, exchange.wanted)
                    assert after >= before, (row.id, other)

    def test_what_an_answer_lacks_never_makes_a_key_right(self) -> None:
        for row in self.exchange.rows:
            self._lacks(row.values[0])

    def test_what_it_lacks_of_a_documented_permission_makes_no_key_right_either(self) -> None:
        good, more = self.exchange.rows[0].values[0], self.exchange.more
        if more is not None:
            for name in self.exchange.adapter.names:
                self._lacks(more(good, name))

    def _lacks(self, answer: Any) -> None:
        exchange, usual = self.exchange, self.usual
        if worst(exchange.adapter, answer, exchange.wanted, usual) < Severity.WARNING:
            return
        documented = {path for path, _ in exchange.less(exchange.rows[0].values[0])}
        for path, other in exchange.less(answer):
            after = worst(exchange.adapter, other, exchange.wanted, usual)
            assert after >= Severity.WARNING or path not in documented, path

    def test_without_a_test_network_no_key_is_one_of_it(self) -> None:
        good = self.exchange.rows[0].values[0]
        for adapter in self.exchange.adapters:
            if not registry.entry(adapter.ccxt_id).test_network and not adapter.test_by_header:
                told = adapter.parse([good], CREDENTIALS, Environment.TEST)
                assert told.environment is not Environment.TEST

    def test_a_good_key_is_not_blocked(self) -> None:
        good = self.exchange.rows[0].values[1]
        found = judged(self.exchange.adapter, good, wanted=self.exchange.wanted)
        assert not [finding for finding in found if finding.stops]

    def test_the_documented_answers_show_every_bad_key_that_is_told(self) -> None:
        """What the good key's findings do not call unknown must be shown, each at its worst."""
        (_, _, usual), *rows = [row.values for row in self.exchange.rows]
        shown = {one for _, _, found in rows for one in found}
        for unknown, bad in BAD_KEYS.items():
            assert {*unknown} & {*usual} or {*bad} & {*shown, *usual}, bad

    @each("reply, code, status", lambda exchange: exchange.errors)
    def test_an_error_code_has_its_status(
        self, reply: Reply, code: str, status: Status, credentials: dict[str, str]
    ) -> None:
        with serving(self.exchange.check, credentials, {}) as server:
            server.script.append(reply)
            asked = through_ccxt.ask(self.exchange.adapter, server.url, credentials)

        assert (asked.status, asked.code) == (status, code)
        assert len(server.calls) == 1

    @each("adapter", _adapters)
    def test_every_code_of_an_adapter_is_in_the_table(self, adapter: Adapter) -> None:
        shown = {row.values[1] for row in self.exchange.errors}
        assert set(adapter.codes) - self.exchange.told_elsewhere <= shown

    @each("before, reply, status", _trouble)
    def test_trouble_on_the_way_is_never_a_wrong_key(
        self, before: tuple[Reply, ...], reply: Any, status: Status, credentials: dict[str, str]
    ) -> None:
        with serving(self.exchange.check, credentials, {}) as server:
            server.script += [*before, reply]
            timeout = through_ccxt.patience(reply)
            asked = through_ccxt.ask(
                self.exchange.adapter, server.url, credentials, timeout=timeout
            )

        assert asked.status is status
