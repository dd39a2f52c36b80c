"""Rows, some at a time -> a CSV, JSON lines or Parquet file, whole or not there at all."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmctl.data.formats.mending import replace_surrogates
from llmctl.errors import ConfigError

Rows = Sequence[Mapping[str, Any]]
Write = Callable[[Rows], None]
# The columns in their order, and the kinds of values that each holds.
Kinds = Mapping[str, AbstractSet[str]]
# Integers that float64 holds exactly, and those that int64 does.
WHOLE_BITS, LONG_BITS = 53, 63
TYPES = (
    ({"truth"}, pa.bool_()),
    ({"whole", "long"}, pa.int64()),
    ({"whole", "real"}, pa.float64()),
    ({"date"}, pa.date32()),
    ({"time"}, pa.timestamp("us")),
    ({"instant"}, pa.timestamp("us", "UTC")),
)


def note_kinds(row: Mapping[str, Any], kinds: dict[str, set[str]]) -> None:
    """Add the columns of a row, and the kinds of its values, to those of the rows before it."""
    for name, value in row.items():
        held = kinds.setdefault(name, set())
        if value is not None:
            held.add(_kind(value))


def mixed_columns(kinds: Kinds) -> list[str]:
    """The columns of lists, objects or no one type, which Parquet holds as text."""
    return [name for name, held in kinds.items() if held - {"text"} and _type(held) == pa.string()]


@contextlib.contextmanager
def written_rows(path: Path, kinds: Kinds) -> Iterator[Write]:
    """A function that takes rows; the file gets its name once the block is left in peace.

    `kinds` are those of all rows. Raises ConfigError for an ending that is none of csv, tsv, jsonl
    and parquet.

    >>> with written_rows(Path("scored.csv"), {"text": {"text"}, "label": {"text"}}) as write:
    ...     write([{"text": "Free entry!", "label": "spam"}])
    """
    opened = WRITERS.get(path.suffix.lower())
    if opened is None:
        raise ConfigError(f"`{path}` cannot be written", hint=f"end it in {', '.join(WRITERS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        with opened(beside, kinds) as write:
            yield write
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _commas(path: Path, kinds: Kinds, *, delimiter: str = ",") -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(kinds)

        def write(rows: Rows) -> None:
            writer.writerows([_cell(row.get(name)) for name in kinds] for row in rows)

        yield write


@contextlib.contextmanager
def _tabs(path: Path, kinds: Kinds) -> Iterator[Write]:
    with _commas(path, kinds, delimiter="\t") as write:
        yield write


@contextlib.contextmanager
def _lines(path: Path, kinds: Kinds) -> Iterator[Write]:  # noqa: ARG001 - each line names its own
    with path.open("w", encoding="utf-8") as file:

        def write(rows: Rows) -> None:
            for row in rows:
                line = json.dumps(row, ensure_ascii=False, default=str)
                file.write(replace_surrogates(line) + "\n")

        yield write


@contextlib.contextmanager
def _parquet(path: Path, kinds: Kinds) -> Iterator[Write]:
    types = {name: _type(held) for name, held in kinds.items()}

    def table(rows: Rows) -> pa.Table:
        return pa.table({name: _column(rows, name, type_) for name, type_ in types.items()})

    with pq.ParquetWriter(path, table(()).schema) as writer:
        yield lambda rows: writer.write_table(table(rows))


def _column(rows: Rows, name: str, type_: pa.DataType) -> pa.Array:
    values = [row.get(name) for row in rows]
    return pa.array(map(_cell, values) if type_ == pa.string() else values, type_)


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "truth"
        case int() if value.bit_length() <= WHOLE_BITS:
            return "whole"
        case int() if value.bit_length() <= LONG_BITS:
            return "long"
        case float():
            return "real"
        case str():
            return "text"
        case datetime():
            return "time" if value.tzinfo is None else "instant"
        case date():
            return "date"
        case _:
            return "other"


def _type(kinds: AbstractSet[str]) -> pa.DataType:
    """The type that holds values of these kinds; text holds them all."""
    return next((type_ for known, type_ in TYPES if kinds and kinds <= known), pa.string())


def _cell(value: Any) -> str | None:
    """A value as text: what JSON knows in its form, all else, such as dates, as Python says it."""
    if value is None:
        return None
    if isinstance(value, str):
        return replace_surrogates(value)
    is_json = isinstance(value, bool | int | float | list | dict)
    return json.dumps(value, ensure_ascii=False, default=str) if is_json else str(value)


WRITERS: dict[str, Callable[[Path, Kinds], contextlib.AbstractContextManager[Write]]] = {
    ".csv": _commas,
    ".tsv": _tabs,
    ".jsonl": _lines,
    ".parquet": _parquet,
}
