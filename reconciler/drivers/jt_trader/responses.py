"""
From the payloads of JT-Trader's answers to our nouns.

Pure.  Strict on what we use, tolerant of what we do not.  A server may be compromised: nothing of
it passes unless it has the expected type and a sane length.
"""

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from ipaddress import ip_address
from typing import Final, TypeVar

from reconciler.drivers.jt_trader.field_names import credential_of
from reconciler.drivers.jt_trader.masks import looks_like_mask
from reconciler.errors import UnknownAnswer
from reconciler.model.observed import (
    BootLine,
    Logbook,
    LogEntry,
    Mask,
    ObservedExchange,
    ObservedField,
    Robot,
)

_T = TypeVar("_T", bound=Hashable)

SYSTEM_LOG: Final = "system"
"""The only log that is ever asked for: other names would be created as files."""

WRITABLE_TYPE: Final = "string"

_CODE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")  # ccxt's, and plans show them
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_VERSION: Final = re.compile(r"[A-Za-z0-9.+_-]{1,50}")
_TEXT_LIMIT: Final = 200  # characters of a robot's name or exchange
_INTEGER_LIMIT: Final = 2**53  # what JavaScript keeps exactly

_BOOT: Final = ("NestApplication", "Nest application successfully started")
_STATUS: Final = ("MonitoringService", "App STATUS")
_ADDRESSES_LIMIT: Final = 20
ALARM: Final = "MainProcessExceptionHandler"
"""The class of the fatal path's entries in the system log, and of errors that stop nothing."""

HARMLESS: Final = frozenset(
    {
        "user-script",
        "bundler-error",
        "runtime-script-limit",
        "script-already-registered",
        "tester-data-failed",
    }
)
"""What an entry of that class calls its cause when it stopped nothing; docs/protocol.md, 4."""

CUT: Final = (
    "(cut by jtr: what the server's handler of fatal errors notes can hold a rejected key in plain"
    " text)"
)
"""Stands for all that an entry of the fatal path says."""

SCRIPT: Final = "(cut by jtr: an error of a robot's own script, which stops nothing else)"
"""Stands for all that such an entry says: it, too, may hold anything."""

_OWN_KEYS: Final = frozenset({"time", "level", "class", "msg", "pid"})


def read_exchanges(payload: object) -> tuple[ObservedExchange, ...]:
    """
    Return all exchanges, those of `main` first; an exchange is in either list, by its state.

    Raises UnknownAnswer, also when one code is listed twice.
    """
    lists = _mapping(payload, "the exchange list")
    parts = [
        _items(lists.get(name), f"`{name}` of the exchange list") for name in ("main", "additional")
    ]
    entries = [entry for part in parts for entry in part]
    exchanges = [_exchange(entry) for entry in entries]
    if repeated := _repeated(exchange.code for exchange in exchanges):
        raise _odd(f"the exchange list names {min(repeated)} twice")
    # Fields are rows of one table: a name in two exchanges is one row, and a write would hit both.
    shared = _repeated(name for e in exchanges for name in {f.name for f in e.fields})
    return tuple(_with_shared(exchange, shared) for exchange in exchanges)


def read_version(payload: object) -> str:
    version = _mapping(payload, "the engine configuration").get("version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise _odd("the engine configuration has no usable version")
    return version


def read_robots(payload: object) -> tuple[Robot, ...]:
    """Return all robots of the account; names may hold any text, up to 200 characters."""
    robots = tuple(_robot(entry) for entry in _items(payload, "the robot list"))
    if _repeated(robot.id for robot in robots):
        raise _odd("the robot list names one id twice")
    return robots


def read_log(payload: object) -> Logbook:
    """
    Return what the system log proves: boots, the newest entries, the server's own addresses.

    Without `data` (a line of the file is not JSON) the log is not readable, which is no error.
    """
    data = _log_data(payload)
    if data is None:
        return Logbook(readable=False)
    boots: list[BootLine] = []
    alarms: list[int] = []
    times: list[int] = []
    strangers = False
    for entry in data:
        time, pid, what = _log_time(entry), entry.get("pid"), entry.get("class")
        known_pid = pid if type(pid) is int else None
        if time is not None:
            times.append(time)
            if (what, entry.get("msg")) == _BOOT:
                boots.append(BootLine(time, known_pid or 0))
                strangers = False
                continue
            if what == ALARM and not _harmless(entry):
                alarms.append(time)
        if boots and known_pid is not None and known_pid != boots[-1].pid:
            strangers = True
    return Logbook(
        outgoing=_outgoing(data),
        readable=True,
        boot=max((line.time for line in boots), default=None),
        alarm=max(alarms, default=None),
        boots=tuple(boots),
        newest=max(times, default=None),
        strangers=strangers,
    )


def _outgoing(data: list[dict[str, object]]) -> tuple[str, ...]:
    """Return the addresses of the newest status entry; whatever is no address is left out."""
    newest = next(
        (entry for entry in reversed(data) if (entry.get("class"), entry.get("msg")) == _STATUS),
        {},
    )
    found = newest.get("Proxy")
    rows = found[:_ADDRESSES_LIMIT] if isinstance(found, list) else []
    texts = [row.get("ip") for row in rows if isinstance(row, dict)]
    return tuple(
        sorted({address for text in texts if isinstance(text, str) if (address := _address(text))})
    )


def _address(text: str) -> str:
    try:
        return str(ip_address(text.strip()[:_TEXT_LIMIT]))
    except ValueError:
        return ""


def read_entries(payload: object) -> tuple[LogEntry, ...] | None:
    """
    Return the system log for people, in the order of the file; None when it is not readable.

    Of what the fatal path noted nothing but time and level passes: it can hold a rejected key.
    """
    data = _log_data(payload)
    return None if data is None else tuple(_log_entry(entry) for entry in data)


def read_nothing(payload: object) -> None:
    if payload is not None:
        raise _odd("an answer that is none but a word has a payload")


def _log_data(payload: object) -> list[dict[str, object]] | None:
    answer = _mapping(payload, "the log")
    if answer.get("artifacts") != SYSTEM_LOG:
        raise _odd("the log is another one than was asked for")
    data = answer.get("data")
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else None


def _log_time(entry: dict[str, object]) -> int | None:
    time = entry.get("time")
    return time if type(time) is int and 0 < time < _INTEGER_LIMIT else None


def _log_entry(entry: dict[str, object]) -> LogEntry:
    time, level, origin = _log_time(entry), _words(entry.get("level")), _words(entry.get("class"))
    if ALARM in origin:
        if cause := _harmless(entry):
            return LogEntry(time, level, f"{ALARM} ({cause})", SCRIPT, {})
        return LogEntry(time, level, ALARM, CUT, {})
    rest = {key: value for key, value in entry.items() if key not in _OWN_KEYS}
    return LogEntry(time, level, origin, _words(entry.get("msg")), rest)


def _harmless(entry: dict[str, object]) -> str:
    """Return the cause of an error that stopped nothing; empty for one that did, or may have."""
    if "cause" in entry:
        cause = entry["cause"]
        return cause if isinstance(cause, str) and cause in HARMLESS else ""
    stack = entry.get("stack")
    lines = stack if isinstance(stack, list) else [stack]
    return "user-script" if any(isinstance(x, str) and "(vm.js:" in x for x in lines) else ""


def _words(value: object) -> str:
    """Return what stands in the log as text; an entry may lack any of its keys."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except RecursionError:
        return "(nested too deeply)"


def _exchange(entry: object) -> ObservedExchange:
    exchange = _mapping(entry, "an exchange")
    code = exchange.get("code")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise _odd("the exchange list has an entry without a usable code")
    pairs = [_field(code, field) for field in _items(exchange.get("fields"), f"fields of {code}")]
    troubles = [trouble for _, trouble in pairs if trouble]
    fields = tuple(field for field, _ in pairs)
    doubled = _repeated(field.credential for field in fields if field.credential)
    troubles += [f"two of its fields are for {what}" for what in sorted(doubled)]
    return ObservedExchange(code, fields, "; ".join(troubles))


def _field(code: str, entry: object) -> tuple[ObservedField, str]:
    """Return one field, and why it makes its exchange unsafe to write."""
    field = _mapping(entry, f"a field of {code}")
    name, label, kind = field.get("name"), field.get("label"), field.get("type")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _odd(f"{code} has a field without a usable name")
    if not isinstance(label, str) or not isinstance(kind, str):
        raise _odd(f"field {name} has no label or no type")
    credential = credential_of(label)
    shown, known = _shown(name, field.get("value"))
    if kind != WRITABLE_TYPE:
        trouble = f"field {name} is of another type than text"
    elif credential is None:
        trouble = f"field {name} has a label that this version of jtr does not know"
    elif not known:
        trouble = f"field {name} is shown in a way that this version of jtr does not know"
    else:
        trouble = ""
    return ObservedField(name, credential or "", kind[:_TEXT_LIMIT], Mask(shown)), trouble


def _shown(name: str, value: object) -> tuple[str, bool]:
    """Return what is shown of a field, and whether it is an empty text or a mask."""
    if isinstance(value, bool):  # the server shows a field of type `boolean` as it is
        return str(value).lower(), False
    if not isinstance(value, str):
        raise _odd(f"field {name} shows neither text nor a truth value")
    return value, looks_like_mask(value)


def _with_shared(exchange: ObservedExchange, shared: set[str]) -> ObservedExchange:
    names = sorted(shared.intersection(f.name for f in exchange.fields))
    if not names:
        return exchange
    also = f"field {names[0]} belongs to another exchange too"
    trouble = f"{exchange.trouble}; {also}" if exchange.trouble else also
    return ObservedExchange(exchange.code, exchange.fields, trouble)


def _robot(entry: object) -> Robot:
    job = _mapping(entry, "a robot")
    number, running = job.get("id"), job.get("isEnabled")
    if type(number) is not int or abs(number) >= _INTEGER_LIMIT:
        raise _odd("the robot list has an entry without a usable id")
    if not isinstance(running, bool):
        raise _odd(f"robot {number} does not say whether it runs")
    return Robot(number, _text(job.get("name")), _text(job.get("exchange")), running)


def _text(value: object) -> str:
    """Return foreign text that can be encoded and is not long; none at all is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _odd("a robot has a name or an exchange that is no text")
    cut = value[:_TEXT_LIMIT]
    if cut.isascii():
        return cut
    return cut.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _mapping(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _odd(f"{what} is no object")
    return value


def _items(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise _odd(f"{what} is no list")
    return value


def _repeated(values: Iterable[_T]) -> set[_T]:
    found = list(values)
    if len(set(found)) == len(found):  # nearly always
        return set()
    return {value for value, times in Counter(found).items() if times > 1}


def _odd(what: str) -> UnknownAnswer:
    return UnknownAnswer(
        f"the server's answer has a shape that jtr does not know: {what}",
        "check that the address is a JT-Trader server of a tested version",
    )
