"""Which text is held out: documents, cut into units, chosen by hash for ever.

A document is one unit; a long one is cut at paragraphs into units of about 64 KB, so that a few
books too give a fair sample, or into smaller ones where the whole corpus is a few of those.
Neighbours on the same side stay together, so that a book is not broken where nothing was taken
out of it.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

UNIT_BYTES, LEAST_BYTES = 64 * 2**10, 256
# Fewer units than this are too few to hold some of them out.
ENOUGH_UNITS = 32


class Piece(NamedTuple):
    """Neighbouring units of a document on one side of the split, as a byte range of its text."""

    start: int
    stop: int
    held_out: bool


class HoldOut:
    """Decides the side of every unit: held out where its hash falls under the share.

    Where the share is too small for any unit of a corpus to fall under it, the unit with the
    lowest hash is taken, so that there is always something to validate on.
    """

    def __init__(self, share: float, documents: Iterable[tuple[str, int]]) -> None:
        self.share = share
        self.unit_bytes = UNIT_BYTES
        self._bound = share * 2.0**64
        if share > 0:
            rest = iter(documents)
            first = self._enough(rest)
            while self._count(first) < ENOUGH_UNITS and self.unit_bytes > LEAST_BYTES:
                self.unit_bytes //= 2
            self._bound = _reaching(self._bound, self._hashes(itertools.chain(first, rest)))

    @property
    def long_bytes(self) -> int:
        """From this length on a document is cut: its units would else be under half a unit."""
        return 2 * self.unit_bytes

    def pieces(self, name: str, text: bytes) -> Iterator[Piece]:
        """The pieces of a document, in order; together they are the whole text."""
        start = stop = 0
        side = self.holds(name, 0)
        units = self._units(len(text))
        for unit in range(units):
            cut = _cut(text, unit + 1, units)
            now = self.holds(name, unit)
            if now != side:
                yield from _piece(start, stop, side)
                start, side = stop, now
            stop = cut
        yield from _piece(start, stop, side)

    def holds(self, name: str, unit: int = 0) -> bool:
        """Whether a unit of a document, its only one if it is short, is held out."""
        return self.share > 0 and _hash(name, unit) < self._bound

    def _units(self, size: int) -> int:
        return 1 if size < self.long_bytes else round(size / self.unit_bytes)

    def _count(self, documents: Iterable[tuple[str, int]]) -> int:
        return sum(self._units(size) for _, size in documents)

    def _enough(self, documents: Iterator[tuple[str, int]]) -> list[tuple[str, int]]:
        """The first documents, as many as make enough units: a corpus may have millions."""
        found: list[tuple[str, int]] = []
        while self._count(found) < ENOUGH_UNITS and (one := next(documents, None)):
            found.append(one)
        return found

    def _hashes(self, documents: Iterable[tuple[str, int]]) -> Iterator[int]:
        return (_hash(name, unit) for name, size in documents for unit in range(self._units(size)))


def _reaching(bound: float, hashes: Iterable[int]) -> float:
    """The bound, or the least one that some hash falls under; reads no further than it must."""
    lowest = 0
    for number, one in enumerate(hashes):
        if one < bound:
            return bound
        lowest = min(lowest, one) if number else one
    return lowest + 1


def _piece(start: int, stop: int, held_out: bool) -> Iterator[Piece]:
    if stop > start:
        yield Piece(start, stop, held_out)


def _cut(text: bytes, unit: int, units: int) -> int:
    """Where unit `unit` begins: at the first paragraph after its share of the bytes."""
    if unit == units:
        return len(text)
    wanted = len(text) * unit // units
    latest = len(text) * (unit + 1) // units
    for mark in (b"\n\n", b"\n", b" "):
        found = text.find(mark, wanted, latest)
        if found >= 0:
            return found + len(mark)
    # No blank in a whole unit: cut between characters, not inside one.
    while wanted < latest and text[wanted] & 0xC0 == 0x80:
        wanted += 1
    return wanted


def _hash(name: str, unit: int) -> int:
    digest = hashlib.blake2b(f"{name}#{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)
