"""The facts of the small world: text files of rows -> dictionaries.

A table is a header and one fact a line, cells apart by ` | `; a cell may hold several
values, apart by `; `, of which each telling takes one.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

Row = dict[str, tuple[str, ...]]

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen"
).split()
_TERMS = range(2, 10)


@cache
def load_table(name: str) -> Sequence[Row]:
    """The rows of one table, in order: column -> the values that are right there.

    >>> load_table("countries")[0]["capital"]
    ('Paris',)
    """
    return _sums() if name == "sums" else _read(name)


def world_text(folder: str, name: str) -> str:
    """A text file of the world that the package carries."""
    return (files("llmctl.data.sources.world") / folder / f"{name}.txt").read_text(encoding="utf-8")


def _read(name: str) -> list[Row]:
    header, *lines = world_text("tables", name).splitlines()
    columns = header.split(" | ")
    return [
        {column: tuple(cell.split("; ")) for column, cell in zip(columns, cells, strict=True)}
        for cells in (line.split(" | ") for line in lines)
    ]


def _sums() -> list[Row]:
    return [
        {
            "pair": (f"{a}+{b}",),
            "a": (_NUMBERS[a],),
            "b": (_NUMBERS[b],),
            "sum": (_NUMBERS[a + b],),
            "digit_a": (str(a),),
            "digit_b": (str(b),),
            "digit_sum": (str(a + b),),
        }
        for a in _TERMS
        for b in _TERMS
    ]
