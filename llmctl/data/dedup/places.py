"""The place of a document in a run -> its text, its id, its shingles.

A place is a uint64: the number of the bundle, then the row among what its rules left. So places
sort in the order of the corpora, whoever worked on what.
"""

import bisect
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from llmctl.data.dedup.minhash import SHINGLE_WORDS
from llmctl.data.reading import Reading
from llmctl.data.screening import KEPT, Bundle
from llmctl.shards import ShardReader

ROW_BITS = 32
# Shingles of so many documents are held at once; a candidate is looked at a few times in a row.
HELD = 4096


def place_of(bundle: int, rows: np.ndarray) -> np.ndarray:
    """The places of rows of a bundle."""
    return (np.uint64(bundle) << np.uint64(ROW_BITS)) | rows.astype(np.uint64)


class Documents:
    """The documents of a run by place, memory-mapped."""

    def __init__(self, directory: Path, bundles: Sequence[Bundle]) -> None:
        self.directory = directory
        self.bundles = {bundle.number: bundle for bundle in bundles}
        self._opened: dict[int, tuple[ShardReader, list[int], int]] = {}
        self.shingles = lru_cache(maxsize=HELD)(self._shingles)

    def value(self, place: int, column: str) -> Any:
        """What a column says of the document at a place."""
        number, row = place >> ROW_BITS, place & (2**ROW_BITS - 1)
        reader, ends, first = self._open(number)
        index = bisect.bisect_right(ends, row)
        start = ends[index - 1] if index else 0
        return reader.batch(first + index).column(column)[row - start].as_py()

    def _shingles(self, place: int) -> np.ndarray:
        return Reading(self.value(place, "text")).shingles(SHINGLE_WORDS)

    def _open(self, number: int) -> tuple[ShardReader, list[int], int]:
        """The reader of a bundle, where its batches end in rows, and its first batch."""
        if number not in self._opened:
            bundle = self.bundles[number]
            if bundle.known:
                reader, first, stop = ShardReader(bundle.corpus), bundle.start, bundle.stop
            else:
                reader = ShardReader(self.directory / bundle.stem / KEPT)
                first, stop = 0, len(reader)
            ends = list(accumulate(reader.rows_of(index) for index in range(first, stop)))
            self._opened[number] = (reader, ends, first)
        return self._opened[number]
