"""A file of rows, or a folder per label -> records that say where they stand.

The readers are those of `data/formats`. Added here is what labelled data needs: rows are found
whatever a file is called, documents below a folder carry its name as their label, and columns
that hold nothing are told from those that do.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from llmctl.data.document import Rejected
from llmctl.data.formats import ROWS
from llmctl.data.formats.delimited import find_layout, tsv_rows
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.json_rows import value_rows
from llmctl.data.formats.names import is_hidden, stem
from llmctl.data.formats.opening import contained, format_of, open_items, told
from llmctl.data.formats.passage import Item, Stream, Unreadable
from llmctl.data.formats.rows import Row
from llmctl.data.sources.listing import find_files
from llmctl.errors import DataError
from llmctl.registry import load

PLAIN_TEXT = "plain text"
TRAIN_NAME = "train"
TEST_NAMES = ("test", "eval", "dev", "validation", "valid", "val")
DOCUMENT_TEXT, DOCUMENT_LABEL = "text", "label"
SNIFFED_LINES = 50
MOST_CASES = 5
# A column of which less is filled than this is no column, but what ran over from another one.
LEAST_FILLED = 0.02
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")

RowReader = Callable[[Item], Iterator[Row | Rejected]]


class Record(NamedTuple):
    """A row of a file, or a document of a folder: where it stands (`spam.csv:12`), its values."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All records of a file or folder, and what could not be read of it.

    `names` are the columns that hold something, in their order; `sparse` those left out because
    they hold next to nothing, with the number of their values.
    """

    records: tuple[Record, ...]
    names: tuple[str, ...]
    sparse: Mapping[str, int]
    rejected: tuple[Rejected, ...]
    remarks: tuple[str, ...]


def read_table(path: Path) -> Table:
    """Everything at once; raises DataError where there are no rows.

    >>> read_table(Path("spam.csv")).names
    ('v1', 'v2')
    """
    records: list[Record] = []
    rejected: list[Rejected] = []
    said: list[Rejected] = []
    for one in read_records(path):
        if isinstance(one, Record):
            records.append(one)
        else:
            (said if one.kept else rejected).append(one)
    if not records:
        raise _nothing_read(path, rejected)
    records = _unwrapped(records)
    filled = _count_filled(records)
    if not any(filled.values()):
        raise _nothing_read(path, rejected)
    sparse = {name: count for name, count in filled.items() if count < LEAST_FILLED * len(records)}
    remarks = [f"{one.where}: {one.reason}, {one.detail}" for one in said]
    plain = [one for one in rejected if one.reason == PLAIN_TEXT]
    if plain:
        remarks.append(f"files of plain text left out: {len(plain)} (the first: {plain[0].where})")
    if sparse:
        listed = ", ".join(f"`{name}` ({count:,})" for name, count in sparse.items())
        remarks.append(f"columns left out because they are nearly empty: {listed}")
    return Table(
        records=tuple(records),
        names=tuple(name for name in filled if name not in sparse),
        sparse=sparse,
        rejected=tuple(one for one in rejected if one.reason != PLAIN_TEXT),
        remarks=tuple(remarks),
    )


def read_records(path: Path) -> Iterator[Record | Rejected]:
    """The rows of a file of any size, one after another, or the documents of a folder.

    Raises DataError where there is no such file.
    """
    root = path.expanduser()
    name = root.name or root.resolve().name
    for found in find_files((str(path),), name):
        shown = found.id if root.is_dir() else found.id.removeprefix(f"{name}/")
        for item in contained(open_items(Path(found.path), shown), shown, found.bytes):
            if isinstance(item, Rejected):
                yield item
            else:
                yield from _records(item)


def _nothing_read(path: Path, rejected: Sequence[Rejected]) -> DataError:
    """Why a file gave no rows: it is plain text, or the first problems by line."""
    if any(one.reason == PLAIN_TEXT for one in rejected):
        return DataError(
            f"`{path}` is plain text without labels",
            hint="a model learns from plain text by `llmctl pretrain --base MODEL`; here a table "
            "is needed (csv, tsv, jsonl, json, parquet, arrow), or a folder for each label",
        )
    if not rejected or all(one.reason == "empty" for one in rejected):
        return DataError(f"`{path}` is empty", hint="it holds no rows: give another file")
    told = cases(rejected)
    return DataError(f"no row of `{path}` can be read: {told}", hint="look at these lines")


def find_given_splits(path: Path) -> tuple[Path, Path | None, str]:
    """Where a folder holds a `train` and a `test`: both, and what to say of it; else the path.

    The evaluation files of others serve as the test where there is no other.
    """
    folder = path.expanduser()
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    by_name = {stem(one.name).lower(): one for one in entries if not is_hidden(one.name)}
    test = next((name for name in TEST_NAMES if name in by_name), None)
    if TRAIN_NAME not in by_name or test is None:
        return path, None, ""
    others = [f"`{one.name}`" for name, one in by_name.items() if name not in (TRAIN_NAME, test)]
    said = f"`{by_name[TRAIN_NAME].name}` is the training, `{by_name[test].name}` the test"
    left = f"; left out: {', '.join(others)}" if others else ""
    return by_name[TRAIN_NAME], by_name[test], said + left


def cases(rejected: Sequence[Rejected]) -> str:
    """The first rejects as a person reads them, and how many more there are."""
    listed = "; ".join(describe(one) for one in rejected[:MOST_CASES])
    more = len(rejected) - MOST_CASES
    return f"{listed}; and {more:,} more" if more > 0 else listed


def cases_by_reason(rejected: Iterable[Rejected]) -> dict[str, list[str]]:
    """The first few places of each reason."""
    found: dict[str, list[str]] = {}
    for one in rejected:
        listed = found.setdefault(one.reason, [])
        if len(listed) < MOST_CASES:
            listed.append(f"{one.where} ({one.detail})" if one.detail else one.where)
    return found


def describe(rejected: Rejected) -> str:
    """One reject: its place, the reason and the detail."""
    detail = f" ({rejected.detail})" if rejected.detail else ""
    return f"{rejected.where}: {rejected.reason}{detail}"


def _unwrapped(records: list[Record]) -> list[Record]:
    """The rows within the one value of a JSON file: a list of them, or a column each.

    `{"data": [{…}, …]}`, `{"text": […], "label": […]}`, and `{"text": {"0": …}, …}` as pandas
    writes it.
    """
    if len(records) != 1:
        return records
    where, values = records[0]
    name = where.rpartition(":")[0]
    columns = {key: [*held.values()] for key, held in values.items() if isinstance(held, dict)}
    columns |= {key: held for key, held in values.items() if isinstance(held, list)}
    sizes = {len(held) for held in columns.values()}
    rows: Sequence[Any] = ()
    if len(columns) == len(values) > 1 and len(sizes) == 1 and not _has_objects(columns):
        cells = zip(*columns.values(), strict=True)
        rows = [dict(zip(columns, row, strict=True)) for row in cells]
    elif len(lists := [held for held in columns.values() if _is_rows(held)]) == 1:
        (rows,) = lists
    found = [Record(f"{name}:{number}", row) for number, row in enumerate(rows, 1)]
    return found if len(found) > 1 else records


def _has_objects(columns: Mapping[str, list[Any]]) -> bool:
    return any(isinstance(cell, dict | list) for held in columns.values() for cell in held)


def _is_rows(held: Sequence[Any]) -> bool:
    """Are these rows, and not the messages of one conversation?"""
    objects = [one for one in held if isinstance(one, dict)]
    is_talk = any(key in one for one in objects for key in ("role", "from", "replies"))
    return len(objects) == len(held) > 1 and not is_talk


def _count_filled(records: Sequence[Record]) -> dict[str, int]:
    filled: dict[str, int] = {}
    for record in records:
        for name, value in record.values.items():
            filled[name] = filled.get(name, 0) + (not is_blank(value))
    return filled


def is_blank(value: Any) -> bool:
    """Is there nothing in a cell? Also not a number, which is how tables write nothing."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value != value or value == [] or value == {}


def _records(item: Item) -> Iterator[Record | Rejected]:
    kept = lost = 0
    for one in contained(_read(item), item.name, item.bytes):
        if isinstance(one, Record):
            kept += 1
        else:
            lost += not one.kept
        yield one
    yield from told(item, kept, lost)


def _read(item: Item) -> Iterator[Record | Rejected]:
    if not item.stream.head:
        return
    rows = _rows_of(item)
    if rows is None:
        yield _document(item)
        return
    for row in rows(item):
        if isinstance(row, Rejected):
            yield row
        else:
            yield Record(f"{item.name}:{row.place}", row.values)


def _rows_of(item: Item) -> RowReader | None:
    """The reader for the rows of an item; None where it holds none but is a text."""
    head = item.stream.head
    if head.startswith(WORKBOOKS):
        raise Unreadable("a workbook or another packed file", "save the sheet as CSV")
    named = format_of(item)
    if named in ROWS:
        return load(ROWS[named])
    sample = _sample(head)
    if _begins_json(sample):
        return value_rows
    return tsv_rows if _is_delimited(sample) else None


def _sample(head: bytes) -> list[str]:
    """The first whole lines."""
    text = "".join(Decoded(Stream(iter([head]))))
    lines = text.splitlines(keepends=True)
    whole = lines[:-1] if len(lines) > 1 and len(lines) <= SNIFFED_LINES else lines
    return [line for line in whole[:SNIFFED_LINES] if not line.isspace()]


def _begins_json(sample: Sequence[str]) -> bool:
    text = "".join(sample).lstrip()
    if text.startswith("["):
        return text[1:].lstrip().startswith("{")
    try:
        return isinstance(json.loads(sample[0]), dict) if sample else False
    except ValueError:
        return False


def _is_delimited(sample: Sequence[str]) -> bool:
    """Does every line have the same columns: by tabs, or below a header by another delimiter?"""
    if len(sample) < 2:  # one line with commas is a sentence
        return False
    layout = find_layout(sample, "\t,;|")
    counts = {line.count(layout.delimiter) for line in sample}
    is_even = len(counts) == 1 and 0 not in counts
    return is_even and (layout.delimiter == "\t" or layout.has_header)


def _document(item: Item) -> Record | Rejected:
    parts = PurePath(item.name).parts
    text = "".join(Decoded(item.stream))
    if len(parts) < 3:
        return Rejected(where=item.name, reason=PLAIN_TEXT, bytes=item.bytes)
    return Record(item.name, {DOCUMENT_TEXT: text, DOCUMENT_LABEL: parts[-2]})
