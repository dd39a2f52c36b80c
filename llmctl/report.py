"""Plain data -> one self-contained HTML page: tables, pictures, texts and trees, by section.

The page refers to nothing outside itself, follows the reader's light or dark setting and
prints well. Every text is escaped by the template, so that a corpus may say `<script>`.
Knows nothing of models, runs or the workspace.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under columns; `bars` names a column of shares, from 0 to 1, to be drawn as bars."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    bars: str = ""

    @property
    def alignment(self) -> list[str]:
        """`share`, `quantity` or `words` for each column, as the style sheet names them."""
        return [self._align(index, column) for index, column in enumerate(self.columns)]

    def _align(self, index: int, column: str) -> str:
        if self.bars and column == self.bars:
            return "share"
        return "quantity" if all(_is_quantity(row[index]) for row in self.rows) else "words"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG, and the one to show in its place on a dark page."""

    png: bytes
    dark: bytes
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text as it stands, line breaks kept."""

    text: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """A label, what is said beside it, and what it was made from."""

    label: str
    note: str = ""
    children: Sequence["Tree"] = ()


def lineage(label: str, inputs: Iterable[Mapping[str, Any]]) -> Tree:
    """What was made, and what of, as a plan's inputs say it."""
    return Tree(
        label, "", [Tree(f"{one['kind']} {one['name']}", one["digest"][:12]) for one in inputs]
    )


Block = Table | Picture | Text | Tree


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it, in order."""

    title: str
    blocks: Sequence[Block]


def facts_table(facts: Mapping[str, Any], *, caption: str = "") -> Table:
    """Names and values as a table; a nested mapping gives dotted names.

    >>> facts_table({"steps": 10, "model": {"width": 64}}).rows
    [('steps', 10), ('model.width', 64)]
    """
    return Table(columns=("name", "value"), rows=_flatten(facts), caption=caption)


def write_report(path: Path, title: str, sections: Sequence[Section], *, summary: str = "") -> None:
    """Write the page to `path`; `summary` is the sentence under its title.

    >>> samples = Section("Samples", [Text(text="Once upon a time", caption="prompt: Once")])
    >>> write_report(tmp_path / "report.html", "models/base", [samples])
    """
    page = _templates().get_template("report.html.jinja")
    html = page.render(title=title, summary=summary, sections=sections)
    path.write_text(html, encoding="utf-8")


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(base64=_base64, cell=_cell, kind=_kind)
    return environment


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Cell]]:
    rows: list[tuple[str, Cell]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            rows.append((prefix + name, ", ".join(map(str, value))))
        else:
            rows.append((prefix + name, value if isinstance(value, Cell) else str(value)))
    return rows


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _kind(block: Block) -> str:
    return type(block).__name__


def _is_quantity(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Cell) -> str:
    """A value as a person reads it: thousands apart, four digits of a fraction that matter.

    >>> [_cell(value) for value in (1234567, 0.00031234, 3.0, True, None)]
    ['1,234,567', '0.0003123', '3', 'yes', '–']
    """
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        case _:
            return value
