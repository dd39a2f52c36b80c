"""A small grammar: symbols with their wordings, and facts -> a text that tells the facts.

A telling is a text file. `@bytes N` says how much to tell, `@draw TABLE N` how many rows a
document takes of a table; then come symbols, each followed by its wordings, indented, one a line:

    greeting
        Hello, {person}!
        Good morning, {person/2}!

`{symbol}` stands for one of its wordings, or for a column of the drawn rows; `/2` chooses the
second row, for everything inside that wording too. `//` breaks the line and `-` says
nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from llmctl.data.sources.world.tables import Row

_SYMBOL = re.compile(r"\{(\w+)(?:/(\d))?\}")
_SENTENCE_START = re.compile(
    r'(^"?|\n"?|[.!?] "?|: "|[.!?]" "?(?!(?:asked|said|answered|explained|replied)\b))([a-z])'
)
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeio]|u(?!n?i|s))")


@dataclass(frozen=True, slots=True)
class Telling:
    """How one section of the world is told: its size in bytes, its draws and its wordings."""

    bytes: int
    draws: Mapping[str, int]
    wordings: Mapping[str, Sequence[str]]


def parse_telling(text: str) -> Telling:
    """Read the file format that the module describes; a symbol given twice keeps the last."""
    size = 0
    draws: dict[str, int] = {}
    wordings: dict[str, list[str]] = {}
    symbol = ""
    for line in filter(str.strip, text.splitlines()):
        match line.split():
            case ["@bytes", number]:
                size = int(number)
            case ["@draw", table, number]:
                draws[table] = int(number)
            case [name] if not line[0].isspace():
                symbol = name
                wordings[symbol] = []
            case _:
                wordings[symbol].append(line.strip().removeprefix("-"))
    return Telling(size, draws, wordings)


class Speaker:
    """Tells one document: knows the drawn rows, and repeats a wording only when it must."""

    def __init__(
        self, wordings: Mapping[str, Sequence[str]], rows: Sequence[Sequence[Row]], random: Random
    ) -> None:
        self._wordings = wordings
        self._rows = rows
        self._random = random
        self._unused: dict[tuple[str, int], list[str]] = {}

    def tell(self, symbol: str) -> str:
        """One text for a symbol, with capitals and articles in order."""
        return polish(self._expand(symbol, 1))

    def _expand(self, symbol: str, which: int) -> str:
        wording = self._choose(symbol, which)
        return _SYMBOL.sub(lambda found: self._expand(found[1], int(found[2] or which)), wording)

    def _choose(self, symbol: str, which: int) -> str:
        drawn = 0 if symbol in self._wordings else which
        unused = self._unused.setdefault((symbol, drawn), [])
        if not unused:
            unused.extend(self._wordings.get(symbol) or self._values(symbol, which))
            self._random.shuffle(unused)
        return unused.pop()

    def _values(self, column: str, which: int) -> Sequence[str]:
        for rows in self._rows:
            if column in rows[0]:
                return rows[(which - 1) % len(rows)][column]
        raise KeyError(column)


def polish(text: str) -> str:
    """Spaces, line breaks, articles and capitals as English wants them.

    >>> polish("a owl is  a bird. it -//sees a user")
    'An owl is a bird. It\\nSees a user'
    """
    text = re.sub(r" +", " ", text).strip()
    text = re.sub(r" ?// ?", "\n", text)
    text = _BEFORE_VOWEL.sub(r"\1n ", text)
    return _SENTENCE_START.sub(lambda found: found[1] + found[2].upper(), text)
