"""What a reader of a format is given, and what it gives: the types between files and text.

Knows no format and no document; ids are made by whoever asked for the passages.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from llmctl.data.document import Rejected
from llmctl.data.formats.names import clean

BLOCK = 256 * 1024  # bytes handed on at a time: small enough for the cache, enough to judge by

Split = Callable[[Iterable[str]], Iterable[tuple[str, str]]]
# Some rows and the column of their text -> the column of their label, if there is one.
FindLabel = Callable[[Sequence[Mapping[str, Any]], str], str | None]


class Unreadable(Exception):
    """An input, or the rest of it, makes no sense: a short reason to count by, and detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = clean(detail)


class Stream:
    """The bytes of one input in blocks of at least `BLOCK`, read once.

    `head` is the first block. Damage ends the bytes early and stays in `damage`, so that
    what came before it is kept.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.damage: Unreadable | None = None
        self._blocks = self._gathered(blocks)
        self.head = next(self._blocks, b"")

    def __iter__(self) -> Iterator[bytes]:
        if self.head:
            yield self.head
        yield from self._blocks

    def _gathered(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        try:
            for block in blocks:
                held.append(block)
                size += len(block)
                if size >= BLOCK:
                    yield b"".join(held)
                    held, size = [], 0
        except Unreadable as damage:
            self.damage = damage
        except OSError as error:
            self.damage = Unreadable("unreadable", error.strerror or str(error))
        if held:
            yield b"".join(held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One input: a file, or a member of an archive, with its compression taken off.

    `name` is its stable id; `bytes` its size as stored; `file` the place on disk where exactly
    these bytes lie, if there is one.
    """

    name: str
    stream: Stream
    url: str
    bytes: int = 0
    time: str = ""
    file: Path | None = None

    def open(self) -> BinaryIO:
        """The bytes as a file that can be sought in: the one on disk, or a temporary copy."""
        if self.file is not None:
            return self.file.open("rb")
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        for block in self.stream:
            copy.write(block)
        copy.seek(0)
        return copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to read: how to split, the column with the text and the encoding where they are known.

    `find_label` tells which column is left out although somebody might want to learn it.
    """

    split: Split
    text_column: str | None = None
    encoding: str | None = None
    find_label: FindLabel | None = None


class Passage(NamedTuple):
    """A text and the facts that stood beside it; `key` is added to the item's name for its id.

    The facts `url`, `licence` and `time` say where the text is from; all others are kept as meta.
    """

    key: str
    text: str
    facts: Mapping[str, str] = MappingProxyType({})


def remark(item: Item, reason: str, detail: str) -> Rejected:
    """Something to count and say although the text was kept."""
    return Rejected(where=item.name, reason=reason, detail=clean(detail), kept=True)
