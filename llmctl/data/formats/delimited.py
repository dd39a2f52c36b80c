"""CSV and TSV -> passages: the delimiter, the quoting and the header are found by a sample.

A quote that nobody closes would swallow all rows up to the next one; here it costs the line
that it stands in.
"""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from statistics import fmean

from llmctl.data.document import Rejected
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.passage import Item, Options, Passage, remark
from llmctl.data.formats.rows import FACT_NAMES, LABEL_WORDS, TEXT_NAMES, Row, passages_of
from llmctl.data.formats.splitting import LONGEST, lines, utf8_size

SAMPLE_LINES, SAMPLE_CHARS = 200, 2**18
KNOWN_NAMES = {*TEXT_NAMES, *FACT_NAMES, *LABEL_WORDS}
NAME = re.compile(r"[^\W\d][\w .()/#-]{0,39}")
# How a spreadsheet is told the delimiter, and how many lines of titles an export puts on top.
TOLD_DELIMITER = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
MOST_TITLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a file is written: its delimiter, whether `"` quotes, and the names of its columns."""

    delimiter: str
    has_quotes: bool
    names: tuple[str, ...]
    has_header: bool


def read_csv(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """One passage a row."""
    return passages_of(csv_rows(item, options.encoding), item, options)


def read_tsv(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """One passage a row."""
    return passages_of(tsv_rows(item, options.encoding), item, options)


def csv_rows(item: Item, encoding: str | None = None) -> Iterator[Row | Rejected]:
    """The rows of a file with a comma or another delimiter."""
    return _read(item, encoding, ",;\t|")


def tsv_rows(item: Item, encoding: str | None = None) -> Iterator[Row | Rejected]:
    """The rows of a file with a tab or another delimiter."""
    return _read(item, encoding, "\t,;|")


def find_layout(sample: Sequence[str], delimiters: str = ",;\t|") -> Layout:
    """How the sampled lines are written; of delimiters that fit alike, the first."""
    fits = {one: _fit(sample, one, has_quotes=_has_quotes(sample, one)) for one in delimiters}
    delimiter = max(fits, key=fits.__getitem__)
    has_quotes = _has_quotes(sample, delimiter)
    rows = _parsed(sample, delimiter, has_quotes=has_quotes)
    has_header = bool(rows) and _is_header(rows[0], rows[1:])
    return Layout(
        delimiter=delimiter,
        has_quotes=has_quotes,
        has_header=has_header,
        names=_named(rows[0]) if has_header else _numbered(rows),
    )


def _read(item: Item, encoding: str | None, delimiters: str) -> Iterator[Row | Rejected]:
    source = Decoded(item.stream, encoding=encoding)
    all_lines = lines(source)
    sample = list(_sampled(all_lines))
    told = TOLD_DELIMITER.fullmatch(sample[0]) if sample else None
    delimiters = told[1] if told else delimiters
    above = 1 if told else _titles(sample, delimiters)
    layout = find_layout(sample[above:], delimiters)
    feed = _Feed(chain(sample[above:], all_lines), line=1 + above)
    yield from _rows(feed, layout, item.name)
    if above:
        yield remark(item, "lines above the table", " ".join("".join(sample[:above]).split()))
    if not layout.has_header:
        yield remark(item, "no header", f"columns are numbered 1 to {len(layout.names)}")
    yield from source.remarks(item)


class _Feed:
    """Lines for a reader of records, which remembers those of the record being read."""

    def __init__(self, fresh: Iterator[str], *, line: int) -> None:
        self.line = line  # of the file, where the record begins
        self.record: list[str] = []
        self._fresh = fresh
        self._again: deque[str] = deque()
        self._old = 0  # lines of the record that were given out before

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.popleft()
            self._old += 1
        else:
            line = next(self._fresh)
        self.record.append(line)
        return line

    def start_record(self) -> None:
        """Forget the record, whatever became of it."""
        self.line += len(self.record)
        self.record, self._old = [], 0

    def return_tail(self) -> None:
        """Give out the record's lines again, but for the first and those that came again already.

        So no line is read more than twice, whatever the quotes in a file.
        """
        kept = max(1, self._old)
        self._again.extendleft(reversed(self.record[kept:]))
        del self.record[kept:]


def _rows(feed: _Feed, layout: Layout, name: str) -> Iterator[Row | Rejected]:
    csv.field_size_limit(LONGEST)  # the module has one limit, for all its readers
    reader = _records(feed, layout.delimiter, has_quotes=layout.has_quotes)
    is_header = layout.has_header
    for cells in _cells(reader):
        problem = _problem(feed.record, cells, len(layout.names))
        if problem:
            feed.return_tail()
            size = sum(map(utf8_size, feed.record))
            yield Rejected(where=f"{name}:{feed.line}", reason=problem, bytes=size)
        elif cells and not is_header:
            yield Row(feed.line, dict(zip(layout.names, cells, strict=False)))
        feed.start_record()
        is_header = is_header and cells == []


def _cells(reader: Iterator[list[str]]) -> Iterator[list[str] | None]:
    """The cells of each record, none for a blank line; None where csv gives up."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


def _problem(record: Sequence[str], cells: Sequence[str] | None, width: int) -> str:
    if cells == []:
        return ""
    fits = cells is not None and len(cells) >= width and not any(cells[width:])
    if len(record) > 1 and (not fits or "".join(record).count('"') % 2):
        return "unclosed quote"
    if cells is None:
        return "field too long"
    return "" if fits else "wrong number of columns"


def _sampled(all_lines: Iterator[str]) -> Iterator[str]:
    size = 0
    for line in islice(all_lines, SAMPLE_LINES):
        yield line
        size += len(line)
        if size > SAMPLE_CHARS:
            return


def _titles(sample: Sequence[str], delimiters: str) -> int:
    """How many lines stand above the header: of one filled cell each, where the table has more.

    A spreadsheet gives them as many cells as the table has; else usual names tell the header.
    """
    for above in range(1, min(MOST_TITLES, len(sample) - 2) + 1):
        layout = find_layout(sample[above:], delimiters)
        titles = _parsed(sample[:above], layout.delimiter, has_quotes=layout.has_quotes)
        filled = [[cell.strip() for cell in cells if cell.strip()] for cells in titles]
        if any(len(cells) > 1 or {*map(str.lower, cells)} & KNOWN_NAMES for cells in filled):
            return 0
        width = len(layout.names)
        is_wide = all(len(cells) == width for cells in titles)
        is_known = any(name.lower() in KNOWN_NAMES for name in layout.names)
        is_named = layout.has_header and not any(map(str.isdecimal, layout.names))
        if any(filled) and width > 1 and is_named and (is_wide or is_known):
            return above
    return 0


def _parsed(sample: Iterable[str], delimiter: str, *, has_quotes: bool) -> list[list[str]]:
    records = _records(sample, delimiter, has_quotes=has_quotes)
    return [cells for cells in _cells(records) if cells]


def _records(lines: Iterable[str], delimiter: str, *, has_quotes: bool) -> Iterator[list[str]]:
    quoting = csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=delimiter, quoting=quoting)


def _fit(sample: Sequence[str], delimiter: str, *, has_quotes: bool) -> float:
    """The share of rows that have as many columns as the first, 0 where that has only one."""
    widths = [len(row) for row in _parsed(sample, delimiter, has_quotes=has_quotes)]
    return fmean(one == widths[0] for one in widths) if widths and widths[0] > 1 else 0.0


def _has_quotes(sample: Sequence[str], delimiter: str) -> bool:
    """Are quotes marks of the format? With tabs they often are the text's own."""
    if delimiter != "\t":
        return True
    bare = _parsed(sample, delimiter, has_quotes=False)
    opened = [cell for row in bare for cell in row if cell.startswith('"')]
    if opened and all(len(cell) > 1 and cell.endswith('"') for cell in opened):
        return True
    return _fit(sample, delimiter, has_quotes=True) > _fit(sample, delimiter, has_quotes=False)


def _is_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Do these cells name columns? Usual names do; a number, a sentence or a value does not."""
    if any(cell.strip().lower() in KNOWN_NAMES for cell in first):
        return True
    filled = [cell.strip() for cell in first if cell.strip()]
    if len({*filled}) < len(filled) or not all(NAME.fullmatch(cell) for cell in filled):
        return False
    return not any(a == b for row in others for a, b in zip(first, row, strict=False) if a)


def _named(header: Sequence[str]) -> tuple[str, ...]:
    """The names of columns, with the number of a column for a name that is empty or not new."""
    names: list[str] = []
    for number, cell in enumerate(header, 1):
        name = cell.strip()
        names.append(name if name and name not in names else str(number))
    return tuple(names)


def _numbered(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Numbers as names, for as many columns as most rows have."""
    ((width, _),) = Counter(map(len, rows)).most_common(1) or ((0, 0),)
    return tuple(str(number) for number in range(1, width + 1))
