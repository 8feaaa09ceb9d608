"""
Takes documented shapes out of foreign JSON, or says `NotUnderstood`.  Pure.

ccxt hands numbers over as text (it quotes them in the JSON, unless orjson is installed), so a
number is read from both.  No message repeats what an answer held: it may echo a part of the key.
"""

import hmac
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from reconciler.exchanges.adapter import NotUnderstood
from reconciler.model.key_facts import IpRule

_INTEGER: Final = re.compile(r"-?[0-9]{1,15}")
# A name goes to terminals and logs: neither control characters nor whole sentences.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_. -]{0,47}")
_MASKED: Final = re.compile(r"(?=.*[0-9])(?=.*\*)[0-9A-Fa-f.:*/]+")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def only(answers: Sequence[Any]) -> Mapping[str, Any]:
    """Return the one answer that `fetch` brought, a JSON object."""
    if len(answers) != 1:
        raise NotUnderstood(f"expected one answer, got {len(answers)}")
    return mapping(answers[0], "the answer")


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return *value* when it is a JSON object."""
    if not isinstance(value, dict):
        raise NotUnderstood(f"{what} is no object")
    return value


def listing(value: Any, what: str) -> Sequence[Any]:
    """Return *value* when it is a JSON array."""
    if not isinstance(value, list):
        raise NotUnderstood(f"{what} is no list")
    return value


def member(record: Mapping[str, Any], key: str) -> Any:
    """Return a field that the documentation promises."""
    if key not in record:
        raise NotUnderstood(f"there is no {key}")
    return record[key]


def text(record: Mapping[str, Any], key: str) -> str:
    """Return a promised text."""
    value = member(record, key)
    if not isinstance(value, str):
        raise NotUnderstood(f"{key} is no text")
    return value


def flag(record: Mapping[str, Any], key: str) -> bool:
    """Return a promised truth value; 0 and 1 are none."""
    value = member(record, key)
    if not isinstance(value, bool):
        raise NotUnderstood(f"{key} is neither true nor false")
    return value


def integer(record: Mapping[str, Any], key: str) -> int:
    """Return a promised whole number, quoted or not."""
    value = member(record, key)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    raise NotUnderstood(f"{key} is no whole number")


def name(value: Any, what: str) -> str:
    """Return the exchange's own name of a permission."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise NotUnderstood(f"{what} is no name")
    return value


def names(record: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return the names in a promised comma-separated text; none in an empty one."""
    return tuple(name(part, key) for part in _parts(text(record, key)))


def milliseconds(record: Mapping[str, Any], key: str) -> datetime | None:
    """Return an instant given in milliseconds since 1970; None when it is not given."""
    if record.get(key) is None:
        return None
    return later(_EPOCH, milliseconds=integer(record, key))


def seconds(record: Mapping[str, Any], key: str) -> datetime | None:
    """Return an instant given in seconds since 1970; None when it is not given."""
    if record.get(key) is None:
        return None
    return later(_EPOCH, milliseconds=1000 * integer(record, key))


def iso(record: Mapping[str, Any], key: str) -> datetime | None:
    """Return an instant given in ISO 8601 with its zone; None when it is not given."""
    if record.get(key) is None:
        return None
    try:
        instant = datetime.fromisoformat(text(record, key))
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # said below
    raise NotUnderstood(f"{key} is no instant with a zone")


def later(instant: datetime, *, days: int = 0, milliseconds: int = 0) -> datetime:
    """Return a later instant, within the years that there are."""
    try:
        return instant + timedelta(days=days, milliseconds=milliseconds)
    except OverflowError:
        raise NotUnderstood("an instant is out of range") from None


def addresses(record: Mapping[str, Any], key: str) -> IpRule:
    """Return the rule in a promised comma-separated text of addresses and networks."""
    return ip_rule(_parts(text(record, key)))


def ip_rule(entries: Iterable[Any], anywhere: Collection[str] = ()) -> IpRule:
    """
    Return what a list of addresses and networks means; an empty one binds to nothing.

    Entries in *anywhere* stand for every address.  A masked entry (`203.**.154`) still says that
    the key is bound, and not to what; one that means something else says nothing at all.
    """
    networks: list[IPv4Network | IPv6Network] = []
    masked = False
    strange = False
    for entry in entries:
        if not isinstance(entry, str):
            raise NotUnderstood("an address is no text")
        if entry in anywhere:
            return IpRule(bound=False, listed=True)
        network = _network(entry.strip())
        if network is not None:
            networks.append(network)
        elif _MASKED.fullmatch(entry.strip()):
            masked = True
        else:
            strange = True
    if strange:
        return IpRule()
    if masked:
        return IpRule(bound=True)
    return IpRule(bound=bool(networks), networks=tuple(networks), listed=True)


def same_key(answered: str, ours: str) -> bool | None:
    """Say whether the answer is about our key; None when it shows the key masked or not at all."""
    if not answered or "*" in answered:
        return None
    return hmac.compare_digest(
        answered.encode("utf-8", "surrogatepass"), ours.encode("utf-8", "surrogatepass")
    )


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    if "%" in entry:
        return None  # the zone of an IPv6 address is free text
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        return None


def _parts(joined: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in joined.split(",")) if part)
