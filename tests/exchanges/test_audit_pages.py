"""
Every exchange has its page, which shows every permission that it documents, and what follows.

`pytest tests/exchanges/test_audit_pages.py --rewrite-golden` writes the tables anew.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from reconciler.exchanges import adapters, registry
from reconciler.model.key_facts import Access, Cap, Environment, Grant
from reconciler.model.key_policy import Security
from reconciler.testing.adapters import Exchange
from reconciler.testing.documented_answers import CREDENTIALS, judged
from tests.exchanges.contract import collected
from tests.exchanges.documented_names import DOCUMENTED
from tests.house.pages import ROOT

PAGES = ROOT / "docs" / "audit"
STEMS = [
    file.name for file in pkgutil.iter_modules(adapters.__path__) if file.name != "signed_read"
]
MARK = "<!-- names -->\n"
HEAD = "| name | amounts to | by default |\n|---|---|---|\n"
BY_DEFAULT = {
    "PERM_WITHDRAW": "critical",
    "PERM_FORBIDDEN": "forbidden",
    "PERM_UNKNOWN_NAME": "a warning",
    "PERM_COARSE": "allowed, coarse",
}


@cache
def exchange(stem: str) -> Exchange:
    """Return the suite's description of the exchange that a file speaks to."""
    (first, *_) = importlib.import_module(f"{adapters.__name__}.{stem}").ADAPTERS
    return next(suite.exchange for suite in collected() if first in suite.exchange.adapters)


def table(stem: str) -> str:
    """Return the table of an exchange's permissions, as its adapter has them."""
    return HEAD + "".join(f"| `{name}` | {caps} | {then} |\n" for name, caps, then in rows(stem))


def rows(stem: str) -> Iterator[tuple[str, str, str]]:
    told = exchange(stem)
    for name in told.adapter.names:
        assert told.more is not None
        answer = told.more(told.rows[0].values[0], name)
        facts = told.adapter.parse([answer], CREDENTIALS, Environment.LIVE)
        granted = [one for one in facts.grants or () if one.raw == name]
        found = judged(told.adapter, facts, wanted=Security(declared=True))
        about = [one.code for one in found if one.data.get("permission") == name]
        # The worst of them, where it reads apart from what it writes.
        then = next((word for code, word in BY_DEFAULT.items() if code in about), "allowed")
        if then == "forbidden" and all(one.access is Access.READ for one in granted):
            then = "a warning"
        yield name, "; ".join(dict.fromkeys(map(words, granted))), then


def words(grant: Grant) -> str:
    names = [
        "nothing that jtr knows" if cap is Cap.OTHER else str(cap) for cap in sorted(grant.caps)
    ]
    return ", ".join(names) + (" (reads)" if grant.access is Access.READ else "")


def shown(page: Path) -> str:
    """Return the table of a page."""
    _, _, rest = page.read_text("utf-8").partition(MARK)
    return rest.partition("\n\n")[0] + "\n" if rest else ""


@pytest.mark.parametrize("stem", STEMS)
def test_every_exchange_has_a_page_that_names_its_source_and_its_day(stem: str) -> None:
    text = (PAGES / f"{stem}.md").read_text("utf-8")

    assert re.search(r"^## It does not tell$", text, re.MULTILINE)
    assert re.search(r"[0-9]{1,2} November 2026", text.partition("## Source")[2])
    assert f"(audit/{stem}.md)" in (ROOT / "docs" / "audit.md").read_text("utf-8")


def test_no_page_is_without_its_exchange() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(STEMS)


@pytest.mark.parametrize("stem", sorted(DOCUMENTED))
def test_every_documented_name_is_in_the_table_and_means_what_the_adapter_says(
    request: pytest.FixtureRequest, stem: str
) -> None:
    page = PAGES / f"{stem}.md"
    if request.config.getoption("--rewrite-golden"):
        text = page.read_text("utf-8")
        head, mark, rest = text.partition(MARK)
        _, _, tail = rest.partition("\n## Source")
        page.write_text(f"{head}{mark}{table(stem)}\n## Source{tail}", "utf-8")

    assert re.findall(r"^\| `([^`]+)`", shown(page), re.MULTILINE) == [
        *exchange(stem).adapter.names
    ]
    assert set(exchange(stem).adapter.names) == set(DOCUMENTED[stem].split())
    assert shown(page) == table(stem)


def test_every_adapter_that_tells_permissions_has_its_documented_names() -> None:
    named = {
        type(adapter).__module__.rpartition(".")[2]
        for adapter in registry.discovered().values()
        if adapter.names
    }
    assert named == set(DOCUMENTED)


@pytest.mark.parametrize("stem", sorted(DOCUMENTED))
def test_a_name_that_speaks_of_withdrawing_is_critical(stem: str) -> None:
    for name, _, then in rows(stem):
        if "withdraw" in name.casefold() or name in {"wwow", "Transfer", "can_transfer"}:
            assert then == "critical", name
