"""
Which exchange of ccxt stands behind a code of JT-Trader, who asks it, and what a key consists of.

Credentials that ccxt requires come from `catalogue.json`, which the tests generate from the ccxt
that is installed: to look there needs no import of it.  The server's own list of fields wins
wherever the two differ, because its ccxt is another one.  An exchange that is not in the catalogue
is worth a warning, never an error: ccxt drops and renames ids.
"""

import functools
import importlib
import json
import pkgutil
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from msgspec import Struct

from reconciler.exchanges import adapters as own
from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.adapters.signed_read import SignedRead, reader
from reconciler.model.key_facts import Environment

FILE: Final = "catalogue.json"

_TEST: Final = "-testnet"


class Entry(Struct, frozen=True):
    """
    What is known of one code of JT-Trader.

    `adapter` None: there is nothing to ask that would prove a key.  `required` are ccxt's names,
    None where *ccxt_id* is not in the catalogue.  `test_network` says whether ccxt knows the
    address of one.
    """

    code: str
    ccxt_id: str
    environment: Environment
    adapter: Adapter | None
    required: tuple[str, ...] | None
    test_network: bool = False

    @property
    def known(self) -> bool:
        return self.required is not None

    @property
    def family(self) -> str:
        """The exchange itself: several ids of ccxt are one, and one module speaks to it."""
        if self.adapter is None or isinstance(self.adapter, SignedRead):
            return self.ccxt_id  # that module speaks to many
        return type(self.adapter).__module__


def entry(code: str) -> Entry:
    """Return what is known of a code of JT-Trader; any code has an entry."""
    name = code.removesuffix(_TEST)
    environment = Environment.LIVE if name == code else Environment.TEST
    found = (one.ccxt_id for one in discovered().values() if name in one.also_called)
    ccxt_id = next(found, name)
    row = stored()["exchanges"].get(ccxt_id)
    required = None if row is None else tuple(row["required"])
    return Entry(
        code=code,
        ccxt_id=ccxt_id,
        environment=environment,
        adapter=discovered().get(ccxt_id) or reader(ccxt_id, required or ()),
        required=required,
        test_network=row is not None and row["test"],
    )


def has_keys(code: str) -> bool:
    return not any(code in adapter.without_keys for adapter in discovered().values())


@functools.cache
def discovered() -> Mapping[str, Adapter]:
    """Return every adapter by its exchange: those of each file that stands in `adapters/`."""
    modules = (
        importlib.import_module(f"{own.__name__}.{file.name}")
        for file in pkgutil.iter_modules(own.__path__)
    )
    found = [adapter for module in modules for adapter in module.ADAPTERS]
    return {adapter.ccxt_id: adapter for adapter in found}


@functools.cache
def stored() -> Mapping[str, Any]:
    """Return the catalogue of this release: ccxt's version, and a row for each of its ids."""
    text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    catalogue: Mapping[str, Any] = json.loads(text)
    return catalogue
