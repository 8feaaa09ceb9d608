"""
For who writes a driver, an adapter, a store, a sender or a policy: what our own tests stand on.

Never used by any other room, and never reaches anything but loopback.  Needs the extra `testing`.
"""

import pkgutil
from typing import Final

import pytest

# A suite's assertions are told like those of a test: before one of these is imported.
SUITES: Final = tuple(f"{__name__}.{file.name}" for file in pkgutil.iter_modules(__path__))
pytest.register_assert_rewrite(*SUITES)
