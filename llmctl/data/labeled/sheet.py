"""A table to be judged, or lines of text -> rows with their texts, some at a time.

A file is read twice, first to find its columns: rows of JSON may differ, and what writes them to
a table has to know all columns, and what they hold, before the first row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from llmctl.data.document import Rejected
from llmctl.data.formats.mending import replace_surrogates
from llmctl.data.formats.plain import file_lines
from llmctl.data.formats.writing import Kinds, note_kinds
from llmctl.data.labeled.columns import find_text_columns, inner_names, named_columns, read_text
from llmctl.data.labeled.table import (
    DOCUMENT_TEXT,
    PLAIN_TEXT,
    Record,
    cases,
    describe,
    read_records,
)
from llmctl.errors import ConfigError, DataError

# Rows that are read, judged and written at a time.
ROWS_AT_ONCE = 1024


class Rows(NamedTuple):
    """Some rows, and the text of each."""

    values: list[Mapping[str, Any]]
    texts: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a file holds: its columns, which of them are the text, how many rows, what is none."""

    path: Path
    kinds: Kinds
    text_columns: tuple[str, ...]
    rows: int
    rejected: tuple[str, ...]

    def __iter__(self) -> Iterator[Rows]:
        """The rows, some at a time."""
        records = (one for one in _records(self.path) if isinstance(one, Record))
        while some := list(islice(records, ROWS_AT_ONCE)):
            texts = [read_text(one.values, self.text_columns) for one in some]
            yield Rows([one.values for one in some], [replace_surrogates(text) for text in texts])


def look_at(path: Path, *, text_column: str | None = None, trained_on: str | None = None) -> Sheet:
    """Read a file to the end, and keep none of it.

    The text is that of `text_column`, else of `trained_on` where the file has it, else guessed.
    Raises DataError where there are no rows, or no such column.

    >>> look_at(Path("new.csv")).text_columns
    ('message',)
    """
    kinds: dict[str, set[str]] = {}
    sample: list[Record] = []
    rejected: list[Rejected] = []
    rows = 0
    for one in _records(path):
        if isinstance(one, Record):
            rows += 1
            note_kinds(one.values, kinds)
            if rows <= ROWS_AT_ONCE:
                sample.append(one)
        elif not one.kept:
            rejected.append(one)
    if not rows:
        raise DataError(
            f"no row of `{path}` can be read: {cases(rejected) or 'it is empty'}",
            hint="give lines of text, or a table: csv, tsv, jsonl, parquet or arrow",
        )
    return Sheet(
        path=path,
        kinds=kinds,
        text_columns=_named(path, text_column, [*kinds, *inner_names(sample)])
        if text_column is not None
        else find_text_columns(sample, trained_on),
        rows=rows,
        rejected=tuple(describe(one) for one in rejected),
    )


def _named(path: Path, text_column: str, names: Sequence[str]) -> tuple[str, ...]:
    try:
        return named_columns(text_column, names, "--text-column")
    except ConfigError as error:
        listed = ", ".join(f"`{name}`" for name in names)
        raise DataError(error.message, hint=f"the columns of `{path}`: {listed}") from error


def _records(path: Path) -> Iterator[Record | Rejected]:
    """The rows of a table, or of plain text the lines."""
    found = read_records(path)
    first = next(found, None)
    if isinstance(first, Rejected) and first.reason == PLAIN_TEXT and path.is_file():
        return _lines(path)
    return chain(() if first is None else (first,), found)


def _lines(path: Path) -> Iterator[Record | Rejected]:
    for one in file_lines(path):
        if isinstance(one, Rejected):
            yield one
        else:
            yield Record(f"{path.name}{one.key}", {DOCUMENT_TEXT: one.text})
