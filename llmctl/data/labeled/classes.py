"""A file of texts with labels -> classes in three splits, and what was assumed.

Everything that a user should know about the file stands in `facts` (numbers) and `remarks`
(sentences): which columns were read, what was dropped, which texts bear two labels.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llmctl.data.document import Rejected
from llmctl.data.labeled.columns import MOST_CLASSES, ClassColumns, find_columns, inner_names
from llmctl.data.labeled.labels import (
    MOST_CONFLICTS,
    Conflict,
    Labelled,
    drop_duplicates,
    drop_leaks,
    read_labels,
    settle_conflicts,
    sort_labels,
    unify_spellings,
)
from llmctl.data.labeled.splits import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    check_shares,
    check_sides,
    side_form,
    split,
)
from llmctl.data.labeled.table import Table, cases, cases_by_reason, find_given_splits, read_table
from llmctl.errors import DataError

# One row for each side of the split.
LEAST_ROWS = 3
MOST_LISTED = 5


@dataclass(frozen=True, slots=True)
class Example:
    """One text and the number of its class; `id` says where it stands: `spam.csv:12`."""

    id: str
    text: str
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSet:
    """Texts in classes: the names by number, the examples by split, and how they came about.

    `facts` are plain values: `text_column`, `label_column`, `classes` (rows by name), `rows` (by
    split), `duplicates_dropped`, `conflicts`, `leaks`, `rejected` (rows by reason) and `cases`
    (the first of each reason).
    """

    classes: tuple[str, ...]
    splits: dict[str, tuple[Example, ...]]
    facts: dict[str, Any]
    remarks: tuple[str, ...]


class LabelledTexts(NamedTuple):
    """Texts to judge a model by: its columns as `facts`, and what is to be said of them."""

    examples: tuple[Example, ...]
    facts: dict[str, Any]
    remarks: tuple[str, ...]


@dataclass(slots=True)
class _File:
    """What was read of one file, and what is to be said of it."""

    path: Path
    columns: ClassColumns
    rows: list[Labelled]
    rejected: list[Rejected]
    remarks: list[str]


def read_classes(  # noqa: PLR0913
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    test: Path | None = None,
    seed: int = 0,
    validation: float = 0.1,
    test_share: float = 0.2,
) -> ClassSet:
    """Read labelled texts and split them: stratified, and no text on two sides.

    With `test`, the rows of that file are the test, and what they share with `path` is taken out
    of the training. Raises DataError, with lines, for what cannot be learned from, ConfigError
    for columns or shares that make no sense.

    >>> read_classes(Path("spam.csv")).classes
    ('ham', 'spam')
    """
    said = ""
    if test is None:
        path, test, said = find_given_splits(path)
    check_shares(validation, 0.0 if test else test_share)
    file = _read(path, text_column, label_column)
    rows, conflicts = settle_conflicts(file.rows)
    rows, duplicates = drop_duplicates(rows)
    _check_labels(file, rows, conflicts)
    given = None if test is None else _read_test(test, file, {row.label for row in rows})
    rows, leaks = drop_leaks(rows, given.rows if given else ())
    shares = {VALIDATION: validation} if given else {TEST: test_share, VALIDATION: validation}
    sides = split(
        rows,
        key=lambda row: side_form(row.text),
        stratum=lambda row: row.label,
        shares=shares,
        seed=seed,
    )
    if given:
        sides[TEST] = tuple(given.rows)
    _check_train(path, sides[TRAIN], leaks)
    check_sides(sides, shares, too_few=f"`{path}` holds too few different texts ({len(rows):,})")
    classes = sort_labels({row.label for side in sides.values() for row in side})
    files = [file, given] if given else [file]
    rejected = [one for each in files for one in each.rejected]
    facts: dict[str, Any] = {
        "text_column": file.columns.text_column,
        "label_column": file.columns.label,
        "classes": _count(classes, (row for side in sides.values() for row in side)),
        "rows": {side: len(sides[side]) for side in SPLITS},
        "duplicates_dropped": duplicates,
        "conflicts": [asdict(one) for one in conflicts[:MOST_CONFLICTS]],
        "leaks": leaks,
        "rejected": dict(Counter(one.reason for one in rejected)),
        "cases": cases_by_reason(rejected),
    }
    numbers = {name: number for number, name in enumerate(classes)}
    return ClassSet(
        classes=classes,
        splits={
            side: tuple(Example(row.where, row.text, numbers[row.label]) for row in members)
            for side, members in sides.items()
        },
        facts=facts,
        remarks=(
            *filter(None, [said]),
            *(remark for each in files for remark in each.remarks),
            *_told(facts, len(conflicts)),
            *(_untested(classes, given.rows) if given else ()),
        ),
    )


def read_test(
    path: Path,
    classes: Sequence[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
) -> LabelledTexts:
    """All rows of a file whose label is one of the classes, doubles too.

    Raises DataError where no row has such a label.
    """
    table = read_table(path)
    columns = find_columns(table, text_column=text_column, label_column=label_column)
    file = _filled(path, table, columns, classes)
    numbers = {name: number for number, name in enumerate(classes)}
    rows = [
        Example(row.where, row.text, numbers[row.label])
        for row in file.rows
        if row.label in numbers
    ]
    if not rows:
        strange = Counter(row.label for row in file.rows)
        raise DataError(
            f"no row of `{path}` has a label that the model knows; there are {_counted(strange)}",
            hint=f"the model's classes are {_listed(list(classes))}",
        )
    left_out = [
        *file.rejected,
        *(
            Rejected(where=row.where, reason="label not the model's", detail=row.label)
            for row in file.rows
            if row.label not in numbers
        ),
    ]
    rejected = dict(Counter(one.reason for one in left_out))
    facts = {
        "text_column": columns.text_column,
        "label_column": columns.label,
        "rejected": rejected,
    }
    said = f"text column `{columns.text_column}`, label column `{columns.label}`"
    told = _left_out(rejected, cases_by_reason(left_out))
    return LabelledTexts(tuple(rows), facts, (*file.remarks, said, *told))


def _read(path: Path, text_column: str | None, label_column: str | None) -> _File:
    table = read_table(path)
    columns = find_columns(table, text_column=text_column, label_column=label_column)
    file = _filled(path, table, columns)
    chosen = "chosen" if text_column and label_column else "guessed"
    if len(table.names) > 2 or not (text_column and label_column):
        file.remarks.append(
            f"text column `{columns.text_column}`, label column `{columns.label}` ({chosen})"
        )
    return file


def _filled(path: Path, table: Table, columns: ClassColumns, known: Sequence[str] = ()) -> _File:
    rows, rejected = read_labels(table.records, columns)
    rows, changed = unify_spellings(rows, known)
    remarks = list(table.remarks)
    if changed:
        shown = ", ".join(f"`{old}` as `{new}`" for old, new in [*changed.items()][:MOST_LISTED])
        more = f" and {len(changed) - MOST_LISTED} more" if len(changed) > MOST_LISTED else ""
        remarks.append(f"labels read as one: {shown}{more}")
    return _File(path, columns, rows, [*table.rejected, *rejected], remarks)


def _read_test(path: Path, file: _File, known: set[str]) -> _File:
    """The rows of a given test; all stay, doubles too, so that scores compare with others'."""
    table = read_table(path)
    wanted = {*file.columns.texts, file.columns.label}
    has_same = wanted <= {*table.names, *table.sparse, *inner_names(table.records)}
    test = _filled(path, table, file.columns if has_same else find_columns(table), sorted(known))
    strange = [row for row in test.rows if row.label not in known]
    test.rows = [row for row in test.rows if row.label in known]
    test.rejected += [
        Rejected(where=row.where, reason="label not in the training", detail=row.label)
        for row in strange
    ]
    if not test.rows:
        raise DataError(
            f"no row of the test `{path}` can be used: {cases(test.rejected)}",
            hint=f"its labels should be those of `{file.path}`: {_listed(sorted(known))}",
        )
    if not has_same:
        columns = test.columns
        test.remarks.append(
            f"test: text column `{columns.text_column}`, label column `{columns.label}` (guessed)"
        )
    return test


def _check_labels(file: _File, rows: Sequence[Labelled], conflicts: Sequence[Conflict]) -> None:
    """Raise DataError for labels that nothing can be learned from."""
    column = file.columns.label
    counts = Counter(row.label for row in rows)
    if not counts and conflicts:
        first = conflicts[0]
        raise DataError(
            f"every text of the column `{file.columns.text_column}` has several labels, so that "
            f"none holds: `{first.text[:40]}` has {_listed(list(first.labels))}",
            hint="are `--text-column` and `--label-column` the wrong way round?",
        )
    if not counts:
        raise DataError(
            f"no row of `{file.path}` has a text and a label: {cases(file.rejected)}",
            hint="name the columns with `--text-column` and `--label-column`",
        )
    if len(counts) == 1:
        raise DataError(
            f"all {len(rows):,} texts have the same label, `{rows[0].label}` (column `{column}`)",
            hint="two classes are needed at least; was only one part of the data exported?",
        )
    if len(counts) == len(rows):
        raise DataError(
            f"every label of the column `{column}` is unique: {_listed(list(counts))}",
            hint="choose the column of the classes with `--label-column`",
        )
    if len(counts) > MOST_CLASSES:
        raise DataError(
            f"the column `{column}` has {len(counts):,} different labels, more than "
            f"{MOST_CLASSES}: {_listed(list(counts))}",
            hint="choose the column of the classes with `--label-column`",
        )


def _check_train(path: Path, train: Sequence[Labelled], leaks: int) -> None:
    """Raise DataError where fewer than two classes are left to learn."""
    counts = Counter(row.label for row in train)
    if len(counts) < 2 and leaks:
        raise DataError(
            f"too little of `{path}` is left to train on: the test holds {leaks:,} of its texts",
            hint="give a test with other texts, or leave `--test` out to have one split off",
        )
    if len(counts) < 2:
        raise DataError(
            f"`{path}` has too few rows for a split: to train on, {_counted(counts)} are left",
            hint=f"each class needs {LEAST_ROWS} different texts, or give a test with `--test`",
        )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{times:,} of `{name}`" for name, times in counts.items()) or "none"


def _count(classes: Sequence[str], rows: Iterable[Labelled]) -> dict[str, int]:
    counts = Counter(row.label for row in rows)
    return {name: counts[name] for name in classes}


def _told(facts: Mapping[str, Any], conflicts: int) -> Iterator[str]:
    """The numbers that a user should see, as sentences."""
    if facts["duplicates_dropped"]:
        yield f"duplicates dropped: {facts['duplicates_dropped']:,}"
    if conflicts:
        first = facts["conflicts"][0]
        yield (
            f"texts with two labels: {conflicts:,}; the label of most rows holds, a tie drops the "
            f"text (the first: {', '.join(first['rows'][:MOST_LISTED])})"
        )
    if facts["leaks"]:
        yield f"rows taken out of the training because the test holds them: {facts['leaks']:,}"
    yield from _left_out(facts["rejected"], facts["cases"])
    rare = [name for name, rows in facts["classes"].items() if rows < LEAST_ROWS]
    if rare:
        yield f"classes with fewer than {LEAST_ROWS} texts, hardly to be learned: {_listed(rare)}"


def _left_out(rejected: Mapping[str, int], places: Mapping[str, list[str]]) -> Iterator[str]:
    for reason, times in rejected.items():
        yield f"rows left out, {reason}: {times:,} (the first: {places[reason][0]})"


def _untested(classes: Sequence[str], test: Sequence[Labelled]) -> Iterator[str]:
    lacking = [name for name, rows in _count(classes, test).items() if not rows]
    if lacking:
        yield f"classes of which the test holds no text: {_listed(lacking)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name[:40]}`" for name in names[:MOST_LISTED])
    return f"{shown} and {len(names) - MOST_LISTED:,} more" if len(names) > MOST_LISTED else shown
