"""The tables that ship with the room -> rows of text, numbers where they are asked for.

Each row of `tables/*.csv` carries its source, and a date where it is a price.
"""

import csv
import functools
from collections.abc import Mapping
from pathlib import Path

from llmctl.errors import ConfigError

TABLES = Path(__file__).parent / "tables"

Row = Mapping[str, str]


@functools.cache
def rows(name: str) -> tuple[Row, ...]:
    """All rows of a table, `name` without `.csv`.

    >>> rows("grids")[0]["country"]
    'Aruba'
    """
    return tuple(read(TABLES / f"{name}.csv"))


def read(path: Path) -> list[Row]:
    """The rows of a CSV file with a head line; blanks around cells do not count."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [
            {(key or "").strip(): (value or "").strip() for key, value in row.items() if key}
            for row in csv.DictReader(file, restval="")
        ]


def read_given(path: Path) -> list[Row]:
    """The rows of a file of the user's; ConfigError where it cannot be read, or is no such file."""
    try:
        return read(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is no CSV file of text: {error}") from error


def number(row: Row, column: str) -> float | None:
    """A cell as a number; None where it is empty or missing."""
    cell = row.get(column, "")
    return float(cell) if cell else None
