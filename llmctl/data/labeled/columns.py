"""Columns by name and by what they hold -> which is the text and which the label.

Names are believed before contents. Where nothing tells two columns apart, none is chosen.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from llmctl.data.formats.rows import FACT_NAMES
from llmctl.data.labeled.table import Record, Table, is_blank
from llmctl.errors import ConfigError, DataError
from llmctl.registry import suggest

MOST_CLASSES = 150
LONGEST_LABEL = 80  # characters
# The most telling names first. A column may bear one as a part: `airline_sentiment`.
LABEL_NAMES = (
    "label labels class target category sentiment intent topic tag emotion stance polarity "
    "is_spam spam toxic language lang genre score rating stars y gold"
).split()
TEXT_NAMES = (
    "text sentence review message tweet comment utterance query question q content body document "
    "post sms prompt input headline title description summary subject email transcript phrase"
).split()
# Texts that belong together: what is asked of the one cannot be known without the other.
PAIRS = (
    ("title", "description"),
    ("title", "text"),
    ("title", "body"),
    ("title", "content"),
    ("headline", "description"),
    ("headline", "body"),
    ("subject", "body"),
    ("subject", "message"),
    ("subject", "text"),
    ("summary", "text"),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
)
NO_PROSE = re.compile(r"[\s\d.,:;/%$€£()eE+-]*|\S+://\S+|\S+@\S+")
FREE_TEXT_LENGTH, FREE_TEXT_DISTINCT = 12, 0.5
JOINER = "+"
SAMPLE = 5_000  # rows that are looked at
NO_RANK = 10_000
NUMERALS = {str(number) for number in range(MOST_CLASSES + 1)}


@dataclass(frozen=True, slots=True)
class ClassColumns:
    """The columns of the text, which are joined by line ends, and the column of the label."""

    texts: tuple[str, ...]
    label: str

    @property
    def text_column(self) -> str:
        """The columns of the text as one name, which `--text-column` takes again."""
        return JOINER.join(self.texts)

    def text(self, values: Mapping[str, Any]) -> str:
        """The text of a row, empty where it has none."""
        return read_text(values, self.texts)


class Column:
    """A column, seen through the values that it holds in a sample of the rows."""

    def __init__(self, name: str, records: Sequence[Record]) -> None:
        self.name = name
        # From all over the file: many are sorted by label.
        sample = records[:: max(1, len(records) // SAMPLE)]
        self.rows = len(sample)
        cells = (cell(record.values, name) for record in sample)
        self.values = [value for value in cells if not is_blank(value)]

    @cached_property
    def written(self) -> list[str]:
        """The values as text, without those that hold other values."""
        return [label for value in self.values if (label := label_of(value)) is not None]

    @cached_property
    def distinct(self) -> int:
        """How many different values there are."""
        return len({*self.written})

    @cached_property
    def prose(self) -> float:
        """The mean length of the values as texts; numbers, dates and addresses have none."""
        return fmean(map(_prose, self.values)) if self.values else 0.0

    @property
    def is_text(self) -> bool:
        """Does every value read as text?"""
        return bool(self.values) and all(isinstance(value, str) for value in self.values)

    @property
    def is_prose(self) -> bool:
        """Does every value read as text, and not all as numbers, dates and addresses?"""
        return self.is_text and self.prose > 0

    @property
    def is_free_text(self) -> bool:
        """Do people write here what they like: long, and seldom the same twice?"""
        is_long = self.prose >= FREE_TEXT_LENGTH
        return is_long and self.distinct >= FREE_TEXT_DISTINCT * len(self.values)

    @property
    def may_be_label(self) -> bool:
        """Few short values, each several times, in most rows."""
        if not 2 <= self.distinct <= min(MOST_CLASSES, self.rows // 2):
            return False
        is_short = all(len(value) <= LONGEST_LABEL and "\n" not in value for value in self.written)
        is_filled = len(self.written) >= 0.5 * self.rows
        return is_short and is_filled and not any(_has_fraction(value) for value in self.values)


def find_columns(
    table: Table, *, text_column: str | None = None, label_column: str | None = None
) -> ClassColumns:
    """The columns to read; raises DataError where there are none, ConfigError for a wrong name."""
    fields = inner_names(table.records)
    known = (*table.names, *table.sparse, *fields)
    columns = [Column(name, table.records) for name in table.names]
    inner = [Column(name, table.records) for name in fields]
    texts = named_columns(text_column, known, "--text-column") if text_column else ()
    if label_column is not None:
        label = named_columns(label_column, known, "--label-column")[0]
    else:
        offered = [*columns, *_inner_labels(columns, inner)]
        label = _guess_label([one for one in offered if one.name not in texts], table)
    if not texts:
        offered = columns if any(one.is_prose for one in columns) else [*columns, *inner]
        texts = _guess_texts([one for one in offered if one.name != label], label)
    if label in texts:
        raise ConfigError(
            f"`{label}` cannot be both the text and the label", hint="name two different columns"
        )
    return ClassColumns(texts, label)


def inner_names(records: Sequence[Record]) -> tuple[str, ...]:
    """The fields of objects that stand in cells, as `--text-column` takes them: `ticket.body`."""
    names: dict[str, None] = {}
    for record in records[:SAMPLE]:
        for name, value in record.values.items():
            names |= dict.fromkeys(_fields(name, value))
    return tuple(names)


def _fields(name: str, value: Any) -> Iterator[str]:
    for key, held in value.items() if isinstance(value, dict) else ():
        yield from [*_fields(f"{name}.{key}", held)] or [f"{name}.{key}"]


def cell(values: Mapping[str, Any], name: str) -> Any:
    """What stands in a column, or in a field of an object there.

    >>> cell({"ticket": {"body": "Where is it?"}}, "ticket.body")
    'Where is it?'
    """
    if name in values:
        return values[name]
    held: Any = values
    for key in name.split("."):
        held = held.get(key) if isinstance(held, Mapping) else None
    return held


def find_text_columns(records: Sequence[Record], wanted: str | None = None) -> tuple[str, ...]:
    """The columns of the text in rows without labels: `wanted` if they have it, else guessed.

    `wanted` is the `text_column` that a classifier was trained on.
    """
    names = tuple(dict.fromkeys(name for one in records for name in one.values))
    inner = inner_names(records)
    if wanted in (*names, *inner):
        return (wanted,)
    parts = tuple(part.strip() for part in (wanted or "").split(JOINER))
    if {*parts} <= {*names, *inner}:
        return parts
    columns = [Column(name, records) for name in names]
    if not any(one.is_prose for one in columns):
        columns += [Column(name, records) for name in inner]
    return _guess_texts(columns, label=None)


def named_columns(named: str, known: Sequence[str], flag: str) -> tuple[str, ...]:
    """The columns that a user named, several joined by `+`; raises ConfigError for one unknown."""
    if named in known:
        return (named,)
    names = tuple(part.strip() for part in named.split(JOINER))
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no column `{name}`, which `{flag}` names", hint=suggest(name, known)
            )
    return names


def read_text(values: Mapping[str, Any], names: Iterable[str]) -> str:
    """The filled columns of a text, joined by line ends."""
    cells = (cell(values, name) for name in names)
    parts = (label_of(one) for one in cells if not is_blank(one))
    return "\n".join(part for part in parts if part)


def label_of(value: Any) -> str | None:
    """A value as a label: without blanks around it, `1.0` as `1`, a list of one as that one.

    None for what is no single value.
    """
    match value:
        case str():
            return value.strip()
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else str(value)
        case [one]:
            return label_of(one)
        case _:
            return None


def _guess_label(columns: Sequence[Column], table: Table) -> str:
    likely = [column for column in columns if column.may_be_label]
    named = [column.name for column in likely if rank(column.name, LABEL_NAMES) < NO_RANK]
    if named:
        return _with_names(
            min(named, key=lambda name: rank(name, LABEL_NAMES)), likely, table.records
        )
    exact = [column.name for column in columns if column.name.lower() in LABEL_NAMES[:4]]
    if exact:  # though it does not look like one: what is wrong with it can be said
        return exact[0]
    # Beside a text, whatever has few values is the label; facts about the row come last.
    plain = [one for one in likely if one.name.lower() not in FACT_NAMES] or likely
    short = [one for one in plain if not one.is_free_text]
    if len(short) == 1:
        return short[0].name
    if short:
        listed = ", ".join(f"`{one.name}` ({one.distinct} values)" for one in short)
        raise DataError(
            f"several columns may hold the label: {listed}", hint="choose with `--label-column`"
        )
    raise _no_label(columns, table)


def _inner_labels(columns: Sequence[Column], inner: Sequence[Column]) -> Sequence[Column]:
    """The fields of objects that may be the label: those called so, any where no column may."""
    named = [one for one in inner if rank(one.name, LABEL_NAMES) < NO_RANK and one.may_be_label]
    return named if named or any(one.may_be_label for one in columns) else inner


def _with_names(label: str, likely: Sequence[Column], records: Sequence[Record]) -> str:
    """The column that says in words what `label` says in numbers, if there is one beside it."""
    if not all(label_of(cell(one.values, label)) in NUMERALS for one in records[:SAMPLE]):
        return label
    for column in likely:
        pairs = {(label_of(cell(v, label)), label_of(cell(v, column.name))) for _, v in records}
        firsts, seconds = {first for first, _ in pairs}, {second for _, second in pairs}
        is_words = any(second and not second.isdecimal() for second in seconds)
        if is_words and len(pairs) == len(firsts) == len(seconds):
            return column.name
    return label


def _no_label(columns: Sequence[Column], table: Table) -> DataError:
    empty = next((name for name in table.sparse if rank(name, LABEL_NAMES) < NO_RANK), None)
    if empty is not None:
        filled = table.sparse[empty]
        state = f"filled in {filled:,} of {len(table.records):,} rows" if filled else "empty"
        return DataError(
            f"there are texts and no labels: the column `{empty}` is {state}",
            hint="fill it in, or name another with `--label-column`; texts alone are learnt "
            "by `llmctl pretrain --base MODEL`",
        )
    held = ", ".join(f"`{one.name}` ({one.distinct:,} different values)" for one in columns[:10])
    if len(columns) <= 1:
        return DataError(
            f"there are texts and no labels: the only column is {held}",
            hint="a model learns from unlabelled text by `llmctl pretrain --base MODEL`",
        )
    return DataError(
        f"no column looks like a label, which has 2 to {MOST_CLASSES} values: {held}",
        hint="name it with `--label-column`; answers are for `llmctl finetune instruct`, "
        "unlabelled text for `llmctl pretrain --base MODEL`",
    )


def _guess_texts(columns: Sequence[Column], label: str | None) -> tuple[str, ...]:
    texts = [column for column in columns if column.is_text]
    by_name = {column.name.lower(): column.name for column in texts}
    for pair in PAIRS:
        if by_name.keys() >= {*pair}:
            return tuple(by_name[name] for name in pair)
    prose = [column for column in texts if column.prose]
    named = [column for column in prose if rank(column.name, TEXT_NAMES) < NO_RANK]
    if named:
        return (min(named, key=lambda one: rank(one.name, TEXT_NAMES)).name,)
    free = [column.name for column in prose if column.is_free_text]
    if len(free) > 1 and all(name.isdecimal() for name in free):
        return tuple(free)
    chosen = max(prose or texts, key=lambda one: (one.prose, one.distinct), default=None)
    if chosen is None:
        listed = ", ".join(f"`{column.name}`" for column in columns) or "nothing"
        beside = f" beside the label `{label}`" if label is not None else ""
        raise DataError(
            f"there is no column of text{beside}: {listed}",
            hint="name the column of the text with `--text-column`",
        )
    return (chosen.name,)


def rank(name: str, names: Sequence[str]) -> int:
    """How telling a name is: one of the list, else one that ends in it, else one that has it."""
    whole = name.strip().lower()
    if whole in names:
        return names.index(whole)
    words = re.split(r"[\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    last = [100 + names.index(word) for word in words[-1:] if word in names]
    inner = [1000 + names.index(word) for word in words[:-1] if word in names]
    return min((*last, *inner), default=NO_RANK)


def _prose(value: Any) -> int:
    if not isinstance(value, str) or NO_PROSE.fullmatch(value.strip()):
        return 0
    return 0 if value.isascii() and len(value.split(None, 1)) < 2 else len(value)


def _has_fraction(value: Any) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(r"[+-]?\d*\.\d*[1-9]\d*", value.strip()))
    return isinstance(value, float) and not value.is_integer()
