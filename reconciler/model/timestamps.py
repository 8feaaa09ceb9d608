"""
Instants as people write them.
"""

from datetime import UTC, datetime


def spelled(instant: datetime) -> str:
    """Return an instant as people write it in documents."""
    fraction = instant.microsecond
    precise = "microseconds" if fraction % 1000 else "milliseconds" if fraction else "seconds"
    return instant.astimezone(UTC).isoformat(timespec=precise).replace("+00:00", "Z")
