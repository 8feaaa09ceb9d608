"""Instants as people write them in documents."""

from datetime import UTC, datetime


def stamp(moment: datetime) -> str:
    """Write an instant as RFC 3339 in UTC; a time without a zone is a mistake of the caller."""
    if moment.tzinfo is None:
        raise ValueError("the time has no zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def spelled(instant: datetime) -> str:
    fraction = instant.microsecond
    precise = "microseconds" if fraction % 1000 else "milliseconds" if fraction else "seconds"
    return instant.astimezone(UTC).isoformat(timespec=precise).replace("+00:00", "Z")
