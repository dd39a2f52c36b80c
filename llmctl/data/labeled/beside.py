"""Rows of text that somebody collects -> the label that stands beside it and is left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmctl.data.labeled.columns import find_columns
from llmctl.data.labeled.table import Record, Table
from llmctl.errors import DataError


def label_beside(rows: Sequence[Mapping[str, Any]], text: str) -> str | None:
    """The column that `finetune classify` would take for the label; None where it sees none.

    >>> label_beside([{"v1": "ham", "v2": "ok"}, {"v1": "spam", "v2": "win"}] * 2, "v2")
    'v1'
    """
    table = Table(
        records=tuple(Record("", row) for row in rows),
        names=tuple(dict.fromkeys(name for row in rows for name in row)),
        sparse={},
        rejected=(),
        remarks=(),
    )
    try:
        return find_columns(table, text_column=text).label
    except DataError:
        return None
