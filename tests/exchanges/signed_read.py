"""
An exchange of which one signed read is known: a good answer proves a key, no more.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from reconciler.exchanges.adapter import Adapter
from reconciler.model.key_facts import KeyFacts, Status
from reconciler.testing.adapters import Exchange, GoodKey, Rows, errors, spoilt
from reconciler.testing.documented_answers import mangled
from reconciler.testing.exchange_server import Check, Reply
from reconciler.testing.through_ccxt import TROUBLE
from tests.exchanges.contract import made_of

NOTHING_TOLD = ["WARNING IP_NOT_KNOWABLE", "WARNING PERM_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"]


def exchange(
    adapters: tuple[Adapter, ...],
    check: Check,
    url: str,
    answer: Mapping[str, Any],
    *,
    hostile: tuple[tuple[str, Any], ...],
    wrong: Mapping[str, str],
    error: Callable[..., Reply],
    codes: Mapping[str, Status],
    method: str = "GET",
    secret: str = "hex",
    trouble: Rows = tuple(TROUBLE),
) -> Exchange:
    """Return it for the documented *answer* at *url*, the real one; *hostile* are changes of it."""
    host, slash, path = url.removeprefix("https://").partition("/")
    path = slash + path
    return Exchange(
        adapters=adapters,
        check=check,
        made_up=made_of(apiKey="hex", secret=secret),
        documented=answer,
        mangled=mangled(answer),
        rows=[pytest.param(answer, KeyFacts(), NOTHING_TOLD, id="good")],
        hostile=[*spoilt(answer, *hostile), pytest.param([{}], id="nothing")],
        good=(
            GoodKey(
                adapters[0], host, (path,), lambda _key: {path: answer}, KeyFacts(), method=method
            ),
        ),
        wrong=wrong,
        errors=errors(error, codes),
        trouble=trouble,
    )
