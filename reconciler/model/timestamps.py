"""Instants as people write them in documents."""

from datetime import UTC, datetime, timedelta


def stamp(moment: datetime) -> str:
    """Write an instant as RFC 3339 in UTC; a time without a zone is a mistake of the caller."""
    if moment.tzinfo is None:
        raise ValueError("the time has no zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def over_by(now: datetime, jumped: timedelta) -> datetime:
    """
    Return the moment by which what has an end must have ended to be over at *now*.

    *jumped* is by how much our clock is off what is believed of it: as long as it is, a suspension
    or a pause is over only where it is by both, by what the clock shows and by what it would show.
    """
    return now - max(jumped, timedelta())


def spelled(instant: datetime) -> str:
    fraction = instant.microsecond
    precise = "microseconds" if fraction % 1000 else "milliseconds" if fraction else "seconds"
    return instant.astimezone(UTC).isoformat(timespec=precise).replace("+00:00", "Z")
