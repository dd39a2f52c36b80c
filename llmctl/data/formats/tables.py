"""Parquet and Arrow files -> passages, a few rows at a time and only the columns needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from llmctl.data.document import Rejected
from llmctl.data.formats.passage import Item, Options, Passage
from llmctl.data.formats.rows import FACT_NAMES, Row, choose, passages

FIRST_ROWS = 16  # to see what the columns hold
MOST_ROWS, MOST_BYTES = 256, 8 * 2**20  # taken out of Arrow at once
BUFFER = 2**20  # bytes read ahead of a column
ARROW_FILE = b"ARROW1"  # what an Arrow file begins with, and an Arrow stream does not
TEXT_TESTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)

# Names of columns and a number of rows -> batches of at most, or about, that many.
Batches = Callable[[Sequence[str], int], Iterator[pa.RecordBatch]]


def read_parquet(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """One passage a row."""
    with _parquet(item) as (schema, batches):
        yield from _read(schema, batches, item, options)


def read_arrow(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """One passage a row."""
    with _arrow(item) as (schema, batches):
        yield from _read(schema, batches, item, options)


def parquet_rows(item: Item, _: str | None = None) -> Iterator[Row | Rejected]:
    """The rows with all their columns."""
    with _parquet(item) as (schema, batches):
        yield from _rows(batches(schema.names, MOST_ROWS))


def arrow_rows(item: Item, _: str | None = None) -> Iterator[Row | Rejected]:
    """The rows with all their columns, of an Arrow file or stream (which `datasets` writes)."""
    with _arrow(item) as (schema, batches):
        yield from _rows(batches(schema.names, MOST_ROWS))


@contextmanager
def _parquet(item: Item) -> Iterator[tuple[pa.Schema, Batches]]:
    with item.open() as file, pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as table:

        def batches(names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
            return table.iter_batches(rows, columns=list(names), use_threads=False)

        yield table.schema_arrow, batches


@contextmanager
def _arrow(item: Item) -> Iterator[tuple[pa.Schema, Batches]]:
    with item.open() as file:
        schema = _opened(file).schema

        def batches(names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
            wanted = [schema.get_field_index(name) for name in names]
            for batch in _arrow_batches(file, wanted):
                # Offsets in a damaged file may point anywhere.
                batch.validate(full=True)
                yield from (batch.slice(at, rows) for at in range(0, batch.num_rows, rows))

        yield schema, batches


def _read(
    schema: pa.Schema, batches: Batches, item: Item, options: Options
) -> Iterator[Passage | Rejected]:
    plain = [
        field.name for field in schema if _is_plain(field.type) or field.name.lower() in FACT_NAMES
    ]
    first = next(batches(plain, FIRST_ROWS), None)
    if first is None:
        return
    others = dict.fromkeys(schema.names)
    sample = [others | dict(row.values) for row in _rows([first])]
    columns = choose(sample, options)
    yield from columns.remarks(item, options)
    at_once = MOST_BYTES * first.num_rows // (first.nbytes + 1)
    wanted = (columns.text, *columns.facts)
    rows = _rows(batches(wanted, max(1, min(MOST_ROWS, at_once))))
    yield from passages(rows, columns, item, options)


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
    before = 0
    for batch in batches:
        names = batch.schema.names
        columns = [_values(column) for column in batch.columns]
        for number, values in enumerate(zip(*columns, strict=True), before + 1):
            yield Row(number, dict(zip(names, values, strict=True)))
        before += batch.num_rows


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # Python has no nanoseconds.
        return column.cast(pa.timestamp("us", column.type.tz), safe=False).to_pylist()
    if not _is_text(column.type):
        return column.to_pylist()
    # Not trusted to be UTF-8, even where the file says so; one broken byte costs no row.
    return [
        value if value is None else value.decode("utf-8", "replace")
        for value in column.cast(pa.large_binary()).to_pylist()
    ]


def _is_text(kind: pa.DataType) -> bool:
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(test(held) for test in TEXT_TESTS)


def _is_plain(kind: pa.DataType) -> bool:
    """Is it a text, or what a label may be?"""
    return _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _arrow_batches(file: BinaryIO, fields: Sequence[int]) -> Iterator[pa.RecordBatch]:
    reader = _opened(file, pa.ipc.IpcReadOptions(included_fields=list(fields), use_threads=False))
    if isinstance(reader, pa.ipc.RecordBatchStreamReader):
        return iter(reader)
    return (reader.get_batch(number) for number in range(reader.num_record_batches))


def _opened(
    file: BinaryIO, options: pa.ipc.IpcReadOptions | None = None
) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    file.seek(0)
    is_file = file.read(len(ARROW_FILE)) == ARROW_FILE
    file.seek(0)
    return (
        pa.ipc.open_file(file, options=options)
        if is_file
        else pa.ipc.open_stream(file, options=options)
    )
