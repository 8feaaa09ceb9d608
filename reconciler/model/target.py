"""Which server is meant: its address and the account on it.  Never its name."""

import functools
from urllib.parse import urlsplit

from msgspec import Struct


@functools.lru_cache(maxsize=2**16)  # asked for at every use of a target
def normalised(url: str) -> str:
    """Return *url* with lower-case scheme and host, no default port and no trailing slash."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    default = {"http": 80, "https": 443}.get(parts.scheme.lower())
    port = f":{parts.port}" if parts.port and parts.port != default else ""
    return f"{parts.scheme.lower()}://{host}{port}{parts.path.rstrip('/')}"


def is_plain(url: str) -> bool:
    """
    Whether *url* is what comes out when it is put together again from the parts that are used.

    `http://127.0.0.1[::1]:80` looks like one host and connects to another.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = "" if parts.port is None else f":{parts.port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{parts.path}{query}".lower() == url.lower()


class Target(Struct, frozen=True, order=True):
    """Where a server is: its normalised URL and the account that we act for."""

    url: str
    account: str

    def __str__(self) -> str:
        return f"{self.url} (account {self.account})"
