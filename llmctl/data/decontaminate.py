"""What a model will be tested on -> a rule that drops text which gives it away.

Thirteen words in a row are no coincidence (Brown et al. 2020, appendix C). An example of eight to
twelve words is looked for as a whole; a shorter one would be found everywhere.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Verdict
from llmctl.errors import DataError

WORDS, FEWEST_WORDS = 13, 8


class Table(NamedTuple):
    """The hashes of n-grams of one length, sorted, and where each was found first."""

    hashes: np.ndarray
    origins: list[str]


@dataclass(frozen=True, slots=True)
class Decontaminator:
    """Drop text that shares a run of words with an example of some files.

    `stamps` tell a file from what stood under its name before.
    """

    files: tuple[Path, ...]
    stamps: tuple[int, ...] = ()

    def judge(self, reading: Reading) -> Verdict:
        """The first run of words that is found in a file, by name and line."""
        for length, table in _tables(self.files, self.stamps).items():
            grams = reading.grams(length)
            if not len(grams):
                continue
            found = np.searchsorted(table.hashes, grams)
            found[found == len(table.hashes)] = 0
            hits = np.flatnonzero(table.hashes[found] == grams)
            if len(hits):
                at = int(hits[0])
                words = " ".join(reading.words[at : at + length])
                return Drop("test example", f"{table.origins[found[at]]}: {words}")
        return None


def count_examples(files: tuple[Path, ...]) -> int:
    """How many distinct runs of words the files give to look for; DataError where it is none."""
    grams = sum(len(table.origins) for table in _tables(files, stamps_of(files)).values())
    if files and not grams:
        names = ", ".join(map(str, files))
        raise DataError(
            f"{names} holds no example of {FEWEST_WORDS} words",
            hint="give the file with the questions, as text, JSON lines or CSV",
        )
    return grams


def stamps_of(files: tuple[Path, ...]) -> tuple[int, ...]:
    """When each file was last changed, in nanoseconds."""
    return tuple(path.stat().st_mtime_ns for path in files)


@lru_cache(maxsize=4)
def _tables(files: tuple[Path, ...], _stamps: tuple[int, ...]) -> dict[int, Table]:
    """The n-grams of all examples, by their length."""
    found: dict[int, dict[int, str]] = {}
    for path in files:
        for line, text in _examples(path):
            reading = Reading(text)
            length = min(WORDS, len(reading.words))
            if length < FEWEST_WORDS:
                continue
            origins = found.setdefault(length, {})
            for gram in reading.grams(length).tolist():
                origins.setdefault(gram, f"{path.name}:{line}")
    return {length: _table(origins) for length, origins in sorted(found.items(), reverse=True)}


def _table(origins: dict[int, str]) -> Table:
    hashes = np.array(sorted(origins), np.uint64)
    return Table(hashes, [origins[one] for one in hashes.tolist()])


def _examples(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of each example: every text in a JSON value, else the line."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    whole = _json(text)
    if whole is not None:
        yield from ((1, one) for one in _texts(whole))
        return
    for number, line in enumerate(text.splitlines(), 1):
        row = _json(line)
        yield from ((number, one) for one in ([line] if row is None else _texts(row)))


def _json(text: str) -> Any:
    """The list or dict that a text spells, None where it is plain text."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
