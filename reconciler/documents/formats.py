"""
Texts that mean something: durations, instants, addresses, cron schedules; and pasted secrets.

Each reader returns None, or says in words what is wrong, and never repeats the text: half of what
stands in the wrong place is a key.
"""

import functools
import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from reconciler.model.target import is_plain
from reconciler.system.network import loopback

DAY: Final = 86_400.0
_UNITS: Final = {"d": DAY, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# The same pattern stands in both schemas; a test compares them.
DURATION: Final = re.compile(
    r"([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?"
)
_PART: Final = re.compile(r"([0-9]{1,6})(ms|[dhms])")
INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
NAME: Final = re.compile(r"[a-z0-9-]{1,63}")
EXCHANGE: Final = re.compile(r"[a-z0-9-]{1,40}")


def duration(text: str) -> float | None:
    """Return the seconds of `1d`, `24h`, `1m30s`, `250ms`; a day is always 24 hours."""
    if not text or DURATION.fullmatch(text) is None:
        return None
    return sum(int(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))


def span(text: str) -> timedelta | None:
    seconds = duration(text)
    return None if seconds is None else timedelta(seconds=seconds)


def instant(text: str) -> datetime | None:
    """Return an RFC 3339 instant with its zone, in UTC; only the years 2000 to 2199 make sense."""
    if INSTANT.fullmatch(text) is None or not text.startswith(("20", "21")):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)")
_URL_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")
_PRINTED: Final = re.compile(r"[!-~]+")
_URL_REMEDY: Final = "write https://HOST:PORT"


def url_problem(text: str, *, insecure_allowed: bool = False) -> tuple[str, str] | None:
    """
    Say what is wrong with a server's URL, and the remedy; None when nothing is.

    One host must have one spelling, else two documents could mean the same server unnoticed.
    """
    wrong = _form_problem(text)
    if wrong is not None or insecure_allowed or text[:5].lower() != "http:":
        return wrong
    if loopback(urlsplit(text).hostname or ""):
        return None
    return (
        "http:// would carry every key in clear",
        "use https://, or a tunnel that ends on this host (http://127.0.0.1:PORT)",
    )


@functools.lru_cache(maxsize=256)  # asked for one server twice, by itself and among all
def _form_problem(text: str) -> tuple[str, str] | None:
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname
    except ValueError:
        return "this is not a URL", _URL_REMEDY
    if not _PRINTED.fullmatch(text) or parts.scheme not in ("https", "http") or not host:
        return "this is not a URL", _URL_REMEDY
    if "@" in parts.netloc:
        return "a URL never carries a user or password", f"remove them; {_URL_REMEDY}"
    if "?" in text or "#" in text:
        return "a server's URL has no query and no fragment", f"remove it; {_URL_REMEDY}"
    if port == 0 or parts.netloc.endswith(":"):
        return "the URL's port is not one", _URL_REMEDY
    if not is_plain(text) or not _host_is_plain(host, bracketed="[" in parts.netloc):
        return (
            "the URL's host is not written in its plain form",
            "write a name of letters, digits, `-` and `.`, or an IP address in its shortest form",
        )
    if _URL_PATH.fullmatch(parts.path) is None:
        return "the URL's path holds something that it must not", _URL_REMEDY
    return None


def _host_is_plain(host: str, *, bracketed: bool) -> bool:
    from ipaddress import IPv4Address, IPv6Address  # noqa: PLC0415  - only files that name one

    if bracketed or ":" in host:
        try:
            return bracketed and str(IPv6Address(host)) == host
        except ValueError:
            return False
    if _NUMERIC.fullmatch(host):
        # 127.1, 0x7f000001 and 2130706433 are all the same host to a resolver.
        try:
            return str(IPv4Address(host)) == host
        except ValueError:
            return False
    return len(host) <= 253 and _HOST.fullmatch(host) is not None  # noqa: PLR2004  - RFC 1035


def network_problem(text: str) -> tuple[str, str] | None:
    """Say what is wrong with an address or network of a whitelist; None when nothing is."""
    from ipaddress import ip_network  # noqa: PLC0415

    try:
        network = ip_network(text, strict=False)
        exact = int(network.network_address) == int(ip_network(text.partition("/")[0])[0])
    except ValueError:
        return "this is not an IP address or network", "write 203.0.113.10 or 203.0.113.0/24"
    if not exact:
        return "the address has bits beyond its prefix", "write the network's first address"
    if network.prefixlen == 0:
        return "this network is the whole internet", "write the addresses the server leaves from"
    return None


_MONTHS: Final = [
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
]
_DAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: Final[tuple[tuple[int, int, list[str]], ...]] = (
    (0, 59, []),
    (0, 23, []),
    (1, 31, []),
    (1, 12, _MONTHS),
    (0, 7, _DAYS),
)
_STEP: Final = re.compile(r"(\*|[0-9a-z]{1,3})(?:-([0-9a-z]{1,3}))?(?:/([0-9]{1,2}))?")


def is_cron(text: str) -> bool:
    """Return whether *text* is a schedule of five fields: minute, hour, day, month, weekday."""
    parts = text.split(" ")
    return len(parts) == len(_FIELDS) and all(
        _cron_item(item, *field)
        for part, field in zip(parts, _FIELDS, strict=True)
        for item in part.lower().split(",")
    )


def _cron_item(item: str, low: int, high: int, names: list[str]) -> bool:
    match = _STEP.fullmatch(item)
    if match is None:
        return False
    start, end, step = match.groups()
    if step is not None and int(step) == 0:
        return False
    if start == "*":
        return end is None
    bounds = [_cron_number(word, low, names) for word in (start, end) if word is not None]
    inside = all(number is not None and low <= number <= high for number in bounds)
    if not inside or (step is not None and end is None):
        return False
    return bounds == sorted(bounds, key=lambda number: number or 0)


def _cron_number(word: str, low: int, names: list[str]) -> int | None:
    if word in names:
        return names.index(word) + low
    return int(word) if word.isdecimal() else None


def is_zone(text: str) -> bool:
    """Return whether *text* names a time zone; True when this host has no list of them."""
    import zoneinfo  # noqa: PLC0415  - only files with windows

    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return not zoneinfo.available_timezones()
    return True


_KNOWN: Final = re.compile(
    r"-----BEGIN "
    r"|\b(?:hv[sbr]|ghp|gho|github_pat|glpat|xox[abp]|sk_live|AKIA)[._-]?[A-Za-z0-9_-]{12,}"
    r"|\beyJ[A-Za-z0-9_-]{10,400}\.eyJ"
)
_SHORTEST: Final = len("-----BEGIN ")  # the shortest of all that is looked for
_RUN: Final = re.compile(r"[A-Za-z0-9+=]{20,}")
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]{32,}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_GROUPS: Final = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4,12}){3,4}\b")


def looks_secret(text: str) -> bool:
    """
    Return whether a free text holds something like a key: PEM, a token's prefix, or random.

    Random is a run of 20 or more letters and digits that changes between capitals, small letters
    and digits all the time, or 32 or more hexadecimal digits other than a Git commit, or groups of
    them: KuCoin's secrets are UUIDs, and HTX's look alike.
    """
    if len(text) < _SHORTEST:
        return False
    if _KNOWN.search(text) or _GROUPS.search(text):
        return True
    for run in _RUN.findall(text):
        if _HEXADECIMAL.fullmatch(run) and not _COMMIT.fullmatch(run):
            return True
        kinds = [1 if c.isdigit() else 2 if c.isupper() else 3 for c in run]
        turns = sum(a != b for a, b in itertools.pairwise(kinds))
        if kinds.count(1) > 1 and turns >= 0.3 * len(run) and not _COMMIT.fullmatch(run):
            return True
    return False
