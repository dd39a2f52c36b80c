"""Moments as sources give them (dates, seconds, strings) -> ISO 8601, empty where unknown."""

from datetime import UTC, date, datetime
from typing import Any

# Seconds of the years 1973 to 2128; numbers a thousand times as large are milliseconds.
EARLIEST, LATEST = 1e8, 5e9
LONGEST = 40  # characters; a date and time with fraction and zone has 32


def iso_time(value: Any) -> str:
    """A date, a datetime, or epoch seconds or milliseconds in ISO 8601; short strings as they are.

    >>> iso_time(1700000000)
    '2023-11-14T22:13:20+00:00'
    """
    if isinstance(value, str):
        return value.strip() if len(value) <= LONGEST else ""
    if isinstance(value, date):  # as every datetime is
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if EARLIEST * 1000 <= value < LATEST * 1000:
        return utc(value / 1000)
    return utc(value) if EARLIEST <= value < LATEST else ""


def utc(seconds: float) -> str:
    """Epoch seconds in ISO 8601, empty where no calendar has them (archives hold any number)."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return ""
