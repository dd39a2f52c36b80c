"""Rows, some at a time -> a CSV, JSON lines or Parquet file, whole or not there at all."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmctl.errors import ConfigError, DataError

Rows = Sequence[Mapping[str, Any]]
Write = Callable[[Rows], None]
SIMPLE = (str, int, float, bool, type(None))


@contextlib.contextmanager
def written_rows(path: Path) -> Iterator[Write]:
    """A function that takes rows; the file gets its name once the block is left in peace.

    Raises ConfigError for an ending that is none of csv, tsv, jsonl and parquet, DataError where
    a later row does not fit the columns of the first.

    >>> with written_rows(Path("scored.csv")) as write:
    ...     write([{"text": "Free entry!", "label": "spam"}])
    """
    opened = WRITERS.get(path.suffix.lower())
    if opened is None:
        raise ConfigError(f"`{path}` cannot be written", hint=f"end it in {', '.join(WRITERS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        with opened(beside) as write:
            yield write
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _delimited(path: Path, delimiter: str) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        names: list[str] = []

        def write(rows: Rows) -> None:
            for row in rows:
                if not names:
                    names.extend(row)
                    writer.writerow(names)
                _refuse_new(row, names)
                writer.writerow([_plain(row.get(name)) for name in names])

        yield write


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:

        def write(rows: Rows) -> None:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

        yield write


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    with contextlib.ExitStack() as stack:
        writers: list[pq.ParquetWriter] = []

        def write(rows: Rows) -> None:
            plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
            try:
                schema = writers[0].schema if writers else None
                table = pa.Table.from_pylist(plain, schema=schema)
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"a row does not fit the columns of the first: {error}",
                    hint="write CSV, whose cells may hold anything",
                ) from error
            if not writers:
                writers.append(stack.enter_context(pq.ParquetWriter(path, table.schema)))
            writers[0].write_table(table)

        yield write


def _refuse_new(row: Mapping[str, Any], names: Sequence[str]) -> None:
    new = [name for name in row if name not in names]
    if new:
        raise DataError(
            f"a row has columns that the first has not: {', '.join(new)}",
            hint="write JSON lines, whose rows may differ",
        )


def _plain(value: Any) -> Any:
    return value if isinstance(value, SIMPLE) else json.dumps(value, default=str)


WRITERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Write]]] = {
    ".csv": lambda path: _delimited(path, ","),
    ".tsv": lambda path: _delimited(path, "\t"),
    ".jsonl": _lines,
    ".parquet": _parquet,
}
