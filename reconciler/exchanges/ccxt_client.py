"""
Makes an exchange of ccxt for one set of credentials, and puts it away again.

The only module that imports ccxt (0.5 s and 70 MB, inside the function).  ccxt ships no types that
we rely on: what comes from it is Any here, and only values of our own leave the adapters.  No text
of ccxt is ever shown: of a network error it is the full URL, signature included.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

from reconciler.errors import UsageError
from reconciler.model.key_facts import Environment
from reconciler.model.secret import Secret
from reconciler.system.network import loopback

# Below WARNING they print headers (API keys, passphrases) and paths with their signatures.
_LOGGERS: Final = ("ccxt", "urllib3", "requests")
# A filter acts on the logger that a line is given to, not on those below it.
_TALKERS: Final = (
    *("ccxt", "ccxt.base.exchange", "requests", "urllib3", "urllib3.connection"),
    *("urllib3.connectionpool", "urllib3.poolmanager", "urllib3.response", "urllib3.util.retry"),
)
_QUERY: Final = re.compile(r"\?[^\s'\"<>)]+")
_WITH_QUERY: Final = r"?***"
_SOCKS: Final = frozenset({"socks4", "socks4a", "socks5", "socks5h"})


class NotOffered(Exception):
    """ccxt does not know the exchange, or knows no test network of it; the text may be shown."""


@contextmanager
def opened(
    ccxt_id: str,
    credentials: Mapping[str, Secret],
    *,
    environment: Environment,
    timeout: float,
    proxy: str = "",
    base: str = "",
    test_by_header: bool = False,
) -> Iterator[Any]:
    """
    Give an exchange of ccxt, sync, for implicit methods; its connections are closed at the end.

    *timeout* is in seconds, for one request.  *proxy* is the URL of an HTTP or SOCKS proxy; the
    environment's own ones are not used.  *base* stands in for the scheme and host of every
    address, for a stand-in: without TLS on loopback only.  *test_by_header* says that a test
    network is there although it has no address.  A redirect is not followed: it would carry the key
    elsewhere.  Nothing is tried twice, and `last_http_response` is of the last request alone, None
    when it brought none.

    Raises NotOffered, and UsageError for a proxy or base that cannot be used.
    """
    kind = _class(ccxt_id)
    _pin_loggers()
    exchange = kind(
        {
            **{name: value.reveal() for name, value in credentials.items()},
            "enableRateLimit": True,
            "timeout": int(timeout * 1000),
            "verbose": False,
            "requests_trust_env": False,
        }
    )
    try:
        exchange.options["maxRetriesOnFailure"] = 0
        exchange.session.trust_env = False
        exchange.session.max_redirects = 0
        if environment is Environment.TEST:
            # Of several the entry is there and None, and ccxt then dies with a bare TypeError.
            if not exchange.urls.get("test") and not test_by_header:
                raise NotOffered(f"ccxt knows no test network of {ccxt_id}")
            exchange.set_sandbox_mode(True)
        if base:
            exchange.urls["api"] = _rebased(exchange.urls["api"], _usable_base(base))
        if proxy:
            setattr(exchange, _proxy_setting(proxy, base), proxy)
        _forget_between_requests(exchange)
        yield exchange
    finally:
        exchange.session.close()
        _forget(exchange, credentials)


def make_ready() -> None:
    """Import ccxt."""
    _ccxt()


def knows(ccxt_id: str) -> bool:
    """Say whether the installed ccxt has this exchange.  Imports ccxt."""
    return ccxt_id in _ccxt().exchanges


def _ccxt() -> ModuleType:
    import ccxt  # noqa: PLC0415  - heavy: only when an audit runs

    module: ModuleType = ccxt
    return module


def _class(ccxt_id: str) -> Any:
    if not knows(ccxt_id):
        raise NotOffered(f"ccxt {_ccxt().__version__} does not know {ccxt_id}")
    return getattr(_ccxt(), ccxt_id)


def _usable_base(base: str) -> str:
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise UsageError("the address of a stand-in is not of the form http://HOST:PORT")
    if parts.scheme == "http" and not loopback(parts.hostname):
        raise UsageError("a stand-in without TLS is not on loopback", "keys would go out in clear")
    return f"{parts.scheme}://{parts.netloc}"


def _rebased(urls: Any, base: str) -> Any:
    """Swap scheme and host of every address in a nest of them; the path stays."""
    if isinstance(urls, dict):
        return {key: _rebased(value, base) for key, value in urls.items()}
    if isinstance(urls, str):
        return base + re.sub(r"^[a-z]+://[^/]+", "", urls)
    return urls


def _proxy_setting(proxy: str, base: str) -> str:
    """Name the one setting of ccxt for this proxy: two at once are an error there."""
    scheme = urlsplit(proxy).scheme
    if scheme in _SOCKS:
        return "socksProxy"
    if scheme not in {"http", "https"}:
        raise UsageError(
            "audit.proxy is not the address of a proxy", "write http://HOST:PORT or socks5h://..."
        )
    # Named after what is asked through it, not after the proxy itself.
    return "httpProxy" if base.startswith("http://") else "httpsProxy"


def _forget_between_requests(exchange: Any) -> None:
    """Make an answer that did not come look like none: ccxt keeps the one before."""
    ask = exchange.fetch

    def fetch(*args: Any, **kwargs: Any) -> Any:
        exchange.last_http_response = None
        return ask(*args, **kwargs)

    exchange.fetch = fetch


def _forget(exchange: Any, credentials: Mapping[str, Secret]) -> None:
    for name in credentials:
        setattr(exchange, name, None)
    for name in ("body", "url", "headers"):
        setattr(exchange, f"last_request_{name}", None)
    exchange.last_http_response = None
    exchange.last_json_response = None
    exchange.last_response_headers = None


def _pin_loggers() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _TALKERS:
        logger = logging.getLogger(name)
        if logger.level not in {logging.NOTSET, logging.WARNING}:
            logger.setLevel(logging.NOTSET)  # what somebody turned up follows its parent again
        if _without_queries not in logger.filters:
            logger.addFilter(_without_queries)


def _without_queries(record: logging.LogRecord) -> bool:
    """Blot out what follows a question mark: signatures, and at one exchange the API key."""
    record.msg = _QUERY.sub(_WITH_QUERY, record.getMessage())
    record.args = ()
    record.exc_info = None  # texts of errors hold the same addresses
    return True
