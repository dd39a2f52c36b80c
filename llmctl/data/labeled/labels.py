"""Rows of a table -> texts with labels: spellings made one, doubles and contradictions removed.

What is taken out is counted and, where a person should look at it, listed.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmctl.data.document import Rejected
from llmctl.data.formats.mending import mend, replace_surrogates
from llmctl.data.labeled.columns import ClassColumns, cell, label_of
from llmctl.data.labeled.splits import normal_form, side_form
from llmctl.data.labeled.table import Record, is_blank

MOST_CONFLICTS = 100
# What data sets call their texts without a label, such as a folder of IMDb's, and what pandas,
# databases and Excel write into an empty cell.
UNLABELLED = ("unsup", "unlabeled", "unlabelled", "nan", "<na>", "null", "#n/a")
WHOLE_FLOAT = re.compile(r"([+-]?\d+)\.0+")


class Labelled(NamedTuple):
    """A text and the name of its class; `where` says where it stands: `spam.csv:12`."""

    where: str
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A text that bears several labels: how often each, where, and what became of it."""

    text: str
    labels: dict[str, int]
    rows: list[str]
    kept: str | None


def read_labels(
    records: Iterable[Record], columns: ClassColumns
) -> tuple[list[Labelled], list[Rejected]]:
    """The rows that have both a text and a label, and those that lack one."""
    rows: list[Labelled] = []
    rejected: list[Rejected] = []
    for where, values in records:
        text, _ = mend(replace_surrogates(columns.text(values)))
        value = cell(values, columns.label)
        label = None if is_blank(value) else label_of(value)
        if is_blank(value):
            rejected.append(_rejected(where, "no label", columns.label))
        elif not label:
            detail = f"`{columns.label}` holds {type(value).__name__}, not one label"
            rejected.append(Rejected(where=where, reason="no single label", detail=detail))
        elif normal_form(label) in UNLABELLED:
            rejected.append(Rejected(where=where, reason="no label", detail=f"`{label}`"))
        elif not text.strip():
            rejected.append(_rejected(where, "no text", columns.text_column))
        else:
            rows.append(Labelled(where, text.strip(), replace_surrogates(label)))
    return rows, rejected


def unify_spellings(
    rows: Sequence[Labelled], known: Iterable[str] = ()
) -> tuple[list[Labelled], dict[str, str]]:
    """The rows with one spelling a class, and what was changed: ` SPAM` and `spam` are one label.

    The spelling is that of `known`, else the most frequent one. `1.0` is `1` where all are so.
    """
    counts = Counter(row.label for row in rows)
    whole = all(WHOLE_FLOAT.fullmatch(label) for label in counts)
    spellings = dict.fromkeys(known, 0) | (
        {} if whole else {label: -times for label, times in sorted(counts.items())}
    )
    chosen: dict[str, str] = {}
    for label in sorted(spellings, key=lambda one: spellings[one]) if not known else spellings:
        chosen.setdefault(normal_form(label), label)
    meant = {
        label: chosen.get(normal_form(plain), plain)
        for label in counts
        for plain in [WHOLE_FLOAT.sub(r"\1", label) if whole else label]
    }
    changed = {label: name for label, name in meant.items() if label != name}
    return [row._replace(label=meant[row.label]) for row in rows], changed


def drop_duplicates(rows: Sequence[Labelled]) -> tuple[list[Labelled], int]:
    """Each text with its label once, the first, and how many others there were."""
    first: dict[tuple[str, str], Labelled] = {}
    for row in rows:
        first.setdefault((row.text, row.label), row)
    return list(first.values()), len(rows) - len(first)


def settle_conflicts(rows: Sequence[Labelled]) -> tuple[list[Labelled], list[Conflict]]:
    """The rows without contradictions, and these.

    Of a text with several labels, the label of most of its rows holds; a tie takes them all out.
    """
    labels: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        labels[normal_form(row.text)].append(row)
    conflicts: list[Conflict] = []
    dropped: set[str] = set()
    for members in labels.values():
        counts = Counter(row.label for row in members)
        if len(counts) == 1:
            continue
        (label, most), (_, second) = counts.most_common(2)
        kept = label if most > second else None
        places = [row.where for row in members]
        conflicts.append(Conflict(members[0].text, dict(counts), places, kept))
        dropped |= {row.where for row in members if row.label != kept}
    return [row for row in rows if row.where not in dropped], conflicts


def drop_leaks(rows: Sequence[Labelled], held: Iterable[Labelled]) -> tuple[list[Labelled], int]:
    """The rows whose text does not stand in the test as well, and how many did."""
    seen = {side_form(row.text) for row in held}
    kept = [row for row in rows if side_form(row.text) not in seen]
    return kept, len(rows) - len(kept)


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The names of classes in a stable order: numbers by value, all else by letters."""
    names = sorted(labels)
    try:
        return tuple(sorted(names, key=int))
    except ValueError:
        return tuple(names)


def _rejected(where: str, reason: str, column: str) -> Rejected:
    return Rejected(where=where, reason=reason, detail=f"`{column}` is empty")
