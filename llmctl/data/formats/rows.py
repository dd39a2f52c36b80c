"""Rows with named values -> passages: which column holds the text, and what stands beside it.

JSON, CSV and tables end here. Only the text and its provenance are kept; labels, scores and
answers are not text to learn from, and that they were left out is said.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from statistics import fmean
from typing import Any, NamedTuple

from llmctl.data.document import Rejected
from llmctl.data.formats.mending import replace_surrogates
from llmctl.data.formats.passage import Item, Options, Passage, Unreadable, remark
from llmctl.data.formats.times import iso_time

SAMPLE_ROWS, SAMPLE_CHARS = 100, 2**20
TEXT_NAMES = ("text", "content", "body", "document")
FACT_NAMES = {
    "id": "id",
    "title": "title",
    "url": "url",
    "licence": "licence",
    "license": "licence",
    "time": "time",
    "date": "time",
    "created": "time",
    "timestamp": "time",
}
LABEL_WORDS = frozenset(
    "label labels category class target sentiment intent rating instruction instructions prompt "
    "question response completion output answer answers chosen rejected messages "
    "conversations".split()
)
MOST_NAMES = 20
NUMBER = re.compile(r"[\s\d.,:;/%$€£()eE+-]*")


class Row(NamedTuple):
    """One record, and its place: the line that it begins in, or its number in a file without lines.

    Both count from 1.
    """

    place: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """What the names mean: the text, the facts beside it (theirs -> ours), and labels."""

    names: tuple[str, ...]
    text: str
    facts: Mapping[str, str]
    labels: tuple[str, ...]

    def remarks(self, item: Item, options: Options) -> Iterator[Rejected]:
        """What was chosen and what was left out, to be said once a file."""
        if options.text_column is None and len(self.names) > 1:
            yield remark(item, "text column", f"`{self.text}` of {_listed(self.names)}")
        if self.labels:
            yield remark(item, "labels left out", f"{_listed(self.labels)}: see `finetune`")


def passages_of(
    rows: Iterable[Row | Rejected], item: Item, options: Options
) -> Iterator[Passage | Rejected]:
    """The rows as passages, their columns found by a sample; raises Unreadable without a text."""
    rows = iter(rows)
    while sample := list(_sampled(rows)):
        values = [one.values for one in sample if not isinstance(one, Rejected)]
        if values:
            columns = choose(values, options)
            yield from columns.remarks(item, options)
            yield from passages(chain(sample, rows), columns, item, options)
        else:
            yield from (one for one in sample if isinstance(one, Rejected))


def choose(sample: Sequence[Mapping[str, Any]], options: Options) -> Columns:
    """Which columns to read: the wanted one, else a usual name, else that with the longest texts.

    Raises Unreadable where there is none.
    """
    wanted = options.text_column
    names = tuple(dict.fromkeys(name for values in sample for name in values))
    facts = {name: FACT_NAMES[name.lower()] for name in names if name.lower() in FACT_NAMES}
    text = wanted if wanted is not None else _guess(sample, names)
    if text not in names:
        reason = "no text column" if wanted is None else f"no column `{wanted}`"
        strings = [one for one in names if any(isinstance(row.get(one), str) for row in sample)]
        if not strings:
            raise Unreadable(reason, f"no column holds strings: {_listed(names)}")
        raise Unreadable(reason, f"name one with `--text-column`: {_listed(strings)}")
    facts.pop(text, None)
    others = [{name: one for name, one in row.items() if name not in facts} for row in sample]
    label = options.find_label(others, text) if options.find_label else None
    labels = tuple(one for one in names if one != text and (one == label or _is_label(one)))
    return Columns(names, text, facts, labels)


def passages(
    rows: Iterable[Row | Rejected], columns: Columns, item: Item, options: Options
) -> Iterator[Passage | Rejected]:
    """The text of each row, split as asked, with the facts beside it."""
    spoilt = 0
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        place, values = row
        text = values.get(columns.text)
        if not isinstance(text, str):
            detail = f"`{columns.text}` holds no string"
            yield Rejected(where=f"{item.name}:{place}", reason="no text", detail=detail)
            continue
        whole = replace_surrogates(text)
        spoilt += whole is not text
        facts = _facts(values, columns.facts)
        for key, piece in options.split((whole,)):
            yield Passage(f":{place}{key}", piece, facts)
    if spoilt:
        yield remark(item, "replaced lone surrogates", f"rows: {spoilt}")


def _sampled(rows: Iterator[Row | Rejected]) -> Iterator[Row | Rejected]:
    size = 0
    for row in islice(rows, SAMPLE_ROWS):
        yield row
        if not isinstance(row, Rejected):
            size += sum(len(value) for value in row.values.values() if isinstance(value, str))
        if size > SAMPLE_CHARS:
            return


def _guess(sample: Sequence[Mapping[str, Any]], names: Iterable[str]) -> str | None:
    by_name = {name.lower(): name for name in names}
    for usual in TEXT_NAMES:
        if usual in by_name and any(isinstance(one.get(by_name[usual]), str) for one in sample):
            return by_name[usual]
    lengths = {
        name: fmean(_prose_length(values.get(name)) for values in sample)
        for name in names
        if name.lower() not in FACT_NAMES
    }
    return max(filter(lengths.get, lengths), key=lengths.__getitem__, default=None)


def _prose_length(value: Any) -> int:
    """The length of a text; identifiers, addresses, numbers and dates are none."""
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return 0
    return 0 if value.isascii() and len(value.split(None, 1)) < 2 else len(value)


def _is_label(name: str) -> bool:
    return not LABEL_WORDS.isdisjoint(re.split(r"[\W_]+", name.lower()))


def _facts(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for theirs, ours in names.items():
        value = values.get(theirs)
        fact = iso_time(value) if ours == "time" else _written(value)
        if fact:
            facts[ours] = fact
    return facts


def _written(value: Any) -> str:
    if isinstance(value, str):
        return replace_surrogates(value)
    return str(value) if isinstance(value, int | float) else ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} … ({len(names)})"
