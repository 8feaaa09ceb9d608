"""
aiohttp, without the two TLS contexts that it makes when it is imported.

Each of them reads the system's CA file: a tenth of what a small command costs.  Sessions of ours
bring a context of their own; one that forgets it trusts nobody.
"""

import ssl


def _read_nothing(context: ssl.SSLContext) -> None:
    del context


ssl.SSLContext.set_default_verify_paths = _read_nothing  # type: ignore[method-assign, assignment]
try:
    import aiohttp
finally:
    del ssl.SSLContext.set_default_verify_paths  # what it inherits is there again

__all__ = ["aiohttp"]
