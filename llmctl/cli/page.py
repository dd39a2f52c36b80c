"""The page that `--help` prints: what a command does, how it is typed, its flags in panels.

Ours and not Typer's: that one costs the import of half of Rich, longer than all the rest.
"""

import inspect
import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import typer

WIDEST = 100
WIDEST_LABEL = 30
INDENT = "  "


class Row(NamedTuple):
    """A flag, an argument or a command: how it is written, and what it is for."""

    label: str
    help: str
    is_rare: bool = False


HELP = Row("-h, --help", "Show this page")


class Page(NamedTuple):
    """The help of one command. Paragraphs of the text that are indented keep their lines."""

    usage: str
    text: str
    panels: Mapping[str, Sequence[Row]]


def describe(cls: type) -> str:
    """The docstring of a class, without examples in Python and what dataclasses make up."""
    paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
    foreign = (">>> ", f"{cls.__name__}(")
    return "\n\n".join(text for text in paragraphs if not text.startswith(foreign))


def first_line(cls: type) -> str:
    """What a class is for, in a line for a list."""
    return describe(cls).partition("\n")[0].rstrip(".")


def settings() -> dict[str, Any]:
    """How Typer is to show pages: when asked by which flag, and whether in colour.

    Without a wish of the user's, Typer finds out whether there is a terminal.
    """
    wish = True if os.environ.get("FORCE_COLOR") else None
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        wish = False
    return {"help_option_names": ["-h", "--help"], "color": wish}


def render(page: Page, *, with_rare: bool = False) -> str:
    """The page as text for this terminal, with or without the rare rows."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    panels = {
        title: [row for row in rows if with_rare or not row.is_rare]
        for title, rows in page.panels.items()
    }
    labels = [len(_aligned(row.label)) for rows in panels.values() for row in rows]
    column = max((label for label in labels if label <= WIDEST_LABEL), default=0) + 2
    blocks = [
        *_paragraphs(page.text, width),
        f"{typer.style('Usage', bold=True)}\n{INDENT}{page.usage}",
        *("\n".join(_panel(title, rows, column, width)) for title, rows in panels.items() if rows),
    ]
    return "\n\n".join(blocks) + "\n"


def _paragraphs(text: str, width: int) -> Iterator[str]:
    for paragraph in filter(None, text.split("\n\n")):
        yield paragraph if paragraph.startswith(" ") else textwrap.fill(paragraph, width)


def _panel(title: str, rows: Sequence[Row], column: int, width: int) -> Iterator[str]:
    yield typer.style(title, bold=True)
    margin = INDENT + " " * column
    for row in rows:
        label = _aligned(row.label)
        lines = textwrap.wrap(row.help, width - len(margin), break_on_hyphens=False) or [""]
        shown = INDENT + typer.style(label, fg="cyan")
        if len(label) + 2 > column:
            yield shown
        else:
            yield f"{shown}{' ' * (column - len(label))}{lines.pop(0)}".rstrip()
        yield from (margin + line for line in lines)


def _aligned(label: str) -> str:
    """Long flags stand below each other, whether a short one comes before or not."""
    return f"    {label}" if label.startswith("--") else label
