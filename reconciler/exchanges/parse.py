"""
Takes documented shapes out of foreign JSON, or says `NotUnderstood`.  Pure.

ccxt hands numbers over as text (it quotes them in the JSON, unless orjson is installed), so a
number is read from both.  No message repeats what an answer held: it may echo a part of the key.
"""

import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from reconciler.model.key_facts import Access, Cap, Grant, IpRule

_INTEGER: Final = re.compile(r"-?[0-9]{1,15}")
# A name goes to terminals and logs: neither control characters nor whole sentences.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_. -]{0,47}")
_MASKED: Final = re.compile(r"(?=.*[0-9])(?=.*\*)[0-9A-Fa-f.:*/]+")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A code stands in documentation; whatever could be a part of a key or an address does not get out.
_NUMBER: Final = re.compile(r"-?[0-9]{1,9}")
_WORDS: Final = re.compile(r"[A-Za-z]{1,20}(?:[_:-][A-Za-z]{1,20}){0,6}")
# Where exchanges put it; the first that is there counts.
_CODES: Final = ("retCode", "label", "code", "err-code", "err_code", "errorCode", "error_code")
UNKNOWN: Final = frozenset({Cap.OTHER})
"""What a permission amounts to whose name is in no documentation."""


class NotUnderstood(Exception):
    """An answer is not of the documented shape; its content is not repeated."""


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise NotUnderstood(f"{what} is no object")
    return value


def listing(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise NotUnderstood(f"{what} is no list")
    return value


def member(record: Mapping[str, Any], key: str) -> Any:
    if key not in record:
        raise NotUnderstood(f"there is no {key}")
    return record[key]


def record(outer: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return mapping(member(outer, key), key)


def entries(outer: Mapping[str, Any], key: str) -> Sequence[Any]:
    return listing(member(outer, key), key)


def good(answer: Any, key: str, wanted: int) -> Mapping[str, Any]:
    """Return an answer, a JSON object whose *key* says that all is well."""
    found = mapping(answer, "the answer")
    if integer(found, key) != wanted:
        raise NotUnderstood(f"{key} is not {wanted}")
    return found


def switched_on(
    record: Mapping[str, Any],
    promised: Iterable[str],
    known: Collection[str] = (),
    *,
    like: tuple[str, ...],
) -> Iterator[str]:
    """
    Yield the flags that are on: the *promised* ones, and others that are *known*.

    What nobody knows counts as on unless it is plainly off, if it is true or its name begins *like*
    those of flags.
    """
    told = {*promised, *known}
    for key in promised:
        flag(record, key)
    for key, value in record.items():
        if key in told:
            if flag(record, key):
                yield key
        elif value is not False and (value is True or key.startswith(like)):
            yield name(key, "a permission")


def lacking(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return the trait of an answer that lacks some of these documented fields."""
    absent = [name for name in names if name not in record]
    return {"lacks": ", ".join(absent)} if absent else {}


def text(record: Mapping[str, Any], key: str) -> str:
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


def bit(record: Mapping[str, Any], key: str) -> bool:
    """Return a promised truth value that is written as 0 or 1."""
    value = integer(record, key)
    if value not in {0, 1}:
        raise NotUnderstood(f"{key} is neither 0 nor 1")
    return value == 1


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

    Entries in *anywhere* stand for every address, and so does the unspecified one, `0.0.0.0`.
    A masked entry (`203.**.154`) still says that
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
        if network is not None and network.network_address.is_unspecified:
            return IpRule(bound=False, listed=True)
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


def grant(raw: str, caps: AbstractSet[Cap], *, reads: bool = False) -> Grant:
    """Return a permission that amounts to these; several of them cannot be granted apart."""
    access = Access.READ if reads else Access.WRITE
    return Grant(raw, frozenset(caps), access=access, separable=len(caps) == 1)


def grants(
    raws: Iterable[str], known: Mapping[str, AbstractSet[Cap]], reads: Collection[str] = ()
) -> tuple[Grant, ...]:
    """Return what these names grant; one that is not *known* may be anything."""
    return tuple(grant(raw, known.get(raw, UNKNOWN), reads=raw in reads) for raw in raws)


def scope(
    raw: str, caps: tuple[AbstractSet[Cap], AbstractSet[Cap]], *, reads: bool, writes: bool
) -> Iterator[Grant]:
    """Yield what a key may do in one scope: reading apart where it amounts to something else."""
    reading, writing = caps
    if writes:
        yield grant(raw, writing)
    if reads and not (writes and reading == writing):
        yield grant(raw, reading, reads=True)


def only_reads(granted: Iterable[Grant]) -> bool:
    return all(one.access is Access.READ for one in granted)


def same_key(answered: str, ours: str) -> bool | None:
    """Say whether the answer is about our key; None when it shows the key masked or not at all."""
    if not answered or "*" in answered:
        return None
    return hmac.compare_digest(
        answered.encode("utf-8", "surrogatepass"), ours.encode("utf-8", "surrogatepass")
    )


def may_show(answered: str, ours: str) -> bool:
    """Say whether our key, masked with asterisks, could look like this."""
    head, masked, rest = answered.partition("*")
    return bool(masked) and ours.startswith(head) and ours.endswith(rest.rpartition("*")[2])


def error_code(answer: Any) -> str:
    """Return the raw code of an error where most exchanges have it; empty when there is none."""
    if not isinstance(answer, dict):
        return ""
    for field in _CODES:
        if _plain(answer.get(field)) and answer[field] != "":
            return code(answer[field])
    error = answer.get("error")
    if isinstance(error, dict):
        return code(error.get("code"))
    return code(error) or code(first_error(answer).get("id"))


def first_error(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, dict) else {}


def code(value: Any) -> str:
    """Return a raw code that may be shown, empty for any other value."""
    shown = str(value) if _plain(value) else ""
    return shown if _NUMBER.fullmatch(shown) or _WORDS.fullmatch(shown) else ""


def _plain(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    if "%" in entry:
        return None  # the zone of an IPv6 address is free text
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        return None


def _parts(joined: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in joined.split(",")) if part)
