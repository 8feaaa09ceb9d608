"""
What lies in the ledger: rows as JSON documents, and back.

Reading is strict.  A document that is not exactly what this version writes is a `LedgerError` that
names its key: guessing what a ledger meant could repeat a deed.  Documents hold paths, versions,
times and keyed fingerprints; there is no way in for a value or a mask.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, TypeVar

from reconciler.errors import LedgerError
from reconciler.ledger.codec.requests import (
    read_moment,
    read_robot,
    requests_body,
    requests_from,
    robot_body,
)
from reconciler.ledger.codec.rows import (
    BIRTH,
    RESTORED,
    Birth,
    Brake,
    ExchangeRow,
    Holder,
    IdentityRow,
    LeaseRow,
    brake_key,
    identity_key,
    segment,
    stamp,
)
from reconciler.ledger.codec.strict import Fields, Malformed, parsed, text_of, texts
from reconciler.model.recorded import (
    Debt,
    ExchangeRecord,
    HistoryEntry,
    Identity,
    Observation,
    Owed,
    Requests,
    Write,
)
from reconciler.model.references import FrozenRef, SecretPath
from reconciler.model.target import Target

T = TypeVar("T")

FORMAT: Final = 1


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def _document(kind: str, body: Mapping[str, Any]) -> str:
    # ASCII only: robots' names may hold lone surrogates, which no UTF-8 file could keep.
    return json.dumps({"format": FORMAT, "kind": kind, **body}, separators=(",", ":"))


def write_birth(birth: Birth) -> str:
    """Return the document of a birth."""
    return _document("birth", {"uid": birth.uid, "at": stamp(birth.at), "by": birth.by})


def write_identity(row: IdentityRow) -> str:
    """Return the document of an identity."""
    identity = row.identity
    return _document(
        "identity",
        {
            "uid": identity.uid,
            "target": _target(identity.target),
            "name": identity.name,
            "label_order": row.label_order,
            "retired": [_target(target) for target in row.retired],
        },
    )


def write_exchange(row: ExchangeRow) -> str:
    """Return the document of an exchange."""
    before = row.before
    return _document(
        "exchange",
        {
            **_record(row.record),
            "nonce": row.nonce,
            "by": row.by,
            "before": _record(before) if before else None,
        },
    )


def write_observation(seen: Observation) -> str:
    """Return the document of an observation."""
    return _document(
        "observation",
        {
            "at": seen.at,
            "by": seen.by,
            "version": seen.version,
            "masks": {code: dict(masks) for code, masks in seen.masks.items()},
            "credentials": {code: dict(names) for code, names in seen.credentials.items()},
            "robots": [robot_body(robot) for robot in seen.robots],
            "boot": seen.boot,
            "key_id": seen.key_id,
            "troubles": dict(seen.troubles),
            "alarm": seen.alarm,
        },
    )


def write_brake(brake: Brake) -> str:
    """Return the document of a brake."""
    released = brake.released
    return _document(
        "brake",
        {
            "version": brake.version,
            "server": brake.server,
            "why": brake.why,
            "at": brake.at,
            "by": brake.by,
            "released": list(released) if released else None,
        },
    )


def write_lease(row: LeaseRow) -> str:
    """Return the document of a lease."""
    holder = row.holder
    return _document(
        "lease",
        {
            "nonce": holder.nonce,
            "by": holder.by,
            "boot": holder.boot,
            "namespace": holder.namespace,
            "pid": holder.pid,
            "started": holder.started,
            "since": row.since,
            "until": row.until,
            "seconds": row.seconds,
            "released": row.released,
        },
    )


def write_requests(requests: Requests) -> str:
    """Return the document of a server's requests."""
    return _document("requests", requests_body(requests))


def write_history(deeds: Sequence[HistoryEntry]) -> str:
    """Return the document of what was done on a server."""
    return _document("history", {"deeds": [asdict(deed) for deed in deeds]})


def write_restored(at: datetime, because: str, by: str) -> str:
    """Return the document that says that a restored ledger was accepted."""
    return _document("restored", {"at": stamp(at), "because": because, "by": by})


def _target(target: Target) -> dict[str, str]:
    return {"url": target.url, "account": target.account}


def _record(record: ExchangeRecord) -> dict[str, Any]:
    return {
        "code": record.code,
        "written": _write(record.written),
        "intent": _write(record.intent),
        "earlier": [_write(write) for write in record.earlier],
        "found": _write(record.found),
        "deleting": record.deleting,
        "debts": [
            {
                "owed": debt.owed.value,
                "exchange": debt.exchange,
                "since": debt.since,
                "boot": debt.boot,
                "robot_id": debt.robot_id,
                "robot_name": debt.robot_name,
            }
            for debt in record.debts
        ],
        "past_keys": [list(pair) for pair in record.past_keys],
        "past_boot": record.past_boot,
        "ever": record.ever,
    }


def _write(write: Write | None) -> dict[str, Any] | None:
    if write is None:
        return None
    return {
        "sources": {
            name: {
                "mount": ref.at.mount,
                "path": ref.at.path,
                "version": ref.version,
                "created": ref.created,
                "field": ref.field,
            }
            for name, ref in write.sources.items()
        },
        "values": dict(write.values),
        "masks": dict(write.masks),
        "key_id": write.key_id,
        "at": write.at,
        "weak": write.weak,
        "api_key": write.api_key,
        "companions": write.companions,
    }


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def _read(key: str, kind: str, text: str, read: Callable[[Fields], T]) -> T:
    """Read the document under *key*; LedgerError when it is not exactly what we would write."""
    try:
        fields = Fields(parsed(text), kind)
        fields.must("format", FORMAT)
        fields.must("kind", kind)
        value = read(fields)
        fields.end()
    except Malformed as problem:
        raise LedgerError(
            f"the ledger's row {key} is not understood: {problem}",
            "use the newest jtr that wrote here, or restore the ledger from a backup",
        ) from None
    return value


def read_birth(text: str) -> Birth:
    """Read the document of a birth."""

    def read(fields: Fields) -> Birth:
        moment = read_moment(fields.take("at"), "birth.at")
        return Birth(fields.text("uid"), moment, fields.text("by"))

    return _read(BIRTH, "birth", text, read)


def read_identity(key: str, text: str) -> IdentityRow:
    """Read the document of an identity."""

    def read(fields: Fields) -> IdentityRow:
        uid = fields.text("uid")
        if identity_key(uid) != key:
            raise Malformed("it belongs to another server")
        target = _read_target(fields.take("target"), "identity.target")
        identity = Identity(uid, target, fields.text("name"))
        return IdentityRow(
            identity, fields.integer("label_order"), fields.items("retired", _read_target)
        )

    return _read(key, "identity", text, read)


def read_exchange(key: str, text: str) -> ExchangeRow:
    """Read the document of an exchange."""

    def read(fields: Fields) -> ExchangeRow:
        record = _record_from(fields)
        if segment(record.code) != key.rpartition("/")[2]:
            raise Malformed("it belongs to another exchange")
        return ExchangeRow(
            record,
            nonce=fields.text("nonce"),
            by=fields.text("by"),
            before=fields.maybe("before", _read_record),
        )

    return _read(key, "exchange", text, read)


def read_observation(key: str, text: str) -> Observation:
    """Read the document of an observation."""
    return _read(
        key,
        "observation",
        text,
        lambda fields: Observation(
            at=fields.text("at"),
            by=fields.text("by"),
            version=fields.text("version"),
            masks=fields.mapping("masks", texts),
            credentials=fields.mapping("credentials", texts),
            robots=fields.items("robots", read_robot),
            boot=fields.maybe_integer("boot"),
            key_id=fields.text("key_id"),
            troubles=fields.mapping("troubles", text_of),
            alarm=fields.maybe_integer("alarm"),
        ),
    )


def read_brake(key: str, text: str) -> Brake:
    """Read the document of a brake."""

    def read(fields: Fields) -> Brake:
        version = fields.text("version")
        if brake_key(version) != key:
            raise Malformed("it belongs to another version")
        return Brake(
            version=version,
            server=fields.text("server"),
            why=fields.text("why"),
            at=fields.text("at"),
            by=fields.text("by"),
            released=fields.maybe("released", _read_release),
        )

    return _read(key, "brake", text, read)


def read_lease(key: str, text: str) -> LeaseRow:
    """Read the document of a lease."""
    return _read(
        key,
        "lease",
        text,
        lambda fields: LeaseRow(
            holder=Holder(
                nonce=fields.text("nonce"),
                by=fields.text("by"),
                boot=fields.text("boot"),
                namespace=fields.text("namespace"),
                pid=fields.integer("pid"),
                started=fields.integer("started"),
            ),
            since=fields.text("since"),
            until=fields.text("until"),
            seconds=fields.seconds("seconds"),
            released=fields.flag("released"),
        ),
    )


def read_requests(key: str, text: str) -> Requests:
    """Read the document of a server's requests."""
    return _read(key, "requests", text, requests_from)


def read_history(key: str, text: str) -> tuple[HistoryEntry, ...]:
    """Read the document of what was done on a server."""
    return _read(key, "history", text, lambda fields: fields.items("deeds", _read_deed))


def read_restored(text: str) -> datetime:
    """Return when a restored ledger was accepted last."""

    def read(fields: Fields) -> datetime:
        fields.text("because")
        fields.text("by")
        return read_moment(fields.take("at"), "restored.at")

    return _read(RESTORED, "restored", text, read)


def _read_deed(value: Any, where: str) -> HistoryEntry:
    fields = Fields(value, where)
    deed = HistoryEntry(
        at=fields.text("at"),
        by=fields.text("by"),
        what=fields.text("what"),
        result=fields.text("result"),
        detail=fields.text("detail"),
    )
    fields.end()
    return deed


def _read_target(value: Any, where: str) -> Target:
    fields = Fields(value, where)
    target = Target(fields.text("url"), fields.text("account"))
    fields.end()
    return target


def _read_release(value: Any, where: str) -> tuple[str, str, str]:
    match value:
        case [str(because), str(at), str(by)]:
            return because, at, by
    raise Malformed(f"{where} is not a release")


def _read_pair(value: Any, where: str) -> tuple[str, str]:
    match value:
        case [str(api_key), str(companions)]:
            return api_key, companions
    raise Malformed(f"{where} is not a list of pairs")


def _read_record(value: Any, where: str) -> ExchangeRecord:
    fields = Fields(value, where)
    record = _record_from(fields)
    fields.end()
    return record


def _record_from(fields: Fields) -> ExchangeRecord:
    return ExchangeRecord(
        code=fields.text("code"),
        written=fields.maybe("written", _read_write),
        intent=fields.maybe("intent", _read_write),
        earlier=fields.items("earlier", _read_write),
        found=fields.maybe("found", _read_write),
        deleting=fields.flag("deleting"),
        debts=fields.items("debts", _read_debt),
        past_keys=fields.items("past_keys", _read_pair),
        past_boot=fields.maybe_integer("past_boot"),
        ever=fields.flag("ever"),
    )


def _read_debt(value: Any, where: str) -> Debt:
    fields = Fields(value, where)
    try:
        owed = Owed(fields.text("owed"))
    except ValueError:
        raise Malformed(f"{where}.owed is none that this version knows") from None
    debt = Debt(
        owed,
        exchange=fields.text("exchange"),
        since=fields.text("since"),
        boot=fields.maybe_integer("boot"),
        robot_id=fields.maybe_integer("robot_id"),
        robot_name=fields.text("robot_name"),
    )
    fields.end()
    return debt


def _read_write(value: Any, where: str) -> Write:
    fields = Fields(value, where)
    write = Write(
        sources=fields.mapping("sources", _read_source),
        values=texts(fields.take("values"), f"{where}.values"),
        masks=texts(fields.take("masks"), f"{where}.masks"),
        key_id=fields.text("key_id"),
        at=fields.text("at"),
        weak=fields.flag("weak"),
        api_key=fields.text("api_key"),
        companions=fields.text("companions"),
    )
    fields.end()
    return write


def _read_source(value: Any, where: str) -> FrozenRef:
    fields = Fields(value, where)
    ref = FrozenRef(
        SecretPath(fields.text("mount"), fields.text("path")),
        version=fields.integer("version"),
        created=fields.text("created"),
        field=fields.maybe_text("field"),
    )
    fields.end()
    return ref
