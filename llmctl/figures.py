"""Numbers as people read them: counts, sizes, spans of time and rates as short text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

COUNTS = ("", "k", "M", "B", "T")
SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


def count(number: float) -> str:
    """How many, with at most four digits.

    >>> count(950), count(1_234_567), count(124e6)
    ('950', '1.2 M', '124 M')
    """
    return _scaled(number, COUNTS)


def size(bytes: float) -> str:  # noqa: A002
    """How much is stored, in decimal units.

    >>> size(900), size(3_400_000_000)
    ('900 B', '3.4 GB')
    """
    return _scaled(bytes, SIZES)


def amount(number: float, unit: str) -> str:
    """How much of a unit: `B` for bytes, else the name of what is counted.

    >>> amount(2_000_000, "B"), amount(3, "files"), amount(1, "processes")
    ('2 MB', '3 files', '1 process')
    """
    return size(number) if unit == "B" else f"{count(number)} {_named(number, unit)}".rstrip()


def exactly(number: int, unit: str) -> str:
    """How many to the last one, where that is what is asked.

    >>> exactly(1_234, "files"), exactly(1, "entries")
    ('1,234 files', '1 entry')
    """
    return f"{number:,} {_named(number, unit)}"


def _named(number: float, unit: str) -> str:
    """What is counted, as it is called where there is one alone."""
    if number != 1:
        return unit
    if unit.endswith("ies"):
        return unit.removesuffix("ies") + "y"
    return unit.removesuffix("es" if unit.endswith("sses") else "s")


def rate(number: float, seconds: float, unit: str) -> str:
    """How much of a unit came in a second.

    >>> rate(45_000, 2, "tokens"), rate(9e7, 2, "B")
    ('22.5 k tokens/s', '45 MB/s')
    """
    return f"{amount(number / seconds if seconds > 0 else 0, unit)}/s"


def duration(seconds: float) -> str:
    """How long, in the two largest units of time; `?` where nobody knows.

    >>> duration(0.25), duration(42), duration(125), duration(90_061)
    ('0.2 s', '42 s', '2 min 5 s', '1 d 1 h')
    """
    if not math.isfinite(seconds):
        return "?"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    spans = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    largest = next(index for index, (number, _) in enumerate(spans) if number)
    return " ".join(f"{number} {unit}" for number, unit in spans[largest : largest + 2] if number)


def readable(value: Any) -> str:
    """A value of a plan or of facts, on one line.

    >>> readable({"train": 3611, "test": 1031}), readable(11.0772), readable(["a", "b"])
    ('3,611 train, 1,031 test', '11.1', 'a, b')
    """
    match value:
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3g}"
        case Mapping():
            return ", ".join(f"{readable(one)} {name}" for name, one in value.items())
        case Sequence():
            return ", ".join(map(readable, value))
        case _:
            return "?" if value is None else str(value)


def _scaled(number: float, units: tuple[str, ...]) -> str:
    index = 0
    # 999.5 would be written as 1000.
    while abs(number) >= 999.5 and index < len(units) - 1:
        number /= 1000
        index += 1
    digits = f"{number:.1f}" if index and abs(number) < 99.95 else f"{number:.0f}"
    return f"{digits.removesuffix('.0')} {units[index]}".rstrip()
